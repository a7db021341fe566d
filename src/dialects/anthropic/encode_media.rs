//! Requests, written: images and documents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::dialects::codec::EncodeError;
use crate::ir::{LossReport, Media, MediaKind, MediaSource};

/// Types of images the API takes (Anthropic's page on vision).
const IMAGES: [&str; 4] = ["image/jpeg", "image/png", "image/gif", "image/webp"];

/// The beginnings of files, in base64, and what they are.
const SIGNATURES: [(&str, &str); 5] = [
    ("/9j/", "image/jpeg"),
    ("iVBOR", "image/png"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi", "application/pdf"),
];

/// The block, without its cache hint and natives.
pub(super) fn block(media: &Media, at: &str, loss: &mut LossReport) -> Result<Map<String, Value>, EncodeError> {
    let refuse = |why| {
        Err(EncodeError {
            path: at.to_owned(),
            why,
        })
    };
    let kind = match media.kind {
        MediaKind::Audio => return refuse("it takes no audio"),
        MediaKind::Video => return refuse("it takes no video"),
        kind => kind,
    };
    if media.detail.as_deref().is_some_and(|detail| detail != "auto") {
        loss.approximated(at.to_owned(), "how closely to look can't be said there");
    }
    let (kind, source) = match &media.source {
        MediaSource::Inline(data) => inline(media, data, at, loss)?,
        MediaSource::Text(text) => (MediaKind::Document, plain(text)),
        MediaSource::Url(url) => {
            if !url.starts_with("https://") && !url.starts_with("http://") {
                return refuse("it fetches only web addresses");
            }
            (kind, json!({"type": "url", "url": url}))
        }
        MediaSource::File(id) => {
            // Anthropic's ids begin so; OpenAI's with `file-`.
            if !id.starts_with("file_") {
                loss.approximated(at.to_owned(), "file ids are bound to their provider");
            }
            (kind, json!({"type": "file", "file_id": id}))
        }
    };
    let mut block = Map::new();
    let word = if kind == MediaKind::Image { "image" } else { "document" };
    block.insert("type".into(), word.into());
    block.insert("source".into(), source);
    if let Some(name) = media.name.as_deref().filter(|name| !name.is_empty()) {
        if kind == MediaKind::Image {
            loss.dropped(at.to_owned(), "images have no names there");
        } else {
            block.insert("title".into(), name.into());
        }
    }
    Ok(block)
}

fn plain(text: &str) -> Value {
    json!({"type": "text", "media_type": "text/plain", "data": text})
}

/// Bytes in the request: an image or a PDF as they are, any other document as its text.
fn inline(media: &Media, data: &str, at: &str, loss: &mut LossReport) -> Result<(MediaKind, Value), EncodeError> {
    let said = media.mime.as_deref().map(|mime| {
        let mime = mime.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
        if mime == "image/jpg" {
            "image/jpeg".to_owned()
        } else {
            mime
        }
    });
    let said = said.filter(|mime| !matches!(mime.as_str(), "" | "application/octet-stream" | "image/*"));
    let mime = said.unwrap_or_else(|| {
        let found = SIGNATURES.iter().find(|(begin, _)| data.starts_with(begin));
        let guess = if media.kind == MediaKind::Image {
            "image/png"
        } else {
            "text/plain"
        };
        found.map_or(guess, |(_, mime)| mime).to_owned()
    });
    let base64 = || json!({"type": "base64", "media_type": mime, "data": data});
    if IMAGES.contains(&mime.as_str()) {
        return Ok((MediaKind::Image, base64()));
    }
    if mime == "application/pdf" {
        return Ok((MediaKind::Document, base64()));
    }
    let refuse = |why| EncodeError {
        path: at.to_owned(),
        why,
    };
    if mime.starts_with("image/") {
        return Err(refuse("it takes images as JPEG, PNG, GIF or WebP"));
    }
    let bytes = STANDARD.decode(data).map_err(|_| refuse("its data is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| refuse("it takes documents as PDF or text"))?;
    if mime != "text/plain" {
        loss.approximated(at.to_owned(), "documents are PDF or plain text there");
    }
    Ok((MediaKind::Document, plain(&text)))
}
