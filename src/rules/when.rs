//! `when = { ... }`: what must hold of a request, beside its model name, for a route to take it.

use std::sync::Arc;

use globset::GlobSet;
use ipnet::IpNet;
use regex::Regex;

use crate::ir::{DialectId, MediaKind, Operation};

/// Conditions; all that are set must hold. A list holds if one of it does.
#[derive(Debug, Default)]
pub struct When {
    /// `dialect`: the client's.
    pub dialects: Vec<DialectId>,
    /// `operation`.
    pub operations: Vec<Operation>,
    /// `key`: id or name of the client key, globs allowed.
    pub keys: Option<GlobSet>,
    /// `owner` of the key, globs allowed.
    pub owners: Option<GlobSet>,
    /// `tag`: the key has one of these.
    pub tags: Vec<Arc<str>>,
    /// `header = { name = "glob" }`: each of these headers is there with such a value.
    pub headers: Vec<(http::HeaderName, GlobSet)>,
    /// `client`: the client's address is in one of these networks.
    pub networks: Vec<IpNet>,
    /// `prompt_tokens_from`, `prompt_tokens_below`: the estimate is in this range.
    pub prompt_tokens: Bounds,
    /// `output_tokens_from`, `output_tokens_below`: the output limit asked for; a request without one is outside.
    pub output_tokens: Bounds,
    /// `tools`: has tools, or has none.
    pub tools: Option<bool>,
    /// `media = ["image", ...]`: has one of these kinds; `media = false` is `Some(empty)`: has none at all.
    pub media: Option<Vec<MediaKind>>,
    /// `structured`: asks for structured output (JSON or a schema), or does not.
    pub structured: Option<bool>,
    /// `stream`: asks for a stream, or does not.
    pub stream: Option<bool>,
    /// `text`: a regular expression found in the last user message.
    pub text: Option<Regex>,
    /// `percent`: this share of requests.
    pub percent: Option<Percent>,
    /// `time`: now is within.
    pub time: Option<TimeOfDay>,
}

/// From (inclusive) and below (exclusive); `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// At least this.
    pub from: Option<u64>,
    /// Less than this.
    pub below: Option<u64>,
}

impl Bounds {
    /// There is a bound.
    pub fn is_set(&self) -> bool {
        self.from.is_some() || self.below.is_some()
    }

    /// Within.
    pub fn holds(&self, n: u64) -> bool {
        self.from.is_none_or(|from| from <= n) && self.below.is_none_or(|below| n < below)
    }
}

/// A share of requests, the same for all of one key or session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Percent {
    /// In hundredths of a percent: 0 to 10,000.
    pub basis_points: u16,
    /// What stays on one side.
    pub by: PercentBy,
}

/// What stays on one side of a percentage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PercentBy {
    /// A session; requests of none: their key (the default).
    #[default]
    Session,
    /// A client key.
    Key,
    /// Nothing: each request for itself.
    Request,
}

impl PercentBy {
    /// Every one.
    pub const ALL: [PercentBy; 3] = [PercentBy::Session, PercentBy::Key, PercentBy::Request];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            PercentBy::Session => "session",
            PercentBy::Key => "key",
            PercentBy::Request => "request",
        }
    }
}

/// A time of day: `time = { from = "22:00", to = "06:00", zone = "Asia/Shanghai", days = ["mon", "fri"] }`.
#[derive(Clone, Debug)]
pub struct TimeOfDay {
    /// Minutes since midnight.
    pub from: u16,
    /// Minutes since midnight, exclusive; before `from`: on the next day.
    pub to: u16,
    /// The zone it is meant in; UTC if it is not said.
    pub zone: jiff::tz::TimeZone,
    /// The days on which it begins; empty: every day.
    pub days: Vec<jiff::civil::Weekday>,
}

impl When {
    /// Some condition is about what stands inside the request: it has to be read.
    pub fn needs_survey(&self) -> bool {
        self.prompt_tokens.is_set()
            || self.output_tokens.is_set()
            || self.tools.is_some()
            || self.media.is_some()
            || self.structured.is_some()
            || self.text.is_some()
    }
}
