//! What follows a failure upstream: the next candidate, as long as nothing of an answer went to the client and the request may
//! be repeated; else the end.
//!
//! The next candidate is found when the one before is judged, and its seat taken: an error answer is thrown away only
//! where another attempt is sure to follow, and otherwise goes to the client as it came.

use std::time::{Duration, Instant};

use pingora::{Error, ErrorSource, ErrorType};

use crate::egress;
use crate::ir::{ApiError, ErrorKind, StreamEnd};
use crate::upstream::Failure;

use super::Gateway;
use super::context::RequestContext;
use super::held::{Expired, Held};
use super::{abort, logging, metrics, refuse};

/// Pingora's `fail_to_connect`: nothing was sent, so any request may be tried again.
pub fn after_connect_failure(gateway: &Gateway, ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    if let Some(attempt) = &ctx.attempt
        && let Some(dial) = attempt.dial
    {
        let way = attempt.endpoint.way(attempt.credential.as_deref());
        attempt
            .endpoint
            .dialled(way, dial, Err(egress::side(&error)), Instant::now());
        if let Some(stage) = &mut ctx.route {
            stage.tried.push(dial.pin.unwrap_or(dial.address));
        }
    }
    let failure = match egress::failed_at_tls(&error) {
        true => Failure::Tls,
        false => Failure::Connect,
    };
    let retry = follow(gateway, ctx, failure);
    if retry {
        ctx.theirs = false;
        ctx.last_failure = Some(refuse::describe(&error, None));
        logging::conclude(gateway, ctx, Some(&error));
    }
    error.set_retry(retry);
    error
}

/// A pooled connection that was dead shows it at once. One that breaks later may have carried the request: who knows what became of
/// it.
const DEAD_WITHIN: Duration = Duration::from_secs(1);

/// Pingora's `error_while_proxy` (whose default refuses every POST).
pub fn after_failure(gateway: &Gateway, ctx: &mut RequestContext, mut error: Box<Error>, reused: bool) -> Box<Error> {
    error.retry.decide_reuse(reused);
    let h2 = matches!(
        error.etype(),
        ErrorType::H2Error | ErrorType::InvalidH2 | ErrorType::H2Downgrade
    );
    let young = ctx
        .attempt
        .as_ref()
        .is_some_and(|attempt| attempt.began.elapsed() < DEAD_WITHIN);
    // Of a stream among others Pingora knows whether the provider refused it unseen (GOAWAY, REFUSED_STREAM).
    let dead = reused && young && (error.retry() || !h2);
    let retry = may_follow(gateway, ctx, &error, dead);
    if retry {
        let expired = ctx.gate.as_ref().and_then(|gate| gate.lock().expired);
        let told = ctx.gate.as_ref().and_then(|gate| gate.lock().reported());
        let failure = ctx.attempt.as_ref().and_then(|attempt| attempt.failure);
        let own = failure.and_then(|failure| ours(ctx, failure));
        ctx.theirs = own.is_none() && told.is_some();
        ctx.last_failure = Some(own.or(told).unwrap_or_else(|| refuse::describe(&error, expired)));
        logging::conclude(gateway, ctx, Some(&error));
    }
    error.set_retry(retry);
    error
}

fn may_follow(gateway: &Gateway, ctx: &mut RequestContext, error: &Error, dead: bool) -> bool {
    if abort::drains(ctx) {
        return false;
    }
    if ctx.route.as_ref().is_some_and(|stage| stage.next.is_some()) {
        return true;
    }
    if ctx.response.estimate || ctx.refusal.is_some() {
        return false;
    }
    let Some(gate) = &ctx.gate else { return false };
    let failure = {
        let held = gate.lock();
        if held.committed || *error.esource() == ErrorSource::Downstream && held.expired.is_none() {
            return false;
        }
        match held.expired {
            Some(Expired::Total | Expired::Ending) => return false,
            Some(Expired::FirstByte) => Failure::FirstByte,
            Some(Expired::Idle | Expired::Pace) => Failure::Slow,
            None if held.judge || held.failure().is_some() || held.is_cut() => match judge(&held, status(ctx), true) {
                Some(failure) => failure,
                None => return false,
            },
            None if *error.esource() != ErrorSource::Upstream => return false,
            None if dead && !held.answered => Failure::DeadConnection,
            None => Failure::Broke,
        }
    };
    if ctx.attempt.as_ref().is_some_and(|attempt| attempt.failure.is_some()) {
        // Judged before, and nothing could follow.
        return false;
    }
    follow(gateway, ctx, failure)
}

fn status(ctx: &RequestContext) -> u16 {
    ctx.attempt.as_ref().and_then(|attempt| attempt.status).unwrap_or(0)
}

/// How the answer of an attempt failed, as far as can be told by now; `None`: it did not (yet). `end`: it is over.
pub fn judge(held: &Held, status: u16, end: bool) -> Option<Failure> {
    let answer = held.answer.as_ref()?;
    let meter = answer.meter();
    if status >= 400 {
        return end.then(|| match &meter.error {
            Some(error) => Failure::of(status, error),
            None => Failure::of_status(status),
        });
    }
    if let Some(error) = &meter.error {
        return Some(Failure::of(200, error));
    }
    if answer.failure().is_some() {
        return Some(Failure::Unreadable);
    }
    (end && held.ended == Some(StreamEnd::Truncated)).then_some(Failure::Broke)
}

/// Looks for the next attempt after this failure, and takes its seat. False: none can follow.
pub fn follow(gateway: &Gateway, ctx: &mut RequestContext, failure: Failure) -> bool {
    let Some(attempt) = &mut ctx.attempt else { return false };
    attempt.failure = Some(failure);
    let index = attempt.index;
    // Before the choice: its credential may be the next one too, and must not count as taken by this attempt.
    logging::settle(gateway, ctx);
    let Some(attempt) = &ctx.attempt else { return false };
    let Some(gate) = &ctx.gate else { return false };
    let (committed, in_time) = {
        let held = gate.lock();
        let total = held.clocks.map(|clocks| clocks.total);
        (
            held.committed,
            total.is_none_or(|total| tokio::time::Instant::now() < total),
        )
    };
    let once = ctx.client.peek.as_ref().is_some_and(|peek| peek.outline.once);
    let repeatable = !once || failure.is_untouched();
    let Some(stage) = &mut ctx.route else { return false };
    let most = stage
        .plan
        .route
        .as_ref()
        .and_then(|route| route.attempts)
        .map(usize::from);
    let most = most.unwrap_or(gateway.config.limits.attempts);
    if committed || !in_time || !repeatable || usize::from(ctx.attempts) >= most || !stage.plan.failed(index, failure) {
        return false;
    }
    let now = Instant::now();
    // Before the choice, which takes a turn of whoever is next: it would be lost, and the failing one first again.
    if !gateway.budget.withdraw(now) {
        return false;
    }
    let Ok(choice) = stage.plan.next(now) else {
        gateway.budget.give_back();
        return false;
    };
    metrics::failed_over(&attempt.pool.provider.name, failure);
    stage.next = Some(choice);
    true
}

/// What a client gets instead of half an answer, of which nothing went out and none can follow; `None`: the answer is whole, or a stream
/// that began, whose end says so itself.
pub fn cut(held: &Held) -> Option<ApiError> {
    held.is_cut().then(|| {
        ApiError::new(ErrorKind::Api, "the provider's answer broke off")
            .status(502)
            .code("upstream_answer_unreadable")
    })
}

/// An attempt failed for a fault of our own credential, and none can follow: what the client is told. It must not take the
/// provider's 401 for one of its own key.
pub fn ours(ctx: &RequestContext, failure: Failure) -> Option<ApiError> {
    let attempt = ctx.attempt.as_ref()?;
    attempt.credential.as_ref()?;
    // Google's providers say 400 of a key that is none.
    let status = attempt.status.filter(|status| matches!(status, 400..=403))?;
    let is_ours = failure.is_ours() && (status != 400 || failure == Failure::Unauthorised);
    is_ours.then(|| {
        let provider = &attempt.pool.provider.name;
        let message = format!(
            "none of our credentials for this model can be used: the provider `{provider}` refused ours ({status})"
        );
        ApiError::new(ErrorKind::UpstreamCredentialsExhausted, message).code("upstream_credentials_exhausted")
    })
}
