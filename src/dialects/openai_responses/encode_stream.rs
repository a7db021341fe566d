//! Streams, written event by event.
//!
//! Each block becomes an item of its own, but texts and refusals in a row are parts of one message. An item is done when
//! its last block has ended and something else begins, or nothing more comes: only then is it known whether it is whole.

use bytes::BytesMut;
use serde_json::Value;

use super::encode_request::TIERS;
use super::events::{Events, at_item};
use super::object::{self, Head, State};
use super::output::{self, Call, Item, Kind, Part};
use crate::dialects::openai_error;
use crate::dialects::*;
use crate::ir::{
    BlockHead, BlockIndex, Delta, FinishKind, FinishReason, LossReport, MediaKind, StreamEvent, ToolKind, Usage,
};

/// Writes one answer.
pub(super) struct Encoder {
    head: Head,
    events: Events,
    request_id: String,
    started: bool,
    items: Vec<Item>,
    open: Vec<Open>,
    /// The last item, if its blocks have all ended and it was not told to be done.
    pending: bool,
    usage: Option<Usage>,
    finish: Option<FinishReason>,
}

/// A block that was begun.
struct Open {
    block: u32,
    /// Its item's place.
    item: usize,
    /// Its part's place, in a message.
    part: usize,
    /// A token which its item has no field for: it gets an item of its own.
    token: String,
}

impl Encoder {
    /// For a stream; or, if `quiet`, for a whole answer, of which no event is written.
    pub(super) fn new(to: &Answering, quiet: bool) -> Self {
        Encoder {
            head: Head::new(
                format!("resp_{}", to.request_id),
                to.model.clone(),
                to.created,
                &to.echo,
            ),
            events: Events::new(quiet),
            request_id: to.request_id.clone(),
            started: false,
            items: Vec::new(),
            open: Vec::new(),
            pending: false,
            usage: None,
            finish: None,
        }
    }

    /// A field of the answer; false if a Response has none of that name.
    pub(super) fn field(&mut self, key: &str, value: &Value) -> bool {
        let tier = value
            .as_str()
            .filter(|tier| key == "service_tier" && TIERS.contains(tier));
        if let Some(tier) = tier {
            self.head.service_tier = tier.to_owned();
        }
        tier.is_some()
    }

    /// Writes the object as it stands at the end.
    pub(super) fn write_response(&self, out: &mut BytesMut) {
        let (status, incomplete) = object::status(self.finish.as_ref());
        self.head.write(
            out,
            &State {
                status,
                incomplete,
                error: None,
                items: &self.items,
                usage: self.usage,
            },
        );
    }

    /// Ends what is open.
    pub(super) fn close(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        self.start(out);
        while let Some(open) = self.open.pop() {
            self.stop(open, out);
        }
        let (status, _) = object::status(self.finish.as_ref());
        self.done(status, out);
        match self.finish.as_ref().map(|reason| reason.kind) {
            Some(FinishKind::Pause) => loss.approximated("stop_reason", "a paused answer looks completed there"),
            Some(FinishKind::Other) => loss.approximated("finish_reason", "the nearest status is `completed`"),
            _ => {}
        }
    }

    fn start(&mut self, out: &mut BytesMut) {
        if std::mem::replace(&mut self.started, true) {
            return;
        }
        let state = State {
            status: "in_progress",
            incomplete: None,
            error: None,
            items: &[],
            usage: None,
        };
        for name in ["response.created", "response.in_progress"] {
            self.events.tell(out, name, |out| {
                write::raw(out, ",\"response\":");
                self.head.write(out, &state);
            });
        }
    }

    /// The last item is done, if it waits for that.
    fn done(&mut self, status: &'static str, out: &mut BytesMut) {
        if std::mem::take(&mut self.pending) {
            self.item_done(self.items.len() - 1, status, out);
        }
    }

    fn item_done(&mut self, place: usize, status: &'static str, out: &mut BytesMut) {
        let Some(item) = self.items.get_mut(place) else { return };
        item.status = status;
        self.events.item(out, "response.output_item.done", item, place);
    }

    /// An item begins.
    fn add(&mut self, kind: Kind, out: &mut BytesMut) -> usize {
        self.done("completed", out);
        let place = self.items.len();
        let item = Item {
            id: format!("{}{}_{place}", kind.prefix(), self.request_id),
            kind,
            status: "in_progress",
        };
        self.events.item(out, "response.output_item.added", &item, place);
        if let Kind::Image { .. } = item.kind {
            let name = "response.image_generation_call.in_progress";
            self.events.tell(out, name, |out| at_item(out, &item, place));
        }
        self.items.push(item);
        place
    }

    /// A part of a message begins: of the last item, if that is one.
    fn add_part(&mut self, refusal: bool, out: &mut BytesMut) -> (usize, usize) {
        let place = match self.items.last() {
            Some(Item {
                kind: Kind::Message(_),
                status: "in_progress",
                ..
            }) => self.items.len() - 1,
            _ => self.add(Kind::Message(Vec::new()), out),
        };
        self.pending = false;
        let item = &mut self.items[place];
        let Kind::Message(parts) = &mut item.kind else {
            return (place, 0);
        };
        parts.push(Part {
            refusal,
            ..Part::default()
        });
        let part = parts.len() - 1;
        self.events
            .part(out, "response.content_part.added", &self.items[place], place, part);
        (place, part)
    }

    fn begin(&mut self, block: u32, head: BlockHead<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        let (item, part) = match head {
            BlockHead::Text => self.add_part(false, out),
            BlockHead::Refusal => self.add_part(true, out),
            BlockHead::Reasoning => {
                let kind = Kind::Reasoning {
                    summary: String::new(),
                    token: String::new(),
                };
                (self.add(kind, out), 0)
            }
            BlockHead::ToolCall {
                id,
                name,
                kind,
                namespace,
                opaque: _, // rides in the id: there is no field for it
            } => {
                let call = Call {
                    kind,
                    call_id: id.into_owned(),
                    name: name.into_owned(),
                    namespace: namespace.into_owned(),
                    arguments: String::new(),
                };
                (self.add(Kind::Call(call), out), 0)
            }
            BlockHead::Media { kind, mime, url } if kind == MediaKind::Image && url.is_empty() => {
                let kind = Kind::Image {
                    mime: mime.into_owned(),
                    data: String::new(),
                };
                (self.add(kind, out), 0)
            }
            // What is said in sound is told in words; what is elsewhere, by its address.
            BlockHead::Media { url, .. } => {
                let (item, part) = self.add_part(false, out);
                if !url.is_empty() {
                    loss.approximated(
                        "media",
                        "a Response holds pictures as bytes only: the address stands as text",
                    );
                    self.text(item, part, &url, out);
                }
                (item, part)
            }
            BlockHead::Native { kind, json } => {
                let item: Value = serde_json::from_str(&json).unwrap_or_default();
                // Others have blocks of the same names (`compaction`); ours have ids.
                if !output::is_native(&kind) || item["type"] != kind.as_ref() || !item["id"].is_string() {
                    loss.dropped(kind.into_owned(), "a Response has no such item");
                    return;
                }
                // Written anew: a frame's data is one line.
                (self.add(Kind::Native(item.to_string()), out), 0)
            }
        };
        self.open.push(Open {
            block,
            item,
            part,
            token: String::new(),
        });
    }

    /// A piece of text of a message's part or of reasoning.
    fn text(&mut self, place: usize, part: usize, text: &str, out: &mut BytesMut) {
        match &mut self.items[place].kind {
            Kind::Message(parts) => {
                parts[part].text.push_str(text);
                self.events.text_delta(out, &self.items[place], place, part, text);
            }
            Kind::Reasoning { summary, .. } => {
                let first = summary.is_empty();
                summary.push_str(text);
                self.events.summary_delta(out, &self.items[place], place, text, first);
            }
            _ => {}
        }
    }

    fn delta(&mut self, block: u32, delta: Delta<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        // The newest are asked for most.
        let Some(found) = self.open.iter().rposition(|open| open.block == block) else {
            return;
        };
        let (place, part) = (self.open[found].item, self.open[found].part);
        match (delta, &mut self.items[place].kind) {
            (Delta::Text(text), _) if text.is_empty() => {}
            (Delta::Text(text), _) => self.text(place, part, &text, out),
            (Delta::Arguments(piece), Kind::Call(call)) if !piece.is_empty() => {
                call.arguments.push_str(&piece);
                self.events.arguments_delta(out, &self.items[place], place, &piece);
            }
            (Delta::Opaque(piece), Kind::Reasoning { token, .. }) => token.push_str(&piece),
            (Delta::Opaque(piece), Kind::Message(_) | Kind::Image { .. }) => self.open[found].token.push_str(&piece),
            (Delta::Opaque(_), _) => loss.dropped("token", "an item of this kind has no field for a token"),
            (Delta::Data(piece), Kind::Image { data, .. }) => output::join(data, &piece),
            (Delta::Data(_), _) => loss.dropped("audio", "a Response has no sound"),
            (Delta::Citation(citation), Kind::Message(parts)) => {
                let part_ = &mut parts[part];
                let length = part_.text.chars().count();
                match output::annotation(&citation, length) {
                    Some(annotation) => {
                        part_.annotations.push(annotation);
                        self.events.annotation(out, &self.items[place], place, part);
                    }
                    None => loss.dropped("citations", "only sources with an address can be cited"),
                }
            }
            (Delta::Citation(_), _) => loss.dropped("citations", "only texts have annotations"),
            (Delta::Logprobs(logprobs), Kind::Message(parts)) => {
                let newest = logprobs.len();
                parts[part].logprobs.extend(logprobs);
                self.events.logprobs_delta(out, &self.items[place], place, part, newest);
            }
            (Delta::Native(json), _) if !json.is_empty() => loss.dropped("content", "only its own format has it"),
            _ => {}
        }
    }

    fn stop(&mut self, open: Open, out: &mut BytesMut) {
        let place = open.item;
        if let Kind::Call(call) = &mut self.items[place].kind
            && call.kind == ToolKind::Function
            && call.arguments.is_empty()
        {
            // No arguments are an empty object, not an empty text.
            call.arguments.push_str("{}");
            self.events.arguments_delta(out, &self.items[place], place, "{}");
        }
        self.events.block_done(out, &self.items[place], place, open.part);
        let others = self.open.iter().any(|other| other.item == place);
        match (others, place + 1 == self.items.len()) {
            (true, _) => {}
            (false, true) => self.pending = true,
            (false, false) => self.item_done(place, "completed", out),
        }
        if !open.token.is_empty() {
            let kind = Kind::Reasoning {
                summary: String::new(),
                token: open.token,
            };
            self.add(kind, out);
            self.pending = true;
        }
    }
}

impl StreamEncoder for Encoder {
    fn event(&mut self, event: StreamEvent<'_>, out: &mut BytesMut, loss: &mut LossReport) {
        let first = |index: &BlockIndex| index.candidate == 0;
        match event {
            StreamEvent::Start { id, model } => {
                if !id.is_empty() {
                    self.head.id = id.into_owned();
                }
                if !model.is_empty() {
                    self.head.model = model.into_owned();
                }
                self.start(out);
            }
            StreamEvent::Delta { index, delta } if first(&index) => self.delta(index.block, delta, out, loss),
            StreamEvent::BlockStart { index, block } if first(&index) => {
                self.start(out);
                self.begin(index.block, block, out, loss);
            }
            StreamEvent::BlockStop { index } if first(&index) => {
                if let Some(found) = self.open.iter().rposition(|open| open.block == index.block) {
                    let open = self.open.remove(found);
                    self.stop(open, out);
                }
            }
            StreamEvent::Usage(usage) => self.usage = Some(usage),
            StreamEvent::Finish { candidate: 0, reason } => self.finish = Some(reason),
            StreamEvent::Native { key, json } => {
                let value: Value = serde_json::from_str(&json).unwrap_or_default();
                if !self.field(key, &value) {
                    loss.dropped(key, "a Response has no such field");
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, out: &mut BytesMut, loss: &mut LossReport) {
        self.close(out, loss);
        let name = match object::status(self.finish.as_ref()) {
            ("incomplete", _) => "response.incomplete",
            _ => "response.completed",
        };
        let mut events = std::mem::take(&mut self.events);
        events.tell(out, name, |out| {
            write::raw(out, ",\"response\":");
            self.write_response(out);
        });
    }

    fn forget(&mut self) {
        self.items = Vec::new();
    }

    /// What is open stays as it is: it did not end. A client who asks in another way reads the error from the object.
    fn fail(&mut self, error: &ApiError, out: &mut BytesMut) {
        self.start(out);
        for item in self.items.iter_mut().filter(|item| item.status == "in_progress") {
            item.status = "incomplete";
        }
        let body = openai_error::body(error);
        let state = State {
            status: "failed",
            incomplete: None,
            error: Some((body["error"]["code"].as_str().unwrap_or("server_error"), &error.message)),
            items: &self.items,
            usage: self.usage,
        };
        self.events.tell(out, "response.failed", |out| {
            write::raw(out, ",\"response\":");
            self.head.write(out, &state);
        });
    }
}
