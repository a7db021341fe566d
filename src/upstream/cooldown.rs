//! Cooldown that remembers: how long a credential is left alone after a failure, for one model or as a whole. A pure state
//! machine: time comes in as `Instant`s, nothing here waits or locks.
//!
//! A failure *cools*: nobody asks before a time. When the time is over, exactly one request (the *probe*) is let through:
//! its success makes the state ready again, its failure is the next, longer step. A probe that is dropped gives its slot
//! back; one that takes longer than [`PROBE_LEASE`] lets another follow.
//!
//! | failure | where | first | longest | |
//! | --- | --- | --- | --- | --- |
//! | rate limited | seat | told, else 1 s | 60 s (told: 24 h) | soft where there is no account to be locked |
//! | quota spent | account | told, else 5 min | 1 h (told: 24 h) | quarantine |
//! | overloaded | seat | told, else 1 s | 30 s (told: 24 h) | soft unless told |
//! | server, broke, first byte, slow, unreadable | seat | 1 s, after three in a row | 60 s | soft |
//! | connect, TLS | seat, if it has its own way out | 1 s, after three in a row | 60 s | soft |
//! | unauthorised | account | 1 s: suspect | 5 min to 1 h from the second in a row | quarantine |
//! | forbidden | seat | 1 min | 30 min | |
//! | dead connection | nowhere: it says nothing | | | |
//! | no such model, refused, too long, policy | nowhere: the provider took the credential | | | |
//!
//! No connection is the trouble of an address, and the addresses' book is kept by the endpoint. Only a credential that goes
//! its own way out (proxy, local address, certificate) may itself be the reason.
//!
//! *Soft* means: it probably fails, but asking is allowed where nothing better is left (Envoy calls this panic mode).
//!
//! A probe whose answer begins well lets others follow, but only a good end ends the row: who always breaks after the first
//! token cools for ever longer.
//!
//! Requests that were under way when the cooling began belong to the same incident: their failures don't lengthen it (but
//! for a longer time told, or a graver reason), and their success does not end it.

use std::time::{Duration, Instant};

use super::Failure;

/// Longest pause a provider can impose.
pub const MAX_TOLD: Duration = Duration::from_secs(24 * 3600);

/// Shortest pause, also where a provider asks for none.
pub const LEAST_PAUSE: Duration = Duration::from_millis(100);

/// Failures in a row before those of the provider (not of the credential) cool.
pub const IN_A_ROW: u32 = 3;

/// A probe that has not ended after this lets another follow: an answer can take many minutes.
pub const PROBE_LEASE: Duration = Duration::from_secs(30);

/// What is told who asks while the probe is out: it will have ended soon.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// Highest step of escalation; by then every schedule is at its longest.
const MAX_STEP: u8 = 12;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// What an attempt teaches of its credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// The provider took the credential: as good as a success.
    Proves,
    /// Nothing; a probe is given back.
    Silent,
    /// It is about this credential and this model.
    Seat,
    /// It is about the credential as a whole.
    Account,
}

/// Where a failure is to be learned. `own_way`: the credential has a proxy, address or certificate of its own.
pub fn lesson(failure: Failure, own_way: bool) -> Lesson {
    match failure {
        Failure::Connect | Failure::Tls if own_way => Lesson::Seat,
        Failure::Connect | Failure::Tls | Failure::DeadConnection => Lesson::Silent,
        Failure::Broke | Failure::FirstByte | Failure::Slow | Failure::Server | Failure::Unreadable => Lesson::Seat,
        Failure::RateLimited | Failure::Overloaded | Failure::Forbidden => Lesson::Seat,
        Failure::QuotaSpent | Failure::Unauthorised => Lesson::Account,
        Failure::NoSuchModel | Failure::ContextTooLong | Failure::ContentPolicy | Failure::Refused => Lesson::Proves,
    }
}

/// Failures which share a schedule, by gravity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Faulty,
    Overloaded,
    RateLimited,
    Forbidden,
    Unauthorised,
    QuotaSpent,
}

impl Kind {
    fn of(failure: Failure) -> Self {
        match failure {
            Failure::Overloaded => Kind::Overloaded,
            Failure::RateLimited => Kind::RateLimited,
            Failure::Forbidden => Kind::Forbidden,
            Failure::Unauthorised => Kind::Unauthorised,
            Failure::QuotaSpent => Kind::QuotaSpent,
            _ => Kind::Faulty,
        }
    }

    fn pause(self, step: u8) -> Duration {
        let (first, longest) = match self {
            Kind::Faulty | Kind::RateLimited => (SECOND, MINUTE),
            Kind::Overloaded => (SECOND, MINUTE / 2),
            Kind::Forbidden => (MINUTE, HOUR / 2),
            Kind::QuotaSpent => (5 * MINUTE, HOUR),
            Kind::Unauthorised => match step.checked_sub(1) {
                None => return SECOND,
                Some(step) => return doubled(5 * MINUTE, step).min(HOUR),
            },
        };
        doubled(first, step).min(longest)
    }

    fn heeds_told(self) -> bool {
        matches!(self, Kind::RateLimited | Kind::Overloaded | Kind::QuotaSpent)
    }
}

fn doubled(first: Duration, step: u8) -> Duration {
    first.saturating_mul(1 << u32::from(step.min(MAX_STEP)))
}

/// What stands between a request and a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// When it is worth looking again.
    pub until: Instant,
    /// It may be asked all the same where nothing better is left.
    pub soft: bool,
    /// A fault of our own.
    pub ours: bool,
}

/// A request's place in the state's history, taken when it is let through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    generation: u32,
    probe: Option<Instant>,
}

/// What is known of one credential, for one model or as a whole.
#[derive(Clone, Debug, Default)]
pub struct Cooldown {
    /// Nobody asks before this; then one does. `None`: ready.
    until: Option<Instant>,
    /// The probe is out since.
    probe: Option<Instant>,
    /// How often it began to cool.
    generation: u32,
    /// Failures in a row, of the kind of `reason`.
    failures: u32,
    step: u8,
    soft: bool,
    reason: Option<Failure>,
}

/// A failure as the state machine needs it.
#[derive(Clone, Copy, Debug)]
pub struct Blow {
    /// What failed.
    pub failure: Failure,
    /// The pause the provider asked for.
    pub told: Option<Duration>,
    /// There is no account that could be locked: being rate limited is soft.
    pub open: bool,
}

/// What of a cooldown outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Nobody asks before this.
    pub until: Instant,
    /// Failures in a row.
    pub failures: u32,
    /// Escalation.
    pub step: u8,
    /// See [`Bar::soft`].
    pub soft: bool,
    /// Why.
    pub reason: Failure,
}

impl Cooldown {
    /// What stands in the way of a request; `None`: nothing, or it would be the probe.
    pub fn bar(&self, now: Instant) -> Option<Bar> {
        let until = self.until?;
        let until = if now < until {
            until
        } else {
            let lease = self.probe? + PROBE_LEASE;
            if now >= lease {
                return None;
            }
            lease.min(now + PROBE_WAIT)
        };
        Some(Bar {
            until,
            soft: self.soft,
            ours: self.reason.is_some_and(Failure::is_ours),
        })
    }

    /// Lets a request through which nothing stands in the way of ([`Cooldown::bar`]): the probe if the state was cooling, or
    /// one asked for want of a better.
    pub fn enter(&mut self, now: Instant) -> Ticket {
        let due = self.until.is_some() && self.bar(now).is_none();
        if due {
            self.probe = Some(now);
        }
        Ticket {
            generation: self.generation,
            probe: due.then_some(now),
        }
    }

    /// A request ended and taught nothing. True: the slot of the probe is free again.
    pub fn give_back(&mut self, ticket: Ticket) -> bool {
        let held = self.is_probe(ticket);
        if held {
            self.probe = None;
        }
        held
    }

    /// A request succeeded. True: it cooled, and is ready again.
    pub fn succeeded(&mut self, ticket: Ticket) -> bool {
        if self.until.is_some() && ticket.generation != self.generation {
            return false;
        }
        let returned = self.until.is_some();
        *self = Cooldown {
            generation: self.generation,
            ..Cooldown::default()
        };
        returned
    }

    /// A request begins to be answered well: others may follow, but what failed before is remembered until one ends well
    /// ([`Cooldown::succeeded`]). True: it cooled, and is ready again.
    pub fn answering(&mut self, ticket: Ticket) -> bool {
        let returned = self.until.is_some() && ticket.generation == self.generation;
        if returned {
            (self.until, self.probe) = (None, None);
        }
        returned
    }

    /// A request failed in a way that is learned here ([`lesson`]). True: the time changed.
    pub fn failed(&mut self, blow: Blow, ticket: Ticket, now: Instant) -> bool {
        let kind = Kind::of(blow.failure);
        let before = self.reason.map(Kind::of);
        match self.until {
            Some(_) if self.is_probe(ticket) => {
                let step = if before == Some(kind) { self.step + 1 } else { 0 };
                self.failures = self.failures.saturating_add(1);
                self.begin(blow, step, now);
            }
            Some(_) if before < Some(kind) => {
                self.failures = 1;
                self.begin(blow, 0, now);
            }
            Some(until) => {
                if before == Some(kind) && ticket.generation == self.generation {
                    // It was asked although it cooled: the row goes on.
                    self.failures = self.failures.saturating_add(1);
                }
                let told = blow
                    .told
                    .filter(|_| kind.heeds_told())
                    .map(|told| now + told.min(MAX_TOLD));
                let later = told.filter(|told| *told > until.max(now));
                self.until = later.or(self.until);
                self.soft &= later.is_none();
                return later.is_some();
            }
            None => {
                let again = before == Some(kind);
                let needed = if kind == Kind::Faulty { IN_A_ROW } else { 1 };
                // It has cooled for this, and nothing has ended well since it began to answer again.
                let cooled = again && self.failures >= needed;
                self.failures = if again { self.failures.saturating_add(1) } else { 1 };
                self.reason = Some(blow.failure);
                if self.failures < needed {
                    return false;
                }
                let step = if cooled { self.step.saturating_add(1) } else { 0 };
                self.begin(blow, step, now);
            }
        }
        true
    }

    fn begin(&mut self, blow: Blow, step: u8, now: Instant) {
        let kind = Kind::of(blow.failure);
        let told = blow.told.filter(|_| kind.heeds_told());
        let pause = told.map_or_else(|| kind.pause(step), |told| told.clamp(LEAST_PAUSE, MAX_TOLD));
        self.until = Some(now + pause);
        self.probe = None;
        self.generation = self.generation.wrapping_add(1);
        self.step = step.min(MAX_STEP);
        self.reason = Some(blow.failure);
        self.soft = match kind {
            Kind::Faulty => true,
            Kind::Overloaded => told.is_none(),
            Kind::RateLimited => blow.open,
            Kind::Forbidden | Kind::Unauthorised | Kind::QuotaSpent => false,
        };
    }

    /// Ready again, whatever was learned. True: it cooled.
    pub fn forget(&mut self) -> bool {
        self.succeeded(Ticket {
            generation: self.generation,
            probe: None,
        })
    }

    fn is_probe(&self, ticket: Ticket) -> bool {
        ticket.probe.is_some() && ticket.probe == self.probe && ticket.generation == self.generation
    }

    /// The ticket of an active check: its word counts as a probe's. Takes the slot from a probe that is out.
    pub fn enter_as_check(&mut self, now: Instant) -> Ticket {
        self.probe = self.until.map(|_| now);
        Ticket {
            generation: self.generation,
            probe: self.probe,
        }
    }

    /// Barred for a fault of the credential itself.
    pub fn is_quarantined(&self) -> bool {
        self.until.is_some()
            && match self.reason {
                Some(Failure::QuotaSpent) => true,
                Some(Failure::Unauthorised) => self.step > 0,
                _ => false,
            }
    }

    /// It cools, or waits for its probe to succeed.
    pub fn is_cooling(&self) -> bool {
        self.until.is_some()
    }

    /// The time of cooling is over, and its probe is out or awaited.
    pub fn is_half_open(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// When the cooling is over; `None`: it is ready.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Why it cools, or what failed last.
    pub fn reason(&self) -> Option<Failure> {
        self.reason
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// What is to outlive the process; `None`: it is ready.
    pub fn keep(&self) -> Option<Kept> {
        Some(Kept {
            until: self.until?,
            failures: self.failures,
            step: self.step,
            soft: self.soft,
            reason: self.reason?,
        })
    }

    /// Puts back what was kept. What has been learned since stays.
    pub fn recall(&mut self, kept: Kept, now: Instant) -> bool {
        if self.until.is_some() || self.failures > 0 {
            return false;
        }
        self.until = Some(kept.until.min(now + MAX_TOLD));
        self.generation = self.generation.wrapping_add(1);
        self.failures = kept.failures;
        self.step = kept.step.min(MAX_STEP);
        self.soft = kept.soft;
        self.reason = Some(kept.reason);
        true
    }
}

#[cfg(test)]
#[path = "cooldown_tests.rs"]
mod tests;
