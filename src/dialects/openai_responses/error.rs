//! OpenAI's error body, and the error event of a stream of responses.

use serde_json::{Value, json};

use crate::ir::{ApiError, ErrorKind};

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

/// The event `error`. The reference has code, message and param at the top and a sequence number, which the gateway
/// does not know and leaves at 0. OpenAI's SDK for Python raises only if there is an `error` object (`_streaming.py`,
/// which the real service sends too), so that both forms are given.
pub(super) fn event(error: &ApiError) -> Value {
    let mut event = body(error);
    for field in ["code", "message", "param"] {
        event[field] = event["error"][field].clone();
    }
    event["type"] = json!("error");
    event["sequence_number"] = json!(0);
    event
}
