//! The deltas of chunks, written field by field: what `delta` holds between its braces.

use bytes::BytesMut;
use serde_json::Value;

use crate::dialects::write;
use crate::ir::ToolKind;

/// A text field; `key` with its quotes and colon.
pub(super) fn field(out: &mut BytesMut, key: &str, text: &str) {
    write::raw(out, key);
    write::json(out, text);
}

/// A list of one.
pub(super) fn list(out: &mut BytesMut, key: &str, only: &Value) {
    write::raw(out, key);
    write::json(out, only);
    write::raw(out, "]");
}

/// Reasoning is told twice, as text and as a detail: whoever returns the details returns its token with its text.
pub(super) fn reasoning(out: &mut BytesMut, text: &str, number: u32) {
    field(out, "\"reasoning_content\":", text);
    field(
        out,
        ",\"reasoning_details\":[{\"type\":\"reasoning.text\",\"text\":",
        text,
    );
    write::raw(out, ",\"index\":");
    write::json(out, &number);
    write::raw(out, "}]");
}

/// A piece of sound or of its transcript.
pub(super) fn audio(out: &mut BytesMut, id: &str, key: &str, text: &str) {
    field(out, "\"audio\":{\"id\":", id);
    write::raw(out, ",\"");
    write::raw(out, key);
    field(out, "\":", text);
    write::raw(out, "}");
}

/// The beginning of a call: its index, id, type and name.
pub(super) fn call(out: &mut BytesMut, number: u32, id: &str, name: &str, kind: ToolKind, token: &str) {
    write::raw(out, "\"tool_calls\":[{\"index\":");
    write::json(out, &number);
    field(out, ",\"id\":", id);
    let (key, end) = match kind {
        ToolKind::Function => (",\"type\":\"function\",\"function\":{\"name\":", ",\"arguments\":\"\"}"),
        ToolKind::Custom => (",\"type\":\"custom\",\"custom\":{\"name\":", ",\"input\":\"\"}"),
    };
    field(out, key, name);
    write::raw(out, end);
    if !token.is_empty() {
        field(out, ",\"extra_content\":{\"google\":{\"thought_signature\":", token);
        write::raw(out, "}}");
    }
    write::raw(out, "}]");
}

/// A piece of a call's arguments.
pub(super) fn arguments(out: &mut BytesMut, number: u32, kind: ToolKind, text: &str) {
    write::raw(out, "\"tool_calls\":[{\"index\":");
    write::json(out, &number);
    let key = match kind {
        ToolKind::Function => ",\"function\":{\"arguments\":",
        ToolKind::Custom => ",\"custom\":{\"input\":",
    };
    field(out, key, text);
    write::raw(out, "}}]");
}
