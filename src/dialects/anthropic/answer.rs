//! What a whole answer and a stream must decide alike: how it ended, what it cost, which blocks are this dialect's own.

use serde_json::{Map, Value, json};

use super::finish_kind;
use crate::dialects::Answering;
use crate::ir::{FinishKind, FinishReason, LossReport, Usage};

/// This dialect's stop reasons (Anthropic's page on handling them).
const STOP_REASONS: [&str; 8] = [
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
    "compaction",
];

/// What an answer held that bears on how it ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Held {
    /// Calls of the client's tools.
    pub(super) calls: bool,
    /// A refusal, which is text here.
    pub(super) refusal: bool,
}

/// The `stop_reason`. Clients look at it, and not for the blocks, to know that tools are to be called.
pub(super) fn stop_reason(reason: Option<&FinishReason>, held: Held, loss: &mut LossReport) -> &'static str {
    let end = if held.refusal {
        "refusal"
    } else if held.calls {
        "tool_use"
    } else {
        "end_turn"
    };
    let Some(reason) = reason else { return end };
    let own = STOP_REASONS.into_iter().find(|word| *word == &*reason.raw);
    if let Some(own) = own.filter(|own| finish_kind(own) == reason.kind) {
        return own;
    }
    match reason.kind {
        FinishKind::Stop if reason.sequence.is_some() && end == "end_turn" => "stop_sequence",
        FinishKind::Stop | FinishKind::ToolCalls => end,
        FinishKind::Length => "max_tokens",
        FinishKind::ContentFilter => "refusal",
        FinishKind::Pause => "pause_turn",
        FinishKind::Other | FinishKind::Error => {
            loss.approximated("stop_reason", "there is no such word there");
            end
        }
    }
}

/// The `stop_sequence`.
pub(super) fn stop_sequence(reason: Option<&FinishReason>, stop_reason: &str) -> Value {
    let sequence = reason.and_then(|reason| reason.sequence.as_deref());
    sequence
        .filter(|_| stop_reason == "stop_sequence")
        .map_or(Value::Null, Value::from)
}

/// The `usage`: `input_tokens` counts neither reads nor writes of the cache, `output_tokens` counts reasoning.
pub(super) fn usage(usage: Usage) -> Map<String, Value> {
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    let mut node = Map::new();
    node.insert(
        "input_tokens".into(),
        usage.input.saturating_add(usage.input_audio).into(),
    );
    node.insert("cache_creation_input_tokens".into(), written.into());
    node.insert("cache_read_input_tokens".into(), usage.cache_read.into());
    if usage.cache_write_1h > 0 {
        let lifetimes = json!({
            "ephemeral_5m_input_tokens": usage.cache_write_5m,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        });
        node.insert("cache_creation".into(), lifetimes);
    }
    node.insert("output_tokens".into(), usage.output_total().into());
    if usage.reasoning > 0 {
        node.insert(
            "output_tokens_details".into(),
            json!({"thinking_tokens": usage.reasoning}),
        );
    }
    node
}

/// The answer's id: the provider's, else one made of ours.
pub(super) fn id(told: &str, to: &Answering) -> String {
    if told.is_empty() {
        format!("msg_{}", to.request_id)
    } else {
        told.to_owned()
    }
}

/// The answer's model: as the client named it, since clients take signed reasoning for another model's where the answer names one they did
/// not ask for, and drop it (Claude Code); else as the provider names it.
pub(super) fn model<'a>(told: &'a str, to: &'a Answering) -> &'a str {
    match (to.asked_model.as_str(), told) {
        ("", "") => &to.model,
        ("", told) => told,
        (asked, _) => asked,
    }
}

/// A field of the answer that only this dialect knows, by its path.
pub(super) fn is_own_field(key: &str) -> bool {
    key.starts_with("usage.") || matches!(key, "container" | "stop_details" | "context_management" | "diagnostics")
}

/// A block that only this dialect knows. Streams do not say whose a native block is: it is known by its form.
pub(super) fn own_block(json: &Value) -> Option<&Map<String, Value>> {
    let block = json.as_object()?;
    let kind = block.get("type")?.as_str()?;
    let has = |key: &str| block.contains_key(key);
    let own = match kind {
        "server_tool_use" | "mcp_tool_use" => has("input"),
        "container_upload" => has("file_id"),
        "compaction" => has("content"),
        "fallback" | "mcp_tool_listing" | "tool_addition" | "tool_removal" => true,
        kind => kind.ends_with("_tool_result") && has("tool_use_id"),
    };
    own.then_some(block)
}
