//! Our own errors, and answers of our own, to the client. The only place where an [`ApiError`] becomes HTTP.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Method, header};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType, Result};
use pingora_proxy::FailToProxy;

use crate::clock::UnixMicros;
use crate::dialects::{self, Dialect, Line};
use crate::egress;
use crate::ir::{ApiError, ErrorKind};
use crate::routing::Exhausted;

use super::context::RequestContext;
use super::held::{Expired, Unsent};
use super::{abort, failover, limit_headers, local};

/// After a refusal the rest of an upload is read and thrown away for this long, so that the client gets to read the
/// answer before the connection closes (as nginx's `lingering_close` does).
const LINGER: Duration = Duration::from_secs(2);

/// … and at most this much of it.
const LINGER_BYTES: u64 = 64 * 1024 * 1024;

/// Tells the official SDKs (OpenAI's, Anthropic's) whether to try again, whatever the status.
const SHOULD_RETRY: &str = "x-should-retry";

/// Sends `error` in the client's dialect. `close`: the connection ends with it.
pub async fn send(session: &mut Session, ctx: &mut RequestContext, error: ApiError, close: bool) -> Result<()> {
    send_labelled(session, ctx, error, close, None).await
}

/// … counted under this label; `None`: under its code.
async fn send_labelled(
    session: &mut Session,
    ctx: &mut RequestContext,
    error: ApiError,
    close: bool,
    label: Option<&'static str>,
) -> Result<()> {
    let dialect = client_dialect(ctx, session.req_header());
    let body = dialect.encode_error(&error, &ctx.client.request_id.0);
    let mut header = ResponseHeader::build(error.status, Some(8))?;
    if let Some(seconds) = error.retry_after_secs {
        header.insert_header(header::RETRY_AFTER, seconds.to_string())?;
    }
    if error.status == 429
        && let Some(grant) = &ctx.client.grant
    {
        let at = UnixMicros(ctx.at.0.saturating_add_unsigned(ctx.began.elapsed().as_micros() as u64));
        let mut limits = http::HeaderMap::new();
        limit_headers::insert(&mut limits, dialect, grant.chain.standing(Instant::now()), at);
        for (name, value) in &limits {
            header.insert_header(name, value)?;
        }
    }
    if error.status == 401 {
        header.insert_header(header::WWW_AUTHENTICATE, "Bearer")?;
    }
    if ctx.futile {
        header.insert_header(SHOULD_RETRY, "false")?;
    }
    if let Some(name) = dialect.request_id_header() {
        header.insert_header(name, &*ctx.client.request_id.0)?;
    }
    super::metrics::refused(label.or(error.code.as_deref()).unwrap_or("other"));
    ctx.refusal = Some(error);
    send_json(session, ctx, header, body.into(), close).await
}

/// Sends an answer of our own.
pub async fn send_json(
    session: &mut Session,
    ctx: &mut RequestContext,
    mut header: ResponseHeader,
    body: Bytes,
    close: bool,
) -> Result<()> {
    header.insert_header(header::CONTENT_TYPE, "application/json")?;
    header.insert_header(header::CONTENT_LENGTH, body.len())?;
    header.insert_header("x-request-id", &*ctx.client.request_id.0)?;
    let unread = !session.as_downstream_mut().is_body_done();
    if close || unread {
        session.set_keepalive(None);
    }
    ctx.response.local = true;
    ctx.response.sent = body.len() as u64;
    let no_body = session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(header), no_body).await?;
    if !no_body {
        session.write_response_body(Some(body), true).await?;
    }
    if unread && !expects_continue(session) {
        read_off(session, LINGER, LINGER_BYTES).await;
    }
    Ok(())
}

/// Nothing of the body comes before its client is told to send it.
pub(super) fn expects_continue(session: &Session) -> bool {
    session.get_header(header::EXPECT).is_some()
}

/// Reads the rest of the body and throws it away, for at most this time and until it is more than `most` bytes.
pub(super) async fn read_off(session: &mut Session, time: Duration, most: u64) {
    let read = async {
        let mut bytes = 0;
        while let Ok(Some(chunk)) = session.as_downstream_mut().read_request_body().await {
            bytes += chunk.len() as u64;
            if bytes > most {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(time, read).await;
}

/// The dialect in which the client is answered: that of its path (even with a wrong method), else the one its headers
/// speak.
pub fn client_dialect(ctx: &RequestContext, request: &RequestHeader) -> &'static dyn Dialect {
    if let Some(target) = &ctx.client.target {
        return target.dialect;
    }
    let headers = &request.headers;
    let posted = Line {
        method: &Method::POST,
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        headers,
    };
    if let Some(target) = dialects::find(posted) {
        return target.dialect;
    }
    let line = Line {
        method: &Method::GET,
        path: "/v1/models",
        query: "",
        headers,
    };
    dialects::find(line).map_or(dialects::ALL[0], |target| target.dialect)
}

/// Pingora's `fail_to_proxy`: the request could not be served.
pub async fn execute(session: &mut Session, error: &Error, ctx: &mut RequestContext) -> FailToProxy {
    let shutting = FailToProxy {
        error_code: 0,
        can_reuse_downstream: false,
    };
    if abort::drains(ctx) {
        // Nobody is there to be told.
        return shutting;
    }
    let (committed, expired, failure, cut, unsent) = match &ctx.gate {
        Some(gate) => {
            let mut held = gate.lock();
            let begun = held.committed || held.opened;
            // Not of an attempt before, where the client left since.
            let cut = failover::cut(&held).filter(|_| !held.committed && *error.esource() != ErrorSource::Downstream);
            (begun, held.expired, held.failure().cloned(), cut, held.unsent.take())
        }
        None => (session.response_written().is_some(), None, None, None, None),
    };
    if let Some(unsent) = unsent.filter(|_| ctx.refusal.is_none()) {
        let ours = ctx
            .attempt
            .as_ref()
            .and_then(|attempt| failover::ours(ctx, attempt.failure?));
        match ours {
            Some(refusal) => ctx.refusal = Some(refusal),
            None if !committed => return send_unsent(session, ctx, unsent).await,
            None => {
                let status = unsent.header.status.as_u16();
                let told = ctx.gate.as_ref().and_then(|gate| gate.lock().reported());
                ctx.theirs = true;
                ctx.refusal = Some(told.unwrap_or_else(|| {
                    ApiError::new(ErrorKind::from_status(status), "the provider failed").status(status)
                }));
            }
        }
    }
    let own = ctx.refusal.take().or(cut);
    let theirs = ctx.theirs || own.is_none() && failure.is_some();
    let refusal = own.or(failure);
    if refusal.is_none() && expired.is_none() && *error.esource() == ErrorSource::Downstream {
        return shutting;
    }
    if ctx.response.estimate
        && !committed
        && let Some(target) = ctx.client.target.clone()
    {
        if let Some(gate) = &ctx.gate {
            gate.unwrap(&mut session.downstream_session);
        }
        // Pingora closes after an error, whatever was answered.
        session.set_keepalive(None);
        if let Err(error) = local::estimated_count(session, ctx, &target).await {
            tracing::debug!(%error, "an estimate could not be sent");
        }
        return FailToProxy {
            error_code: 200,
            can_reuse_downstream: false,
        };
    }
    let refusal = refusal.unwrap_or_else(|| describe(error, expired));
    let status = refusal.status;
    if committed {
        tell_in_stream(session, ctx, refusal).await;
    } else {
        if let Some(gate) = &ctx.gate {
            gate.unwrap(&mut session.downstream_session);
        }
        // A provider's words are no label.
        let label = theirs.then_some("upstream_error");
        if let Err(error) = send_labelled(session, ctx, refusal, true, label).await {
            tracing::debug!(%error, "a refusal could not be sent");
        }
    }
    FailToProxy {
        error_code: status,
        can_reuse_downstream: false,
    }
}

/// An error answer that ended before anybody could decide whether it is to be sent: it goes out as it came.
async fn send_unsent(session: &mut Session, ctx: &mut RequestContext, unsent: Unsent) -> FailToProxy {
    if let Some(gate) = &ctx.gate {
        gate.unwrap(&mut session.downstream_session);
    }
    let Unsent { mut header, body } = unsent;
    let status = header.status.as_u16();
    ctx.response.sent = body.len() as u64;
    let written = async {
        header.remove_header(&header::TRANSFER_ENCODING);
        header.insert_header(header::CONTENT_LENGTH, body.len())?;
        session.set_keepalive(None);
        session.write_response_header(header, body.is_empty()).await?;
        session.write_response_body(Some(body), true).await
    };
    if let Err(error) = written.await {
        tracing::debug!(%error, "an error answer could not be sent");
    }
    FailToProxy {
        error_code: status,
        can_reuse_downstream: false,
    }
}

/// Nobody can be asked: all that could be cool down, or our own credentials are at fault.
pub fn exhausted(ctx: &RequestContext, exhausted: &Exhausted) -> ApiError {
    let model = ctx.client.peek.as_ref().map_or("", |peek| &peek.model);
    let model = crate::observe::redact::printable(model, 64);
    let wait = exhausted.until.map(|until| {
        let wait = until.saturating_duration_since(std::time::Instant::now());
        u32::try_from(wait.as_millis().div_ceil(1000))
            .unwrap_or(u32::MAX)
            .max(1)
    });
    let error = match wait {
        Some(wait) if !exhausted.ours => ApiError::new(
            ErrorKind::RateLimit,
            format!("every provider of the model `{model}` asks us to wait; try again in {wait} s"),
        )
        .code("upstream_cooling_down"),
        _ => ApiError::new(
            ErrorKind::UpstreamCredentialsExhausted,
            format!("none of our credentials for the model `{model}` can be used just now"),
        )
        .code("upstream_credentials_exhausted"),
    };
    match wait {
        Some(wait) => error.retry_after(wait),
        None => error,
    }
}

/// The answer has begun: an error event ends it, where one can be written; else the connection just breaks, which no
/// client takes for an end.
async fn tell_in_stream(session: &mut Session, ctx: &mut RequestContext, refusal: ApiError) {
    let event = match &ctx.gate {
        Some(gate) => {
            let mut held = gate.lock();
            let waiting = held.opened && !held.committed;
            if held.ended.is_some() && !waiting {
                return;
            }
            held.ended = Some(crate::ir::StreamEnd::Truncated);
            held.error_event(&refusal)
        }
        None => Bytes::new(),
    };
    ctx.refusal = Some(refusal);
    if event.is_empty() {
        return;
    }
    let written = async {
        session.write_response_body(Some(event), false).await?;
        session.write_response_body(None, true).await
    };
    if let Err(error) = tokio::time::timeout(LINGER, written).await.unwrap_or(Ok(())) {
        tracing::debug!(%error, "the end of a broken stream could not be told");
    }
}

/// What the client is told of a failure upstream.
pub fn describe(error: &Error, expired: Option<Expired>) -> ApiError {
    match expired {
        Some(Expired::FirstByte) => {
            return timeout(
                "the provider did not begin to answer in time",
                "upstream_first_byte_timeout",
            );
        }
        Some(Expired::Idle) => return timeout("the provider fell silent within its answer", "upstream_idle_timeout"),
        Some(Expired::Pace) => return timeout("the provider answered too slowly", "upstream_too_slow"),
        Some(Expired::Total) => {
            return timeout(
                "the request took longer than the gateway allows",
                "upstream_total_timeout",
            );
        }
        Some(Expired::Ending) => {
            return ApiError::new(ErrorKind::Overloaded, "the gateway is being restarted; try again")
                .code("gateway_stopping")
                .retry_after(1);
        }
        None => {}
    }
    let (message, code) = match error.etype() {
        ErrorType::ConnectTimedout | ErrorType::TLSHandshakeTimedout => {
            return timeout("the provider could not be reached in time", "upstream_connect_timeout");
        }
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            return timeout("the provider took too long", "upstream_timeout");
        }
        ErrorType::ConnectRefused
        | ErrorType::ConnectNoRoute
        | ErrorType::ConnectError
        | ErrorType::SocketError
        | ErrorType::BindError => ("the provider could not be reached", "upstream_connect_failed"),
        _ if egress::failed_at_tls(error) => (
            "no secure connection to the provider could be made",
            "upstream_tls_failed",
        ),
        _ if egress::stuck_at_proxy(error) => (
            "the provider could not be reached through the proxy on the way",
            "upstream_connect_failed",
        ),
        _ if *error.esource() == ErrorSource::Internal => {
            return ApiError::new(ErrorKind::Api, "the gateway failed; the request id names the log line")
                .code("internal_error");
        }
        _ => ("the connection to the provider broke", "upstream_broke"),
    };
    ApiError::new(ErrorKind::Api, message).status(502).code(code)
}

fn timeout(message: &str, code: &str) -> ApiError {
    ApiError::new(ErrorKind::Timeout, message).code(code)
}

/// A word for the ledger and the log for what Pingora says went wrong.
pub fn word(error: &Error, expired: Option<Expired>) -> String {
    describe(error, expired).code.unwrap_or_default()
}
