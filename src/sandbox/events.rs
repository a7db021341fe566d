//! What each dialect of the sandbox can do, and the queue its stream events go into.

use std::collections::VecDeque;

use bytes::Bytes;

use super::ask::Refusal;
use super::plan::Plan;
use super::steps::Step;

/// A dialect, on the answering side.
pub trait Wire: Send + Sync {
    /// The whole answer, JSON.
    fn whole(&self, plan: &Plan) -> String;

    /// Writes a streamed answer.
    fn writer(&self, plan: &Plan) -> Box<dyn Writer>;

    /// The body of an error answer, JSON. `number` is the request's.
    fn error(&self, refusal: &Refusal, number: u64) -> String;

    /// The response header which carries the request's id.
    fn id_header(&self) -> Option<&'static str>;
}

/// Writes one streamed answer, step by step.
pub trait Writer: Send {
    /// Writes the events of a step: none, one or several.
    fn step(&mut self, plan: &Plan, step: Step<'_>, out: &mut Events);

    /// Writes an error inside the stream; nothing follows it.
    fn error(&mut self, plan: &Plan, refusal: &Refusal, out: &mut Events);
}

/// Events written and not sent yet: those of one step.
#[derive(Default)]
pub struct Events {
    queue: VecDeque<Bytes>,
    pad: usize,
}

impl Events {
    /// An empty queue; `pad` spaces are put after the JSON of each event, where JSON allows white space.
    pub fn new(pad: usize) -> Self {
        Events {
            queue: VecDeque::new(),
            pad,
        }
    }

    /// An SSE event with lines ended by LF: its name, if it has one, and its JSON.
    pub fn sse(&mut self, name: Option<&str>, json: &str) {
        let mut event = String::with_capacity(json.len() + self.pad + 64);
        if let Some(name) = name {
            event.push_str("event: ");
            event.push_str(name);
            event.push('\n');
        }
        event.push_str("data: ");
        self.padded(json, &mut event);
        event.push_str("\n\n");
        self.raw(event);
    }

    /// JSON between two other pieces of text.
    pub fn around(&mut self, before: &str, json: &str, after: &str) {
        let mut event = String::with_capacity(before.len() + json.len() + self.pad + after.len());
        event.push_str(before);
        self.padded(json, &mut event);
        event.push_str(after);
        self.raw(event);
    }

    /// An event as it is.
    pub fn raw(&mut self, event: impl Into<Bytes>) {
        self.queue.push_back(event.into());
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<Bytes> {
        self.queue.pop_front()
    }

    fn padded(&self, json: &str, out: &mut String) {
        out.push_str(json);
        out.extend(std::iter::repeat_n(' ', self.pad));
    }
}

/// The part of an id which is unique in one process: 24 hexadecimal digits.
pub fn unique(created: i64, number: u64) -> String {
    format!("{:08x}{number:016x}", created & 0xffff_ffff)
}
