//! Requests, written: the blocks of messages.

use serde_json::{Map, Value, json};

use super::encode_cache::CachePlan;
use super::{DIALECT, cite, encode_media, token};
use crate::dialects::codec::EncodeError;
use crate::ir::message::arguments_object;
use crate::ir::{Block, Content, LossReport, Native, ToolCall, ToolResult};

/// What the writing of blocks needs at hand.
pub(super) struct Writer<'a, 'r> {
    pub(super) caches: &'a CachePlan<'r>,
    pub(super) loss: &'a mut LossReport,
    /// The speaker is the model: its own texts of white space are taken back (recorded traffic shows it), others' are
    /// refused.
    pub(super) assistant: bool,
}

/// A text block.
pub(super) fn text(text: &str) -> Map<String, Value> {
    let mut block = Map::new();
    block.insert("type".into(), "text".into());
    block.insert("text".into(), text.into());
    block
}

/// One text without anything else is written as a string.
pub(super) fn content(mut blocks: Vec<Value>) -> Value {
    let plain = |block: &Value| {
        block.get("type").is_some_and(|kind| kind == "text") && block.as_object().map(Map::len) == Some(2)
    };
    match blocks.as_mut_slice() {
        [only] if plain(only) => only["text"].take(),
        _ => Value::Array(blocks),
    }
}

impl Writer<'_, '_> {
    /// The blocks, those left out which say nothing.
    pub(super) fn blocks(&mut self, blocks: &[Block]) -> Result<Vec<Value>, EncodeError> {
        let mut written = Vec::with_capacity(blocks.len());
        for block in blocks {
            written.extend(self.block(block)?);
        }
        Ok(written)
    }

    /// One block; `None`: it says nothing, or nothing that can be said here.
    pub(super) fn block(&mut self, block: &Block) -> Result<Option<Value>, EncodeError> {
        let at = &*block.at;
        let node = match &block.content {
            Content::Text(text) => self.text(text, block),
            Content::Refusal(text) => {
                self.loss.approximated(at.to_owned(), "refusals are text there");
                self.text(text, block)
            }
            Content::Media(media) => Some(encode_media::block(media, at, self.loss)?),
            Content::Reasoning(text) => self.reasoning(text, block),
            Content::ToolCall(call) => Some(self.call(call, at)),
            Content::ToolResult(result) => Some(self.result(result)?),
            Content::Native(native) => self.native(native),
        };
        let Some(mut node) = node else {
            if let Some(hint) = &block.cache {
                self.loss.dropped(hint.at.to_string(), "its block is left out");
            }
            Native::settle(&block.native, DIALECT, self.loss, |_| {});
            return Ok(None);
        };
        if block.opaque.is_some() && !matches!(block.content, Content::Reasoning(_)) {
            self.loss.dropped(at.to_owned(), "only reasoning has a token there");
        }
        Native::settle(&block.native, DIALECT, self.loss, |native| put(&mut node, native));
        let reasoning = matches!(block.content, Content::Reasoning(_));
        match &block.cache {
            Some(hint) if reasoning => self
                .loss
                .dropped(hint.at.to_string(), "reasoning has no cache hint there"),
            hint => self.caches.put(hint.as_ref(), &mut node, self.loss),
        }
        Ok(Some(Value::Object(node)))
    }

    /// The API refuses empty texts, and those of white space.
    fn text(&mut self, text: &str, block: &Block) -> Option<Map<String, Value>> {
        if text.is_empty() || (text.trim().is_empty() && !self.assistant) {
            if !text.is_empty() {
                self.loss
                    .dropped(block.at.to_string(), "texts of white space are refused there");
            }
            return None;
        }
        let mut node = self::text(text);
        let citations: Vec<Value> = block.citations.iter().filter_map(cite::request).collect();
        if citations.len() < block.citations.len() {
            let at = block.at.to_string();
            self.loss
                .approximated(at, "citations can only be returned to their provider");
        }
        if !citations.is_empty() {
            node.insert("citations".into(), citations.into());
        }
        Some(node)
    }

    fn reasoning(&mut self, text: &str, block: &Block) -> Option<Map<String, Value>> {
        let token = block.opaque.as_ref().map_or("", |token| &token.0);
        if token.is_empty() {
            if !text.is_empty() {
                self.loss.dropped(
                    block.at.to_string(),
                    "reasoning can only be returned with its provider's token",
                );
            }
            return None;
        }
        match token::block(text, token) {
            Some(Value::Object(node)) => Some(node),
            _ => None,
        }
    }

    fn call(&mut self, call: &ToolCall, at: &str) -> Map<String, Value> {
        let input = arguments_object(&call.arguments).unwrap_or_else(|| {
            self.loss
                .approximated(at.to_owned(), "arguments are a JSON object there");
            let mut raw = Map::new();
            raw.insert("raw_arguments".into(), call.arguments.as_str().into());
            raw
        });
        let mut node = Map::new();
        node.insert("type".into(), "tool_use".into());
        node.insert("id".into(), call.id.as_str().into());
        node.insert("name".into(), call.name.as_str().into());
        node.insert("input".into(), Value::Object(input));
        node
    }

    fn result(&mut self, result: &ToolResult) -> Result<Map<String, Value>, EncodeError> {
        let mut node = Map::new();
        node.insert("type".into(), "tool_result".into());
        node.insert("tool_use_id".into(), result.call.as_str().into());
        let blocks = self.blocks(&result.blocks)?;
        if !blocks.is_empty() {
            node.insert("content".into(), content(blocks));
        }
        if let Some(is_error) = result.is_error {
            node.insert("is_error".into(), is_error.into());
        }
        Ok(node)
    }

    fn native(&mut self, native: &Native) -> Option<Map<String, Value>> {
        let mut node = None;
        Native::settle([native], DIALECT, self.loss, |own| node = own.json.as_object().cloned());
        node
    }
}

/// Puts a native field back. Of an object that is there already (a medium's source) it completes the fields.
fn put(node: &mut Map<String, Value>, native: &Native) {
    let key = &*native.key;
    if key == "source"
        && native.json.get("type").is_none()
        && let (Some(Value::Object(there)), Some(more)) = (node.get_mut(key), native.json.as_object())
    {
        there.extend(more.clone());
        return;
    }
    node.insert(key.into(), native.json.clone());
}

/// A message of the user's that nobody wrote.
pub(super) fn opening() -> Value {
    json!({"role": "user", "content": "Please begin."})
}
