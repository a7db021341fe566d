//! The only place that asks what time it is, so that tests can turn the clock by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// Whole seconds, rounded down.
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }
}

/// Wall-clock time: the system's, or one that a test turns by hand.
#[derive(Clone, Debug, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Clock(None)
    }

    /// A clock which stands at `at` until [`Clock::set`] moves it.
    pub fn manual(at: UnixMicros) -> Self {
        Clock(Some(Arc::new(AtomicI64::new(at.0))))
    }

    /// What time it is. A system clock before 1970 reads as 1970.
    pub fn now(&self) -> UnixMicros {
        match &self.0 {
            Some(manual) => UnixMicros(manual.load(Ordering::Relaxed)),
            None => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                UnixMicros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
        }
    }

    /// Moves a manual clock; a system clock stays as it is.
    pub fn set(&self, at: UnixMicros) {
        if let Some(manual) = &self.0 {
            manual.store(at.0, Ordering::Relaxed);
        }
    }
}
