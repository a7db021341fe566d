//! Why a request may not go on, in terms a client can act on.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;

use super::account::AccountId;
use super::policy::Window;

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
    /// Money.
    Money,
}

impl Unit {
    /// Its name in messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
            Unit::Money => "money",
        }
    }
}

/// Why a request may not go on now. Always 429. If several limits are in its way, this is the one that stays there longest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Whose limit.
    pub account: AccountId,
    /// Which.
    pub limit: Limit,
    /// What the request asks of it: requests, tokens or nano-dollars; at most all that the limit is for minutes.
    pub needed: u64,
    /// What is left of it for this request, in the same unit. Of [`Limit::Reserved`] what nobody holds; of [`Limit::TooLarge`]
    /// all that is not used: with less than this the request fits as soon as nobody holds anything.
    pub left: u64,
    /// When it is worth trying again; `None`: never, as far as we know (a budget for good, a limit of zero).
    pub retry_after: Option<Duration>,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Limit {
    /// In any minute.
    Minute(Unit),
    /// At once.
    Concurrent,
    /// A budget is used up: everything is refused until its window ends.
    Budget(Window, Unit),
    /// A budget is not used up, but has less left than this request may need, even if every other one gave back what it holds. A
    /// smaller one (`max_tokens`) fits; the same one does not before the window ends.
    TooLarge(Window, Unit),
    /// A budget has enough left for this request, but requests under way hold it: they give back what they don't use.
    Reserved(Window, Unit),
}

impl Limit {
    /// Whoever waits can get in earlier than `retry_after` says, because others give something back.
    pub(super) fn is_given_back(self) -> bool {
        matches!(
            self,
            Limit::Concurrent | Limit::Reserved(..) | Limit::Minute(Unit::Tokens)
        )
    }
}

impl Refused {
    /// Can it pass within `wait`?
    pub(super) fn may_pass_within(&self, wait: Duration) -> bool {
        match self.retry_after {
            None => false,
            Some(_) if self.limit.is_given_back() => true,
            Some(after) => after <= wait,
        }
    }
}

/// An amount in its unit.
struct Amount(u64, Unit);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Unit::Money => write!(f, "{} USD", NanoUsd(self.0)),
            unit => write!(f, "{} {}", self.0, unit.as_str()),
        }
    }
}

/// A sentence for the client: whose limit, which, what is left, what helps. Without the waiting time, which has a header.
impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refused {
            account, needed, left, ..
        } = self;
        match self.limit {
            Limit::Minute(unit) => write!(
                f,
                "{account} has reached its limit of {} per minute: {left} left, {needed} needed",
                unit.as_str()
            ),
            Limit::Concurrent => write!(f, "{account} has as many requests under way as it may"),
            Limit::Budget(window, unit) => {
                write!(
                    f,
                    "{account} has used up its budget of {} {}",
                    unit.as_str(),
                    of(window)
                )
            }
            Limit::TooLarge(window, unit) => write!(
                f,
                "{account} has {} left of its budget {}, and this request may need {}: make it smaller (a shorter prompt, a \
                 lower limit of output tokens)",
                Amount(*left, unit),
                of(window),
                Amount(*needed, unit),
            ),
            Limit::Reserved(window, unit) => write!(
                f,
                "{account} has {} left of its budget {} that no request under way holds, and this request may need {}: try \
                 again soon",
                Amount(*left, unit),
                of(window),
                Amount(*needed, unit),
            ),
        }
    }
}

fn of(window: Window) -> &'static str {
    match window {
        Window::Day => "of the day",
        Window::Week => "of the week",
        Window::Month => "of the month",
        Window::Total => "in total",
    }
}
