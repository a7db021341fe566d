//! Server-sent events and Gemini's streamed JSON array: bytes to frames and back. Knows no dialect.
//!
//! A stream is cut into [`Block`]s: the shortest runs of bytes after which something else may be written without
//! breaking the framing. Most blocks are a [`Frame`]; some (comments, lonely blank lines) are not. Every byte of a
//! stream belongs to exactly one block or to the unfinished rest ([`Splitter::rest`]), so that what is forwarded can
//! be aligned with blocks and stays the same byte for byte.

pub mod decode;
pub mod json_array;

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

/// The bytes of a block that came in earlier chunks, and whether they are still all there.
#[derive(Debug, Default)]
struct Carry {
    bytes: Vec<u8>,
    /// More came than is kept: `bytes` is empty until the block ends.
    oversized: bool,
}

/// Capacity that is kept for the next block; what is larger is given back, so that an idle stream is small.
const CARRY_KEPT: usize = 1024;

/// A block of which so much has come may become as large as is kept.
const CARRY_LARGE: usize = 1 << 20;

impl Carry {
    fn is_inside(&self) -> bool {
        self.oversized || !self.bytes.is_empty()
    }

    /// Keeps the unfinished end of a chunk, if the block is no larger than `max` with it.
    fn keep(&mut self, tail: &[u8], max: usize) {
        if self.oversized || tail.is_empty() {
            return;
        }
        let length = self.bytes.len() + tail.len();
        if length > max {
            self.oversized = true;
            self.bytes = Vec::new();
            return;
        }
        if length > self.bytes.capacity() {
            // Twice as much each time; of what is large all at once: untouched memory is none, but a copy left behind is.
            let more = if length > CARRY_LARGE { max } else { 2 * length };
            self.bytes.reserve_exact(more.min(max) - self.bytes.len());
        }
        self.bytes.extend_from_slice(tail);
    }

    fn let_go(&mut self) {
        self.oversized |= self.is_inside();
        self.bytes = Vec::new();
    }

    fn clear(&mut self) {
        self.oversized = false;
        if self.bytes.capacity() > CARRY_KEPT {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
    }
}
