//! While the store goes from one process to the next, calls wait: for the end of those under way before it is let go, and
//! then for what becomes of the upgrade.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use super::refusal::Refusal;

/// How long a call waits for the end of an upgrade, before it is told to come again.
const WAIT: Duration = Duration::from_secs(10);
/// How long an upgrade waits for the calls under way.
const CALLS: Duration = Duration::from_secs(10);

/// Lets calls through, or not. Each call holds it shared; in it stands whether the store is with another process for good.
#[derive(Clone, Default)]
pub struct Pause(Arc<RwLock<bool>>);

/// No call runs until this is dropped.
pub struct Paused(OwnedRwLockWriteGuard<bool>);

impl Pause {
    /// Holds back all calls, before there is any. `None`: there are some.
    pub fn now(&self) -> Option<Paused> {
        self.0.clone().try_write_owned().ok().map(Paused)
    }

    /// Waits for the calls under way, and holds back the next ones. `None`: they take too long.
    pub async fn pause(&self) -> Option<Paused> {
        let alone = tokio::time::timeout(CALLS, self.0.clone().write_owned());
        alone.await.ok().map(Paused)
    }
}

impl Paused {
    /// The store does not come back: calls are refused from now on.
    pub fn for_good(mut self) {
        *self.0 = true;
    }
}

/// A call's turn. Whoever works on for a caller that is gone holds it too.
#[derive(Clone)]
pub(super) struct Turn(#[expect(dead_code, reason = "held for its drop")] Arc<OwnedRwLockReadGuard<bool>>);

/// The layer around all calls.
pub(super) async fn hold(State(pause): State<Pause>, mut request: Request, next: Next) -> Response {
    let turn = tokio::time::timeout(WAIT, pause.0.read_owned()).await;
    match turn {
        Ok(turn) if !*turn => {
            let turn = Turn(Arc::new(turn));
            request.extensions_mut().insert(turn.clone());
            let response = next.run(request).await;
            drop(turn);
            response
        }
        _ => Refusal::upgrading().into_response(),
    }
}
