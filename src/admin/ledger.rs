//! `/api/v1/ledger`: do the books add up?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::input::{Asked, NoMore};
use super::refusal::{AnyRefusal, Refusal};
use crate::ledger::Verdict;

/// What comparing journals, rows, sums and balances found.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct VerdictView {
    /// Everything adds up.
    pub ok: bool,
    /// Journal files that were read.
    pub files: u64,
    /// Closed attempts in them.
    pub closed: u64,
    /// Attempts which are open.
    pub open: u64,
    /// Rows.
    pub rows: u64,
    /// Sums by day that were compared.
    pub sums: u64,
    /// Accounts that were compared.
    pub accounts: u64,
    /// Nothing moved meanwhile, so what is under way was compared too.
    pub quiet: bool,
    /// What does not add up, at most 100 of it.
    pub differences: Vec<String>,
    /// Differences that are not told.
    pub more: u64,
}

impl From<Verdict> for VerdictView {
    fn from(verdict: Verdict) -> Self {
        let Verdict {
            ok,
            files,
            closed,
            open,
            rows,
            sums,
            accounts,
            quiet,
            differences,
            more,
        } = verdict;
        VerdictView {
            ok,
            files,
            closed,
            open,
            rows,
            sums,
            accounts,
            quiet,
            differences,
            more,
        }
    }
}

/// Reads all journals, rows and sums and compares them with one another and with the balances of all accounts. Takes about a second
/// for a million rows; requests are not held up.
#[utoipa::path(get, path = "/api/v1/ledger/verify", tag = "ledger", operation_id = "verifyLedger",
    responses((status = 200, description = "What was found; `ok` says whether everything adds up.", body = VerdictView), AnyRefusal))]
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    _: Asked<NoMore, NoMore>,
) -> Result<Json<VerdictView>, Refusal> {
    let verdict = api.ask(|ledger| ledger.verify()).await?;
    Ok(Json(verdict.into()))
}
