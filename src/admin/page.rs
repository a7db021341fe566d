//! Pages of long lists, versions of things that may be changed by two people at once, and moments in bodies.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

use super::audit::Change;
use super::refusal::Refusal;
use crate::clock::UnixMicros;

/// Things on a page unless asked otherwise.
const DEFAULT_LIMIT: usize = 100;
/// Most things on a page.
const MAX_LIMIT: usize = 1000;

/// Longest cursor, in bytes.
const CURSOR_MAX: usize = 200;

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PageOf {
    /// Most entries of the page: 1 to 1000, 100 unless given.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 1000)]
    limit: Option<String>,
    /// `next` of the page before.
    #[param(min_length = 1, max_length = 200)]
    cursor: Option<String>,
}

impl PageOf {
    /// How many.
    pub(super) fn limit(&self) -> Result<usize, Refusal> {
        Ok(limit_of(self.limit.as_deref(), MAX_LIMIT)?.unwrap_or(DEFAULT_LIMIT))
    }

    /// Behind what.
    pub(super) fn after<T>(&self, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, Refusal> {
        let read = |text: &str| (1..=CURSOR_MAX).contains(&text.len()).then(|| read(text))?;
        match self.cursor.as_deref().map(read) {
            None => Ok(None),
            Some(Some(after)) => Ok(Some(after)),
            Some(None) => Err(Refusal::invalid_query(
                "cursor",
                "`cursor` is `next` of the page before, as it was given",
            )),
        }
    }
}

/// Reads `limit`, which is `most` at most.
pub(super) fn limit_of(text: Option<&str>, most: usize) -> Result<Option<usize>, Refusal> {
    match text.map(str::parse::<usize>) {
        None => Ok(None),
        Some(Ok(limit)) if (1..=most).contains(&limit) => Ok(Some(limit)),
        Some(_) => {
            let told = format!("`limit` is a number from 1 to {most}");
            Err(Refusal::invalid_query("limit", told))
        }
    }
}

/// The version a change is meant for: `If-Match: "3"`. `None`: any.
pub(super) struct IfMatch(pub(super) Option<u64>);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let mut sent = parts.headers.get_all(header::IF_MATCH).iter();
        let version = match (sent.next(), sent.next()) {
            (None, _) => return Ok(IfMatch(None)),
            (Some(value), None) => value.to_str().ok().and_then(|text| {
                let text = text.trim();
                // Without quotes too: people forget them.
                let digits = text
                    .strip_prefix('"')
                    .and_then(|text| text.strip_suffix('"'))
                    .unwrap_or(text);
                digits
                    .bytes()
                    .all(|byte| byte.is_ascii_digit())
                    .then(|| digits.parse().ok())?
            }),
            (Some(_), Some(_)) => None,
        };
        let told = "the header If-Match holds one version in quotes, as the header ETag gave it: \"3\"";
        version
            .map(|version| IfMatch(Some(version)))
            .ok_or_else(|| Refusal::invalid_header("if-match", told))
    }
}

/// The header, for the document.
pub(super) fn if_match_parameter() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^(\"[0-9]{1,18}\"|[0-9]{1,18})$"))
        .build();
    ParameterBuilder::new()
        .name("If-Match")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The version the change is meant for, in quotes, as `etag` gave it. Absent: whatever it is.",
        ))
        .schema(Some(schema))
        .build()
}

/// Puts the version and what was changed on an answer.
pub(super) fn marked(mut response: Response, version: Option<u64>, change: Option<Change>) -> Response {
    if let Some(version) = version
        && let Ok(value) = HeaderValue::from_str(&format!("\"{version}\""))
    {
        response.headers_mut().insert(header::ETAG, value);
    }
    if let Some(change) = change {
        response.extensions_mut().insert(change);
    }
    response
}

/// The answer to a change of one thing: `target`, now at this version.
pub(super) fn changed(status: StatusCode, body: impl Serialize, target: &str, version: u64, values: Value) -> Response {
    let change = Change {
        target: target.to_owned(),
        values,
    };
    marked((status, Json(body)).into_response(), Some(version), Some(change))
}

/// A moment in a body, RFC 3339.
pub(super) fn moment(field: &str, text: &str) -> Result<UnixMicros, Refusal> {
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => Ok(UnixMicros(time.as_microsecond())),
        Err(_) => Err(Refusal::invalid_body(
            field,
            "write a time as 2026-01-31T12:00:00Z, or with an offset",
        )),
    }
}
