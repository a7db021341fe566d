//! `/api/v1/ledger`: do the books add up?

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::input::{Asked, NoMore};
use super::refusal::{AnyRefusal, Refusal};
use crate::ledger::Verdict;

/// Reads all journals, rows and sums and compares them with one another and with the balances of all accounts. Takes about a second
/// for a million rows; requests are not held up.
#[utoipa::path(get, path = "/api/v1/ledger/verify", tag = "ledger", operation_id = "verifyLedger",
    responses((status = 200, description = "What was found; `ok` says whether everything adds up.", body = Verdict), AnyRefusal))]
pub(super) async fn verify(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Result<Json<Verdict>, Refusal> {
    let verdict = api.ask(|ledger| ledger.verify()).await?;
    Ok(Json(verdict))
}
