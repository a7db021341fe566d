//! Accounts that another process keeps from now on: while a gateway is upgraded, the old process lives on for its streams, and the new
//! one admits. There is one owner of every account at any time (HARDENING U2).
//!
//! The old process marks each account as handed over, under its lock, and tells what requests under way hold of it ([`Inherited`]).
//! From then on whatever still wants to enter or to reserve there asks the [`Owner`], and what is given back is told to it
//! ([`Returned`]). What was used is not told this way: the owner reads it in the other's journal, where each row stands once, and takes the
//! reservation away after the row is booked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_core::future::BoxFuture;
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;

use super::account::{AccountId, Accounts};
use super::admission::{Chain, Estimate};
use super::queue::Line;
use super::refused::Refused;
use super::state::Amounts;

/// What one process tells the next of an account: what requests under way hold, and what was used in the last minute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inherited {
    /// Whose.
    pub account: AccountId,
    /// Requests under way.
    pub in_flight: u64,
    /// What is held of each window: requests, tokens, nano-dollars.
    pub held: [Held; 4],
    /// Requests of the last minute, by how many seconds ago.
    pub requests: Vec<(u64, u64)>,
    /// Tokens of the last minute, likewise.
    pub tokens: Vec<(u64, u64)>,
}

impl Inherited {
    /// What is given back of it is gone from it.
    pub fn take_away(&mut self, returned: &Returned) {
        match returned {
            Returned::Left(_) => self.in_flight = self.in_flight.saturating_sub(1),
            Returned::Settled { windows, amounts, .. } => {
                for (held, from) in self.held.iter_mut().zip(windows) {
                    if *from == Some(held.from) {
                        for (held, amount) in held.amounts.iter_mut().zip(amounts) {
                            *held = held.saturating_sub(*amount);
                        }
                    }
                }
            }
            Returned::Admission(_) | Returned::Reservation { .. } => {}
        }
    }

    /// All of it is given back: its process is gone.
    pub fn all_returned(&self) -> Vec<Returned> {
        let mut returned = Vec::new();
        for _ in 0..self.in_flight {
            returned.push(Returned::Left(self.account.clone()));
        }
        for (index, held) in self.held.iter().enumerate() {
            if held.amounts != [0; 3] {
                let mut windows = [None; 4];
                windows[index] = Some(held.from);
                returned.push(Returned::Settled {
                    account: self.account.clone(),
                    windows,
                    amounts: held.amounts,
                    tokens: None,
                });
            }
        }
        returned
    }
}

impl Returned {
    /// Whose it was, of what was inherited.
    pub fn account(&self) -> Option<&AccountId> {
        match self {
            Returned::Left(account) | Returned::Settled { account, .. } => Some(account),
            Returned::Admission(_) | Returned::Reservation { .. } => None,
        }
    }
}

/// What is held of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// When the window began.
    pub from: UnixMicros,
    /// Requests, tokens, nano-dollars.
    pub amounts: [u64; 3],
}

/// What the old process gives back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Returned {
    /// A request that was under way at the handover is over, for one of its accounts.
    Left(AccountId),
    /// A reservation of before the handover is settled, for one of its accounts.
    Settled {
        /// Whose.
        account: AccountId,
        /// In which windows it was held, by their beginnings; `None`: that one is over.
        windows: [Option<UnixMicros>; 4],
        /// What was held.
        amounts: [u64; 3],
        /// Of the last minute's tokens: how many seconds ago they were counted, how many, and how many it were in truth.
        tokens: Option<(u64, u64, u64)>,
    },
    /// A request the owner let in is over.
    Admission(u64),
    /// A reservation the owner made is settled.
    Reservation {
        /// Its number.
        number: u64,
        /// The tokens it used, which count in the minute; `None`: it never was.
        tokens: Option<u64>,
    },
}

/// Whose accounts a request is charged to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parties {
    /// Its key's.
    pub key: AccountId,
    /// Its group's.
    pub group: Option<AccountId>,
}

impl Parties {
    /// The accounts themselves.
    pub fn chain(&self, accounts: &Accounts) -> Chain {
        Chain::new(
            accounts.get(&self.key),
            self.group.as_ref().map(|group| accounts.get(group)),
        )
    }
}

/// Why the owner did not let it pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotGranted {
    /// A limit.
    Refused(Refused),
    /// It is gone: the accounts are this process's again, and should be asked.
    Gone,
}

/// The process that has the accounts.
pub trait Owner: Send + Sync {
    /// A request wants to enter, and may wait: the number of its admission.
    fn enter(&self, of: Parties, wait: Duration) -> BoxFuture<'_, Result<u64, NotGranted>>;

    /// An attempt wants to reserve: the number of its reservation, and the time its row must carry. `admission`: of a request the owner
    /// let in; `None`: of one from before.
    fn reserve(
        &self,
        of: Parties,
        admission: Option<u64>,
        estimate: Estimate,
        first: bool,
        wait: Duration,
    ) -> BoxFuture<'_, Result<(u64, UnixMicros), NotGranted>>;

    /// Something is given back. Never waits.
    fn give_back(&self, returned: Returned);
}

/// Who has the accounts of this process; `None`: it has them itself.
#[derive(Default)]
pub(super) struct OwnerSlot(RwLock<Option<Arc<dyn Owner>>>);

impl OwnerSlot {
    pub(super) fn get(&self) -> Option<Arc<dyn Owner>> {
        self.0.read().clone()
    }
}

impl Accounts {
    /// From now on `owner` has all accounts; gives what it has to know of them. Requests that wait for room ask it in turn.
    pub fn hand_over(&self, owner: Arc<dyn Owner>, now: Instant) -> Vec<Inherited> {
        let mut inherited = Vec::new();
        // No account is made meanwhile: a new one looks whether there is an owner.
        let all = self.all.write();
        *self.owner.0.write() = Some(owner);
        for account in all.values() {
            let mut state = account.state.lock();
            inherited.extend(state.hand_over(account.id(), now));
        }
        for account in all.values() {
            account.lines.wake_all();
        }
        inherited
    }

    /// The owner is gone: this process has them again, as far as it knows them.
    pub fn take_back(&self) {
        let all = self.all.write();
        *self.owner.0.write() = None;
        for account in all.values() {
            account.state.lock().take_back();
            account.lines.wake_all();
        }
    }

    /// Has another process all accounts?
    pub fn are_handed_over(&self) -> bool {
        self.owner.get().is_some()
    }

    /// Adds what the process before holds. `at` and `now` are the same moment.
    pub fn inherit(&self, inherited: &Inherited, at: UnixMicros, now: Instant) {
        let account = self.get(&inherited.account);
        account.state.lock().inherit(inherited, at, now);
    }

    /// Takes away what the process before holds no more. What it used must be booked by then. Of admissions and reservations that were made
    /// here their holder is dropped instead.
    pub fn given_back(&self, returned: &Returned, now: Instant) {
        match returned {
            Returned::Left(account) => {
                let account = self.get(account);
                if account.leave() {
                    account.lines.wake(Line::Enter);
                }
            }
            Returned::Settled {
                account,
                windows,
                amounts,
                tokens,
            } => {
                let account = self.get(account);
                account.settle_inherited(*windows, *amounts, *tokens, now);
                account.lines.wake(Line::Reserve);
            }
            Returned::Admission(_) | Returned::Reservation { .. } => {}
        }
    }
}

impl super::account::Account {
    /// A request is over. False: that is the owner's affair, who was told.
    pub(super) fn leave(&self) -> bool {
        let handed = self.state.lock().leave();
        if handed && let Some(owner) = self.owner.get() {
            owner.give_back(Returned::Left(self.id().clone()));
        }
        !handed
    }

    fn settle_inherited(
        &self,
        windows: [Option<UnixMicros>; 4],
        amounts: Amounts,
        tokens: Option<(u64, u64, u64)>,
        now: Instant,
    ) {
        let handed = self.state.lock().settle_inherited(windows, amounts, tokens, now);
        // Of the process before the one before: it is told on.
        if handed && let Some(owner) = self.owner.get() {
            owner.give_back(Returned::Settled {
                account: self.id().clone(),
                windows,
                amounts,
                tokens,
            });
        }
    }
}
