//! Data URLs (RFC 2397), in which this dialect writes media that stand in the request or answer itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;

use crate::ir::MediaSource;

/// The type and the base64 data of a data URL; `None` if it is none, or not base64.
pub(super) fn split(url: &str) -> Option<(&str, &str)> {
    let (head, data) = after_scheme(url)?.split_once(',')?;
    let parameters = head.strip_suffix(";base64")?;
    Some((parameters.split(';').next().unwrap_or(""), data))
}

fn after_scheme(url: &str) -> Option<&str> {
    let scheme = url.get(..5)?;
    scheme.eq_ignore_ascii_case("data:").then(|| &url[5..])
}

/// Where media are, from an address which may be a data URL; and their type, where it is told.
pub(super) fn source(url: String) -> (MediaSource, Option<String>) {
    if let Some((mime, data)) = split(&url) {
        return (inline(data), (!mime.is_empty()).then(|| mime.to_owned()));
    }
    match after_scheme(&url).and_then(|rest| rest.split_once(',')) {
        // Not base64: percent-encoded.
        Some((head, data)) => {
            let bytes: Vec<u8> = percent_decode_str(data).collect();
            let mime = head.split(';').next().filter(|mime| !mime.is_empty());
            (MediaSource::Inline(STANDARD.encode(bytes)), mime.map(str::to_owned))
        }
        None => (MediaSource::Url(url), None),
    }
}

/// Base64 without white space.
pub(super) fn inline(data: &str) -> MediaSource {
    MediaSource::Inline(data.split_ascii_whitespace().collect())
}

/// A data URL.
pub(super) fn write(mime: &str, data: &str) -> String {
    format!("data:{mime};base64,{data}")
}
