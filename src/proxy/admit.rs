//! Admission to a client's own limits: a request enters, and each attempt reserves what it may use at most. What is refused here
//! is told with whose limit it is, what is left of it, and whether waiting helps.

use std::time::{Duration, Instant};

use pingora::proxy::Session;

use crate::clock::UnixMicros;
use crate::ir::{ApiError, ErrorKind};
use crate::keys::Grant;
use crate::limits::{Account, Estimate, Limit, Refused, Reservation, Spent, Unit, Window};
use crate::money::NanoUsd;

use super::Gateway;
use super::context::RequestContext;
use super::metrics;
use super::prepare::internal;
use super::request_filter::Stop;

/// How long a client is told to wait for room that comes back when some other request ends.
const SOON: Duration = Duration::from_secs(1);

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
        grant.chain.enter(at, now)
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
        Err(refused) => Err(refuse(ctx, &grant, &refused, Estimate::default(), at).into()),
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

/// Reserves for the attempt that follows. Only the first waits for room: a later one is tried at once or not at all. `None`: nobody's
/// account.
pub(super) async fn reserve(
    ctx: &mut RequestContext,
    estimate: Estimate,
    first: bool,
    at: UnixMicros,
) -> Result<Option<Reservation>, ApiError> {
    let Some(grant) = ctx.client.grant.clone() else {
        return Ok(None);
    };
    let Some(admission) = &ctx.books.admission else {
        // It was given back with the end of an answer, which no attempt follows.
        return Err(internal());
    };
    let now = Instant::now();
    let left = ctx.books.patience.filter(|_| first);
    let left = left.map_or(Duration::ZERO, |until| until.saturating_duration_since(now));
    let reserved = if left.is_zero() {
        admission.reserve(estimate, first, at, now)
    } else {
        admission.reserve_within(left, estimate, first, at, now).await
    };
    reserved
        .map(Some)
        .map_err(|refused| refuse(ctx, &grant, &refused, estimate, at))
}

fn refuse(ctx: &mut RequestContext, grant: &Grant, refused: &Refused, estimate: Estimate, at: UnixMicros) -> ApiError {
    let group = grant.chain.group().filter(|group| group.id() == &refused.account);
    let account = group.unwrap_or_else(|| grant.chain.key());
    metrics::limited(refused.limit, group.is_some());
    let whose = match (&grant.group, group) {
        (Some(named), Some(_)) => format!("this key's group `{}`", named.id.0),
        _ => "this key".to_owned(),
    };
    let told = Told::of(account, refused, estimate, at, &whose);
    ctx.futile = told.futile;
    let (kind, code) = if told.spent {
        (ErrorKind::InsufficientQuota, "insufficient_quota")
    } else {
        (ErrorKind::RateLimit, "rate_limit_exceeded")
    };
    let error = ApiError::new(kind, told.message).code(code);
    match told.wait {
        Some(wait) => error.retry_after(
            u32::try_from(wait.as_millis().div_ceil(1000))
                .unwrap_or(u32::MAX)
                .max(1),
        ),
        None => error,
    }
}

/// What a client is told.
struct Told {
    message: String,
    /// A budget is used up, or too small.
    spent: bool,
    /// Trying again soon does not help.
    futile: bool,
    /// When it is worth trying again.
    wait: Option<Duration>,
}

impl Told {
    fn of(account: &Account, refused: &Refused, estimate: Estimate, at: UnixMicros, whose: &str) -> Self {
        let limits = account.limits();
        let wait = refused.retry_after;
        let again = wait.map_or(String::new(), |wait| format!("; try again in {}", span(wait)));
        let limited = |message: String, futile| Told {
            message,
            spent: false,
            futile,
            wait,
        };
        match refused.limit {
            Limit::Minute(unit) => {
                let limit = match unit {
                    Unit::Tokens => limits.tokens_per_minute,
                    Unit::Requests | Unit::Money => limits.requests_per_minute,
                };
                let asked = match unit {
                    Unit::Tokens => format!(" (this request is estimated at {})", estimate.tokens),
                    Unit::Requests | Unit::Money => String::new(),
                };
                let limit = amount(unit, limit.unwrap_or(0));
                let message = format!("{whose} may use {limit} in any minute{asked}{again}");
                limited(message, wait.is_none())
            }
            Limit::Concurrent => {
                let most = limits.concurrent.unwrap_or(0);
                let message = format!(
                    "{whose} may have {most} requests under way at once, and has them; try again when one has ended"
                );
                Told {
                    wait: wait.or((most > 0).then_some(SOON)),
                    ..limited(message, most == 0)
                }
            }
            Limit::Budget(window, unit) | Limit::Reserved(window, unit) => {
                let budget = Budget::of(account, window, unit, at);
                let (limit, of_window) = (amount(unit, budget.limit), of(window));
                let left = amount(unit, budget.left);
                let anew = match wait {
                    Some(wait) if window != Window::Total => format!("; it begins anew in {}", span(wait)),
                    _ => String::new(),
                };
                let need = match unit {
                    Unit::Requests => 1,
                    Unit::Tokens => estimate.most_tokens,
                    Unit::Money => estimate.money.0,
                };
                let spent = |message| Told {
                    message,
                    spent: true,
                    futile: true,
                    wait,
                };
                if matches!(refused.limit, Limit::Budget(..)) || budget.left == 0 {
                    spent(format!("{whose} has used up its budget of {limit}{of_window}{anew}"))
                } else if need > budget.left {
                    let need = amount(unit, need);
                    spent(format!(
                        "this request may need up to {need}, and of the budget of {whose} ({limit}{of_window}) {left} \
                         is left: ask for a shorter answer, with a shorter prompt{anew}"
                    ))
                } else {
                    Told {
                        wait: Some(SOON),
                        ..limited(
                            format!(
                                "what is left of the budget of {whose} ({left} of {limit}{of_window}) is reserved by \
                                 requests under way; try again when one has ended"
                            ),
                            false,
                        )
                    }
                }
            }
        }
    }
}

/// A budget, and what is left of it, reservations aside.
struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    fn of(account: &Account, window: Window, unit: Unit, at: UnixMicros) -> Self {
        let limits = account.limits();
        let budget = limits.budgets.iter().find(|budget| budget.window == window);
        let place = Window::ALL.iter().position(|each| *each == window).unwrap_or(0);
        let used = account
            .balance(at)
            .0
            .get(place)
            .map_or(Spent::default(), |used| used.spent);
        let (limit, used) = match unit {
            Unit::Requests => (budget.and_then(|budget| budget.requests), used.requests),
            Unit::Tokens => (budget.and_then(|budget| budget.tokens), used.tokens),
            Unit::Money => (
                budget.and_then(|budget| budget.money).map(|money| money.0),
                used.charge.0,
            ),
        };
        let limit = limit.unwrap_or(0);
        Budget {
            limit,
            left: limit.saturating_sub(used),
        }
    }
}

fn amount(unit: Unit, number: u64) -> String {
    match unit {
        Unit::Requests if number == 1 => "1 request".to_owned(),
        Unit::Requests => format!("{number} requests"),
        Unit::Tokens => format!("{number} tokens"),
        Unit::Money => format!("${}", NanoUsd(number)),
    }
}

const fn of(window: Window) -> &'static str {
    match window {
        Window::Day => " a day",
        Window::Week => " a week",
        Window::Month => " a month",
        Window::Total => " in total",
    }
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

    #[test]
    fn amounts_have_their_unit() {
        assert_eq!(amount(Unit::Money, 320_000_000), "$0.32");
        assert_eq!(amount(Unit::Requests, 1), "1 request");
        assert_eq!(amount(Unit::Tokens, 1000), "1000 tokens");
    }
}
