//! Streams, written event by event: `message_start`, then blocks one after another, `message_delta`, `message_stop`
//! (Anthropic's page on streaming).

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::answer::{self, Held};
use super::{cite, error, token};
use crate::dialects::*;
use crate::ir::{ApiError, BlockHead, Delta, FinishReason, LossReport, MediaKind, StreamEvent, Usage};

/// The block that is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Open {
    /// None.
    #[default]
    Nothing,
    /// One of which nothing was said yet: it begins on the wire with its first piece, since the API refuses empty texts
    /// when they are returned, and only then it is known which kind of reasoning it is.
    Text,
    /// Like it.
    Reasoning,
    /// A text, begun.
    TextBegun,
    /// Reasoning with text, begun.
    ThinkingBegun,
    /// A call, or a native block, begun.
    InputBegun,
    /// One that can't be said.
    Left,
}

/// Writes one stream.
pub(super) struct Encoder {
    to: Answering,
    started: bool,
    index: u32,
    open: Open,
    /// The token of the open block.
    token: String,
    held: Held,
    usage: Option<Usage>,
    reason: Option<FinishReason>,
    natives: Vec<(&'static str, Value)>,
}

impl Encoder {
    pub(super) fn new(to: Answering) -> Self {
        Encoder {
            to,
            started: false,
            index: 0,
            open: Open::Nothing,
            token: String::new(),
            held: Held::default(),
            usage: None,
            reason: None,
            natives: Vec::new(),
        }
    }

    /// `message_start`, once.
    fn start(&mut self, id: &str, model: &str, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let usage = answer::usage(self.usage.unwrap_or_default());
        frame(
            "message_start",
            &json!({"type": "message_start", "message": {
                "id": answer::id(id, &self.to),
                "type": "message",
                "role": "assistant",
                "model": answer::model(model, &self.to),
                "content": [],
                "stop_reason": null,
                "stop_sequence": null,
                "usage": usage,
            }}),
            out,
        );
    }

    fn begin(&mut self, block: &Value, open: Open, out: &mut BytesMut) {
        let event = json!({"type": "content_block_start", "index": self.index, "content_block": block});
        frame("content_block_start", &event, out);
        self.open = open;
    }

    fn end(&mut self, out: &mut BytesMut) {
        write::named(out, "content_block_stop");
        write::raw(out, "{\"type\":\"content_block_stop\",\"index\":");
        write::json(out, &self.index);
        write::raw(out, "}");
        write::end(out);
        self.index = self.index.saturating_add(1);
        self.open = Open::Nothing;
    }

    /// A piece of text in the delta of that type and field.
    fn piece(&self, kind: &str, field: &str, text: &str, out: &mut BytesMut) {
        write::named(out, "content_block_delta");
        write::raw(out, "{\"type\":\"content_block_delta\",\"index\":");
        write::json(out, &self.index);
        write::raw(out, ",\"delta\":{\"type\":\"");
        write::raw(out, kind);
        write::raw(out, "\",\"");
        write::raw(out, field);
        write::raw(out, "\":");
        write::json(out, text);
        write::raw(out, "}}");
        write::end(out);
    }

    /// A block that is known whole.
    fn whole(&mut self, block: &Value, out: &mut BytesMut) {
        self.begin(block, Open::Left, out);
        self.end(out);
    }

    fn block(&mut self, head: BlockHead<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        self.token.clear();
        match head {
            BlockHead::Text => self.open = Open::Text,
            BlockHead::Refusal => {
                self.held.refusal = true;
                self.open = Open::Text;
            }
            BlockHead::Reasoning => self.open = Open::Reasoning,
            BlockHead::ToolCall { id, name, opaque, .. } => {
                self.held.calls = true;
                self.token.push_str(&opaque);
                let block = json!({"type": "tool_use", "id": id, "name": name, "input": {}});
                self.begin(&block, Open::InputBegun, out);
            }
            BlockHead::Media { kind, .. } => {
                let at = format!("content[{}]", self.index);
                let why = "answers hold text there";
                if kind == MediaKind::Audio {
                    loss.approximated(at, why);
                    self.open = Open::Text;
                } else {
                    loss.dropped(at, why);
                    self.open = Open::Left;
                }
            }
            BlockHead::Native { json, .. } => self.native(&json, out, loss),
        }
    }

    /// A native block: what a tool of the provider's is given comes in pieces on this wire too.
    fn native(&mut self, json: &str, out: &mut BytesMut, loss: &mut LossReport) {
        let json: Value = serde_json::from_str(json).unwrap_or_default();
        let Some(block) = answer::own_block(&json) else {
            loss.dropped(
                format!("content[{}]", self.index),
                "the client's dialect has no such block",
            );
            self.open = Open::Left;
            return;
        };
        let mut block = block.clone();
        let input = block
            .get_mut("input")
            .map(|input| std::mem::replace(input, Value::Object(Map::new())));
        self.begin(&Value::Object(block), Open::InputBegun, out);
        if let Some(input) = input.filter(|input| input.as_object().is_none_or(|input| !input.is_empty())) {
            self.piece("input_json_delta", "partial_json", &input.to_string(), out);
        }
    }

    fn delta(&mut self, delta: Delta<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        match (delta, self.open) {
            (Delta::Text(text), _) if text.is_empty() => {}
            (Delta::Text(text), Open::Text | Open::TextBegun) => {
                self.begin_text(out);
                self.piece("text_delta", "text", &text, out);
            }
            (Delta::Text(text), Open::Reasoning | Open::ThinkingBegun) => {
                if self.open == Open::Reasoning {
                    let block = json!({"type": "thinking", "thinking": "", "signature": ""});
                    self.begin(&block, Open::ThinkingBegun, out);
                }
                self.piece("thinking_delta", "thinking", &text, out);
            }
            (Delta::Arguments(text), Open::InputBegun) => self.piece("input_json_delta", "partial_json", &text, out),
            (Delta::Opaque(token), _) => self.token.push_str(&token),
            (Delta::Citation(citation), Open::Text | Open::TextBegun) => match cite::answer(&citation) {
                Some(citation) => {
                    self.begin_text(out);
                    let delta = json!({"type": "citations_delta", "citation": citation});
                    let event = json!({"type": "content_block_delta", "index": self.index, "delta": delta});
                    frame("content_block_delta", &event, out);
                }
                None => loss.dropped(
                    format!("content[{}].citations", self.index),
                    "citations have an address there",
                ),
            },
            (Delta::Logprobs(_), _) => {
                loss.dropped(
                    format!("content[{}].logprobs", self.index),
                    "there are no log probabilities there",
                );
            }
            (Delta::Native(json), _) if !json.is_empty() => {
                let at = format!("content[{}]", self.index);
                loss.dropped(at, "fields of a block can't follow it there");
            }
            // Bytes of media are reported with their block.
            _ => {}
        }
    }

    fn begin_text(&mut self, out: &mut BytesMut) {
        if self.open == Open::Text {
            self.begin(&json!({"type": "text", "text": ""}), Open::TextBegun, out);
        }
    }

    fn stop(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        let token = std::mem::take(&mut self.token);
        match self.open {
            Open::Nothing => return,
            Open::ThinkingBegun => {
                if !token.is_empty() {
                    let signature = token.strip_prefix(token::UNSEEN).unwrap_or(&token);
                    self.piece("signature_delta", "signature", signature, out);
                }
                self.end(out);
                return;
            }
            Open::Text | Open::TextBegun | Open::InputBegun | Open::Left => {
                if !token.is_empty() {
                    loss.dropped(format!("content[{}]", self.index), token::ONLY_REASONING);
                }
                if matches!(self.open, Open::TextBegun | Open::InputBegun) {
                    self.end(out);
                }
                self.open = Open::Nothing;
                return;
            }
            Open::Reasoning => self.open = Open::Nothing,
        }
        // A token without a text: redacted, or withheld.
        match token::block("", &token) {
            Some(block) if block["type"] == "thinking" => {
                let signature = block["signature"].as_str().unwrap_or("");
                let empty = json!({"type": "thinking", "thinking": "", "signature": ""});
                self.begin(&empty, Open::ThinkingBegun, out);
                self.piece("signature_delta", "signature", signature, out);
                self.end(out);
            }
            Some(block) => self.whole(&block, out),
            None => {}
        }
    }
}

fn frame(name: &str, event: &Value, out: &mut BytesMut) {
    write::named(out, name);
    write::json(out, event);
    write::end(out);
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: StreamEvent<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        match event {
            StreamEvent::Start { id, model } => self.start(&id, &model, out),
            StreamEvent::BlockStart { block, index } if index.candidate == 0 => {
                self.start("", "", out);
                self.stop(out, loss);
                self.block(block, out, loss);
            }
            StreamEvent::Delta { delta, index } if index.candidate == 0 => self.delta(delta, out, loss),
            StreamEvent::BlockStop { index } if index.candidate == 0 => self.stop(out, loss),
            StreamEvent::Usage(usage) => self.usage = Some(usage),
            StreamEvent::Finish { candidate: 0, reason } => self.reason = Some(reason),
            StreamEvent::Ping => {
                self.start("", "", out);
                write::raw(out, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
            }
            StreamEvent::Native { key, json } => {
                if answer::is_own_field(key) {
                    self.natives.retain(|(other, _)| *other != key);
                    self.natives
                        .push((key, serde_json::from_str(&json).unwrap_or_default()));
                } else {
                    loss.dropped(key, "the client's dialect has no such field");
                }
            }
            // Those of other candidates; errors never come.
            StreamEvent::BlockStart { index, .. } => {
                loss.dropped(format!("candidates[{}]", index.candidate), "there is one answer there");
            }
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        self.start("", "", out);
        self.stop(out, loss);
        let reason = self.reason.as_ref();
        let stop_reason = answer::stop_reason(reason, self.held, loss);
        let mut usage = answer::usage(self.usage.unwrap_or_default());
        let mut delta = Map::new();
        delta.insert("stop_reason".into(), stop_reason.into());
        delta.insert("stop_sequence".into(), answer::stop_sequence(reason, stop_reason));
        let mut event = Map::new();
        event.insert("type".into(), "message_delta".into());
        for (key, json) in std::mem::take(&mut self.natives) {
            let (node, key) = match key.strip_prefix("usage.") {
                Some(key) => (&mut usage, key),
                None if matches!(key, "container" | "stop_details") => (&mut delta, key),
                None => (&mut event, key),
            };
            node.insert(key.to_owned(), json);
        }
        event.insert("delta".into(), delta.into());
        event.insert("usage".into(), usage.into());
        frame("message_delta", &Value::Object(event), out);
        write::raw(out, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    }

    fn fail(&mut self, error: &ApiError, out: &mut BytesMut) {
        frame("error", &error::body(error, &self.to.request_id), out);
    }
}
