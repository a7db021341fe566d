//! Media, written as parts of a message or of a tool's result.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::dialects::EncodeError;
use crate::ir::{LossReport, Media, MediaKind, MediaSource};

/// A picture or a file. The API takes no other media from a user (`InputContent`).
pub(super) fn part(media: &Media, at: &str, own: bool, loss: &mut LossReport) -> Result<Value, EncodeError> {
    let error = |why| EncodeError {
        path: at.to_owned(),
        why,
    };
    match media.kind {
        MediaKind::Audio => return Err(error("the Responses API takes no sound")),
        MediaKind::Video => return Err(error("the Responses API takes no films")),
        MediaKind::Image | MediaKind::Document => {}
    }
    let image = media.kind == MediaKind::Image;
    let mut part = json!({"type": if image { "input_image" } else { "input_file" }});
    let (data, url) = if image {
        ("image_url", "image_url")
    } else {
        ("file_data", "file_url")
    };
    match &media.source {
        MediaSource::Inline(base64) => {
            part[data] = match &media.mime {
                None if !image => base64.as_str().into(),
                mime => {
                    let mime = mime.as_deref().unwrap_or("image/png");
                    format!("data:{mime};base64,{base64}").into()
                }
            };
            if !image && !own && media.name.is_none() {
                // The file's type is read off its name.
                let mime = media.mime.as_deref().unwrap_or("application/pdf");
                part["filename"] = format!("file.{}", extension(mime)).into();
                loss.synthesized(format!("{at}.filename"), "a file must have a name there");
            }
        }
        MediaSource::Text(text) => {
            // OpenAI's guide on file inputs: text files are taken as PDFs are.
            let base64 = STANDARD.encode(text);
            part[data] = format!("data:text/plain;base64,{base64}").into();
            if media.name.is_none() {
                part["filename"] = "file.txt".into();
                loss.synthesized(format!("{at}.filename"), "a file must have a name there");
            }
        }
        MediaSource::Url(address) => part[url] = address.as_str().into(),
        MediaSource::File(id) => {
            if !own {
                loss.approximated(at.to_owned(), "ids of files are bound to their provider");
            }
            part["file_id"] = id.as_str().into();
        }
    }
    match &media.name {
        Some(name) if !image => part["filename"] = name.as_str().into(),
        Some(_) => loss.dropped(at.to_owned(), "a picture has no name there"),
        None => {}
    }
    if let Some(detail) = &media.detail {
        part["detail"] = detail.as_str().into();
    }
    Ok(part)
}

/// What names of files of that type end with.
fn extension(mime: &str) -> &str {
    match mime.rsplit('/').next().unwrap_or("") {
        "plain" => "txt",
        "markdown" => "md",
        "" => "bin",
        subtype => subtype,
    }
}
