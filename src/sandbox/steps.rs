//! The steps in which a plan is told: what all dialects' streams have in common.

use super::plan::{Content, Plan};
use super::text::Text;

/// One step of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'a> {
    /// The answer begins.
    Start,
    /// Reasoning begins.
    ReasoningStart,
    /// Reasoning goes on.
    Reasoning {
        /// The piece.
        piece: &'a str,
        /// Words of reasoning so far, with this piece.
        sofar: u32,
    },
    /// Reasoning ends.
    ReasoningStop,
    /// The text begins.
    TextStart,
    /// The text goes on.
    Text {
        /// The piece.
        piece: &'a str,
        /// Words of text so far, with this piece.
        sofar: u32,
    },
    /// The text ends.
    TextStop,
    /// The call of that index begins.
    CallStart(usize),
    /// Its arguments go on.
    Arguments(usize, &'a str),
    /// It ends.
    CallStop(usize),
    /// The answer ends.
    Finish,
}

/// Where the walk through a plan stands: the next step.
#[derive(Clone, Copy, Debug)]
enum At {
    Start,
    ReasoningStart,
    Reasoning(u32),
    ReasoningStop,
    TextStart,
    Text(u32),
    TextStop,
    CallStart(usize),
    Arguments(usize, usize),
    CallStop(usize),
    Finish,
    End,
}

/// Bytes of arguments per step; small, so that a call takes several events.
const ARGUMENTS_PIECE: usize = 8;

/// Walks through a plan.
pub struct Steps {
    at: At,
    piece: String,
}

impl Default for Steps {
    fn default() -> Self {
        Steps {
            at: At::Start,
            piece: String::new(),
        }
    }
}

impl Steps {
    /// Only the last step is left.
    pub fn at_finish(&self) -> bool {
        matches!(self.at, At::Finish)
    }

    /// The next step.
    pub fn next(&mut self, plan: &Plan) -> Option<Step<'_>> {
        let content = match plan.content {
            Content::Text(_) => At::TextStart,
            Content::Calls(_) => At::CallStart(0),
        };
        let (step, next) = match self.at {
            At::Start => (
                Step::Start,
                if plan.reasoning.is_some() {
                    At::ReasoningStart
                } else {
                    content
                },
            ),
            At::ReasoningStart => (Step::ReasoningStart, At::Reasoning(0)),
            At::Reasoning(from) => {
                let sofar = self.cut(plan.reasoning.as_ref(), from, plan.chunk);
                let all = plan.reasoning.as_ref().map_or(0, Text::tokens);
                let next = if sofar < all {
                    At::Reasoning(sofar)
                } else {
                    At::ReasoningStop
                };
                self.at = next;
                return Some(Step::Reasoning {
                    piece: &self.piece,
                    sofar,
                });
            }
            At::ReasoningStop => (Step::ReasoningStop, content),
            At::TextStart => {
                let empty = plan.text().is_none_or(|text| text.tokens() == 0);
                (Step::TextStart, if empty { At::TextStop } else { At::Text(0) })
            }
            At::Text(from) => {
                let sofar = self.cut(plan.text(), from, plan.chunk);
                let all = plan.text().map_or(0, Text::tokens);
                self.at = if sofar < all { At::Text(sofar) } else { At::TextStop };
                return Some(Step::Text {
                    piece: &self.piece,
                    sofar,
                });
            }
            At::TextStop => (Step::TextStop, At::Finish),
            At::CallStart(call) => (Step::CallStart(call), At::Arguments(call, 0)),
            At::Arguments(call, from) => {
                let arguments = plan.calls().get(call).map_or("", |c| c.arguments.as_str());
                let mut to = (from + ARGUMENTS_PIECE).min(arguments.len());
                while !arguments.is_char_boundary(to) {
                    to += 1;
                }
                self.piece.clear();
                self.piece.push_str(&arguments[from..to]);
                self.at = if to < arguments.len() {
                    At::Arguments(call, to)
                } else {
                    At::CallStop(call)
                };
                return Some(Step::Arguments(call, &self.piece));
            }
            At::CallStop(call) => {
                let more = call + 1 < plan.calls().len();
                (
                    Step::CallStop(call),
                    if more { At::CallStart(call + 1) } else { At::Finish },
                )
            }
            At::Finish => (Step::Finish, At::End),
            At::End => return None,
        };
        self.at = next;
        Some(step)
    }

    /// Puts the next words into `piece` and says how many there were so far.
    fn cut(&mut self, text: Option<&Text>, from: u32, chunk: u32) -> u32 {
        self.piece.clear();
        let Some(text) = text else { return from };
        let to = from.saturating_add(chunk).min(text.tokens());
        text.push(from, to, &mut self.piece);
        to
    }
}

#[cfg(test)]
mod tests {
    use super::super::ask::{Ask, Offer};
    use super::super::plan::{Finish, Usage};
    use super::super::script::Script;
    use super::*;

    fn walk(plan: &Plan) -> (Vec<String>, String, Vec<String>) {
        let (mut steps, mut kinds) = (Steps::default(), Vec::new());
        let (mut text, mut arguments) = (String::new(), vec![String::new(); plan.calls().len()]);
        while let Some(step) = steps.next(plan) {
            let kind = format!("{step:?}");
            kinds.push(kind.split(['(', ' ']).next().unwrap_or_default().to_owned());
            match step {
                Step::Text { piece, .. } => text.push_str(piece),
                Step::Arguments(call, piece) => arguments[call].push_str(piece),
                _ => {}
            }
        }
        (kinds, text, arguments)
    }

    #[test]
    fn the_steps_of_a_text_add_up_to_the_text() {
        let script = Script {
            tokens: 5,
            chunk: 2,
            reasoning: 3,
            ..Script::default()
        };
        let plan = Plan::new(Ask::default(), &script, 1, 0);
        let (kinds, text, _) = walk(&plan);
        let expected = [
            "Start",
            "ReasoningStart",
            "Reasoning",
            "Reasoning",
            "ReasoningStop",
            "TextStart",
            "Text",
            "Text",
            "Text",
            "TextStop",
            "Finish",
        ];
        assert_eq!(kinds, expected);
        assert_eq!(Some(text), plan.text().map(Text::whole));
        assert_eq!(
            plan.usage,
            Usage {
                input: 1,
                cached: 0,
                output: 5,
                reasoning: 3
            }
        );
    }

    #[test]
    fn the_steps_of_calls_add_up_to_their_arguments() {
        let schema = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;
        let offer = Offer {
            name: "weather".to_owned(),
            schema: serde_json::from_str(schema).ok(),
        };
        let ask = Ask {
            tools: vec![offer],
            ..Ask::default()
        };
        let plan = Plan::new(
            ask,
            &Script {
                tools: 2,
                ..Script::default()
            },
            1,
            0,
        );
        let (kinds, _, arguments) = walk(&plan);
        assert_eq!(arguments, [r#"{"city":"sandbox"}"#; 2]);
        assert!(
            kinds.iter().filter(|k| *k == "Arguments").count() >= 4,
            "arguments come in several pieces: {kinds:?}"
        );
        assert_eq!(plan.finish, Finish::ToolCalls);
    }

    #[test]
    fn after_a_tool_result_there_is_text_with_the_result() {
        let offer = Offer {
            name: "weather".to_owned(),
            schema: None,
        };
        let ask = Ask {
            tools: vec![offer],
            tool_result: Some("22 degrees".to_owned()),
            ..Ask::default()
        };
        let plan = Plan::new(ask, &Script::default(), 1, 0);
        assert!(plan.text().is_some_and(|t| t.whole().contains("22 degrees")));
    }

    #[test]
    fn an_empty_text_has_no_text_steps() {
        let plan = Plan::new(
            Ask::default(),
            &Script {
                tokens: 0,
                ..Script::default()
            },
            1,
            0,
        );
        assert_eq!(walk(&plan).0, ["Start", "TextStart", "TextStop", "Finish"]);
    }
}
