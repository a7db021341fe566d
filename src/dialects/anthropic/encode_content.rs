//! Requests, written: instructions and conversation.
//!
//! The API's rules (its reference, and the errors it gives): roles are user and assistant, and system on newer models;
//! neighbours of one role are one turn; results of tools come first in the turn after their calls; no message is empty;
//! the answer may continue a last message of the assistant's, which then must not end with white space. A conversation
//! may begin with the assistant (recorded traffic shows it answered).

use serde_json::{Map, Value};

use super::DIALECT;
use super::encode_blocks::{Writer, content, opening};
use super::encode_cache::CachePlan;
use super::models::Model;
use crate::dialects::codec::EncodeError;
use crate::ir::{Block, Content, LossReport, Message, Native, Request, Role};

/// Instructions and conversation.
pub(super) struct Conversation {
    /// The field `system`; `None`: there are no instructions.
    pub(super) system: Option<Value>,
    /// The field `messages`; never empty.
    pub(super) messages: Vec<Value>,
    /// Results of tools stand at its end, and the turn that called them does not begin with reasoning: manual thinking
    /// would be refused.
    pub(super) unreasoned_calls: bool,
}

#[derive(Default)]
struct Turn {
    role: &'static str,
    results: Vec<Value>,
    rest: Vec<Value>,
    native: Map<String, Value>,
}

/// Writes instructions and conversation.
pub(super) fn conversation(
    request: &Request,
    model: Option<Model>,
    caches: &CachePlan<'_>,
    loss: &mut LossReport,
) -> Result<Conversation, EncodeError> {
    let mut writer = Writer {
        caches,
        loss,
        assistant: false,
    };
    let (mut system, mut turns) = (Vec::new(), Vec::<Turn>::new());
    for message in &request.system {
        instructions(message, &mut system, &mut writer)?;
    }
    for (index, message) in request.messages.iter().enumerate() {
        let role = match message.role {
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::System | Role::Developer => {
                let after_user = matches!(turns.last(), Some(turn) if turn.role != "assistant");
                let next = request.messages[index + 1..].iter().map(|message| message.role);
                let before_answer = next
                    .into_iter()
                    .find(|role| !matches!(role, Role::System | Role::Developer))
                    .is_none_or(|role| role == Role::Assistant);
                if !model.is_some_and(Model::takes_system_messages) || !after_user || !before_answer {
                    writer.loss.approximated(
                        message.at.to_string(),
                        "instructions stand before the conversation there",
                    );
                    instructions(message, &mut system, &mut writer)?;
                    continue;
                }
                "system"
            }
        };
        writer.assistant = role == "assistant";
        turn(message, role, &mut turns, &mut writer)?;
        writer.assistant = false;
    }
    turns.retain(|turn| {
        !turn.results.is_empty() || !turn.rest.is_empty() || (turn.role == "system" && !turn.native.is_empty())
    });
    let mut turns = joined(turns);
    let at = request.messages.last().map_or("messages", |message| &*message.at);
    end_without_space(&mut turns, at, loss);
    let unreasoned_calls = unreasoned_calls(&turns);
    let mut messages: Vec<Value> = turns.into_iter().map(message).collect();
    if messages.is_empty() {
        loss.synthesized("messages", "there must be a message there");
        messages.push(opening());
    }
    let system = (!system.is_empty()).then(|| content(system));
    Ok(Conversation {
        system,
        messages,
        unreasoned_calls,
    })
}

/// Adds a message to the instructions before the conversation, which are texts only.
fn instructions(message: &Message, system: &mut Vec<Value>, writer: &mut Writer<'_, '_>) -> Result<(), EncodeError> {
    name(message, writer.loss);
    for native in &message.native {
        writer.loss.dropped(
            native.at.to_string(),
            "instructions before the conversation have no such field there",
        );
    }
    for block in &message.blocks {
        if matches!(block.content, Content::Media(_)) {
            return Err(EncodeError {
                path: block.at.to_string(),
                why: "instructions are text there",
            });
        }
        system.extend(writer.block(block)?);
    }
    Ok(())
}

fn name(message: &Message, loss: &mut LossReport) {
    if message.name.is_some() {
        loss.dropped(format!("{}.name", message.at), "speakers have no names there");
    }
}

fn turn(
    message: &Message,
    role: &'static str,
    turns: &mut Vec<Turn>,
    writer: &mut Writer<'_, '_>,
) -> Result<(), EncodeError> {
    name(message, writer.loss);
    let mut turn = Turn {
        role,
        ..Turn::default()
    };
    Native::settle(&message.native, DIALECT, writer.loss, |native| {
        turn.native.insert(native.key.to_string(), native.json.clone());
    });
    let is_result = |block: &&Block| matches!(block.content, Content::ToolResult(_));
    for block in message.blocks.iter().filter(is_result) {
        turn.results.extend(writer.block(block)?);
    }
    for block in message.blocks.iter().filter(|block| !is_result(block)) {
        turn.rest.extend(writer.block(block)?);
    }
    turns.push(turn);
    Ok(())
}

/// Neighbours of one role become one turn, unless one has fields of its own.
fn joined(turns: Vec<Turn>) -> Vec<Turn> {
    let mut joined: Vec<Turn> = Vec::with_capacity(turns.len());
    for turn in turns {
        match joined.last_mut() {
            Some(last) if last.role == turn.role && last.native.is_empty() && turn.native.is_empty() => {
                last.results.extend(turn.results);
                last.rest.extend(turn.rest);
            }
            _ => joined.push(turn),
        }
    }
    joined
}

fn message(turn: Turn) -> Value {
    let mut message = Map::new();
    message.insert("role".into(), turn.role.into());
    let mut blocks = turn.results;
    blocks.extend(turn.rest);
    if !blocks.is_empty() {
        message.insert("content".into(), content(blocks));
    }
    message.extend(turn.native);
    Value::Object(message)
}

/// A last message of the assistant's must not end with white space.
fn end_without_space(turns: &mut Vec<Turn>, at: &str, loss: &mut LossReport) {
    let Some(last) = turns.last_mut().filter(|turn| turn.role == "assistant") else {
        return;
    };
    while let Some(Value::String(text)) = last.rest.last_mut().and_then(|block| block.get_mut("text")) {
        let end = text.trim_end().len();
        if end < text.len() {
            text.truncate(end);
            loss.approximated(at.to_owned(), "a last message may not end with white space there");
        }
        if end > 0 {
            break;
        }
        last.rest.pop();
    }
    if last.rest.is_empty() && last.results.is_empty() {
        turns.pop();
    }
}

fn unreasoned_calls(turns: &[Turn]) -> bool {
    let mut back = turns.iter().rev().skip_while(|turn| turn.role == "system");
    let (Some(last), Some(before)) = (back.next(), back.find(|turn| turn.role != "system")) else {
        return false;
    };
    let kind = |block: &Value| block.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    !last.results.is_empty()
        && before.role == "assistant"
        && before.rest.iter().any(|block| kind(block) == "tool_use")
        && !before
            .rest
            .first()
            .is_some_and(|block| kind(block).ends_with("thinking"))
}
