//! The Response object: what it repeats of the request, and how it is written, in events and as the whole answer.

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::output::Item;
use crate::dialects::write::{json, raw};
use crate::ir::{FinishKind, FinishReason, Usage};

/// Marks the echo of a request of this dialect.
const OBJECT: &str = "response";

/// What a Response repeats of its request (`Response` in OpenAI's OpenAPI document), with what stands there if the
/// request did not say it. Not `background`: a converted answer is never made in one.
const REPEATED: [(&str, &str); 18] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("max_tool_calls", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("previous_response_id", "null"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    // Not the default of the request's field: nothing is kept here unless it was asked for.
    ("store", "false"),
    ("temperature", "1.0"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_logprobs", "0"),
    ("top_p", "1.0"),
    ("truncation", r#""disabled""#),
    // Never null: it is there or not.
    ("user", ""),
];

/// What answers repeat of a request, and its `include`, which its own encoder puts back.
pub(super) fn echo(request: &Map<String, Value>) -> Map<String, Value> {
    let mut echo = Map::new();
    echo.insert("object".into(), OBJECT.into());
    let names = REPEATED
        .iter()
        .map(|(name, _)| *name)
        .chain(["include", "service_tier"]);
    for name in names {
        if let Some(value) = request.get(name).filter(|value| !value.is_null()) {
            echo.insert(name.into(), value.clone());
        }
    }
    echo
}

/// True if a request with this echo was read from this dialect.
pub(super) fn is_own(echo: &Map<String, Value>) -> bool {
    echo.get("object").is_some_and(|object| object == OBJECT)
}

/// Who answers: what every form of one Response has in common.
pub(super) struct Head {
    /// The Response's id.
    pub(super) id: String,
    /// The model that answers.
    pub(super) model: String,
    /// Seconds since 1970.
    created: i64,
    /// The fields that repeat the request, as JSON: `"instructions":null,…`.
    repeated: String,
    /// How urgently it was served.
    pub(super) service_tier: String,
}

/// How a Response stands.
pub(super) struct State<'a> {
    /// `in_progress`, `completed`, `incomplete`, `failed`.
    pub(super) status: &'static str,
    /// Why it is incomplete.
    pub(super) incomplete: Option<&'static str>,
    /// The error's code and message.
    pub(super) error: Option<(&'a str, &'a str)>,
    /// What it says so far.
    pub(super) items: &'a [Item],
    /// What it cost.
    pub(super) usage: Option<Usage>,
}

impl Head {
    /// For a request with that echo.
    pub(super) fn new(id: String, model: String, created: i64, echo: &Map<String, Value>) -> Self {
        let mut repeated = String::new();
        for (name, unsaid) in REPEATED {
            let said = echo.get(name).map(|value| completed(name, value).to_string());
            let value = said.as_deref().unwrap_or(unsaid);
            if value.is_empty() {
                continue;
            }
            if !repeated.is_empty() {
                repeated.push(',');
            }
            repeated.push_str(&format!("\"{name}\":{value}"));
        }
        let tier = echo.get("service_tier").and_then(Value::as_str);
        Head {
            id,
            model,
            created,
            repeated,
            // `auto` is a wish; what is told is a tier.
            service_tier: tier.filter(|tier| *tier != "auto").unwrap_or("default").to_owned(),
        }
    }

    /// Writes the object.
    pub(super) fn write(&self, out: &mut BytesMut, state: &State<'_>) {
        raw(out, "{\"id\":");
        json(out, &self.id);
        raw(out, ",\"object\":\"response\",\"created_at\":");
        json(out, &self.created);
        raw(out, ",\"status\":");
        json(out, state.status);
        raw(out, ",\"background\":false,\"completed_at\":null,\"error\":");
        match state.error {
            None => raw(out, "null"),
            Some((code, message)) => {
                raw(out, "{\"code\":");
                json(out, code);
                raw(out, ",\"message\":");
                json(out, message);
                raw(out, "}");
            }
        }
        raw(out, ",\"incomplete_details\":");
        match state.incomplete {
            None => raw(out, "null"),
            Some(reason) => {
                raw(out, "{\"reason\":");
                json(out, reason);
                raw(out, "}");
            }
        }
        raw(out, ",\"model\":");
        json(out, &self.model);
        raw(out, ",\"output\":[");
        for (index, item) in state.items.iter().enumerate() {
            if index > 0 {
                raw(out, ",");
            }
            item.write(out);
        }
        raw(out, "],\"service_tier\":");
        json(out, &self.service_tier);
        raw(out, ",\"usage\":");
        write_usage(out, state.usage);
        raw(out, ",");
        raw(out, &self.repeated);
        raw(out, "}");
    }
}

/// What the request said, with what the object must have beside it.
fn completed(name: &str, value: &Value) -> Value {
    let mut value = value.clone();
    let mut default = |field: &str, unsaid: Value| {
        if let Value::Object(map) = &mut value {
            map.entry(field).or_insert(unsaid);
        }
    };
    match name {
        "reasoning" => {
            default("effort", Value::Null);
            default("summary", Value::Null);
        }
        "text" => default("format", json!({"type": "text"})),
        "tools" => {
            for tool in value.as_array_mut().into_iter().flatten() {
                if let (true, Value::Object(tool)) = (tool["type"] == "function", tool) {
                    for (field, unsaid) in [
                        ("description", Value::Null),
                        ("parameters", Value::Null),
                        ("strict", true.into()),
                    ] {
                        tool.entry(field).or_insert(unsaid);
                    }
                }
            }
        }
        _ => {}
    }
    value
}

/// `ResponseUsage`: totals which include their parts. Audio is told only where there is any: the reference has no field
/// for it, some providers do.
fn write_usage(out: &mut BytesMut, usage: Option<Usage>) {
    let Some(usage) = usage else {
        return raw(out, "null");
    };
    let (input, output) = (usage.input_total(), usage.output_total());
    let audio = |out: &mut BytesMut, tokens: u64| {
        if tokens > 0 {
            raw(out, ",\"audio_tokens\":");
            json(out, &tokens);
        }
    };
    raw(out, "{\"input_tokens\":");
    json(out, &input);
    raw(out, ",\"input_tokens_details\":{\"cached_tokens\":");
    json(out, &usage.cache_read_told());
    raw(out, ",\"cache_write_tokens\":");
    json(out, &usage.cache_write_5m.saturating_add(usage.cache_write_1h));
    audio(out, usage.input_audio);
    raw(out, "},\"output_tokens\":");
    json(out, &output);
    raw(out, ",\"output_tokens_details\":{\"reasoning_tokens\":");
    json(out, &usage.reasoning_told());
    audio(out, usage.output_audio);
    raw(out, "},\"total_tokens\":");
    json(out, &input.saturating_add(output));
    raw(out, "}");
}

/// The status that says how an answer ended, and the reason where it is incomplete.
pub(super) fn status(finish: Option<&FinishReason>) -> (&'static str, Option<&'static str>) {
    match finish.map(|reason| reason.kind) {
        Some(FinishKind::Length) => ("incomplete", Some("max_output_tokens")),
        Some(FinishKind::ContentFilter) => ("incomplete", Some("content_filter")),
        _ => ("completed", None),
    }
}
