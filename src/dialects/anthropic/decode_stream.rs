//! Messages told in events. The wire brackets its blocks as the hub does, so that little is to be remembered.

use std::borrow::Cow;

use serde_json::Value;

use super::decode_native::Native;
use super::wire::{BlockWire, Counts, DeltaWire, Event, Message, Raw, WireUsage};
use super::{DIALECT, cite, finish_kind, token};
use crate::dialects::loose::Str;
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, BlockIndex, Delta, EventSink, FinishReason, StreamEnd, StreamEvent, Terms};
use crate::sse::Frame;

/// Most blocks open at once; the wire has one.
const MAX_OPEN: usize = 64;

/// Reads one stream.
#[derive(Default)]
pub(super) struct Decoder {
    started: bool,
    stopped: bool,
    failed: bool,
    usage: Counts,
    /// The blocks that are open: their numbers on the wire and in the hub, where none is used twice.
    open: Vec<(u32, u32)>,
    next: u32,
    native: Option<Native>,
    /// The reasoning block that is open has text.
    seen: bool,
    /// The reasoning block that is open has a token.
    signed: bool,
}

fn at(block: u32) -> BlockIndex {
    BlockIndex { candidate: 0, block }
}

fn tell(block: u32, delta: Delta<'_>, sink: &mut dyn EventSink) {
    sink.event(StreamEvent::Delta {
        index: at(block),
        delta,
    });
}

/// Tells the fields of the answer which only this dialect knows, named by their paths.
fn natives<const N: usize>(fields: [(&'static str, Option<&str>); N], sink: &mut dyn EventSink) {
    for (key, json) in fields {
        if let Some(json) = json {
            sink.event(StreamEvent::Native {
                key,
                json: Cow::Borrowed(json),
            });
        }
    }
}

impl Decoder {
    fn start(&mut self, message: &mut Message<'_>, sink: &mut dyn EventSink) {
        if !std::mem::replace(&mut self.started, true) {
            let (id, model) = (std::mem::take(&mut message.id), std::mem::take(&mut message.model));
            sink.event(StreamEvent::Start {
                id: id.take(),
                model: model.take(),
            });
        }
    }

    /// The answer begins with a block: its own beginning was lost on the way.
    fn start_unnamed(&mut self, sink: &mut dyn EventSink) {
        if !std::mem::replace(&mut self.started, true) {
            sink.event(StreamEvent::Start {
                id: Cow::Borrowed(""),
                model: Cow::Borrowed(""),
            });
        }
    }

    fn usage(&mut self, usage: Option<WireUsage<'_>>, sink: &mut dyn EventSink) {
        if let Some(usage) = usage {
            self.usage.merge(&usage);
            sink.event(StreamEvent::Usage(self.usage.classes()));
            // The fast mode has prices of its own, whatever the tier ("Fast mode pricing").
            let fast = usage.speed.and_then(json::word).filter(|speed| speed == "fast");
            if let Some(word) = fast.or_else(|| usage.service_tier.and_then(json::word)) {
                sink.event(StreamEvent::Terms(Terms::service(word)));
            }
            natives(
                [
                    ("usage.service_tier", usage.service_tier),
                    ("usage.inference_geo", usage.inference_geo),
                    ("usage.speed", usage.speed),
                    ("usage.server_tool_use", usage.server_tool_use),
                    ("usage.iterations", usage.iterations),
                ],
                sink,
            );
        }
    }

    /// The next number in the hub.
    fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        number
    }

    /// Opens a block; returns its number in the hub.
    fn open(&mut self, wire: u32, head: BlockHead<'_>, sink: &mut dyn EventSink) -> u32 {
        self.start_unnamed(sink);
        self.close(wire, sink);
        if self.open.len() == MAX_OPEN {
            let (oldest, _) = self.open[0];
            self.close(oldest, sink);
        }
        let block = self.number();
        self.open.push((wire, block));
        (self.seen, self.signed) = (false, false);
        sink.event(StreamEvent::BlockStart {
            index: at(block),
            block: head,
        });
        block
    }

    fn close(&mut self, wire: u32, sink: &mut dyn EventSink) {
        if let Some(place) = self.open.iter().position(|(open, _)| *open == wire) {
            let (_, block) = self.open.remove(place);
            sink.event(StreamEvent::BlockStop { index: at(block) });
        }
        if self.native.as_ref().is_some_and(|native| native.wire == wire) {
            self.close_native(sink);
        }
    }

    fn close_native(&mut self, sink: &mut dyn EventSink) {
        if let Some(native) = self.native.take() {
            self.start_unnamed(sink);
            let index = at(native.block);
            let (kind, json) = native.complete();
            sink.event(StreamEvent::BlockStart {
                index,
                block: BlockHead::Native {
                    kind: Cow::Owned(kind),
                    json: Cow::Owned(json),
                },
            });
            sink.event(StreamEvent::BlockStop { index });
        }
    }

    /// A block begins, with what of it is there already: all of it in a whole answer.
    fn block(&mut self, wire: u32, raw: Raw<'_, BlockWire<'_>>, sink: &mut dyn EventSink) {
        let json = raw.json();
        let block = raw.wire;
        match block.kind.as_str() {
            "text" => {
                let index = self.open(wire, BlockHead::Text, sink);
                self.text(index, block.text, sink);
                let citations = block
                    .citations
                    .and_then(|list| serde_json::from_str::<Vec<Value>>(list).ok());
                for citation in citations.iter().flatten() {
                    tell(index, Delta::Citation(cite::read(citation)), sink);
                }
            }
            "thinking" => {
                let index = self.open(wire, BlockHead::Reasoning, sink);
                self.text(index, block.thinking, sink);
                self.signature(index, block.signature, sink);
            }
            "redacted_thinking" => {
                let index = self.open(wire, BlockHead::Reasoning, sink);
                tell(index, Delta::Opaque(block.data.take()), sink);
            }
            "tool_use" => {
                let index = self.open(wire, BlockHead::function(block.id.take(), block.name.take()), sink);
                // In a stream it is empty, and the arguments follow in deltas.
                let arguments = block.input.map_or(Cow::Borrowed(""), json::text_or_raw);
                if !matches!(arguments.as_ref(), "" | "{}") {
                    tell(index, Delta::Arguments(arguments), sink);
                }
                tool_natives(index, block.caller, block.toolset_name, sink);
            }
            kind => {
                self.close(wire, sink);
                self.close_native(sink);
                self.native = Some(Native::new(wire, self.number(), kind, json));
            }
        }
    }

    /// Text of the block which is open.
    fn text(&mut self, index: u32, text: Str<'_>, sink: &mut dyn EventSink) {
        if !text.is_empty() {
            self.seen = true;
            tell(index, Delta::Text(text.take()), sink);
        }
    }

    /// The token of the reasoning block which is open: marked if its text was withheld.
    fn signature(&mut self, index: u32, signature: Str<'_>, sink: &mut dyn EventSink) {
        if signature.is_empty() {
            return;
        }
        let first = !std::mem::replace(&mut self.signed, true);
        let signature = if first && !self.seen {
            Cow::Owned(format!("{}{}", token::UNSEEN, signature.as_str()))
        } else {
            signature.take()
        };
        tell(index, Delta::Opaque(signature), sink);
    }

    fn delta(&mut self, wire: u32, raw: Raw<'_, DeltaWire<'_>>, sink: &mut dyn EventSink) {
        let json = raw.json;
        let delta = raw.wire;
        if let Some(native) = self.native.as_mut().filter(|native| native.wire == wire) {
            return native.piece(&delta, json);
        }
        let open = self
            .open
            .iter()
            .find(|(open, _)| *open == wire)
            .map(|(_, block)| *block);
        let mut ensure = |decoder: &mut Self, head| open.unwrap_or_else(|| decoder.open(wire, head, sink));
        match delta.kind.as_str() {
            "text_delta" => {
                let index = ensure(self, BlockHead::Text);
                self.text(index, delta.text, sink);
            }
            "thinking_delta" => {
                let index = ensure(self, BlockHead::Reasoning);
                self.text(index, delta.thinking, sink);
            }
            "input_json_delta" => {
                let index = ensure(self, BlockHead::native(""));
                // Each tool's arguments begin with an empty piece.
                if !delta.partial_json.is_empty() {
                    tell(index, Delta::Arguments(delta.partial_json.take()), sink);
                }
            }
            "signature_delta" => {
                let index = ensure(self, BlockHead::Reasoning);
                self.signature(index, delta.signature, sink);
            }
            "citations_delta" => {
                let index = ensure(self, BlockHead::Text);
                if let Some(citation) = delta.citation.and_then(|json| serde_json::from_str(json).ok()) {
                    tell(index, Delta::Citation(cite::read(&citation)), sink);
                }
            }
            _ => {
                let index = ensure(self, BlockHead::Text);
                let json = std::str::from_utf8(json).unwrap_or("");
                tell(index, Delta::Native(Cow::Borrowed(json)), sink);
            }
        }
    }

    fn finish_reason(&mut self, reason: Str<'_>, sequence: Str<'_>, sink: &mut dyn EventSink) {
        if !reason.is_empty() {
            self.close_all(sink);
            let kind = finish_kind(reason.as_str());
            sink.event(StreamEvent::Finish {
                candidate: 0,
                reason: FinishReason {
                    sequence: sequence.0.map(|sequence| sequence.into_owned().into()),
                    ..FinishReason::new(kind, reason.take())
                },
            });
        }
    }

    fn close_all(&mut self, sink: &mut dyn EventSink) {
        for (_, block) in std::mem::take(&mut self.open) {
            sink.event(StreamEvent::BlockStop { index: at(block) });
        }
        self.close_native(sink);
    }

    fn error(&mut self, json: &str, sink: &mut dyn EventSink) {
        self.failed = true;
        sink.event(StreamEvent::Error(errors::inside(json)));
    }

    /// Tells a whole answer.
    pub(super) fn message(&mut self, mut message: Message<'_>, body: &[u8], sink: &mut dyn EventSink) {
        if message.kind.as_str() == "error" || message.error.is_some() {
            self.error(std::str::from_utf8(body).unwrap_or(""), sink);
            return;
        }
        self.start(&mut message, sink);
        for (index, block) in (0u32..).zip(message.content.0) {
            self.block(index, block, sink);
            self.close(index, sink);
        }
        self.usage(message.usage.0, sink);
        natives(
            [
                ("container", message.container),
                ("stop_details", message.stop_details),
                ("context_management", message.context_management),
                ("diagnostics", message.diagnostics),
            ],
            sink,
        );
        self.finish_reason(message.stop_reason, message.stop_sequence, sink);
        self.stopped = true;
    }
}

/// Who called a tool, if not the model itself, and the toolset it is of.
fn tool_natives(index: u32, caller: Option<&str>, toolset: Option<&str>, sink: &mut dyn EventSink) {
    let direct = |caller: &&str| {
        let caller: Value = serde_json::from_str(caller).unwrap_or_default();
        caller.get("type").is_some_and(|kind| kind == "direct")
    };
    if let Some(caller) = caller.filter(|caller| !direct(caller)) {
        tell(index, Delta::Native(format!("{{\"caller\":{caller}}}").into()), sink);
    }
    if let Some(toolset) = toolset {
        tell(
            index,
            Delta::Native(format!("{{\"toolset_name\":{toolset}}}").into()),
            sink,
        );
    }
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut dyn EventSink) -> Result<(), DecodeError> {
        let event: Event<'_> = json::object(DIALECT, frame.data)?;
        let kind = if event.kind.is_empty() {
            frame.event.unwrap_or("")
        } else {
            event.kind.as_str()
        };
        // An error in the form of a chat stream, which gateways send whatever they were asked.
        let kind = if kind.is_empty() && memchr::memmem::find(frame.data, b"\"error\"").is_some() {
            "error"
        } else {
            kind
        };
        let index = event
            .index
            .0
            .map_or(0, |index| u32::try_from(index).unwrap_or(u32::MAX));
        match kind {
            "content_block_delta" => {
                if let Some(delta) = event.delta.0 {
                    self.delta(index, delta, sink);
                }
            }
            "content_block_start" => {
                if let Some(block) = event.content_block.0 {
                    self.block(index, block, sink);
                }
            }
            "content_block_stop" => self.close(index, sink),
            "message_start" => {
                if let Some(mut message) = event.message.0 {
                    self.start(&mut message, sink);
                    self.usage(message.usage.0, sink);
                    natives(
                        [("container", message.container), ("diagnostics", message.diagnostics)],
                        sink,
                    );
                }
            }
            "message_delta" => {
                self.usage(event.usage.0, sink);
                if let Some(delta) = event.delta.0.map(|delta| delta.wire) {
                    natives(
                        [("container", delta.container), ("stop_details", delta.stop_details)],
                        sink,
                    );
                    natives([("context_management", event.context_management)], sink);
                    self.finish_reason(delta.stop_reason, delta.stop_sequence, sink);
                }
            }
            "message_stop" => self.stopped = true,
            "ping" => sink.event(StreamEvent::Ping),
            "error" => self.error(std::str::from_utf8(frame.data).unwrap_or(""), sink),
            _ => {}
        }
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn EventSink) -> StreamEnd {
        self.close_all(sink);
        if self.failed {
            StreamEnd::Failed
        } else if self.stopped {
            StreamEnd::Complete
        } else {
            StreamEnd::Truncated
        }
    }
}
