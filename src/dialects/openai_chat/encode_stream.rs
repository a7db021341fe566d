//! Streams, written event by event: `chat.completion.chunk`s as OpenAI's reference has them ("The chat completion chunk
//! object"), the last one with usage only if it was asked for, then `[DONE]`.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::deltas::{arguments, audio, call, field, list, reasoning};
use super::encode::image;
use super::{answer, details};
use crate::dialects::*;
use crate::ir::{
    ApiError, BlockHead, BlockIndex, Delta, FinishReason, LossReport, MediaKind, StreamEvent, ToolKind, Usage,
};

/// Most blocks and candidates followed; decoders tell fewer.
const MAX_OPEN: usize = 4096;

/// Writes one stream.
pub(super) struct Encoder {
    to: Answering,
    /// Every chunk up to its choices.
    head: Vec<u8>,
    id: String,
    model: String,
    started: bool,
    /// The answer's own fields, as JSON, by their place in [`answer::FIELDS`].
    fields: [Option<String>; answer::FIELDS.len()],
    candidates: Vec<Candidate>,
    usage: Option<Usage>,
}

#[derive(Default)]
struct Candidate {
    index: u32,
    /// Its role was told.
    spoke: bool,
    open: Vec<Open>,
    calls: u32,
    details: u32,
    images: usize,
    /// Characters of its text so far.
    chars: u64,
    finish: Option<FinishReason>,
}

/// An open block.
struct Open {
    block: u32,
    kind: Kind,
    /// Its number among those of its kind.
    number: u32,
    /// Where its text begins in the candidate's.
    from: u64,
    /// Its token so far: tokens are told whole, when the block ends.
    token: String,
    has_text: bool,
}

enum Kind {
    Text,
    Reasoning,
    Refusal,
    Call(ToolKind),
    Audio,
    Image {
        mime: String,
        url: String,
        data: String,
    },
    /// It has no place in this dialect.
    None,
}

impl Encoder {
    pub(super) fn new(to: Answering) -> Self {
        Encoder {
            to,
            head: Vec::new(),
            id: String::new(),
            model: String::new(),
            started: false,
            fields: Default::default(),
            candidates: Vec::new(),
            usage: None,
        }
    }

    /// Writes what every chunk begins with.
    fn set_head(&mut self) {
        let head = json!({
            "id": answer::id(&self.id, &self.to),
            "object": "chat.completion.chunk",
            "created": self.to.created,
            "model": answer::model(&self.model, &self.to),
        });
        let mut text = format!("data: {head}");
        text.pop();
        for (key, value) in answer::FIELDS.iter().zip(&self.fields).take(answer::IN_EVERY_CHUNK) {
            if let Some(value) = value {
                text.push_str(&format!(",\"{key}\":{value}"));
            }
        }
        text.push_str(",\"choices\":[");
        self.head = text.into_bytes();
    }

    fn start(&mut self, out: &mut BytesMut) {
        if self.started {
            return;
        }
        self.started = true;
        self.set_head();
        // As OpenAI does, the role comes first and alone.
        let place = self.candidate(0);
        if let Some(place) = place {
            self.chunk(place, out, |out| write::raw(out, "\"content\":\"\""));
        }
    }

    fn candidate(&mut self, index: u32) -> Option<usize> {
        if let Some(place) = self.candidates.iter().position(|candidate| candidate.index == index) {
            return Some(place);
        }
        if self.candidates.len() == MAX_OPEN {
            return None;
        }
        self.candidates.push(Candidate {
            index,
            ..Candidate::default()
        });
        Some(self.candidates.len() - 1)
    }

    /// Writes a chunk with the delta that `delta` writes.
    fn chunk(&mut self, place: usize, out: &mut BytesMut, delta: impl FnOnce(&mut BytesMut)) {
        self.choice(place, out, delta);
        write::raw(out, "},\"finish_reason\":null}]");
        self.end(out);
    }

    /// Writes a chunk up to the end of its delta's fields.
    fn choice(&mut self, place: usize, out: &mut BytesMut, delta: impl FnOnce(&mut BytesMut)) {
        let candidate = &mut self.candidates[place];
        out.extend_from_slice(&self.head);
        write::raw(out, "{\"index\":");
        write::json(out, &candidate.index);
        write::raw(out, ",\"delta\":{");
        if !candidate.spoke {
            candidate.spoke = true;
            write::raw(out, "\"role\":\"assistant\",");
        }
        delta(out);
    }

    /// Ends a chunk. Where usage is told at the end, all others say that there is none yet.
    fn end(&self, out: &mut BytesMut) {
        write::raw(out, if self.to.include_usage { ",\"usage\":null}" } else { "}" });
        write::end(out);
    }

    fn begin(&mut self, index: BlockIndex, head: BlockHead<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        let Some(place) = self.candidate(index.candidate) else {
            return;
        };
        let candidate = &mut self.candidates[place];
        if candidate.open.len() == MAX_OPEN {
            return;
        }
        let mut open = Open {
            block: index.block,
            kind: Kind::None,
            number: 0,
            from: candidate.chars,
            token: String::new(),
            has_text: false,
        };
        open.kind = match head {
            BlockHead::Text => Kind::Text,
            BlockHead::Refusal => Kind::Refusal,
            BlockHead::Reasoning => {
                open.number = candidate.details;
                candidate.details += 1;
                Kind::Reasoning
            }
            BlockHead::ToolCall {
                id, name, kind, opaque, ..
            } => {
                open.number = candidate.calls;
                candidate.calls += 1;
                let number = open.number;
                self.chunk(place, out, |out| call(out, number, &id, &name, kind, &opaque));
                Kind::Call(kind)
            }
            BlockHead::Media { kind, mime, url } => match kind {
                MediaKind::Audio => Kind::Audio,
                MediaKind::Image => Kind::Image {
                    mime: mime.into_owned(),
                    url: url.into_owned(),
                    data: String::new(),
                },
                MediaKind::Video | MediaKind::Document => {
                    loss.dropped("content", "answers hold text, images and sound only");
                    Kind::None
                }
            },
            BlockHead::Native { .. } => {
                loss.dropped("content", "the block is of another dialect");
                Kind::None
            }
        };
        self.candidates[place].open.push(open);
    }

    fn delta(&mut self, index: BlockIndex, delta: Delta<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        let Some(place) = self.candidates.iter().position(|c| c.index == index.candidate) else {
            return;
        };
        let candidate = &mut self.candidates[place];
        let Some(open) = candidate.open.iter_mut().rfind(|open| open.block == index.block) else {
            return;
        };
        let (number, from) = (open.number, open.from);
        match (delta, &mut open.kind) {
            (Delta::Text(text), Kind::Text) => {
                candidate.chars += text.chars().count() as u64;
                self.chunk(place, out, |out| field(out, "\"content\":", &text));
            }
            (Delta::Text(text), Kind::Reasoning) => {
                open.has_text = true;
                self.chunk(place, out, |out| reasoning(out, &text, number));
            }
            (Delta::Text(text), Kind::Refusal) => self.chunk(place, out, |out| field(out, "\"refusal\":", &text)),
            (Delta::Text(text), Kind::Audio) => {
                let id = answer::audio_id(&self.to);
                self.chunk(place, out, |out| audio(out, &id, "transcript", &text));
            }
            (Delta::Data(data), Kind::Audio) => {
                let id = answer::audio_id(&self.to);
                self.chunk(place, out, |out| audio(out, &id, "data", &data));
            }
            (Delta::Data(piece), Kind::Image { data, .. }) => data.push_str(&piece),
            (Delta::Arguments(text), Kind::Call(kind)) => {
                let kind = *kind;
                self.chunk(place, out, |out| arguments(out, number, kind, &text));
            }
            (Delta::Opaque(piece), _) => open.token.push_str(&piece),
            (Delta::Citation(citation), Kind::Text) => {
                if let Some(annotation) = answer::annotation(&citation, from, candidate.chars, loss) {
                    self.chunk(place, out, |out| {
                        write::raw(out, "\"annotations\":[");
                        write::json(out, &annotation);
                        write::raw(out, "]");
                    });
                }
            }
            (Delta::Logprobs(tokens), kind @ (Kind::Text | Kind::Refusal)) => {
                let fields = match kind {
                    Kind::Text => ["{\"content\":", ",\"refusal\":null}"],
                    _ => ["{\"content\":null,\"refusal\":", "}"],
                };
                self.choice(place, out, |out| write::raw(out, "\"content\":\"\""));
                write::raw(out, "},\"logprobs\":");
                write::raw(out, fields[0]);
                write::json(out, &answer::logprobs(&tokens));
                write::raw(out, fields[1]);
                write::raw(out, ",\"finish_reason\":null}]");
                self.end(out);
            }
            (Delta::Native(_), Kind::None) => {}
            (Delta::Native(_), _) => loss.dropped("content", "a piece of another dialect"),
            _ => {}
        }
    }

    fn stop(&mut self, index: BlockIndex, out: &mut BytesMut) {
        let Some(place) = self.candidates.iter().position(|c| c.index == index.candidate) else {
            return;
        };
        let candidate = &mut self.candidates[place];
        let Some(number) = candidate.open.iter().rposition(|open| open.block == index.block) else {
            return;
        };
        let open = candidate.open.remove(number);
        if let Kind::Image { mime, url, data } = &open.kind {
            let number = candidate.images;
            candidate.images += 1;
            let inline = url.is_empty();
            let mime = Some(mime.as_str()).filter(|mime| !mime.is_empty());
            let image = image(mime, if inline { data } else { url }, inline, number);
            self.chunk(place, out, |out| list(out, "\"images\":[", &image));
        }
        if open.token.is_empty() || !matches!(open.kind, Kind::Text | Kind::Reasoning) {
            return;
        }
        let candidate = &mut self.candidates[place];
        let number = match open.kind {
            Kind::Reasoning => open.number,
            // The token of a text is an entry of its own.
            _ => {
                candidate.details += 1;
                candidate.details - 1
            }
        };
        let signs = matches!(open.kind, Kind::Reasoning) && open.has_text;
        let mut entry = details::token_entry(&open.token, signs);
        entry.insert("index".into(), number.into());
        self.chunk(place, out, |out| {
            list(out, "\"reasoning_details\":[", &Value::Object(entry))
        });
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: StreamEvent<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        match event {
            StreamEvent::Start { id, model } => {
                self.id = id.into_owned();
                self.model = model.into_owned();
                self.start(out);
            }
            StreamEvent::BlockStart { index, block } => {
                self.start(out);
                self.begin(index, block, out, loss);
            }
            StreamEvent::Delta { index, delta } => self.delta(index, delta, out, loss),
            StreamEvent::BlockStop { index } => self.stop(index, out),
            StreamEvent::Usage(usage) => self.usage = Some(usage),
            StreamEvent::Finish { candidate, reason } => {
                if let Some(place) = self.candidate(candidate) {
                    self.candidates[place].finish = Some(reason);
                }
            }
            StreamEvent::Native { key, json } => match answer::FIELDS.iter().position(|field| *field == key) {
                Some(place) => {
                    self.fields[place] = Some(json.into_owned());
                    if place < answer::IN_EVERY_CHUNK && self.started {
                        self.set_head();
                    }
                }
                None => loss.dropped(key, "the client's dialect has no such field"),
            },
            // Errors come by `fail`; there is nothing to keep alive that a comment could not.
            // What is billed is for the meter.
            StreamEvent::Ping | StreamEvent::Error(_) | StreamEvent::Terms(_) => {}
        }
    }

    fn finish(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        self.start(out);
        for place in 0..self.candidates.len() {
            let candidate = &mut self.candidates[place];
            let word = answer::finish_word(candidate.finish.take().as_ref(), candidate.calls > 0, loss);
            let spoke = candidate.spoke;
            self.choice(place, out, |out| {
                if !spoke {
                    write::raw(out, "\"content\":\"\"");
                }
            });
            write::raw(out, "},\"finish_reason\":\"");
            write::raw(out, word);
            write::raw(out, "\"}]");
            if place == 0 {
                let late = answer::FIELDS.iter().zip(&self.fields).skip(answer::IN_EVERY_CHUNK);
                for (key, value) in late.filter_map(|(key, value)| Some((key, value.as_deref()?))) {
                    write::raw(out, ",\"");
                    write::raw(out, key);
                    write::raw(out, "\":");
                    write::raw(out, value);
                }
            }
            self.end(out);
        }
        if let Some(usage) = self.usage.filter(|_| self.to.include_usage) {
            out.extend_from_slice(&self.head);
            write::raw(out, "],\"usage\":");
            write::json(out, &answer::usage(&usage));
            write::raw(out, "}");
            write::end(out);
        }
        write::raw(out, "data: [DONE]");
        write::end(out);
    }

    fn fail(&mut self, error: &ApiError, out: &mut BytesMut) {
        write::raw(out, "data: ");
        write::json(out, &openai_error::body(error));
        write::end(out);
    }
}
