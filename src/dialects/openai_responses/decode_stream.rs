//! Responses told in events.
//!
//! An item becomes one block (reasoning, a tool call, a picture, a native thing) or one for each of its parts (text,
//! refusal). What an item says may come in deltas, in its `done` events, or only in the final response: each piece is told
//! once, from the first place it is seen in. Parts of a reasoning's summary are paragraphs of one block; its token is told
//! when the item is done, as an earlier one may be incomplete (OpenAI's reference, `encrypted_content`).

use std::borrow::Cow;

use super::decode_items::{Current, PartIndex};
use super::wire::{Event, Item, Response};
use super::{DIALECT, finish_reason};
use crate::dialects::blocks::{Blocks, Kind};
use crate::dialects::loose::Str;
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, Delta, EventSink, StreamEnd, StreamEvent, Terms, ToolKind};
use crate::sse::Frame;

/// Most output items followed in one answer.
const MAX_ITEMS: usize = 1024;

/// Reads one stream.
pub(super) struct Decoder {
    started: bool,
    end: Option<StreamEnd>,
    failed: bool,
    pub(super) blocks: Blocks,
    pub(super) items: Vec<Open>,
    tool_calls: bool,
    /// The part that the open text-like block belongs to.
    pub(super) part: Option<Current>,
}

/// An output item which was begun.
pub(super) struct Open {
    pub(super) output_index: u64,
    /// The block of a tool call, while it is open.
    pub(super) block: Option<u32>,
    pub(super) is_tool: bool,
    /// Something of its content was told.
    pub(super) told: bool,
    pub(super) done: bool,
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
    pub(super) fn find(&self, output_index: Option<u64>) -> Option<usize> {
        match output_index {
            Some(index) => self.items.iter().rposition(|item| item.output_index == index),
            None => self.items.iter().rposition(|item| !item.done),
        }
    }

    /// An item begins. Returns its place.
    pub(super) fn add(
        &mut self,
        output_index: Option<u64>,
        item: &Item<'_>,
        sink: &mut dyn EventSink,
    ) -> Option<usize> {
        if self.items.len() == MAX_ITEMS {
            return None;
        }
        let mut open = Open {
            output_index: output_index.unwrap_or(self.items.len() as u64),
            block: None,
            is_tool: matches!(item.kind.as_str(), "function_call" | "custom_tool_call"),
            told: false,
            done: false,
        };
        // Without a name yet, the block waits for the item's end.
        if open.is_tool && !item.name.is_empty() {
            open.block = Some(self.tool(item, sink));
        }
        self.items.push(open);
        Some(self.items.len() - 1)
    }

    pub(super) fn tool(&mut self, item: &Item<'_>, sink: &mut dyn EventSink) -> u32 {
        self.tool_calls = true;
        self.close_part(sink);
        // Some servers know only one id.
        let id = if item.call_id.is_empty() {
            &item.id
        } else {
            &item.call_id
        };
        let head = BlockHead::ToolCall {
            id: Cow::Borrowed(id.as_str()),
            name: Cow::Borrowed(item.name.as_str()),
            kind: match item.kind.as_str() {
                "custom_tool_call" => ToolKind::Custom,
                _ => ToolKind::Function,
            },
            namespace: Cow::Borrowed(item.namespace.as_str()),
            opaque: Cow::Borrowed(""),
        };
        self.blocks.start(head, sink)
    }

    pub(super) fn close_part(&mut self, sink: &mut dyn EventSink) {
        self.part = None;
        self.blocks.close(sink);
    }

    pub(super) fn arguments(&mut self, place: Option<usize>, text: Cow<'_, str>, sink: &mut dyn EventSink) {
        if let Some(open) = place.and_then(|place| self.items.get_mut(place))
            && let (Some(block), false) = (open.block, text.is_empty())
        {
            open.told = true;
            self.blocks.delta(block, Delta::Arguments(text), sink);
        }
    }

    /// The response has ended, or is the whole answer.
    pub(super) fn response(&mut self, event: &str, response: Response<'_>, sink: &mut dyn EventSink) {
        self.start(response.id.take(), response.model.take(), sink);
        // The final output tells again what the stream has told; some leave it empty. Of server tools that ran at once,
        // the stream may end one and begin all.
        let nothing = self.items.is_empty();
        for (index, item) in (0u64..).zip(response.output.0) {
            if nothing || self.find(Some(index)).is_some_and(|place| !self.items[place].done) {
                self.item_done(Some(index), item, sink);
            }
        }
        self.close_all(sink);
        if let Some(usage) = response.usage.0.filter(|u| u.is_some()) {
            sink.event(StreamEvent::Usage(usage.classes()));
        }
        if let Some(word) = response.service_tier.and_then(json::word) {
            sink.event(StreamEvent::Terms(Terms::service(word)));
        }
        let fields = [
            // The usual tier says nothing.
            (
                "service_tier",
                response
                    .service_tier
                    .filter(|tier| !matches!(*tier, "\"default\"" | "\"auto\"")),
            ),
            ("moderation", response.moderation),
            ("content_filters", response.content_filters.filter(|list| *list != "[]")),
        ];
        for (key, json) in fields {
            if let Some(json) = json.map(Cow::Borrowed) {
                sink.event(StreamEvent::Native { key, json });
            }
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
        // Only a whole answer can be of work that goes on: a stream goes on with it.
        let goes_on = event.is_empty() && matches!(status, "queued" | "in_progress");
        self.end = Some(if goes_on {
            StreamEnd::Unfinished
        } else {
            StreamEnd::Complete
        });
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
        let content = PartIndex::Content(event.content_index.0.unwrap_or(0));
        let says_something = index.is_some()
            || event.item.0.is_some()
            || event.part.0.is_some()
            || event.annotation.is_some()
            || event.logprobs.is_some()
            || !event.delta.is_empty();
        if !self.started && says_something {
            // Its own beginning was lost on the way.
            self.start(Cow::Borrowed(""), Cow::Borrowed(""), sink);
        }
        match named {
            "response.output_text.delta" => {
                let place = self.find(index);
                self.text(place, content, Kind::Text, event.delta.take(), sink);
                self.logprobs(place, content, event.logprobs, sink);
            }
            "response.refusal.delta" => {
                self.text(self.find(index), content, Kind::Refusal, event.delta.take(), sink);
            }
            "response.reasoning_summary_text.delta" => {
                let part = PartIndex::Summary(event.summary_index.0.unwrap_or(0));
                self.text(self.find(index), part, Kind::Reasoning, event.delta.take(), sink);
            }
            "response.reasoning_text.delta" => {
                self.text(self.find(index), content, Kind::Reasoning, event.delta.take(), sink);
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
            "response.output_text.annotation.added" => {
                if let Some(annotation) = event.annotation.and_then(|json| serde_json::from_str(json).ok()) {
                    self.annotation(self.find(index), content, annotation, sink);
                }
            }
            "response.content_part.done" => {
                if let Some(part) = event.part.0 {
                    self.part_done(self.find(index), content, &part, sink);
                }
            }
            "response.created" | "response.in_progress" | "response.queued" => {
                if let Some(response) = event.response.0 {
                    self.start(response.id.take(), response.model.take(), sink);
                }
            }
            "response.output_item.added" => {
                if let Some(told) = event.item.0
                    && index.is_none_or(|index| self.find(Some(index)).is_none())
                {
                    self.add(index, &told.item, sink);
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
            // Progress of server tools: what they are is told when they are done, this that they go on.
            "keepalive" => sink.event(StreamEvent::Ping),
            _ if named.contains("_call") => sink.event(StreamEvent::Ping),
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
