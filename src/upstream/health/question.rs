//! What a provider is asked to find out whether a credential works, and what its answer proves.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde_json::Value;

use super::Finding;
use super::probe::{Ask, Reply};
use crate::clock::UnixMicros;
use crate::dialects::{self, Dialect, Target, Upstream, reset};
use crate::ir::{Block, ErrorKind, LossReport, Message, Operation, Request, Role, Set};
use crate::rules::{Credential, Provider};
use crate::upstream::{Asked, Endpoint, Failure, authorisation};

/// Names ourselves to providers.
const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

/// Most tokens of the answer where a model is asked. One would do, but some wires refuse fewer ("integer below minimum value.
/// Expected a value >= 16", reported in earendil-works/pi#6265).
const TOKENS: u64 = 16;

/// One way to find out.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Question {
    /// GET without a body, else POST.
    pub(super) path: String,
    pub(super) body: Bytes,
    /// What is asked. The dialect's list of models not every provider has, and some show to anybody.
    pub(super) asked: Asked,
}

/// What to ask at this endpoint; `None`: its dialect can't say it.
pub(super) fn question(provider: &Provider, endpoint: &Endpoint) -> Option<Question> {
    let dialect = dialects::get(endpoint.dialect);
    let health = &provider.health;
    let below = |path: &str| format!("{}{path}", endpoint.prefix);
    if let Some(model) = &health.model {
        let (target, query) = dialect.own_target(Operation::Chat, false)?;
        return Some(Question {
            path: below(&dialect.upstream_path(&target, model, query)),
            body: one_word(dialect, model)?,
            asked: Asked::Model,
        });
    }
    if let Some(path) = &health.path {
        let slash = if path.starts_with('/') { "" } else { "/" };
        return Some(Question {
            path: below(&format!("{slash}{path}")),
            body: Bytes::new(),
            asked: Asked::Path,
        });
    }
    let list = Target {
        dialect,
        operation: Operation::ListModels,
        model: None,
        stream: Some(false),
        framing: Default::default(),
        method: "".into(),
    };
    Some(Question {
        path: below(&dialect.upstream_path(&list, "", "")),
        body: Bytes::new(),
        asked: Asked::List,
    })
}

fn one_word(dialect: &dyn Dialect, model: &str) -> Option<Bytes> {
    let mut message = Message::new(Role::User, "messages[0]");
    message.blocks.push(Block::text("Hi", "messages[0].content"));
    let mut request = Request {
        model: model.to_owned(),
        messages: vec![message],
        ..Request::default()
    };
    request.sampling.max_tokens = Some(Set::new(TOKENS, "max_tokens"));
    let to = Upstream {
        model,
        stream: false,
        ask_usage: false,
    };
    let mut loss = LossReport::default();
    dialect.adapt(&mut request, &to, &mut loss);
    dialect.encode_request(&request, &to, &mut loss).ok().map(Bytes::from)
}

/// The request; without a credential: as anybody might ask.
pub(super) fn ask(question: &Question, provider: &Provider, endpoint: &Endpoint, with: Option<&Credential>) -> Ask {
    let mut headers = plain_headers();
    for (name, value) in dialects::get(endpoint.dialect).own_headers() {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    for (name, value) in &provider.headers {
        headers.insert(name.clone(), value.clone());
    }
    if let Some((name, value)) = with.and_then(|credential| authorisation(provider, endpoint.dialect, credential)) {
        headers.insert(name, value);
    }
    let get = question.body.is_empty();
    if !get {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(question.body.len()));
    }
    Ask {
        method: if get { Method::GET } else { Method::POST },
        path: question.path.clone(),
        headers,
        body: question.body.clone(),
    }
}

/// The headers of any check.
pub(super) fn plain_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(8);
    headers.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    headers
}

/// What an answer proves, what is said about it, and how long the provider asks to wait.
pub(super) fn judge(
    question: &Question,
    endpoint: &Endpoint,
    reply: &Reply,
    now: UnixMicros,
) -> (Finding, String, Option<Duration>) {
    let told = |finding, words: &str| (finding, words.to_owned(), None);
    match reply.status {
        200..=299 => match error_inside(&reply.body) {
            Some(true) => failed(endpoint, reply, question, now),
            Some(false) => told(Finding::Ok, ""),
            // A page for people, say, which answers any path.
            None if !reply.cut => told(Finding::Unproven, "the answer is not JSON"),
            None if matches!(reply.body.trim_ascii_start().first(), Some(b'{' | b'[')) => told(Finding::Ok, ""),
            None => told(Finding::Unproven, "the answer is not JSON"),
        },
        300..=399 => told(Finding::Unproven, "the answer leads elsewhere; checks don't follow"),
        404 | 405 | 410 | 501 if question.body.is_empty() => {
            told(Finding::Unproven, "there is nothing to ask at this path")
        }
        _ => failed(endpoint, reply, question, now),
    }
}

/// Whether a good status holds an error; `None`: it is not JSON.
fn error_inside(body: &[u8]) -> Option<bool> {
    let value: Value = serde_json::from_slice(body).ok()?;
    Some(value.get("error").is_some_and(|error| !error.is_null()))
}

fn failed(
    endpoint: &Endpoint,
    reply: &Reply,
    question: &Question,
    now: UnixMicros,
) -> (Finding, String, Option<Duration>) {
    let error = dialects::get(endpoint.dialect).decode_error(reply.status, &reply.body);
    let failure = match error.kind {
        // Whatever the status: an invalid key is 400 to some.
        ErrorKind::Authentication => Failure::Unauthorised,
        ErrorKind::Permission => Failure::Forbidden,
        _ => Failure::of(reply.status, &error),
    };
    let wait = reset::wait(&reply.headers, reply.status, Some(&error), now);
    // A key that may not read lists may still do all that is asked of it ("Missing scopes: ...", 401 and 403 alike).
    if question.asked == Asked::List && failure.is_ours() && error.message.contains("scope") {
        return (Finding::Unproven, error.message, wait);
    }
    (Finding::Failed(failure), error.message, wait)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::egress::Ways;
    use crate::ir::DialectId;
    use crate::rules::Base;

    /// 2025-08-08T15:00:00Z.
    const NOW: UnixMicros = UnixMicros(1_754_665_200_000_000);

    #[test]
    fn waits_are_read_as_those_of_calls_are() {
        let base = Base {
            dialect: DialectId::new("openai_chat"),
            url: "http://127.0.0.1:1/v1".parse().ok(),
        };
        let endpoint = Endpoint::new(&base, &[], Arc::new(Ways::default()), None).expect("a whole URL");
        let question = Question {
            path: "/v1/models".to_owned(),
            body: Bytes::new(),
            asked: Asked::List,
        };
        for (name, value, body, seconds) in [
            ("retry-after", "7", "{}", Some(7.0)),
            ("retry-after-ms", "1500", "{}", Some(1.5)),
            ("retry-after", "Fri, 08 Aug 2025 15:01:00 GMT", "{}", Some(60.0)),
            ("x-ratelimit-reset-requests", "2m", "{}", Some(120.0)),
            ("retry-after", "99999999", "{}", Some(86_400.0)),
            (
                "retry-after",
                "20",
                r#"{"error":{"message":"Please try again in 9s"}}"#,
                Some(20.0),
            ),
            ("x-other", "7", "{}", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            let reply = Reply {
                status: 429,
                headers,
                body: body.into(),
                cut: false,
                connected: Duration::ZERO,
            };
            let (finding, _, wait) = judge(&question, &endpoint, &reply, NOW);
            assert_eq!(finding, Finding::Failed(Failure::RateLimited), "{name}: {value}");
            assert_eq!(wait.map(|wait| wait.as_secs_f64()), seconds, "{name}: {value}");
        }
    }
}
