//! The header of the answer as the client gets it: what is not on the list does not pass (HARDENING H1).

use http::{HeaderMap, HeaderName, HeaderValue, Version, header};
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::sse::Framing;

use super::Gateway;
use super::context::RequestContext;
use super::limit_headers;

/// Headers of an answer that pass.
const PASSED: [&str; 8] = [
    "content-type",
    "content-encoding",
    "content-length",
    "content-language",
    "content-disposition",
    "etag",
    "last-modified",
    "retry-after",
];

/// … and, of `/p/...`, these too.
const PASSED_THROUGH: [&str; 5] = ["content-range", "accept-ranges", "location", "cache-control", "vary"];

/// What the provider says of its body, which a converted answer does not have.
const OF_THE_BODY: [&str; 7] = [
    "content-type",
    "content-encoding",
    "content-length",
    "content-language",
    "content-disposition",
    "etag",
    "last-modified",
];

/// A provider's own limits (`x-ratelimit-`, `<company>-ratelimit-`): told under another name, lest the client takes them
/// for ours.
const LIMITS: &str = "ratelimit-";

/// Names under which providers send their request id.
const REQUEST_IDS: [&str; 3] = ["x-request-id", "request-id", "x-goog-request-id"];

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const UPSTREAM_REQUEST_ID: HeaderName = HeaderName::from_static("x-tollgate-upstream-request-id");
const PROVIDER: HeaderName = HeaderName::from_static("x-tollgate-provider");
const MODEL: HeaderName = HeaderName::from_static("x-tollgate-model");
const ATTEMPTS: HeaderName = HeaderName::from_static("x-tollgate-attempts");
const TIMING: HeaderName = HeaderName::from_static("server-timing");
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// Fields of a usual answer, so that the map need not grow.
const SIZE_HINT: usize = 12;

/// Most bytes of a header we take over under another name.
const MAX_VALUE: usize = 256;

/// Pingora's `response_filter`.
pub fn execute(
    gateway: &Gateway,
    session: &Session,
    answer: &mut ResponseHeader,
    ctx: &mut RequestContext,
) -> Result<()> {
    if answer.status.is_informational() {
        return Ok(());
    }
    let passthrough = ctx.gate.is_none();
    let mut built = HeaderMap::with_capacity(SIZE_HINT);
    for (name, value) in &answer.headers {
        let lower = name.as_str();
        // What goes out of a stream may be less or more than what came: frames withheld, an error appended.
        if ctx.response.streaming && name == header::CONTENT_LENGTH {
            continue;
        }
        if ctx.response.converted && OF_THE_BODY.contains(&lower) {
            continue;
        }
        if PASSED.contains(&lower) || passthrough && PASSED_THROUGH.contains(&lower) {
            built.append(name.clone(), value.clone());
        } else if REQUEST_IDS.contains(&lower) {
            rename(&mut built, UPSTREAM_REQUEST_ID, value);
        } else if let Some((_, limit)) = lower.split_once(LIMITS)
            && let Ok(name) = HeaderName::try_from(format!("x-tollgate-upstream-ratelimit-{limit}"))
        {
            rename(&mut built, name, value);
        }
    }
    if ctx.response.converted {
        let sse = ctx.response.streaming
            && ctx
                .client
                .target
                .as_ref()
                .is_some_and(|target| target.framing == Framing::Sse);
        let kind = if sse { "text/event-stream" } else { "application/json" };
        built.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // A status without a body (RFC 9110, 6.4.1) has no framing either.
    let has_body = !matches!(answer.status.as_u16(), 204 | 304);
    let http_11 = session.req_header().version == Version::HTTP_11;
    if has_body && http_11 && !built.contains_key(header::CONTENT_LENGTH) {
        built.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    if ctx.response.streaming {
        // Nobody between us and the client may keep or rewrite a stream.
        built.insert(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-cache, no-transform"),
        );
        built.insert(ACCEL_BUFFERING, HeaderValue::from_static("no"));
    }
    own(&mut built, ctx);
    if let (Some(admission), Some(target)) = (&ctx.books.admission, &ctx.client.target) {
        let standing = admission.standing(std::time::Instant::now());
        limit_headers::insert(&mut built, target.dialect, standing, gateway.clock.now());
    }
    // Built from parts, names keep no letter case of their own: half the work.
    let (mut parts, ()) = http::Response::new(()).into_parts();
    parts.status = answer.status;
    parts.headers = built;
    *answer = ResponseHeader::from(parts);
    if ctx.response.first_byte.is_none() {
        ctx.response.first_byte = Some(ctx.began.elapsed());
    }
    Ok(())
}

fn rename(built: &mut HeaderMap, name: HeaderName, value: &HeaderValue) {
    if value.len() <= MAX_VALUE {
        built.insert(name, value.clone());
    }
}

/// What we say of the request ourselves.
fn own(built: &mut HeaderMap, ctx: &RequestContext) {
    let mut insert = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            built.insert(name, value);
        }
    };
    insert(REQUEST_ID, &ctx.client.request_id.0);
    if let Some(name) = ctx
        .client
        .target
        .as_ref()
        .and_then(|target| target.dialect.request_id_header())
    {
        insert(HeaderName::from_static(name), &ctx.client.request_id.0);
    }
    if let Some(attempt) = &ctx.attempt {
        insert(PROVIDER, &attempt.pool.provider.name);
        if !attempt.model.is_empty() {
            insert(MODEL, &attempt.model);
        }
        match ctx.attempts {
            1 => insert(ATTEMPTS, "1"),
            attempts => insert(ATTEMPTS, &attempts.to_string()),
        }
    }
    if let Some(stage) = &ctx.route {
        // Milliseconds, as the Server-Timing specification says.
        let micros = (stage.overhead.as_nanos() + 500) / 1000;
        insert(TIMING, &format!("gateway;dur={}.{:03}", micros / 1000, micros % 1000));
    }
}
