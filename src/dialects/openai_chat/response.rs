//! Whole answers: chat completions, embeddings, and the model lists we write ourselves.

use serde_json::{Value, json};

use super::DIALECT;
use super::decode_stream::Decoder;
use super::wire::Chunk;
use crate::dialects::{DecodeError, ModelEntry, StreamDecoder, json as scan};
use crate::ir::{EventSink, Operation, StreamEnd};

/// Tells a whole answer. Embeddings have a `model` and `usage` as a chat has, and no choices.
pub(super) fn decode(operation: Operation, body: &[u8], sink: &mut dyn EventSink) -> Result<StreamEnd, DecodeError> {
    if !matches!(operation, Operation::Chat | Operation::Embeddings) {
        return Ok(StreamEnd::Complete);
    }
    let mut decoder = Decoder::whole();
    decoder.chunk(scan::object::<Chunk<'_>>(DIALECT, body)?, false, sink);
    Ok(decoder.finish(sink))
}

pub(super) fn model(entry: &ModelEntry) -> Value {
    json!({"id": entry.id, "object": "model", "created": entry.created, "owned_by": entry.owner})
}

pub(super) fn models(entries: &[ModelEntry]) -> Value {
    json!({"object": "list", "data": entries.iter().map(model).collect::<Vec<_>>()})
}
