//! `/api/v1/ledger`: how far the ledger reaches, and whether the books add up.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::input::{Asked, NoMore};
use super::refusal::{AnyRefusal, Refusal};
use super::status::LedgerView;
use crate::clock::UnixMicros;
use crate::ledger::{Reach, Refilled, Verdict};
use crate::observe::rfc3339;

/// How the ledger stands, and how far back it reaches.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct LedgerStanding {
    /// How full and how far it is.
    pub status: LedgerView,
    /// Single rows of attempts that began before may be gone: removed for their age, or with a store that broke. RFC 3339; null: all
    /// are there.
    #[schema(format = DateTime)]
    pub rows_since: Option<String>,
    /// What came back when the store broke and was filled again; null: it never did.
    pub refilled: Option<RefilledView>,
    /// Damaged journal files which wait for `tollgate ledger repair`.
    pub damaged: u64,
    /// Originals of damaged journal files that were repaired.
    pub set_aside: u64,
}

/// What a store that was filled again has, and what it has not.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefilledView {
    /// When it was, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// Single rows that began before may be missing, RFC 3339; null: none is.
    #[schema(format = DateTime)]
    pub rows_since: Option<String>,
    /// How many are missing, told by sums of whole hours.
    pub rows_missing: u64,
    /// Sums of what began before may be missing, RFC 3339; null: none is.
    #[schema(format = DateTime)]
    pub sums_since: Option<String>,
}

impl From<Refilled> for RefilledView {
    fn from(refilled: Refilled) -> Self {
        let since = |at: i64| (at > 0).then(|| rfc3339(UnixMicros(at)).to_string());
        RefilledView {
            at: rfc3339(UnixMicros(refilled.at)).to_string(),
            rows_since: since(refilled.rows_since),
            rows_missing: refilled.rows_missing,
            sums_since: since(refilled.sums_since),
        }
    }
}

/// How full the ledger is, how far back its rows and sums reach, and which of its files are damaged.
#[utoipa::path(get, path = "/api/v1/ledger", tag = "ledger", operation_id = "ledger",
    responses((status = 200, description = "How it stands.", body = LedgerStanding), AnyRefusal))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    _: Asked<NoMore, NoMore>,
) -> Result<Json<LedgerStanding>, Refusal> {
    let (reach, status) = api.ask(|ledger| Ok((ledger.reach()?, ledger.status()))).await?;
    let Reach {
        rows_since,
        refilled,
        damaged,
        set_aside,
    } = reach;
    Ok(Json(LedgerStanding {
        status: status.into(),
        rows_since: rows_since.map(|at| rfc3339(at).to_string()),
        refilled: refilled.map(RefilledView::from),
        damaged,
        set_aside,
    }))
}

/// Reads all journals, rows and sums and compares them with one another and with the balances of all accounts. Takes about a second
/// for a million rows; requests are not held up.
#[utoipa::path(get, path = "/api/v1/ledger/verify", tag = "ledger", operation_id = "verify_ledger",
    responses((status = 200, description = "What was found; `ok` says whether everything adds up.", body = Verdict), AnyRefusal))]
pub(super) async fn verify(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Result<Json<Verdict>, Refusal> {
    let verdict = api.ask(|ledger| ledger.verify()).await?;
    Ok(Json(verdict))
}
