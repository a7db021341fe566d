//! What stands under the lock of one account: its books, what requests under way hold of them, and whether more fits.
//!
//! Nothing here allocates or asks a time zone, except when a window ends and when a limit per minute is met for the first time.

use std::time::{Duration, Instant};

use crate::clock::UnixMicros;
use crate::money::NanoUsd;

use super::account::AccountId;
use super::admission::{Left, Standing};
use super::balance::{Balance, Spent};
use super::calendar::{Calendar, Span};
use super::handover::{Held, Inherited, Returned};
use super::minute::{Minute, SLOTS, within};
use super::policy::{Limits, Window};
use super::refused::{Limit, Unit};

/// When it is worth trying again where others have to give something back first: nobody knows.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// Of each [`Unit`], in their order.
pub(super) type Amounts = [u64; 3];

const UNITS: [Unit; 3] = [Unit::Requests, Unit::Tokens, Unit::Money];

/// A limit that is in the way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Denied {
    pub(super) limit: Limit,
    pub(super) needed: u64,
    pub(super) left: u64,
    pub(super) retry_after: Option<Duration>,
}

impl Denied {
    /// Stays in the way longer than the other does.
    pub(super) fn outlasts(&self, other: &Denied) -> bool {
        match (self.retry_after, other.retry_after) {
            (_, None) => false,
            (None, _) => true,
            (Some(this), Some(other)) => this > other,
        }
    }
}

/// The one that stays longer; of two alike the first.
fn worse(one: Option<Denied>, other: Option<Denied>) -> Option<Denied> {
    match (one, other) {
        (Some(one), Some(other)) if other.outlasts(&one) => Some(other),
        (one, other) => one.or(other),
    }
}

/// What a reservation holds of one account, beside the amounts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ticket {
    /// In which turns of the windows.
    turns: [u32; 4],
    /// In which second, and how many tokens of that minute; `None`: tokens per minute were not limited.
    tokens: Option<(u64, u64)>,
}

#[derive(Default)]
pub(super) struct State {
    limits: Limits,
    most: Most,
    books: Books,
    minutes: Option<Box<Minutes>>,
    in_flight: u64,
    /// Another process has the account ([`super::handover`]).
    handed_over: bool,
}

/// The limits, for looking up.
#[derive(Default)]
struct Most {
    requests: Option<u64>,
    tokens: Option<u64>,
    concurrent: Option<u64>,
    /// In the order of [`Window::ALL`]; `None`: no budget there.
    budgets: [Option<[Option<u64>; 3]>; 4],
}

/// What was used, and what is held of the windows that run.
#[derive(Clone, Default)]
pub(super) struct Books {
    calendar: Calendar,
    pub(super) balance: Balance,
    /// Wider than what it is the sum of: it never stops at a largest number, from which nothing could be given back exactly.
    held: [[u128; 3]; 4],
    /// Counts the windows: what was held of one that is over is given back to nobody.
    turns: [u32; 4],
}

struct Minutes {
    origin: Instant,
    requests: Minute,
    tokens: Minute,
}

fn hold(held: &mut [u128; 3], amounts: Amounts) {
    for (held, amount) in held.iter_mut().zip(amounts) {
        *held += u128::from(amount);
    }
}

fn give_back(held: &mut [u128; 3], amounts: Amounts) {
    for (held, amount) in held.iter_mut().zip(amounts) {
        *held = held.saturating_sub(u128::from(amount));
    }
}

impl Spent {
    pub(super) fn amounts(&self) -> Amounts {
        [self.requests, self.tokens, self.charge.0]
    }
}

impl Books {
    fn add(&mut self, at: UnixMicros, spent: Spent) {
        let anew = self.calendar.add_and_tell(&mut self.balance, at, spent);
        for (index, anew) in anew.into_iter().enumerate() {
            if anew {
                self.turns[index] = self.turns[index].wrapping_add(1);
                self.held[index] = [0; 3];
            }
        }
    }

    pub(super) fn spans(&self) -> [Span; 4] {
        self.calendar.spans()
    }

    /// What is held of a window, at most the largest number.
    pub(super) fn held(&self, window: Window) -> Spent {
        let [requests, tokens, money] = self.held[window as usize].map(|held| u64::try_from(held).unwrap_or(u64::MAX));
        Spent {
            requests,
            tokens,
            charge: NanoUsd(money),
        }
    }
}

impl State {
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(super) fn set_limits(&mut self, limits: Limits) {
        if limits.time_zone != self.limits.time_zone {
            self.books.calendar = Calendar::of(&limits);
        }
        let budget = |window| {
            let budget = limits.budget(window)?;
            Some([budget.requests, budget.tokens, budget.money.map(|money| money.0)])
        };
        self.most = Most {
            requests: limits.requests_per_minute,
            tokens: limits.tokens_per_minute,
            concurrent: limits.concurrent.map(u64::from),
            budgets: Window::ALL.map(budget),
        };
        self.limits = limits;
    }

    pub(super) fn restore(&mut self, balance: Balance) {
        self.books.balance = balance;
    }

    /// Adds a row.
    pub(super) fn book(&mut self, at: UnixMicros, spent: Spent) {
        self.books.add(at, spent);
    }

    /// The books as they are at this moment, if nothing happens before.
    pub(super) fn books_at(&self, at: UnixMicros) -> Books {
        let mut books = self.books.clone();
        books.add(at, Spent::NOTHING);
        books
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Since when the newest of its windows runs: no request counts before it, whatever the clock says (HARDENING L6).
    pub(super) fn newest(&self) -> UnixMicros {
        let [day, week, month, _] = self.books.balance.0;
        day.from.max(week.from).max(month.from)
    }

    /// It is now this time, at least [`State::newest`]: to be called before anything is asked for.
    pub(super) fn turn(&mut self, at: UnixMicros, now: Instant) {
        self.books.add(at, Spent::NOTHING);
        if self.minutes.is_none() && (self.most.requests.is_some() || self.most.tokens.is_some()) {
            self.minutes = Some(Box::new(Minutes::new(now)));
        }
        if let Some(minutes) = &mut self.minutes {
            minutes.advance(now);
        }
    }

    /// What keeps a further request out.
    pub(super) fn bars_entering(&self, at: UnixMicros, now: Instant) -> Option<Denied> {
        // Nobody needs to read its body for what is used up.
        let budgets = self.bars_budgets([Some(0); 3], at);
        let minute = self.minutes.as_ref().and_then(|minutes| {
            let limit = self.most.requests?;
            minutes.bars(&minutes.requests, Unit::Requests, 1, limit, now)
        });
        let concurrent = self.most.concurrent.filter(|&most| self.in_flight >= most);
        let concurrent = concurrent.map(|most| Denied {
            limit: Limit::Concurrent,
            needed: 1,
            left: 0,
            retry_after: (most > 0).then_some(SOON),
        });
        worse(worse(budgets, minute), concurrent)
    }

    /// Counts a request; gives the second of the minute it is counted in.
    pub(super) fn enter(&mut self) -> Option<u64> {
        self.in_flight += 1;
        let minutes = self.minutes.as_mut()?;
        minutes.requests.add(1);
        Some(minutes.requests.second())
    }

    /// A request that was counted in this second counts in no minute any more.
    pub(super) fn uncount(&mut self, second: u64) {
        if let Some(minutes) = &mut self.minutes {
            minutes.requests.correct(second, 1, 0);
        }
    }

    /// A request is over; true: another process has to be told.
    pub(super) fn leave(&mut self) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.handed_over
    }

    /// What keeps an attempt from reserving. `first`: it counts its request.
    pub(super) fn bars_reserving(
        &self,
        amounts: Amounts,
        first: bool,
        tokens: u64,
        at: UnixMicros,
        now: Instant,
    ) -> Option<Denied> {
        // A further attempt of the request that was the last one allowed is not one more.
        let [requests, most_tokens, money] = amounts;
        let budgets = self.bars_budgets([first.then_some(requests), Some(most_tokens), Some(money)], at);
        let minute = self.minutes.as_ref().and_then(|minutes| {
            let limit = self.most.tokens?;
            minutes.bars(&minutes.tokens, Unit::Tokens, within(tokens, limit), limit, now)
        });
        worse(budgets, minute)
    }

    pub(super) fn reserve(&mut self, amounts: Amounts, tokens: u64) -> Ticket {
        for held in &mut self.books.held {
            hold(held, amounts);
        }
        let tokens = self.minutes.as_mut().zip(self.most.tokens).map(|(minutes, limit)| {
            let tokens = within(tokens, limit);
            minutes.tokens.add(tokens);
            (minutes.tokens.second(), tokens)
        });
        Ticket {
            turns: self.books.turns,
            tokens,
        }
    }

    /// Gives back what was held; `used`: tokens that count in the minute instead. What was used in all is booked apart ([`State::book`]).
    pub(super) fn settle(&mut self, ticket: &Ticket, amounts: Amounts, used: u64) {
        let books = &mut self.books;
        for ((held, turn), was) in books.held.iter_mut().zip(books.turns).zip(ticket.turns) {
            if turn == was {
                give_back(held, amounts);
            }
        }
        if let (Some(minutes), Some((second, tokens))) = (&mut self.minutes, ticket.tokens) {
            minutes.tokens.correct(second, tokens, used);
        }
    }

    /// `wants`: `None` of what is not asked for. The rule of every budget: used up is used up; what is not lets pass what
    /// fits beside what is held.
    fn bars_budgets(&self, wants: [Option<u64>; 3], at: UnixMicros) -> Option<Denied> {
        let mut worst = None;
        for (index, window) in Window::ALL.into_iter().enumerate() {
            let Some(limits) = self.most.budgets[index] else {
                continue;
            };
            let spent = self.books.balance.0[index].spent.amounts();
            for (which, unit) in UNITS.into_iter().enumerate() {
                let (Some(most), Some(needed)) = (limits[which], wants[which]) else {
                    continue;
                };
                let left = most.saturating_sub(spent[which]);
                let free = u128::from(left).saturating_sub(self.books.held[index][which]);
                let free = u64::try_from(free).unwrap_or(u64::MAX);
                let (limit, left, retry_after) = if left == 0 {
                    let next = self.until_next(window, at).filter(|_| most > 0);
                    (Limit::Budget(window, unit), 0, next)
                } else if needed > left {
                    let next = self.until_next(window, at).filter(|_| needed <= most);
                    (Limit::TooLarge(window, unit), left, next)
                } else if needed > free {
                    (Limit::Reserved(window, unit), free, Some(SOON))
                } else {
                    continue;
                };
                let denied = Denied {
                    limit,
                    needed,
                    left,
                    retry_after,
                };
                worst = worse(worst, Some(denied));
            }
        }
        worst
    }

    fn until_next(&self, window: Window, at: UnixMicros) -> Option<Duration> {
        if window == Window::Total {
            return None;
        }
        let to = self.books.spans()[window as usize].to;
        let micros = u64::try_from(to.0.saturating_sub(at.0)).unwrap_or_default();
        Some(Duration::from_micros(micros))
    }

    /// What is left of the minute.
    pub(super) fn standing(&mut self, now: Instant) -> Standing {
        if let Some(minutes) = &mut self.minutes {
            minutes.advance(now);
        }
        let minutes = self.minutes.as_deref();
        let left = |limit: Option<u64>, minute: fn(&Minutes) -> &Minute| {
            let limit = limit?;
            Some(Left {
                limit,
                remaining: limit.saturating_sub(minutes.map_or(0, |minutes| minute(minutes).sum())),
                reset: minutes.map_or(Duration::ZERO, |minutes| minutes.until(minute(minutes).empties(), now)),
            })
        };
        Standing {
            requests: left(self.most.requests, |minutes| &minutes.requests),
            tokens: left(self.most.tokens, |minutes| &minutes.tokens),
        }
    }
}

/// What another process has, or had.
impl State {
    pub(super) fn is_handed_over(&self) -> bool {
        self.handed_over
    }

    /// Another process has it from the beginning.
    pub(super) fn begin_handed_over(&mut self) {
        self.handed_over = true;
    }

    /// Another process has it from now on; what that one has to know, if there is anything.
    pub(super) fn hand_over(&mut self, account: &AccountId, now: Instant) -> Option<Inherited> {
        self.handed_over = true;
        if let Some(minutes) = &mut self.minutes {
            minutes.advance(now);
        }
        let minute = |which: fn(&Minutes) -> &Minute| {
            let minutes = self.minutes.as_deref();
            minutes.map_or_else(Vec::new, |minutes| which(minutes).by_age())
        };
        let inherited = Inherited {
            account: account.clone(),
            in_flight: self.in_flight,
            held: std::array::from_fn(|index| Held {
                from: self.books.balance.0[index].from,
                amounts: self.books.held[index].map(|held| u64::try_from(held).unwrap_or(u64::MAX)),
            }),
            requests: minute(|minutes| &minutes.requests),
            tokens: minute(|minutes| &minutes.tokens),
        };
        let Inherited {
            in_flight,
            held,
            requests,
            tokens,
            ..
        } = &inherited;
        let is_something = *in_flight > 0
            || held.iter().any(|held| held.amounts != [0; 3])
            || !(requests.is_empty() && tokens.is_empty());
        is_something.then_some(inherited)
    }

    pub(super) fn take_back(&mut self) {
        self.handed_over = false;
    }

    /// What another process holds is held here.
    pub(super) fn inherit(&mut self, inherited: &Inherited, at: UnixMicros, now: Instant) {
        self.turn(at.max(self.newest()), now);
        self.in_flight += inherited.in_flight;
        for (index, window) in inherited.held.iter().enumerate() {
            if window.from == self.books.balance.0[index].from {
                hold(&mut self.books.held[index], window.amounts);
            }
        }
        if inherited.requests.is_empty() && inherited.tokens.is_empty() {
            return;
        }
        let minutes = self.minutes.get_or_insert_with(|| Box::new(Minutes::new(now)));
        minutes.advance(now);
        for &(age, amount) in &inherited.requests {
            minutes.requests.add_before(age, amount);
        }
        for &(age, amount) in &inherited.tokens {
            minutes.tokens.add_before(age, amount);
        }
    }

    /// What another process held is held no more; true: yet another one has to be told.
    pub(super) fn settle_inherited(
        &mut self,
        windows: [Option<UnixMicros>; 4],
        amounts: Amounts,
        tokens: Option<(u64, u64, u64)>,
        now: Instant,
    ) -> bool {
        for (index, from) in windows.into_iter().enumerate() {
            if from == Some(self.books.balance.0[index].from) {
                give_back(&mut self.books.held[index], amounts);
            }
        }
        if let (Some(minutes), Some((age, was, is))) = (&mut self.minutes, tokens) {
            minutes.advance(now);
            minutes.tokens.correct_before(age, was, is);
        }
        self.handed_over
    }

    /// What a reservation of before the handover held, for the other process. `spent`: tokens it used.
    pub(super) fn settled(
        &mut self,
        account: &AccountId,
        ticket: &Ticket,
        amounts: Amounts,
        spent: u64,
        now: Instant,
    ) -> Returned {
        if let Some(minutes) = &mut self.minutes {
            minutes.advance(now);
        }
        let tokens = self.minutes.as_ref().zip(ticket.tokens);
        Returned::Settled {
            account: account.clone(),
            windows: std::array::from_fn(|index| {
                let runs = self.books.turns[index] == ticket.turns[index];
                runs.then_some(self.books.balance.0[index].from)
            }),
            amounts,
            tokens: tokens.map(|(minutes, (second, was))| {
                let age = minutes.tokens.second().saturating_sub(second);
                (age, was, spent)
            }),
        }
    }
}

impl Minutes {
    /// Begun more than a minute ago: what another process counted has a place in it.
    fn new(now: Instant) -> Self {
        let mut minutes = Minutes {
            origin: now.checked_sub(Duration::from_secs(SLOTS)).unwrap_or(now),
            requests: Minute::new(),
            tokens: Minute::new(),
        };
        minutes.advance(now);
        minutes
    }

    fn advance(&mut self, now: Instant) {
        let second = now.saturating_duration_since(self.origin).as_secs();
        self.requests.advance(second);
        self.tokens.advance(second);
    }

    /// From now to the beginning of the second that is `wait` later than this one.
    fn until(&self, wait: u64, now: Instant) -> Duration {
        if wait == 0 {
            return Duration::ZERO;
        }
        let then = Duration::from_secs(self.requests.second().saturating_add(wait));
        then.saturating_sub(now.saturating_duration_since(self.origin))
    }

    fn bars(&self, minute: &Minute, unit: Unit, needed: u64, limit: u64, now: Instant) -> Option<Denied> {
        let wait = minute.wait(needed, limit);
        (limit == 0 || wait > 0).then(|| Denied {
            limit: Limit::Minute(unit),
            needed,
            left: limit.saturating_sub(minute.sum()),
            retry_after: (limit > 0).then(|| self.until(wait, now)),
        })
    }
}
