//! `/api/v1/status`: how the gateway is.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::input::{Asked, NoMore};
use super::look::Look;
use super::providers::{self, ProviderView};
use super::refusal::{AnyRefusal, ProblemView};
use super::rules::{digest, masker, problems};
use crate::ledger::LedgerStatus;
use crate::observe::rfc3339;

/// How the gateway is.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its version.
    pub version: String,
    /// When the process began, RFC 3339.
    #[schema(format = DateTime)]
    pub started_at: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// The rules in force.
    pub rules: RulesStatus,
    /// The ledger.
    pub ledger: LedgerView,
    /// The providers and their credentials, with why some are inactive.
    pub providers: Vec<ProviderView>,
}

/// The rules in force, and the last attempt to replace them.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RulesStatus {
    /// When they were loaded, RFC 3339.
    #[schema(format = DateTime)]
    pub loaded_at: String,
    /// Tells one state of the files from another.
    pub digest: String,
    /// The last reload.
    pub last_reload: ReloadView,
}

/// What became of a reload.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ReloadView {
    /// When it was tried, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// Whether its rules are in force; if not the ones before are.
    pub ok: bool,
    /// What stood in its way, or warnings.
    pub problems: Vec<ProblemView>,
}

/// How full and how far the ledger is.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct LedgerView {
    /// Attempts open now.
    pub open: u64,
    /// Records handed over and not yet in the journal.
    pub queued: u64,
    /// Bytes of journal not yet in the store.
    pub lag_bytes: u64,
    /// Rows in the store.
    pub rows: u64,
}

impl From<LedgerStatus> for LedgerView {
    fn from(status: LedgerStatus) -> Self {
        LedgerView {
            open: status.open,
            queued: status.queued,
            lag_bytes: status.lag_bytes,
            rows: status.rows,
        }
    }
}

/// Version, uptime, rules, ledger, providers.
#[utoipa::path(get, path = "/api/v1/status", tag = "status", operation_id = "status",
    responses((status = 200, description = "How it is.", body = Status), AnyRefusal))]
pub(super) async fn status(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Json<Status> {
    let state = &api.state;
    let rules = state.rules.load();
    let masker = masker(&rules);
    let reload = state.rules.status();
    Json(Status {
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: rfc3339(state.started).to_string(),
        uptime_seconds: u64::try_from(state.clock.now().seconds() - state.started.seconds()).unwrap_or(0),
        rules: RulesStatus {
            loaded_at: rfc3339(rules.loaded_at).to_string(),
            digest: digest(&rules),
            last_reload: ReloadView {
                at: rfc3339(reload.at).to_string(),
                ok: reload.ok,
                problems: problems(&reload.problems, &masker),
            },
        },
        ledger: state.ledger.status().into(),
        providers: providers::views(&Look::at(state), &state.checks),
    })
}
