//! Requests, read: messages and their blocks.

use serde_json::{Map, Value};

use super::{DIALECT, cite, token};
use crate::dialects::codec::RequestError;
use crate::dialects::values::{boolean, element, field, fields, list, object, string};
use crate::ir::{
    Block, CacheHint, Content, Media, MediaKind, MediaSource, Message, Native, Opaque, Role, ToolCall, ToolKind,
    ToolResult,
};

/// The field `system`: a text, or blocks.
pub(super) fn system(value: Value) -> Result<Message, RequestError> {
    let mut message = Message::new(Role::System, "system");
    message.blocks = match value {
        Value::String(text) => vec![Block::text(text, "system")],
        value => blocks(value, "system")?,
    };
    Ok(message)
}

/// One of `messages`.
pub(super) fn message(value: Value, at: &str) -> Result<Message, RequestError> {
    let mut message = Message::new(Role::User, at);
    let mut role = None;
    for (key, value) in fields(object(value, at)?) {
        match key.as_str() {
            "role" => role = Some(string(value, &field(at, "role"))?),
            "content" => message.blocks = text_or_blocks(value, &field(at, "content"))?,
            _ => message.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    message.role = match role.as_deref() {
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some("system") => Role::System,
        _ => {
            return Err(RequestError::must_be(
                field(at, "role"),
                "`user`, `assistant` or `system`",
            ));
        }
    };
    Ok(message)
}

fn text_or_blocks(value: Value, at: &str) -> Result<Vec<Block>, RequestError> {
    match value {
        Value::String(text) => Ok(vec![Block::text(text, at)]),
        Value::Array(_) => blocks(value, at),
        _ => Err(RequestError::must_be(at, "a string or a list of blocks")),
    }
}

fn blocks(value: Value, at: &str) -> Result<Vec<Block>, RequestError> {
    let blocks = list(value, at)?.into_iter().enumerate();
    blocks.map(|(index, value)| block(value, &element(at, index))).collect()
}

fn block(value: Value, at: &str) -> Result<Block, RequestError> {
    let mut map = match value {
        // Tolerated by the API's own clients.
        Value::String(text) => return Ok(Block::text(text, at)),
        value => object(value, at)?,
    };
    let mut native = Vec::new();
    let cache = cache(&mut map, at, &mut native);
    let mut block = match map.get("type").and_then(Value::as_str).unwrap_or("") {
        "text" => text(map, at)?,
        "image" => media(map, MediaKind::Image, at)?,
        "document" => media(map, MediaKind::Document, at)?,
        "thinking" => thinking(map, at)?,
        "redacted_thinking" => redacted(map, at)?,
        "tool_use" => tool_use(map, at)?,
        "tool_result" => tool_result(map, at)?,
        _ => whole(map, at),
    };
    block.cache = cache;
    block.native.append(&mut native);
    Ok(block)
}

/// A block only this dialect knows.
fn whole(map: Map<String, Value>, at: &str) -> Block {
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("");
    let native = Native {
        dialect: DIALECT,
        at: at.into(),
        key: kind.into(),
        json: Value::Object(map),
    };
    Block::new(Content::Native(native), at)
}

/// Takes a block's or a tool's `cache_control`. One of unknown form is kept as it is.
pub(super) fn cache(map: &mut Map<String, Value>, at: &str, native: &mut Vec<Native>) -> Option<CacheHint> {
    let value = map.shift_remove("cache_control").filter(|value| !value.is_null())?;
    let ttl = value.get("ttl");
    let known = value.get("type").is_some_and(|kind| kind == "ephemeral")
        && value.as_object().map_or(0, Map::len) == 1 + usize::from(ttl.is_some())
        && ttl.is_none_or(|ttl| ttl.is_string() || ttl.is_null());
    if !known {
        native.push(Native::field(DIALECT, at, "cache_control", value));
        return None;
    }
    Some(CacheHint {
        ttl: ttl.and_then(Value::as_str).map(Into::into),
        at: field(at, "cache_control").into(),
    })
}

fn text(map: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    let mut block = Block::text("", at);
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            ("text", value) => block.content = Content::Text(string(value, &field(at, "text"))?),
            ("citations", Value::Array(list)) => block.citations = list.iter().map(cite::read).collect(),
            (_, value) => block.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    Ok(block)
}

fn thinking(map: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    let (mut text, mut signature) = (String::new(), String::new());
    let mut block = Block::text("", at);
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            "thinking" => text = string(value, &field(at, "thinking"))?,
            "signature" => signature = string(value, &field(at, "signature"))?,
            _ => block.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    if text.is_empty() && !signature.is_empty() {
        signature.insert_str(0, token::UNSEEN);
    }
    block.opaque = (!signature.is_empty()).then(|| Opaque(signature.into()));
    block.content = Content::Reasoning(text);
    Ok(block)
}

fn redacted(map: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    let mut block = Block::new(Content::Reasoning(String::new()), at);
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            "data" => block.opaque = Some(Opaque(string(value, &field(at, "data"))?.into())),
            _ => block.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    Ok(block)
}

fn tool_use(map: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    let mut call = ToolCall {
        id: String::new(),
        name: String::new(),
        arguments: String::new(),
        kind: ToolKind::Function,
        namespace: None,
    };
    let mut block = Block::text("", at);
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            ("id", value) => call.id = string(value, &field(at, "id"))?,
            ("name", value) => call.name = string(value, &field(at, "name"))?,
            // Some clients send what they could not parse.
            ("input", Value::String(text)) => call.arguments = text,
            ("input", value) => call.arguments = value.to_string(),
            (_, value) => block.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    block.content = Content::ToolCall(call);
    Ok(block)
}

fn tool_result(map: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    let mut result = ToolResult {
        call: String::new(),
        name: None,
        blocks: Vec::new(),
        is_error: None,
        kind: ToolKind::Function,
    };
    let mut block = Block::text("", at);
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            "tool_use_id" => result.call = string(value, &field(at, "tool_use_id"))?,
            "content" => result.blocks = text_or_blocks(value, &field(at, "content"))?,
            "is_error" => result.is_error = Some(boolean(&value, &field(at, "is_error"))?),
            _ => block.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    block.content = Content::ToolResult(result);
    Ok(block)
}

/// An image or a document. What of its source has no field in the hub is kept beside it, under the source's name.
fn media(map: Map<String, Value>, kind: MediaKind, at: &str) -> Result<Block, RequestError> {
    let Some((source, mime, rest)) = map.get("source").and_then(|source| media_source(source, kind)) else {
        return Ok(whole(map, at));
    };
    let mut media = Media {
        kind,
        source,
        mime,
        name: None,
        detail: None,
    };
    let mut block = Block::text("", at);
    if let Some(rest) = rest {
        block.native.push(Native::field(DIALECT, at, "source", rest));
    }
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" | "source" => {}
            "title" if kind == MediaKind::Document => media.name = Some(string(value, &field(at, "title"))?),
            _ => block.native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    block.content = Content::Media(media);
    Ok(block)
}

type SourceParts = (MediaSource, Option<String>, Option<Value>);

fn media_source(source: &Value, kind: MediaKind) -> Option<SourceParts> {
    let mut rest = source.as_object()?.clone();
    let mut take = |key: &str| match rest.get(key) {
        Some(Value::String(text)) => {
            let text = text.clone();
            rest.shift_remove(key);
            Some(text)
        }
        _ => None,
    };
    let (source, mime) = match take("type")?.as_str() {
        "base64" => {
            let data = take("data")?;
            let spaced = data.contains(|c: char| c.is_ascii_whitespace());
            let data = if spaced {
                data.split_ascii_whitespace().collect()
            } else {
                data
            };
            (MediaSource::Inline(data), take("media_type"))
        }
        "text" => (MediaSource::Text(take("data")?), take("media_type")),
        // Documents by URL are PDFs.
        "url" => {
            let pdf = (kind == MediaKind::Document).then(|| "application/pdf".to_owned());
            (MediaSource::Url(take("url")?), pdf)
        }
        "file" => (MediaSource::File(take("file_id")?), None),
        "content" => {
            let text = texts(source.get("content")?)?;
            return Some((MediaSource::Text(text), None, Some(source.clone())));
        }
        _ => return None,
    };
    Some((source, mime, (!rest.is_empty()).then_some(Value::Object(rest))))
}

/// The text of a document made of texts; nothing if there is more in it.
fn texts(content: &Value) -> Option<String> {
    match content {
        Value::String(text) => Some(text.clone()),
        Value::Array(blocks) => {
            let texts: Option<Vec<&str>> = blocks.iter().map(|block| block.get("text")?.as_str()).collect();
            Some(texts?.join("\n"))
        }
        _ => None,
    }
}
