//! Messages read: roles, content, reasoning, calls of tools and their results.

use serde_json::{Map, Value};

use super::decode_parts::{cache, content};
use super::decode_reasoning::reasoning;
use super::natives::keep;
use crate::dialects::RequestError;
use crate::dialects::values::{element, field, fields, list, object, string};
use crate::ir::{Block, Content, Message, Opaque, Request, Role, ToolCall, ToolKind, ToolResult};

/// Reads the messages. Neighbouring results of tools are one message of the user.
pub(super) fn messages(request: &mut Request, list: Vec<Value>) -> Result<(), RequestError> {
    let mut after_result = false;
    for (index, value) in list.into_iter().enumerate() {
        let at = element("messages", index);
        let mut map = object(value, &at)?;
        let role = string(map.shift_remove("role").unwrap_or_default(), &field(&at, "role"))?;
        let is_result = matches!(role.as_str(), "tool" | "function");
        match role.as_str() {
            "system" | "developer" => {
                let role = if role == "system" {
                    Role::System
                } else {
                    Role::Developer
                };
                let message = plain(role, map, at)?;
                // Instructions stand first; later ones belong to the conversation.
                let place = match request.messages.is_empty() {
                    true => &mut request.system,
                    false => &mut request.messages,
                };
                place.push(message);
            }
            "user" => request.messages.push(plain(Role::User, map, at)?),
            "assistant" => request.messages.push(assistant(map, at)?),
            "tool" | "function" => {
                let block = result(map, &at)?;
                match request.messages.last_mut() {
                    Some(last) if after_result => last.blocks.push(block),
                    _ => request.messages.push(Message {
                        blocks: vec![block],
                        ..Message::new(Role::User, at)
                    }),
                }
            }
            _ => {
                let roles = "one of `system`, `developer`, `user`, `assistant`, `tool`, `function`";
                return Err(RequestError::must_be(field(&at, "role"), roles));
            }
        }
        after_result = is_result;
    }
    custom_results(request);
    Ok(())
}

/// A result is of the kind of its call.
fn custom_results(request: &mut Request) {
    let mut custom: Vec<String> = Vec::new();
    for block in request.messages.iter_mut().flat_map(|message| &mut message.blocks) {
        match &mut block.content {
            Content::ToolCall(call) if call.kind == ToolKind::Custom => custom.push(call.id.clone()),
            Content::ToolResult(result) if custom.contains(&result.call) => result.kind = ToolKind::Custom,
            _ => {}
        }
    }
}

/// Takes the hint for the cache of a whole message (OpenRouter takes it there too): it is that of its last block.
fn cache_of_message(map: &mut Map<String, Value>, blocks: &mut [Block], at: &str) {
    if let Some(last) = blocks.last_mut().filter(|last| last.cache.is_none()) {
        last.cache = cache(map, at);
    }
}

fn plain(role: Role, mut map: Map<String, Value>, at: String) -> Result<Message, RequestError> {
    let mut message = Message::new(role, at.as_str());
    if let Some(value) = map.shift_remove("content").filter(|value| !value.is_null()) {
        message.blocks = content(value, &field(&at, "content"))?;
    }
    message.name = name(&mut map, &at)?;
    cache_of_message(&mut map, &mut message.blocks, &at);
    keep(&mut message.native, &at, map);
    Ok(message)
}

fn name(map: &mut Map<String, Value>, at: &str) -> Result<Option<String>, RequestError> {
    match map.shift_remove("name") {
        None | Some(Value::Null) => Ok(None),
        Some(name) => string(name, &field(at, "name")).map(Some),
    }
}

fn assistant(mut map: Map<String, Value>, at: String) -> Result<Message, RequestError> {
    let mut message = Message::new(Role::Assistant, at.as_str());
    reasoning(&mut message, &mut map, &at);
    let mut rest = Map::new();
    let mut calls = Vec::new();
    let mut refusal = None;
    for (key, value) in fields(map) {
        let at = field(&at, &key);
        match key.as_str() {
            "content" => message.blocks.extend(content(value, &at)?),
            "refusal" => refusal = Some(Block::new(Content::Refusal(string(value, &at)?), at)),
            "tool_calls" => {
                for (index, value) in list(value, &at)?.into_iter().enumerate() {
                    let at = element(&at, index);
                    calls.push(call(object(value, &at)?, at)?);
                }
            }
            // The form before tools: a call without an id.
            "function_call" => {
                let mut inner = object(value, &at)?;
                let mut native = Vec::new();
                let content = function(&mut inner, String::new(), ToolKind::Function, &at)?;
                keep(&mut native, &at, inner);
                let block = Block::new(content, at);
                calls.push(Block { native, ..block });
            }
            "name" => message.name = Some(string(value, &at)?),
            // OpenAI's libraries return the empty list with each message of the model's.
            "annotations" if value.as_array().is_some_and(Vec::is_empty) => {}
            _ => {
                rest.insert(key, value);
            }
        }
    }
    message
        .blocks
        .extend(refusal.filter(|block| *refusal_text(block) != *""));
    message.blocks.extend(calls);
    cache_of_message(&mut rest, &mut message.blocks, &at);
    keep(&mut message.native, &at, rest);
    Ok(message)
}

fn refusal_text(block: &Block) -> &str {
    match &block.content {
        Content::Refusal(text) => text,
        _ => "",
    }
}

fn call(mut map: Map<String, Value>, at: String) -> Result<Block, RequestError> {
    let id = match map.shift_remove("id") {
        None | Some(Value::Null) => String::new(),
        Some(id) => string(id, &field(&at, "id"))?,
    };
    let kind = match map.contains_key("function") {
        false if map.contains_key("custom") => ToolKind::Custom,
        _ => ToolKind::Function,
    };
    let key = if kind == ToolKind::Custom { "custom" } else { "function" };
    let inside = field(&at, key);
    let mut inner = object(map.shift_remove(key).unwrap_or_default(), &inside)?;
    let mut block = Block::new(function(&mut inner, id, kind, &inside)?, at.as_str());
    keep(&mut block.native, &inside, inner);
    map.shift_remove("type");
    block.cache = cache(&mut map, &at);
    block.opaque = thought_signature(&mut map).map(|token| Opaque(token.into()));
    keep(&mut block.native, &at, map);
    Ok(block)
}

/// Google's token of a call: `extra_content.google.thought_signature`, if nothing else is in there.
fn thought_signature(map: &mut Map<String, Value>) -> Option<String> {
    let one = |value: &Value| value.as_object().is_some_and(|map| map.len() == 1);
    let extra = map
        .get("extra_content")
        .filter(|extra| one(extra) && one(&extra["google"]))?;
    let token = extra["google"]["thought_signature"].as_str()?.to_owned();
    map.shift_remove("extra_content");
    Some(token)
}

fn function(inner: &mut Map<String, Value>, id: String, kind: ToolKind, at: &str) -> Result<Content, RequestError> {
    let name = string(inner.shift_remove("name").unwrap_or_default(), &field(at, "name"))?;
    let key = if kind == ToolKind::Custom { "input" } else { "arguments" };
    let arguments = match inner.shift_remove(key) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text,
        // Some clients send the object itself.
        Some(other) => other.to_string(),
    };
    Ok(Content::ToolCall(ToolCall {
        id,
        name,
        arguments,
        kind,
        namespace: None,
    }))
}

fn result(mut map: Map<String, Value>, at: &str) -> Result<Block, RequestError> {
    let call = match map.shift_remove("tool_call_id") {
        None | Some(Value::Null) => String::new(),
        Some(id) => string(id, &field(at, "tool_call_id"))?,
    };
    let blocks = match map.shift_remove("content") {
        None | Some(Value::Null) => Vec::new(),
        Some(value) => content(value, &field(at, "content"))?,
    };
    let result = ToolResult {
        call,
        name: name(&mut map, at)?,
        blocks,
        is_error: None,
        kind: ToolKind::Function,
    };
    let mut block = Block::new(Content::ToolResult(result), at);
    block.cache = cache(&mut map, at);
    keep(&mut block.native, at, map);
    Ok(block)
}
