//! How credentials stand, for the admin API, the metrics and the log.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Failure;

/// How a credential stands for one model, or as a whole.
#[derive(Clone, Debug)]
pub struct CredentialState {
    /// Its name within the provider.
    pub credential: Arc<str>,
    /// The model, by the provider's name; `None`: the credential as a whole.
    pub model: Option<Arc<str>>,
    /// Whether it may be asked.
    pub standing: CoolState,
    /// Why it cools.
    pub reason: Option<Failure>,
    /// When it may be asked again; `None`: now, or only after it was enabled.
    pub until: Option<Instant>,
    /// Failures in a row.
    pub failures: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Decaying average of the time to the first token.
    pub latency: Option<Duration>,
    /// Decaying share of successes, 0 to 1.
    pub success: f64,
}

/// Whether something may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoolState {
    /// It may.
    Ready,
    /// Not before a time.
    Cooling,
    /// The time is over; one request tries it, or will.
    Probing,
    /// Barred for a fault of the credential itself; checks and rare probes try it.
    Quarantined,
    /// The operator took it out.
    Disabled,
}

impl CoolState {
    /// Every one, from good to bad.
    pub const ALL: [CoolState; 5] = [
        CoolState::Ready,
        CoolState::Probing,
        CoolState::Cooling,
        CoolState::Quarantined,
        CoolState::Disabled,
    ];

    /// The name used in metrics and the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            CoolState::Ready => "ready",
            CoolState::Cooling => "cooling",
            CoolState::Probing => "probing",
            CoolState::Quarantined => "quarantined",
            CoolState::Disabled => "disabled",
        }
    }
}
