//! What a key or a group may use.

use jiff::tz::TimeZoneDatabase;
use serde::{Deserialize, Serialize};

use crate::money::NanoUsd;

use super::calendar;

/// Most requests per minute a limit can say. These bounds are there to catch a slip of the pen (nanoseconds, bytes, a negative
/// number read as a large one), and keep sums far from where they would stop.
pub const MAX_REQUESTS_PER_MINUTE: u64 = 1_000_000_000;
/// Most tokens per minute a limit can say.
pub const MAX_TOKENS_PER_MINUTE: u64 = 1_000_000_000_000;
/// Most requests at once a limit can say.
pub const MAX_CONCURRENT: u32 = 1_000_000;
/// Most requests of a budget.
pub const MAX_BUDGET_REQUESTS: u64 = 1_000_000_000_000;
/// Most tokens of a budget.
pub const MAX_BUDGET_TOKENS: u64 = 1_000_000_000_000_000;
/// Most money of a budget: a billion dollars.
pub const MAX_BUDGET_MONEY: NanoUsd = NanoUsd(1_000_000_000_000_000_000);

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

/// What may be used within one calendar window. What is used up is refused, whatever the request would cost: a budget of 0
/// refuses free requests too. What is not used up lets pass what fits into the rest.
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

/// Why limits can't be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadLimits {
    /// No time zone has this name.
    #[error("time_zone: no time zone is called \"{name}\"; {}", hint(.meant))]
    UnknownTimeZone {
        /// As it was written, cut after 64 characters.
        name: String,
        /// What was probably meant.
        meant: Option<String>,
    },
    /// Two budgets for one window.
    #[error("budgets: there are two for the window \"{}\"; write one with all its limits", .0.as_str())]
    Twice(Window),
    /// A budget that limits nothing.
    #[error("budgets: the one for the window \"{}\" limits nothing; give it requests, tokens or money, or leave it out", .0.as_str())]
    Empty(Window),
    /// More than anybody can mean.
    #[error("{field}: at most {most} can be set; leave it out for no limit")]
    TooMuch {
        /// Which.
        field: &'static str,
        /// The most it can be.
        most: String,
    },
}

fn hint(meant: &Option<String>) -> String {
    match meant {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => "write a name of the IANA database, as \"Europe/Berlin\"".into(),
    }
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
    /// Can they be set? The first thing that is wrong.
    pub fn check(&self) -> Result<(), BadLimits> {
        if let Some(name) = &self.time_zone
            && calendar::zone(name).is_none()
        {
            return Err(unknown_zone(name));
        }
        let most = |field, value: Option<u64>, most: u64| match value {
            Some(value) if value > most => Err(BadLimits::TooMuch {
                field,
                most: most.to_string(),
            }),
            _ => Ok(()),
        };
        most("requests_per_minute", self.requests_per_minute, MAX_REQUESTS_PER_MINUTE)?;
        most("tokens_per_minute", self.tokens_per_minute, MAX_TOKENS_PER_MINUTE)?;
        most("concurrent", self.concurrent.map(u64::from), MAX_CONCURRENT.into())?;
        for (index, budget) in self.budgets.iter().enumerate() {
            if self.budgets[..index].iter().any(|other| other.window == budget.window) {
                return Err(BadLimits::Twice(budget.window));
            }
            if budget.requests.is_none() && budget.tokens.is_none() && budget.money.is_none() {
                return Err(BadLimits::Empty(budget.window));
            }
            most("budgets.requests", budget.requests, MAX_BUDGET_REQUESTS)?;
            most("budgets.tokens", budget.tokens, MAX_BUDGET_TOKENS)?;
            if budget.money.is_some_and(|money| money > MAX_BUDGET_MONEY) {
                return Err(BadLimits::TooMuch {
                    field: "budgets.money",
                    most: format!("{MAX_BUDGET_MONEY} dollars"),
                });
            }
        }
        Ok(())
    }

    /// The budget of a window.
    pub fn budget(&self, window: Window) -> Option<&Budget> {
        self.budgets.iter().find(|budget| budget.window == window)
    }

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

/// Longest name repeated in a message, in characters.
const MAX_NAME: usize = 64;

fn unknown_zone(name: &str) -> BadLimits {
    // The last part is what people know: `Shanghai` is of Asia.
    let is_meant = |zone: &str| {
        zone.rsplit('/')
            .next()
            .is_some_and(|city| city.eq_ignore_ascii_case(name))
    };
    let database = TimeZoneDatabase::bundled();
    let meant = database
        .available()
        .map(|zone| zone.to_string())
        .find(|zone| is_meant(zone));
    BadLimits::UnknownTimeZone {
        name: name.chars().take(MAX_NAME).collect(),
        meant,
    }
}
