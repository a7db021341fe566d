//! Answers, written event by event. A whole answer is what the elements of a stream add up to, so that one writer does
//! both: parts go into frames as they come, or into the answer's list of parts; the last object says how it ended.

use bytes::BytesMut;
use serde_json::Value;

use super::finish_word::finish_word;
use super::grounding::{self, Grounding};
use super::media::append_base64;
use super::write_parts::{call_part, data_part, file_part, one_line, signature, text_part};
use super::{Gemini, places, usage};
use crate::dialects::write::{json, raw};
use crate::dialects::{Answering, Dialect, StreamEncoder};
use crate::ir::message::arguments_object;
use crate::ir::{
    ApiError, BlockHead, BlockIndex, Delta, FinishReason, Logprob, LossReport, MediaKind, StreamEvent, Usage,
};
use crate::sse::Framing;

/// Kinds of parts which are this dialect's own.
const OWN_PARTS: [&str; 5] = [
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
    "inlineData",
];
/// Fields of a candidate which are this dialect's own.
const OWN_FIELDS: [&str; 6] = [
    "safetyRatings",
    "groundingMetadata",
    "citationMetadata",
    "urlContextMetadata",
    "avgLogprobs",
    "finishMessage",
];

/// Writes one answer.
pub(super) struct Encoder {
    to: Answering,
    /// Nothing goes out before the end: all of it is one object.
    whole: bool,
    /// No element went out yet.
    first: bool,
    /// What ends each element: the answer's id, model and time.
    tail: String,
    usage: Option<Usage>,
    candidates: Vec<Candidate>,
}

/// What is known of a candidate.
#[derive(Default)]
struct Candidate {
    index: u32,
    /// The parts of a whole answer, as JSON.
    parts: BytesMut,
    open: Vec<Open>,
    finish: Option<FinishReason>,
    refused: bool,
    logprobs: Vec<Logprob>,
    grounding: Grounding,
    /// Its own fields, as JSON.
    fields: Vec<(&'static str, String)>,
}

/// A block that has begun.
struct Open {
    block: u32,
    what: What,
    token: String,
    places: places::Places,
}

enum What {
    Text {
        thought: bool,
    },
    Call {
        id: String,
        name: String,
        arguments: String,
    },
    Media {
        kind: MediaKind,
        mime: String,
        url: String,
        data: String,
    },
    /// Written, or lost, when it began.
    Done,
}

impl Encoder {
    pub(super) fn new(to: Answering) -> Self {
        let mut encoder = Encoder {
            to,
            whole: false,
            first: true,
            tail: String::new(),
            usage: None,
            candidates: Vec::new(),
        };
        encoder.start("", "");
        encoder
    }

    /// A writer whose whole output is the object it writes at the end.
    pub(super) fn whole(to: Answering) -> Self {
        Encoder {
            whole: true,
            ..Encoder::new(to)
        }
    }

    fn start(&mut self, id: &str, model: &str) {
        let id = if id.is_empty() { &self.to.request_id } else { id };
        let model = if model.is_empty() { &self.to.model } else { model };
        self.tail = format!(
            ",\"modelVersion\":{},\"responseId\":{}}}",
            Value::from(model),
            Value::from(id.to_owned())
        );
    }

    /// A field only this dialect knows.
    pub(super) fn native(&mut self, key: &str, value: &str, loss: &mut LossReport) {
        if key == "createTime" {
            // It stands in each element.
            self.tail.pop();
            self.tail.push_str(",\"createTime\":");
            self.tail.extend(value.chars().filter(|c| !matches!(c, '\n' | '\r')));
            self.tail.push('}');
        } else if let Some(field) = OWN_FIELDS.iter().find(|field| **field == key) {
            let place = self.candidate(0);
            let fields = &mut self.candidates[place].fields;
            fields.retain(|(known, _)| known != field);
            fields.push((field, value.to_owned()));
        } else {
            loss.dropped(key.to_owned(), "a field of another dialect's answers");
        }
    }

    /// Where a candidate stands; it is made if it is new.
    fn candidate(&mut self, index: u32) -> usize {
        if let Some(place) = self.candidates.iter().position(|candidate| candidate.index == index) {
            return place;
        }
        self.candidates.push(Candidate {
            index,
            ..Candidate::default()
        });
        self.candidates.len() - 1
    }

    fn open_frame(&mut self, out: &mut BytesMut) {
        let first = std::mem::take(&mut self.first);
        match (self.whole, self.to.framing, first) {
            (true, ..) => {}
            (false, Framing::Sse, _) => raw(out, "data: "),
            (false, Framing::JsonArray, true) => raw(out, "["),
            (false, Framing::JsonArray, false) => raw(out, ",\r\n"),
        }
    }

    fn close_frame(&self, out: &mut BytesMut) {
        if !self.whole && self.to.framing == Framing::Sse {
            // Line ends as Gemini's own.
            raw(out, "\r\n\r\n");
        }
    }

    /// Writes one part: as an element of the stream, or into the list of the whole.
    fn part(&mut self, place: usize, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
        if self.whole {
            let parts = &mut self.candidates[place].parts;
            if !parts.is_empty() {
                raw(parts, ",");
            }
            write(parts);
            return;
        }
        self.open_frame(out);
        raw(out, "{\"candidates\":[{\"content\":{\"parts\":[");
        write(out);
        raw(out, "],\"role\":\"model\"},\"index\":");
        json(out, &self.candidates[place].index);
        raw(out, "}]");
        raw(out, &self.tail);
        self.close_frame(out);
    }

    fn begin(&mut self, index: BlockIndex, head: BlockHead<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        let place = self.candidate(index.candidate);
        let mut token = String::new();
        let what = match head {
            BlockHead::Text => What::Text { thought: false },
            BlockHead::Reasoning => What::Text { thought: true },
            BlockHead::Refusal => {
                self.candidates[place].refused = true;
                What::Text { thought: false }
            }
            BlockHead::ToolCall { id, name, opaque, .. } => {
                token = opaque.into_owned();
                What::Call {
                    id: id.into_owned(),
                    name: name.into_owned(),
                    arguments: String::new(),
                }
            }
            BlockHead::Media { kind, mime, url } => What::Media {
                kind,
                mime: mime.into_owned(),
                url: url.into_owned(),
                data: String::new(),
            },
            BlockHead::Native { kind, json: text } => {
                if OWN_PARTS.contains(&kind.as_ref()) && arguments_object(&text).is_some_and(|part| !part.is_empty()) {
                    self.part(place, out, |out| one_line(out, &text));
                } else {
                    loss.dropped(kind.into_owned(), "a block of another dialect");
                }
                What::Done
            }
        };
        self.candidates[place].open.push(Open {
            block: index.block,
            what,
            token,
            places: places::Places::default(),
        });
    }

    fn delta(&mut self, index: BlockIndex, delta: Delta<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        let place = self.candidate(index.candidate);
        let candidate = &mut self.candidates[place];
        let Some(open) = candidate.open.iter_mut().find(|open| open.block == index.block) else {
            return;
        };
        match (delta, &mut open.what) {
            (Delta::Text(text), What::Text { thought }) if !text.is_empty() => {
                let thought = *thought;
                open.places.push(&text);
                self.part(place, out, |out| text_part(out, &text, thought, ""));
            }
            (Delta::Text(text), What::Media { .. }) => {
                loss.approximated("transcript", "what is said in a sound is a text beside it");
                self.part(place, out, |out| text_part(out, &text, false, ""));
            }
            (Delta::Arguments(piece), What::Call { arguments, .. }) => arguments.push_str(&piece),
            // Sound is played as it comes.
            (Delta::Data(piece), What::Media { kind, mime, .. }) if *kind == MediaKind::Audio => {
                let mime = std::mem::take(mime);
                self.part(place, out, |out| data_part(out, &mime, &piece, ""));
                self.reopen(place, index.block, mime);
            }
            (Delta::Data(piece), What::Media { data, .. }) => append_base64(data, &piece),
            (Delta::Opaque(piece), _) => open.token.push_str(&piece),
            (Delta::Citation(citation), _) => {
                let told = candidate.grounding.add(&citation, &open.places);
                if !told {
                    loss.dropped("citation", "sources without an address can't be told there");
                }
            }
            (Delta::Logprobs(mut logprobs), _) => candidate.logprobs.append(&mut logprobs),
            (Delta::Native(text), What::Text { .. } | What::Call { .. } | What::Media { .. }) if !text.is_empty() => {
                loss.dropped("delta", "a piece of another dialect");
            }
            _ => {}
        }
    }

    /// Gives a sound its type back.
    fn reopen(&mut self, place: usize, block: u32, of: String) {
        let open = self.candidates[place].open.iter_mut().find(|open| open.block == block);
        if let Some(What::Media { mime, .. }) = open.map(|open| &mut open.what) {
            *mime = of;
        }
    }

    fn stop(&mut self, index: BlockIndex, out: &mut BytesMut, loss: &mut LossReport) {
        let place = self.candidate(index.candidate);
        let open = &mut self.candidates[place].open;
        let Some(at) = open.iter().position(|open| open.block == index.block) else {
            return;
        };
        let Open { what, token, .. } = open.remove(at);
        let token = signature(token);
        match what {
            What::Text { thought } if !token.is_empty() => {
                self.part(place, out, |out| text_part(out, "", thought, &token));
            }
            What::Call { id, name, arguments } => {
                let is_object = arguments_object(&arguments).is_some();
                if !is_object {
                    loss.approximated("arguments", "arguments must be a JSON object");
                }
                self.part(place, out, |out| {
                    call_part(out, [&id, &name, &arguments], is_object, &token)
                });
            }
            What::Media { mime, url, data, .. } if !data.is_empty() || !url.is_empty() => {
                self.part(place, out, |out| match url.is_empty() {
                    true => data_part(out, &mime, &data, &token),
                    false => file_part(out, &mime, &url, &token),
                });
            }
            What::Text { .. } | What::Media { .. } | What::Done => {}
        }
    }

    /// The last object: how each candidate ended, and what it cost.
    fn end(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        // Blocks which nobody ended.
        let open: Vec<BlockIndex> = self.candidates.iter().flat_map(Candidate::open_blocks).collect();
        for index in open {
            self.stop(index, out, loss);
        }
        if self.candidates.is_empty() {
            self.candidate(0);
        }
        self.candidates.sort_by_key(|candidate| candidate.index);
        self.open_frame(out);
        raw(out, "{\"candidates\":[");
        for (number, candidate) in self.candidates.iter().enumerate() {
            if number > 0 {
                raw(out, ",");
            }
            candidate.write(self.whole, out, loss);
        }
        raw(out, "]");
        if let Some(usage) = &self.usage {
            raw(out, ",\"usageMetadata\":");
            json(out, &usage::metadata(usage));
        }
        raw(out, &self.tail);
        self.close_frame(out);
        if !self.whole && self.to.framing == Framing::JsonArray {
            raw(out, "]");
        }
    }
}

impl Candidate {
    fn open_blocks(&self) -> impl Iterator<Item = BlockIndex> {
        self.open.iter().map(|open| BlockIndex {
            candidate: self.index,
            block: open.block,
        })
    }

    /// The candidate in the last object. Content with a part stands there in a stream too, as in Google's own: clients
    /// drop a turn from their history if an element has none.
    fn write(&self, whole: bool, out: &mut BytesMut, loss: &mut LossReport) {
        raw(out, "{\"content\":{");
        if !whole {
            raw(out, "\"parts\":[{\"text\":\"\"}],");
        } else if !self.parts.is_empty() {
            raw(out, "\"parts\":[");
            out.extend_from_slice(&self.parts);
            raw(out, "],");
        }
        raw(out, "\"role\":\"model\"},\"finishReason\":");
        json(out, finish_word(self.finish.as_ref(), self.refused, loss).as_ref());
        raw(out, ",\"index\":");
        json(out, &self.index);
        for (field, value) in &self.fields {
            raw(out, ",");
            json(out, field);
            raw(out, ":");
            one_line(out, value);
        }
        let grounded = self.fields.iter().any(|(field, _)| *field == "groundingMetadata");
        if let Some(metadata) = self.grounding.metadata().filter(|_| !grounded) {
            raw(out, ",\"groundingMetadata\":");
            json(out, &metadata);
        }
        if !self.logprobs.is_empty() {
            raw(out, ",\"logprobsResult\":");
            json(out, &grounding::logprobs(&self.logprobs));
        }
        raw(out, "}");
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: StreamEvent<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        match event {
            StreamEvent::Start { id, model } => self.start(&id, &model),
            StreamEvent::BlockStart { index, block } => self.begin(index, block, out, loss),
            StreamEvent::Delta { index, delta } => self.delta(index, delta, out, loss),
            StreamEvent::BlockStop { index } => self.stop(index, out, loss),
            StreamEvent::Usage(usage) => self.usage = Some(usage),
            StreamEvent::Finish { candidate, reason } => {
                let place = self.candidate(candidate);
                self.candidates[place].finish = Some(reason);
            }
            StreamEvent::Native { key, json } => self.native(key, &json, loss),
            // Comments and empty elements break clients. What is billed is for the meter.
            StreamEvent::Ping | StreamEvent::Error(_) | StreamEvent::Terms(_) => {}
        }
    }

    fn finish(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        self.end(out, loss);
    }

    fn fail(&mut self, error: &ApiError, out: &mut BytesMut) {
        let bytes = Gemini.encode_stream_error(error, &self.to.request_id, self.to.framing, self.first);
        out.extend_from_slice(&bytes);
    }
}
