//! Requests written: instructions, contents and their parts.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::media::{is_own_file, mime_of_base64, mime_of_url, to_base64};
use super::request::settle;
use super::{DIALECT, thinking};
use crate::dialects::EncodeError;
use crate::ir::message::arguments_object;
use crate::ir::{
    Block, Content, LossReport, Media, MediaKind, MediaSource, Message, Request, Role, ToolCall, ToolResult,
};

/// What stands for a signature that is not there: the API lets a call with it pass (Google's "Thought signatures", on
/// histories that come from other models).
const NO_SIGNATURE: &str = "skip_thought_signature_validator";

/// A turn of the user's where there is none: contents must not be empty, nor the text of a part.
const NOTHING_SAID: &str = " ";

/// `systemInstruction`: all instructions, those within the conversation behind the others.
pub(super) fn system(request: &Request, loss: &mut LossReport) -> Result<Option<Value>, EncodeError> {
    let mut out = Map::new();
    let mut parts = Vec::new();
    let within = request.messages.iter().filter(|message| is_instruction(message));
    for message in request.system.iter().chain(within) {
        let mut own = Vec::new();
        for block in &message.blocks {
            part(block, &mut own, loss)?;
        }
        parts.append(&mut own);
        about(message, &mut out, loss);
    }
    for message in request.messages.iter().filter(|message| is_instruction(message)) {
        loss.approximated(
            message.at.to_string(),
            "instructions stand before the conversation there",
        );
    }
    if parts.is_empty() {
        return Ok(None);
    }
    out.insert("parts".into(), Value::Array(parts));
    Ok(Some(Value::Object(out)))
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

/// What is said of a message beside its blocks.
fn about(message: &Message, out: &mut Map<String, Value>, loss: &mut LossReport) {
    if message.name.is_some() {
        loss.dropped(format!("{}.name", message.at), "speakers have no names there");
    }
    settle(&message.native, out, loss);
}

/// A content being built.
struct Turn {
    model: bool,
    /// Results of functions: they come before whatever else the user says.
    results: Vec<(usize, Value)>,
    parts: Vec<Value>,
    /// A signature is still due on the first call of the turn.
    unsigned: bool,
    about: Map<String, Value>,
}

/// `contents`: neighbours of one role are one content; results follow the order of their calls.
pub(super) fn contents(request: &Request, model: &str, loss: &mut LossReport) -> Result<Value, EncodeError> {
    let insists = thinking::insists_on_signatures(model);
    let mut turns: Vec<Turn> = Vec::new();
    // Where a call stands among all, so that results can be put in order.
    let mut calls: HashMap<&str, usize> = HashMap::new();
    let mut seen = 0;
    for message in request.messages.iter().filter(|message| !is_instruction(message)) {
        let is_model = message.role == Role::Assistant;
        if turns.last().is_none_or(|turn| turn.model != is_model) {
            turns.push(Turn {
                model: is_model,
                results: Vec::new(),
                parts: Vec::new(),
                unsigned: insists,
                about: Map::new(),
            });
        }
        let Some(turn) = turns.last_mut() else { continue };
        about(message, &mut turn.about, loss);
        let mut signed_before = true;
        for block in &message.blocks {
            match &block.content {
                Content::ToolResult(result) => {
                    seen += 1;
                    let place = calls.get(result.call.as_str()).copied().unwrap_or(usize::MAX);
                    turn.results
                        .push((place, function_response(block, result, &mut turn.parts, loss)?));
                }
                Content::ToolCall(call) => {
                    seen += 1;
                    calls.insert(&call.id, seen);
                    turn.parts
                        .push(function_call(block, call, std::mem::take(&mut turn.unsigned), loss));
                }
                // A token without a text, which another dialect's client gave back apart from the text it belongs to.
                Content::Reasoning(text) if text.is_empty() && block.opaque.is_some() && !signed_before => {
                    let text = Block {
                        content: Content::Text(String::new()),
                        ..block.clone()
                    };
                    part(&text, &mut turn.parts, loss)?;
                }
                _ => part(block, &mut turn.parts, loss)?,
            }
            signed_before = !matches!(block.content, Content::Text(_)) || block.opaque.is_some();
        }
    }
    turns.retain(|turn| !turn.parts.is_empty() || !turn.results.is_empty());
    // Where nothing was said in between, neighbours are of one role again.
    turns.dedup_by(|next, turn| {
        let same = next.model == turn.model;
        if same {
            turn.results.append(&mut next.results);
            turn.parts.append(&mut next.parts);
            turn.about.append(&mut next.about);
        }
        same
    });
    if turns.is_empty() {
        loss.synthesized("contents", "a conversation must have a turn");
        return Ok(json!([{"role": "user", "parts": [{"text": NOTHING_SAID}]}]));
    }
    Ok(turns.into_iter().map(Turn::content).collect())
}

impl Turn {
    fn content(mut self) -> Value {
        self.results.sort_by_key(|(place, _)| *place);
        let results = self.results.into_iter().map(|(_, result)| result);
        let parts: Vec<Value> = results.chain(self.parts).collect();
        let mut out = Map::new();
        out.insert("role".into(), if self.model { "model" } else { "user" }.into());
        out.insert("parts".into(), Value::Array(parts));
        out.append(&mut self.about);
        Value::Object(out)
    }
}

/// What is said of a block beside its content.
fn finish(mut part: Map<String, Value>, block: &Block, loss: &mut LossReport) -> Value {
    if let Some(cache) = &block.cache {
        loss.dropped(cache.at.to_string(), "prompts are cached without being told");
    }
    if !block.citations.is_empty() {
        loss.dropped(block.at.to_string(), "texts of the history have no citations there");
    }
    if let Some(token) = &block.opaque {
        part.insert("thoughtSignature".into(), (*token.0).into());
    }
    settle(&block.native, &mut part, loss);
    Value::Object(part)
}

/// One block which is neither a call nor a result. Empty texts say nothing and are left out.
fn part(block: &Block, parts: &mut Vec<Value>, loss: &mut LossReport) -> Result<(), EncodeError> {
    let mut out = Map::new();
    match &block.content {
        Content::Text(text) | Content::Refusal(text) | Content::Reasoning(text) => {
            if text.is_empty() && block.opaque.is_none() && block.native.is_empty() {
                return Ok(());
            }
            out.insert("text".into(), text.as_str().into());
            if matches!(block.content, Content::Reasoning(_)) {
                out.insert("thought".into(), true.into());
            }
        }
        Content::Media(media) => media_part(media, block, &mut out, loss)?,
        Content::Native(native) if native.dialect == DIALECT => {
            parts.push(native.json.clone());
            return Ok(());
        }
        Content::Native(native) => {
            loss.dropped(native.at.to_string(), "a block of another dialect");
            return Ok(());
        }
        // Told by `contents`; instructions hold none.
        Content::ToolCall(_) | Content::ToolResult(_) => return Ok(()),
    }
    parts.push(finish(out, block, loss));
    Ok(())
}

/// `inlineData` or `fileData`.
fn media_part(
    media: &Media,
    block: &Block,
    out: &mut Map<String, Value>,
    loss: &mut LossReport,
) -> Result<(), EncodeError> {
    let at = || block.at.to_string();
    // Vertex AI has names for media, the Gemini API refuses them: what came with one of this dialect's goes with it.
    let name = media.name.as_deref().filter(|_| is_own(block));
    if media.name.is_some() && name.is_none() {
        loss.dropped(at(), "media have no names there");
    }
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        loss.dropped(at(), "how closely to look can't be said of one medium there");
    }
    let mut mime = media.mime.clone();
    match &media.source {
        MediaSource::Inline(data) => {
            let mime = mime.unwrap_or_else(|| {
                loss.synthesized(at(), "bytes must have a type");
                guess(media.kind, mime_of_base64(data)).to_owned()
            });
            out.insert("inlineData".into(), json!({"mimeType": mime, "data": data}));
        }
        MediaSource::Text(text) => {
            let mime = mime.unwrap_or_else(|| "text/plain".to_owned());
            out.insert(
                "inlineData".into(),
                json!({"mimeType": mime, "data": to_base64(text.as_bytes())}),
            );
        }
        MediaSource::Url(uri) | MediaSource::File(uri) => {
            if matches!(media.source, MediaSource::Url(_)) {
                mime = mime.or_else(|| mime_of_url(uri).map(str::to_owned));
            } else if !is_own_file(uri) {
                loss.approximated(at(), "file ids are bound to their provider");
            }
            let mut file = Map::new();
            if let Some(mime) = mime {
                file.insert("mimeType".into(), mime.into());
            }
            file.insert("fileUri".into(), uri.as_str().into());
            out.insert("fileData".into(), Value::Object(file));
        }
    }
    if let (Some(name), Some(Value::Object(datum))) = (name, out.values_mut().next()) {
        datum.insert("displayName".into(), name.into());
    }
    Ok(())
}

/// A type for bytes of which only the kind is known.
fn guess(kind: MediaKind, told: Option<&'static str>) -> &'static str {
    told.unwrap_or(match kind {
        MediaKind::Image => "image/png",
        MediaKind::Audio => "audio/wav",
        MediaKind::Video => "video/mp4",
        MediaKind::Document => "application/pdf",
    })
}

/// `functionCall`. `due`: a signature must stand on it.
fn function_call(block: &Block, call: &ToolCall, due: bool, loss: &mut LossReport) -> Value {
    let mut inner = Map::new();
    if is_google_id(&call.id) {
        inner.insert("id".into(), call.id.as_str().into());
    }
    inner.insert("name".into(), call.name.as_str().into());
    let arguments = arguments_object(&call.arguments).unwrap_or_else(|| {
        loss.approximated(block.at.to_string(), "arguments must be a JSON object");
        Map::from_iter([("raw_arguments".to_owned(), call.arguments.as_str().into())])
    });
    inner.insert("args".into(), Value::Object(arguments));
    let mut out = Map::new();
    out.insert("functionCall".into(), Value::Object(inner));
    if due && block.opaque.is_none() {
        loss.synthesized(block.at.to_string(), "a call must carry its thought signature");
        out.insert("thoughtSignature".into(), NO_SIGNATURE.into());
    }
    finish(out, block, loss)
}

/// True if a block was read from a request of this dialect: only here paths begin so.
fn is_own(block: &Block) -> bool {
    block.at.starts_with("contents[")
}

/// `functionResponse`; media of the result stand beside it, as all models take them, unless they came within one: then
/// the client knows that its model takes them there (Gemini 3 and newer).
fn function_response(
    block: &Block,
    result: &ToolResult,
    beside: &mut Vec<Value>,
    loss: &mut LossReport,
) -> Result<Value, EncodeError> {
    let mut inner = Map::new();
    if is_google_id(&result.call) {
        inner.insert("id".into(), result.call.as_str().into());
    }
    let name = result.name.as_deref().filter(|name| !name.is_empty());
    if name.is_none() {
        loss.synthesized(block.at.to_string(), "a result must name its function");
    }
    inner.insert("name".into(), name.unwrap_or("unknown").into());
    let (mut texts, mut within) = (Vec::new(), Vec::new());
    for block in &result.blocks {
        match &block.content {
            Content::Text(text) => {
                texts.push(text.as_str());
                // Cache hints and fields of the text, of which there is no part of its own.
                finish(Map::new(), block, loss);
            }
            _ if is_own(block) => part(block, &mut within, loss)?,
            _ => {
                loss.approximated(block.at.to_string(), "media stand beside the result there");
                part(block, beside, loss)?;
            }
        }
    }
    inner.insert(
        "response".into(),
        response(&texts.join("\n"), result.is_error == Some(true)),
    );
    if !within.is_empty() {
        inner.insert("parts".into(), Value::Array(within));
    }
    let mut out = Map::new();
    out.insert("functionResponse".into(), Value::Object(inner));
    Ok(finish(out, block, loss))
}

/// A result as the object it must be: the object it is, or a text under the key the reference gives.
fn response(text: &str, failed: bool) -> Value {
    if failed {
        return json!({ "error": text });
    }
    match serde_json::from_str(text) {
        Ok(object @ Value::Object(_)) => object,
        _ => json!({ "output": text }),
    }
}

/// Ids are optional, and Vertex AI refuses a request with any (in its `v1`; googleapis' issues until mid-2026). Results
/// name their function and stand in the order of their calls, so that ids add nothing. What Google's models made goes back
/// to them: who makes ids takes them. What other dialects and the hub make begins with a word of theirs.
fn is_google_id(id: &str) -> bool {
    const OTHERS: [&str; 7] = ["call_", "call-", "toolu_", "tooluse_", "chatcmpl-", "fc_", "functions."];
    !id.is_empty() && !OTHERS.iter().any(|begin| id.starts_with(begin))
}
