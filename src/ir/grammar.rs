//! The grammar of events, checked: `Start (BlockStart Delta* BlockStop | Usage | Ping | Native)* Finish*`.

use super::stream::{BlockIndex, EventSink, StreamEvent};

/// Checks what decoders tell. Used by tests on every recording and on fuzzed bytes.
#[derive(Debug, Default)]
pub struct Grammar {
    started: bool,
    open: Vec<BlockIndex>,
    used: Vec<BlockIndex>,
    finished: Vec<u32>,
    broken: Vec<&'static str>,
}

impl Grammar {
    /// The rules that were broken; call it when the decoder is finished.
    pub fn end(mut self) -> Vec<&'static str> {
        if !self.open.is_empty() {
            self.broken.push("a block was left open");
        }
        self.broken.sort_unstable();
        self.broken.dedup();
        self.broken
    }

    fn rule(&mut self, kept: bool, rule: &'static str) {
        if !kept {
            self.broken.push(rule);
        }
    }
}

impl EventSink for Grammar {
    fn event(&mut self, event: StreamEvent<'_>) {
        match event {
            StreamEvent::Start { .. } => {
                let first = !self.started;
                self.rule(first, "the answer started twice");
                self.started = true;
            }
            StreamEvent::BlockStart { index, .. } => {
                let (started, fresh) = (self.started, !self.used.contains(&index));
                self.rule(started, "a block before the start");
                self.rule(fresh, "a block began twice");
                self.open.push(index);
                self.used.push(index);
            }
            StreamEvent::Delta { index, .. } => {
                let open = self.open.contains(&index);
                self.rule(open, "a delta outside of its block");
            }
            StreamEvent::BlockStop { index } => match self.open.iter().position(|open| *open == index) {
                Some(place) => {
                    self.open.remove(place);
                }
                None => self.broken.push("a block ended which was not open"),
            },
            StreamEvent::Finish { candidate, .. } => {
                let closed = self.open.iter().all(|open| open.candidate != candidate);
                self.rule(closed, "a candidate ended with an open block");
                self.finished.push(candidate);
            }
            StreamEvent::Usage(_)
            | StreamEvent::Terms(_)
            | StreamEvent::Ping
            | StreamEvent::Error(_)
            | StreamEvent::Native { .. } => {}
        }
    }
}
