//! Requests read: contents and their parts.

use serde_json::{Map, Value};

use super::DIALECT;
use super::fields::{camel, list_or_one, native};
use super::media::{standard_base64, uri_source};
use crate::dialects::codec::RequestError;
use crate::dialects::values;
use crate::ir::{
    Block, Content, Media, MediaKind, MediaSource, Message, Native, Opaque, Role, ToolCall, ToolKind, ToolResult,
};

/// The one key under which clients wrap a function's result when it is no object.
const WRAPPERS: [&str; 5] = ["output", "result", "return_value", "response", "content"];

/// `contents`: a list, a single content, or a text.
pub(super) fn contents(value: Value, at: &str) -> Result<Vec<Message>, RequestError> {
    let elements = list_or_one(value, at)?.into_iter().enumerate();
    let message = |(index, value)| {
        let at = values::element(at, index);
        match value {
            Value::String(text) => {
                let mut message = Message::new(Role::User, at.as_str());
                message.blocks.push(Block::text(text, at.as_str()));
                Ok(message)
            }
            value => content(values::object(value, &at)?, &at),
        }
    };
    elements.map(message).collect()
}

/// One content. No role is the user's.
pub(super) fn content(content: Map<String, Value>, at: &str) -> Result<Message, RequestError> {
    let mut message = Message::new(Role::User, at);
    for (name, value) in values::fields(content) {
        match name.as_str() {
            "role" => message.role = role(&values::string(value, &values::field(at, "role"))?, at)?,
            "parts" => message.blocks = parts(value, &values::field(at, "parts"))?,
            _ => message.native.push(native(at, &name, "", value)),
        }
    }
    Ok(message)
}

fn role(role: &str, at: &str) -> Result<Role, RequestError> {
    match role {
        "user" | "function" | "tool" | "" => Ok(Role::User),
        "model" | "assistant" => Ok(Role::Assistant),
        "system" | "developer" => Ok(Role::System),
        _ => Err(RequestError::must_be(values::field(at, "role"), "`user` or `model`")),
    }
}

/// Parts: a list, or one of them.
pub(super) fn parts(value: Value, at: &str) -> Result<Vec<Block>, RequestError> {
    let elements = list_or_one(value, at)?.into_iter().enumerate();
    let block = |(index, value)| {
        let at = values::element(at, index);
        match value {
            Value::String(text) => Ok(Block::text(text, at)),
            value => part(values::object(value, &at)?, &at),
        }
    };
    elements.map(block).collect()
}

/// One part: its datum, and what is said about it.
fn part(part: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    // Server tools and whatever is new stand as they are.
    let nothing_known = !part.keys().any(|name| is_known(&camel(name)));
    let unknown = part.keys().find(|name| nothing_known || is_foreign(&camel(name)));
    if let Some(kind) = unknown.map(|name| camel(name).into_owned()) {
        let node = Native {
            dialect: DIALECT,
            at: at.into(),
            key: kind.into(),
            json: Value::Object(part),
        };
        return Ok(Block::new(Content::Native(node), at));
    }
    let mut block = Block::text("", at);
    let mut thought = false;
    for (name, value) in values::fields(part) {
        let at = values::field(at, &name);
        match camel(&name).as_ref() {
            "text" => block.content = Content::Text(values::string(value, &at)?),
            "thought" => thought = values::boolean(&value, &at)?,
            "thoughtSignature" => block.opaque = Some(Opaque(values::string(value, &at)?.into())),
            "inlineData" => block.content = Content::Media(blob(values::object(value, &at)?, &at, &mut block.native)?),
            "fileData" => block.content = Content::Media(file(values::object(value, &at)?, &at, &mut block.native)?),
            "functionCall" => block.content = call(values::object(value, &at)?, &at, &mut block.native)?,
            "functionResponse" => block.content = result(values::object(value, &at)?, &at, &mut block.native)?,
            _ => block.native.push(native(&block.at, &name, "", value)),
        }
    }
    if thought {
        block.content = match block.content {
            Content::Text(text) => Content::Reasoning(text),
            other => {
                block.native.push(native(at, "thought", "", Value::Bool(true)));
                other
            }
        };
    }
    Ok(block)
}

/// What a part can be, beside what is kept whole.
fn is_known(name: &str) -> bool {
    matches!(
        name,
        "text" | "thought" | "thoughtSignature" | "inlineData" | "fileData" | "functionCall" | "functionResponse"
    )
}

/// A part with this field is more than we have types for: it is kept whole.
fn is_foreign(name: &str) -> bool {
    matches!(
        name,
        "executableCode" | "codeExecutionResult" | "toolCall" | "toolResponse" | "audioTranscription"
    )
}

/// `inlineData`.
fn blob(blob: Map<String, Value>, at: &str, natives: &mut Vec<Native>) -> Result<Media, RequestError> {
    let (mut data, mut mime, mut name) = (String::new(), None, None);
    for (key, value) in values::fields(blob) {
        let field = values::field(at, &key);
        match camel(&key).as_ref() {
            "data" => data = standard_base64(values::string(value, &field)?),
            "mimeType" => mime = Some(values::string(value, &field)?),
            "displayName" => name = Some(values::string(value, &field)?),
            _ => natives.push(native(at, &key, "inlineData", value)),
        }
    }
    Ok(Media {
        kind: MediaKind::of_mime(mime.as_deref().unwrap_or("")),
        source: MediaSource::Inline(data),
        mime,
        name,
        detail: None,
    })
}

/// `fileData`.
fn file(file: Map<String, Value>, at: &str, natives: &mut Vec<Native>) -> Result<Media, RequestError> {
    let (mut uri, mut mime, mut name) = (String::new(), None, None);
    for (key, value) in values::fields(file) {
        let field = values::field(at, &key);
        match camel(&key).as_ref() {
            "fileUri" => uri = values::string(value, &field)?,
            "mimeType" => mime = Some(values::string(value, &field)?),
            "displayName" => name = Some(values::string(value, &field)?),
            _ => natives.push(native(at, &key, "fileData", value)),
        }
    }
    let (kind, source) = uri_source(uri, mime.as_deref());
    Ok(Media {
        kind,
        source,
        mime,
        name,
        detail: None,
    })
}

/// `functionCall`.
fn call(call: Map<String, Value>, at: &str, natives: &mut Vec<Native>) -> Result<Content, RequestError> {
    let mut read = ToolCall {
        id: String::new(),
        name: String::new(),
        arguments: String::new(),
        kind: ToolKind::Function,
        namespace: None,
    };
    for (key, value) in values::fields(call) {
        let field = values::field(at, &key);
        match camel(&key).as_ref() {
            "id" => read.id = values::string(value, &field)?,
            "name" => read.name = values::string(value, &field)?,
            "args" => read.arguments = text_of(value),
            _ => natives.push(native(at, &key, "functionCall", value)),
        }
    }
    Ok(Content::ToolCall(read))
}

/// `functionResponse`.
fn result(result: Map<String, Value>, at: &str, natives: &mut Vec<Native>) -> Result<Content, RequestError> {
    let mut read = ToolResult {
        call: String::new(),
        name: None,
        blocks: Vec::new(),
        is_error: None,
        kind: ToolKind::Function,
    };
    let mut media = Vec::new();
    for (key, value) in values::fields(result) {
        let field = values::field(at, &key);
        match camel(&key).as_ref() {
            "id" => read.call = values::string(value, &field)?,
            "name" => read.name = Some(values::string(value, &field)?),
            "response" => {
                let (text, failed) = response(value);
                read.is_error = failed.then_some(true);
                read.blocks.push(Block::text(text, field));
            }
            "parts" => media = parts(value, &field)?,
            _ => natives.push(native(at, &key, "functionResponse", value)),
        }
    }
    read.blocks.append(&mut media);
    Ok(Content::ToolResult(read))
}

/// What a function gave back, as text, and whether it is an error (reference of `FunctionResponse.response`: the keys
/// `output` and `error` are known, else the whole object is the output).
fn response(value: Value) -> (String, bool) {
    let Value::Object(mut map) = value else {
        return (text_of(value), false);
    };
    if map.len() == 1
        && let Some(key) = map.keys().next().cloned()
        && (key == "error" || WRAPPERS.contains(&key.as_str()))
        && let Some(inner) = map.get_mut(&key).filter(|inner| !inner.is_null())
    {
        return (text_of(inner.take()), key == "error");
    }
    (Value::Object(map).to_string(), false)
}

/// A string's text, or the JSON.
fn text_of(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
