//! What a key or a group may use.

use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;

/// The limits of one key or one group. `None`: no limit; an explicit zero is zero (nothing is allowed).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Requests in any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens (prompt and answer) in any 60 seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrent: Option<u32>,
    /// Budgets, at most one for each window.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub budgets: Vec<Budget>,
    /// The time zone whose days, weeks (from Monday) and months count: a name of the IANA database, `Asia/Shanghai`. `None`: UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
}

/// What may be used within one calendar window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Which.
    pub window: Window,
    /// Requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<u64>,
    /// Tokens, prompt and answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Money: what the client is charged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub money: Option<NanoUsd>,
}

/// A calendar window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// From midnight.
    Day,
    /// From Monday's midnight (ISO 8601).
    Week,
    /// From the first day's midnight.
    Month,
    /// For good.
    Total,
}

impl Window {
    /// All, shortest first.
    pub const ALL: [Window; 4] = [Window::Day, Window::Week, Window::Month, Window::Total];

    /// Its name in messages, logs, the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Window::Day => "day",
            Window::Week => "week",
            Window::Month => "month",
            Window::Total => "total",
        }
    }
}

impl Limits {
    /// Something may run out in money or tokens: then an answer's length must be bounded, and the provider is told so.
    pub fn bounds_answers(&self) -> bool {
        self.tokens_per_minute.is_some()
            || self
                .budgets
                .iter()
                .any(|budget| budget.tokens.is_some() || budget.money.is_some())
    }

    /// Something may run out in money: then every price must be known.
    pub fn bounds_money(&self) -> bool {
        self.budgets.iter().any(|budget| budget.money.is_some())
    }
}
