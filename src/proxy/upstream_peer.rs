//! The next candidate: its address, its credential, its body. Starts an attempt.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::protocols::http::compression::ResponseCompressionCtx;
use pingora::proxy::Session;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::clock::UnixMicros;
use crate::egress::{self, ConnectTimes};
use crate::ir::Operation;
use crate::ledger::Opening;
use crate::limits::{Estimate, Reservation};
use crate::random;
use crate::routing::{Candidate, Choice};
use crate::rules::RouteTimeouts;

use super::Gateway;
use super::admit::{NoRoom, Reserved};
use super::bill::Amounts;
use super::context::{Attempt, RequestContext, RouteStage};
use super::held::Clocks;
use super::need::{self, Need};
use super::prepare::{self, Prepared};
use super::{abort, admit, refuse};

/// How often a request waits for room, each time for what another candidate needs.
const MAX_WAITS: usize = 4;

/// Retries before the wait stops doubling.
const MAX_DOUBLINGS: u32 = 16;

/// Pingora's `upstream_peer`.
pub async fn execute(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<Box<HttpPeer>> {
    if ctx.route.is_none() {
        return Error::e_explain(ErrorType::InternalError, "no route");
    }
    if ctx.attempts > 0 && abort::is_gone(session, ctx).await {
        return Err(abort::gone());
    }
    let Begun {
        choice,
        mut prepared,
        need,
        at,
        reserved,
    } = begin(gateway, session, ctx).await?;
    ctx.attempts += 1;
    if ctx.attempts == 1 {
        gateway.budget.deposit();
    } else if let Some(wait) = wait(gateway, ctx.attempts, choice.again) {
        tokio::time::sleep(wait).await;
    }
    // One-shot: a second attempt would find it spent, and panic (PINGORA.md).
    session.upstream_compression = ResponseCompressionCtx::new(0, false, false);

    let candidate = choice.candidate.clone();
    let timeouts = Times::of(gateway, ctx, &candidate);
    let loss = std::mem::take(&mut prepared.loss);
    let output_limit = prepared.length.most;
    let mut attempt = open(gateway, ctx, choice, prepared, need, (at, reserved));
    let way = candidate.endpoint.way(attempt.credential.as_deref());
    let tried = ctx.route.as_ref().map_or(&[][..], |stage| &stage.tried);
    let mut dial = candidate
        .endpoint
        .dial(way, &gateway.names, tried, Instant::now())
        .await;
    if dial.is_none() && !tried.is_empty() {
        // All were tried: again from the best.
        dial = candidate.endpoint.dial(way, &gateway.names, &[], Instant::now()).await;
    }
    attempt.dial = dial;
    if let Some(gate) = &ctx.gate {
        let stream = attempt.stream;
        let clocks = Clocks {
            first_byte: if stream {
                timeouts.first_byte
            } else {
                timeouts.first_byte_whole
            } + upload(attempt.body.len()),
            idle: timeouts.idle,
            commit: gateway.config.timeouts.commit,
            min_pace: gateway.config.limits.min_pace,
            total: tokio::time::Instant::from_std(
                ctx.began + if stream { timeouts.total } else { timeouts.total_whole },
            ),
        };
        let policy = abort::Policy::of(gateway, ctx);
        let mut held = gate.lock();
        held.policy = Some(policy);
        held.begin_attempt(attempt.body.clone(), loss, clocks);
        held.bill = Some(attempt.bill.clone());
        held.output_limit = output_limit;
        held.others = ctx
            .route
            .as_ref()
            .is_some_and(|stage| stage.plan.has_others(attempt.index));
    }
    ctx.attempt = Some(attempt);
    let Some(dial) = dial else {
        let error: Box<Error> = Error::explain(ErrorType::ConnectNoRoute, "the name of the provider does not resolve");
        return Err(super::failover::after_connect_failure(gateway, ctx, error.into_up()));
    };
    let limits = &gateway.config.timeouts;
    let times = ConnectTimes {
        connect: timeouts.connect,
        total: limits.connect_total,
        idle: limits.upstream_idle,
        // The gate has clocks of its own, which tell first byte from idle.
        read: ctx.gate.is_none().then(|| timeouts.first_byte_whole.max(timeouts.idle)),
        // A provider that takes no body is caught here.
        write: timeouts.idle,
    };
    let http = candidate.pool.provider.http;
    let mut peer = egress::peer(candidate.endpoint.reach(way, dial, http, times));
    if ctx.client.peek.as_ref().is_some_and(|peek| peek.outline.once) {
        // A pooled connection may be dead, and then nobody knows whether the request was worked on.
        egress::alone(&mut peer);
    }
    if gateway.keeps_connections_apart() {
        egress::of_this_thread(&mut peer);
    }
    Ok(Box::new(peer))
}

/// Slowest upload that is waited for, in bytes a second: a large body takes its time before a provider can begin to answer.
const UPLOAD_RATE: u64 = 1024 * 1024;

fn upload(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1000 / UPLOAD_RATE)
}

/// How long to wait before this attempt: the first one follows at once, unless it asks the same again; then the wait doubles. Half
/// of it is jitter, so that requests which failed together do not come together again (AWS Architecture Blog,
/// "Exponential Backoff And Jitter", 2015: equal jitter).
fn wait(gateway: &Gateway, attempt: u16, again: bool) -> Option<Duration> {
    let retries = u32::from(attempt) - 1 + u32::from(again);
    let doublings = retries.checked_sub(2)?.min(MAX_DOUBLINGS);
    let settings = &gateway.config.retries;
    let whole = settings.wait.saturating_mul(1 << doublings).min(settings.max_wait);
    Some(whole / 2 + whole.mul_f64(random::share() / 2.0))
}

/// What an attempt begins with.
struct Begun {
    choice: Choice,
    prepared: Prepared,
    need: Need,
    at: UnixMicros,
    reserved: Reserved,
}

/// The next candidate, and what the attempt may use reserved. Where it waits for room it holds no seat meanwhile, and gets one when
/// there is room: mostly the same, else of another candidate, for which it may have to reserve something else.
async fn begin(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<Begun> {
    let mut waited: Option<(Estimate, Reserved)> = None;
    let mut waits = 0;
    loop {
        let (choice, prepared, need) = next_candidate(gateway, ctx).await?;
        let at = gateway.clock.now();
        let held = waited.take().filter(|(estimate, _)| *estimate == need.estimate);
        let (choice, reserved) = match held {
            Some((_, reserved)) => (Some(choice), reserved),
            None => {
                if waits == MAX_WAITS {
                    ctx.books.patience = None;
                }
                let mut choice = Some(choice);
                let put_back = |stage: &mut RouteStage| {
                    if let Some(choice) = choice.take() {
                        stage.plan.put_back(choice);
                    }
                };
                match admit::reserve(session, ctx, need.estimate, at, put_back).await {
                    Ok(reserved) => (choice, reserved),
                    Err(NoRoom::Gone) => return Err(abort::gone()),
                    Err(NoRoom::Refused(refusal)) => {
                        // What failed last, if something did, says more than why it can't be repeated.
                        ctx.futile &= ctx.last_failure.is_none();
                        ctx.refusal = ctx.last_failure.take().or(Some(refusal));
                        return Error::e_explain(ErrorType::InternalError, "the client's limits do not allow it");
                    }
                }
            }
        };
        let Some(choice) = choice else {
            waited = Some((need.estimate, reserved));
            waits += 1;
            continue;
        };
        return Ok(Begun {
            choice,
            prepared,
            need,
            at,
            reserved,
        });
    }
}

/// The next candidate that can be asked this, and what to ask it. Candidates whose dialect can't carry the request are passed over;
/// if none can, the client is told why the first could not.
async fn next_candidate(gateway: &Gateway, ctx: &mut RequestContext) -> Result<(Choice, Prepared, Need)> {
    let mut refusal = None;
    let exhausted = loop {
        let Some(stage) = &mut ctx.route else {
            return Error::e_explain(ErrorType::InternalError, "no route");
        };
        let now = Instant::now();
        let choice = match stage.next.take().map_or_else(|| stage.plan.next(now), Ok) {
            Ok(choice) => choice,
            Err(exhausted) => break exhausted,
        };
        match prepare::execute(gateway, ctx, &choice.candidate).await {
            Ok(prepared) => match need::of(gateway, ctx, &choice.candidate, &prepared) {
                Ok(need) => return Ok((choice, prepared, need)),
                Err(error) => refusal = refusal.or(Some(error)),
            },
            Err(error) => refusal = refusal.or(Some(error)),
        }
        if let Some(stage) = &mut ctx.route {
            stage.plan.unfit(choice.index);
        }
    };
    // What failed last, if something did, says more than why nobody else could be asked.
    ctx.theirs &= ctx.last_failure.is_some();
    ctx.refusal = ctx
        .last_failure
        .take()
        .or(refusal)
        .or_else(|| Some(refuse::exhausted(ctx, &exhausted)));
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
    choice: Choice,
    prepared: Prepared,
    need: Need,
    (at, reservation): (UnixMicros, Option<Reservation>),
) -> Attempt {
    let Choice {
        index, candidate, hold, ..
    } = choice;
    let candidate = &candidate;
    let credential = hold.credential().cloned();
    let Prepared {
        body,
        model,
        withhold_usage,
        stream,
        conversion,
        ..
    } = prepared;
    let target = ctx.client.target.as_ref();
    let client_dialect = target.map_or("", |target| target.dialect.id().as_str());
    let dialect = target.map(|_| candidate.endpoint.dialect);
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    let grant = ctx.client.grant.as_ref();
    let group = grant.and_then(|grant| grant.group.as_ref());
    let prompt = match need.prompt {
        // Nobody knows its length.
        0 if need.bill.is_by_tokens() => Amounts::default(),
        tokens => need.bill.prompt(tokens),
    };
    let opening = Opening {
        id: crate::ids::AttemptId::new(),
        request: ctx.client.request_id.clone(),
        attempt: ctx.attempts,
        // Where it waited, it begins when it had its room.
        at: reservation.as_ref().map_or(at, Reservation::at),
        key: grant.map_or_else(|| crate::ids::KeyId(named("")), |grant| grant.key.id.clone()),
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
        group: group.map_or_else(|| named(""), |group| group.id.0.clone()),
        reserved: need.estimate.money,
        prompt_tokens: need.prompt,
        prompt_cost: prompt.cost,
        prompt_charge: prompt.charge,
    };
    let mut entry = match reservation {
        Some(reservation) => gateway.ledger.open_reserved(opening, reservation),
        None => gateway.ledger.open(opening),
    };
    entry.closing.request_bytes = if ctx.gate.is_some() {
        body.len() as u64
    } else {
        ctx.client.body_bytes
    };
    Attempt {
        entry: Some(entry),
        began: Instant::now(),
        index,
        pool: candidate.pool.clone(),
        endpoint: candidate.endpoint.clone(),
        bill: need.bill,
        sent: false,
        hold: Some(hold),
        credential,
        dialect,
        model,
        body,
        withhold_usage,
        stream,
        conversion,
        status: None,
        told: None,
        failure: None,
        complete: false,
        concluded: None,
        dial: None,
        first_byte: None,
        first_token: None,
        last_chunk: None,
        received: 0,
    }
}
