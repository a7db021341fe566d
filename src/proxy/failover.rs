//! What may follow a failure upstream: another attempt, as long as nothing went to the client and the provider can't have
//! begun to work on the request; else the end.

use pingora::{Error, ErrorSource};

use super::Gateway;
use super::context::RequestContext;
use super::logging;

/// Pingora's `fail_to_connect`: nothing was sent, so any request may be tried again.
pub fn after_connect_failure(gateway: &Gateway, ctx: &mut RequestContext, mut error: Box<Error>) -> Box<Error> {
    let retry = may_try_again(gateway, ctx);
    if retry {
        logging::conclude(ctx, Some(&error));
    }
    error.set_retry(retry);
    error
}

/// Pingora's `error_while_proxy`: only a pooled connection that turned out to be dead may be tried again, as no byte of an
/// answer came on it (its default refuses every POST).
pub fn after_failure(gateway: &Gateway, ctx: &mut RequestContext, mut error: Box<Error>, reused: bool) -> Box<Error> {
    let untouched = ctx.gate.as_ref().is_some_and(|gate| {
        let held = gate.lock();
        !held.committed && !held.answered && held.expired.is_none()
    });
    let retry = reused && untouched && *error.esource() == ErrorSource::Upstream && may_try_again(gateway, ctx);
    if retry {
        logging::conclude(ctx, Some(&error));
    }
    error.set_retry(retry);
    error
}

fn may_try_again(gateway: &Gateway, ctx: &RequestContext) -> bool {
    let total = ctx
        .gate
        .as_ref()
        .and_then(|gate| gate.lock().clocks)
        .map(|clocks| clocks.total);
    usize::from(ctx.attempts) < gateway.config.limits.attempts
        && total.is_none_or(|total| tokio::time::Instant::now() < total)
}
