//! Media: where they are, what they are, and their bytes.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

use crate::ir::{MediaKind, MediaSource};

/// Extensions of addresses, and their types.
const EXTENSIONS: [(&str, &str); 18] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
    ("heic", "image/heic"),
    ("heif", "image/heif"),
    ("pdf", "application/pdf"),
    ("txt", "text/plain"),
    ("html", "text/html"),
    ("csv", "text/csv"),
    ("wav", "audio/wav"),
    ("mp3", "audio/mp3"),
    ("ogg", "audio/ogg"),
    ("flac", "audio/flac"),
    ("mp4", "video/mp4"),
    ("webm", "video/webm"),
    ("mov", "video/mov"),
];

/// How base64 of known kinds of file begins, and their types.
const BEGINNINGS: [(&str, &str); 9] = [
    ("iVBORw0KGgo", "image/png"),
    ("/9j/", "image/jpeg"),
    ("R0lGOD", "image/gif"),
    ("UklGR", "image/webp"),
    ("JVBERi0", "application/pdf"),
    ("SUQz", "audio/mp3"),
    ("T2dnUw", "audio/ogg"),
    ("ZkxhQw", "audio/flac"),
    ("GkXfo", "video/webm"),
];

/// Base64 in the standard alphabet, padded, without white space. Protobuf's JSON takes either alphabet, with padding or
/// without. What is no base64 stays as it is.
pub(super) fn standard_base64(data: String) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    if data.len().is_multiple_of(4) && data.bytes().all(plain) {
        return data;
    }
    let bare: String = data.chars().filter(|c| !c.is_ascii_whitespace() && *c != '=').collect();
    let bytes = STANDARD_NO_PAD.decode(&bare).or_else(|_| URL_SAFE_NO_PAD.decode(&bare));
    bytes.map(|bytes| STANDARD.encode(bytes)).unwrap_or(data)
}

/// Appends base64 to base64 of which each piece was padded by itself.
pub(super) fn append_base64(data: &mut String, piece: &str) {
    if !data.ends_with('=') {
        data.push_str(piece);
    } else if let (Ok(mut bytes), Ok(more)) = (STANDARD.decode(data.as_bytes()), STANDARD.decode(piece)) {
        bytes.extend_from_slice(&more);
        *data = STANDARD.encode(bytes);
    }
}

/// Base64 of bytes.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// True if protobuf's JSON takes the text for bytes.
pub(super) fn is_base64(text: &str) -> bool {
    STANDARD.decode(text).is_ok()
        || URL_SAFE.decode(text).is_ok()
        || STANDARD_NO_PAD.decode(text).is_ok()
        || URL_SAFE_NO_PAD.decode(text).is_ok()
}

/// What a `fileUri` is: a file at the provider (Files API, Cloud Storage), or an address in the web.
pub(super) fn uri_source(uri: String, mime: Option<&str>) -> (MediaKind, MediaSource) {
    let kind = match mime.or_else(|| mime_of_url(&uri)) {
        Some(mime) => MediaKind::of_mime(mime),
        None if is_film(&uri) => MediaKind::Video,
        None => MediaKind::Document,
    };
    let source = if is_web(&uri) && !is_own_file(&uri) {
        MediaSource::Url(uri)
    } else {
        MediaSource::File(uri)
    };
    (kind, source)
}

/// True if a file's id is one of this dialect's.
pub(super) fn is_own_file(id: &str) -> bool {
    let files = |rest: &str| rest.split('/').nth(1) == Some("files");
    id.starts_with("gs://")
        || id.starts_with("files/")
        || id
            .strip_prefix("https://generativelanguage.googleapis.com/")
            .is_some_and(files)
}

fn is_web(uri: &str) -> bool {
    uri.starts_with("https://") || uri.starts_with("http://")
}

/// Addresses the API takes as films, without a type.
fn is_film(uri: &str) -> bool {
    ["youtube.com/", "youtu.be/"].iter().any(|host| uri.contains(host))
}

/// The type an address's extension names.
pub(super) fn mime_of_url(url: &str) -> Option<&'static str> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let extension = path.rsplit('/').next()?.rsplit_once('.')?.1.to_ascii_lowercase();
    EXTENSIONS
        .iter()
        .find(|(name, _)| *name == extension)
        .map(|(_, mime)| *mime)
}

/// The type the first bytes tell.
pub(super) fn mime_of_base64(data: &str) -> Option<&'static str> {
    BEGINNINGS
        .iter()
        .find(|(begin, _)| data.starts_with(begin))
        .map(|(_, mime)| *mime)
}
