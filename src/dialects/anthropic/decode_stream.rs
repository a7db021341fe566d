//! Messages told in events. The wire brackets its blocks as the hub does, so that little is to be remembered.

use std::borrow::Cow;

use super::wire::{BlockWire, DeltaWire, Event, Message, WireUsage};
use super::{DIALECT, finish_kind};
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, BlockIndex, Delta, EventSink, FinishReason, StreamEnd, StreamEvent};
use crate::sse::Frame;

/// Most blocks open at once; the wire has one.
const MAX_OPEN: usize = 64;

/// Reads one stream.
#[derive(Default)]
pub(super) struct Decoder {
    started: bool,
    stopped: bool,
    failed: bool,
    usage: WireUsage,
    open: Vec<u32>,
}

fn at(block: u32) -> BlockIndex {
    BlockIndex { candidate: 0, block }
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

    fn usage(&mut self, usage: Option<WireUsage>, sink: &mut dyn EventSink) {
        if let Some(usage) = usage {
            self.usage.merge(usage);
            sink.event(StreamEvent::Usage(self.usage.classes()));
        }
    }

    fn open(&mut self, block: u32, head: BlockHead<'_>, sink: &mut dyn EventSink) {
        self.close(block, sink);
        if self.open.len() == MAX_OPEN {
            let oldest = self.open[0];
            self.close(oldest, sink);
        }
        self.open.push(block);
        sink.event(StreamEvent::BlockStart {
            index: at(block),
            block: head,
        });
    }

    fn close(&mut self, block: u32, sink: &mut dyn EventSink) {
        if let Some(place) = self.open.iter().position(|open| *open == block) {
            self.open.remove(place);
            sink.event(StreamEvent::BlockStop { index: at(block) });
        }
    }

    /// A block begins, with what of it is there already: all of it in a whole answer.
    fn block(&mut self, index: u32, block: BlockWire<'_>, sink: &mut dyn EventSink) {
        let text = |text: Cow<'_, str>, sink: &mut dyn EventSink| {
            if !text.is_empty() {
                sink.event(StreamEvent::Delta {
                    index: at(index),
                    delta: Delta::Text(text),
                });
            }
        };
        match block.kind.as_str() {
            "text" => {
                self.open(index, BlockHead::Text, sink);
                text(block.text.take(), sink);
            }
            "thinking" => {
                self.open(index, BlockHead::Reasoning, sink);
                text(block.thinking.take(), sink);
            }
            "redacted_thinking" => self.open(index, BlockHead::Reasoning, sink),
            "tool_use" => {
                self.open(
                    index,
                    BlockHead::ToolCall {
                        id: block.id.take(),
                        name: block.name.take(),
                    },
                    sink,
                );
                // In a stream it is empty, and the arguments follow in deltas.
                let arguments = block.input.map_or(Cow::Borrowed(""), json::text_or_raw);
                if !matches!(arguments.as_ref(), "" | "{}") {
                    sink.event(StreamEvent::Delta {
                        index: at(index),
                        delta: Delta::Arguments(arguments),
                    });
                }
            }
            _ => self.open(index, BlockHead::Native(block.kind.take()), sink),
        }
    }

    fn delta(&mut self, index: u32, delta: DeltaWire<'_>, sink: &mut dyn EventSink) {
        let (head, piece) = match delta.kind.as_str() {
            "text_delta" => (BlockHead::Text, Delta::Text(delta.text.take())),
            "thinking_delta" => (BlockHead::Reasoning, Delta::Text(delta.thinking.take())),
            "input_json_delta" => (
                BlockHead::Native(Cow::Borrowed("")),
                Delta::Arguments(delta.partial_json.take()),
            ),
            _ => (BlockHead::Text, Delta::Native),
        };
        if !self.open.contains(&index) {
            self.open(index, head, sink);
        }
        // Each tool's arguments begin with an empty piece.
        if !matches!(&piece, Delta::Text(text) | Delta::Arguments(text) if text.is_empty()) {
            sink.event(StreamEvent::Delta {
                index: at(index),
                delta: piece,
            });
        }
    }

    fn finish_reason(&mut self, reason: Cow<'_, str>, sink: &mut dyn EventSink) {
        if !reason.is_empty() {
            self.close_all(sink);
            let kind = finish_kind(&reason);
            sink.event(StreamEvent::Finish {
                candidate: 0,
                reason: FinishReason {
                    kind,
                    raw: reason.into(),
                },
            });
        }
    }

    fn close_all(&mut self, sink: &mut dyn EventSink) {
        for block in std::mem::take(&mut self.open) {
            sink.event(StreamEvent::BlockStop { index: at(block) });
        }
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
        self.finish_reason(message.stop_reason.take(), sink);
        self.stopped = true;
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
                }
            }
            "message_delta" => {
                self.usage(event.usage.0, sink);
                if let Some(delta) = event.delta.0 {
                    self.finish_reason(delta.stop_reason.take(), sink);
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
