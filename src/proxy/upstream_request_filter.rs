//! The header of the upstream request, built from nothing: what is not on the list does not pass (HARDENING H1).

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, OrErr, Result};

use crate::dialects;
use crate::upstream::authorisation;

use super::context::RequestContext;

/// Names ourselves to providers.
const USER_AGENT: &str = concat!("tollgate/", env!("CARGO_PKG_VERSION"));

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Fields of a usual request, so that the map need not grow.
const SIZE_HINT: usize = 12;

/// Client headers that pass to any provider.
const PASSED: [HeaderName; 3] = [
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    header::ACCEPT,
];

/// … and those that pass where bodies are not ours to touch.
const PASSED_THROUGH: [HeaderName; 8] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::ACCEPT_ENCODING,
    header::RANGE,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    HeaderName::from_static("idempotency-key"),
];

/// Pingora's `upstream_request_filter`.
pub fn execute(session: &Session, upstream: &mut RequestHeader, ctx: &mut RequestContext) -> Result<()> {
    let Some(attempt) = &ctx.attempt else {
        return Error::e_explain(ErrorType::InternalError, "no attempt");
    };
    let client = session.req_header();
    let mut built = HeaderMap::with_capacity(SIZE_HINT);
    let (method, path) = match (
        &ctx.client.target,
        ctx.route.as_ref().and_then(|stage| stage.passthrough.as_ref()),
    ) {
        (Some(target), None) => {
            built.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            built.insert(header::CONTENT_LENGTH, HeaderValue::from(attempt.body.len()));
            PASSED.iter().for_each(|name| pass(client, &mut built, name));
            let dialect = dialects::get(attempt.endpoint.dialect);
            if dialect.id() == target.dialect.id() {
                for name in dialect.request_headers() {
                    pass(client, &mut built, &HeaderName::from_static(name));
                }
            }
            let path = if attempt.conversion.is_none() {
                // A stream comes uncoded: its frames are read, and an error may have to be written after them.
                if !attempt.stream {
                    pass(client, &mut built, &header::ACCEPT_ENCODING);
                }
                dialect.upstream_path(target, &attempt.model, &ctx.client.query)
            } else {
                built.insert(
                    header::ACCEPT,
                    HeaderValue::from_static(if attempt.stream {
                        "text/event-stream"
                    } else {
                        "application/json"
                    }),
                );
                for (name, value) in dialect.own_headers() {
                    let name = HeaderName::from_static(name);
                    built.entry(name).or_insert(HeaderValue::from_static(value));
                }
                let Some((own, query)) = dialect.own_target(target.operation, attempt.stream) else {
                    return Error::e_explain(ErrorType::InternalError, "the dialect has no such operation");
                };
                dialect.upstream_path(&own, &attempt.model, query)
            };
            (Method::POST, [&*attempt.endpoint.prefix, &path].concat())
        }
        (_, Some(path)) => {
            PASSED
                .iter()
                .chain(&PASSED_THROUGH)
                .for_each(|name| pass(client, &mut built, name));
            for name in dialects::ALL.iter().flat_map(|dialect| dialect.request_headers()) {
                pass(client, &mut built, &HeaderName::from_static(name));
            }
            if client.headers.contains_key(header::TRANSFER_ENCODING) && upstream.version != http::Version::HTTP_2 {
                built.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            (client.method.clone(), path.clone())
        }
        (None, None) => return Error::e_explain(ErrorType::InternalError, "no target"),
    };
    built.insert(header::HOST, attempt.endpoint.host_header.clone());
    built.insert(header::USER_AGENT, HeaderValue::from_static(USER_AGENT));
    if let Ok(id) = HeaderValue::from_str(&ctx.client.request_id.0) {
        built.insert(REQUEST_ID, id);
    }
    for (name, value) in &attempt.pool.provider.headers {
        built.insert(name.clone(), value.clone());
    }
    let credential = attempt.credential.as_deref();
    let shown = credential.and_then(|its| authorisation(&attempt.pool.provider, attempt.endpoint.dialect, its));
    if let Some((name, value)) = shown {
        built.insert(name, value);
    }
    // Built from parts, names keep no letter case of their own: half the work.
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = method;
    parts.uri = Uri::try_from(path).or_err(ErrorType::InternalError, "the path for the provider")?;
    parts.version = upstream.version;
    parts.headers = built;
    *upstream = RequestHeader::from(parts);
    Ok(())
}

fn pass(client: &RequestHeader, built: &mut HeaderMap, name: &HeaderName) {
    for value in client.headers.get_all(name) {
        built.append(name.clone(), value.clone());
    }
}
