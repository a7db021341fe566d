//! Parts of messages written: text and media.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::vendor::Vendor;
use super::{DIALECT, data_url, decode_parts, details};
use crate::dialects::EncodeError;
use crate::ir::{Block, CacheHint, Content, LossReport, Media, MediaKind, MediaSource, Native};

/// Content: a text where it is one, else a list of parts.
pub(super) fn content<'b>(
    blocks: impl Iterator<Item = &'b Block>,
    vendor: Vendor,
    loss: &mut LossReport,
) -> Result<Value, EncodeError> {
    let mut parts = Vec::new();
    for block in blocks {
        parts.extend(part(block, vendor, loss)?);
    }
    Ok(one_text(parts))
}

/// A list of one plain text is that text; nothing is the empty text.
fn one_text(mut parts: Vec<Map<String, Value>>) -> Value {
    if let [only] = parts.as_mut_slice()
        && only.len() == 2
        && only.get("type").is_some_and(|kind| kind == "text")
        && let Some(text) = only.shift_remove("text")
    {
        return text;
    }
    match parts.is_empty() {
        true => "".into(),
        false => parts.into_iter().map(Value::Object).collect(),
    }
}

/// The content of a tool's result: text only. `hint` is that of the whole result.
pub(super) fn tool_content(
    blocks: &[&Block],
    hint: Option<&CacheHint>,
    vendor: Vendor,
    loss: &mut LossReport,
) -> Result<Value, EncodeError> {
    let mut parts = Vec::new();
    for block in blocks {
        parts.extend(part(block, vendor, loss)?);
    }
    match parts.last_mut() {
        Some(last) => decode_parts::write_cache(last, hint, vendor, loss),
        None => {
            if let Some(hint) = hint {
                loss.dropped(hint.at.to_string(), "an empty result can't be a border of the cache");
            }
        }
    }
    Ok(one_text(parts))
}

fn part(block: &Block, vendor: Vendor, loss: &mut LossReport) -> Result<Option<Map<String, Value>>, EncodeError> {
    let mut map = match &block.content {
        Content::Text(text) => details::object(json!({"type": "text", "text": text})),
        Content::Refusal(text) => details::object(json!({"type": "refusal", "refusal": text})),
        // Mistral's form; others have fields of the message.
        Content::Reasoning(text) if text.is_empty() => {
            loss.dropped(block.at.to_string(), "the provider takes no tokens of reasoning");
            return Ok(None);
        }
        Content::Reasoning(text) => {
            details::object(json!({"type": "thinking", "thinking": [{"type": "text", "text": text}]}))
        }
        Content::Media(_) => details::object(media(block, vendor, loss)?),
        Content::Native(native) => {
            let mut own = None;
            Native::settle([native], DIALECT, loss, |native| own = native.json.as_object().cloned());
            return Ok(own);
        }
        Content::ToolCall(_) | Content::ToolResult(_) => {
            loss.dropped(block.at.to_string(), "it has no place in this message");
            return Ok(None);
        }
    };
    if !block.citations.is_empty() {
        loss.approximated(block.at.to_string(), "requests have no citations here");
    }
    if !matches!(block.content, Content::Media(_)) {
        decode_parts::write_natives(&mut map, block, loss);
        decode_parts::write_cache(&mut map, block.cache.as_ref(), vendor, loss);
    }
    Ok(Some(map))
}

/// A block of media as a part.
pub(super) fn media(block: &Block, vendor: Vendor, loss: &mut LossReport) -> Result<Value, EncodeError> {
    let Content::Media(media) = &block.content else {
        return Ok(Value::Null);
    };
    let cannot = |why| EncodeError {
        path: block.at.to_string(),
        why,
    };
    if media.name.is_some() && media.kind != MediaKind::Document {
        loss.dropped(block.at.to_string(), "only documents have names here");
    }
    if media.detail.is_some() && media.kind != MediaKind::Image {
        loss.dropped(
            block.at.to_string(),
            "only images are looked at more or less closely here",
        );
    }
    if media.mime.is_some() && matches!(media.source, MediaSource::Url(_) | MediaSource::File(_)) {
        loss.dropped(block.at.to_string(), "what stands elsewhere has no type here");
    }
    let part = match media.kind {
        MediaKind::Image => image(media).ok_or_else(|| cannot("images go by address or by their bytes here"))?,
        MediaKind::Audio => audio(media, vendor).ok_or_else(|| cannot("sound goes as WAV or MP3 bytes here"))?,
        MediaKind::Video if vendor.is_openai() => return Err(cannot("the provider takes no video")),
        MediaKind::Video => {
            let url =
                address(media, "video/mp4").ok_or_else(|| cannot("video goes by address or by its bytes here"))?;
            json!({"type": "video_url", "video_url": {"url": url}})
        }
        MediaKind::Document => document(block, media, vendor, loss).map_err(cannot)?,
    };
    let mut map = details::object(part);
    decode_parts::write_natives(&mut map, block, loss);
    decode_parts::write_cache(&mut map, block.cache.as_ref(), vendor, loss);
    Ok(Value::Object(map))
}

/// The address of media, a data URL for those which stand here; `mime` where their type is not known.
fn address(media: &Media, mime: &str) -> Option<String> {
    match &media.source {
        MediaSource::Url(url) => Some(url.clone()),
        MediaSource::Inline(data) => Some(data_url::write(media.mime.as_deref().unwrap_or(mime), data)),
        MediaSource::Text(_) | MediaSource::File(_) => None,
    }
}

fn image(media: &Media) -> Option<Value> {
    let mut image_url = json!({"url": address(media, "image/png")?});
    if let Some(detail) = &media.detail {
        image_url["detail"] = detail.as_str().into();
    }
    Some(json!({"type": "image_url", "image_url": image_url}))
}

/// Sound: OpenAI takes WAV and MP3; others take what their models take, some by address.
fn audio(media: &Media, vendor: Vendor) -> Option<Value> {
    let subtype = media.mime.as_deref().and_then(|mime| mime.split('/').nth(1));
    let format = match subtype.unwrap_or("wav") {
        "mpeg" | "mp3" => "mp3",
        "wav" | "x-wav" | "wave" | "vnd.wave" => "wav",
        _ if vendor.is_openai() => return None,
        other => other,
    };
    let data = match &media.source {
        MediaSource::Inline(data) => data,
        MediaSource::Url(url) if !vendor.is_openai() => url,
        _ => return None,
    };
    let mut input = json!({"data": data});
    if subtype.is_some() || matches!(media.source, MediaSource::Inline(_)) {
        input["format"] = format.into();
    }
    Some(json!({"type": "input_audio", "input_audio": input}))
}

fn document(block: &Block, media: &Media, vendor: Vendor, loss: &mut LossReport) -> Result<Value, &'static str> {
    let mime = media.mime.as_deref();
    if let MediaSource::Text(text) = &media.source {
        loss.approximated(block.at.to_string(), "documents of plain text are said as text here");
        let text = match &media.name {
            Some(name) => format!("{name}\n\n{text}"),
            None => text.clone(),
        };
        return Ok(json!({"type": "text", "text": text}));
    }
    if let MediaSource::File(id) = &media.source {
        loss.approximated(block.at.to_string(), "file ids are bound to their provider");
        let mut file = json!({"file_id": id});
        if let Some(name) = &media.name {
            file["filename"] = name.as_str().into();
        }
        return Ok(json!({"type": "file", "file": file}));
    }
    match (vendor, &media.source) {
        (Vendor::Mistral, _) => {
            let url = address(media, "application/pdf").unwrap_or_default();
            let mut part = json!({"type": "document_url", "document_url": url});
            if let Some(name) = &media.name {
                part["document_name"] = name.as_str().into();
            }
            return Ok(part);
        }
        // It takes bare base64 there.
        (Vendor::Perplexity, MediaSource::Inline(url) | MediaSource::Url(url)) => {
            if media.name.is_some() {
                loss.dropped(block.at.to_string(), "files have no names here");
            }
            return Ok(json!({"type": "file_url", "file_url": {"url": url}}));
        }
        (vendor, MediaSource::Url(_)) if vendor.is_openai() => {
            return Err("files go by id or by their bytes here, not by address");
        }
        // A text is read by any model; as a file by few.
        (_, MediaSource::Inline(data)) if mime.is_some_and(|mime| mime == "text/plain") && media.name.is_none() => {
            if let Some(text) = STANDARD
                .decode(data)
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok())
            {
                loss.approximated(block.at.to_string(), "documents of plain text are said as text here");
                return Ok(json!({"type": "text", "text": text}));
            }
        }
        _ => {}
    }
    let mut file = Map::new();
    match &media.name {
        Some(name) => {
            file.insert("filename".into(), name.as_str().into());
        }
        None if matches!(media.source, MediaSource::Inline(_)) => {
            loss.synthesized(block.at.to_string(), "a file must have a name");
            let ending = mime.and_then(|mime| mime.split('/').nth(1)).unwrap_or("pdf");
            file.insert("filename".into(), format!("document.{ending}").into());
        }
        None => {}
    }
    file.insert("file_data".into(), address(media, "application/pdf").into());
    Ok(json!({"type": "file", "file": file}))
}
