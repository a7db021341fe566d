//! Questions to the ledger.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::UnixMicros;
use crate::ids::RequestId;
use crate::ir::Usage;
use crate::money::NanoUsd;

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
    /// The key's group at that time; empty: none.
    pub group: Option<String>,
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

/// Where a page ended: the place of its last row. Rows keep their places and new ones come behind, so paging on misses
/// none. As text (also in serde) 24 hexadecimal digits, opaque to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// The block's key.
    pub(super) block: u64,
    /// The row's number in it.
    pub(super) row: u32,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}{:08x}", self.block, self.row)
    }
}

/// A text is no cursor of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no cursor: pass the one an earlier page ended with, unchanged")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;

    fn from_str(text: &str) -> Result<Self, BadCursor> {
        if text.len() != 24 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(BadCursor);
        }
        let (block, row) = text.split_at(16);
        Ok(Cursor {
            block: u64::from_str_radix(block, 16).map_err(|_| BadCursor)?,
            row: u32::from_str_radix(row, 16).map_err(|_| BadCursor)?,
        })
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cursor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

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
    /// Day, UTC: `2026-01-31`.
    Day,
    /// The key's group at that time; empty: none.
    Group,
    /// Hour, UTC: `2026-01-31T05:00Z`.
    Hour,
    /// Route; empty: none. Answered from single rows, as far back as they are kept.
    Route,
    /// Week, UTC, from Monday (ISO 8601): `2026-W05`.
    Week,
    /// Month, UTC: `2026-01`.
    Month,
    /// Model the provider was asked for: what its invoices name. Answered from single rows, as far back as they are kept.
    UpstreamModel,
}

/// Sums of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLine {
    /// The group's values, in the order of the question.
    pub group: Vec<String>,
    /// Requests: first attempts.
    pub requests: u64,
    /// Upstream attempts.
    pub attempts: u64,
    /// Those which ended `complete`.
    pub complete: u64,
    /// Those which failed: ended neither `complete` nor `client_gone`.
    pub errors: u64,
    /// Those without reported usage.
    pub without_usage: u64,
    /// Those whose usage is our estimate.
    pub estimated: u64,
    /// Those whose price is unknown.
    pub unpriced: u64,
    /// Tokens.
    pub usage: Usage,
    /// What providers bill, as far as prices are known.
    pub cost: NanoUsd,
    /// What clients are charged.
    pub charge: NanoUsd,
    /// Bytes sent to providers.
    pub request_bytes: u64,
    /// Bytes received from them.
    pub response_bytes: u64,
}

/// The group stays.
impl std::ops::AddAssign<&ReportLine> for ReportLine {
    fn add_assign(&mut self, line: &ReportLine) {
        // Taken apart whole, so that a new sum can't be forgotten.
        let ReportLine {
            group: _,
            requests,
            attempts,
            complete,
            errors,
            without_usage,
            estimated,
            unpriced,
            usage,
            cost,
            charge,
            request_bytes,
            response_bytes,
        } = line;
        for (to, n) in [
            (&mut self.requests, requests),
            (&mut self.attempts, attempts),
            (&mut self.complete, complete),
            (&mut self.errors, errors),
            (&mut self.without_usage, without_usage),
            (&mut self.estimated, estimated),
            (&mut self.unpriced, unpriced),
            (&mut self.request_bytes, request_bytes),
            (&mut self.response_bytes, response_bytes),
        ] {
            *to = to.saturating_add(*n);
        }
        self.usage += *usage;
        self.cost += *cost;
        self.charge += *charge;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        let cursor = Cursor {
            block: 0x0006_3000_0000_00ab,
            row: 77,
        };
        assert_eq!(cursor.to_string().parse(), Ok(cursor));
        let json = serde_json::to_string(&cursor).unwrap();
        assert_eq!(serde_json::from_str::<Cursor>(&json).unwrap(), cursor);
        for bad in ["", "zz", "+00000000000000000000001", "0006300000000000000000ab1"] {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad}");
        }
    }
}
