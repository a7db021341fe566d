//! The items of an answer's output, as far as they were told, and how each is written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use serde_json::{Value, json};

use crate::dialects::write::{json, raw};
use crate::ir::{Citation, Logprob, ToolKind};

/// One item.
pub(super) struct Item {
    /// Its id: made of ours of the request.
    pub(super) id: String,
    /// What it is.
    pub(super) kind: Kind,
    /// `in_progress` until it is done.
    pub(super) status: &'static str,
}

/// What an item is.
pub(super) enum Kind {
    /// What the model says.
    Message(Vec<Part>),
    /// What it thinks.
    Reasoning {
        /// In words; a part of the summary is begun with the first.
        summary: String,
        /// The provider-bound token.
        token: String,
    },
    /// A call of one of the client's tools.
    Call(Call),
    /// A picture.
    Image {
        /// Its type; may be empty.
        mime: String,
        /// Base64.
        data: String,
    },
    /// An item of this dialect which the hub does not know, as JSON.
    Native(String),
}

/// A part of a message.
#[derive(Default)]
pub(super) struct Part {
    /// The model refuses.
    pub(super) refusal: bool,
    /// Its text.
    pub(super) text: String,
    /// Annotations, each as JSON.
    pub(super) annotations: Vec<String>,
    /// Log probabilities of its tokens.
    pub(super) logprobs: Vec<Logprob>,
}

/// A call of a tool.
pub(super) struct Call {
    pub(super) kind: ToolKind,
    pub(super) call_id: String,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) arguments: String,
}

impl Kind {
    /// What ids of such items begin with.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Kind::Message(_) => "msg_",
            Kind::Reasoning { .. } => "rs_",
            Kind::Call(Call {
                kind: ToolKind::Function,
                ..
            }) => "fc_",
            Kind::Call(_) => "ctc_",
            Kind::Image { .. } => "ig_",
            Kind::Native(_) => "item_",
        }
    }
}

/// What a call is called in items and events.
pub(super) struct CallWords {
    /// The item's type.
    pub(super) kind: &'static str,
    /// The field of its arguments.
    pub(super) arguments: &'static str,
    /// The event of a piece of them.
    pub(super) delta: &'static str,
    /// The event of all of them.
    pub(super) done: &'static str,
}

impl Call {
    /// The words for its kind of tool.
    pub(super) fn words(&self) -> &'static CallWords {
        match self.kind {
            ToolKind::Function => &CallWords {
                kind: "function_call",
                arguments: "arguments",
                delta: "response.function_call_arguments.delta",
                done: "response.function_call_arguments.done",
            },
            ToolKind::Custom => &CallWords {
                kind: "custom_tool_call",
                arguments: "input",
                delta: "response.custom_tool_call_input.delta",
                done: "response.custom_tool_call_input.done",
            },
        }
    }
}

impl Item {
    /// Writes it as it stands.
    pub(super) fn write(&self, out: &mut BytesMut) {
        if let Kind::Native(native) = &self.kind {
            return raw(out, native);
        }
        raw(out, "{\"id\":");
        json(out, &self.id);
        match &self.kind {
            Kind::Message(parts) => {
                raw(out, ",\"type\":\"message\",\"role\":\"assistant\",\"content\":[");
                for (index, part) in parts.iter().enumerate() {
                    if index > 0 {
                        raw(out, ",");
                    }
                    part.write(out);
                }
                raw(out, "]");
            }
            Kind::Reasoning { summary, token } => {
                raw(out, ",\"type\":\"reasoning\",\"summary\":[");
                if !summary.is_empty() {
                    write_summary(out, summary);
                }
                raw(out, "]");
                if !token.is_empty() {
                    raw(out, ",\"encrypted_content\":");
                    json(out, token);
                }
                // The reference gives such items no status while they are answers.
                return raw(out, "}");
            }
            Kind::Call(call) => {
                let words = call.words();
                raw(out, ",\"type\":");
                json(out, words.kind);
                raw(out, ",\"call_id\":");
                json(out, &call.call_id);
                raw(out, ",\"name\":");
                json(out, &call.name);
                if !call.namespace.is_empty() {
                    raw(out, ",\"namespace\":");
                    json(out, &call.namespace);
                }
                raw(out, ",");
                json(out, words.arguments);
                raw(out, ":");
                json(out, &call.arguments);
            }
            Kind::Image { mime, data } => {
                raw(out, ",\"type\":\"image_generation_call\",\"result\":");
                if data.is_empty() {
                    raw(out, "null");
                } else {
                    json(out, data);
                }
                if let Some(format) = mime.strip_prefix("image/") {
                    raw(out, ",\"output_format\":");
                    json(out, format);
                }
            }
            Kind::Native(_) => {}
        }
        raw(out, ",\"status\":");
        json(out, self.status);
        raw(out, "}");
    }
}

/// A part of a reasoning's summary.
pub(super) fn write_summary(out: &mut BytesMut, text: &str) {
    raw(out, "{\"type\":\"summary_text\",\"text\":");
    json(out, text);
    raw(out, "}");
}

impl Part {
    /// Writes it as it stands.
    pub(super) fn write(&self, out: &mut BytesMut) {
        if self.refusal {
            raw(out, "{\"type\":\"refusal\",\"refusal\":");
            json(out, &self.text);
            return raw(out, "}");
        }
        raw(out, "{\"type\":\"output_text\",\"annotations\":[");
        for (index, annotation) in self.annotations.iter().enumerate() {
            if index > 0 {
                raw(out, ",");
            }
            raw(out, annotation);
        }
        raw(out, "],\"logprobs\":");
        write_logprobs(out, &self.logprobs);
        raw(out, ",\"text\":");
        json(out, &self.text);
        raw(out, "}");
    }
}

/// A list of log probabilities (`LogProb`); bytes which nobody told are those of the token.
pub(super) fn write_logprobs(out: &mut BytesMut, logprobs: &[Logprob]) {
    if logprobs.is_empty() {
        return raw(out, "[]");
    }
    json(out, &logprobs.iter().map(logprob).collect::<Vec<_>>());
}

fn logprob(logprob: &Logprob) -> Value {
    let one = |l: &Logprob| {
        let bytes = l.bytes.as_deref().unwrap_or(l.token.as_bytes());
        json!({"token": l.token, "logprob": l.logprob, "bytes": bytes})
    };
    let mut value = one(logprob);
    value["top_logprobs"] = logprob.top.iter().map(one).collect();
    value
}

/// A citation as an annotation of a text that has `length` characters so far; `None` where the source has no address.
pub(super) fn annotation(citation: &Citation<'_>, length: usize) -> Option<String> {
    if let Some(own) = own_annotation(&citation.json) {
        return Some(own.to_string());
    }
    if citation.url.is_empty() {
        return None;
    }
    // Who does not tell a place means what was just said.
    let (start, end) = citation.span.unwrap_or((length as u64, length as u64));
    let value = json!({
        "type": "url_citation",
        "start_index": start,
        "end_index": end,
        "url": citation.url,
        "title": citation.title,
    });
    Some(value.to_string())
}

/// The annotation that a citation was read from, if it is of this dialect. Chat's has the same type, and its fields one
/// level deeper.
pub(super) fn own_annotation(json: &str) -> Option<Value> {
    let value: Value = serde_json::from_str(json).ok()?;
    let own = match value["type"].as_str()? {
        "url_citation" => value["url"].is_string(),
        "file_citation" | "container_file_citation" | "file_path" => value["file_id"].is_string(),
        _ => false,
    };
    own.then_some(value)
}

/// Appends base64 to base64; each piece may be padded by itself.
pub(super) fn join(data: &mut String, piece: &str) {
    if !data.ends_with('=') {
        return data.push_str(piece);
    }
    if let (Ok(mut first), Ok(second)) = (STANDARD.decode(data.as_bytes()), STANDARD.decode(piece)) {
        first.extend_from_slice(&second);
        *data = STANDARD.encode(first);
    }
}

/// True for a type of output item that only this dialect has: server tools and the like (`OutputItem`).
pub(super) fn is_native(kind: &str) -> bool {
    kind.ends_with("_call")
        || kind.ends_with("_call_output")
        || matches!(
            kind,
            "mcp_list_tools"
                | "mcp_approval_request"
                | "mcp_approval_response"
                | "tool_search_output"
                | "additional_tools"
                | "compaction"
                | "program"
                | "program_output"
        )
}
