//! Server-sent events and Gemini's streamed JSON array: bytes to frames and back. Knows no dialect.

pub mod decode;
pub mod json_array;

/// One event of a stream, as it stood on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The `event:` field; `None` where the stream names no events.
    pub event: Option<&'a str>,
    /// The `data:` lines, joined by line feeds; or one element of a JSON array.
    pub data: &'a [u8],
}

/// How a stream is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    Sse,
    /// One JSON array whose elements arrive one by one (Gemini without `alt=sse`).
    JsonArray,
}
