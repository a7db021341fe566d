//! Whole answers, and the model lists we write ourselves.

use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::DIALECT;
use super::decode_stream::Decoder;
use super::wire::Answer;
use crate::dialects::{DecodeError, ModelEntry, json as scan};
use crate::ir::{EventSink, Operation, StreamEnd};

/// Tells a whole answer: one object, or a stream's array read to its end. Embeddings may have `usageMetadata` too.
pub(super) fn decode(operation: Operation, body: &[u8], sink: &mut dyn EventSink) -> Result<StreamEnd, DecodeError> {
    if !matches!(operation, Operation::Chat | Operation::Embeddings) {
        return Ok(StreamEnd::Complete);
    }
    let mut decoder = Decoder::default();
    if body.trim_ascii_start().starts_with(b"[") {
        let elements: Vec<&RawValue> = serde_json::from_slice(body).map_err(|_| DecodeError {
            dialect: DIALECT,
            why: "not a JSON array".to_owned(),
        })?;
        for element in elements {
            decoder.answer(scan::object::<Answer<'_>>(DIALECT, element.get().as_bytes())?, sink);
        }
    } else {
        decoder.answer(scan::object::<Answer<'_>>(DIALECT, body)?, sink);
    }
    Ok(decoder.end(true, sink))
}

pub(super) fn model(entry: &ModelEntry) -> Value {
    json!({
        "name": format!("models/{}", entry.id),
        "displayName": entry.id,
        "supportedGenerationMethods": super::METHODS.map(|(name, ..)| name),
    })
}

pub(super) fn models(entries: &[ModelEntry]) -> Value {
    json!({"models": entries.iter().map(model).collect::<Vec<_>>()})
}
