//! One model at one provider: the credentials by which it can be asked, and what is known of each.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use crate::rules::{Credential, CredentialLimits, Strategy};

use super::Hold;
use super::average::Averages;
use super::lanes::PASSTHROUGH;
use super::pool::Changes;
use super::seat::{Account, Entry, Mercy, Seat};
use super::section::{Member, Section};

/// Most combinations of tags of one lane which are kept; for others the choice starts anew each time.
const MAX_SECTIONS: usize = 64;

/// What a seat without limits has.
const NO_LIMITS: CredentialLimits = CredentialLimits {
    requests_per_minute: None,
    tokens_per_minute: None,
    concurrent: None,
};

/// A model at a provider. Requests hold on to it over a reload; what it learned is carried over to the next one.
pub struct Lane {
    pub(super) roster: Arc<Roster>,
    /// The model, by the provider's name.
    pub(super) model: Arc<str>,
    pub(super) seats: Arc<[Arc<Seat>]>,
    /// All seats, and those with some tags: carried over if the rules say the same of all credentials.
    sections: Arc<Sections>,
    pub(super) totals: Arc<Totals>,
}

/// What the rules say of the credentials of a provider; shared by its lanes.
pub(super) struct Roster {
    pub(super) provider: Arc<str>,
    /// The active ones, in the order of the rules.
    pub(super) credentials: Vec<Arc<Credential>>,
    /// What is known of each. One more than `credentials` where the provider wants none and has none: that seat has no
    /// credential.
    pub(super) accounts: Vec<Arc<Account>>,
    pub(super) by_name: HashMap<Arc<str>, usize>,
    /// The provider wants no credential: there is no account to be locked.
    pub(super) open: bool,
    /// Whether failures cool.
    pub(super) cooldown: bool,
    /// Some credential may be used for so many tokens only.
    pub(super) limits_tokens: bool,
    /// Counts what is worth remembering.
    pub(super) changes: Changes,
}

/// What is known of a lane as a whole.
#[derive(Default)]
pub(super) struct Totals {
    pub(super) in_flight: AtomicU32,
    pub(super) averages: Mutex<Averages>,
    /// When it was last used, by the count of [`super::lanes::Lanes`].
    pub(super) used: AtomicU64,
}

struct Sections {
    all: Arc<Section>,
    tagged: ArcSwap<Vec<Tagged>>,
}

/// The section of a combination of tags.
type Tagged = (Box<[Arc<str>]>, Arc<Section>);

/// What a request wants of a seat.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// How to choose.
    pub strategy: Strategy,
    /// Only credentials with all of these tags.
    pub tags: &'a [Arc<str>],
    /// Seats this request has tried.
    pub tried: &'a [usize],
    /// The credential it had before, to be taken while it is healthy.
    pub sticky: Option<&'a str>,
    /// Tokens it may need, for limits per minute.
    pub tokens: u64,
    /// Those of them which the prompt has.
    pub prompt: u64,
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// All that are left are cooling down, or at their limits.
    Cooling {
        /// When the first of them may be asked again.
        until: Instant,
        /// All of them for a fault of our own credentials.
        ours: bool,
    },
    /// Every one that fits was tried.
    Tried,
    /// None fits.
    None,
}

/// What is known of a lane as a whole, to choose among lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Standing {
    /// Requests under way.
    pub in_flight: u32,
    /// Decaying average of the time to the first token; `None`: not measured.
    pub latency: Option<Duration>,
    /// The same, but up at once and only slowly down.
    pub peak: Option<Duration>,
    /// Both are too old to say anything.
    pub stale: bool,
    /// Decaying share of successes, 0 to 1.
    pub success: f64,
}

impl Lane {
    /// A lane of these credentials of which nothing is known.
    pub(super) fn new(model: Arc<str>, roster: Arc<Roster>) -> Self {
        let seats: Arc<[Arc<Seat>]> = roster
            .accounts
            .iter()
            .map(|account| Arc::new(Seat::new(account.clone())))
            .collect();
        Lane {
            sections: Arc::new(Sections::new(&roster, &seats)),
            roster,
            model,
            seats,
            totals: Arc::default(),
        }
    }

    /// The same lane under new rules. `from`: for each account of the new roster its place in the old one; `None`: nothing but
    /// what does not touch the choice has changed.
    pub(super) fn carried_over(&self, roster: &Arc<Roster>, from: Option<&[Option<usize>]>) -> Self {
        let Some(from) = from else {
            return Lane {
                roster: roster.clone(),
                model: self.model.clone(),
                seats: self.seats.clone(),
                sections: self.sections.clone(),
                totals: self.totals.clone(),
            };
        };
        let seat = |(account, from): (&Arc<Account>, &Option<usize>)| {
            let known = from.and_then(|from| self.seats.get(from)).cloned();
            known.unwrap_or_else(|| Arc::new(Seat::new(account.clone())))
        };
        let seats: Arc<[Arc<Seat>]> = roster.accounts.iter().zip(from).map(seat).collect();
        Lane {
            sections: Arc::new(Sections::new(roster, &seats)),
            roster: roster.clone(),
            model: self.model.clone(),
            seats,
            totals: self.totals.clone(),
        }
    }

    /// Takes a seat. Where all that are left cool only softly (the provider failed, not the credential), the least bad of them
    /// is taken: it may work, and nothing else would (Envoy's panic mode). Who has other lanes to try uses
    /// [`Lane::choose_ready`] on all of them first.
    ///
    /// Costs under a microsecond with 1,000 credentials (`benches/balance.rs`), but for the first choice after all of them went
    /// out, which looks at each.
    pub fn choose(self: &Arc<Self>, want: &Want<'_>, now: Instant) -> Result<Hold, NoSeat> {
        self.take(want, true, now)
    }

    /// Takes a seat which nothing speaks against.
    pub fn choose_ready(self: &Arc<Self>, want: &Want<'_>, now: Instant) -> Result<Hold, NoSeat> {
        self.take(want, false, now)
    }

    /// Takes the only seat there is, also while it cools ([`Mercy::Lone`]). Not for lanes with several.
    pub fn choose_lone(self: &Arc<Self>, want: &Want<'_>, now: Instant) -> Result<Hold, NoSeat> {
        let [seat] = &*self.seats else {
            return self.choose(want, now);
        };
        if want.tried.contains(&0) {
            return Err(NoSeat::Tried);
        }
        let entry = Entry {
            mercy: Mercy::Lone,
            ..self.entry(0, want.tokens, want.prompt)
        };
        match seat.take(&entry, now) {
            Ok(taken) => Ok(Hold::new(self.clone(), 0, taken)),
            Err(barred) => Err(NoSeat::Cooling {
                until: barred.bar.until,
                ours: barred.bar.ours,
            }),
        }
    }

    fn take(self: &Arc<Self>, want: &Want<'_>, need: bool, now: Instant) -> Result<Hold, NoSeat> {
        let entry = |index| self.entry(index, want.tokens, want.prompt);
        if let Some(index) = want.sticky.and_then(|name| self.roster.by_name.get(name)).copied()
            && !want.tried.contains(&index)
            && self.roster.fits(index, want.tags)
            && let Some(seat) = self.seats.get(index)
            && let Ok(taken) = seat.take(&entry(index), now)
        {
            return Ok(Hold::new(self.clone(), index, taken));
        }
        let section = self.section(want.tags);
        let (index, taken) = section.choose(want, &entry, need, now)?;
        Ok(Hold::new(self.clone(), index, taken))
    }

    /// How it stands.
    pub fn standing(&self, now: Instant) -> Standing {
        let averages = *self.totals.averages.lock();
        Standing {
            in_flight: self.totals.in_flight.load(Ordering::Relaxed),
            latency: averages.latency(),
            peak: averages.peak(),
            stale: averages.is_stale(now),
            success: 1.0 - averages.failing(now),
        }
    }

    /// It is of a model, not of passthrough, whose answers may come from anywhere.
    pub(super) fn has_model(&self) -> bool {
        &*self.model != PASSTHROUGH
    }

    /// Nothing is under way, and nothing is barred for longer: that it once failed may be forgotten.
    pub(super) fn is_idle(&self, now: Instant) -> bool {
        let cools = |seat: &Arc<Seat>| seat.state.lock().cooldown.until().is_some_and(|until| until > now);
        self.totals.in_flight.load(Ordering::Relaxed) == 0 && !self.seats.iter().any(cools)
    }

    pub(super) fn limits(&self, index: usize) -> &CredentialLimits {
        self.roster
            .credentials
            .get(index)
            .map_or(&NO_LIMITS, |credential| &credential.limits)
    }

    fn entry(&self, index: usize, tokens: u64, prompt: u64) -> Entry<'_> {
        Entry {
            limits: self.limits(index),
            tokens,
            prompt,
            mercy: Mercy::None,
        }
    }

    fn section(&self, tags: &[Arc<str>]) -> Arc<Section> {
        if tags.is_empty() {
            return self.sections.all.clone();
        }
        let find = |known: &[Tagged]| Some(known.iter().find(|(its, _)| **its == *tags)?.1.clone());
        if let Some(section) = find(&self.sections.tagged.load()) {
            return section;
        }
        let section = Arc::new(self.roster.section(&self.seats, tags));
        let add = |known: &Arc<Vec<Tagged>>| {
            let mut more = Vec::clone(known);
            if more.len() < MAX_SECTIONS && find(&more).is_none() {
                more.push((tags.into(), section.clone()));
            }
            more
        };
        self.sections.tagged.rcu(add);
        find(&self.sections.tagged.load()).unwrap_or(section)
    }
}

impl Sections {
    fn new(roster: &Roster, seats: &[Arc<Seat>]) -> Self {
        Sections {
            all: Arc::new(roster.section(seats, &[])),
            tagged: ArcSwap::default(),
        }
    }
}

impl Roster {
    /// A credential has all of these tags.
    fn fits(&self, index: usize, tags: &[Arc<str>]) -> bool {
        let its = self
            .credentials
            .get(index)
            .map_or(&[][..], |credential| &credential.tags);
        tags.iter().all(|tag| its.contains(tag))
    }

    fn section(&self, seats: &[Arc<Seat>], tags: &[Arc<str>]) -> Section {
        let fitting = seats.iter().enumerate().filter(|(index, _)| self.fits(*index, tags));
        let member = |(index, seat): (usize, &Arc<Seat>)| Member {
            index,
            seat: seat.clone(),
            weight: self.credentials.get(index).map_or(1, |credential| credential.weight),
        };
        Section::new(fitting.map(member).collect())
    }
}

#[cfg(test)]
impl Lane {
    /// Seats which can be asked now, as far as choices came across them; 0 only if none can.
    pub(super) fn usable(&self, now: Instant) -> u32 {
        self.sections.all.usable(&|index| self.entry(index, 0, 0), now)
    }
}
