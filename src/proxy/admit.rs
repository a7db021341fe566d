//! Admission to a client's own limits: a request enters, and each attempt reserves what it may use at most. What is refused here
//! is told with whose limit it is, what is left of it, and whether waiting helps.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use pingora::proxy::Session;

use crate::clock::UnixMicros;
use crate::ir::{ApiError, ErrorKind};
use crate::limits::{Estimate, Limit, Refused, Reservation};

use super::context::{RequestContext, RouteStage};
use super::prepare::internal;
use super::request_filter::Stop;
use super::{Gateway, abort};

/// Lets the request in, or refuses it. Where its route has a queue it waits for room, as long as its client does.
pub(super) async fn enter(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<(), Stop> {
    let Some(grant) = ctx.client.grant.clone() else {
        return Ok(());
    };
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    let wait = route.map_or(Duration::ZERO, |route| route.queue);
    let (at, now) = (gateway.clock.now(), Instant::now());
    ctx.books.patience = Some(now + wait);
    let entered = if wait.is_zero() {
        grant.chain.enter_within(wait, at, now).await
    } else {
        tokio::select! {
            biased;
            entered = grant.chain.enter_within(wait, at, now) => entered,
            read = session.as_downstream_mut().read_body_or_idle(true) => return Err(Stop::Gone(gone(read))),
        }
    };
    match entered {
        Ok(admission) => {
            ctx.books.admission = Some(admission);
            Ok(())
        }
        Err(refused) => Err(refuse(ctx, &refused).into()),
    }
}

fn gone(read: pingora::Result<Option<bytes::Bytes>>) -> Box<pingora::Error> {
    match read {
        Err(error) => error,
        Ok(_) => pingora::Error::explain(
            pingora::ErrorType::ConnectionClosed,
            "the client went away while it waited",
        ),
    }
}

/// What an attempt reserved; `None`: nobody's account.
pub(super) type Reserved = Option<Reservation>;

/// Why nothing was reserved.
pub(super) enum NoRoom {
    /// The client is told so.
    Refused(ApiError),
    /// The client is gone.
    Gone,
}

/// Reserves for the attempt that follows. Only the first waits for room: a later one is tried at once or not at all. Before it waits, it
/// calls `before_waiting`, and it waits only as long as the client does.
pub(super) async fn reserve(
    session: &mut Session,
    ctx: &mut RequestContext,
    estimate: Estimate,
    at: UnixMicros,
    before_waiting: impl FnOnce(&mut RouteStage),
) -> Result<Reserved, NoRoom> {
    if ctx.client.grant.is_none() {
        return Ok(None);
    }
    let Some(admission) = &ctx.books.admission else {
        // It was given back with the end of an answer, which no attempt follows.
        return Err(NoRoom::Refused(internal()));
    };
    let (now, first) = (Instant::now(), ctx.attempts == 0);
    let left = ctx.books.patience.filter(|_| first);
    let left = left.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
    let reserved = if left.is_zero() {
        admission.reserve_within(left, estimate, first, at, now).await
    } else {
        let mut reserving = pin!(admission.reserve_within(left, estimate, first, at, now));
        match poll_fn(|context| Poll::Ready(reserving.as_mut().poll(context))).await {
            Poll::Ready(reserved) => reserved,
            Poll::Pending => {
                if let Some(stage) = &mut ctx.route {
                    before_waiting(stage);
                }
                tokio::select! {
                    biased;
                    reserved = reserving => reserved,
                    () = abort::leaves(session, ctx.gate.as_ref()) => return Err(NoRoom::Gone),
                }
            }
        }
    };
    reserved
        .map(Some)
        .map_err(|refused| NoRoom::Refused(refuse(ctx, &refused)))
}

/// What the client is told. A budget is used up, or has less left than this may need: then trying the same again does not help, and the
/// SDKs are told so.
fn refuse(ctx: &mut RequestContext, refused: &Refused) -> ApiError {
    let (kind, code) = match refused.limit {
        Limit::Budget(..) | Limit::TooLarge(..) => (ErrorKind::InsufficientQuota, "insufficient_quota"),
        Limit::Minute(_) | Limit::Concurrent | Limit::Reserved(..) => (ErrorKind::RateLimit, "rate_limit_exceeded"),
    };
    ctx.futile = kind == ErrorKind::InsufficientQuota || refused.retry_after.is_none();
    let Some(wait) = refused.retry_after else {
        return ApiError::new(kind, refused.to_string()).code(code);
    };
    let message = match refused.limit {
        Limit::Budget(..) | Limit::TooLarge(..) => format!("{refused}; the budget begins anew in {}", span(wait)),
        _ => format!("{refused}; try again in {}", span(wait)),
    };
    let mut seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
    if let Limit::Minute(_) = refused.limit {
        // A slot ends at a whole second, so a wait may be 61 s: one more than a minute, which is all that many clients heed.
        seconds = seconds.min(60);
    }
    ApiError::new(kind, message).code(code).retry_after(seconds.max(1))
}

/// `45 s`, `12 min`, `5 h`, `3 days`: rounded up.
fn span(wait: Duration) -> String {
    let seconds = (wait.as_millis().div_ceil(1000) as u64).max(1);
    match seconds {
        0..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds.div_ceil(60)),
        7_200..=172_799 => format!("{} h", seconds.div_ceil(3600)),
        _ => format!("{} days", seconds.div_ceil(86_400)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_are_told_in_the_largest_unit_that_says_enough() {
        let of = |seconds| span(Duration::from_secs(seconds));
        assert_eq!([of(0), of(59), of(119)], ["1 s", "59 s", "119 s"]);
        assert_eq!([of(120), of(3_601), of(7_199)], ["2 min", "61 min", "120 min"]);
        assert_eq!([of(7_200), of(86_400), of(172_800)], ["2 h", "24 h", "2 days"]);
        assert_eq!(span(Duration::from_millis(1)), "1 s");
    }
}
