//! What is written of an attempt.
//!
//! The order of fields here, and of the variants of every enum in them (`Ended`, `ir::FinishKind`), is the form on disk:
//! a change needs a new form in `form.rs`, and a test there fails until it has one.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::{AttemptId, KeyId, RequestId};
use crate::ir::{FinishKind, Usage};
use crate::money::NanoUsd;

/// What is known when an attempt begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The attempt.
    pub id: AttemptId,
    /// The request it belongs to.
    pub request: RequestId,
    /// Which try of that request, from 1.
    pub attempt: u16,
    /// When it began.
    pub at: UnixMicros,
    /// Whose key.
    pub key: KeyId,
    /// Which route; empty for `provider/model` and passthrough.
    pub route: Arc<str>,
    /// Which provider.
    pub provider: Arc<str>,
    /// Which of its credentials.
    pub credential: Arc<str>,
    /// What is asked: `chat`, `embeddings` ...
    pub operation: Arc<str>,
    /// The client's dialect; empty for passthrough.
    pub client_dialect: Arc<str>,
    /// The provider's dialect; empty for passthrough.
    pub provider_dialect: Arc<str>,
    /// The model the client asked for.
    pub model: Arc<str>,
    /// The model the provider was asked for.
    pub upstream_model: Arc<str>,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// The group of the key at that time; empty: none.
    pub group: Arc<str>,
    /// What it reserved of its budgets.
    pub reserved: NanoUsd,
    /// Estimate of the prompt's tokens; 0: nobody needed one.
    pub prompt_tokens: u64,
    /// What the prompt alone costs by that estimate; `None`: the price is unknown.
    pub prompt_cost: Option<NanoUsd>,
    /// What is charged if nobody ever learns what became of the attempt: its prompt.
    pub prompt_charge: NanoUsd,
}

/// What is known when it ends. Times in microseconds since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closing {
    /// The provider's status; `None`: it never answered.
    pub status: Option<u16>,
    /// What it cost in tokens; `None`: the provider reported nothing, and nothing is estimated.
    pub usage: Option<Usage>,
    /// Why the answer ended, in the hub's words.
    pub finish: Option<FinishKind>,
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// Tool calls in the answer.
    pub tool_calls: u32,
    /// Bytes of the body sent to the provider.
    pub request_bytes: u64,
    /// Bytes of the body received from it.
    pub response_bytes: u64,
    /// Until the header of its answer.
    pub first_byte_us: Option<u64>,
    /// Until the first event with content.
    pub first_token_us: Option<u64>,
    /// Until the end.
    pub total_us: u64,
    /// What went wrong, in a word: `connect_timeout`, `reset` ... Never text of the provider's.
    pub error: Option<String>,
    /// What the provider bills for it; `None`: the price is unknown. Nothing used costs nothing: that is `Some(0)`.
    pub cost: Option<NanoUsd>,
    /// What the client is charged.
    pub charge: NanoUsd,
    /// Usage, cost and charge are our estimate: the provider reported none.
    pub estimated: bool,
    /// The service tier which the provider says it used: `batch`, `flex`, `priority` ...
    pub service: Option<String>,
    /// Pictures in the prompt, where they have a price.
    pub images_in: u32,
    /// Pictures in the answer.
    pub images_out: u32,
}

impl Closing {
    /// The end of an attempt of which nobody learnt what became: its prompt is charged, as an estimate.
    pub fn unknown(opening: &Opening) -> Self {
        let mut closing = Closing::default();
        closing.settle_unknown(opening);
        closing
    }

    /// Usage, cost and charge of such an end.
    pub fn settle_unknown(&mut self, opening: &Opening) {
        self.usage = (opening.prompt_tokens > 0).then(|| Usage {
            input: opening.prompt_tokens,
            ..Usage::default()
        });
        self.cost = opening.prompt_cost;
        self.charge = opening.prompt_charge;
        self.estimated = true;
    }
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// The answer was read to its end.
    Complete,
    /// The provider answered with an error status.
    UpstreamError,
    /// It answered, then failed, broke or stopped without its last event.
    UpstreamBroke,
    /// No answer: connecting, sending or waiting failed.
    UpstreamFailed,
    /// The client went away.
    ClientGone,
    /// The gateway's own limit ended it: of time, or of the memory for large answers.
    TimedOut,
    /// Our code panicked.
    Panicked,
    /// The process died: found open at the next start.
    Interrupted,
}

impl Ended {
    /// The name used in logs, metrics, reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Ended::Complete => "complete",
            Ended::UpstreamError => "upstream_error",
            Ended::UpstreamBroke => "upstream_broke",
            Ended::UpstreamFailed => "upstream_failed",
            Ended::ClientGone => "client_gone",
            Ended::TimedOut => "timed_out",
            Ended::Panicked => "panicked",
            Ended::Interrupted => "interrupted",
        }
    }
}

/// One row of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// How it began.
    #[serde(flatten)]
    pub opening: Opening,
    /// What became of it.
    #[serde(flatten)]
    pub closing: Closing,
    /// How it ended.
    pub ended: Ended,
}

/// Words in [`Closing::error`] of attempts of which nothing reached a provider that could have begun to work.
/// (`dead_connection` is none of them: a pooled connection that closed without a word may have taken the request.)
pub const NEVER_SENT: [&str; 3] = [
    "upstream_connect_failed",
    "upstream_connect_timeout",
    "upstream_tls_failed",
];

/// The word in [`Closing::error`] of an attempt whose answer came whole and says that work on it goes on: what that uses nobody tells here.
pub const UNFINISHED: &str = "unfinished";

impl Row {
    /// It may have cost money nobody told of: it failed after it was sent, or its answer is not its end, and no usage came. (An error
    /// status is not billed by any provider we know.)
    pub fn maybe_billed(&self) -> bool {
        let failed = match self.ended {
            Ended::Complete => self.closing.error.as_deref() == Some(UNFINISHED),
            Ended::UpstreamError => false,
            Ended::UpstreamFailed => {
                let word = self.closing.error.as_deref().unwrap_or_default();
                !NEVER_SENT.contains(&word)
            }
            Ended::UpstreamBroke | Ended::ClientGone | Ended::TimedOut | Ended::Panicked | Ended::Interrupted => true,
        };
        failed && (self.closing.usage.is_none() || self.closing.estimated)
    }
}
