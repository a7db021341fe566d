//! The last phase: close the attempt's row, count, write the log line.

use std::time::{Duration, Instant};

use http::Version;
use pingora::proxy::Session;
use pingora::{Error, ErrorSource, ErrorType};

use crate::dialects::reset;
use crate::ir::{Operation, StreamEnd, Usage};
use crate::ledger::{Closed, Closing, Ended, UNFINISHED};
use crate::money::{Extras, NanoUsd};
use crate::observe::access_log::{Line, rfc3339};
use crate::observe::redact::printable;
use crate::translate::Meter;
use crate::upstream::{Failure, Outcome};

use super::Gateway;
use super::bill::{Amounts, Basis, End};
use super::context::{Attempt, RequestContext};
use super::estimated::{self, estimated_extras, estimated_usage};
use super::held::{Expired, Held};
use super::large_answer::BrokenOff;
use super::metrics::Drained;
use super::{metrics, refuse};

/// How long a refusal waits for the row of the attempt that failed.
const ROW_WAIT: Duration = Duration::from_secs(1);
/// Longest path in a log line, in bytes.
const MAX_PATH: usize = 256;

/// What is known of an attempt that ended.
pub struct Concluded {
    /// How it ended.
    pub ended: Ended,
    /// Input tokens, all classes.
    pub input_tokens: Option<u64>,
    /// Output tokens, all classes.
    pub output_tokens: Option<u64>,
}

/// Closes the attempt under way: its row, and what the metrics say of it.
pub fn conclude(gateway: &Gateway, ctx: &mut RequestContext, error: Option<&Error>) -> Option<(Concluded, Closed)> {
    let mut entry = ctx.attempt.as_mut()?.entry.take()?;
    let attempt = ctx.attempt.as_ref()?;
    let held = ctx.gate.as_ref().map(|gate| gate.lock());
    let expired = held.as_ref().and_then(|held| held.expired);
    let stream_end = held.as_ref().and_then(|held| held.ended);
    let meter = held
        .as_ref()
        .and_then(|held| held.answer.as_ref())
        .map(|answer| answer.meter());
    // A provider that does not count tokens has answered; the estimate is ours.
    let error = error.filter(|_| !ctx.response.estimate);
    // Judged by what it said, not by how it broke off.
    let judged = attempt.failure.filter(|failure| !failure.is_silence());
    let gone = held.as_ref().is_some_and(|held| held.is_gone());
    // The client, or a clock, may have been faster.
    let by_us = error.is_none_or(|error| *error.etype() == ErrorType::InternalError) && expired.is_none();
    let broken_off = held.as_ref().and_then(|held| held.broken_off).filter(|_| by_us);
    let ended = match gone {
        true => Ended::ClientGone,
        false if broken_off == Some(BrokenOff::NoRoom) => Ended::TimedOut,
        false if broken_off.is_some() => Ended::UpstreamBroke,
        false => ended(attempt.status, stream_end, expired, error, judged.is_some()),
    };
    let closing = &mut entry.closing;
    closing.status = attempt.status;
    closing.response_bytes = held.as_ref().map_or(attempt.received, |held| held.received);
    closing.first_byte_us = attempt.first_byte.map(micros);
    closing.first_token_us = attempt.first_token.map(micros);
    closing.total_us = micros(attempt.began.elapsed());
    closing.error = match (ended, error) {
        (Ended::Complete, _) if stream_end == Some(StreamEnd::Unfinished) => Some(UNFINISHED.into()),
        (Ended::Complete, _) => None,
        (Ended::ClientGone, _) => Some("client_gone".into()),
        _ if broken_off.is_some() => broken_off.map(|why| why.as_str().into()),
        _ if attempt.failure == Some(Failure::DeadConnection) => Some(Failure::DeadConnection.as_str().into()),
        (Ended::UpstreamError, _) => attempt.status.map(|status| format!("status_{status}")),
        (Ended::UpstreamBroke, Some(_)) if judged.is_some() => judged.map(|failure| failure.as_str().into()),
        (_, Some(error)) => Some(refuse::word(error, expired)),
        (_, None) => Some("upstream_stream_truncated".into()),
    };
    if let Some(failure) = held.as_ref().and_then(|held| held.answer.as_ref()?.failure()) {
        let own = failure.code.as_deref().filter(|code| code.starts_with("upstream_"));
        closing.error = Some(own.unwrap_or("upstream_answer_failed").into());
    }
    if let Some(meter) = meter {
        closing.usage = meter.usage.map(Usage::booked);
        closing.finish = meter.finish.as_ref().map(|finish| finish.kind);
        closing.response_id = meter.response_id.clone();
        closing.tool_calls = meter.tool_calls;
        closing.service = meter.service.clone();
        closing.images_out = meter.images_out;
    }
    let amounts = bill(ctx, attempt, held.as_deref(), ended, closing);
    let (usage, estimated) = (closing.usage, closing.estimated);
    if gone {
        metrics::drained(if estimated { Drained::Cut } else { Drained::Exact });
    }
    let loss = held.as_ref().map(|held| held.loss()).unwrap_or_default();
    if let (Some(target), Some(dialect)) = (&ctx.client.target, attempt.dialect) {
        metrics::lost(target.dialect.id(), dialect, &loss);
    }
    metrics::attempt_ended(
        ctx.client.target.as_ref(),
        attempt,
        ended,
        usage.filter(|_| !estimated),
        &entry.closing,
    );
    drop(held);
    let row = entry.close(ended);
    ctx.loss = loss.summary().unwrap_or_default();
    ctx.books.add(amounts, estimated);
    let attempt = ctx.attempt.as_mut()?;
    if attempt.failure.is_none() {
        attempt.failure = match ended {
            Ended::Complete | Ended::ClientGone | Ended::Panicked | Ended::Interrupted => None,
            _ if broken_off == Some(BrokenOff::NoRoom) => None,
            Ended::UpstreamBroke | Ended::UpstreamFailed => Some(Failure::Broke),
            Ended::TimedOut if matches!(expired, Some(Expired::Total | Expired::Ending)) => None,
            Ended::TimedOut if expired == Some(Expired::FirstByte) => Some(Failure::FirstByte),
            Ended::TimedOut => Some(Failure::Slow),
            // Unread (passthrough, a coding we can't read): its status is all there is.
            Ended::UpstreamError => Some(Failure::of_status(attempt.status.unwrap_or(0))),
        };
    }
    attempt.complete = ended == Ended::Complete;
    settle(gateway, ctx);
    let concluded = Concluded {
        ended,
        input_tokens: usage.map(|usage| usage.input_total()),
        output_tokens: usage.map(|usage| usage.output_total()),
    };
    Some((concluded, row))
}

/// Before the end of the answer goes out: closes the row, for which the gate then waits (HARDENING L3). An answer whose tokens nobody
/// told, and whose count takes long, is counted and closed when all is over.
pub fn before_the_end(gateway: &Gateway, ctx: &mut RequestContext) {
    let Some(gate) = ctx.gate.clone() else { return };
    if gate.lock().is_gone() || !estimated::count_here(ctx) {
        return;
    }
    if let Some((concluded, row)) = conclude(gateway, ctx, None) {
        gate.lock().row = Some(row);
        if let Some(attempt) = &mut ctx.attempt {
            attempt.concluded = Some(concluded);
        }
    }
}

/// The same before the client is told of a failure. Where the row can't be written (the disk is full) it is told all the same.
pub async fn before_the_refusal(gateway: &Gateway, ctx: &mut RequestContext, error: &Error) {
    estimated::count(ctx).await;
    let Some((concluded, row)) = conclude(gateway, ctx, Some(error)) else {
        return;
    };
    let _ = tokio::time::timeout(ROW_WAIT, row.written()).await;
    if let Some(attempt) = &mut ctx.attempt {
        attempt.concluded = Some(concluded);
    }
}

/// What the attempt cost and is charged, and what its row says of that.
fn bill(ctx: &RequestContext, attempt: &Attempt, held: Option<&Held>, ended: Ended, closing: &mut Closing) -> Amounts {
    let meter = held.and_then(|held| held.answer.as_ref()).map(|answer| answer.meter());
    let end = End {
        status: attempt.status,
        sent: attempt.sent && attempt.failure != Some(Failure::DeadConnection),
        given: held.map_or(attempt.received > 0, |held| held.committed),
        usage: closing.usage.is_some(),
        // What has no such word ends with its body.
        finished: closing.finish.is_some() || held.is_some_and(|held| held.ended == Some(StreamEnd::Complete)),
        refused: meter.is_some_and(|meter| meter.error.is_some() && meter.content_events == 0),
        unfinished: held.is_some_and(|held| held.ended == Some(StreamEnd::Unfinished)),
    };
    let basis = end.basis(ended);
    // At other paths of a provider nobody knows what is used.
    let is_read = ctx.client.target.is_some();
    let is_free = ctx
        .client
        .target
        .as_ref()
        .is_some_and(|target| target.operation == Operation::CountTokens);
    if basis == Basis::Estimated && is_read && !is_free {
        closing.usage = Some(estimated_usage(ctx, held));
        closing.estimated = true;
    }
    let usage = closing.usage.unwrap_or_default();
    let amounts = match basis {
        Basis::Nothing => Amounts::NOTHING,
        Basis::Reported => attempt.bill.used(&usage, extras(meter)),
        Basis::Estimated => attempt.bill.used(&usage, estimated_extras(held, &usage)),
        Basis::Lost => {
            closing.estimated |= !end.usage && is_read && !is_free;
            let lost = match closing.usage {
                Some(usage) => attempt.bill.used(&usage, extras(meter)),
                None => {
                    let usage = estimated_usage(ctx, held);
                    attempt.bill.used(&usage, estimated_extras(held, &usage))
                }
            };
            Amounts {
                charge: NanoUsd::ZERO,
                ..lost
            }
        }
    };
    if basis != Basis::Nothing {
        closing.images_in = attempt.bill.pictures();
    }
    (closing.cost, closing.charge) = (amounts.cost, amounts.charge);
    amounts
}

/// What an answer told that decides, beside tokens, what it cost.
pub fn extras(meter: Option<&Meter>) -> Extras<'_> {
    Extras {
        service: meter.and_then(|meter| meter.service.as_deref()),
        images_out: meter.map_or(0, |meter| meter.images_out),
        cached_audio: meter.map_or(0, |meter| meter.cached_audio),
        image_tokens: meter.map_or(0, |meter| meter.image_tokens),
        // Those of the request stand in the bill.
        images_in: 0,
    }
}

/// Gives the attempt's seat back, with what is to be learned from it. Once.
pub fn settle(gateway: &Gateway, ctx: &mut RequestContext) {
    let Some(attempt) = &mut ctx.attempt else { return };
    let Some(hold) = attempt.hold.take() else { return };
    let held = ctx.gate.as_ref().map(|gate| gate.lock());
    let meter = held
        .as_ref()
        .and_then(|held| held.answer.as_ref())
        .map(|answer| answer.meter());
    let error = meter.and_then(|meter| meter.error.as_ref());
    let status = attempt.status.unwrap_or(0);
    let retry_after = (attempt.told.is_some() || error.is_some()).then(|| {
        let none = http::HeaderMap::new();
        let headers = attempt.told.as_ref().unwrap_or(&none);
        reset::wait(headers, status, error, gateway.clock.now())
    });
    let failure = attempt.failure;
    // Any path of a provider may be asked there: what it refuses says nothing of the credential where it is used as usual.
    let unread = ctx.client.target.is_none() && (400..500).contains(&status);
    let outcome = Outcome {
        failure,
        retry_after: retry_after.flatten(),
        first_token: attempt.first_token.or(attempt.first_byte).filter(|_| failure.is_none()),
        tokens: meter
            .and_then(|meter| meter.usage)
            .map(|usage| usage.input_total().saturating_add(usage.output_total())),
        inconclusive: unread || failure.is_none() && !attempt.complete,
    };
    drop(held);
    hold.settle(&outcome, Instant::now());
}

fn ended(
    status: Option<u16>,
    stream_end: Option<StreamEnd>,
    expired: Option<Expired>,
    error: Option<&Error>,
    judged: bool,
) -> Ended {
    match error {
        _ if expired.is_some() => Ended::TimedOut,
        Some(_) if judged && status.is_some_and(|status| status >= 400) => Ended::UpstreamError,
        Some(error) if *error.esource() == ErrorSource::Downstream => Ended::ClientGone,
        Some(_) if status.is_some() => Ended::UpstreamBroke,
        Some(_) => Ended::UpstreamFailed,
        None if status.is_some_and(|status| status >= 400) => Ended::UpstreamError,
        None if matches!(stream_end, Some(StreamEnd::Truncated | StreamEnd::Failed)) => Ended::UpstreamBroke,
        None => Ended::Complete,
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Where a conversation is answered is where it goes next. Counts once a request.
pub fn remember(gateway: &Gateway, ctx: &mut RequestContext) {
    if let (Some(stage), Some(attempt)) = (&mut ctx.route, &ctx.attempt)
        && let (Some(scope), Some(hold)) = (stage.scope, &attempt.hold)
        && attempt.status.is_some_and(|status| status < 300)
        && let Some(place) = stage.plan.remembered(attempt.index, hold)
    {
        stage.scope = None;
        metrics::stayed(gateway.affinities.keep(scope, place, Instant::now()));
    }
}

/// Pingora's `logging`.
pub async fn execute(gateway: &Gateway, session: &mut Session, error: Option<&Error>, ctx: &mut RequestContext) {
    remember(gateway, ctx);
    estimated::count(ctx).await;
    let concluded = match conclude(gateway, ctx, error) {
        Some((concluded, _)) => Some(concluded),
        None => ctx.attempt.as_mut().and_then(|attempt| attempt.concluded.take()),
    };
    ctx.books.admission = None;
    if let Some(gate) = &ctx.gate {
        gate.unwrap(&mut session.downstream_session);
    }
    let status = session.response_written().map_or(0, |header| header.status.as_u16());
    let total = ctx.began.elapsed();
    let ended = match &concluded {
        Some(concluded) => concluded.ended.as_str(),
        None if error.is_some() && ctx.refusal.is_none() => Ended::ClientGone.as_str(),
        None if ctx.refusal.is_some() => "refused",
        None => "local",
    };
    metrics::request_ended(ctx, status, ended);

    let request = session.req_header();
    let attempt = ctx.attempt.as_ref();
    let target = ctx.client.target.as_ref();
    let group = ctx.client.grant.as_ref().and_then(|grant| grant.group.as_ref());
    gateway.access_log.write(&Line {
        time: &rfc3339(ctx.at),
        request_id: &ctx.client.request_id.0,
        client: ctx.client.address,
        key: ctx.client.grant.as_ref().map_or("", |grant| &grant.key.id.0),
        group: group.map_or("", |group| &group.id.0),
        method: request.method.as_str(),
        path: &printable(request.uri.path(), MAX_PATH),
        http: match request.version {
            Version::HTTP_2 => "2",
            Version::HTTP_10 => "1.0",
            _ => "1.1",
        },
        dialect: target.map_or("", |target| target.dialect.id().as_str()),
        operation: target.map_or(if attempt.is_some() { "passthrough" } else { "" }, |target| {
            target.operation.as_str()
        }),
        model: &printable(ctx.client.peek.as_ref().map_or("", |peek| &peek.model), MAX_PATH),
        provider: attempt.map_or("", |attempt| &attempt.pool.provider.name),
        credential: attempt
            .and_then(|attempt| attempt.credential.as_ref())
            .map_or("", |credential| &credential.name),
        upstream_model: attempt.map_or("", |attempt| &attempt.model),
        status,
        attempts: u32::from(ctx.attempts),
        stream: ctx.wants_stream(),
        ended,
        error: ctx
            .refusal
            .as_ref()
            .and_then(|refusal| refusal.code.as_deref())
            .unwrap_or(""),
        input_tokens: concluded.as_ref().and_then(|concluded| concluded.input_tokens),
        output_tokens: concluded.as_ref().and_then(|concluded| concluded.output_tokens),
        cost_usd: ctx.books.cost.map(|cost| cost.to_string()),
        charge_usd: (ctx.attempts > 0).then(|| ctx.books.charge.to_string()),
        estimated: ctx.books.estimated,
        loss: &ctx.loss,
        request_bytes: ctx.client.body_bytes,
        response_bytes: ctx.response.sent,
        first_byte_us: ctx.response.first_byte.map(micros),
        total_us: micros(total),
        overhead_us: ctx.route.as_ref().map_or(0, |stage| micros(stage.overhead)),
    });
}
