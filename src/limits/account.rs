//! One account: what a key or a group used, what it has reserved, and whether more fits.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};
use crate::money::NanoUsd;

use super::policy::{Limits, Window};

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

/// What was used. Only grows within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Requests: first attempts.
    pub requests: u64,
    /// Tokens, prompt and answer.
    pub tokens: u64,
    /// Charges.
    pub charge: NanoUsd,
}

/// What was used in one window that began at `from` (0 for [`Window::Total`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// When the window began.
    pub from: UnixMicros,
    /// What was used since.
    pub spent: Spent,
}

/// What was used in each window, in the order of [`Window::ALL`]. A pure function of the ledger's rows, in the account's time
/// zone: each row counts in the windows in which its attempt began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance(pub [Used; 4]);

/// The account of a key or a group.
pub struct Account {
    id: AccountId,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    limits: Limits,
    balance: Balance,
}

impl Account {
    fn new(id: AccountId) -> Self {
        Account {
            id,
            state: Mutex::default(),
        }
    }

    /// Whose it is.
    pub fn id(&self) -> &AccountId {
        &self.id
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        self.state.lock().limits.clone()
    }

    /// New limits, from now on, for requests under way too (what they reserved stays reserved).
    pub fn set_limits(&self, limits: Limits) {
        self.state.lock().limits = limits;
    }

    /// What was used, without what is reserved; windows that are over at `now` are empty.
    pub fn balance(&self, _now: UnixMicros) -> Balance {
        self.state.lock().balance
    }

    /// Adds a row nobody reserved for: one of a process that died, or of an attempt that was opened without a reservation.
    pub fn book(&self, at: UnixMicros, spent: Spent) {
        let mut state = self.state.lock();
        let State { limits, balance } = &mut *state;
        add(limits, balance, at, spent);
    }

    /// Puts what the ledger knows in place, at the start, before the first request.
    pub fn restore(&self, balance: Balance) {
        self.state.lock().balance = balance;
    }
}

/// Every account. Those of keys and groups that are gone stay: their rows do too.
#[derive(Default)]
pub struct Accounts(RwLock<BTreeMap<AccountId, Arc<Account>>>);

impl Accounts {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The account, made without limits if there is none.
    pub fn get(&self, id: &AccountId) -> Arc<Account> {
        if let Some(account) = self.0.read().get(id) {
            return account.clone();
        }
        let mut all = self.0.write();
        all.entry(id.clone())
            .or_insert_with(|| Arc::new(Account::new(id.clone())))
            .clone()
    }

    /// All of them, in the order of their ids.
    pub fn all(&self) -> Vec<Arc<Account>> {
        self.0.read().values().cloned().collect()
    }
}

/// Adds one row to the balance of an account: `at` is when its attempt began. The only function that decides in which window
/// something counts.
pub fn add(_limits: &Limits, balance: &mut Balance, _at: UnixMicros, spent: Spent) {
    for (used, _window) in balance.0.iter_mut().zip(Window::ALL) {
        used.spent.requests += spent.requests;
        used.spent.tokens = used.spent.tokens.saturating_add(spent.tokens);
        used.spent.charge += spent.charge;
    }
}
