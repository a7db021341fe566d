//! What is known of a credential as a whole ([`Account`]) and for one model ([`Seat`]). Both live as long as anybody uses
//! them: requests of an older snapshot go on reporting into what the newer one reads.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::limits::minute::ByAge;
use crate::rules::{Credential, CredentialLimits};

use super::average::Averages;
use super::cooldown::{Bar, Cooldown, Ticket};
use super::quota::{Booked, Quota};
use super::section::Section;

/// When to look again at what has no known end: other requests under way ([`CredentialLimits::concurrent`]), an operator.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Longest a seat at its limits is passed over: a smaller request may fit before, or a reload raise the limits.
const NO_ROOM: Duration = Duration::from_secs(1);

/// A credential as a whole; shared by all lanes of its pool.
pub struct Account {
    /// Its name; empty for the seat of a provider which wants no credential.
    pub name: Arc<str>,
    /// Tells another secret under the same name.
    pub fingerprint: u32,
    /// Requests under way with it, for any model.
    pub in_flight: AtomicU32,
    /// Changes under a short lock.
    pub state: Mutex<AccountState>,
    /// Who is to hear that it can be used again.
    pub waiters: Waiters,
}

/// What changes of an [`Account`].
#[derive(Default)]
pub struct AccountState {
    /// The operator took it out.
    pub disabled: bool,
    /// Faults of the credential itself.
    pub cooldown: Cooldown,
    /// A model answered since it was loaded, and no call was unauthorised since.
    pub works: bool,
    /// It cools because lists of models refuse it, and for nothing else.
    pub lists_alone: bool,
    /// Over all models.
    pub averages: Averages,
    quota: Option<Box<Quota>>,
}

/// A credential for one model.
pub struct Seat {
    /// The credential as a whole.
    pub account: Arc<Account>,
    /// Requests under way.
    pub in_flight: AtomicU32,
    /// Changes under a short lock; never taken before the account's.
    pub state: Mutex<SeatState>,
    /// Who is to hear that it can be used again.
    pub waiters: Waiters,
}

/// What changes of a [`Seat`].
#[derive(Default)]
pub struct SeatState {
    /// Failures with this model.
    pub cooldown: Cooldown,
    /// Answers of this model.
    pub averages: Averages,
}

/// What a request that took a seat has to give back.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// Its place in the history of the account.
    pub account: Ticket,
    /// Its place in the history of the seat.
    pub seat: Ticket,
    /// What it was booked with.
    pub booked: Option<Booked>,
}

/// Why a seat can't be taken, and where that is known.
#[derive(Clone, Copy, Debug)]
pub struct Barred {
    /// The bar.
    pub bar: Bar,
    /// It is the account's, not the seat's alone.
    pub whole: bool,
}

/// What a request needs to take a seat.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// What the credential's owner allows.
    pub limits: &'a CredentialLimits,
    /// Tokens the request may need.
    pub tokens: u64,
    /// Those of them which the prompt has.
    pub prompt: u64,
    /// Whether a cooling seat will do.
    pub mercy: Mercy,
}

/// Whether a cooling seat will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mercy {
    /// No.
    #[default]
    None,
    /// One that cools softly: there is none better.
    Soft,
    /// Any: there is no other at all, so that the provider itself may say what it says. After [`LONE_PATIENCE`] failures in a row
    /// it has said it often enough.
    Lone,
}

/// Failures in a row after which the only seat there is is left alone too until its time is over.
pub const LONE_PATIENCE: u32 = 10;

impl Mercy {
    fn forgives(self, bar: &Bar, cooldown: &Cooldown) -> bool {
        match self {
            Mercy::None => false,
            Mercy::Soft => bar.soft,
            Mercy::Lone => bar.soft || cooldown.failures() < LONE_PATIENCE,
        }
    }
}

impl Account {
    /// Nothing known.
    pub fn new(name: Arc<str>, fingerprint: u32) -> Self {
        Account {
            name,
            fingerprint,
            in_flight: AtomicU32::new(0),
            state: Mutex::default(),
            waiters: Waiters::default(),
        }
    }
}

/// Tells one secret from another without saying anything of it: 32 bits of a hash. That a guess fits them proves nothing.
pub fn fingerprint(credential: &Credential) -> u32 {
    let mut hash = Sha256::new();
    hash.update(b"tollgate credential\0");
    hash.update(credential.name.as_bytes());
    hash.update([0]);
    if let Some(secret) = &credential.secret {
        hash.update(secret.expose().as_bytes());
    }
    let digest = hash.finalize();
    u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]])
}

impl Seat {
    /// Nothing known.
    pub fn new(account: Arc<Account>) -> Self {
        Seat {
            account,
            in_flight: AtomicU32::new(0),
            state: Mutex::default(),
            waiters: Waiters::default(),
        }
    }

    /// What stands in the way of a request; `None`: nothing.
    fn bars(&self, account: &mut AccountState, seat: &SeatState, entry: &Entry<'_>, now: Instant) -> Option<Barred> {
        let whole = |until, ours| Barred {
            bar: Bar {
                until,
                soft: false,
                ours,
            },
            whole: true,
        };
        if account.disabled {
            return Some(whole(now + LOOK_AGAIN, true));
        }
        if let Some(bar) = account.cooldown.bar(now)
            && !entry.mercy.forgives(&bar, &account.cooldown)
        {
            return Some(Barred { bar, whole: true });
        }
        if let Some(bar) = seat.cooldown.bar(now)
            && !entry.mercy.forgives(&bar, &seat.cooldown)
        {
            return Some(Barred { bar, whole: false });
        }
        if let Some(most) = entry.limits.concurrent
            && self.account.in_flight.load(Ordering::Acquire) >= most
        {
            return Some(whole(now + LOOK_AGAIN, false));
        }
        let until = account.quota.as_mut()?.full(entry.limits, entry.tokens, now)?;
        Some(whole(until, false))
    }

    /// Takes the seat for a request.
    pub fn take(&self, entry: &Entry<'_>, now: Instant) -> Result<Taken, Barred> {
        let mut account = self.account.state.lock();
        let mut seat = self.state.lock();
        let limited = entry.limits.requests_per_minute.is_some() || entry.limits.tokens_per_minute.is_some();
        if limited && account.quota.is_none() {
            account.quota = Some(Box::new(Quota::new(now)));
        }
        if let Some(barred) = self.bars(&mut account, &seat, entry, now) {
            return Err(barred);
        }
        // Under the lock of the account: no two requests see the same room.
        self.account.in_flight.fetch_add(1, Ordering::AcqRel);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let book = |quota: &mut Box<Quota>| quota.book(entry.limits, (entry.tokens, entry.prompt), now);
        Ok(Taken {
            account: account.cooldown.enter(now),
            seat: seat.cooldown.enter(now),
            booked: account.quota.as_mut().filter(|_| limited).map(book),
        })
    }

    /// The request is no longer under way.
    pub fn leave(&self, limits: &CredentialLimits) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.account.in_flight.fetch_sub(1, Ordering::AcqRel);
        if limits.concurrent.is_some() {
            self.account.waiters.wake();
        }
    }
}

impl AccountState {
    /// What was used of its limits in the last minute ([`Quota::used`]); nothing where there are none.
    pub(super) fn used(&mut self, now: Instant) -> (ByAge, ByAge) {
        self.quota.as_mut().map(|quota| quota.used(now)).unwrap_or_default()
    }

    /// [`Quota::recall`].
    pub(super) fn recall_used(&mut self, requests: &[(u64, u64)], tokens: &[(u64, u64)], ago: u64, now: Instant) {
        let quota = self.quota.get_or_insert_with(|| Box::new(Quota::new(now)));
        quota.recall(requests, tokens, ago, now);
    }

    /// The tokens a request used; `None`: it never went out.
    pub fn settle(&mut self, booked: Booked, tokens: Option<u64>) {
        match (&mut self.quota, tokens) {
            (Some(quota), Some(tokens)) => quota.correct(booked, tokens),
            (Some(quota), None) => quota.refund(booked),
            (None, _) => {}
        }
    }
}

impl Barred {
    /// When a section that passes the seat over looks at it again, if nobody wakes it before.
    pub fn look_again(&self, now: Instant) -> Instant {
        // What bars an account as a whole without a fault of ours is a limit.
        if self.whole && !self.bar.ours {
            self.bar.until.min(now + NO_ROOM)
        } else {
            self.bar.until
        }
    }
}

/// Sections which passed a seat over and want to hear when it may be used before its time. A section asks once at most until
/// it is woken.
#[derive(Default)]
pub struct Waiters(Mutex<Vec<(Weak<Section>, u32)>>);

impl Waiters {
    /// Wakes a section about one of its members. Look at the seat again after this: it may have been freed just before.
    pub fn add(&self, section: &Arc<Section>, member: u32) {
        let mut waiting = self.0.lock();
        if waiting.len() == waiting.capacity() {
            // Sections which a reload replaced would gather here.
            waiting.retain(|(section, _)| section.strong_count() > 0);
        }
        waiting.push((Arc::downgrade(section), member));
    }

    /// The seat may be usable again.
    pub fn wake(&self) {
        let waiting = std::mem::take(&mut *self.0.lock());
        for (section, member) in waiting {
            if let Some(section) = section.upgrade() {
                section.freed(member);
            }
        }
    }
}

#[cfg(test)]
impl Seat {
    /// What stands in the way of a request; `None`: nothing.
    pub fn barred(&self, entry: &Entry<'_>, now: Instant) -> Option<Barred> {
        let mut account = self.account.state.lock();
        self.bars(&mut account, &self.state.lock(), entry, now)
    }
}
