//! Gemini's answers told in events. A whole answer and an element of a stream are the same object.

use std::borrow::Cow;

use serde_json::Value;

use super::places::Places;
use super::wire::{self, Answer, Blob, FunctionCall, Part, PromptFeedback, WireUsage};
use super::{DIALECT, finish_kind, grounding, partial_args};
use crate::dialects::blocks::{Blocks, Kind};
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, Delta, EventSink, FinishKind, FinishReason, MediaKind, StreamEnd, StreamEvent, ToolKind};
use crate::sse::Frame;

/// Most candidates followed; Gemini's own limit is 8.
const MAX_CANDIDATES: usize = 64;

/// Reads one stream, or one whole answer.
#[derive(Default)]
pub(super) struct Decoder {
    started: bool,
    blocked: bool,
    failed: bool,
    usage: WireUsage,
    candidates: Vec<Candidate>,
}

struct Candidate {
    index: u64,
    blocks: Blocks,
    /// A call whose arguments still come in pieces.
    open_call: Option<OpenCall>,
    /// Sound that still comes in pieces: its block and its type.
    open_sound: Option<(u32, Box<str>)>,
    /// The open text has got its token: what follows is another text.
    sealed: bool,
    /// Places in the open text.
    places: Places,
    /// How many of the text's citations were told; elements of a stream may repeat them.
    cited: usize,
    tool_calls: bool,
    finish: Option<FinishReason>,
}

struct OpenCall {
    block: u32,
    /// The arguments as far as they came in pieces.
    pieces: Option<Value>,
}

impl Decoder {
    /// Tells one object.
    pub(super) fn answer(&mut self, answer: Answer<'_>, sink: &mut dyn EventSink) {
        if let Some(error) = answer.error {
            self.failed = true;
            sink.event(StreamEvent::Error(errors::inside(error)));
        } else if !self.started {
            self.started = true;
            sink.event(StreamEvent::Start {
                id: answer.response_id.take(),
                model: answer.model_version.take(),
            });
            tell_native("createTime", answer.create_time, sink);
        }
        for wire in answer.candidates.all() {
            let Some(candidate) = candidate(&mut self.candidates, wire.index.0.unwrap_or(0)) else {
                continue;
            };
            candidate.element(wire, sink);
        }
        if let Some(usage) = answer.usage.0 {
            self.usage.merge(usage);
            sink.event(StreamEvent::Usage(self.usage.classes()));
            let terms = self.usage.terms();
            if !terms.is_empty() {
                sink.event(StreamEvent::Terms(terms));
            }
        }
        if let Some(feedback) = answer.prompt_feedback.0 {
            self.feedback(feedback, sink);
        }
    }

    /// A prompt that was blocked has no candidates.
    fn feedback(&mut self, feedback: PromptFeedback<'_>, sink: &mut dyn EventSink) {
        let raw = feedback.block_reason.as_str();
        if raw.is_empty() || std::mem::replace(&mut self.blocked, true) {
            return;
        }
        tell_native("safetyRatings", feedback.safety_ratings, sink);
        if !feedback.message.is_empty() {
            let message = Value::from(feedback.message.as_str()).to_string();
            tell_native("finishMessage", Some(&message), sink);
        }
        if self.candidates.is_empty() {
            let reason = FinishReason::new(FinishKind::ContentFilter, raw);
            sink.event(StreamEvent::Finish { candidate: 0, reason });
        }
    }

    /// Closes what is open. `whole`: the body was read to its end as one document, so that it cannot be cut.
    pub(super) fn end(&mut self, whole: bool, sink: &mut dyn EventSink) -> StreamEnd {
        for candidate in &mut self.candidates {
            candidate.close(sink);
        }
        let finished = self.blocked || self.candidates.iter().any(|c| c.finish.is_some());
        if self.failed {
            StreamEnd::Failed
        } else if finished || whole {
            StreamEnd::Complete
        } else {
            StreamEnd::Truncated
        }
    }
}

impl StreamDecoder for Decoder {
    fn frame(&mut self, frame: Frame<'_>, sink: &mut dyn EventSink) -> Result<(), DecodeError> {
        self.answer(json::object(DIALECT, frame.data)?, sink);
        Ok(())
    }

    fn finish(&mut self, sink: &mut dyn EventSink) -> StreamEnd {
        self.end(false, sink)
    }
}

/// A field of the answer only this dialect knows.
fn tell_native(key: &'static str, json: Option<&str>, sink: &mut dyn EventSink) {
    if let Some(json) = json.filter(|json| !matches!(*json, "[]" | "{}" | "\"\"")) {
        let json = Cow::Borrowed(json);
        sink.event(StreamEvent::Native { key, json });
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
        open_call: None,
        open_sound: None,
        sealed: false,
        places: Places::default(),
        cited: 0,
        tool_calls: false,
        finish: None,
    });
    candidates.last_mut()
}

impl Candidate {
    /// One element's piece of the candidate.
    fn element(&mut self, wire: wire::Candidate<'_>, sink: &mut dyn EventSink) {
        for part in wire.content.0.into_iter().flat_map(|content| content.parts.all()) {
            self.part(part, sink);
        }
        if let Some(text) = self.blocks.open(Kind::Text) {
            if let Some(raw) = wire.logprobs {
                let logprobs = grounding::read_logprobs(raw);
                if !logprobs.is_empty() {
                    self.blocks.delta(text, Delta::Logprobs(logprobs), sink);
                }
            }
            if let Some(raw) = wire.grounding {
                let citations = grounding::read(raw, &self.places);
                for citation in citations.into_iter().skip(self.cited) {
                    self.cited += 1;
                    self.blocks.delta(text, Delta::Citation(citation), sink);
                }
            }
        }
        // The hub's answers have one of each; the first candidate's is told.
        if self.index == 0 {
            tell_native("safetyRatings", wire.safety_ratings, sink);
            tell_native("groundingMetadata", wire.grounding, sink);
            tell_native("citationMetadata", wire.citations, sink);
            tell_native("urlContextMetadata", wire.url_context, sink);
            tell_native("avgLogprobs", wire.avg_logprobs, sink);
            // "Model generated function call(s)." says no more than the reason does.
            let message = wire.finish_message.filter(|_| wire.finish_reason.as_str() != "STOP");
            tell_native("finishMessage", message, sink);
        }
        self.finish(wire.finish_reason.as_str(), sink);
    }

    fn part(&mut self, part: Part<'_>, sink: &mut dyn EventSink) {
        if let Some(call) = part.function_call.0 {
            self.call(call, part.signature.take(), sink);
            return;
        }
        let natives = [
            ("executableCode", part.executable_code),
            ("codeExecutionResult", part.code_execution_result),
            ("toolCall", part.tool_call),
            ("toolResponse", part.tool_response),
        ];
        if let Some((kind, raw)) = natives.into_iter().find_map(|(kind, raw)| Some((kind, raw?))) {
            self.native(kind, raw, part.signature.as_str(), sink);
        } else if let Some(blob) = part.inline_data.0.or(part.file_data.0) {
            self.media(blob, part.thought.0, part.signature.take(), sink);
        } else {
            let kind = if part.thought.0 { Kind::Reasoning } else { Kind::Text };
            self.text(kind, part.text.take(), part.signature.take(), sink);
        }
    }

    /// A piece of text, and the token of the text it belongs to.
    fn text(&mut self, kind: Kind, text: Cow<'_, str>, token: Cow<'_, str>, sink: &mut dyn EventSink) {
        if text.is_empty() && token.is_empty() {
            return;
        }
        self.end_sound(sink);
        if std::mem::take(&mut self.sealed) {
            self.blocks.close(sink);
        }
        if kind == Kind::Text {
            if self.blocks.open(Kind::Text).is_none() {
                self.places = Places::default();
                self.cited = 0;
            }
            self.places.push(&text);
        }
        self.blocks.text(kind, text, sink);
        if !token.is_empty() {
            self.blocks.piece(kind, Delta::Opaque(token), sink);
            self.sealed = true;
        }
    }

    /// A part of a server tool: kept as it is.
    fn native(&mut self, kind: &'static str, raw: &str, token: &str, sink: &mut dyn EventSink) {
        self.close(sink);
        let mut json = format!("{{\"{kind}\":{raw}");
        if !token.is_empty() {
            json.push_str(",\"thoughtSignature\":");
            json.push_str(&Value::from(token).to_string());
        }
        json.push('}');
        let head = BlockHead::Native {
            kind: Cow::Borrowed(kind),
            json: Cow::Owned(json),
        };
        let block = self.blocks.start(head, sink);
        self.blocks.stop(block, sink);
    }

    /// Media: sound comes in pieces, everything else whole.
    fn media(&mut self, blob: Blob<'_>, thought: bool, token: Cow<'_, str>, sink: &mut dyn EventSink) {
        let (mime, uri, data) = (blob.mime.take(), blob.uri.take(), blob.data.take());
        if thought {
            // A draft the model made while thinking: not part of the answer.
            let raw = serde_json::json!({"mimeType": mime, "data": data}).to_string();
            self.native("inlineData", &raw, &token, sink);
            return;
        }
        let kind = MediaKind::of_mime(&mime);
        let goes_on = matches!(&self.open_sound, Some((_, open)) if **open == *mime && uri.is_empty());
        if !goes_on {
            self.close(sink);
        }
        let block = match &self.open_sound {
            Some((block, _)) => *block,
            None => {
                let open: Box<str> = mime.as_ref().into();
                let head = BlockHead::Media { kind, mime, url: uri };
                let block = self.blocks.start(head, sink);
                self.open_sound = Some((block, open));
                block
            }
        };
        if !data.is_empty() {
            self.blocks.delta(block, Delta::Data(data), sink);
        }
        if !token.is_empty() {
            self.blocks.delta(block, Delta::Opaque(token), sink);
        }
        if kind != MediaKind::Audio {
            self.end_sound(sink);
        }
    }

    fn end_sound(&mut self, sink: &mut dyn EventSink) {
        if let Some((block, _)) = self.open_sound.take() {
            self.blocks.stop(block, sink);
        }
    }

    fn call(&mut self, call: FunctionCall<'_>, token: Cow<'_, str>, sink: &mut dyn EventSink) {
        let named = !call.name.is_empty();
        let continues = !named && self.open_call.is_some();
        let in_pieces = !call.partial_args.0.is_empty() || call.will_continue.0 || continues;
        let mut late_token = token;
        if named || !in_pieces {
            self.close(sink);
            self.tool_calls = true;
            let head = BlockHead::ToolCall {
                id: call.id.take(),
                name: call.name.take(),
                kind: ToolKind::Function,
                namespace: Cow::Borrowed(""),
                opaque: std::mem::take(&mut late_token),
            };
            let block = self.blocks.start(head, sink);
            self.open_call = Some(OpenCall { block, pieces: None });
        }
        let Some(open) = &mut self.open_call else { return };
        if !late_token.is_empty() {
            self.blocks.delta(open.block, Delta::Opaque(late_token), sink);
        }
        if in_pieces {
            let pieces = open.pieces.get_or_insert_with(|| Value::Object(Default::default()));
            if let Some(Value::Object(args)) = call.args.and_then(|args| serde_json::from_str(args).ok())
                && let Value::Object(known) = pieces
            {
                known.extend(args);
            }
            for piece in &call.partial_args.0 {
                partial_args::set(pieces, piece);
            }
            if !call.will_continue.0 {
                self.end_call(sink);
            }
            return;
        }
        let arguments = call.args.map_or(Cow::Borrowed(""), json::text_or_raw);
        if !matches!(arguments.as_ref(), "" | "{}") {
            self.blocks.delta(open.block, Delta::Arguments(arguments), sink);
        }
        self.close(sink);
    }

    /// The open call is complete: tells the arguments that came in pieces.
    fn end_call(&mut self, sink: &mut dyn EventSink) {
        let Some(open) = self.open_call.take() else { return };
        if let Some(pieces) = open
            .pieces
            .filter(|pieces| pieces.as_object().is_none_or(|map| !map.is_empty()))
        {
            self.blocks
                .delta(open.block, Delta::Arguments(pieces.to_string().into()), sink);
        }
        self.blocks.stop(open.block, sink);
    }

    fn close(&mut self, sink: &mut dyn EventSink) {
        self.sealed = false;
        self.blocks.close(sink);
        self.end_sound(sink);
        if let Some(open) = self.open_call.take() {
            // Cut: its arguments are not all there.
            self.blocks.stop(open.block, sink);
        }
    }

    fn finish(&mut self, reason: &str, sink: &mut dyn EventSink) {
        if reason.is_empty() {
            return;
        }
        let kind = match finish_kind(reason) {
            // There is no reason of its own for tool calls.
            FinishKind::Stop if self.tool_calls => FinishKind::ToolCalls,
            kind => kind,
        };
        let reason = FinishReason::new(kind, reason);
        // Some repeat it in each element.
        if self.finish.as_ref() != Some(&reason) {
            self.end_call(sink);
            self.close(sink);
            self.finish = Some(reason.clone());
            let candidate = u32::try_from(self.index).unwrap_or(u32::MAX);
            sink.event(StreamEvent::Finish { candidate, reason });
        }
    }
}
