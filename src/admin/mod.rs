//! The admin API: its own listener, a token, JSON, an OpenAPI 3.1 document at `/api/v1/openapi.json`.

use std::sync::Arc;

use crate::config::Secret;
use crate::keys::Keys;
use crate::ledger::Ledger;
use crate::rules::Live;

/// What the admin API works on.
#[derive(Clone)]
pub struct AdminState {
    /// Client keys.
    pub keys: Arc<Keys>,
    /// The ledger.
    pub ledger: Ledger,
    /// The rules.
    pub rules: Arc<Live>,
    /// The token every call but the document must bear.
    pub token: Secret,
    /// When the process began.
    pub started: crate::clock::UnixMicros,
}

/// The router.
pub fn router(_state: AdminState) -> axum::Router {
    axum::Router::new()
}
