//! Server-sent events and Gemini's streamed JSON array: bytes to frames and back. Knows no dialect.
//!
//! A stream is cut into [`Block`]s: the shortest runs of bytes after which something else may be written without
//! breaking the framing. Most blocks are a [`Frame`]; some (comments, lonely blank lines) are not. Every byte of a
//! stream belongs to exactly one block or to the unfinished rest ([`Splitter::rest`]), so that what is forwarded can
//! be aligned with blocks and stays the same byte for byte.

mod carry;
pub mod decode;
pub mod json_array;

pub use carry::let_spare_go;
pub use decode::SseDecoder;
pub use json_array::JsonArrayDecoder;

/// One event of a stream, as it stood on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The `event:` field; `None` where the stream names no events.
    pub event: Option<&'a str>,
    /// The `data:` lines, joined by line feeds; or one element of a JSON array.
    pub data: &'a [u8],
}

/// How a stream is framed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    #[default]
    Sse,
    /// One JSON array whose elements arrive one by one (Gemini without `alt=sse`).
    JsonArray,
}

/// What a block holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// An event.
    Frame(Frame<'a>),
    /// Nothing to read: comments, fields we don't use, blank lines, the end of a JSON array.
    Nothing,
    /// An event larger than the decoder keeps; its bytes were not all kept.
    Oversized,
}

/// The shortest run of bytes after which a stream is at a border.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// What it says.
    pub content: Content<'a>,
    /// The part of it which came with earlier chunks. Empty if it began in this chunk, or if it was oversized.
    pub carried: &'a [u8],
    /// Where its part in this chunk begins.
    pub start: usize,
    /// Where it ends in this chunk: the offset after its last byte.
    pub end: usize,
}

/// Cuts a stream into blocks, whatever its framing.
#[derive(Debug)]
pub enum Splitter {
    /// Server-sent events.
    Sse(SseDecoder),
    /// Elements of a JSON array.
    JsonArray(JsonArrayDecoder),
}

impl Splitter {
    /// A splitter at the start of a stream, which keeps about `max_kept` bytes of one block (see [`Splitter::rest`]).
    pub fn new(framing: Framing, max_kept: usize) -> Self {
        match framing {
            Framing::Sse => Splitter::Sse(SseDecoder::new(max_kept)),
            Framing::JsonArray => Splitter::JsonArray(JsonArrayDecoder::new(max_kept)),
        }
    }

    /// Takes a chunk of any size and tells each block that ends in it, in order.
    pub fn feed(&mut self, chunk: &[u8], mut on_block: impl FnMut(Block<'_>)) {
        match self {
            Splitter::Sse(decoder) => decoder.feed(chunk, &mut on_block),
            Splitter::JsonArray(decoder) => decoder.feed(chunk, &mut on_block),
        }
    }

    /// The bytes of the unfinished block; empty if there are none or if it is oversized already. At most
    /// `max_kept`.
    pub fn rest(&self) -> &[u8] {
        match self {
            Splitter::Sse(decoder) => decoder.rest(),
            Splitter::JsonArray(decoder) => decoder.rest(),
        }
    }

    /// Bytes of memory held for the unfinished block: what is used again may be larger than [`Splitter::rest`].
    pub fn held(&self) -> usize {
        match self {
            Splitter::Sse(decoder) => decoder.carry.held(),
            Splitter::JsonArray(decoder) => decoder.carry.held(),
        }
    }

    /// Keeps the unfinished block in no more memory than it takes. False: it already does.
    pub fn shrink(&mut self) -> bool {
        match self {
            Splitter::Sse(decoder) => decoder.carry.shrink(),
            Splitter::JsonArray(decoder) => decoder.carry.shrink(),
        }
    }

    /// Keeps no more of the unfinished block, if there is one: it counts as oversized.
    pub fn let_go(&mut self) {
        match self {
            Splitter::Sse(decoder) => decoder.let_go(),
            Splitter::JsonArray(decoder) => decoder.let_go(),
        }
    }

    /// True if more than `max_kept` bytes of the unfinished block came.
    pub fn is_oversized(&self) -> bool {
        match self {
            Splitter::Sse(decoder) => decoder.is_oversized(),
            Splitter::JsonArray(decoder) => decoder.is_oversized(),
        }
    }

    /// True if a block has begun and not ended.
    pub fn is_inside(&self) -> bool {
        match self {
            Splitter::Sse(decoder) => decoder.is_inside(),
            Splitter::JsonArray(decoder) => decoder.is_inside(),
        }
    }

    /// True if the framing itself allows the stream to end here: a JSON array must be closed.
    pub fn may_end(&self) -> bool {
        match self {
            Splitter::Sse(_) => true,
            Splitter::JsonArray(decoder) => decoder.is_closed(),
        }
    }

    /// Reads the unfinished block as if it ended here: a provider may leave out the last blank line.
    pub fn finish(&mut self, on_frame: impl FnOnce(Frame<'_>)) {
        match self {
            Splitter::Sse(decoder) => decoder.finish(on_frame),
            Splitter::JsonArray(_) => {}
        }
    }
}
