//! A seat taken for one attempt, and what its end teaches.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::rules::Credential;

use super::average::Averages;
use super::cooldown::{self, Blow, Lesson, Ticket};
use super::seat::{Seat, Taken};
use super::verdict::Witness;
use super::{Failure, Lane, Outcome, metrics};

/// A seat taken for one attempt: under way until it is dropped.
pub struct Hold {
    lane: Arc<Lane>,
    index: usize,
    taken: Taken,
    settled: AtomicBool,
    /// The time to the first token was told.
    measured: AtomicBool,
}

impl Hold {
    pub(super) fn new(lane: Arc<Lane>, index: usize, taken: Taken) -> Self {
        lane.totals.in_flight.fetch_add(1, Ordering::Relaxed);
        Hold {
            lane,
            index,
            taken,
            settled: AtomicBool::new(false),
            measured: AtomicBool::new(false),
        }
    }

    /// The credential; `None`: the provider wants none.
    pub fn credential(&self) -> Option<&Arc<Credential>> {
        self.lane.roster.credentials.get(self.index)
    }

    /// Which seat it is, for [`super::Want::tried`].
    pub fn index(&self) -> usize {
        self.index
    }

    /// The provider has begun to answer well, so long after the attempt began. If this is the probe of a cooling credential,
    /// others need not wait for its end, which may be minutes away. What becomes of the whole is still to be settled: only a good end
    /// ends a row of failures.
    pub fn answering(&self, first_token: Duration, now: Instant) {
        if !self.measured.swap(true, Ordering::Relaxed) {
            self.learn(true, |averages| averages.measure(first_token, now));
            let seat = self.seat();
            if seat.state.lock().cooldown.answering(self.taken.seat) {
                seat.waiters.wake();
                self.lane.roster.changes.count();
            }
            // Of the credential as a whole nothing more is asked than that the provider takes it.
            let roster = &self.lane.roster;
            roster.proved(&seat.account, self.taken.account, self.lane.has_model());
        }
    }

    /// Says what became of the attempt; only the first call counts. A seat dropped without this was given up for a reason of
    /// our own, before anything was sent.
    pub fn settle(&self, outcome: &Outcome, now: Instant) {
        if self.settled.swap(true, Ordering::Relaxed) {
            return;
        }
        let taken = self.taken;
        self.book(taken, outcome);
        if outcome.inconclusive {
            return self.give_back(taken.account, taken.seat);
        }
        let lesson = outcome.failure.map_or(Lesson::Proves, |failure| {
            let roster = &self.lane.roster;
            metrics::failed(&roster.provider, &self.seat().account.name, failure);
            let own_way = self.credential().is_some_and(|credential| credential.egress.is_set());
            cooldown::lesson(failure, own_way)
        });
        self.average(lesson, outcome, now);
        match (lesson, outcome.failure) {
            (Lesson::Proves, _) | (_, None) => self.succeeded(taken, outcome.failure.is_none()),
            (Lesson::Seat, Some(failure)) if self.lane.roster.cooldown => {
                self.give_back(taken.account, Ticket::default());
                let blow = self.blow(failure, outcome.retry_after);
                if self.seat().state.lock().cooldown.failed(blow, taken.seat, now) {
                    self.lane.roster.changes.count();
                }
            }
            (Lesson::Account, Some(failure)) if self.lane.roster.cooldown => {
                self.give_back(Ticket::default(), taken.seat);
                let blow = self.blow(failure, outcome.retry_after);
                let account = &self.seat().account;
                let roster = &self.lane.roster;
                roster.fault(account, blow, taken.account, Witness::Call, now);
            }
            _ => self.give_back(taken.account, taken.seat),
        }
    }

    fn seat(&self) -> &Arc<Seat> {
        &self.lane.seats[self.index]
    }

    fn blow(&self, failure: Failure, told: Option<Duration>) -> Blow {
        Blow {
            failure,
            told,
            open: self.lane.roster.open,
        }
    }

    fn succeeded(&self, taken: Taken, answered: bool) {
        let roster = &self.lane.roster;
        if self.seat().state.lock().cooldown.succeeded(taken.seat) {
            self.seat().waiters.wake();
            roster.changes.count();
        }
        let answered = answered && self.lane.has_model();
        roster.proved(&self.seat().account, taken.account, answered);
    }

    fn give_back(&self, account: Ticket, seat: Ticket) {
        if self.seat().state.lock().cooldown.give_back(seat) {
            self.seat().waiters.wake();
        }
        let whole = &self.seat().account;
        if whole.state.lock().cooldown.give_back(account) {
            whole.waiters.wake();
        }
    }

    /// What was really used of the limits.
    fn book(&self, taken: Taken, outcome: &Outcome) {
        let Some(booked) = taken.booked else { return };
        let tokens = match (outcome.tokens, outcome.failure) {
            (Some(tokens), _) => tokens,
            // Given up before its end: the prompt was sent, and how much of an answer was made nobody knows. What the client
            // wanted at most would let it fill the window with requests it gives up.
            (None, None) if outcome.inconclusive => booked.prompt(),
            // It may have worked on it all the same: the estimate stands.
            (None, None | Some(Failure::Broke | Failure::FirstByte | Failure::Slow | Failure::Unreadable)) => return,
            (None, Some(_)) => 0,
        };
        self.seat().account.state.lock().settle(booked, Some(tokens));
    }

    fn average(&self, lesson: Lesson, outcome: &Outcome, now: Instant) {
        if outcome.failure == Some(Failure::DeadConnection) {
            return;
        }
        // No connection and the like is not held against the credential, but against the lane.
        let success = lesson == Lesson::Proves;
        let first_token = outcome.first_token.filter(|_| outcome.failure.is_none());
        let first_token = first_token.filter(|_| !self.measured.swap(true, Ordering::Relaxed));
        self.learn(lesson != Lesson::Silent, |averages| {
            averages.judge(success, now);
            if let Some(first_token) = first_token {
                averages.measure(first_token, now);
            }
        });
    }

    /// Teaches the averages of the lane, and of the credential if it is about that.
    fn learn(&self, credential: bool, learn: impl Fn(&mut Averages)) {
        learn(&mut self.lane.totals.averages.lock());
        if credential {
            learn(&mut self.seat().state.lock().averages);
            learn(&mut self.seat().account.state.lock().averages);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.lane.totals.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.seat().leave(self.lane.limits(self.index));
        if !*self.settled.get_mut() {
            let taken = self.taken;
            if let Some(booked) = taken.booked {
                self.seat().account.state.lock().settle(booked, None);
            }
            self.give_back(taken.account, taken.seat);
        }
    }
}
