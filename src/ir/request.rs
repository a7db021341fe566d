//! A request for a conversation's next message.

use serde_json::{Map, Value};

use super::{Content, Message, Native, Path, Reasoning, Set, Tool, ToolChoice};

/// A conversation and what is asked of the model. Decoders lose nothing: what has no field here is in a `native` list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// The model the client asked for.
    pub model: String,
    /// A stream is asked for.
    pub stream: bool,
    /// Instructions before the conversation: the dialect's own field, and system messages before the first other one.
    /// Their role is `System` or `Developer`.
    pub system: Vec<Message>,
    /// The conversation; system messages may stand within it.
    pub messages: Vec<Message>,
    /// The tools on offer.
    pub tools: Vec<Tool>,
    /// Whether and which are to be called.
    pub tool_choice: Option<Set<ToolChoice>>,
    /// Several tools may be called at once.
    pub parallel_tool_calls: Option<Set<bool>>,
    /// The form of the answer.
    pub format: Option<Set<Format>>,
    /// How hard to think.
    pub reasoning: Reasoning,
    /// Sampling and limits.
    pub sampling: Sampling,
    /// Who the end user is, as a word of the client's.
    pub user: Option<Set<String>>,
    /// Labels of the client's own.
    pub metadata: Option<Set<Map<String, Value>>>,
    /// How urgent (`auto`, `default`, `flex`, `priority` …).
    pub service_tier: Option<Set<String>>,
    /// What requests with the same prefix have in common, for the provider's cache.
    pub cache_key: Option<Set<String>>,
    /// The provider may keep the answer.
    pub store: Option<Set<bool>>,
    /// How wordy (`low`, `medium`, `high`).
    pub verbosity: Option<Set<String>>,
    /// What answers may consist of (`text`, `audio`, `image`), in lower case.
    pub modalities: Option<Set<Vec<String>>>,
    /// Fields only its own dialect knows.
    pub native: Vec<Native>,
    /// The field which stands for content that only its own provider has (an earlier answer, a stored prompt): no other can be
    /// asked this.
    pub bound: Option<Path>,
    /// Streams only: usage is to be told in the stream. `None`: the dialect always tells it.
    pub include_usage: Option<bool>,
    /// What the client's own dialect repeats of a request in its answers.
    pub echo: Map<String, Value>,
}

/// Sampling and limits. Ranges are the provider's business.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sampling {
    /// Most tokens of the answer, reasoning included.
    pub max_tokens: Option<Set<u64>>,
    /// Randomness.
    pub temperature: Option<Set<f64>>,
    /// Share of probability considered.
    pub top_p: Option<Set<f64>>,
    /// Number of tokens considered.
    pub top_k: Option<Set<u64>>,
    /// Texts which end the answer.
    pub stop: Option<Set<Vec<String>>>,
    /// For repeatable answers.
    pub seed: Option<Set<i64>>,
    /// Against frequent tokens.
    pub frequency_penalty: Option<Set<f64>>,
    /// Against tokens that stood before.
    pub presence_penalty: Option<Set<f64>>,
    /// How many answers.
    pub candidates: Option<Set<u64>>,
    /// Log probabilities are wanted.
    pub logprobs: Option<Set<bool>>,
    /// How many alternatives per token.
    pub top_logprobs: Option<Set<u64>>,
}

/// The form of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Format {
    /// Text.
    Text,
    /// Some JSON object.
    JsonObject,
    /// JSON after this schema.
    JsonSchema {
        /// A name for it.
        name: Option<String>,
        /// What it is.
        description: Option<String>,
        /// JSON Schema.
        schema: Value,
        /// The answer must follow it exactly.
        strict: Option<bool>,
    },
    /// Something only its own dialect knows.
    Native(Native),
}

impl Request {
    /// All messages: instructions first.
    pub fn all_messages(&self) -> impl Iterator<Item = &Message> {
        self.system.iter().chain(&self.messages)
    }

    /// Gives each tool call an id and each tool result the id and the name of its call, where the dialect left them out:
    /// calls are numbered in the order in which they stand (a conversation that grows keeps its numbers), a result belongs
    /// to the first call of its name which has none yet, else to the first at all.
    pub fn link_tools(&mut self) {
        struct Call {
            id: String,
            name: String,
            answered: bool,
        }
        let mut calls: Vec<Call> = Vec::new();
        for block in self.messages.iter_mut().flat_map(|message| &mut message.blocks) {
            match &mut block.content {
                Content::ToolCall(call) => {
                    if call.id.is_empty() {
                        call.id = format!("call_{}", calls.len());
                    }
                    calls.push(Call {
                        id: call.id.clone(),
                        name: call.name.clone(),
                        answered: false,
                    });
                }
                Content::ToolResult(result) => {
                    let open = |call: &&mut Call| !call.answered;
                    let found = if !result.call.is_empty() {
                        // An id may stand twice in a long conversation: the last is meant.
                        calls.iter_mut().rev().find(|call| call.id == result.call)
                    } else {
                        let name = result.name.as_deref();
                        let named = calls
                            .iter()
                            .position(|call| !call.answered && Some(&*call.name) == name);
                        match named {
                            Some(place) => calls.get_mut(place),
                            None => calls.iter_mut().find(open),
                        }
                    };
                    if let Some(call) = found {
                        call.answered = true;
                        result.call.clone_from(&call.id);
                        result.name.get_or_insert_with(|| call.name.clone());
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{Block, Role, ToolCall, ToolKind, ToolResult};

    fn call(id: &str, name: &str) -> Block {
        Block::new(
            Content::ToolCall(ToolCall {
                id: id.into(),
                name: name.into(),
                arguments: String::new(),
                kind: ToolKind::Function,
                namespace: None,
            }),
            "",
        )
    }

    fn result(id: &str, name: Option<&str>) -> Block {
        Block::new(
            Content::ToolResult(ToolResult {
                call: id.into(),
                name: name.map(str::to_owned),
                blocks: Vec::new(),
                is_error: None,
                kind: ToolKind::Function,
            }),
            "",
        )
    }

    #[test]
    fn results_find_their_calls() {
        let mut request = Request {
            messages: vec![
                Message {
                    blocks: vec![call("", "a"), call("", "b"), call("", "a"), call("x", "c")],
                    ..Message::new(Role::Assistant, "")
                },
                Message {
                    blocks: vec![
                        result("", Some("b")),
                        result("", Some("a")),
                        result("", Some("a")),
                        result("x", None),
                    ],
                    ..Message::new(Role::User, "")
                },
            ],
            ..Request::default()
        };
        request.link_tools();
        let linked: Vec<_> = request.messages[1]
            .blocks
            .iter()
            .map(|block| match &block.content {
                Content::ToolResult(result) => (result.call.as_str(), result.name.as_deref().unwrap()),
                _ => unreachable!(),
            })
            .collect();
        assert_eq!(linked, [("call_1", "b"), ("call_0", "a"), ("call_2", "a"), ("x", "c")]);
    }
}
