//! Parts of a message's content and of a tool's result, read.

use serde_json::{Map, Value};

use super::DIALECT;
use crate::dialects::RequestError;
use crate::dialects::values::{element, field, fields, list, object, string};
use crate::ir::{Block, Citation, Content, Media, MediaKind, MediaSource, Native};

/// A content: a string, or parts.
pub(super) fn content(value: Value, at: &str) -> Result<Vec<Block>, RequestError> {
    if let Value::String(text) = value {
        return Ok(vec![Block::text(text, at)]);
    }
    let parts = list(value, at).map_err(|_| RequestError::must_be(at, "a string or a list of parts"))?;
    let parts = parts.into_iter().enumerate();
    parts.map(|(index, value)| part(value, element(at, index))).collect()
}

fn part(value: Value, at: String) -> Result<Block, RequestError> {
    if let Value::String(text) = value {
        return Ok(Block::text(text, at));
    }
    let map = object(value, &at)?;
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    match kind.as_str() {
        "input_text" | "output_text" | "text" => text(map, at),
        "refusal" => refusal(map, at),
        "input_image" | "input_file" | "input_audio" => media(map, at, &kind),
        _ => {
            let native = Native {
                dialect: DIALECT,
                at: at.as_str().into(),
                key: kind.into(),
                json: Value::Object(map),
            };
            Ok(Block::new(Content::Native(native), at))
        }
    }
}

fn text(map: Map<String, Value>, at: String) -> Result<Block, RequestError> {
    let mut block = Block::text("", at.as_str());
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            ("text", value) => block.content = Content::Text(string(value, &field(&at, "text"))?),
            ("annotations", Value::Array(list)) => block.citations = list.into_iter().map(citation).collect(),
            // Servers write an empty list of them with every text.
            ("logprobs", Value::Array(list)) if list.is_empty() => {}
            (key, value) => block.native.push(Native::field(DIALECT, &at, key, value)),
        }
    }
    Ok(block)
}

/// An annotation: whatever kind it is, its own dialect gets it back as it was.
pub(super) fn citation(annotation: Value) -> Citation<'static> {
    let text = |key: &str| annotation[key].as_str().unwrap_or("").to_owned().into();
    let span = || Some((annotation["start_index"].as_u64()?, annotation["end_index"].as_u64()?));
    Citation {
        url: text("url"),
        title: text("title"),
        text: "".into(),
        span: span(),
        json: annotation.to_string().into(),
    }
}

fn refusal(map: Map<String, Value>, at: String) -> Result<Block, RequestError> {
    let mut block = Block::new(Content::Refusal(String::new()), at.as_str());
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            "refusal" => block.content = Content::Refusal(string(value, &field(&at, "refusal"))?),
            key => block.native.push(Native::field(DIALECT, &at, key, value)),
        }
    }
    Ok(block)
}

fn media(map: Map<String, Value>, at: String, kind: &str) -> Result<Block, RequestError> {
    let whole = Value::Object(map.clone());
    let (mut source, mut mime, mut name, mut detail, mut native) = (None, None, None, None, Vec::new());
    for (key, value) in fields(map) {
        match (key.as_str(), value) {
            ("type", _) => {}
            // In Chat's form too, which gateways send.
            ("image_url", Value::Object(image)) if image.get("url").is_some_and(Value::is_string) => {
                (source, mime) = address(image["url"].as_str().unwrap_or(""));
            }
            ("image_url" | "file_url", value) => {
                (source, mime) = address(&string(value, &field(&at, &key))?);
            }
            ("file_data", value) => {
                let data = string(value, &field(&at, "file_data"))?;
                (source, mime) = match data_url(&data) {
                    Some((mime, data)) => (Some(MediaSource::Inline(data)), mime),
                    None => (Some(MediaSource::Inline(data)), None),
                };
            }
            ("file_id", value) => source = Some(MediaSource::File(string(value, &field(&at, "file_id"))?)),
            ("input_audio", Value::Object(audio)) if kind == "input_audio" => {
                let word = |key: &str| audio.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
                mime = Some(format!("audio/{}", word("format")));
                source = Some(MediaSource::Inline(word("data")));
            }
            ("filename", value) => name = Some(string(value, &field(&at, "filename"))?),
            ("detail", value) => detail = Some(string(value, &field(&at, "detail"))?),
            (key, value) => native.push(Native::field(DIALECT, &at, key, value)),
        }
    }
    let Some(source) = source else {
        // Nothing to look at: what it is only its own dialect knows.
        let native = Native {
            dialect: DIALECT,
            at: at.as_str().into(),
            key: kind.into(),
            json: whole,
        };
        return Ok(Block::new(Content::Native(native), at));
    };
    let kind = match kind {
        "input_image" => MediaKind::Image,
        "input_audio" => MediaKind::Audio,
        _ => mime
            .as_deref()
            .map_or(MediaKind::Document, |mime| match MediaKind::of_mime(mime) {
                // A picture in a file stays a file.
                MediaKind::Image => MediaKind::Document,
                kind => kind,
            }),
    };
    let mut block = Block::new(
        Content::Media(Media {
            kind,
            source,
            mime,
            name,
            detail,
        }),
        at,
    );
    block.native = native;
    Ok(block)
}

fn address(url: &str) -> (Option<MediaSource>, Option<String>) {
    match data_url(url) {
        Some((mime, data)) => (Some(MediaSource::Inline(data)), mime),
        None => (Some(MediaSource::Url(url.to_owned())), None),
    }
}

/// The media type and the base64 of a data URL (RFC 2397); other URLs, and data that is not base64, give `None`.
fn data_url(url: &str) -> Option<(Option<String>, String)> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let head = head.strip_suffix(";base64")?;
    let mime = head.split(';').next().unwrap_or("");
    let mut data = data.to_owned();
    data.retain(|c| !c.is_ascii_whitespace());
    Some(((!mime.is_empty()).then(|| mime.to_owned()), data))
}
