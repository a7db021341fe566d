//! Gemini's answers told in events. A whole answer and an element of a stream are the same object.

use std::borrow::Cow;

use super::wire::{Answer, FunctionCall, Part, WireUsage};
use super::{DIALECT, finish_kind};
use crate::dialects::blocks::{Blocks, Kind};
use crate::dialects::{DecodeError, StreamDecoder, errors, json};
use crate::ir::{BlockHead, Delta, EventSink, FinishKind, FinishReason, StreamEnd, StreamEvent};
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
    open_call: Option<u32>,
    tool_calls: bool,
    finish: Option<FinishReason>,
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
        }
        for wire in answer.candidates.0 {
            let Some(candidate) = candidate(&mut self.candidates, wire.index.0.unwrap_or(0)) else {
                continue;
            };
            for part in wire.content.0.map(|content| content.parts.0).unwrap_or_default() {
                candidate.part(part, sink);
            }
            candidate.finish(wire.finish_reason.as_str(), sink);
        }
        if let Some(usage) = answer.usage.0 {
            self.usage.merge(usage);
            sink.event(StreamEvent::Usage(self.usage.classes()));
        }
        if let Some(feedback) = answer.prompt_feedback.0
            && !feedback.block_reason.is_empty()
            && !std::mem::replace(&mut self.blocked, true)
            && self.candidates.is_empty()
        {
            let raw = feedback.block_reason.as_str().into();
            let reason = FinishReason {
                kind: FinishKind::ContentFilter,
                raw,
            };
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
        tool_calls: false,
        finish: None,
    });
    candidates.last_mut()
}

impl Candidate {
    fn part(&mut self, part: Part<'_>, sink: &mut dyn EventSink) {
        if let Some(call) = part.function_call.0 {
            self.call(call, sink);
        } else if part.inline_data.0 {
            self.blocks.piece(Kind::Native("inlineData"), Delta::Native, sink);
        } else if part.executable_code.0 {
            self.blocks.piece(Kind::Native("executableCode"), Delta::Native, sink);
        } else if part.code_execution_result.0 {
            self.blocks
                .piece(Kind::Native("codeExecutionResult"), Delta::Native, sink);
        } else {
            let kind = if part.thought.0 { Kind::Reasoning } else { Kind::Text };
            self.blocks.text(kind, part.text.take(), sink);
        }
    }

    fn call(&mut self, call: FunctionCall<'_>, sink: &mut dyn EventSink) {
        let named = !call.name.is_empty();
        let continues = !named && self.open_call.is_some();
        let in_pieces = call.partial_args.0 || call.will_continue.0 || continues;
        if named || !in_pieces {
            self.close(sink);
            self.tool_calls = true;
            let head = BlockHead::ToolCall {
                id: call.id.take(),
                name: call.name.take(),
            };
            self.open_call = Some(self.blocks.start(head, sink));
        }
        let Some(block) = self.open_call else { return };
        let arguments = call.args.map_or(Cow::Borrowed(""), json::text_or_raw);
        if !matches!(arguments.as_ref(), "" | "{}") {
            self.blocks.delta(block, Delta::Arguments(arguments), sink);
        }
        if call.partial_args.0 {
            // Values with a JSON path each: to be put together where they are converted, only counted here.
            self.blocks.delta(block, Delta::Native, sink);
        }
        if !(in_pieces && call.will_continue.0) {
            self.close(sink);
        }
    }

    fn close(&mut self, sink: &mut dyn EventSink) {
        self.blocks.close(sink);
        if let Some(block) = self.open_call.take() {
            self.blocks.stop(block, sink);
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
        let reason = FinishReason {
            kind,
            raw: reason.into(),
        };
        // Some repeat it in each element.
        if self.finish.as_ref() != Some(&reason) {
            self.close(sink);
            self.finish = Some(reason.clone());
            let candidate = u32::try_from(self.index).unwrap_or(u32::MAX);
            sink.event(StreamEvent::Finish { candidate, reason });
        }
    }
}
