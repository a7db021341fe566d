//! What a key or a group has used of what it may use.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::policy::WindowWord;
use crate::clock::UnixMicros;
use crate::limits::{Account, Window};
use crate::observe::rfc3339;

/// An account as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// What was used in the current day, week and month, and in total, in the time zone of the account.
    pub windows: Vec<UsedView>,
}

/// What was used in one window.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsedView {
    /// Which.
    pub window: WindowWord,
    /// When it began, RFC 3339; null: nothing was used in it, or it is `total`.
    #[schema(format = DateTime)]
    pub from: Option<String>,
    /// Requests.
    pub requests: u64,
    /// Tokens, prompt and answer.
    pub tokens: u64,
    /// What was charged, in dollars.
    #[schema(example = "0.0123")]
    pub charge: String,
}

impl AccountView {
    /// The account at this time. The one place to extend when accounts tell more (reserved, under way, the minute).
    pub(super) fn of(account: &Account, now: UnixMicros) -> Self {
        let balance = account.balance(now);
        let used = balance.0.iter().zip(Window::ALL).map(|(used, window)| UsedView {
            window: window.into(),
            from: (used.from.0 != 0).then(|| rfc3339(used.from).to_string()),
            requests: used.spent.requests,
            tokens: used.spent.tokens,
            charge: used.spent.charge.to_string(),
        });
        AccountView {
            windows: used.collect(),
        }
    }
}
