//! Embeddings in OpenAI's form (reference "Create embeddings"), which both of its dialects delegate to: providers of
//! either offer them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Map, Value, json};

use super::DecodeError;
use super::codec::{EncodeError, RequestError, Upstream};
use super::values::{body, count, element, fields, list, string};
use super::write;
use crate::ir::{DialectId, EmbeddingInput, EmbeddingRequest, EmbeddingResponse, LossReport, Native, Set, Usage};

/// Whose fields are put back where they stood: clients ask in OpenAI Chat's name only.
const DIALECT: DialectId = DialectId::new("openai_chat");

/// Reads a request for vectors.
pub(super) fn decode_request(bytes: &[u8]) -> Result<EmbeddingRequest, RequestError> {
    let mut request = EmbeddingRequest::default();
    let (mut model, mut input) = (None, None);
    for (key, value) in fields(body(bytes)?) {
        match (key.as_str(), &value) {
            ("model", _) => model = Some(string(value, "model")?),
            ("input", _) => input = Some(value),
            ("dimensions", _) => request.dimensions = Some(Set::new(count(&value, "dimensions")?, "dimensions")),
            ("user", _) => request.user = Some(Set::new(string(value, "user")?, "user")),
            ("encoding_format", Value::String(form)) if form == "base64" => request.base64 = true,
            ("encoding_format", Value::String(form)) if form == "float" => {}
            _ => request.native.push(Native::field(DIALECT, "", &key, value)),
        }
    }
    request.model = model.ok_or_else(|| RequestError::must_be("model", "a string"))?;
    inputs(&mut request, input)?;
    Ok(request)
}

/// `input`: a text, a list of tokens, or a list of either.
fn inputs(request: &mut EmbeddingRequest, input: Option<Value>) -> Result<(), RequestError> {
    let expected = "a text, a list of tokens, or a list of those";
    let all = match input {
        Some(Value::String(text)) => {
            request.single = true;
            request.inputs.push(EmbeddingInput::Text(text));
            return Ok(());
        }
        Some(value @ Value::Array(_)) => list(value, "input")?,
        _ => return Err(RequestError::must_be("input", expected)),
    };
    if !all.is_empty() && all.iter().all(Value::is_number) {
        request.single = true;
        request.inputs.push(EmbeddingInput::Tokens(tokens(&all, "input")?));
        return Ok(());
    }
    for (index, value) in all.into_iter().enumerate() {
        let at = element("input", index);
        request.inputs.push(match value {
            Value::String(text) => EmbeddingInput::Text(text),
            Value::Array(list) => EmbeddingInput::Tokens(tokens(&list, &at)?),
            // Pictures, at some providers.
            value @ Value::Object(_) => EmbeddingInput::Native(Native {
                dialect: DIALECT,
                at: at.into(),
                key: "input".into(),
                json: value,
            }),
            _ => return Err(RequestError::must_be(at, expected)),
        });
    }
    Ok(())
}

fn tokens(list: &[Value], at: &str) -> Result<Vec<u64>, RequestError> {
    let token = |(index, value)| count(value, &element(at, index));
    list.iter().enumerate().map(token).collect()
}

/// Writes a request for vectors.
pub(super) fn encode_request(
    request: &EmbeddingRequest,
    to: &Upstream<'_>,
    loss: &mut LossReport,
) -> Result<Vec<u8>, EncodeError> {
    let mut inputs = Vec::new();
    for input in &request.inputs {
        inputs.push(match input {
            EmbeddingInput::Text(text) => text.as_str().into(),
            EmbeddingInput::Tokens(tokens) => tokens.as_slice().into(),
            EmbeddingInput::Native(native) if native.dialect == DIALECT => native.json.clone(),
            EmbeddingInput::Native(native) => {
                return Err(EncodeError {
                    path: native.at.to_string(),
                    why: "the provider makes vectors of texts only",
                });
            }
        });
    }
    let mut body = Map::new();
    body.insert("model".into(), to.model.into());
    let input = match inputs.len() {
        1 if request.single => inputs.remove(0),
        _ => inputs.into(),
    };
    body.insert("input".into(), input);
    if request.base64 {
        body.insert("encoding_format".into(), "base64".into());
    }
    if let Some(set) = &request.dimensions {
        body.insert("dimensions".into(), set.value.into());
    }
    if let Some(set) = &request.user {
        body.insert("user".into(), set.value.as_str().into());
    }
    for set in [&request.task, &request.title].into_iter().flatten() {
        loss.dropped(set.at, "there is no such setting");
    }
    Native::settle(&request.native, DIALECT, loss, |native| {
        body.insert(native.key.to_string(), native.json.clone());
    });
    Ok(write::document(&body))
}

/// The models whose base64 holds signed bytes and not floats (Perplexity's "Embeddings": `base64_int8`, the default).
const OF_BYTES: &str = "pplx-embed";

/// Reads vectors: lists of numbers, or base64 of little-endian floats of 32 bits.
pub(super) fn decode_vectors(bytes: &[u8]) -> Result<EmbeddingResponse, DecodeError> {
    let wrong = |why: &str| DecodeError {
        dialect: DIALECT,
        why: why.to_owned(),
    };
    let body: Value = serde_json::from_slice(bytes).map_err(|_| wrong("not JSON"))?;
    let data = body["data"].as_array().ok_or_else(|| wrong("no list of vectors"))?;
    let model = body["model"].as_str().unwrap_or("");
    let of_bytes = model.starts_with(OF_BYTES);
    let mut found = Vec::with_capacity(data.len());
    for (place, entry) in data.iter().enumerate() {
        let vector =
            vector(&entry["embedding"], of_bytes).ok_or_else(|| wrong("a vector is neither numbers nor base64"))?;
        found.push((entry["index"].as_u64().unwrap_or(place as u64), vector));
    }
    found.sort_by_key(|(index, _)| *index);
    let usage = &body["usage"];
    let input = ["prompt_tokens", "total_tokens"]
        .iter()
        .find_map(|field| usage[*field].as_u64());
    Ok(EmbeddingResponse {
        model: model.to_owned(),
        vectors: found.into_iter().map(|(_, vector)| vector).collect(),
        usage: input.map(|input| Usage {
            input,
            ..Usage::default()
        }),
    })
}

fn vector(value: &Value, of_bytes: bool) -> Option<Vec<f64>> {
    match value {
        Value::Array(numbers) => numbers.iter().map(Value::as_f64).collect(),
        Value::String(text) => {
            let bytes = STANDARD.decode(text).ok()?;
            if of_bytes {
                return Some(bytes.into_iter().map(|byte| f64::from(byte.cast_signed())).collect());
            }
            let (numbers, rest) = bytes.as_chunks::<4>();
            rest.is_empty().then(|| {
                numbers
                    .iter()
                    .map(|bytes| f64::from(f32::from_le_bytes(*bytes)))
                    .collect()
            })
        }
        _ => None,
    }
}

/// Numbers of a vector: those which came as floats of 32 bits are written as short as such.
struct Numbers<'v>(&'v [f64]);

impl Serialize for Numbers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for number in self.0 {
            let short = *number as f32;
            if f64::from(short) == *number {
                list.serialize_element(&short)?;
            } else {
                list.serialize_element(number)?;
            }
        }
        list.end()
    }
}

/// Writes vectors, as numbers or as base64, whichever the request asked for.
pub(super) fn encode_vectors(response: &EmbeddingResponse, asked: &EmbeddingRequest, loss: &mut LossReport) -> Vec<u8> {
    let mut out = br#"{"object":"list","data":["#.to_vec();
    for (index, vector) in response.vectors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!(r#"{{"object":"embedding","index":{index},"embedding":"#).as_bytes());
        if asked.base64 {
            let bytes: Vec<u8> = vector
                .iter()
                .flat_map(|number| (*number as f32).to_le_bytes())
                .collect();
            out.extend_from_slice(format!("\"{}\"", STANDARD.encode(bytes)).as_bytes());
        } else {
            out.extend_from_slice(&serde_json::to_vec(&Numbers(vector)).unwrap_or_default());
        }
        out.push(b'}');
    }
    let tokens = response.usage.map_or_else(
        || {
            loss.synthesized("usage", "OpenAI's clients expect it; the provider told none");
            0
        },
        |usage| usage.input_total(),
    );
    let model = if response.model.is_empty() {
        &asked.model
    } else {
        &response.model
    };
    let rest = json!({"model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}).to_string();
    // Joins the two objects.
    out.extend_from_slice(b"],");
    out.extend_from_slice(&rest.as_bytes()[1..]);
    out
}
