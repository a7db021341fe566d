//! Admission: a request enters, each of its attempts reserves, what was used is settled; all of it over the key's account and its
//! group's as one, and given back by whatever path it ends (HARDENING B1, B2).

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::money::NanoUsd;

use super::account::Account;
use super::balance::Spent;
use super::handover::{NotGranted, Owner, Parties, Returned};
use super::metrics;
use super::queue::{self, Line};
use super::state::{Amounts, Denied, SOON, State, Ticket};

pub use super::refused::{Limit, Refused, Unit};

/// The accounts a request is charged to: its key's, then its group's. Locks are always taken in this order.
#[derive(Clone)]
pub struct Chain {
    key: Arc<Account>,
    group: Option<Arc<Account>>,
}

/// What an attempt may use at most, and what it will probably use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why it does not go on.
#[derive(Debug)]
pub(super) enum Barred {
    /// A limit.
    Limit(Refused),
    /// Another process has the accounts.
    HandedOver,
}

/// How often another process is asked that turns out to be gone: then this one has the accounts again.
const ASKED_MOST: u32 = 2;

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

    fn is_handed_over(&self) -> bool {
        // They are handed over one by one: one is enough, as both would be asked there.
        self.key.is_handed_over() || self.group.as_ref().is_some_and(|group| group.is_handed_over())
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
    /// already. `at` and `now` are the same moment by both clocks. Where another process has the accounts it is refused for a second:
    /// [`Chain::enter_within`] asks that one.
    pub fn enter(&self, at: UnixMicros, now: Instant) -> Result<Admission, Refused> {
        self.try_enter(at, now)
            .map_err(|barred| self.refusal(barred))
            .inspect_err(count)
    }

    fn refusal(&self, barred: Barred) -> Refused {
        match barred {
            Barred::Limit(refused) => refused,
            Barred::HandedOver => Refused {
                account: self.key.id().clone(),
                limit: Limit::Concurrent,
                needed: 1,
                left: 0,
                retry_after: Some(SOON),
            },
        }
    }

    fn parties(&self) -> Parties {
        Parties {
            key: self.key.id().clone(),
            group: self.group.as_ref().map(|group| group.id().clone()),
        }
    }

    fn try_enter(&self, at: UnixMicros, now: Instant) -> Result<Admission, Barred> {
        let mut locked = self.lock();
        if locked.is_handed_over() {
            return Err(Barred::HandedOver);
        }
        let at = locked.turn(at, now);
        if let Some(barred) = locked.bars(|state| state.bars_entering(at, now)) {
            drop(locked);
            return Err(Barred::Limit(self.refused(barred)));
        }
        let key = locked.key.enter();
        let group = locked.group.as_mut().and_then(|group| group.enter());
        Ok(Admission {
            chain: self.clone(),
            seconds: Mutex::new([key, group]),
            elsewhere: None,
            counted: true,
        })
    }

    /// The same, but waits up to `wait` for room where room may come within it, behind those who came earlier. At most
    /// [`MAX_WAITING`] wait at one account; a further one is refused at once. May be dropped at any time.
    pub async fn enter_within(&self, wait: Duration, at: UnixMicros, now: Instant) -> Result<Admission, Refused> {
        let asked = Instant::now();
        for _ in 0..ASKED_MOST {
            let ask = |at, now| self.try_enter(at, now);
            let got = if wait.is_zero() {
                ask(at, now)
            } else {
                queue::within(self, Line::Enter, wait, (at, now), ask).await
            };
            match got {
                Ok(admission) => return Ok(admission),
                Err(Barred::Limit(refused)) => {
                    count(&refused);
                    return Err(refused);
                }
                Err(Barred::HandedOver) => {}
            }
            let Some(owner) = self.key.owner.get() else {
                continue; // it came back meanwhile
            };
            match owner.enter(self.parties(), wait.saturating_sub(asked.elapsed())).await {
                Ok(number) => {
                    return Ok(Admission {
                        chain: self.clone(),
                        seconds: Mutex::default(),
                        elsewhere: Some(Elsewhere { owner, number }),
                        counted: true,
                    });
                }
                Err(NotGranted::Refused(refused)) => return Err(refused),
                Err(NotGranted::Gone) => {}
            }
        }
        Err(self.refusal(Barred::HandedOver))
    }
}

/// What another process keeps for us.
struct Elsewhere {
    owner: Arc<dyn Owner>,
    number: u64,
}

fn count(refused: &Refused) {
    metrics::refused(&refused.account, refused.limit);
}

/// A request under way: counted until dropped.
pub struct Admission {
    chain: Chain,
    /// In which seconds of the minutes of key and group it is counted.
    seconds: Mutex<[Option<u64>; 2]>,
    /// Another process let it in.
    elsewhere: Option<Elsewhere>,
    /// It is counted as under way.
    counted: bool,
}

impl Admission {
    /// For a request that is under way in another process, and counted as such: only to reserve with.
    pub fn of_inherited(chain: Chain) -> Self {
        Admission {
            chain,
            seconds: Mutex::default(),
            elsewhere: None,
            counted: false,
        }
    }

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
        let got = self.try_reserve(estimate, first, at, now, self.elsewhere.is_some());
        got.map_err(|barred| self.chain.refusal(barred))
            .inspect_err(|refused| self.refuse(refused, first))
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
        elsewhere: bool,
    ) -> Result<Reservation, Barred> {
        let amounts = amounts(&estimate, first);
        let mut locked = self.chain.lock();
        if elsewhere || locked.is_handed_over() {
            return Err(Barred::HandedOver);
        }
        let at = locked.turn(at, now);
        if let Some(barred) = locked.bars(|state| state.bars_reserving(amounts, first, estimate.tokens, at, now)) {
            drop(locked);
            return Err(Barred::Limit(self.chain.refused(barred)));
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
            elsewhere: None,
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
        let asked = Instant::now();
        let mut elsewhere = self.elsewhere.as_ref();
        for _ in 0..ASKED_MOST {
            let ask = |at, now| self.try_reserve(estimate, first, at, now, elsewhere.is_some());
            let got = if wait.is_zero() {
                ask(at, now)
            } else {
                queue::within(&self.chain, Line::Reserve, wait, (at, now), ask).await
            };
            match got {
                Ok(reservation) => return Ok(reservation),
                Err(Barred::Limit(refused)) => {
                    self.refuse(&refused, first);
                    return Err(refused);
                }
                Err(Barred::HandedOver) => {}
            }
            let of = self.chain.parties();
            let left = wait.saturating_sub(asked.elapsed());
            let (owner, admission) = match elsewhere {
                Some(Elsewhere { owner, number }) => (owner.clone(), Some(*number)),
                None => match self.chain.key.owner.get() {
                    Some(owner) => (owner, None),
                    None => continue, // it came back meanwhile
                },
            };
            match owner.reserve(of, admission, estimate, first, left).await {
                Ok((number, at)) => {
                    metrics::reserved(1);
                    return Ok(Reservation {
                        chain: self.chain.clone(),
                        at,
                        amounts: amounts(&estimate, first),
                        key: Ticket::default(),
                        group: Ticket::default(),
                        open: true,
                        elsewhere: Some(Elsewhere { owner, number }),
                    });
                }
                Err(NotGranted::Refused(refused)) => return Err(refused),
                Err(NotGranted::Gone) => elsewhere = None,
            }
        }
        Err(self.chain.refusal(Barred::HandedOver))
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
        if let Some(Elsewhere { owner, number }) = &self.elsewhere {
            owner.give_back(Returned::Admission(*number));
            return;
        }
        if !self.counted {
            return;
        }
        for account in self.chain.accounts() {
            if account.leave() {
                account.lines.wake(Line::Enter);
            }
        }
    }
}

fn amounts(estimate: &Estimate, first: bool) -> Amounts {
    [u64::from(first), estimate.most_tokens, estimate.money.0]
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
    /// Another process holds it.
    elsewhere: Option<Elsewhere>,
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

    /// The same where the row was booked already: by the process which read it in another's journal. `tokens`: what it used, which the
    /// minute is corrected by; `None`: it never was.
    pub fn settle_booked(mut self, tokens: Option<u64>) {
        self.give_back(tokens, None);
    }

    fn close(&mut self, spent: Option<Spent>) {
        self.give_back(spent.map(|spent| spent.tokens), spent);
    }

    /// `tokens`: used, of the minute; `book`: what is entered in the books here.
    fn give_back(&mut self, tokens: Option<u64>, book: Option<Spent>) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        metrics::reserved(-1);
        if let Some(Elsewhere { owner, number }) = &self.elsewhere {
            // Should the accounts come back, they have what was used.
            if let Some(spent) = book {
                self.chain.accounts().for_each(|account| account.book(self.at, spent));
            }
            let number = *number;
            owner.give_back(Returned::Reservation { number, tokens });
            return;
        }
        let used = tokens.unwrap_or_default();
        for (account, ticket) in self.chain.accounts().zip([&self.key, &self.group]) {
            let mut state = account.state.lock();
            state.settle(ticket, self.amounts, used);
            if let Some(spent) = book {
                state.book(self.at, spent);
            }
            let returned = state
                .is_handed_over()
                .then(|| state.settled(account.id(), ticket, self.amounts, used, Instant::now()));
            drop(state);
            match (returned, account.owner.get()) {
                (Some(returned), Some(owner)) => owner.give_back(returned),
                _ => account.lines.wake(Line::Reserve),
            }
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.close(None);
    }
}
