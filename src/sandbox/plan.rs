//! What the sandbox is going to answer, and in which steps; the dialects write it down.

use super::ask::Ask;
use super::script::{EarlyFinish, Script};
use super::text::Text;

/// A tool call of the answer.
pub struct Call {
    /// The tool.
    pub name: String,
    /// The arguments, JSON.
    pub arguments: String,
}

/// The visible part of the answer.
pub enum Content {
    /// Text.
    Text(Text),
    /// Tool calls; at least one.
    Calls(Vec<Call>),
}

/// Why the answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It is complete.
    Stop,
    /// Tools are to be called.
    ToolCalls,
    /// The output limit.
    Length,
    /// The content filter.
    Filter,
}

/// Tokens to report. `cached` is part of `input`; `reasoning` is not part of `output`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The whole prompt.
    pub input: u64,
    /// Of it, read from a cache.
    pub cached: u64,
    /// Visible output.
    pub output: u64,
    /// Reasoning.
    pub reasoning: u64,
}

impl Usage {
    /// Everything put out.
    pub fn output_total(&self) -> u64 {
        self.output + self.reasoning
    }

    /// Everything.
    pub fn total(&self) -> u64 {
        self.input + self.output_total()
    }
}

/// The whole answer.
pub struct Plan {
    /// The request's number: ids are made of it.
    pub number: u64,
    /// Seconds since 1970.
    pub created: i64,
    /// The model, as asked.
    pub model: String,
    /// Words of the reasoning, visible where the dialect shows it; `None`: none.
    pub reasoning: Option<Text>,
    /// The visible part.
    pub content: Content,
    /// Why it ends.
    pub finish: Finish,
    /// What it costs.
    pub usage: Usage,
    /// See [`Ask::include_usage`].
    pub include_usage: bool,
    /// See [`Ask::json_array`].
    pub json_array: bool,
    /// See [`Ask::repeated`].
    pub repeated: String,
    /// Words per step.
    pub chunk: u32,
}

impl Plan {
    /// Decides what to answer.
    pub fn new(ask: Ask, script: &Script, number: u64, created: i64) -> Plan {
        let input = script.prompt.unwrap_or_else(|| ask.words.max(1).max(script.cached));
        let content = if !ask.tools.is_empty() && ask.tool_result.is_none() && script.tools > 0 {
            let tools = ask.tools.iter().cycle().take(script.tools as usize);
            let calls = tools.map(|t| Call {
                name: t.name.clone(),
                arguments: t.arguments().to_string(),
            });
            Content::Calls(calls.collect())
        } else if let Some(result) = ask.tool_result {
            Content::Text(Text::given(format!("The tool said: {result}")))
        } else if script.echo {
            Content::Text(Text::given(ask.last_text))
        } else if let Some(schema) = ask.schema {
            Content::Text(Text::given(super::text::sample(&schema).to_string()))
        } else {
            Content::Text(Text::Lorem(script.tokens))
        };
        let output = match &content {
            Content::Text(text) => u64::from(text.tokens()),
            Content::Calls(_) => u64::from(script.tokens),
        };
        let finish = match (script.finish, &content) {
            (Some(EarlyFinish::Length), _) => Finish::Length,
            (Some(EarlyFinish::Filter), _) => Finish::Filter,
            (None, Content::Text(_)) => Finish::Stop,
            (None, Content::Calls(_)) => Finish::ToolCalls,
        };
        Plan {
            number,
            created,
            model: ask.model,
            reasoning: (script.reasoning > 0).then_some(Text::Lorem(script.reasoning)),
            content,
            finish,
            usage: Usage {
                input,
                cached: script.cached,
                output,
                reasoning: u64::from(script.reasoning),
            },
            include_usage: ask.include_usage,
            json_array: ask.json_array,
            repeated: ask.repeated,
            chunk: script.chunk,
        }
    }

    /// The calls; none if the answer is text.
    pub fn calls(&self) -> &[Call] {
        match &self.content {
            Content::Text(_) => &[],
            Content::Calls(calls) => calls,
        }
    }

    /// The text; `None` if the answer is tool calls.
    pub fn text(&self) -> Option<&Text> {
        match &self.content {
            Content::Text(text) => Some(text),
            Content::Calls(_) => None,
        }
    }
}
