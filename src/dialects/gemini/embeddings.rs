//! Vectors: requests read, answers read and written. `batchEmbedContents` holds a list of what `embedContent` is.

use serde_json::{Map, Value, json};

use super::fields::{camel, native, numeric};
use super::{DIALECT, request_contents};
use crate::dialects::codec::RequestError;
use crate::dialects::{DecodeError, Target, values, write};
use crate::ir::{
    Block, Content, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, Message, Native, Set, Totals, Usage,
};

/// The method that takes a list.
pub(super) const BATCH: &str = "batchEmbedContents";

/// True if a target asks for a list of vectors.
pub(super) fn is_batch(target: &Target) -> bool {
    target.method.ends_with(BATCH)
}

/// Reads a request.
pub(super) fn decode(target: &Target, body: &[u8]) -> Result<EmbeddingRequest, RequestError> {
    let mut request = EmbeddingRequest {
        model: target.model.clone().unwrap_or_default(),
        single: !is_batch(target),
        ..EmbeddingRequest::default()
    };
    let body = values::body(body)?;
    if request.single {
        one(body, "", &mut request)?;
        return Ok(request);
    }
    for (name, value) in values::fields(body) {
        if name != "requests" {
            request.native.push(native("", &name, "", value));
            continue;
        }
        for (index, inner) in values::list(value, &name)?.into_iter().enumerate() {
            let at = values::element(&name, index);
            one(values::object(inner, &at)?, &at, &mut request)?;
        }
    }
    Ok(request)
}

/// One `EmbedContentRequest`. Settings are the batch's: where they differ, the later ones are kept as they stand.
fn one(body: Map<String, Value>, parent: &str, request: &mut EmbeddingRequest) -> Result<(), RequestError> {
    for (name, value) in values::fields(body) {
        let at = values::field(parent, &name);
        match camel(&name).as_ref() {
            "content" => {
                let content = match value {
                    Value::Object(map) => request_contents::content(map, &at)?,
                    text => {
                        let mut message = Message::new(crate::ir::Role::User, at.as_str());
                        message.blocks.push(Block::text(values::string(text, &at)?, at));
                        message
                    }
                };
                request.inputs.push(input(content));
            }
            "outputDimensionality" => {
                let value = values::count(&numeric(value), &at)?;
                setting(
                    &mut request.dimensions,
                    value,
                    "outputDimensionality",
                    &at,
                    &mut request.native,
                );
            }
            "taskType" => {
                let value = values::string(value, &at)?;
                setting(&mut request.task, value, "taskType", &at, &mut request.native);
            }
            "title" => {
                let value = values::string(value, &at)?;
                setting(&mut request.title, value, "title", &at, &mut request.native);
            }
            // The path names it.
            "model" => {}
            _ => request.native.push(native(parent, &name, "", value)),
        }
    }
    Ok(())
}

fn setting<T: PartialEq + Into<Value>>(
    to: &mut Option<Set<T>>,
    value: T,
    name: &'static str,
    at: &str,
    natives: &mut Vec<Native>,
) {
    match to {
        None => *to = Some(Set::new(value, name)),
        Some(set) if set.value == value => {}
        Some(_) => natives.push(Native {
            dialect: DIALECT,
            at: at.into(),
            key: at.into(),
            json: value.into(),
        }),
    }
}

/// A content is a text if its parts are.
fn input(content: Message) -> EmbeddingInput {
    if content.blocks.iter().all(|block| block.as_text().is_some()) {
        return EmbeddingInput::Text(content.text());
    }
    let parts: Vec<Value> = content.blocks.into_iter().filter_map(part).collect();
    EmbeddingInput::Native(Native {
        dialect: DIALECT,
        at: content.at,
        key: "content".into(),
        json: json!({ "parts": parts }),
    })
}

fn part(block: Block) -> Option<Value> {
    use crate::ir::MediaSource::{File, Inline, Text, Url};
    Some(match block.content {
        Content::Text(text) => json!({ "text": text }),
        Content::Media(media) => match media.source {
            Inline(data) => json!({"inlineData": {"mimeType": media.mime, "data": data}}),
            Url(uri) | File(uri) => json!({"fileData": {"mimeType": media.mime, "fileUri": uri}}),
            Text(text) => json!({ "text": text }),
        },
        Content::Native(native) => native.json,
        _ => return None,
    })
}

/// Reads vectors, of one content or of many.
pub(super) fn decode_vectors(body: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
    let wrong = |why: &str| DecodeError {
        dialect: DIALECT,
        why: why.to_owned(),
    };
    let mut body: Value = serde_json::from_slice(body).map_err(|_| wrong("not JSON"))?;
    let list = match (body["embeddings"].take(), body["embedding"].take()) {
        (Value::Array(list), _) => list,
        (_, one @ Value::Object(_)) => vec![one],
        _ => return Err(wrong("no embeddings")),
    };
    let vector = |one: &Value| -> Option<Vec<f64>> { one["values"].as_array()?.iter().map(Value::as_f64).collect() };
    let vectors: Option<Vec<_>> = list.iter().map(vector).collect();
    Ok(EmbeddingResponse {
        model: String::new(),
        vectors: vectors.ok_or_else(|| wrong("an embedding without values"))?,
        usage: body["usageMetadata"]["promptTokenCount"].as_u64().map(|input| {
            Usage::from(Totals {
                input,
                ..Totals::default()
            })
        }),
    })
}

/// Writes vectors as the target's method gives them.
pub(super) fn encode_vectors(response: &EmbeddingResponse, target: &Target) -> Vec<u8> {
    let mut vectors = response.vectors.iter().map(|values| json!({ "values": values }));
    let mut body = if is_batch(target) {
        json!({ "embeddings": vectors.collect::<Vec<_>>() })
    } else {
        json!({ "embedding": vectors.next() })
    };
    if let Some(usage) = response.usage {
        body["usageMetadata"] = json!({ "promptTokenCount": usage.input_total() });
    }
    write::document(&body)
}
