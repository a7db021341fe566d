//! One answer on its way to the client: bytes out as they came in, a decoder reading along.

use bytes::Bytes;

use crate::dialects::Dialect;
use crate::ir::{Operation, StreamEnd};
use crate::sse::Framing;

use super::Meter;

/// What the answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A stream of frames.
    Stream(Framing),
    /// One JSON document.
    Whole,
    /// An error answer (status 400 and above), read to its end for the record.
    Error,
    /// Something we don't read (audio, files); only counted.
    Opaque,
}

/// The answer's content coding, for the tap; the client gets the bytes as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 9110 calls it deflate).
    Deflate,
    /// brotli (RFC 7932).
    Brotli,
    /// zstd (RFC 8878).
    Zstd,
    /// One we can't read: the tap stays blind.
    Unknown,
}

/// What an [`AnswerStream`] must know.
pub struct AnswerPlan {
    /// Whose words the answer speaks.
    pub dialect: &'static dyn Dialect,
    /// What was asked.
    pub operation: Operation,
    /// HTTP status of the answer.
    pub status: u16,
    /// What the body is.
    pub kind: AnswerKind,
    /// Its coding.
    pub coding: Coding,
    /// Withhold the usage-only frame: we asked for it, not the client. Only with [`Coding::Identity`].
    pub withhold_usage: bool,
    /// Most bytes kept of one frame or one whole answer for the tap.
    pub max_kept: usize,
}

/// One answer on its way. Synchronous: Pingora's body filter is.
pub struct AnswerStream {
    plan: AnswerPlan,
    meter: Meter,
}

impl AnswerStream {
    /// Starts at the first byte of the body.
    pub fn new(plan: AnswerPlan) -> Self {
        AnswerStream {
            plan,
            meter: Meter::default(),
        }
    }

    /// Takes a chunk as it came and returns what goes to the client now: whole frames of a stream (an unfinished one is
    /// held back until it is whole, or larger than the hold limit), the chunk itself otherwise.
    pub fn chunk(&mut self, chunk: Bytes) -> Bytes {
        chunk
    }

    /// The body is over: what is held back (only if it is worth sending), and how the answer ended.
    /// Idempotent: later calls return nothing and the same end.
    pub fn finish(&mut self) -> (Bytes, StreamEnd) {
        (Bytes::new(), StreamEnd::Complete)
    }

    /// True if what was sent so far ends at a frame border, so that an error can be written after it.
    pub fn at_border(&self) -> bool {
        true
    }

    /// True until a frame went out.
    pub fn is_first(&self) -> bool {
        true
    }

    /// What was counted so far.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The plan it follows.
    pub fn plan(&self) -> &AnswerPlan {
        &self.plan
    }
}
