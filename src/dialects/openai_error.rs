//! OpenAI's error body and what keeps its streams alive, which both of its dialects write: `{"error":{"message","type","param","code"}}`.

use serde_json::{Value, json};

use crate::ir::{ApiError, ErrorKind};
use crate::sse::Framing;

/// A comment: readers of server-sent events pass over it (WHATWG HTML, 9.2.6), and OpenRouter sends such to every client of
/// these dialects.
pub(super) fn ping(framing: Framing) -> Option<&'static str> {
    (framing == Framing::Sse).then_some(": ping\n\n")
}

/// The type and the code that go with a kind (OpenAI's error guide; the last three are ours).
fn words(kind: ErrorKind) -> (&'static str, Option<&'static str>) {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::MethodNotAllowed => ("invalid_request_error", None),
        ErrorKind::RequestTooLarge => ("invalid_request_error", Some("request_too_large")),
        ErrorKind::Authentication => ("authentication_error", Some("invalid_api_key")),
        ErrorKind::Permission => ("permission_error", None),
        ErrorKind::NotFound => ("not_found_error", None),
        ErrorKind::RateLimit => ("rate_limit_error", Some("rate_limit_exceeded")),
        ErrorKind::InsufficientQuota => ("insufficient_quota", Some("insufficient_quota")),
        ErrorKind::Api => ("server_error", None),
        ErrorKind::Overloaded => ("server_error", Some("overloaded")),
        ErrorKind::Timeout => ("server_error", Some("timeout")),
        ErrorKind::NotSupported => ("invalid_request_error", Some("not_supported")),
        ErrorKind::UpstreamCredentialsExhausted => ("server_error", Some("upstream_credentials_exhausted")),
    }
}

pub(super) fn body(error: &ApiError) -> Value {
    let (kind, code) = words(error.kind);
    let code = error.code.as_deref().or(code);
    json!({"error": {"message": error.message, "type": kind, "param": error.param, "code": code}})
}
