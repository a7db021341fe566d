//! Admission: a request enters, each of its attempts reserves, what was used is settled; all of it over the key's account and its
//! group's as one, and given back by whatever path it ends (HARDENING B1, B2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

use crate::clock::UnixMicros;
use crate::money::NanoUsd;

use super::account::Account;
use super::balance::Spent;
use super::metrics;
use super::queue::{self, Line};
use super::state::{Amounts, Denied, State, Ticket};

pub use super::refused::{Limit, Refused, Unit};

/// The accounts a request is charged to: its key's, then its group's. Locks are always taken in this order.
#[derive(Clone)]
pub struct Chain {
    key: Arc<Account>,
    group: Option<Arc<Account>>,
}

/// What an attempt may use at most, and what it will probably use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens, prompt and answer, that it will probably use: what a minute's limit is asked for (OpenAI counts likewise). More
    /// than the limit is taken for all of it.
    pub tokens: u64,
    /// Tokens it can use at most: what budgets are asked for.
    pub most_tokens: u64,
    /// What it can be charged at most.
    pub money: NanoUsd,
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

/// Requests that wait for room at one account.
pub const MAX_WAITING: usize = 1024;

/// Both accounts of a chain, locked.
struct Locked<'a> {
    key: MutexGuard<'a, State>,
    group: Option<MutexGuard<'a, State>>,
}

impl Locked<'_> {
    /// What is in the way of it, in the account that is in its way longest; the key's if both are alike.
    fn bars(&self, bars: impl Fn(&State) -> Option<Denied>) -> Option<(Whose, Denied)> {
        let key = bars(&self.key);
        let group = self.group.as_deref().and_then(bars);
        match (key, group) {
            (Some(key), Some(group)) if group.outlasts(&key) => Some((Whose::Group, group)),
            (Some(key), _) => Some((Whose::Key, key)),
            (None, group) => Some((Whose::Group, group?)),
        }
    }

    /// Both are at this moment; gives the time to count it at, which never goes back over the beginning of a window.
    fn turn(&mut self, at: UnixMicros, now: Instant) -> UnixMicros {
        let newest = self.group.as_ref().map_or(at, |group| group.newest().max(at));
        let at = newest.max(self.key.newest());
        self.key.turn(at, now);
        if let Some(group) = &mut self.group {
            group.turn(at, now);
        }
        at
    }
}

#[derive(Clone, Copy)]
enum Whose {
    Key,
    Group,
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
        self.accounts().any(|account| account.bounds_answers())
    }

    /// Prices must be known: something may run out in money.
    pub fn bounds_money(&self) -> bool {
        self.accounts().any(|account| account.bounds_money())
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        std::iter::once(&self.key).chain(&self.group)
    }

    fn lock(&self) -> Locked<'_> {
        let key = self.key.state.lock();
        let group = self.group.as_ref().map(|group| group.state.lock());
        Locked { key, group }
    }

    fn refused(&self, (whose, denied): (Whose, Denied)) -> Refused {
        let account = match (whose, &self.group) {
            (Whose::Group, Some(group)) => group,
            _ => &self.key,
        };
        let Denied {
            limit,
            needed,
            left,
            retry_after,
        } = denied;
        Refused {
            account: account.id().clone(),
            limit,
            needed,
            left,
            retry_after,
        }
    }

    /// A request enters: one more under way, one more this minute. At once or not at all. What is used up is refused here
    /// already. `at` and `now` are the same moment by both clocks.
    pub fn enter(&self, at: UnixMicros, now: Instant) -> Result<Admission, Refused> {
        self.try_enter(at, now).inspect_err(count)
    }

    fn try_enter(&self, at: UnixMicros, now: Instant) -> Result<Admission, Refused> {
        let mut locked = self.lock();
        let at = locked.turn(at, now);
        if let Some(barred) = locked.bars(|state| state.bars_entering(at, now)) {
            drop(locked);
            return Err(self.refused(barred));
        }
        let key = locked.key.enter();
        let group = locked.group.as_mut().and_then(|group| group.enter());
        Ok(Admission {
            chain: self.clone(),
            seconds: Mutex::new([key, group]),
        })
    }

    /// The same, but waits up to `wait` for room where room may come within it, behind those who came earlier. At most
    /// [`MAX_WAITING`] wait at one account; a further one is refused at once. May be dropped at any time.
    pub async fn enter_within(&self, wait: Duration, at: UnixMicros, now: Instant) -> Result<Admission, Refused> {
        let ask = |at, now| self.try_enter(at, now);
        queue::within(self, Line::Enter, wait, (at, now), ask)
            .await
            .inspect_err(count)
    }
}

fn count(refused: &Refused) {
    metrics::refused(&refused.account, refused.limit);
}

/// A request under way: counted until dropped.
pub struct Admission {
    chain: Chain,
    /// In which seconds of the minutes of key and group it is counted.
    seconds: Mutex<[Option<u64>; 2]>,
}

impl Admission {
    /// The accounts it is charged to.
    pub fn chain(&self) -> &Chain {
        &self.chain
    }

    /// Reserves for one attempt. `first`: it is the request's first, which counts it. At once or not at all. `at` and `now` are the
    /// same moment by both clocks, that of the attempt's beginning. A request whose first attempt is refused is none of the minute's:
    /// no provider was asked for it.
    pub fn reserve(
        &self,
        estimate: Estimate,
        first: bool,
        at: UnixMicros,
        now: Instant,
    ) -> Result<Reservation, Refused> {
        let got = self.try_reserve(estimate, first, at, now);
        got.inspect_err(|refused| self.refuse(refused, first))
    }

    fn refuse(&self, refused: &Refused, first: bool) {
        count(refused);
        if !first {
            return;
        }
        let seconds = std::mem::take(&mut *self.seconds.lock());
        for (account, second) in self.chain.accounts().zip(seconds) {
            if let Some(second) = second {
                account.state.lock().uncount(second);
                account.lines.wake(Line::Enter);
            }
        }
    }

    fn try_reserve(
        &self,
        estimate: Estimate,
        first: bool,
        at: UnixMicros,
        now: Instant,
    ) -> Result<Reservation, Refused> {
        let amounts = [u64::from(first), estimate.most_tokens, estimate.money.0];
        let mut locked = self.chain.lock();
        let at = locked.turn(at, now);
        if let Some(barred) = locked.bars(|state| state.bars_reserving(amounts, first, estimate.tokens, at, now)) {
            drop(locked);
            return Err(self.chain.refused(barred));
        }
        let key = locked.key.reserve(amounts, estimate.tokens);
        let group = locked
            .group
            .as_mut()
            .map(|group| group.reserve(amounts, estimate.tokens));
        drop(locked);
        metrics::reserved(1);
        Ok(Reservation {
            chain: self.chain.clone(),
            at,
            amounts,
            key,
            group: group.unwrap_or_default(),
            open: true,
        })
    }

    /// The same, waiting as [`Chain::enter_within`] does. The attempt's beginning is then later than `at`:
    /// [`Reservation::at`] tells.
    pub async fn reserve_within(
        &self,
        wait: Duration,
        estimate: Estimate,
        first: bool,
        at: UnixMicros,
        now: Instant,
    ) -> Result<Reservation, Refused> {
        let ask = |at, now| self.try_reserve(estimate, first, at, now);
        let got = queue::within(&self.chain, Line::Reserve, wait, (at, now), ask).await;
        got.inspect_err(|refused| self.refuse(refused, first))
    }

    /// [`Chain::standing`].
    pub fn standing(&self, now: Instant) -> Standing {
        self.chain.standing(now)
    }
}

impl Chain {
    /// What is left of the minute, for the client's headers: of requests and of tokens the one of key and group that has less
    /// left.
    pub fn standing(&self, now: Instant) -> Standing {
        let tighter = |one: Option<Left>, other: Option<Left>| match (one, other) {
            (Some(one), Some(other)) if (other.remaining, other.limit) < (one.remaining, one.limit) => Some(other),
            (one, other) => one.or(other),
        };
        let mut standing = Standing::default();
        for account in self.accounts() {
            let next = account.state.lock().standing(now);
            standing = Standing {
                requests: tighter(standing.requests, next.requests),
                tokens: tighter(standing.tokens, next.tokens),
            };
        }
        standing
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        for account in self.chain.accounts() {
            account.state.lock().leave();
            account.lines.wake(Line::Enter);
        }
    }
}

/// By how much an attempt used more than it reserved: its bound was none, and a budget may be charged more than it had (HARDENING B2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overshoot {
    /// Tokens.
    pub tokens: u64,
    /// Money.
    pub money: NanoUsd,
}

impl Overshoot {
    /// What was not reserved at all is bounded by nobody, and overshoots nothing.
    fn of([_, tokens, money]: Amounts, spent: Spent) -> Option<Self> {
        let over = |reserved: u64, spent: u64| {
            if reserved > 0 {
                spent.saturating_sub(reserved)
            } else {
                0
            }
        };
        let overshoot = Overshoot {
            tokens: over(tokens, spent.tokens),
            money: NanoUsd(over(money, spent.charge.0)),
        };
        (overshoot != Overshoot::default()).then_some(overshoot)
    }
}

/// What one attempt reserved. Dropped without being settled it is given back whole, as if the attempt had never begun.
pub struct Reservation {
    chain: Chain,
    at: UnixMicros,
    amounts: Amounts,
    key: Ticket,
    group: Ticket,
    open: bool,
}

impl Reservation {
    /// The time its row must carry: the attempt counts in the windows of this moment. It is when it was reserved, but never before
    /// the newest window of its accounts, should the clock have been set back (HARDENING L6).
    pub fn at(&self) -> UnixMicros {
        self.at
    }

    /// What the attempt used in truth takes the place of what it reserved. More than was reserved is booked all the same, counted, and
    /// told.
    pub fn settle(mut self, spent: Spent) -> Option<Overshoot> {
        self.close(Some(spent));
        let overshoot = Overshoot::of(self.amounts, spent)?;
        metrics::overshot(&overshoot);
        Some(overshoot)
    }

    fn close(&mut self, spent: Option<Spent>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        for (account, ticket) in self.chain.accounts().zip([&self.key, &self.group]) {
            account.state.lock().settle(ticket, self.amounts, self.at, spent);
            account.lines.wake(Line::Reserve);
        }
        metrics::reserved(-1);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(None);
    }
}
