//! `Idempotency-Key`: a call that makes something is carried out once, however often it is sent.
//!
//! The same key with the same call within [`KEPT`] gets the same answer again, marked `idempotent-replayed: true`; with another
//! call it is refused (422), and while the first is under way too (409). Only what was done is remembered: a refused call may be
//! corrected and sent again. All of it is in memory, wiped when it is thrown away, since an answer may hold a new key's text:
//! after a restart the same Idempotency-Key makes a second thing. The newest [`MOST`] answers of at most [`MOST_BYTES`] together
//! are kept.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use zeroize::Zeroizing;

use super::refusal::{QUESTIONS, Refusal};
use super::roles::Caller;
use super::{Api, MAX_BODY};

/// The header.
const NAME: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, in bytes.
const KEY_MAX: usize = 255;
/// How long an answer is kept.
pub(super) const KEPT: Duration = Duration::from_secs(24 * 3600);
/// Most answers that are kept; the oldest go first.
const MOST: usize = 10_000;
/// Most bytes of answers that are kept; the oldest go first.
const MOST_BYTES: usize = 64 << 20;
/// Longest answer that is kept, in bytes.
const ANSWER_MAX: usize = 4 << 20;
/// How long a body may take to arrive.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// The calls which make something.
const CALLS: &[&str] = &[
    "/api/v1/keys",
    "/api/v1/keys/import",
    "/api/v1/keys/{id}/rotate",
    "/api/v1/groups",
    "/api/v1/tokens",
    "/api/v1/credentials",
    "/api/v1/secrets",
];

/// Whether a call takes the header.
pub(super) fn takes(method: &Method, path: &str) -> bool {
    *method == Method::POST && CALLS.contains(&path)
}

/// The header, for the document.
pub(super) fn parameter() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("^[!-~]{1,255}$"))
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "A word of the caller's, new for each thing that is to be made: 1 to 255 visible ASCII characters. The same call \
             with the same word gets the same answer again within 24 hours (header `idempotent-replayed: true`) and makes \
             nothing; another call with it is refused with 422. Kept in memory: not over restarts.",
        ))
        .schema(Some(schema))
        .build()
}

/// What is remembered.
#[derive(Default)]
pub(super) struct Answers(Mutex<Book>);

#[derive(Default)]
struct Book {
    entries: HashMap<Name, Entry>,
    /// Those that are done, oldest first.
    order: VecDeque<(Instant, Name)>,
    bytes: usize,
}

/// Whose word: tokens don't share theirs. SHA-256 of both.
type Name = [u8; 32];

struct Entry {
    /// SHA-256 of method, path and body.
    call: [u8; 32],
    /// `None`: under way.
    answer: Option<Arc<Kept>>,
}

struct Kept {
    status: StatusCode,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
}

/// What is to be done with a call.
enum Turn {
    /// It is new: carry it out.
    First,
    Again(Arc<Kept>),
    Refused(Refusal),
}

impl Answers {
    fn turn(&self, name: Name, call: [u8; 32], now: Instant) -> Turn {
        let mut book = self.0.lock();
        book.forget_old(now);
        match book.entries.get(&name) {
            Some(entry) if entry.call != call => return Turn::Refused(Refusal::idempotency_mismatch()),
            Some(Entry { answer: None, .. }) => return Turn::Refused(Refusal::idempotency_running()),
            Some(Entry { answer: Some(kept), .. }) => return Turn::Again(kept.clone()),
            None => {}
        }
        // Only calls under way could fill it beyond the kept ones; there are never that many.
        if book.entries.len() >= 2 * MOST {
            return Turn::Refused(Refusal::busy(QUESTIONS));
        }
        book.entries.insert(name, Entry { call, answer: None });
        Turn::First
    }

    fn keep(&self, name: Name, kept: Kept, now: Instant) {
        let mut book = self.0.lock();
        let bytes = kept.body.len();
        let Some(entry) = book.entries.get_mut(&name) else {
            return;
        };
        entry.answer = Some(Arc::new(kept));
        book.bytes += bytes;
        book.order.push_back((now, name));
        book.forget_old(now);
    }

    fn forget(&self, name: &Name) {
        let mut book = self.0.lock();
        if book.entries.get(name).is_some_and(|entry| entry.answer.is_none()) {
            book.entries.remove(name);
        }
    }
}

impl Book {
    fn forget_old(&mut self, now: Instant) {
        while let Some((at, name)) = self.order.front() {
            let old = now.saturating_duration_since(*at) >= KEPT;
            if !old && self.order.len() <= MOST && self.bytes <= MOST_BYTES {
                return;
            }
            if let Some(Entry { answer: Some(kept), .. }) = self.entries.remove(name) {
                self.bytes = self.bytes.saturating_sub(kept.body.len());
            }
            self.order.pop_front();
        }
    }
}

/// A call under way: forgotten unless its answer is kept, also when it panics.
struct Running<'a> {
    answers: &'a Answers,
    name: Name,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.answers.forget(&self.name);
    }
}

/// Marks the answer which was given before, for the audit log.
#[derive(Clone, Copy)]
pub(super) struct Replayed;

/// Carries a call out once.
pub(super) async fn once(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let path = request.extensions().get::<MatchedPath>();
    if !path.is_some_and(|path| takes(request.method(), path.as_str())) {
        return next.run(request).await;
    }
    let word = match word(request.headers()) {
        Ok(Some(word)) => word,
        Ok(None) => return next.run(request).await,
        Err(refusal) => return refusal.into_response(),
    };
    let Some(caller) = request.extensions().get::<Caller>().cloned() else {
        return Refusal::unauthorized().into_response();
    };
    match carry_out(&api.answers, &caller, &word, request, next).await {
        Ok(response) => response,
        Err(refusal) => refusal.into_response(),
    }
}

fn word(headers: &HeaderMap) -> Result<Option<Vec<u8>>, Refusal> {
    let mut sent = headers.get_all(NAME).iter();
    match (sent.next(), sent.next()) {
        (None, _) => Ok(None),
        (Some(value), None)
            if (1..=KEY_MAX).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic) =>
        {
            Ok(Some(value.as_bytes().to_vec()))
        }
        _ => Err(Refusal::invalid_header(
            "idempotency-key",
            "the header Idempotency-Key has 1 to 255 visible ASCII characters, and is given once",
        )),
    }
}

async fn carry_out(
    answers: &Answers,
    caller: &Caller,
    word: &[u8],
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let body = read(body).await?;
    let name = digest(&[caller.who.as_bytes(), word]);
    // What the body is said to be is part of the call: the same bytes may be refused as another kind.
    let kind = parts
        .headers
        .get(header::CONTENT_TYPE)
        .map_or(&[][..], HeaderValue::as_bytes);
    let call = digest(&[
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        parts.uri.query().unwrap_or_default().as_bytes(),
        kind,
        &body,
    ]);
    match answers.turn(name, call, Instant::now()) {
        Turn::Refused(refusal) => return Err(refusal),
        Turn::Again(kept) => return Ok(again(&kept)),
        Turn::First => {}
    }
    let running = Running { answers, name };
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    if !response.status().is_success() {
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, ANSWER_MAX).await.map_err(|_| Refusal::internal())?;
    let kept = Kept {
        status: parts.status,
        headers: parts.headers.clone(),
        body: Zeroizing::new(body.to_vec()),
    };
    answers.keep(name, kept, Instant::now());
    drop(running);
    Ok(Response::from_parts(parts, Body::from(body)))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(BODY_WAIT, to_bytes(body, MAX_BODY)).await {
        Err(_) => Err(Refusal::body_late()),
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => {
            let too_long =
                std::error::Error::source(&error).is_some_and(|source| source.is::<http_body_util::LengthLimitError>());
            Err(match too_long {
                true => Refusal::too_large(),
                false => Refusal::unreadable("the body broke off"),
            })
        }
    }
}

fn again(kept: &Kept) -> Response {
    let mut response = (kept.status, Body::from(kept.body.to_vec())).into_response();
    *response.headers_mut() = kept.headers.clone();
    response
        .headers_mut()
        .insert(REPLAYED, HeaderValue::from_static("true"));
    response.extensions_mut().insert(Replayed);
    response
}

/// SHA-256 of the parts, each with its length, so that none can be taken for a piece of another.
fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: usize) -> Kept {
        Kept {
            status: StatusCode::CREATED,
            headers: HeaderMap::new(),
            body: Zeroizing::new(vec![0; bytes]),
        }
    }

    fn name(number: usize) -> Name {
        digest(&[&number.to_le_bytes()])
    }

    #[test]
    fn a_word_stands_for_one_call_for_a_day() {
        let answers = Answers::default();
        let now = Instant::now();
        assert!(matches!(answers.turn(name(1), [1; 32], now), Turn::First));
        assert!(
            matches!(answers.turn(name(1), [1; 32], now), Turn::Refused(_)),
            "it is under way"
        );
        answers.keep(name(1), kept(1), now);
        let soon = now + KEPT - Duration::from_secs(1);
        assert!(matches!(answers.turn(name(1), [1; 32], soon), Turn::Again(_)));
        assert!(
            matches!(answers.turn(name(1), [2; 32], soon), Turn::Refused(_)),
            "another call"
        );
        assert!(matches!(answers.turn(name(1), [2; 32], now + KEPT), Turn::First));
        drop(Running {
            answers: &answers,
            name: name(1),
        });
        assert!(
            matches!(answers.turn(name(1), [3; 32], now + KEPT), Turn::First),
            "a refused call is forgotten"
        );
    }

    #[test]
    fn the_oldest_answers_go_first() {
        let answers = Answers::default();
        let now = Instant::now();
        for number in 0..MOST + 5 {
            assert!(matches!(answers.turn(name(number), [0; 32], now), Turn::First));
            answers.keep(name(number), kept(1), now);
        }
        assert!(matches!(answers.turn(name(MOST + 4), [0; 32], now), Turn::Again(_)));
        assert!(matches!(answers.turn(name(5), [0; 32], now), Turn::Again(_)));
        assert!(matches!(answers.turn(name(4), [0; 32], now), Turn::First));
        assert!(matches!(answers.turn(name(MOST + 9), [0; 32], now), Turn::First));
        answers.keep(name(MOST + 9), kept(MOST_BYTES), now);
        assert!(answers.0.lock().order.len() <= 1, "and too many bytes");
    }
}
