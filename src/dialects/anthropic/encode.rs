//! Answers, written whole.

use serde_json::{Map, Value, json};

use super::answer::{self, Held};
use super::encode_stream::Encoder;
use super::{Anthropic, DIALECT, cite, token};
use crate::dialects::*;
use crate::ir::message::arguments_object;
use crate::ir::{Block, BlockHead, Candidate, Content, LossReport, MediaKind, Native, Response, ToolCall};

impl AnswerEncoder for Anthropic {
    fn encode_response(&self, response: &Response, to: &Answering, loss: &mut LossReport) -> Vec<u8> {
        write::document(&message(response, to, loss))
    }

    fn stream_encoder(&self, to: Answering) -> Box<dyn StreamEncoder> {
        Box::new(Encoder::new(to))
    }

    fn keeps(&self, _: &BlockHead<'_>) -> bool {
        false
    }

    fn is_sequential(&self) -> bool {
        true
    }

    fn decode_count(&self, body: &[u8]) -> Option<Result<u64, DecodeError>> {
        let count = serde_json::from_slice::<Value>(body).ok();
        let count = count.and_then(|count| count.get("input_tokens")?.as_u64());
        Some(count.ok_or_else(|| DecodeError {
            dialect: DIALECT,
            why: "no count of tokens".to_owned(),
        }))
    }

    fn encode_count(&self, tokens: u64) -> Option<Vec<u8>> {
        Some(json!({"input_tokens": tokens}).to_string().into_bytes())
    }
}

fn message(response: &Response, to: &Answering, loss: &mut LossReport) -> Map<String, Value> {
    for candidate in response.candidates.iter().skip(1) {
        loss.dropped(format!("candidates[{}]", candidate.index), "there is one answer there");
    }
    let (mut content, mut held) = (Vec::new(), Held::default());
    let first = response.candidates.first();
    for (index, block) in first.iter().flat_map(|candidate| &candidate.blocks).enumerate() {
        self::block(block, &format!("content[{index}]"), &mut content, &mut held, loss);
    }
    let reason = first.and_then(|Candidate { finish, .. }| finish.as_ref());
    let stop_reason = answer::stop_reason(reason, held, loss);
    let mut usage = answer::usage(response.usage.unwrap_or_default());
    let mut message = Map::new();
    message.insert("id".into(), answer::id(&response.id, to).into());
    message.insert("type".into(), "message".into());
    message.insert("role".into(), "assistant".into());
    message.insert("model".into(), answer::model(&response.model, to).into());
    message.insert("content".into(), content.into());
    message.insert("stop_reason".into(), stop_reason.into());
    message.insert("stop_sequence".into(), answer::stop_sequence(reason, stop_reason));
    Native::settle(&response.native, DIALECT, loss, |native| {
        let (node, key) = match native.key.strip_prefix("usage.") {
            Some(key) => (&mut usage, key),
            None => (&mut message, &*native.key),
        };
        node.insert(key.to_owned(), native.json.clone());
    });
    message.insert("usage".into(), usage.into());
    message
}

fn block(block: &Block, at: &str, content: &mut Vec<Value>, held: &mut Held, loss: &mut LossReport) {
    let token = block.opaque.as_ref().map_or("", |token| &token.0);
    if !block.logprobs.is_empty() {
        loss.dropped(format!("{at}.logprobs"), "there are no log probabilities there");
    }
    let node = match &block.content {
        Content::Text(text) => self::text(text, block, at, loss),
        Content::Refusal(text) => {
            held.refusal = true;
            self::text(text, block, at, loss)
        }
        Content::Reasoning(text) => {
            content.extend(token::block(text, token).or_else(|| {
                // Without a token: clients expect the field.
                (!text.is_empty()).then(|| json!({"type": "thinking", "thinking": text, "signature": ""}))
            }));
            return;
        }
        Content::ToolCall(call) => {
            held.calls = true;
            Some(tool_use(call, block, at, loss))
        }
        Content::Media(media) => {
            let transcript = media.name.as_deref().filter(|_| media.kind == MediaKind::Audio);
            let why = "answers hold text there";
            match transcript {
                Some(_) => loss.approximated(at.to_owned(), why),
                None => loss.dropped(at.to_owned(), why),
            }
            transcript.map(|text| json!({"type": "text", "text": text}))
        }
        Content::Native(native) => {
            let mut own = None;
            Native::settle([native], DIALECT, loss, |native| own = Some(native.json.clone()));
            own.filter(Value::is_object)
        }
        // Answers hold none.
        Content::ToolResult(_) => None,
    };
    if !matches!(block.content, Content::ToolCall(_)) {
        Native::settle(&block.native, DIALECT, loss, |_| {});
    }
    content.extend(node);
    if !token.is_empty() {
        loss.dropped(at.to_owned(), token::ONLY_REASONING);
    }
}

fn text(text: &str, block: &Block, at: &str, loss: &mut LossReport) -> Option<Value> {
    if text.is_empty() {
        return None;
    }
    let citations: Vec<Value> = block.citations.iter().filter_map(cite::answer).collect();
    if citations.len() < block.citations.len() {
        loss.dropped(format!("{at}.citations"), "citations have an address there");
    }
    let mut node = json!({"type": "text", "text": text});
    if !citations.is_empty() {
        node["citations"] = citations.into();
    }
    Some(node)
}

fn tool_use(call: &ToolCall, block: &Block, at: &str, loss: &mut LossReport) -> Value {
    let input = arguments_object(&call.arguments).map_or_else(
        || {
            loss.approximated(at.to_owned(), "arguments are a JSON object there");
            json!({"raw_arguments": call.arguments})
        },
        Value::Object,
    );
    let mut node = Map::new();
    node.insert("type".into(), "tool_use".into());
    node.insert("id".into(), call.id.as_str().into());
    node.insert("name".into(), call.name.as_str().into());
    node.insert("input".into(), input);
    Native::settle(&block.native, DIALECT, loss, |native| {
        node.extend(native.json.as_object().cloned().unwrap_or_default());
    });
    Value::Object(node)
}
