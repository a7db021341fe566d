//! What callers send: bodies and queries, checked, with the field at fault named.

use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use utoipa::IntoParams;

use super::refusal::Refusal;
use crate::config::Secret;

/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// A JSON body. `T` refuses unknown fields.
pub(super) struct Given<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Given<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body = object(request, state).await?;
        let mut json = serde_json::Deserializer::from_slice(&body);
        let given = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            let inner = error.into_inner();
            match inner.classify() {
                serde_json::error::Category::Data => Refusal::invalid_body(
                    if path == "." { named_field(&inner) } else { path }.as_str(),
                    inner.to_string(),
                ),
                _ => Refusal::unreadable(format!("the body is not JSON: {inner}")),
            }
        })?;
        json.end()
            .map_err(|error| Refusal::unreadable(format!("the body is not one JSON value: {error}")))?;
        Ok(Given(given))
    }
}

/// A JSON body with a secret in it: as [`Given`], but what is wrong is told without a word of what was sent. The names of `T`'s
/// fields are the only text of the body that is ever said back.
pub(super) struct Confided<T>(pub(super) T);

/// A body with a secret in it.
pub(super) trait Confidence: DeserializeOwned {
    /// Its fields.
    const FIELDS: &'static [&'static str];
}

impl<T: Confidence, S: Send + Sync> FromRequest<S> for Confided<T> {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        let body = object(request, state).await?;
        let mut json = serde_json::Deserializer::from_slice(&body);
        let told = |error: &serde_json::Error, path: &str| {
            let named = named_field(error);
            let first = path.split(['.', '[']).next().unwrap_or_default();
            let field = T::FIELDS.iter().find(|field| **field == first || **field == named);
            match error.classify() {
                serde_json::error::Category::Data => Refusal::invalid_body(
                    field.unwrap_or(&""),
                    format!(
                        "a field is missing, unknown, given twice or of the wrong kind; the fields are {}",
                        T::FIELDS.join(", ")
                    ),
                ),
                _ => Refusal::unreadable("the body is not one JSON value"),
            }
        };
        let given = serde_path_to_error::deserialize(&mut json).map_err(|error| {
            let path = error.path().to_string();
            told(&error.into_inner(), &path)
        })?;
        json.end().map_err(|error| told(&error, ""))?;
        Ok(Confided(given))
    }
}

/// A secret within a body: wiped when dropped, and written into no answer.
#[derive(Clone, Debug)]
pub(super) struct SecretText(pub(super) Secret);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| SecretText(Secret::new(text)))
    }
}

/// The name in "missing field `name`" and "duplicate field `name`", which have no path of their own.
fn named_field(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let name = text
        .strip_prefix("missing field `")
        .or_else(|| text.strip_prefix("duplicate field `"))
        .and_then(|rest| rest.split_once('`'));
    name.map_or(String::new(), |(name, _)| name.to_owned())
}

/// Makes types be read from objects only: what serde derives for a struct takes a list of its fields' values as well. They are
/// derived with `#[serde(remote = "Self")]`.
macro_rules! only_objects {
    ($($kind:ty),*) => {$(
        impl<'de> serde::Deserialize<'de> for $kind {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Object;
                impl<'de> serde::de::Visitor<'de> for Object {
                    type Value = $kind;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("an object")
                    }

                    fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                        <$kind>::deserialize(serde::de::value::MapAccessDeserializer::new(map))
                    }
                }
                from.deserialize_map(Object)
            }
        }

        impl serde::Serialize for $kind {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                <$kind>::serialize(self, to)
            }
        }
    )*};
}
pub(super) use only_objects;

/// No body at all. One that is there is refused unless it is JSON, then ignored if empty.
pub(super) struct Nothing;

impl<S: Send + Sync> FromRequest<S> for Nothing {
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        if request.body().is_end_stream() {
            return Ok(Nothing);
        }
        let json = says_json(request.headers());
        let body = read(request, state).await?;
        match body.trim_ascii() {
            b"" => Ok(Nothing),
            _ if !json => Err(Refusal::not_json()),
            b"{}" => Ok(Nothing),
            _ => Err(Refusal::invalid_body("", "this call takes no body, or an empty object")),
        }
    }
}

/// The bytes of a JSON body that is no list: serde would take one for the fields of a struct, in their order.
async fn object<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    if !says_json(request.headers()) {
        return Err(Refusal::not_json());
    }
    let body = read(request, state).await?;
    match body.trim_ascii_start().starts_with(b"[") {
        true => Err(Refusal::invalid_body("", "the body is an object, not a list")),
        false => Ok(body),
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_WAIT, Bytes::from_request(request, state)).await {
        Err(_) => Err(Refusal::body_late()),
        Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => Err(Refusal::too_large()),
        Ok(Err(_)) => Err(Refusal::unreadable("the body broke off")),
        Ok(Ok(body)) => Ok(body),
    }
}

/// `application/json`, with parameters or without.
fn says_json(headers: &HeaderMap) -> bool {
    let said = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    said.split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A query in two parts. The documented names are the known ones: any other is refused, and so is a name given twice.
pub(super) struct Asked<A, B>(pub(super) A, pub(super) B);

/// The part of a query which has no fields.
#[derive(serde::Deserialize)]
pub(super) struct NoMore {}

impl IntoParams for NoMore {
    fn into_params(
        _: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
    ) -> Vec<utoipa::openapi::path::Parameter> {
        Vec::new()
    }
}

impl<A, B, S> FromRequestParts<S> for Asked<A, B>
where
    A: DeserializeOwned + IntoParams,
    B: DeserializeOwned + IntoParams,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Refusal> {
        let known: Vec<String> = [A::into_params(|| None), B::into_params(|| None)]
            .into_iter()
            .flatten()
            .map(|param| param.name)
            .collect();
        let mut seen: Vec<String> = Vec::new();
        for (name, _) in url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            // A name of the caller's is said back only as far as a real one could be long.
            let told = crate::observe::redact::printable(&name, 40);
            if !known.iter().any(|known| *known == *name) {
                return Err(Refusal::invalid_query(
                    &told,
                    format!("unknown field `{told}`{}", suggestion(&told, &known)),
                ));
            }
            if seen.iter().any(|seen| *seen == *name) {
                return Err(Refusal::invalid_query(&told, format!("`{told}` is given twice")));
            }
            seen.push(name.into_owned());
        }
        let unreadable = |_| Refusal::invalid_query("", "the query can't be read");
        let Query(a) = Query::try_from_uri(&parts.uri).map_err(unreadable)?;
        let Query(b) = Query::try_from_uri(&parts.uri).map_err(unreadable)?;
        Ok(Asked(a, b))
    }
}

fn suggestion(name: &str, known: &[String]) -> String {
    let near = known
        .iter()
        .max_by(|a, b| strsim::jaro(name, a).total_cmp(&strsim::jaro(name, b)));
    match near {
        Some(near) if strsim::jaro(name, near) > 0.7 => format!(": did you mean `{near}`?"),
        _ if known.is_empty() => ": this call has none".to_owned(),
        _ => format!(": known are {}", known.join(", ")),
    }
}
