//! Google's error body: `{"error":{"code","message","status","details"}}` (google.rpc.Status in JSON).

use serde_json::{Value, json};

use crate::ir::{ApiError, ErrorKind};

/// The status word that goes with a kind (google.rpc.Code).
fn word(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidRequest | ErrorKind::MethodNotAllowed | ErrorKind::RequestTooLarge => "INVALID_ARGUMENT",
        ErrorKind::Authentication => "UNAUTHENTICATED",
        ErrorKind::Permission => "PERMISSION_DENIED",
        ErrorKind::NotFound => "NOT_FOUND",
        ErrorKind::RateLimit | ErrorKind::InsufficientQuota => "RESOURCE_EXHAUSTED",
        ErrorKind::NotSupported => "UNIMPLEMENTED",
        ErrorKind::Api => "INTERNAL",
        ErrorKind::Overloaded | ErrorKind::UpstreamCredentialsExhausted => "UNAVAILABLE",
        ErrorKind::Timeout => "DEADLINE_EXCEEDED",
    }
}

pub(super) fn body(error: &ApiError) -> Value {
    let mut details = Vec::new();
    let code = match error.kind {
        ErrorKind::UpstreamCredentialsExhausted => error.code.as_deref().or(Some("upstream_credentials_exhausted")),
        _ => error.code.as_deref(),
    };
    if let Some(code) = code {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": code.to_ascii_uppercase(),
            "domain": "tollgate",
        }));
    }
    if let Some(field) = &error.param {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.BadRequest",
            "fieldViolations": [{"field": field, "description": error.message}],
        }));
    }
    if let Some(seconds) = error.retry_after_secs {
        details.push(json!({
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": format!("{seconds}s"),
        }));
    }
    let mut inner = json!({"code": error.status, "message": error.message, "status": word(error.kind)});
    if !details.is_empty() {
        inner["details"] = Value::from(details);
    }
    // The only key: the SDK for Python looks for `{"error":` at the front of a stream's element.
    json!({ "error": inner })
}
