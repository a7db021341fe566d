//! Embeddings and token counts, which have no plan: OpenAI's and Gemini's vectors, Anthropic's and Gemini's counts.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::ask::Refusal;
use super::plan::Usage;
use super::text::{Json, words};

/// Numbers in a vector, unless the request says.
pub const DIMENSIONS: usize = 8;
/// Most numbers in a vector.
pub const MAX_DIMENSIONS: usize = 4096;
/// Most texts in one request.
pub const MAX_TEXTS: usize = 2048;

/// What is to be embedded.
pub struct Texts {
    /// The model, as asked.
    pub model: String,
    /// One text per vector.
    pub texts: Vec<String>,
    /// Numbers per vector.
    pub dimensions: usize,
    /// OpenAI's base64 form: little-endian floats.
    pub base64: bool,
}

impl Texts {
    /// Words of all texts.
    pub fn words(&self) -> u64 {
        self.texts.iter().map(|text| words(text)).sum::<u64>().max(1)
    }
}

#[derive(Deserialize)]
struct OpenAi {
    model: Option<String>,
    input: Option<Value>,
    encoding_format: Option<String>,
    dimensions: Option<usize>,
}

/// Reads OpenAI's request. Token arrays count as texts.
pub fn read_openai(body: &[u8]) -> Result<Texts, Refusal> {
    let body: OpenAi = serde_json::from_slice(body).map_err(|e| Refusal::not_read(&e))?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let texts = match body.input.ok_or_else(|| Refusal::missing("input"))? {
        Value::Array(items) if items.first().is_some_and(Value::is_number) => vec![Value::Array(items).to_string()],
        Value::Array(items) => items.iter().map(text).collect(),
        one => vec![text(&one)],
    };
    let model = body.model.ok_or_else(|| Refusal::missing("model"))?;
    let base64 = body.encoding_format.as_deref() == Some("base64");
    bounded(Texts {
        model,
        texts,
        dimensions: body.dimensions.unwrap_or(DIMENSIONS),
        base64,
    })
}

/// Reads Gemini's `embedContent` and `batchEmbedContents`.
pub fn read_gemini(body: &[u8], model: String, batch: bool) -> Result<Texts, Refusal> {
    let body: Value = serde_json::from_slice(body).map_err(|e| Refusal::not_read(&e))?;
    let requests = if batch {
        body["requests"].as_array().cloned().unwrap_or_default()
    } else {
        vec![body]
    };
    if requests.is_empty() {
        return Err(Refusal::missing("requests"));
    }
    let dimensions = requests
        .first()
        .and_then(|r| r.get("outputDimensionality").or_else(|| r.get("output_dimensionality")))
        .and_then(Value::as_u64);
    let dimensions = dimensions.map_or(DIMENSIONS, |d| usize::try_from(d).unwrap_or(usize::MAX));
    let texts = requests.iter().map(|request| texts_of(&request["content"])).collect();
    bounded(Texts {
        model,
        texts,
        dimensions,
        base64: false,
    })
}

fn bounded(texts: Texts) -> Result<Texts, Refusal> {
    if !(1..=MAX_DIMENSIONS).contains(&texts.dimensions) {
        return Err(Refusal::invalid(
            format!("`dimensions` must be from 1 to {MAX_DIMENSIONS}"),
            Some("dimensions"),
        ));
    }
    if texts.texts.is_empty() || texts.texts.len() > MAX_TEXTS {
        return Err(Refusal::invalid(
            format!("`input` must hold 1 to {MAX_TEXTS} texts"),
            Some("input"),
        ));
    }
    Ok(texts)
}

/// All members called `text` in a JSON value, joined.
fn texts_of(value: &Value) -> String {
    match value {
        Value::Array(items) => items
            .iter()
            .map(texts_of)
            .filter(|t| !t.is_empty())
            .collect::<Vec<_>>()
            .join("\n"),
        Value::Object(members) => {
            let text = members
                .get("text")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned();
            let nested = members
                .iter()
                .filter(|(name, _)| *name != "text")
                .map(|(_, value)| texts_of(value));
            std::iter::once(text)
                .chain(nested)
                .filter(|t| !t.is_empty())
                .collect::<Vec<_>>()
                .join("\n")
        }
        _ => String::new(),
    }
}

/// A vector of length one made of the text's hash: equal texts, equal vectors.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let hash = Sha256::digest(text.as_bytes());
    let numbers = (0..dimensions).map(|at| {
        let byte = hash[at % hash.len()].wrapping_add(u8::try_from(at / hash.len() % 256).unwrap_or(0));
        f32::from(byte) - 127.5
    });
    let numbers: Vec<f32> = numbers.collect();
    let norm = numbers.iter().map(|n| n * n).sum::<f32>().sqrt();
    numbers.into_iter().map(|n| n / norm).collect()
}

fn numbers(vector: &[f32]) -> String {
    let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// Little-endian floats in base64 (RFC 4648, with padding).
fn base64(vector: &[f32]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bytes: Vec<u8> = vector.iter().flat_map(|n| n.to_le_bytes()).collect();
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = three
            .iter()
            .enumerate()
            .fold(0_u32, |bits, (at, byte)| bits | u32::from(*byte) << (16 - 8 * at));
        for digit in 0..4_usize {
            let value = (bits >> (18 - 6 * digit)) & 63;
            out.push(if digit <= three.len() {
                char::from(DIGITS[value as usize])
            } else {
                '='
            });
        }
    }
    out
}

/// OpenAI's answer.
pub fn openai(texts: &Texts, usage: Usage) -> String {
    let data = texts.texts.iter().enumerate().map(|(at, text)| {
        let vector = vector(text, texts.dimensions);
        let embedding = if texts.base64 {
            format!(r#""{}""#, base64(&vector))
        } else {
            numbers(&vector)
        };
        format!(r#"{{"object":"embedding","index":{at},"embedding":{embedding}}}"#)
    });
    let (data, tokens) = (data.collect::<Vec<_>>().join(","), usage.input);
    format!(
        r#"{{"object":"list","data":[{data}],"model":{},"usage":{{"prompt_tokens":{tokens},"total_tokens":{tokens}}}}}"#,
        Json(&texts.model),
    )
}

/// Gemini's answer.
pub fn gemini(texts: &Texts, batch: bool) -> String {
    let vectors = texts
        .texts
        .iter()
        .map(|t| format!(r#"{{"values":{}}}"#, numbers(&vector(t, texts.dimensions))));
    let vectors = vectors.collect::<Vec<_>>().join(",");
    if batch {
        format!(r#"{{"embeddings":[{vectors}]}}"#)
    } else {
        format!(r#"{{"embedding":{vectors}}}"#)
    }
}

/// Words of Gemini's `countTokens`: `contents`, or a whole `generateContentRequest`.
pub fn read_gemini_count(body: &[u8]) -> Result<u64, Refusal> {
    let body: Value = serde_json::from_slice(body).map_err(|e| Refusal::not_read(&e))?;
    let request = body
        .get("generateContentRequest")
        .or_else(|| body.get("generate_content_request"));
    let request = request.unwrap_or(&body);
    if request.get("contents").is_none() {
        return Err(Refusal::missing("contents"));
    }
    Ok(words(&texts_of(request)).max(1))
}

/// Gemini's count.
pub fn gemini_count(tokens: u64) -> String {
    format!(r#"{{"totalTokens":{tokens},"promptTokensDetails":[{{"modality":"TEXT","tokenCount":{tokens}}}]}}"#)
}

/// Anthropic's count.
pub fn anthropic_count(tokens: u64) -> String {
    format!(r#"{{"input_tokens":{tokens}}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_a_vector_are_the_same_numbers() {
        for dimensions in [1, 2, 3, 8, 100] {
            let vector = vector("text", dimensions);
            let bytes = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, super::base64(&vector));
            let bytes = bytes.expect("valid base64");
            let decoded: Vec<f32> = bytes
                .chunks(4)
                .map(|b| f32::from_le_bytes(b.try_into().expect("four bytes")))
                .collect();
            assert_eq!(decoded, vector);
            assert_eq!(
                serde_json::from_str::<Vec<f32>>(&numbers(&vector)).expect("JSON"),
                vector
            );
        }
    }
}
