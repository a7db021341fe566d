//! The events of a stream, each a complete frame, numbered from 0 (`ResponseStreamEvent` in OpenAI's OpenAPI document).

use bytes::BytesMut;

use super::output::{self, Item, Kind, Part};
use crate::dialects::write::{end, json, named, raw};
use crate::ir::ToolKind;

/// Writes events, or, for an answer which is asked for whole, none.
#[derive(Default)]
pub(super) struct Events {
    sequence: u64,
    quiet: bool,
}

impl Events {
    /// Writes them unless `quiet`.
    pub(super) fn new(quiet: bool) -> Self {
        Events { sequence: 0, quiet }
    }

    /// One event; `fields` writes what follows its type and number, each with a comma before it.
    pub(super) fn tell(&mut self, out: &mut BytesMut, name: &str, fields: impl FnOnce(&mut BytesMut)) {
        if self.quiet {
            return;
        }
        named(out, name);
        raw(out, "{\"type\":\"");
        raw(out, name);
        raw(out, "\",\"sequence_number\":");
        json(out, &self.sequence);
        fields(out);
        raw(out, "}");
        end(out);
        self.sequence += 1;
    }

    /// An item begins or is done.
    pub(super) fn item(&mut self, out: &mut BytesMut, name: &str, item: &Item, place: usize) {
        self.tell(out, name, |out| {
            raw(out, ",\"output_index\":");
            json(out, &place);
            raw(out, ",\"item\":");
            item.write(out);
        });
    }

    /// A part of a message begins or is done.
    pub(super) fn part(&mut self, out: &mut BytesMut, name: &str, item: &Item, place: usize, part: usize) {
        let Some(content) = content(item, part) else { return };
        self.tell(out, name, |out| {
            at_part(out, &item.id, place, part);
            raw(out, ",\"part\":");
            content.write(out);
        });
    }

    /// A piece of a message's text, or of its refusal.
    pub(super) fn text_delta(&mut self, out: &mut BytesMut, item: &Item, place: usize, part: usize, text: &str) {
        let refusal = content(item, part).is_some_and(|part| part.refusal);
        let name = if refusal {
            "response.refusal.delta"
        } else {
            "response.output_text.delta"
        };
        self.tell(out, name, |out| {
            at_part(out, &item.id, place, part);
            raw(out, ",\"delta\":");
            json(out, text);
            if !refusal {
                raw(out, ",\"logprobs\":[]");
            }
        });
    }

    /// The newest log probabilities of a part, which come beside the text they are of.
    pub(super) fn logprobs_delta(&mut self, out: &mut BytesMut, item: &Item, place: usize, part: usize, newest: usize) {
        let logprobs = content(item, part).map_or(&[][..], |part| &part.logprobs);
        self.tell(out, "response.output_text.delta", |out| {
            at_part(out, &item.id, place, part);
            raw(out, ",\"delta\":\"\",\"logprobs\":");
            output::write_logprobs(out, &logprobs[logprobs.len().saturating_sub(newest)..]);
        });
    }

    /// The newest annotation of a part.
    pub(super) fn annotation(&mut self, out: &mut BytesMut, item: &Item, place: usize, part: usize) {
        let annotations = content(item, part).map_or(&[][..], |part| &part.annotations);
        let Some(newest) = annotations.last() else { return };
        self.tell(out, "response.output_text.annotation.added", |out| {
            at_part(out, &item.id, place, part);
            raw(out, ",\"annotation_index\":");
            json(out, &(annotations.len() - 1));
            raw(out, ",\"annotation\":");
            raw(out, newest);
        });
    }

    /// A piece of reasoning; with the first, the summary's one part begins.
    pub(super) fn summary_delta(&mut self, out: &mut BytesMut, item: &Item, place: usize, text: &str, first: bool) {
        if first {
            self.tell(out, "response.reasoning_summary_part.added", |out| {
                at_summary(out, item, place);
                raw(out, ",\"part\":");
                output::write_summary(out, "");
            });
        }
        self.tell(out, "response.reasoning_summary_text.delta", |out| {
            at_summary(out, item, place);
            raw(out, ",\"delta\":");
            json(out, text);
        });
    }

    /// A piece of a call's arguments.
    pub(super) fn arguments_delta(&mut self, out: &mut BytesMut, item: &Item, place: usize, piece: &str) {
        let Kind::Call(call) = &item.kind else { return };
        self.tell(out, call.words().delta, |out| {
            at_item(out, item, place);
            raw(out, ",\"delta\":");
            json(out, piece);
        });
    }

    /// What ends a block, before its item is done.
    pub(super) fn block_done(&mut self, out: &mut BytesMut, item: &Item, place: usize, part: usize) {
        match &item.kind {
            Kind::Message(parts) => {
                let Some(content) = parts.get(part) else { return };
                let (name, field) = if content.refusal {
                    ("response.refusal.done", "refusal")
                } else {
                    ("response.output_text.done", "text")
                };
                self.tell(out, name, |out| {
                    at_part(out, &item.id, place, part);
                    raw(out, ",");
                    json(out, field);
                    raw(out, ":");
                    json(out, &content.text);
                    if !content.refusal {
                        raw(out, ",\"logprobs\":");
                        output::write_logprobs(out, &content.logprobs);
                    }
                });
                self.part(out, "response.content_part.done", item, place, part);
            }
            Kind::Reasoning { summary, .. } if !summary.is_empty() => {
                self.tell(out, "response.reasoning_summary_text.done", |out| {
                    at_summary(out, item, place);
                    raw(out, ",\"text\":");
                    json(out, summary);
                });
                self.tell(out, "response.reasoning_summary_part.done", |out| {
                    at_summary(out, item, place);
                    raw(out, ",\"part\":");
                    output::write_summary(out, summary);
                });
            }
            Kind::Call(call) => {
                let words = call.words();
                self.tell(out, words.done, |out| {
                    at_item(out, item, place);
                    if call.kind == ToolKind::Function {
                        raw(out, ",\"name\":");
                        json(out, &call.name);
                    }
                    raw(out, ",");
                    json(out, words.arguments);
                    raw(out, ":");
                    json(out, &call.arguments);
                });
            }
            Kind::Image { .. } => {
                let name = "response.image_generation_call.completed";
                self.tell(out, name, |out| at_item(out, item, place));
            }
            Kind::Reasoning { .. } | Kind::Native(_) => {}
        }
    }
}

fn content(item: &Item, part: usize) -> Option<&Part> {
    match &item.kind {
        Kind::Message(parts) => parts.get(part),
        _ => None,
    }
}

/// Which item an event is about.
pub(super) fn at_item(out: &mut BytesMut, item: &Item, place: usize) {
    at(out, &item.id, place);
}

fn at(out: &mut BytesMut, id: &str, place: usize) {
    raw(out, ",\"item_id\":");
    json(out, id);
    raw(out, ",\"output_index\":");
    json(out, &place);
}

fn at_part(out: &mut BytesMut, id: &str, place: usize, part: usize) {
    at(out, id, place);
    raw(out, ",\"content_index\":");
    json(out, &part);
}

fn at_summary(out: &mut BytesMut, item: &Item, place: usize) {
    at(out, &item.id, place);
    raw(out, ",\"summary_index\":0");
}
