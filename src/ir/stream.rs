//! The events of an answer. A stream and a whole answer are told in the same events, so that they cannot mean
//! different things.
//!
//! Grammar: `Start (BlockStart Delta* BlockStop | Usage | Ping)* Finish*`, blocks addressed by index, interleaving
//! allowed. Events borrow from the frame they were read from: a tap which only counts allocates nothing.

use std::borrow::Cow;

use super::{ApiError, FinishReason, Usage};

/// Which block an event belongs to: the candidate, and the block's place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockIndex {
    /// Which of several candidates; 0 where there is one.
    pub candidate: u32,
    /// The block's place within the candidate.
    pub block: u32,
}

/// What kind of block begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockHead<'a> {
    /// Visible text.
    Text,
    /// Reasoning, visible or redacted.
    Reasoning,
    /// The model refuses, in words.
    Refusal,
    /// A call of one of the client's tools.
    ToolCall {
        /// The call's id; may be empty.
        id: Cow<'a, str>,
        /// The tool's name.
        name: Cow<'a, str>,
    },
    /// Something only its own dialect knows (server tools, media …), named as there.
    Native(Cow<'a, str>),
}

/// A piece of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delta<'a> {
    /// Text of a text, reasoning or refusal block.
    Text(Cow<'a, str>),
    /// A piece of a tool call's arguments, as it came.
    Arguments(Cow<'a, str>),
    /// Anything else.
    Native,
}

/// One event of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamEvent<'a> {
    /// The answer begins. At most once.
    Start {
        /// The provider's id of the answer; may be empty.
        id: Cow<'a, str>,
        /// The model that answers, as the provider names it; may be empty.
        model: Cow<'a, str>,
    },
    /// A block begins.
    BlockStart {
        /// Which block.
        index: BlockIndex,
        /// What kind.
        block: BlockHead<'a>,
    },
    /// A block goes on.
    Delta {
        /// Which block.
        index: BlockIndex,
        /// The piece.
        delta: Delta<'a>,
    },
    /// A block ends.
    BlockStop {
        /// Which block.
        index: BlockIndex,
    },
    /// The running total of usage.
    Usage(Usage),
    /// A candidate ends, and why.
    Finish {
        /// Which of several candidates; 0 where there is one.
        candidate: u32,
        /// Why.
        reason: FinishReason,
    },
    /// Nothing to say, still alive.
    Ping,
    /// The provider reports an error inside the answer.
    Error(ApiError),
}

/// How an answer ended. Only `Complete` is a finished answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEnd {
    /// With its last event.
    Complete,
    /// It just stopped.
    Truncated,
    /// The provider reported an error in it.
    Failed,
}

/// Who listens to events: a meter, an accumulator, an encoder.
pub trait EventSink {
    /// Takes one event.
    fn event(&mut self, event: StreamEvent<'_>);
}

impl<F: FnMut(StreamEvent<'_>)> EventSink for F {
    fn event(&mut self, event: StreamEvent<'_>) {
        self(event)
    }
}
