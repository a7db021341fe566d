//! Chat completions told in events. A whole answer is read as a stream of one chunk, so that both mean the same.

use std::borrow::Cow;

use serde::Deserialize;

use super::decode_content::{audio, citation, image, logprobs, part, reasoning};
use super::wire::{Chunk, Delta as WireDelta, Function, ToolCall};
use super::{DIALECT, finish_kind};
use crate::dialects::blocks::{Blocks, Kind};
use crate::dialects::loose::{List, Num, Obj, Present, TextOr};
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, Delta, EventSink, FinishReason, StreamEnd, StreamEvent, Terms, ToolKind};
use crate::sse::Frame;

/// Most candidates followed; OpenAI's own limit of `n` is 128.
const MAX_CANDIDATES: usize = 128;
/// Most tool calls followed in one candidate.
const MAX_TOOLS: usize = 512;

/// The place of `service_tier` among the answer's own fields.
const TIER: usize = 0;

/// Reads one stream of chunks.
#[derive(Default)]
pub(super) struct Decoder {
    /// A whole answer: each tool call in it is one of its own, whatever its id and index.
    whole: bool,
    started: bool,
    done: bool,
    failed: bool,
    /// Usage was told. Those who leave out `[DONE]` (Perplexity) tell it last: finish reasons without either are a stream
    /// that was cut.
    usage: bool,
    candidates: Vec<Candidate>,
    /// Which of the answer's own fields were told: some providers repeat them in each chunk.
    told: [bool; 4],
}

struct Candidate {
    index: u64,
    blocks: Blocks,
    /// The block of sound, once it began: its pieces may come among others.
    audio: Option<u32>,
    tools: Vec<Tool>,
    finish: Option<Box<str>>,
}

struct Tool {
    index: Option<u64>,
    id: Box<str>,
    /// Its block, once it began: when its name is known, or arguments come without one.
    block: Option<u32>,
}

impl Decoder {
    /// A decoder for the one chunk that a whole answer is.
    pub(super) fn whole() -> Self {
        Decoder {
            whole: true,
            ..Decoder::default()
        }
    }

    /// Tells a chunk.
    pub(super) fn chunk(&mut self, chunk: Chunk<'_>, named_error: bool, sink: &mut dyn EventSink) {
        let error = chunk
            .error
            .filter(|raw| !matches!(*raw, "{}" | "\"\"" | "false" | "[]"));
        if !self.started && (!chunk.model.is_empty() || !chunk.choices.is_empty()) && error.is_none() {
            self.started = true;
            sink.event(StreamEvent::Start {
                id: chunk.id.take(),
                model: chunk.model.take(),
            });
        }
        // Of a whole answer there may be only the end (`translate::kept`).
        let tier = chunk
            .service_tier
            .filter(|_| (self.started || self.whole) && !self.told[TIER]);
        if let Some(word) = tier.and_then(json::word) {
            sink.event(StreamEvent::Terms(Terms::service(word)));
        }
        let fields = [
            ("service_tier", chunk.service_tier),
            ("system_fingerprint", chunk.system_fingerprint),
            ("citations", chunk.citations),
            ("search_results", chunk.search_results),
        ];
        for ((key, json), told) in fields.into_iter().zip(&mut self.told) {
            if let Some(json) = json.filter(|json| !*told && self.started && !matches!(*json, "\"\"" | "[]")) {
                *told = true;
                let json = Cow::Borrowed(json);
                sink.event(StreamEvent::Native { key, json });
            }
        }
        let mut usage = chunk.usage.0.filter(|u| u.is_some());
        for choice in chunk.choices.all() {
            usage = usage.or(choice.usage.0.filter(|u| u.is_some()));
            let Some(candidate) = candidate(&mut self.candidates, choice.index.0.unwrap_or(0)) else {
                continue;
            };
            // Perplexity sends both in either: the message so far beside a delta, an empty delta beside the message.
            let (delta, message) = (choice.delta.0, choice.message.0.map(|message| *message));
            let told = if self.whole {
                message.or(delta)
            } else {
                delta.or(message)
            };
            if let Some(delta) = told {
                candidate.delta(delta, choice.logprobs, self.whole, sink);
            }
            if let Some(raw) = choice.error.filter(|raw| raw.starts_with('{') && *raw != "{}") {
                self.failed = true;
                sink.event(StreamEvent::Error(errors::inside(raw)));
            }
            candidate.finish(choice.finish_reason.as_str(), choice.stop_reason.as_str(), sink);
        }
        if let Some(usage) = usage.or(chunk.x_groq.0.and_then(|x| x.usage.0).filter(|u| u.is_some())) {
            self.usage = true;
            sink.event(StreamEvent::Usage(usage.classes()));
            let terms = usage.terms();
            if !terms.is_empty() {
                sink.event(StreamEvent::Terms(terms));
            }
        }
        if let Some(raw) = error {
            self.failed = true;
            sink.event(StreamEvent::Error(errors::inside(raw)));
        } else if named_error {
            self.failed = true;
            sink.event(StreamEvent::Error(errors::inside("null")));
        }
    }
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut dyn EventSink) -> Result<(), DecodeError> {
        let data = frame.data.trim_ascii();
        if data == b"[DONE]" {
            self.done = true;
            return Ok(());
        }
        let named_error = frame.event == Some("error");
        match json::object::<Chunk<'_>>(DIALECT, data) {
            Ok(chunk) if named_error && chunk.error.is_none() => {
                // The error is spread over the object.
                self.failed = true;
                let text = std::str::from_utf8(data).unwrap_or("");
                sink.event(StreamEvent::Error(errors::inside(text)));
                Ok(())
            }
            Ok(chunk) => {
                self.chunk(chunk, named_error, sink);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// OpenAI's reference of `stream_options.include_usage`: "the `choices` field will always be an empty array".
    fn is_usage_only(&self, frame: Frame<'_>) -> bool {
        #[derive(Deserialize)]
        struct Head {
            #[serde(default)]
            choices: Option<List<Anything>>,
            #[serde(default)]
            usage: Present,
        }
        #[derive(Deserialize)]
        struct Anything {}
        // Most chunks have choices: they are told apart without parsing them.
        let Some(at) = memchr::memmem::find(frame.data, b"\"choices\"") else {
            return false;
        };
        let mut rest = frame.data[at + 9..].iter().filter(|b| !b.is_ascii_whitespace());
        if rest.next() != Some(&b':') || rest.next() != Some(&b'[') || rest.next() != Some(&b']') {
            return false;
        }
        let head = serde_json::from_slice::<Obj<Head>>(frame.data)
            .ok()
            .and_then(|head| head.0);
        head.is_some_and(|head| head.usage.0 && head.choices.is_some_and(|choices| choices.0.is_empty()))
    }

    fn finish(&mut self, sink: &mut dyn EventSink) -> StreamEnd {
        for candidate in &mut self.candidates {
            candidate.close(sink);
        }
        let finished = !self.candidates.is_empty() && self.candidates.iter().all(|c| c.finish.is_some());
        if self.failed {
            StreamEnd::Failed
        } else if self.done || self.whole || (finished && self.usage) {
            StreamEnd::Complete
        } else {
            StreamEnd::Truncated
        }
    }
}

fn candidate(candidates: &mut Vec<Candidate>, index: u64) -> Option<&mut Candidate> {
    if let Some(place) = candidates.iter().position(|c| c.index == index) {
        return Some(&mut candidates[place]);
    }
    if candidates.len() == MAX_CANDIDATES {
        return None;
    }
    candidates.push(Candidate {
        index,
        blocks: Blocks::new(u32::try_from(index).unwrap_or(u32::MAX)),
        audio: None,
        tools: Vec::new(),
        finish: None,
    });
    candidates.last_mut()
}

impl Candidate {
    fn delta(&mut self, delta: WireDelta<'_>, odds: Option<&str>, whole: bool, sink: &mut dyn EventSink) {
        let told = [delta.reasoning_content, delta.reasoning]
            .into_iter()
            .find(|text| !text.is_empty())
            .unwrap_or_default();
        reasoning(&mut self.blocks, told.take(), delta.reasoning_details.0, sink);
        match delta.content {
            TextOr::Nothing => {}
            TextOr::Text(text) => self.blocks.text(Kind::Text, text, sink),
            TextOr::Parts(parts) => parts.iter().for_each(|raw| part(&mut self.blocks, *raw, sink)),
        }
        for raw in delta.annotations.0 {
            self.blocks.piece(Kind::Text, Delta::Citation(citation(raw)), sink);
        }
        if let Some(odds) = odds {
            logprobs(&mut self.blocks, Kind::Text, odds, sink);
        }
        self.blocks.text(Kind::Refusal, delta.refusal.take(), sink);
        if let Some(odds) = odds {
            logprobs(&mut self.blocks, Kind::Refusal, odds, sink);
        }
        if let Obj(Some(sound)) = delta.audio {
            audio(&mut self.blocks, &mut self.audio, *sound, sink);
        }
        for picture in delta.images.0 {
            image(&mut self.blocks, picture.image_url, sink);
        }
        for call in delta.tool_calls.0 {
            self.tool(call, whole, sink);
        }
        if let Obj(Some(function)) = delta.function_call
            && !(function.name.is_empty() && arguments(&function).is_empty())
        {
            // The form before tools: one call, without id.
            let call = ToolCall {
                index: Num(Some(0)),
                id: Default::default(),
                function: Obj(Some(*function)),
                ..ToolCall::default()
            };
            self.tool(call, false, sink);
        }
    }

    /// A piece of a tool call. It belongs to the last call of its index; without an index to the last call, or to a new
    /// one if it has an id. Another id with a name under a known index is a new call too (some providers number all
    /// calls 0).
    fn tool(&mut self, call: ToolCall<'_>, whole: bool, sink: &mut dyn EventSink) {
        let id = call.id.as_str();
        let kind = match call.function.0 {
            None if call.custom.0.is_some() => ToolKind::Custom,
            _ => ToolKind::Function,
        };
        let function = call.function.0.or(call.custom.0.map(|custom| *custom));
        let name = function.as_ref().map_or("", |f| f.name.as_str());
        let known = match call.index.0 {
            _ if whole => None,
            Some(index) => self.tools.iter().rposition(|tool| tool.index == Some(index)),
            None if id.is_empty() => self.tools.len().checked_sub(1),
            None => None,
        };
        let other = |tool: &Tool| !id.is_empty() && !tool.id.is_empty() && id != &*tool.id && !name.is_empty();
        let place = match known {
            Some(place) if !other(&self.tools[place]) => place,
            _ if self.tools.len() == MAX_TOOLS => return,
            _ => {
                self.tools.push(Tool {
                    index: call.index.0,
                    id: id.into(),
                    block: None,
                });
                self.tools.len() - 1
            }
        };
        let tool = &mut self.tools[place];
        if tool.id.is_empty() {
            tool.id = id.into();
        }
        let text = function.as_ref().map_or(Cow::Borrowed(""), arguments);
        let block = match tool.block {
            Some(block) => block,
            None if name.is_empty() && text.is_empty() => return,
            None => {
                self.blocks.close(sink);
                let token = call.extra_content.0.and_then(|extra| extra.google.0);
                let head = BlockHead::ToolCall {
                    id: Cow::Borrowed(&tool.id),
                    name: Cow::Borrowed(name),
                    kind,
                    namespace: Cow::Borrowed(""),
                    opaque: token.map_or(Cow::Borrowed(""), |google| google.thought_signature.take()),
                };
                *tool.block.insert(self.blocks.start(head, sink))
            }
        };
        if !text.is_empty() {
            self.blocks.delta(block, Delta::Arguments(text), sink);
        }
    }

    fn close(&mut self, sink: &mut dyn EventSink) {
        self.blocks.close(sink);
        if let Some(block) = self.audio.take() {
            self.blocks.stop(block, sink);
        }
        for tool in &mut self.tools {
            // The block's number is dropped with it: a piece that still comes would open a new one.
            if let Some(block) = tool.block.take() {
                self.blocks.stop(block, sink);
            }
        }
        self.tools.clear();
    }

    fn finish(&mut self, reason: &str, sequence: &str, sink: &mut dyn EventSink) {
        // Some repeat it in a later chunk.
        if reason.is_empty() || self.finish.as_deref() == Some(reason) {
            return;
        }
        self.close(sink);
        self.finish = Some(reason.into());
        sink.event(StreamEvent::Finish {
            candidate: u32::try_from(self.index).unwrap_or(u32::MAX),
            reason: FinishReason {
                sequence: (!sequence.is_empty()).then(|| sequence.into()),
                ..FinishReason::new(finish_kind(reason), reason)
            },
        });
    }
}

fn arguments<'a>(function: &Function<'a>) -> Cow<'a, str> {
    function
        .arguments
        .or(function.input)
        .map_or(Cow::Borrowed(""), json::text_or_raw)
}
