//! How the account of a key or a group stands: what was used, what requests under way hold, what is left.

use std::time::Instant;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::policy::WindowWord;
use crate::clock::UnixMicros;
use crate::limits::{Account, Left, Standing, WindowView};
use crate::observe::rfc3339;

/// An account as it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    /// The current day, week and month, and all time, in the time zone of the account.
    pub windows: Vec<UsedView>,
    /// The limits per minute, as far as there are any.
    pub minute: MinuteView,
    /// Requests under way.
    pub in_flight: u64,
    /// The most that may be under way at once; null: no limit.
    pub concurrent: Option<u32>,
    /// Requests that wait for room.
    pub waiting: usize,
}

/// One window.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UsedView {
    /// Which.
    pub window: WindowWord,
    /// When it began, RFC 3339; null: it is `total`.
    #[schema(format = DateTime)]
    pub from: Option<String>,
    /// The first moment after it, when a new one begins; null: never.
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// Requests.
    pub requests: u64,
    /// Tokens, prompt and answer.
    pub tokens: u64,
    /// What was charged, in dollars.
    #[schema(example = "0.0123")]
    pub charge: String,
    /// What requests under way hold besides.
    pub reserved: SumView,
    /// What is left of the budget, after what was used and what is held; null: there is no budget for this window.
    pub left: Option<LeftView>,
}

/// An amount of requests, tokens and money.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SumView {
    /// Requests.
    pub requests: u64,
    /// Tokens, prompt and answer.
    pub tokens: u64,
    /// Money, in dollars.
    #[schema(example = "0.0123")]
    pub charge: String,
}

/// What is left of a budget; null: not limited.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftView {
    /// Requests.
    pub requests: Option<u64>,
    /// Tokens.
    pub tokens: Option<u64>,
    /// Money, in dollars.
    #[schema(example = "0.0123")]
    pub charge: Option<String>,
}

/// Limits per minute; null: not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MinuteView {
    /// Requests.
    pub requests: Option<MinuteLeft>,
    /// Tokens.
    pub tokens: Option<MinuteLeft>,
}

/// What is left of a limit per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MinuteLeft {
    /// The limit.
    pub limit: u64,
    /// What is left of it now.
    pub remaining: u64,
    /// Until all of it is there again, in milliseconds.
    pub reset_ms: u64,
}

impl AccountView {
    /// The account at this time, which is the present.
    pub(super) fn of(account: &Account, now: UnixMicros) -> Self {
        let view = account.view(now, Instant::now());
        AccountView {
            windows: view.windows.iter().map(UsedView::of).collect(),
            minute: view.standing.into(),
            in_flight: view.in_flight,
            concurrent: view.limits.concurrent,
            waiting: view.waiting,
        }
    }
}

impl UsedView {
    fn of(view: &WindowView) -> Self {
        let (spent, reserved) = (&view.spent, &view.reserved);
        let left = |most: u64, spent: u64, reserved: u64| most.saturating_sub(spent).saturating_sub(reserved);
        UsedView {
            window: view.window.into(),
            from: view.begins.map(|at| rfc3339(at).to_string()),
            until: view.ends.map(|at| rfc3339(at).to_string()),
            requests: spent.requests,
            tokens: spent.tokens,
            charge: spent.charge.to_string(),
            reserved: SumView {
                requests: reserved.requests,
                tokens: reserved.tokens,
                charge: reserved.charge.to_string(),
            },
            left: view.budget.as_ref().map(|budget| LeftView {
                requests: budget
                    .requests
                    .map(|most| left(most, spent.requests, reserved.requests)),
                tokens: budget.tokens.map(|most| left(most, spent.tokens, reserved.tokens)),
                charge: budget.money.map(|most| {
                    most.saturating_sub(spent.charge)
                        .saturating_sub(reserved.charge)
                        .to_string()
                }),
            }),
        }
    }
}

impl From<Standing> for MinuteView {
    fn from(standing: Standing) -> Self {
        let left = |left: Left| MinuteLeft {
            limit: left.limit,
            remaining: left.remaining,
            reset_ms: u64::try_from(left.reset.as_millis()).unwrap_or(u64::MAX),
        };
        MinuteView {
            requests: standing.requests.map(left),
            tokens: standing.tokens.map(left),
        }
    }
}
