//! Whole answers, and the model lists we write ourselves.

use serde_json::{Value, json};

use super::DIALECT;
use super::decode_stream::Decoder;
use super::wire::Message;
use crate::dialects::{DecodeError, ModelEntry, StreamDecoder, json as scan};
use crate::ir::{EventSink, Operation, StreamEnd};

/// Tells a whole answer.
pub(super) fn decode(operation: Operation, body: &[u8], sink: &mut dyn EventSink) -> Result<StreamEnd, DecodeError> {
    if operation != Operation::Chat {
        return Ok(StreamEnd::Complete);
    }
    let mut decoder = Decoder::default();
    decoder.message(scan::object::<Message<'_>>(DIALECT, body)?, body, sink);
    Ok(decoder.finish(sink))
}

pub(super) fn model(entry: &ModelEntry) -> Value {
    // RFC 3339; a time that is out of jiff's range (years -9999 to 9999) reads as the epoch.
    let created = jiff::Timestamp::from_second(entry.created).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    json!({"type": "model", "id": entry.id, "display_name": entry.id, "created_at": created.to_string()})
}

pub(super) fn models(entries: &[ModelEntry]) -> Value {
    json!({
        "data": entries.iter().map(model).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": entries.first().map(|entry| &entry.id),
        "last_id": entries.last().map(|entry| &entry.id),
    })
}
