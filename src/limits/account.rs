//! One account: what a key or a group used, what it has reserved, and whether more fits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};

use super::handover::OwnerSlot;
use super::metrics;
use super::policy::Limits;
use super::queue::Lines;
use super::state::State;
use super::view::View;

pub use super::balance::{Balance, Spent, Used};

/// Whose account.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AccountId {
    /// A client key's.
    Key(KeyId),
    /// A group's.
    Group(GroupId),
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountId::Key(id) => write!(f, "key {id}"),
            AccountId::Group(id) => write!(f, "group {id}"),
        }
    }
}

/// The account of a key or a group.
pub struct Account {
    id: AccountId,
    pub(super) state: Mutex<State>,
    /// Who waits for room.
    pub(super) lines: Lines,
    /// Who has it, if that is another process.
    pub(super) owner: Arc<OwnerSlot>,
    // Copies, to be read without the lock.
    bounds_answers: AtomicBool,
    bounds_money: AtomicBool,
}

impl Account {
    fn new(id: AccountId, owner: Arc<OwnerSlot>) -> Self {
        let mut state = State::default();
        if owner.get().is_some() {
            state.begin_handed_over();
        }
        Account {
            id,
            state: Mutex::new(state),
            lines: Lines::default(),
            owner,
            bounds_answers: AtomicBool::new(false),
            bounds_money: AtomicBool::new(false),
        }
    }

    /// Whose it is.
    pub fn id(&self) -> &AccountId {
        &self.id
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.state.lock().limits().clone()
    }

    /// As [`Limits::bounds_answers`]; one atomic load.
    pub fn bounds_answers(&self) -> bool {
        self.bounds_answers.load(Ordering::Relaxed)
    }

    /// As [`Limits::bounds_money`]; one atomic load.
    pub fn bounds_money(&self) -> bool {
        self.bounds_money.load(Ordering::Relaxed)
    }

    /// New limits, from now on, for requests under way too (what they reserved stays reserved; what was used stays used). They
    /// should have passed [`Limits::check`]: an unknown time zone is taken as UTC.
    pub fn set_limits(&self, limits: Limits) {
        let (answers, money) = (limits.bounds_answers(), limits.bounds_money());
        {
            let mut state = self.state.lock();
            if *state.limits() == limits {
                return;
            }
            if let Err(problem) = limits.check() {
                tracing::warn!(account = %self.id, %problem, "limits are kept as far as they can be");
            }
            state.set_limits(limits);
            self.bounds_answers.store(answers, Ordering::Relaxed);
            self.bounds_money.store(money, Ordering::Relaxed);
        }
        self.lines.wake_all();
    }

    /// What was used, without what is reserved; windows that are over at `now` are empty.
    pub fn balance(&self, now: UnixMicros) -> Balance {
        self.state.lock().books_at(now).balance
    }

    /// Puts what the ledger knows in place, at the start, before the first request.
    pub fn restore(&self, balance: Balance) {
        self.state.lock().restore(balance);
    }

    /// Adds a row that nothing was reserved for: recovery replays the journal behind [`Account::restore`]; or one of a process
    /// that died, or of an attempt that was opened without a reservation.
    pub fn book(&self, at: UnixMicros, spent: Spent) {
        self.state.lock().book(at, spent);
    }

    /// How it stands, for the admin API: `at` and `now` are the same moment by both clocks.
    pub fn view(&self, at: UnixMicros, now: Instant) -> View {
        let mut state = self.state.lock();
        let standing = state.standing(now);
        View::new(
            state.limits(),
            &state.books_at(at),
            standing,
            state.in_flight(),
            self.lines.waiting(),
        )
    }
}

/// Every account. Those of keys and groups that are gone stay: their rows do too.
#[derive(Default)]
pub struct Accounts {
    pub(super) all: RwLock<BTreeMap<AccountId, Arc<Account>>>,
    pub(super) owner: Arc<OwnerSlot>,
}

impl Accounts {
    /// None yet.
    pub fn new() -> Self {
        metrics::declare();
        Self::default()
    }

    /// The account, made without limits if there is none.
    pub fn get(&self, id: &AccountId) -> Arc<Account> {
        if let Some(account) = self.all.read().get(id) {
            return account.clone();
        }
        let mut all = self.all.write();
        all.entry(id.clone())
            .or_insert_with(|| Arc::new(Account::new(id.clone(), self.owner.clone())))
            .clone()
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.all.read().values().cloned().collect()
    }
}
