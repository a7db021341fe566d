//! Anthropic's error body: `{"type":"error","error":{"type","message"},"request_id"}`.

use serde_json::{Value, json};

use crate::ir::{ApiError, ErrorKind};

/// The type that goes with a kind (Anthropic's error reference). `not_supported` is what its gateway protocol calls
/// what a gateway does not offer; there is no field for codes, so that ours are found in the message.
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::MethodNotAllowed => "invalid_request_error",
        ErrorKind::Authentication => "authentication_error",
        ErrorKind::Permission => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::RequestTooLarge => "request_too_large",
        ErrorKind::RateLimit | ErrorKind::InsufficientQuota => "rate_limit_error",
        ErrorKind::Api | ErrorKind::UpstreamCredentialsExhausted => "api_error",
        ErrorKind::Overloaded => "overloaded_error",
        ErrorKind::Timeout => "timeout_error",
        ErrorKind::NotSupported => "not_supported",
    }
}

pub(super) fn body(error: &ApiError, request_id: &str) -> Value {
    json!({
        "type": "error",
        "error": {"type": word(error.kind), "message": error.message},
        "request_id": request_id,
    })
}
