//! Messages written: each role's form, results of tools as messages of their own.

use serde_json::{Map, Value, json};

use super::encode_parts::{content, media, tool_content};
use super::natives::restore;
use super::vendor::Vendor;
use super::{DIALECT, decode_parts, details};
use crate::dialects::EncodeError;
use crate::ir::{Block, Content, LossReport, Message, Native, Request, Role, ToolCall, ToolKind, ToolResult};

/// What stands between texts which become one.
const BETWEEN: &str = "\n\n";

/// Writes all messages.
pub(super) fn messages(request: &Request, vendor: Vendor, loss: &mut LossReport) -> Result<Vec<Value>, EncodeError> {
    let mut out = Vec::new();
    for message in request.all_messages() {
        match message.role {
            Role::System | Role::Developer => out.push(instructions(message, vendor, loss)?),
            Role::User => user(&mut out, message, vendor, loss)?,
            Role::Assistant => out.push(assistant(message, vendor, loss)?),
        }
    }
    Ok(out)
}

fn begin(role: &str, message: &Message) -> Map<String, Value> {
    let mut map = details::object(json!({"role": role}));
    if let Some(name) = &message.name {
        map.insert("name".into(), name.as_str().into());
    }
    map
}

/// Instructions: one text, as many providers take no list there; a list where hints for the cache stand in it.
fn instructions(message: &Message, vendor: Vendor, loss: &mut LossReport) -> Result<Value, EncodeError> {
    let role = match message.role {
        // Only OpenAI tells them apart.
        Role::Developer if vendor.is_openai() => "developer",
        _ => "system",
    };
    let mut map = begin(role, message);
    let plain = |block: &Block| {
        block.as_text().is_some() && block.native.is_empty() && (block.cache.is_none() || vendor != Vendor::Claude)
    };
    let value = if message.blocks.len() > 1 && message.blocks.iter().all(plain) {
        for hint in message.blocks.iter().filter_map(|block| block.cache.as_ref()) {
            loss.dropped(hint.at.to_string(), "the provider caches prompts by itself");
        }
        let texts: Vec<&str> = message.blocks.iter().filter_map(Block::as_text).collect();
        texts.join(BETWEEN).into()
    } else {
        content(message.blocks.iter(), vendor, loss)?
    };
    map.insert("content".into(), value);
    restore(&mut map, &message.at, &message.native, loss);
    Ok(Value::Object(map))
}

/// A message of the user: results first, each a message of its own, then what else there is, media of results before it.
fn user(out: &mut Vec<Value>, message: &Message, vendor: Vendor, loss: &mut LossReport) -> Result<(), EncodeError> {
    let mut moved: Vec<&Block> = Vec::new();
    let mut any_result = false;
    for block in &message.blocks {
        if let Content::ToolResult(result) = &block.content {
            any_result = true;
            out.push(tool_message(block, result, &mut moved, vendor, loss)?);
        }
    }
    let said = message
        .blocks
        .iter()
        .filter(|block| !matches!(block.content, Content::ToolResult(_)));
    let blocks: Vec<&Block> = moved.into_iter().chain(said).collect();
    if blocks.is_empty() && any_result {
        // It has no message of its own: our own natives of such a message stand with its results.
        restore(&mut Map::new(), &message.at, &message.native, loss);
        return Ok(());
    }
    let mut map = begin("user", message);
    map.insert("content".into(), content(blocks.into_iter(), vendor, loss)?);
    restore(&mut map, &message.at, &message.native, loss);
    out.push(Value::Object(map));
    Ok(())
}

fn tool_message<'b>(
    block: &'b Block,
    result: &'b ToolResult,
    moved: &mut Vec<&'b Block>,
    vendor: Vendor,
    loss: &mut LossReport,
) -> Result<Value, EncodeError> {
    let mut map = details::object(json!({"role": "tool", "tool_call_id": call_id(&result.call, vendor)}));
    if result.is_error == Some(true) {
        loss.approximated(
            block.at.to_string(),
            "results can't be marked as errors here: the text has to say it",
        );
    }
    let mut texts: Vec<&Block> = Vec::new();
    for inner in &result.blocks {
        if matches!(inner.content, Content::Media(_)) {
            loss.approximated(
                inner.at.to_string(),
                "media of results stand in the user's next message here",
            );
            moved.push(inner);
        } else {
            texts.push(inner);
        }
    }
    map.insert(
        "content".into(),
        tool_content(&texts, block.cache.as_ref(), vendor, loss)?,
    );
    decode_parts::write_natives(&mut map, block, loss);
    Ok(Value::Object(map))
}

fn assistant(message: &Message, vendor: Vendor, loss: &mut LossReport) -> Result<Value, EncodeError> {
    let mut map = begin("assistant", message);
    let mut said: Vec<&Block> = Vec::new();
    let (mut calls, mut images, mut refusal) = (Vec::new(), Vec::new(), String::new());
    for block in &message.blocks {
        match &block.content {
            Content::Reasoning(_) if vendor == Vendor::Mistral => said.push(block),
            Content::Reasoning(_) => {}
            Content::Native(native) if &*native.key == details::KEY => {}
            Content::ToolCall(tool) => calls.push(call(block, tool, vendor, loss)),
            Content::Refusal(text) => {
                refusal.push_str(text);
                for native in &block.native {
                    loss.dropped(native.at.to_string(), "a refusal has no fields");
                }
            }
            Content::Media(_) if !vendor.is_openai() => images.push(media(block, vendor, loss)?),
            _ => said.push(block),
        }
    }
    let mut content = content(said.into_iter(), vendor, loss)?;
    if content == "" && !(calls.is_empty() && refusal.is_empty()) {
        content = Value::Null;
    }
    map.insert("content".into(), content);
    if vendor != Vendor::Mistral {
        reasoning(&mut map, message, vendor, loss);
    }
    if !refusal.is_empty() {
        map.insert("refusal".into(), refusal.into());
    }
    if !images.is_empty() {
        map.insert("images".into(), images.into());
    }
    if !calls.is_empty() {
        map.insert("tool_calls".into(), calls.into());
    }
    restore(&mut map, &message.at, &message.native, loss);
    Ok(Value::Object(map))
}

/// Reasoning: as details where one has a token, else as text; OpenAI takes neither.
fn reasoning(map: &mut Map<String, Value>, message: &Message, vendor: Vendor, loss: &mut LossReport) {
    let with_tokens = message.blocks.iter().any(|block| match &block.content {
        Content::Reasoning(_) => block.opaque.is_some() || !block.native.is_empty(),
        Content::Native(native) => native.dialect == DIALECT && &*native.key == details::KEY,
        _ => false,
    });
    let mut told = String::new();
    let mut list: Vec<Value> = Vec::new();
    for block in &message.blocks {
        let token = block.opaque.as_ref().map_or("", |token| &token.0);
        if let (Some(hint), Content::Reasoning(_) | Content::Refusal(_)) = (&block.cache, &block.content) {
            loss.dropped(hint.at.to_string(), "it can't stand there");
        }
        match &block.content {
            Content::Reasoning(_) if vendor.is_openai() && token.is_empty() && block.native.is_empty() => {
                loss.dropped(block.at.to_string(), "OpenAI's chat completions take no reasoning back");
            }
            Content::Reasoning(text) if with_tokens => {
                let mut entries = details::entries(text, token);
                if let Some(entry) = entries.first_mut() {
                    if block.native.iter().any(|native| native.json == "reasoning.summary") {
                        let text = entry.shift_remove("text");
                        entry.extend(text.map(|text| ("summary".to_owned(), text)));
                    }
                    restore(entry, &block.at, &block.native, loss);
                }
                list.extend(entries.into_iter().map(Value::Object));
            }
            Content::Reasoning(text) => told.push_str(text),
            // Not of this dialect: reported where the content is written.
            Content::Native(native) if &*native.key == details::KEY => {
                Native::settle([native], DIALECT, loss, |native| list.push(native.json.clone()));
            }
            _ => {}
        }
    }
    if !told.is_empty() {
        map.insert("reasoning_content".into(), told.into());
    }
    if !list.is_empty() {
        map.insert(details::KEY.into(), list.into());
    }
}

fn call(block: &Block, tool: &ToolCall, vendor: Vendor, loss: &mut LossReport) -> Value {
    let mut map = details::object(json!({"id": call_id(&tool.id, vendor)}));
    match tool.kind {
        ToolKind::Custom => {
            map.insert("type".into(), "custom".into());
            map.insert("custom".into(), json!({"name": tool.name, "input": tool.arguments}));
        }
        ToolKind::Function => {
            // Some providers read the arguments, and an empty text is no JSON.
            let arguments = if tool.arguments.trim().is_empty() {
                "{}"
            } else {
                &tool.arguments
            };
            map.insert("type".into(), "function".into());
            map.insert("function".into(), json!({"name": tool.name, "arguments": arguments}));
        }
    }
    if let Some(token) = &block.opaque {
        let google = json!({"google": {"thought_signature": token.0}});
        map.insert("extra_content".into(), google);
    }
    decode_parts::write_cache(&mut map, block.cache.as_ref(), vendor, loss);
    // Natives of `function_call`, the form before tools, have no place here: they are left out.
    if block.at.ends_with(".function_call") {
        for native in &block.native {
            loss.dropped(native.at.to_string(), "the form before tools had it");
        }
    } else {
        decode_parts::write_natives(&mut map, block, loss);
    }
    Value::Object(map)
}

/// Characters of Mistral's ids of calls, and how many there are in one ("must be a-z, A-Z, 0-9, with a length of 9").
const MISTRAL_ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const MISTRAL_LENGTH: usize = 9;

/// The id of a call as the provider takes it. Another form for Mistral: made of the id, so that call and result agree.
pub(super) fn call_id(id: &str, vendor: Vendor) -> String {
    let fits = id.len() == MISTRAL_LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if vendor != Vendor::Mistral || fits {
        return id.to_owned();
    }
    // FNV-1a, 64 bits.
    let mut hash = id.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut short = String::with_capacity(MISTRAL_LENGTH);
    for _ in 0..MISTRAL_LENGTH {
        let letters = MISTRAL_ALPHABET.len() as u64;
        short.push(char::from(MISTRAL_ALPHABET[(hash % letters) as usize]));
        hash /= letters;
    }
    short
}
