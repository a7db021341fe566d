//! What alerts have to know that only the whole process knows: its own certificates, and what became of upgrades.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::alerts::{Expiry, Outside};

use super::tls::Tls;

/// Why the last upgrade failed; `None`: it did not, or there was none.
pub type FailedUpgrade = Arc<Mutex<Option<String>>>;

/// Both.
pub struct Beside {
    /// The listeners' certificates.
    pub tls: Arc<Tls>,
    /// The upgrade.
    pub failed_upgrade: FailedUpgrade,
}

impl Outside for Beside {
    fn certificates(&self) -> Vec<Expiry> {
        let expiry = |(name, at)| Expiry { name, at };
        self.tls.ends().into_iter().map(expiry).collect()
    }

    fn failed_upgrade(&self) -> Option<String> {
        self.failed_upgrade.lock().clone()
    }
}
