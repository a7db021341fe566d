//! Parts of messages read: text and media, and hints for the cache.
//!
//! Beyond OpenAI's: `video_url` (OpenRouter, Alibaba), `document_url` and `thinking` (Mistral), `file_url` (Perplexity),
//! `cache_control` (OpenRouter, after Anthropic's).

use serde_json::{Map, Value};

use super::natives::{keep, restore};
use super::vendor::Vendor;
use super::{DIALECT, data_url};
use crate::dialects::RequestError;
use crate::dialects::values::{element, field, object, string};
use crate::ir::{Block, CacheHint, Content, LossReport, Media, MediaKind, MediaSource, Native};

/// Reads content: a text or a list of parts. An empty text is no block.
pub(super) fn content(value: Value, at: &str) -> Result<Vec<Block>, RequestError> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Vec::new()),
        Value::String(text) => Ok(vec![Block::text(text, at)]),
        Value::Array(parts) => parts
            .into_iter()
            .enumerate()
            .map(|(index, value)| part(value, &element(at, index)))
            .collect(),
        _ => Err(RequestError::must_be(at, "a string or a list of parts")),
    }
}

fn part(value: Value, at: &str) -> Result<Block, RequestError> {
    let mut map = match value {
        Value::String(text) => return Ok(Block::text(text, at)),
        other => object(other, at)?,
    };
    let kind = match map.get("type") {
        Some(kind) => string(kind.clone(), &field(at, "type"))?,
        None if map.contains_key("text") => "text".to_owned(),
        None => String::new(),
    };
    let mut block = Block::new(Content::Text(String::new()), at);
    let natives = &mut block.native;
    let found = match kind.as_str() {
        "text" | "input_text" | "output_text" => Some(Content::Text(text(&mut map, "text", at)?)),
        "refusal" => Some(Content::Refusal(text(&mut map, "refusal", at)?)),
        "thinking" => thinking(&mut map).map(Content::Reasoning),
        "image_url" => address(&mut map, "image_url", MediaKind::Image, at, natives)?,
        "video_url" => address(&mut map, "video_url", MediaKind::Video, at, natives)?,
        "document_url" => address(&mut map, "document_url", MediaKind::Document, at, natives)?,
        "file_url" => address(&mut map, "file_url", MediaKind::Document, at, natives)?,
        "input_audio" => audio(&mut map, at, natives)?,
        "file" => file(&mut map, at, natives)?,
        _ => None,
    };
    match found {
        Some(found) => {
            block.content = found;
            block.cache = cache(&mut map, at);
            map.shift_remove("type");
            keep(&mut block.native, at, map);
        }
        None => {
            block.content = Content::Native(Native {
                dialect: DIALECT,
                at: at.into(),
                key: kind.into(),
                json: Value::Object(map),
            });
        }
    }
    Ok(block)
}

fn text(map: &mut Map<String, Value>, key: &str, at: &str) -> Result<String, RequestError> {
    match map.shift_remove(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(value) => string(value, &field(at, key)),
    }
}

/// Mistral's reasoning: a text, or a list of texts. `None`: something else is in it.
fn thinking(map: &mut Map<String, Value>) -> Option<String> {
    let told = match map.get("thinking")? {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let text = |part: &Value| match part["type"].as_str() {
                Some("text") => part["text"].as_str().map(str::to_owned),
                _ => None,
            };
            parts.iter().map(text).collect::<Option<Vec<_>>>()?.concat()
        }
        _ => return None,
    };
    map.shift_remove("thinking");
    Some(told)
}

/// Media at an address, which may be a data URL: `"…"` or `{"url": "…"}`.
fn address(
    map: &mut Map<String, Value>,
    key: &str,
    kind: MediaKind,
    at: &str,
    natives: &mut Vec<Native>,
) -> Result<Option<Content>, RequestError> {
    let inside = field(at, key);
    let (url, detail) = match map.shift_remove(key) {
        Some(Value::String(url)) => (url, None),
        Some(Value::Object(mut inner)) => {
            let url = string(inner.shift_remove("url").unwrap_or_default(), &field(&inside, "url"))?;
            let detail = match inner.shift_remove("detail") {
                Some(Value::String(detail)) => Some(detail),
                other => {
                    inner.extend(other.map(|other| ("detail".to_owned(), other)));
                    None
                }
            };
            keep(natives, &inside, inner);
            (url, detail)
        }
        _ => return Err(RequestError::must_be(inside, "an object with an address")),
    };
    let (source, mime) = match key {
        // Bare base64 beside addresses.
        "file_url" if !url.contains(':') => (data_url::inline(&url), None),
        _ => data_url::source(url),
    };
    let name = match map.shift_remove("document_name") {
        Some(Value::String(name)) => Some(name),
        other => {
            map.extend(other.map(|other| ("document_name".to_owned(), other)));
            None
        }
    };
    Ok(Some(Content::Media(Media {
        kind,
        source,
        mime,
        name,
        detail,
    })))
}

fn audio(map: &mut Map<String, Value>, at: &str, natives: &mut Vec<Native>) -> Result<Option<Content>, RequestError> {
    let at = field(at, "input_audio");
    let mut inner = object(map.shift_remove("input_audio").unwrap_or_default(), &at)?;
    let data = string(inner.shift_remove("data").unwrap_or_default(), &field(&at, "data"))?;
    let format = match inner.shift_remove("format") {
        None | Some(Value::Null) => None,
        Some(format) => Some(string(format, &field(&at, "format"))?),
    };
    keep(natives, &at, inner);
    let (source, mime) = match data_url::split(&data) {
        Some((mime, data)) => (data_url::inline(data), Some(mime.to_owned())),
        // OpenRouter and Alibaba take addresses there.
        None if data.starts_with("http") => (MediaSource::Url(data), None),
        None => (data_url::inline(&data), None),
    };
    Ok(Some(Content::Media(Media {
        kind: MediaKind::Audio,
        source,
        mime: format.map(|format| audio_mime(&format)).or(mime),
        name: None,
        detail: None,
    })))
}

/// The type of a format's name (`input_audio.format`).
pub(super) fn audio_mime(format: &str) -> String {
    let subtype = if format == "mp3" { "mpeg" } else { format };
    format!("audio/{subtype}")
}

fn file(map: &mut Map<String, Value>, at: &str, natives: &mut Vec<Native>) -> Result<Option<Content>, RequestError> {
    let at = field(at, "file");
    let mut inner = object(map.shift_remove("file").unwrap_or_default(), &at)?;
    let mut take = |key: &str| match inner.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => string(value, &field(&at, key)).map(Some),
    };
    let (data, id, name) = (take("file_data")?, take("file_id")?, take("filename")?);
    let (source, mime) = match (data, id) {
        (Some(data), second) => {
            inner.extend(second.map(|id| ("file_id".to_owned(), id.into())));
            if data.contains(':') {
                data_url::source(data)
            } else {
                (data_url::inline(&data), None)
            }
        }
        (None, Some(id)) => (MediaSource::File(id), None),
        (None, None) => return Err(RequestError::must_be(at, "an object with `file_data` or `file_id`")),
    };
    keep(natives, &at, inner);
    Ok(Some(Content::Media(Media {
        kind: mime.as_deref().map_or(MediaKind::Document, MediaKind::of_mime),
        source,
        mime,
        name,
        detail: None,
    })))
}

/// Takes a hint for the cache; one of another form stays where it is.
pub(super) fn cache(map: &mut Map<String, Value>, at: &str) -> Option<CacheHint> {
    let hint = map.get("cache_control")?.as_object()?;
    let ttl = match hint.get("ttl") {
        None => None,
        Some(ttl) => Some(ttl.as_str()?.into()),
    };
    let is_known = hint.keys().all(|key| key == "type" || key == "ttl");
    if !is_known || hint.get("type")? != "ephemeral" {
        return None;
    }
    map.shift_remove("cache_control");
    Some(CacheHint {
        ttl,
        at: field(at, "cache_control").into(),
    })
}

/// Writes a hint for the cache where the provider takes it.
pub(super) fn write_cache(
    map: &mut Map<String, Value>,
    hint: Option<&CacheHint>,
    vendor: Vendor,
    loss: &mut LossReport,
) {
    let Some(hint) = hint else { return };
    if vendor != Vendor::Claude {
        loss.dropped(hint.at.to_string(), "the provider caches prompts by itself");
        return;
    }
    let mut control = Map::new();
    control.insert("type".into(), "ephemeral".into());
    if let Some(ttl) = &hint.ttl {
        control.insert("ttl".into(), ttl.to_string().into());
    }
    map.insert("cache_control".into(), Value::Object(control));
}

/// Puts the natives of a block back into its object.
pub(super) fn write_natives(map: &mut Map<String, Value>, block: &Block, loss: &mut LossReport) {
    restore(map, &block.at, &block.native, loss);
}
