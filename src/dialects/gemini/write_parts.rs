//! Parts of answers written, straight into the output.

use bytes::BytesMut;

use super::media::{is_base64, to_base64};
use crate::dialects::write::{json, raw};

/// `thoughtSignature` is bytes: a token which is no base64 is written as base64 of its text.
pub(super) fn signature(token: String) -> String {
    if token.is_empty() || is_base64(&token) {
        token
    } else {
        to_base64(token.as_bytes())
    }
}

/// Appends JSON as it came, on one line: a line end outside of strings is white space, and would end an SSE field.
pub(super) fn one_line(out: &mut BytesMut, json: &str) {
    for line in json.split(['\n', '\r']) {
        raw(out, line);
    }
}

pub(super) fn text_part(out: &mut BytesMut, text: &str, thought: bool, token: &str) {
    raw(out, "{\"text\":");
    json(out, text);
    if thought {
        raw(out, ",\"thought\":true");
    }
    end_part(out, token);
}

fn end_part(out: &mut BytesMut, token: &str) {
    if !token.is_empty() {
        raw(out, ",\"thoughtSignature\":");
        json(out, token);
    }
    raw(out, "}");
}

pub(super) fn data_part(out: &mut BytesMut, mime: &str, data: &str, token: &str) {
    raw(out, "{\"inlineData\":{\"mimeType\":");
    json(
        out,
        if mime.is_empty() {
            "application/octet-stream"
        } else {
            mime
        },
    );
    raw(out, ",\"data\":");
    json(out, data);
    raw(out, "}");
    end_part(out, token);
}

pub(super) fn file_part(out: &mut BytesMut, mime: &str, url: &str, token: &str) {
    raw(out, "{\"fileData\":{");
    if !mime.is_empty() {
        raw(out, "\"mimeType\":");
        json(out, mime);
        raw(out, ",");
    }
    raw(out, "\"fileUri\":");
    json(out, url);
    raw(out, "}");
    end_part(out, token);
}

/// A call, whole: its arguments as they came if they are a JSON object.
pub(super) fn call_part(out: &mut BytesMut, [id, name, arguments]: [&str; 3], is_object: bool, token: &str) {
    raw(out, "{\"functionCall\":{");
    if !id.is_empty() {
        raw(out, "\"id\":");
        json(out, id);
        raw(out, ",");
    }
    raw(out, "\"name\":");
    json(out, name);
    raw(out, ",\"args\":");
    match arguments.trim() {
        "" => raw(out, "{}"),
        object if is_object => one_line(out, object),
        text => {
            raw(out, "{\"raw_arguments\":");
            json(out, text);
            raw(out, "}");
        }
    }
    raw(out, "}");
    end_part(out, token);
}
