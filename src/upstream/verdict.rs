//! What is said of a credential as a whole: by model calls, by active checks, by the operator. And who is believed.
//!
//! A list of models is a weak witness: some keys may chat and not list. Where a model call has succeeded with a key and none has
//! said since that it is dead, a list that refuses it teaches nothing. Of a key that nobody has used yet, or whose calls are
//! refused too, two lists in a row are believed, so that dead keys are found without traffic; but only calls, and checks which
//! the rules wrote out (a model, a path), bar it for longer than the first quarantine. When that is over, the next request
//! tries it.

use std::sync::Arc;
use std::time::Instant;

use super::cooldown::{self, Blow, Lesson, Ticket};
use super::lane::Roster;
use super::seat::Account;
use super::{Failure, Lane, Outcome, Pool};

/// What an active check asked for, and so what its answer proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The dialect's list of models: free, and not open to every key.
    List,
    /// The path which the rules name.
    Path,
    /// A few tokens of a model.
    Model,
}

/// Who says that a credential failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Witness {
    /// A call, or a check as good as one.
    Call,
    /// A list of models.
    List,
}

impl Pool {
    /// What an active check of a credential came to: a success lifts what bars it for a fault of its own, a failure of that kind
    /// bars it, as far as what was asked is believed. A spent quota is lifted only by a model that answered: lists are free.
    pub fn checked(&self, credential: &str, outcome: &Outcome, asked: Asked, now: Instant) {
        let roster = &self.roster;
        let Some(account) = roster.by_name.get(credential).map(|index| &roster.accounts[*index]) else {
            return;
        };
        if outcome.inconclusive || !roster.cooldown {
            return;
        }
        let ticket = {
            let mut state = account.state.lock();
            let counts = match outcome.failure {
                None => {
                    let reason = state.cooldown.reason().filter(|_| state.cooldown.is_cooling());
                    reason != Some(Failure::QuotaSpent) || asked == Asked::Model
                }
                Some(failure) if cooldown::lesson(failure, false) != Lesson::Account => false,
                Some(failure) if asked == Asked::List => {
                    let works = failure == Failure::Unauthorised && state.works;
                    !works && !state.cooldown.is_quarantined()
                }
                Some(_) => true,
            };
            if !counts {
                return;
            }
            state.cooldown.enter_as_check(now)
        };
        match outcome.failure {
            None => roster.proved(account, ticket, asked == Asked::Model),
            Some(failure) => {
                let witness = match asked {
                    Asked::List => Witness::List,
                    Asked::Path | Asked::Model => Witness::Call,
                };
                let (told, open) = (outcome.retry_after, roster.open);
                roster.fault(account, Blow { failure, told, open }, ticket, witness, now);
            }
        }
    }

    /// A model call has succeeded with this credential since it was loaded, and none has been refused as unauthorised since.
    pub fn works(&self, credential: &str) -> bool {
        let index = self.roster.by_name.get(credential);
        index.is_some_and(|index| self.roster.accounts[*index].state.lock().works)
    }

    /// Takes a credential out of the choice until it is enabled again (the operator's word; kept over reloads and restarts, and
    /// over a change of its secret). Enabling also forgets what cools it, as a whole and for each model, disabled or not. False:
    /// there is none of this name.
    pub fn set_disabled(&self, credential: &str, disabled: bool) -> bool {
        let roster = &self.roster;
        let Some(index) = roster.by_name.get(credential).copied() else {
            return false;
        };
        let account = &roster.accounts[index];
        let before = std::mem::replace(&mut account.state.lock().disabled, disabled);
        if !disabled {
            roster.forget(index, self.lanes.load().values());
        }
        if before != disabled {
            roster.changes.count();
            account.waiters.wake();
            let word = if disabled { "disabled" } else { "enabled" };
            tracing::info!(provider = %roster.provider, %credential, "credential {word}");
        }
        true
    }
}

impl Roster {
    /// A credential as a whole failed.
    pub(super) fn fault(&self, account: &Account, blow: Blow, ticket: Ticket, witness: Witness, now: Instant) {
        let (changed, before, after, until) = {
            let mut state = account.state.lock();
            let (before, cooled) = (state.cooldown.is_quarantined(), state.cooldown.is_cooling());
            let changed = state.cooldown.failed(blow, ticket, now);
            let alone = witness == Witness::List && blow.failure == Failure::Unauthorised;
            state.lists_alone = alone && (state.lists_alone || changed && !cooled);
            state.works &= witness == Witness::List || blow.failure != Failure::Unauthorised;
            (changed, before, state.cooldown.is_quarantined(), state.cooldown.until())
        };
        if changed {
            self.changes.count();
        }
        if after && !before {
            let seconds = until.map_or(0, |until| until.saturating_duration_since(now).as_secs());
            let (provider, credential, reason) = (&self.provider, &account.name, blow.failure.as_str());
            tracing::warn!(%provider, %credential, reason, seconds, "credential quarantined: it is asked again after this time");
        }
    }

    /// A credential as a whole was taken by the provider. `answered`: a model answered.
    pub(super) fn proved(&self, account: &Account, ticket: Ticket, answered: bool) {
        let (returned, was) = {
            let mut state = account.state.lock();
            let was = state.cooldown.is_quarantined();
            state.works |= answered;
            // Whenever the call began: it knows better than lists.
            let returned = match answered && state.lists_alone {
                true => state.cooldown.forget(),
                false => state.cooldown.succeeded(ticket),
            };
            state.lists_alone &= state.cooldown.is_cooling();
            (returned, was)
        };
        if returned {
            account.waiters.wake();
            self.changes.count();
            if was {
                tracing::info!(provider = %self.provider, credential = %account.name, "credential works again");
            }
        }
    }

    /// What cools this credential, as a whole or for one of these models, is ready at once.
    pub(super) fn forget<'a>(&self, index: usize, lanes: impl Iterator<Item = &'a Arc<Lane>>) {
        let account = &self.accounts[index];
        let mut cooled = account.state.lock().cooldown.forget();
        if cooled {
            account.waiters.wake();
        }
        for seat in lanes.filter_map(|lane| lane.seats.get(index)) {
            if seat.state.lock().cooldown.forget() {
                seat.waiters.wake();
                cooled = true;
            }
        }
        if cooled {
            self.changes.count();
        }
    }
}
