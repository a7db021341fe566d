//! Whole answers, and the model lists we write ourselves.

use serde_json::{Value, json};

use super::DIALECT;
use super::decode_stream::Decoder;
use super::wire::Response;
use crate::dialects::{DecodeError, ModelEntry, StreamDecoder, json as scan};
use crate::ir::{EventSink, Operation, StreamEnd};

/// Tells a whole answer: the same object a stream ends with.
pub(super) fn decode(operation: Operation, body: &[u8], sink: &mut dyn EventSink) -> Result<StreamEnd, DecodeError> {
    if operation != Operation::Chat {
        return Ok(StreamEnd::Complete);
    }
    let mut decoder = Decoder::default();
    decoder.response("", scan::object::<Response<'_>>(DIALECT, body)?, sink);
    Ok(decoder.finish(sink))
}

pub(super) fn model(entry: &ModelEntry) -> Value {
    json!({"id": entry.id, "object": "model", "created": entry.created, "owned_by": entry.owner})
}

pub(super) fn models(entries: &[ModelEntry]) -> Value {
    json!({"object": "list", "data": entries.iter().map(model).collect::<Vec<_>>()})
}
