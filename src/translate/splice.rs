//! Edits of a body at byte spans found by peek: nothing else of it changes.

use bytes::{Bytes, BytesMut};

use crate::dialects::Splice;

/// Applies edits, which must not overlap, in any order. Without an edit the body is returned as it is, uncopied.
pub fn apply(body: &Bytes, mut edits: Vec<Splice>) -> Bytes {
    if edits.is_empty() {
        return body.clone();
    }
    edits.sort_by_key(|e| e.at.start);
    let mut out = BytesMut::with_capacity(body.len() + edits.iter().map(|e| e.with.len()).sum::<usize>());
    let mut from = 0;
    for edit in &edits {
        out.extend_from_slice(&body[from..edit.at.start]);
        out.extend_from_slice(&edit.with);
        from = edit.at.end;
    }
    out.extend_from_slice(&body[from..]);
    out.freeze()
}
