//! What a check came to.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::UnixMicros;
use crate::upstream::{Asked, Failure, Outcome};

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It works.
    Ok,
    /// It does not.
    Failed(Failure),
    /// The answer says neither: no list of models there, or one that anybody may read.
    Unproven,
}

impl Finding {
    /// The name used in metrics, the log and the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Finding::Ok => "ok",
            Finding::Failed(failure) => failure.as_str(),
            Finding::Unproven => "unproven",
        }
    }

    /// Whether a credential is good; `None`: this says nothing of it, the trouble lies elsewhere.
    pub fn credential_is_good(self) -> Option<bool> {
        match self {
            Finding::Ok => Some(true),
            Finding::Failed(failure) if failure.is_ours() => Some(false),
            Finding::Failed(_) | Finding::Unproven => None,
        }
    }
}

/// One check.
#[derive(Clone, Debug)]
pub struct CheckResult {
    /// When it ended.
    pub at: UnixMicros,
    /// How long it took.
    pub took: Duration,
    /// What it found.
    pub finding: Finding,
    /// The status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// For people: what was said. Printable, short, nothing of a secret.
    pub words: String,
    /// How long the provider asks to wait.
    pub retry_after: Option<Duration>,
    /// What was asked, and so what it proves.
    pub asked: Asked,
}

impl CheckResult {
    /// The same beside model calls that succeed: a list of models which refuses this key says nothing of it.
    pub(super) fn beside_calls(self) -> Self {
        let refused = matches!(
            self.finding,
            Finding::Failed(Failure::Unauthorised | Failure::Forbidden)
        );
        if self.asked != Asked::List || !refused {
            return self;
        }
        CheckResult {
            finding: Finding::Unproven,
            words: format!(
                "model calls with this key succeed, though not the list of models: {}",
                self.words
            ),
            ..self
        }
    }

    /// What a pool is to learn of it.
    pub(super) fn outcome(&self) -> Outcome {
        Outcome {
            failure: match self.finding {
                Finding::Failed(failure) => Some(failure),
                Finding::Ok | Finding::Unproven => None,
            },
            retry_after: self.retry_after,
            inconclusive: self.finding.credential_is_good().is_none(),
            ..Outcome::default()
        }
    }
}

/// The last check of a place where a provider answers.
#[derive(Clone, Debug)]
pub struct PlaceCheck {
    /// Scheme, host and port: `https://api.example.com`.
    pub place: Arc<str>,
    /// Whether the name resolves.
    pub resolves: bool,
    /// When the certificate shown there expires; `None`: there is none, or it is not known.
    pub certificate_expires: Option<UnixMicros>,
    /// Each of its addresses.
    pub addresses: Vec<(SocketAddr, CheckResult)>,
}
