//! The items of `input`, read. What the model said in a row (reasoning, messages, calls) becomes one message, and so do
//! results of tools in a row; where an item ended is told by the paths of its blocks (`input[3]`, `input[3].content[0]`).

use serde_json::{Map, Value};

use super::DIALECT;
use super::request::objects;
use super::{request_parts as parts, request_tools};
use crate::dialects::RequestError;
use crate::dialects::values::{element, field, fields, object, string};
use crate::ir::{Block, Content, Message, Native, Opaque, Request, Role, ToolCall, ToolKind, ToolResult};

/// What the API's own ids of items begin with: messages, reasoning, calls and outputs of functions and custom tools.
const OWN_IDS: [&str; 6] = ["msg_", "rs_", "fc_", "fco_", "ctc_", "ctco_"];

/// Reads `input`.
pub(super) fn input(value: Value, request: &mut Request) -> Result<(), RequestError> {
    match value {
        Value::String(text) => {
            let mut message = Message::new(Role::User, "input");
            message.blocks.push(Block::text(text, "input"));
            request.messages.push(message);
        }
        Value::Array(items) => {
            for (index, value) in items.into_iter().enumerate() {
                let at = element("input", index);
                item(object(value, &at)?, at, request)?;
            }
        }
        _ => return Err(RequestError::must_be("input", "a string or a list of items")),
    }
    Ok(())
}

fn item(map: Map<String, Value>, at: String, request: &mut Request) -> Result<(), RequestError> {
    let kind = match map.get("type").and_then(Value::as_str) {
        Some(kind) => kind,
        None if map.contains_key("role") => "message",
        None => "item_reference",
    };
    match kind {
        "message" => message(map, at, request),
        "reasoning" => {
            let blocks = reasoning(map, &at)?;
            said(request, &at).extend(blocks);
            Ok(())
        }
        "function_call" => call(map, at, ToolKind::Function, request),
        "custom_tool_call" => call(map, at, ToolKind::Custom, request),
        "function_call_output" => output(map, at, ToolKind::Function, request),
        "custom_tool_call_output" => output(map, at, ToolKind::Custom, request),
        "additional_tools" if map.get("tools").is_some_and(|list| list != &Value::Array(vec![])) => {
            additional_tools(map, at, request)
        }
        kind => {
            // What the client's machine gave back is the user's, all else was the model's or the server's.
            let returned = kind.ends_with("_output") && kind != "tool_search_output";
            let native = Native {
                dialect: DIALECT,
                at: at.as_str().into(),
                key: kind.into(),
                json: Value::Object(map),
            };
            let blocks = if returned || native.key.as_ref() == "mcp_approval_response" {
                results(request, &at)
            } else {
                said(request, &at)
            };
            blocks.push(Block::new(Content::Native(native), at));
            Ok(())
        }
    }
}

/// The blocks of the model's message that is being read.
fn said<'r>(request: &'r mut Request, at: &str) -> &'r mut Vec<Block> {
    last(request, at, |message| message.role == Role::Assistant, Role::Assistant)
}

/// The blocks of the message of results that is being read.
fn results<'r>(request: &'r mut Request, at: &str) -> &'r mut Vec<Block> {
    let only_results = |message: &Message| {
        let result = |block: &Block| matches!(block.content, Content::ToolResult(_) | Content::Native(_));
        message.role == Role::User && !message.blocks.is_empty() && message.blocks.iter().all(result)
    };
    last(request, at, only_results, Role::User)
}

fn last<'r>(request: &'r mut Request, at: &str, fits: impl Fn(&Message) -> bool, role: Role) -> &'r mut Vec<Block> {
    if !request.messages.last().is_some_and(fits) {
        request.messages.push(Message::new(role, at));
    }
    let place = request.messages.len() - 1;
    &mut request.messages[place].blocks
}

/// A field of an item which no other dialect has. Ids made by the API and the usual status say nothing elsewhere.
fn of_item(at: &str, key: &str, value: Value) -> Option<Native> {
    let word = value.as_str().unwrap_or("");
    let idle = match key {
        "id" => OWN_IDS.iter().any(|prefix| word.starts_with(prefix)),
        "status" => word == "completed",
        _ => false,
    };
    (!idle).then(|| Native::field(DIALECT, at, key, value))
}

fn message(map: Map<String, Value>, at: String, request: &mut Request) -> Result<(), RequestError> {
    let (mut role, mut blocks, mut native) = (Role::User, Vec::new(), Vec::new());
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            "role" => {
                role = match value.as_str() {
                    Some("user") => Role::User,
                    Some("assistant") => Role::Assistant,
                    Some("system") => Role::System,
                    Some("developer") => Role::Developer,
                    _ => {
                        let expected = "user, assistant, system or developer";
                        return Err(RequestError::must_be(field(&at, "role"), expected));
                    }
                }
            }
            "content" => blocks = parts::content(value, &field(&at, "content"))?,
            key => native.extend(of_item(&at, key, value)),
        }
    }
    if role == Role::Assistant {
        if blocks.is_empty() {
            blocks.push(Block::text("", field(&at, "content")));
        }
        blocks[0].native.extend(native);
        said(request, &at).extend(blocks);
        return Ok(());
    }
    let mut message = Message::new(role, at);
    message.blocks = blocks;
    message.native = native;
    if role != Role::User && request.messages.is_empty() {
        request.system.push(message);
    } else {
        request.messages.push(message);
    }
    Ok(())
}

/// One block for each part of the summary and of the content; the token is with the last.
fn reasoning(map: Map<String, Value>, at: &str) -> Result<Vec<Block>, RequestError> {
    let (mut blocks, mut native, mut id, mut token) = (Vec::new(), Vec::new(), None, None);
    let mut content = None;
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            ("summary", value) => thoughts(value, &field(at, "summary"), &mut blocks)?,
            ("content", value) => content = Some(value),
            ("encrypted_content", Value::String(text)) if !text.is_empty() => token = Some(Opaque(text.into())),
            ("id", value) => id = Some(value),
            (key, value) => native.extend(of_item(at, key, value)),
        }
    }
    if let Some(content) = content {
        thoughts(content, &field(at, "content"), &mut blocks)?;
    }
    if blocks.is_empty() {
        blocks.push(Block::new(Content::Reasoning(String::new()), at));
    }
    if let Some(id) = id {
        // Without its token the item is one that the provider stores: the id is what it is found by.
        native.extend(match token {
            Some(_) => of_item(at, "id", id),
            None => Some(Native::field(DIALECT, at, "id", id)),
        });
    }
    blocks[0].native.extend(native);
    if let Some(last) = blocks.last_mut() {
        last.opaque = token;
    }
    Ok(blocks)
}

fn thoughts(value: Value, at: &str, blocks: &mut Vec<Block>) -> Result<(), RequestError> {
    for (at, map) in objects(value, at)? {
        let mut block = Block::new(Content::Reasoning(String::new()), at.as_str());
        for (key, value) in fields(map) {
            match key.as_str() {
                "type" => {}
                "text" => block.content = Content::Reasoning(string(value, &field(&at, "text"))?),
                key => block.native.push(Native::field(DIALECT, &at, key, value)),
            }
        }
        blocks.push(block);
    }
    Ok(())
}

fn call(map: Map<String, Value>, at: String, kind: ToolKind, request: &mut Request) -> Result<(), RequestError> {
    let mut native = Vec::new();
    let mut call = ToolCall {
        id: String::new(),
        name: String::new(),
        arguments: String::new(),
        kind,
        namespace: None,
    };
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            ("call_id", value) => call.id = string(value, &field(&at, "call_id"))?,
            ("name", value) => call.name = string(value, &field(&at, "name"))?,
            ("namespace", value) => call.namespace = Some(string(value, &field(&at, "namespace"))?),
            ("arguments" | "input", Value::String(text)) => call.arguments = text,
            ("arguments" | "input", value) => call.arguments = value.to_string(),
            (key, value) => native.extend(of_item(&at, key, value)),
        }
    }
    let mut block = Block::new(Content::ToolCall(call), at.as_str());
    block.native = native;
    said(request, &at).push(block);
    Ok(())
}

fn output(map: Map<String, Value>, at: String, kind: ToolKind, request: &mut Request) -> Result<(), RequestError> {
    let mut native = Vec::new();
    let mut result = ToolResult {
        call: String::new(),
        name: None,
        blocks: Vec::new(),
        is_error: None,
        kind,
    };
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            ("call_id", value) => result.call = string(value, &field(&at, "call_id"))?,
            ("output", value @ (Value::String(_) | Value::Array(_))) => {
                result.blocks = parts::content(value, &field(&at, "output"))?;
            }
            ("output", value) => result.blocks.push(Block::text(value.to_string(), field(&at, "output"))),
            (key, value) => {
                // Few clients say it: the name is told by the call, and this one is kept for its own dialect.
                if let ("name", Value::String(name)) = (key, &value) {
                    result.name = Some(name.clone());
                }
                native.extend(of_item(&at, key, value));
            }
        }
    }
    let mut block = Block::new(Content::ToolResult(result), at.as_str());
    block.native = native;
    results(request, &at).push(block);
    Ok(())
}

/// An item that carries tools: they join those of the request. Their paths tell where they came from.
fn additional_tools(map: Map<String, Value>, at: String, request: &mut Request) -> Result<(), RequestError> {
    let first = request.tools.len();
    let mut native = Vec::new();
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            // Always that of the developer.
            "role" if value == "developer" => {}
            "tools" => request_tools::tools(value, &field(&at, "tools"), &mut request.tools)?,
            key => native.push(Native::field(DIALECT, &at, key, value)),
        }
    }
    if let Some(tool) = request.tools.get_mut(first) {
        tool.native.extend(native);
    }
    Ok(())
}
