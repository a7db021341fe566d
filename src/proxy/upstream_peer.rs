//! The next candidate: its address, its credential, its body. Starts an attempt.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::protocols::ALPN;
use pingora::protocols::http::compression::ResponseCompressionCtx;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::ir::Operation;
use crate::ledger::Opening;
use crate::routing::Candidate;
use crate::rules::{HttpVersions, RouteTimeouts};

use super::Gateway;
use super::context::{Attempt, RequestContext};
use super::held::Clocks;
use super::prepare::{self, Prepared};

/// Requests which share one HTTP/2 connection to a provider (Pingora's default is 1: no sharing).
const H2_STREAMS: usize = 100;

/// How often an HTTP/2 connection to a provider is pinged.
const H2_PING: Duration = Duration::from_secs(30);

/// Wait before the second retry; doubled each time, up to [`MAX_WAIT`]. The first retry follows at once.
const WAIT: Duration = Duration::from_millis(50);

/// Longest wait before a retry.
const MAX_WAIT: Duration = Duration::from_millis(800);

/// Pingora's `upstream_peer`.
pub async fn execute(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
    let Some(route) = &ctx.route else {
        return Error::e_explain(ErrorType::InternalError, "no route");
    };
    if route.plan.candidates.is_empty() {
        return Error::e_explain(ErrorType::InternalError, "no candidate");
    }
    let (candidate, mut prepared) = next_candidate(gateway, ctx).await?;
    ctx.attempts += 1;
    if ctx.attempts > 2 {
        tokio::time::sleep(
            WAIT.saturating_mul(1 << u32::from(ctx.attempts - 3).min(8))
                .min(MAX_WAIT),
        )
        .await;
    }
    // One-shot: a second attempt would find it spent, and panic (PINGORA.md).
    session.upstream_compression = ResponseCompressionCtx::new(0, false, false);

    let timeouts = Times::of(gateway, ctx, &candidate);
    let credential = candidate.pool.credential();
    let loss = std::mem::take(&mut prepared.loss);
    let attempt = open(gateway, ctx, &candidate, credential, prepared);
    let address = match candidate.endpoint.address(&gateway.names).await {
        Some(address) => address,
        None => {
            ctx.attempt = Some(attempt);
            let error: Box<Error> =
                Error::explain(ErrorType::ConnectNoRoute, "the name of the provider does not resolve");
            return Err(super::failover::after_connect_failure(gateway, ctx, error.into_up()));
        }
    };
    if let Some(gate) = &ctx.gate {
        let stream = attempt.stream;
        let clocks = Clocks {
            first_byte: if stream {
                timeouts.first_byte
            } else {
                timeouts.first_byte_whole
            },
            idle: timeouts.idle,
            total: tokio::time::Instant::from_std(
                ctx.began + if stream { timeouts.total } else { timeouts.total_whole },
            ),
        };
        gate.lock().begin_attempt(attempt.body.clone(), loss, clocks);
    }
    ctx.attempt = Some(attempt);
    Ok(Box::new(peer(gateway, ctx, &candidate, address, &timeouts)))
}

/// The next candidate that can be asked this, and what to ask it. Candidates whose dialect can't carry the request are passed over;
/// if none can, the client is told why the first could not.
async fn next_candidate(gateway: &Gateway, ctx: &mut RequestContext) -> Result<(Candidate, Prepared)> {
    let mut refusal = None;
    let count = ctx.route.as_ref().map_or(0, |stage| stage.plan.candidates.len());
    for _ in 0..count {
        let Some(route) = &mut ctx.route else { break };
        let candidate = route.plan.candidates[route.taken % count].clone();
        route.taken += 1;
        match prepare::execute(gateway, ctx, &candidate).await {
            Ok(prepared) => return Ok((candidate, prepared)),
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    ctx.refusal = refusal;
    Error::e_explain(ErrorType::InternalError, "no candidate can be asked this")
}

/// The times of one attempt: the route's, else the provider's, else the configuration's.
struct Times {
    connect: Duration,
    first_byte: Duration,
    first_byte_whole: Duration,
    idle: Duration,
    total: Duration,
    total_whole: Duration,
}

impl Times {
    fn of(gateway: &Gateway, ctx: &RequestContext, candidate: &Candidate) -> Self {
        let route = ctx
            .route
            .as_ref()
            .and_then(|stage| stage.plan.route.as_ref())
            .map(|route| route.timeouts);
        let provider = candidate.pool.provider.timeouts;
        let pick =
            |field: fn(&RouteTimeouts) -> Option<Duration>| route.as_ref().and_then(field).or_else(|| field(&provider));
        let defaults = &gateway.config.timeouts;
        Times {
            connect: pick(|t| t.connect).unwrap_or(defaults.connect),
            first_byte: pick(|t| t.first_byte).unwrap_or(defaults.first_byte),
            first_byte_whole: pick(|t| t.first_byte).unwrap_or(defaults.first_byte_whole),
            idle: pick(|t| t.idle).unwrap_or(defaults.idle),
            total: pick(|t| t.total).unwrap_or(defaults.total),
            total_whole: pick(|t| t.total).unwrap_or(defaults.total_whole),
        }
    }
}

/// A shared copy of one of our own few names, made once a thread.
fn named(name: &'static str) -> Arc<str> {
    thread_local! {
        static NAMED: RefCell<Vec<Arc<str>>> = const { RefCell::new(Vec::new()) };
    }
    NAMED.with_borrow_mut(|known| match known.iter().find(|known| ***known == *name) {
        Some(known) => known.clone(),
        None => {
            known.push(name.into());
            name.into()
        }
    })
}

fn open(
    gateway: &Gateway,
    ctx: &RequestContext,
    candidate: &Candidate,
    credential: Option<Arc<crate::rules::Credential>>,
    prepared: Prepared,
) -> Attempt {
    let Prepared {
        body,
        model,
        withhold_usage,
        stream,
        conversion,
        loss: _,
    } = prepared;
    let target = ctx.client.target.as_ref();
    let client_dialect = target.map_or("", |target| target.dialect.id().as_str());
    let dialect = target.map(|_| candidate.endpoint.dialect);
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    let mut entry = gateway.ledger.open(Opening {
        id: crate::ids::AttemptId::new(),
        request: ctx.client.request_id.clone(),
        attempt: ctx.attempts,
        at: gateway.clock.now(),
        key: ctx
            .client
            .key
            .as_ref()
            .map_or_else(|| crate::ids::KeyId(named("")), |key| key.id.clone()),
        route: route.map_or_else(|| named(""), |route| route.name.clone()),
        provider: candidate.pool.provider.name.clone(),
        credential: credential
            .as_ref()
            .map_or_else(|| named(""), |credential| credential.name.clone()),
        operation: named(
            target
                .map_or(Operation::Passthrough, |target| target.operation)
                .as_str(),
        ),
        client_dialect: named(client_dialect),
        provider_dialect: named(dialect.map_or("", |dialect| dialect.as_str())),
        model: match &ctx.client.peek {
            Some(peek) if *peek.model == *model => model.clone(),
            Some(peek) => peek.model.as_str().into(),
            None => named(""),
        },
        upstream_model: model.clone(),
        stream,
    });
    entry.closing.request_bytes = if ctx.gate.is_some() {
        body.len() as u64
    } else {
        ctx.client.body_bytes
    };
    Attempt {
        entry: Some(entry),
        began: Instant::now(),
        pool: candidate.pool.clone(),
        endpoint: candidate.endpoint.clone(),
        credential,
        dialect,
        model,
        body,
        withhold_usage,
        stream,
        conversion,
        status: None,
        first_byte: None,
        first_token: None,
        last_chunk: None,
        received: 0,
    }
}

fn peer(
    gateway: &Gateway,
    ctx: &RequestContext,
    candidate: &Candidate,
    address: std::net::SocketAddr,
    times: &Times,
) -> HttpPeer {
    let endpoint = &candidate.endpoint;
    let provider = &candidate.pool.provider;
    let sni = if endpoint.tls {
        endpoint.host.to_string()
    } else {
        String::new()
    };
    let mut peer = HttpPeer::new(address, endpoint.tls, sni);
    let options = &mut peer.options;
    options.alpn = match provider.http {
        HttpVersions::H1 => ALPN::H1,
        HttpVersions::H2 => ALPN::H2,
        HttpVersions::Both if endpoint.tls => ALPN::H2H1,
        HttpVersions::Both => ALPN::H1,
    };
    options.max_h2_streams = H2_STREAMS;
    options.h2_ping_interval = Some(H2_PING);
    options.connection_timeout = Some(times.connect);
    options.total_connection_timeout = Some(gateway.config.timeouts.connect_total.max(times.connect));
    options.idle_timeout = Some(gateway.config.timeouts.upstream_idle);
    // The gate has clocks of its own, which tell first byte from idle; a provider that takes no body is caught here.
    options.write_timeout = Some(times.idle);
    if ctx.gate.is_none() {
        options.read_timeout = Some(times.first_byte_whole.max(times.idle));
    }
    peer
}
