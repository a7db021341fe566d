//! Responses told in events.
//!
//! An item becomes one block (a tool call, a native thing) or one for each of its parts (text, refusal, reasoning
//! summaries). What an item says may come in deltas, in its `done` events, or only in the final response: each piece
//! is told once, from the first place it is seen in.

use std::borrow::Cow;

use super::wire::{Event, Item, Response};
use super::{DIALECT, finish_reason};
use crate::dialects::blocks::{Blocks, Kind};
use crate::dialects::loose::Str;
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, Delta, EventSink, StreamEnd, StreamEvent};
use crate::sse::Frame;

/// Most output items followed in one answer.
const MAX_ITEMS: usize = 1024;

/// Reads one stream.
pub(super) struct Decoder {
    started: bool,
    end: Option<StreamEnd>,
    failed: bool,
    blocks: Blocks,
    items: Vec<Open>,
    tool_calls: bool,
    /// The part that the open text-like block belongs to: item, and part within it.
    part: Option<(u64, u64)>,
}

/// An output item which was begun.
struct Open {
    output_index: u64,
    /// The block of a tool call or native item, while it is open.
    block: Option<u32>,
    is_tool: bool,
    /// Something of its content was told.
    told: bool,
    done: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Decoder {
            started: false,
            end: None,
            failed: false,
            blocks: Blocks::new(0),
            items: Vec::new(),
            tool_calls: false,
            part: None,
        }
    }
}

impl Decoder {
    fn start(&mut self, id: Cow<'_, str>, model: Cow<'_, str>, sink: &mut dyn EventSink) {
        if !self.started {
            self.started = true;
            sink.event(StreamEvent::Start { id, model });
        }
    }

    /// The place of the item with that index; without one, the last item which is not done.
    fn find(&self, output_index: Option<u64>) -> Option<usize> {
        match output_index {
            Some(index) => self.items.iter().rposition(|item| item.output_index == index),
            None => self.items.iter().rposition(|item| !item.done),
        }
    }

    /// An item begins. Returns its place.
    fn add(&mut self, output_index: Option<u64>, item: &Item<'_>, sink: &mut dyn EventSink) -> Option<usize> {
        if self.items.len() == MAX_ITEMS {
            return None;
        }
        let mut open = Open {
            output_index: output_index.unwrap_or(self.items.len() as u64),
            block: None,
            is_tool: false,
            told: false,
            done: false,
        };
        match item.kind.as_str() {
            "message" | "reasoning" => {}
            "function_call" | "custom_tool_call" => {
                open.is_tool = true;
                // Without a name yet, the block waits for the item's end.
                if !item.name.is_empty() {
                    open.block = Some(self.tool(item, sink));
                }
            }
            other => {
                self.close_part(sink);
                open.block = Some(self.blocks.start(BlockHead::Native(Cow::Borrowed(other)), sink));
            }
        }
        self.items.push(open);
        Some(self.items.len() - 1)
    }

    fn tool(&mut self, item: &Item<'_>, sink: &mut dyn EventSink) -> u32 {
        self.tool_calls = true;
        self.close_part(sink);
        let head = BlockHead::ToolCall {
            id: Cow::Borrowed(item.call_id.as_str()),
            name: Cow::Borrowed(item.name.as_str()),
        };
        self.blocks.start(head, sink)
    }

    fn close_part(&mut self, sink: &mut dyn EventSink) {
        self.part = None;
        self.blocks.close(sink);
    }

    /// A piece of text of one part of an item.
    fn text(&mut self, place: Option<usize>, part: u64, kind: Kind, text: Cow<'_, str>, sink: &mut dyn EventSink) {
        if text.is_empty() {
            return;
        }
        let mut item = 0;
        if let Some(open) = place.and_then(|place| self.items.get_mut(place)) {
            open.told = true;
            item = open.output_index;
        }
        if self.part != Some((item, part)) {
            self.blocks.close(sink);
            self.part = Some((item, part));
        }
        self.blocks.text(kind, text, sink);
    }

    fn arguments(&mut self, place: Option<usize>, text: Cow<'_, str>, sink: &mut dyn EventSink) {
        if let Some(open) = place.and_then(|place| self.items.get_mut(place))
            && let (Some(block), false) = (open.block, text.is_empty())
        {
            open.told = true;
            self.blocks.delta(block, Delta::Arguments(text), sink);
        }
    }

    /// An item is done: what of it was not told yet is told now.
    fn item_done(&mut self, output_index: Option<u64>, item: Item<'_>, sink: &mut dyn EventSink) {
        let place = match self.find(output_index) {
            Some(place) => Some(place),
            None => self.add(output_index, &item, sink),
        };
        let Some(place) = place else { return };
        if self.items[place].done {
            return;
        }
        if self.items[place].is_tool && self.items[place].block.is_none() {
            self.items[place].block = Some(self.tool(&item, sink));
        }
        if !self.items[place].told {
            match item.kind.as_str() {
                "function_call" | "custom_tool_call" => {
                    let text = item
                        .arguments
                        .or(item.input)
                        .map_or(Cow::Borrowed(""), json::text_or_raw);
                    self.arguments(Some(place), text, sink);
                }
                kind @ ("message" | "reasoning") => {
                    let visible = if kind == "message" { Kind::Text } else { Kind::Reasoning };
                    for (part, content) in (0u64..).zip(item.summary.0.into_iter().chain(item.content.0)) {
                        let refusal = content.kind.as_str() == "refusal";
                        let (kind, text) = if refusal {
                            (Kind::Refusal, content.refusal)
                        } else {
                            (visible, content.text)
                        };
                        self.text(Some(place), part, kind, text.take(), sink);
                    }
                }
                _ => {}
            }
        }
        let open = &mut self.items[place];
        open.done = true;
        let item = open.output_index;
        if let Some(block) = open.block.take() {
            self.blocks.stop(block, sink);
        }
        if self.part.is_some_and(|(of, _)| of == item) {
            self.close_part(sink);
        }
    }

    /// The response has ended, or is the whole answer.
    pub(super) fn response(&mut self, event: &str, response: Response<'_>, sink: &mut dyn EventSink) {
        self.start(response.id.take(), response.model.take(), sink);
        // The final output tells again what the stream has told; some leave it empty.
        if self.items.is_empty() {
            for (index, item) in (0u64..).zip(response.output.0) {
                self.item_done(Some(index), item, sink);
            }
        }
        self.close_all(sink);
        if let Some(usage) = response.usage.0.filter(|u| u.is_some()) {
            sink.event(StreamEvent::Usage(usage.classes()));
        }
        // The status says how it ended; the event's name is the same word, for those who leave the status out.
        let status = match response.status.as_str() {
            "" => event.strip_prefix("response.").unwrap_or(event),
            status => status,
        };
        let why = response.incomplete_details.0.map(|d| d.reason).unwrap_or_default();
        if let Some(reason) = finish_reason(status, why.as_str(), self.tool_calls) {
            sink.event(StreamEvent::Finish { candidate: 0, reason });
        }
        let error = response.error.filter(|raw| *raw != "{}");
        if error.is_some() || status == "failed" {
            self.failed = true;
            sink.event(StreamEvent::Error(errors::inside(error.unwrap_or("null"))));
        }
        self.end = Some(StreamEnd::Complete);
    }

    fn close_all(&mut self, sink: &mut dyn EventSink) {
        self.close_part(sink);
        for open in &mut self.items {
            open.done = true;
            if let Some(block) = open.block.take() {
                self.blocks.stop(block, sink);
            }
        }
    }

    fn event(&mut self, named: &str, event: Event<'_>, data: &[u8], sink: &mut dyn EventSink) {
        let index = event.output_index.0;
        let part = event.content_index.0.or(event.summary_index.0).unwrap_or(0);
        match named {
            "response.output_text.delta" => {
                self.text(self.find(index), part, Kind::Text, event.delta.take(), sink);
            }
            "response.refusal.delta" => {
                self.text(self.find(index), part, Kind::Refusal, event.delta.take(), sink);
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.text(self.find(index), part, Kind::Reasoning, event.delta.take(), sink);
            }
            "response.function_call_arguments.delta" | "response.custom_tool_call_input.delta" => {
                self.arguments(self.find(index), event.delta.take(), sink);
            }
            "response.function_call_arguments.done" | "response.custom_tool_call_input.done" => {
                let place = self.find(index);
                if place.is_some_and(|place| !self.items[place].told) {
                    let Str(text) = if event.arguments.is_empty() {
                        event.input
                    } else {
                        event.arguments
                    };
                    self.arguments(place, text.unwrap_or_default(), sink);
                }
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(response) = event.response.0 {
                    self.start(response.id.take(), response.model.take(), sink);
                }
            }
            "response.output_item.added" => {
                if let Some(item) = event.item.0
                    && index.is_none_or(|index| self.find(Some(index)).is_none())
                {
                    self.add(index, &item, sink);
                }
            }
            "response.output_item.done" => {
                if let Some(item) = event.item.0 {
                    self.item_done(index, item, sink);
                }
            }
            "response.completed" | "response.incomplete" | "response.failed" | "response.done" => {
                if let Some(response) = event.response.0 {
                    self.response(named, response, sink);
                } else if named == "response.failed" {
                    self.failed = true;
                    sink.event(StreamEvent::Error(errors::inside("null")));
                } else {
                    self.end = Some(StreamEnd::Complete);
                }
            }
            "error" => {
                self.failed = true;
                sink.event(StreamEvent::Error(errors::inside(
                    std::str::from_utf8(data).unwrap_or(""),
                )));
            }
            "keepalive" => sink.event(StreamEvent::Ping),
            // Progress of server tools: the item tells what they are, these that they go on.
            _ if named.ends_with(".delta") || named.ends_with(".partial_image") => {
                if let Some(open) = self.find(index).and_then(|place| self.items.get(place))
                    && let Some(block) = open.block
                {
                    self.blocks.delta(block, Delta::Native, sink);
                }
            }
            _ => {}
        }
    }
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut dyn EventSink) -> Result<(), DecodeError> {
        let data = frame.data.trim_ascii();
        if data == b"[DONE]" {
            return Ok(());
        }
        let mut event: Event<'_> = json::object(DIALECT, data)?;
        let kind = std::mem::take(&mut event.kind);
        let named = if kind.is_empty() {
            frame.event.unwrap_or("")
        } else {
            kind.as_str()
        };
        // An error in the form of a chat stream, which gateways send whatever they were asked.
        let named = if named.is_empty() && memchr::memmem::find(data, b"\"error\"").is_some() {
            "error"
        } else {
            named
        };
        self.event(named, event, data, sink);
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn EventSink) -> StreamEnd {
        self.close_all(sink);
        if self.failed {
            StreamEnd::Failed
        } else {
            self.end.unwrap_or(StreamEnd::Truncated)
        }
    }
}
