//! What a stream's items and parts say, told in events: each piece once, from the first place it is seen in.

use std::borrow::Cow;

use serde_json::Value;

use super::decode_stream::Decoder;
use super::request_parts::citation;
use super::wire::{Part, Told};
use crate::dialects::blocks::Kind;
use crate::dialects::json;
use crate::ir::{BlockHead, Delta, EventSink, Logprob, MediaKind};

/// What stands between two parts of a reasoning.
const PARAGRAPH: &str = "\n\n";

/// A part of an item, of which something was told.
pub(super) struct Current {
    /// The item's output index.
    pub(super) item: u64,
    part: PartIndex,
    kind: Kind,
    /// How many annotations were told.
    cited: usize,
    /// Log probabilities were told.
    logprobs: bool,
}

/// Which part of an item.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PartIndex {
    Summary(u64),
    Content(u64),
}

impl Decoder {
    /// What follows is of this part.
    fn enter(&mut self, place: Option<usize>, part: PartIndex, kind: Kind, sink: &mut dyn EventSink) {
        let mut item = 0;
        if let Some(open) = place.and_then(|place| self.items.get_mut(place)) {
            open.told = true;
            item = open.output_index;
        }
        match &self.part {
            Some(current) if current.item == item && current.part == part => {}
            // One item's thoughts are one block.
            Some(current) if current.item == item && current.kind == Kind::Reasoning && kind == Kind::Reasoning => {
                self.blocks.text(kind, Cow::Borrowed(PARAGRAPH), sink);
                self.part = Some(Current::new(item, part, kind));
            }
            _ => {
                self.blocks.close(sink);
                self.part = Some(Current::new(item, part, kind));
            }
        }
    }

    /// A piece of text of one part of an item.
    pub(super) fn text(
        &mut self,
        place: Option<usize>,
        part: PartIndex,
        kind: Kind,
        text: Cow<'_, str>,
        sink: &mut dyn EventSink,
    ) {
        if !text.is_empty() {
            self.enter(place, part, kind, sink);
            self.blocks.text(kind, text, sink);
        }
    }

    pub(super) fn logprobs(
        &mut self,
        place: Option<usize>,
        part: PartIndex,
        list: Option<&str>,
        sink: &mut dyn EventSink,
    ) {
        let Some(list) = list.filter(|list| *list != "[]") else {
            return;
        };
        let list = logprobs(list);
        if !list.is_empty() {
            self.enter(place, part, Kind::Text, sink);
            self.blocks.piece(Kind::Text, Delta::Logprobs(list), sink);
            if let Some(current) = &mut self.part {
                current.logprobs = true;
            }
        }
    }

    pub(super) fn annotation(
        &mut self,
        place: Option<usize>,
        part: PartIndex,
        annotation: Value,
        sink: &mut dyn EventSink,
    ) {
        self.enter(place, part, Kind::Text, sink);
        let citation = citation(annotation);
        self.blocks.piece(Kind::Text, Delta::Citation(citation), sink);
        if let Some(current) = &mut self.part {
            current.cited += 1;
        }
    }

    /// A part is known to its end: tells what beside its text was not told yet.
    pub(super) fn part_done(
        &mut self,
        place: Option<usize>,
        index: PartIndex,
        part: &Part<'_>,
        sink: &mut dyn EventSink,
    ) {
        let item = place
            .and_then(|place| self.items.get(place))
            .map_or(0, |open| open.output_index);
        // Of a part that was left, its block has ended.
        let current = match &self.part {
            Some(current) if current.item == item && current.part == index => current,
            _ => return,
        };
        let (cited, has_logprobs) = (current.cited, current.logprobs);
        if !has_logprobs {
            self.logprobs(place, index, part.logprobs, sink);
        }
        if let Some(list) = part.annotations.filter(|list| *list != "[]") {
            let list: Vec<Value> = serde_json::from_str(list).unwrap_or_default();
            for annotation in list.into_iter().skip(cited) {
                self.annotation(place, index, annotation, sink);
            }
        }
    }

    /// An item is done: what of it was not told yet is told now.
    pub(super) fn item_done(&mut self, output_index: Option<u64>, told: Told<'_>, sink: &mut dyn EventSink) {
        let Told { mut item, json } = told;
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
        let untold = !self.items[place].told;
        match item.kind.as_str() {
            "function_call" | "custom_tool_call" => {
                if untold {
                    let text = item.arguments.or(item.input);
                    self.arguments(Some(place), text.map_or(Cow::Borrowed(""), json::text_or_raw), sink);
                }
            }
            "message" => {
                for (part, index) in item.content.0.iter_mut().zip((0..).map(PartIndex::Content)) {
                    if untold {
                        let (kind, text) = match part.kind.as_str() {
                            "refusal" => (Kind::Refusal, &mut part.refusal),
                            _ => (Kind::Text, &mut part.text),
                        };
                        self.text(Some(place), index, kind, std::mem::take(text).take(), sink);
                    }
                    self.part_done(Some(place), index, part, sink);
                }
            }
            "reasoning" => {
                if untold {
                    let summary = item.summary.0.into_iter().zip((0..).map(PartIndex::Summary));
                    let content = item.content.0.into_iter().zip((0..).map(PartIndex::Content));
                    for (part, index) in summary.chain(content) {
                        self.text(Some(place), index, Kind::Reasoning, part.text.take(), sink);
                    }
                }
                if !item.encrypted_content.is_empty() {
                    let index = self.items[place].output_index;
                    if self.part.as_ref().is_none_or(|current| current.item != index) {
                        self.enter(Some(place), PartIndex::Summary(0), Kind::Reasoning, sink);
                    }
                    let token = Delta::Opaque(item.encrypted_content.take());
                    self.blocks.piece(Kind::Reasoning, token, sink);
                }
            }
            "image_generation_call" if !item.result.is_empty() => {
                self.close_part(sink);
                let format = match item.output_format.as_str() {
                    "" => "png",
                    format => format,
                };
                let head = BlockHead::Media {
                    kind: MediaKind::Image,
                    mime: Cow::Owned(format!("image/{format}")),
                    url: Cow::Borrowed(""),
                };
                let block = self.blocks.start(head, sink);
                self.blocks.delta(block, Delta::Data(item.result.take()), sink);
                self.blocks.stop(block, sink);
            }
            kind => {
                self.close_part(sink);
                let head = BlockHead::Native {
                    kind: Cow::Borrowed(kind),
                    json: Cow::Borrowed(json),
                };
                let block = self.blocks.start(head, sink);
                self.blocks.stop(block, sink);
            }
        }
        let open = &mut self.items[place];
        open.done = true;
        let item = open.output_index;
        if let Some(block) = open.block.take() {
            self.blocks.stop(block, sink);
        }
        if self.part.as_ref().is_some_and(|current| current.item == item) {
            self.close_part(sink);
        }
    }
}

impl Current {
    fn new(item: u64, part: PartIndex, kind: Kind) -> Self {
        Current {
            item,
            part,
            kind,
            cited: 0,
            logprobs: false,
        }
    }
}

/// A list of log probabilities; entries which are none are passed over.
fn logprobs(json: &str) -> Vec<Logprob> {
    fn one(value: &Value) -> Option<Logprob> {
        let byte = |value: &Value| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
        Some(Logprob {
            token: value["token"].as_str()?.to_owned(),
            logprob: value["logprob"].as_f64()?,
            bytes: value["bytes"]
                .as_array()
                .and_then(|list| list.iter().map(byte).collect()),
            top: value["top_logprobs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(one)
                .collect(),
        })
    }
    let list: Vec<Value> = serde_json::from_str(json).unwrap_or_default();
    list.iter().filter_map(one).collect()
}
