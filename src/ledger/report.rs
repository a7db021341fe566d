//! Questions to the ledger.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::{AttemptId, RequestId};
use crate::ir::Usage;

use super::{Ended, Row};

/// Which rows. Every condition that is set must hold.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Began at or after.
    pub from: Option<UnixMicros>,
    /// Began before.
    pub until: Option<UnixMicros>,
    /// Client key id.
    pub key: Option<String>,
    /// Provider.
    pub provider: Option<String>,
    /// Credential.
    pub credential: Option<String>,
    /// Model asked for.
    pub model: Option<String>,
    /// Request id.
    pub request: Option<RequestId>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// Where a page ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(pub AttemptId);

/// Some rows, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// `Some`: there may be more.
    pub next: Option<Cursor>,
}

/// What sums are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// Client key.
    Key,
    /// Model asked for.
    Model,
    /// Provider.
    Provider,
    /// Credential (with its provider).
    Credential,
    /// Day, UTC.
    Day,
}

/// Sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// The group's values, in the order of the question.
    pub group: Vec<String>,
    /// Upstream attempts.
    pub attempts: u64,
    /// Those which ended `complete`.
    pub complete: u64,
    /// Those without reported usage.
    pub without_usage: u64,
    /// Tokens.
    pub usage: Usage,
    /// Bytes sent to providers.
    pub request_bytes: u64,
    /// Bytes received from them.
    pub response_bytes: u64,
}
