//! Reading errors, whoever wrote them: the words of all wires in one table, since providers mix them freely.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::error_words::{self as words_of, Said};
use super::loose::{List, Num, Obj, Str, Word};
use crate::ir::{ApiError, ErrorKind, Resets};

/// Longest message taken from a provider's error, in bytes.
const MAX_MESSAGE: usize = 2048;

/// Longest code and field name taken from it, in bytes: they go into logs and the ledger.
const MAX_WORD: usize = 128;

/// What a word in `type`, `code`, `status` or `reason` says.
fn kind_of(word: &str) -> Option<ErrorKind> {
    Some(match word {
        "invalid_request_error"
        | "invalid_request"
        | "bad_request_error"
        | "invalid_prompt"
        | "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION"
        | "OUT_OF_RANGE"
        | "context_length_exceeded"
        | "string_above_max_length" => ErrorKind::InvalidRequest,
        "authentication_error"
        | "invalid_api_key"
        | "invalid_authentication_error"
        | "UNAUTHENTICATED"
        | "API_KEY_INVALID" => ErrorKind::Authentication,
        "permission_error" | "permission_denied" | "PERMISSION_DENIED" => ErrorKind::Permission,
        "not_found_error" | "model_not_found" | "NOT_FOUND" => ErrorKind::NotFound,
        "request_too_large" => ErrorKind::RequestTooLarge,
        "rate_limit_error"
        | "rate_limit_exceeded"
        | "rate_limit_reached_error"
        | "RESOURCE_EXHAUSTED"
        | "RATE_LIMIT_EXCEEDED"
        | "requests"
        | "tokens"
        | "too_many_requests" => ErrorKind::RateLimit,
        "insufficient_quota"
        | "billing_error"
        | "billing_hard_limit_reached"
        | "billing_not_active"
        | "insufficient_balance"
        | "exceeded_current_quota_error" => ErrorKind::InsufficientQuota,
        "overloaded_error"
        | "engine_overloaded_error"
        | "server_overloaded"
        | "server_is_overloaded"
        | "slow_down"
        | "overloaded"
        | "UNAVAILABLE" => ErrorKind::Overloaded,
        "timeout_error" | "timeout" | "DEADLINE_EXCEEDED" => ErrorKind::Timeout,
        "not_supported" | "UNIMPLEMENTED" => ErrorKind::NotSupported,
        "api_error"
        | "server_error"
        | "internal_server_error"
        | "internal_error"
        | "INTERNAL"
        | "UNKNOWN"
        | "DATA_LOSS" => ErrorKind::Api,
        _ => return None,
    })
}

/// The object most wires put their error in.
#[derive(Default, Deserialize)]
struct Inner<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Str<'a>,
    #[serde(borrow, default)]
    status: Str<'a>,
    #[serde(default)]
    code: Word,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
    #[serde(borrow, default)]
    msg: Str<'a>,
    #[serde(borrow, default)]
    detail: Option<&'a RawValue>,
    #[serde(borrow, default)]
    param: Str<'a>,
    #[serde(borrow, default)]
    details: List<Detail<'a>>,
    #[serde(borrow, default)]
    metadata: Obj<Metadata<'a>>,
}

/// What OpenRouter tells of the provider behind it.
#[derive(Default, Deserialize)]
struct Metadata<'a> {
    /// Its own words.
    #[serde(borrow, default)]
    raw: Str<'a>,
    #[serde(borrow, default)]
    headers: Obj<Limits<'a>>,
}

#[derive(Default, Deserialize)]
struct Limits<'a> {
    #[serde(borrow, default, rename = "X-RateLimit-Reset")]
    reset: Str<'a>,
}

/// One limit that was hit, of Google's `QuotaFailure`.
#[derive(Default, Deserialize)]
struct Violation<'a> {
    #[serde(borrow, default, rename = "quotaId")]
    quota: Str<'a>,
}

/// One of Google's error details.
#[derive(Default, Deserialize)]
struct Detail<'a> {
    #[serde(borrow, default)]
    reason: Str<'a>,
    #[serde(borrow, default, rename = "retryDelay")]
    retry_delay: Str<'a>,
    #[serde(borrow, default)]
    violations: List<Violation<'a>>,
}

#[derive(Deserialize)]
struct Outer<'a> {
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
    #[serde(default)]
    retry_after: Num,
}

/// Reads an error that came inside an answer with a good status: the value of its `error` field, or the whole object
/// where the error is spread over it.
pub(super) fn inside(json: &str) -> ApiError {
    from_json(None, json).unwrap_or_else(|| ApiError::new(ErrorKind::Api, "the provider reported an error"))
}

/// Reads the body of an answer with a bad status. Total.
pub(super) fn answer(status: u16, body: &[u8]) -> ApiError {
    let text = String::from_utf8_lossy(body);
    let text = text.trim();
    // An error in a stream's clothes: the first frame's data.
    let text = match text.strip_prefix("data:") {
        Some(data) => data.lines().next().unwrap_or("").trim(),
        None => match text.strip_prefix("event:").and_then(|rest| rest.split_once("\ndata:")) {
            Some((_, data)) => data.lines().next().unwrap_or("").trim(),
            None => text,
        },
    };
    from_json(Some(status), text).unwrap_or_else(|| {
        let readable = !text.is_empty() && !text.starts_with(['<', '{', '[']);
        let message = if readable {
            shorten(text)
        } else {
            format!("the provider answered {status} without an error that can be read")
        };
        let mut error = ApiError::new(ErrorKind::from_status(status), message).status(status);
        judge(&mut error, &Inner::default());
        error
    })
}

fn from_json(status: Option<u16>, text: &str) -> Option<ApiError> {
    // Gemini puts the error of a stream in an array.
    if text.starts_with('[') {
        let list: Vec<&RawValue> = serde_json::from_str(text).ok()?;
        let first = list.first()?.get();
        return if first.starts_with('[') {
            None
        } else {
            from_json(status, first)
        };
    }
    if text.starts_with('"') {
        let Str(message) = serde_json::from_str(text).ok()?;
        return Some(build(status, &Inner::default(), message.map(|m| m.into_owned())));
    }
    let Obj(outer) = serde_json::from_str::<Obj<Outer<'_>>>(text).ok()?;
    let outer = outer?;
    let Obj(around) = serde_json::from_str::<Obj<Inner<'_>>>(text).ok()?;
    let around = around.unwrap_or_default();
    let mut message = None;
    let mut error = match outer.error.map(RawValue::get) {
        Some(raw) if raw.starts_with('{') => {
            let Obj(inner) = serde_json::from_str::<Obj<Inner<'_>>>(raw).ok()?;
            let inner = inner.unwrap_or_default();
            message = words(&inner).or_else(|| words(&around));
            build(status, &inner, message)
        }
        Some(raw) => {
            if let Ok(Str(Some(text))) = serde_json::from_str(raw) {
                message = Some(text.into_owned());
            }
            build(status, &around, message.or_else(|| words(&around)))
        }
        None => build(status, &around, words(&around)),
    };
    if error.retry_after_secs.is_none() {
        error.retry_after_secs = outer.retry_after.0.and_then(|s| u32::try_from(s).ok());
    }
    Some(error)
}

/// The message of an error object, under any of its names.
fn words(inner: &Inner<'_>) -> Option<String> {
    for raw in [inner.message, inner.detail].into_iter().flatten() {
        let text = super::json::text_or_raw(raw.get());
        if !text.is_empty() {
            return Some(shorten(&text));
        }
    }
    inner.msg.0.as_deref().map(shorten)
}

fn build(status: Option<u16>, inner: &Inner<'_>, message: Option<String>) -> ApiError {
    let code = inner.code.0.as_deref();
    let numeric: Option<u16> = code.and_then(|c| c.parse().ok()).filter(|n| (400..600).contains(n));
    let word = inner
        .details
        .0
        .iter()
        .map(|d| d.reason.as_str())
        .chain([code.unwrap_or(""), inner.kind.as_str(), inner.status.as_str()])
        .find_map(kind_of);
    let kind = match (status.or(numeric), word) {
        (Some(status), word) => refine(ErrorKind::from_status(status), word),
        (None, Some(word)) => word,
        (None, None) => ErrorKind::Api,
    };
    let message = message.unwrap_or_else(|| match status {
        Some(status) => format!("the provider answered {status} without a message"),
        None => "the provider reported an error without a message".to_owned(),
    });
    let mut error = ApiError::new(kind, message);
    if let Some(status) = status.or(numeric) {
        error.status = status;
    }
    error.code = inner.code.0.clone().or_else(|| {
        let word = [inner.kind.as_str(), inner.status.as_str()]
            .into_iter()
            .find(|w| !w.is_empty());
        word.map(str::to_owned)
    });
    error.param = inner.param.0.as_deref().filter(|p| !p.is_empty()).map(str::to_owned);
    for word in [&mut error.code, &mut error.param].into_iter().flatten() {
        cut(word, MAX_WORD);
    }
    error.retry_after_secs = inner
        .details
        .0
        .iter()
        .find_map(|d| whole_seconds(d.retry_delay.as_str()));
    judge(&mut error, inner);
    error
}

/// What the words of an error say beyond its kind: what of the request was at fault, that the account has run dry, how long to
/// wait.
fn judge(error: &mut ApiError, inner: &Inner<'_>) {
    let metadata = inner.metadata.0.as_ref();
    let said = Said::new(
        [
            inner.code.0.as_deref().unwrap_or(""),
            inner.kind.as_str(),
            inner.status.as_str(),
        ],
        inner.details.0.iter().map(|detail| detail.reason.as_str()),
        [
            error.message.as_str(),
            metadata.map_or("", |metadata| metadata.raw.as_str()),
        ],
    );
    error.cause = words_of::cause(error.kind, &said);
    if error.cause.is_none() && words_of::is_dry(error.kind, &said) {
        error.kind = ErrorKind::InsufficientQuota;
    }
    if !matches!(
        error.kind,
        ErrorKind::RateLimit | ErrorKind::InsufficientQuota | ErrorKind::Overloaded
    ) {
        return;
    }
    error.retry_after_secs = error.retry_after_secs.or_else(|| words_of::wait(&said));
    let mut quotas = inner.details.0.iter().flat_map(|detail| &detail.violations.0);
    error.resets = if quotas.any(|violation| violation.quota.as_str().contains("PerDay")) {
        Some(Resets::Daily)
    } else {
        let headers = metadata.and_then(|metadata| metadata.headers.0.as_ref());
        let at = headers.and_then(|headers| super::reset::epoch(headers.reset.as_str()));
        at.map(|at| Resets::At(at.seconds()))
    };
}

/// A status is surer than a word, but where it says little the word says more.
fn refine(status: ErrorKind, word: Option<ErrorKind>) -> ErrorKind {
    match (status, word) {
        (ErrorKind::InvalidRequest | ErrorKind::Api, Some(word)) => word,
        (ErrorKind::RateLimit, Some(ErrorKind::InsufficientQuota)) => ErrorKind::InsufficientQuota,
        _ => status,
    }
}

/// The seconds of a protobuf duration (`"34.07s"`), rounded up.
fn whole_seconds(duration: &str) -> Option<u32> {
    let seconds: f64 = duration.strip_suffix('s')?.parse().ok()?;
    (0.0..1e9).contains(&seconds).then(|| seconds.ceil() as u32)
}

fn shorten(text: &str) -> String {
    let mut text = text.to_owned();
    cut(&mut text, MAX_MESSAGE);
    text
}

fn cut(text: &mut String, most: usize) {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
#[path = "errors_tests.rs"]
mod tests;
