//! The blocks of one candidate, for wires that do not bracket theirs: opens a block when its first piece comes and
//! closes it when a piece of another kind does, so that the order of reasoning, text and tools is kept.

use std::borrow::Cow;

use crate::ir::{BlockHead, BlockIndex, Delta, EventSink, StreamEvent};

/// What kind of text-like block is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Visible text.
    Text,
    /// Reasoning.
    Reasoning,
    /// A refusal.
    Refusal,
}

impl Kind {
    fn head(self) -> BlockHead<'static> {
        match self {
            Kind::Text => BlockHead::Text,
            Kind::Reasoning => BlockHead::Reasoning,
            Kind::Refusal => BlockHead::Refusal,
        }
    }
}

/// Numbers and brackets the blocks of one candidate.
#[derive(Debug)]
pub(super) struct Blocks {
    candidate: u32,
    next: u32,
    open: Option<(Kind, u32)>,
}

impl Blocks {
    /// No block yet.
    pub(super) fn new(candidate: u32) -> Self {
        Blocks {
            candidate,
            next: 0,
            open: None,
        }
    }

    fn index(&self, block: u32) -> BlockIndex {
        BlockIndex {
            candidate: self.candidate,
            block,
        }
    }

    /// A piece of text; an empty one says nothing.
    pub(super) fn text(&mut self, kind: Kind, text: Cow<'_, str>, sink: &mut dyn EventSink) {
        if !text.is_empty() {
            self.piece(kind, Delta::Text(text), sink);
        }
    }

    /// A piece of a block of that kind, which is opened if need be.
    pub(super) fn piece(&mut self, kind: Kind, delta: Delta<'_>, sink: &mut dyn EventSink) {
        let block = match self.open {
            Some((open, block)) if open == kind => block,
            _ => {
                self.close(sink);
                let block = self.start(kind.head(), sink);
                self.open = Some((kind, block));
                block
            }
        };
        sink.event(StreamEvent::Delta {
            index: self.index(block),
            delta,
        });
    }

    /// The number of the text-like block that is open, if it is of that kind.
    pub(super) fn open(&self, kind: Kind) -> Option<u32> {
        self.open.filter(|(open, _)| *open == kind).map(|(_, block)| block)
    }

    /// Closes the text-like block, if one is open.
    pub(super) fn close(&mut self, sink: &mut dyn EventSink) {
        if let Some((_, block)) = self.open.take() {
            self.stop(block, sink);
        }
    }

    /// Begins a block that the caller will stop; returns its number.
    pub(super) fn start(&mut self, head: BlockHead<'_>, sink: &mut dyn EventSink) -> u32 {
        let block = self.next;
        self.next = self.next.saturating_add(1);
        sink.event(StreamEvent::BlockStart {
            index: self.index(block),
            block: head,
        });
        block
    }

    /// A piece of a block begun with [`Blocks::start`].
    pub(super) fn delta(&self, block: u32, delta: Delta<'_>, sink: &mut dyn EventSink) {
        sink.event(StreamEvent::Delta {
            index: self.index(block),
            delta,
        });
    }

    /// Ends a block begun with [`Blocks::start`].
    pub(super) fn stop(&self, block: u32, sink: &mut dyn EventSink) {
        sink.event(StreamEvent::BlockStop {
            index: self.index(block),
        });
    }
}
