//! What whole answers and streams have in common when they are written: words, usage, sources, probabilities. Decided
//! here, so that both mean the same.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::DIALECT;
use crate::dialects::Answering;
use crate::ir::{Citation, FinishKind, FinishReason, Logprob, LossReport, Native, Usage};

/// Fields of an answer which only this dialect knows and clients may look for; the first two stand in every chunk.
pub(super) const FIELDS: [&str; 4] = ["service_tier", "system_fingerprint", "citations", "search_results"];
/// How many of [`FIELDS`] stand in every chunk.
pub(super) const IN_EVERY_CHUNK: usize = 2;

/// The answer's id.
pub(super) fn id(told: &str, to: &Answering) -> String {
    match told {
        "" => format!("chatcmpl-{}", to.request_id),
        told => told.to_owned(),
    }
}

/// The model that answers.
pub(super) fn model<'m>(told: &'m str, to: &'m Answering) -> &'m str {
    if told.is_empty() { &to.model } else { told }
}

/// The `finish_reason` (OpenAI's reference). An answer with calls of tools which just stopped wants them to be called.
pub(super) fn finish_word(reason: Option<&FinishReason>, has_calls: bool, loss: &mut LossReport) -> &'static str {
    let stop = if has_calls { "tool_calls" } else { "stop" };
    let Some(reason) = reason else {
        loss.synthesized("finish_reason", "the provider told none");
        return stop;
    };
    match reason.kind {
        FinishKind::Stop => stop,
        FinishKind::Length => "length",
        FinishKind::ToolCalls => "tool_calls",
        FinishKind::ContentFilter => "content_filter",
        FinishKind::Pause | FinishKind::Other | FinishKind::Error => {
            loss.approximated("finish_reason", "there is no such reason here");
            stop
        }
    }
}

/// The `usage` object. Written without a tree in between: every answer has one.
#[derive(Serialize)]
pub(super) struct UsageBody {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_write_tokens: Option<u64>,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

/// The `usage` object.
pub(super) fn usage(usage: &Usage) -> UsageBody {
    let (input, output) = (usage.input_total(), usage.output_total());
    let written = usage.cache_write_5m.saturating_add(usage.cache_write_1h);
    UsageBody {
        prompt_tokens: input,
        completion_tokens: output,
        total_tokens: input.saturating_add(output),
        prompt_tokens_details: PromptDetails {
            cached_tokens: usage.cache_read_told(),
            audio_tokens: usage.input_audio,
            cache_write_tokens: (written > 0).then_some(written),
        },
        completion_tokens_details: CompletionDetails {
            reasoning_tokens: usage.reasoning_told(),
            audio_tokens: usage.output_audio,
            accepted_prediction_tokens: 0,
            rejected_prediction_tokens: 0,
        },
    }
}

/// A source as an annotation. `from` and `to`: the block's characters within the message. `None`: it has no address.
pub(super) fn annotation(citation: &Citation<'_>, from: u64, to: u64, loss: &mut LossReport) -> Option<Value> {
    if citation.url.is_empty() {
        loss.dropped("citations", "only addresses can be cited here");
        return None;
    }
    let (start, end) = match citation.span {
        Some((start, end)) => (from.saturating_add(start), from.saturating_add(end)),
        None => (from, to),
    };
    let mut url_citation = json!({
        "start_index": start,
        "end_index": end,
        "url": citation.url,
        "title": citation.title,
    });
    if !citation.text.is_empty() {
        url_citation["content"] = citation.text.as_ref().into();
    }
    Some(json!({"type": "url_citation", "url_citation": url_citation}))
}

/// Log probabilities of tokens.
pub(super) fn logprobs(tokens: &[Logprob]) -> Value {
    let one = |token: &Logprob| json!({"token": token.token, "logprob": token.logprob, "bytes": token.bytes});
    let with_top = |token: &Logprob| {
        let mut value = one(token);
        value["top_logprobs"] = token.top.iter().map(one).collect();
        value
    };
    tokens.iter().map(with_top).collect()
}

/// The answer's own fields, by their place in [`FIELDS`]; those of other dialects are reported.
pub(super) fn fields(natives: &[Native], loss: &mut LossReport) -> Map<String, Value> {
    let mut map = Map::new();
    Native::settle(natives, DIALECT, loss, |native| {
        if FIELDS.contains(&&*native.key) {
            map.insert(native.key.to_string(), native.json.clone());
        }
    });
    map
}

/// The id of sound in an answer, and until when it may be referred to: never, as we keep none.
pub(super) fn audio_id(to: &Answering) -> String {
    format!("audio_{}", to.request_id)
}
