//! What was used in each calendar window: a pure function of the ledger's rows.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::money::NanoUsd;

use super::policy::Window;

/// What was used. Only grows within a window; sums stop at the largest number instead of wrapping around.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Requests: first attempts.
    pub requests: u64,
    /// Tokens, prompt and answer.
    pub tokens: u64,
    /// Charges.
    pub charge: NanoUsd,
}

impl Spent {
    /// Nothing.
    pub const NOTHING: Spent = Spent {
        requests: 0,
        tokens: 0,
        charge: NanoUsd::ZERO,
    };
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Spent) {
        self.requests = self.requests.saturating_add(other.requests);
        self.tokens = self.tokens.saturating_add(other.tokens);
        self.charge += other.charge;
    }
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

impl Balance {
    /// What was used in this window.
    pub fn used(&self, window: Window) -> &Used {
        &self.0[window as usize]
    }
}
