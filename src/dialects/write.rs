//! Writing frames of a stream straight into the output buffer.

use bytes::{BufMut, BytesMut};
use serde::Serialize;
use serde_json::Value;

/// Bytes set aside for a document: most fit.
const DOCUMENT: usize = 2048;

/// Appends JSON: strings, numbers, whatever serde knows, without a copy in between.
pub(super) fn json<T: Serialize + ?Sized>(out: &mut BytesMut, value: &T) {
    // Writing into memory can't fail, and what is written here has string keys.
    let written = serde_json::to_writer(out.writer(), value);
    debug_assert!(written.is_ok(), "only what serde_json can write is written");
}

/// A document.
pub(super) fn document<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut out = Vec::with_capacity(DOCUMENT);
    // As above.
    let written = serde_json::to_writer(&mut out, value);
    debug_assert!(written.is_ok(), "only what serde_json can write is written");
    out
}

/// A number as people write it: `1`, not `1.0`.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        Value::from(value as i64)
    } else {
        Value::from(value)
    }
}

/// Appends bytes as they are.
pub(super) fn raw(out: &mut BytesMut, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// `event: NAME\ndata: `, the beginning of a named SSE frame.
pub(super) fn named(out: &mut BytesMut, name: &str) {
    raw(out, "event: ");
    raw(out, name);
    raw(out, "\ndata: ");
}

/// The blank line which ends an SSE frame.
pub(super) fn end(out: &mut BytesMut) {
    raw(out, "\n\n");
}
