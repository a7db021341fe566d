//! What an answer means, whoever's wire it travelled on: what must be the same before and after a conversion.

use serde_json::Value;
use tollgate::ir::response::{Candidate, Response};
use tollgate::ir::{Content, FinishKind, MediaKind};

/// A candidate, without what only its wire knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Meaning {
    /// Text and refusals: not every dialect has words for a refusal.
    pub text: String,
    pub reasoning: String,
    /// Names and arguments.
    pub calls: Vec<(String, Value)>,
    pub finish: Option<FinishKind>,
    pub refused: bool,
}

/// Arguments as values: none are an empty object; what is no object is wrapped as encoders must.
fn arguments(text: &str) -> Value {
    if text.trim().is_empty() {
        return Value::Object(serde_json::Map::new());
    }
    match serde_json::from_str(text) {
        Ok(Value::Object(map)) => Value::Object(map),
        _ => serde_json::json!({"raw_arguments": text}),
    }
}

/// Unwraps what [`arguments`] and encoders wrap, once.
fn unwrapped(value: &Value) -> &Value {
    match value {
        Value::Object(map) if map.len() == 1 => map.get("raw_arguments").unwrap_or(value),
        _ => value,
    }
}

impl Meaning {
    pub fn of(candidate: &Candidate) -> Self {
        let mut meaning = Meaning {
            text: String::new(),
            reasoning: String::new(),
            calls: Vec::new(),
            finish: candidate.finish.as_ref().map(|finish| finish.kind),
            refused: false,
        };
        for block in &candidate.blocks {
            match &block.content {
                Content::Text(text) => meaning.text.push_str(text),
                Content::Refusal(text) => {
                    meaning.text.push_str(text);
                    meaning.refused = true;
                }
                // What is heard: a dialect without sound in answers writes it down.
                Content::Media(media) if media.kind == MediaKind::Audio => {
                    meaning.text.push_str(media.name.as_deref().unwrap_or(""));
                }
                Content::Reasoning(text) => meaning.reasoning.push_str(text),
                Content::ToolCall(call) => meaning.calls.push((call.name.clone(), arguments(&call.arguments))),
                _ => {}
            }
        }
        meaning
    }

    /// What differs in the answer after its conversion. `None`: nothing.
    pub fn differs(&self, after: &Meaning) -> Option<String> {
        if self.text != after.text {
            return Some(format!("text {:?} -> {:?}", self.text, after.text));
        }
        // Paragraphs of a summary may be joined in another way.
        let dense = |text: &str| text.split_whitespace().collect::<String>();
        if dense(&self.reasoning) != dense(&after.reasoning) {
            return Some(format!("reasoning {:?} -> {:?}", self.reasoning, after.reasoning));
        }
        let same = |(a, b): (&(String, Value), &(String, Value))| a.0 == b.0 && unwrapped(&a.1) == unwrapped(&b.1);
        if self.calls.len() != after.calls.len() || !self.calls.iter().zip(&after.calls).all(same) {
            return Some(format!("calls {:?} -> {:?}", self.calls, after.calls));
        }
        if !self.finishes_like(after.finish) {
            return Some(format!("finish {:?} -> {:?}", self.finish, after.finish));
        }
        None
    }

    /// Dialects have different words: those near each other are the same here.
    fn finishes_like(&self, after: Option<FinishKind>) -> bool {
        use FinishKind::{ContentFilter, Length, Other, Pause, Stop, ToolCalls};
        let Some(before) = self.finish else {
            // It ended for no reason told: not every dialect can say that.
            return matches!(after, None | Some(Stop | ToolCalls));
        };
        let Some(after) = after else { return false };
        before == after
            // Calling tools is a reason to stop; some wires have one word for both.
            || matches!((before, after), (Stop | ToolCalls, Stop | ToolCalls) if !self.calls.is_empty())
            || (before, after) == (ToolCalls, Stop) && self.calls.is_empty()
            || self.refused && matches!(after, ContentFilter | Stop)
            || before == Pause && matches!(after, Stop | Length | Other | ToolCalls)
            || before == Other
    }
}

/// What differs between an answer and what came of it. `clients` says whether the client's dialect always reports usage.
pub fn compare(before: &Response, after: &Response, always_usage: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if before.candidates.len() != after.candidates.len() {
        // A stream may end without having said anything.
        let nothing = before.candidates.is_empty() && after.candidates.iter().all(|c| c.blocks.is_empty());
        if !nothing {
            wrong.push(format!(
                "{} candidates -> {}",
                before.candidates.len(),
                after.candidates.len()
            ));
        }
    }
    for (a, b) in before.candidates.iter().zip(&after.candidates) {
        wrong.extend(Meaning::of(a).differs(&Meaning::of(b)));
    }
    let totals = |response: &Response| {
        response.usage.map(|usage| {
            (
                usage.input_total(),
                usage.output_total(),
                usage.cache_read,
                usage.reasoning,
            )
        })
    };
    let (used, told) = (totals(before), totals(after));
    let made_up = used.is_none() && always_usage && told == Some((0, 0, 0, 0));
    if used != told && !made_up {
        wrong.push(format!("usage (input, output, cached, reasoning) {used:?} -> {told:?}"));
    }
    wrong
}
