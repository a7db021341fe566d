//! `[alerts]`: what is told to webhooks, and when. What each field means for an operator stands in `conf/tollgate.toml`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::Fields;
use super::load::{count, time_or_off_within};
use super::name;
use super::pools::percent;
use super::reference::Reference;
use super::value::Value;

/// Most webhooks.
pub const MAX_WEBHOOKS: usize = 16;
/// Most thresholds of budgets.
const MAX_THRESHOLDS: usize = 8;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const HOLDS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(HOUR);
const CLEARS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(DAY);
const REMINDERS: RangeInclusive<Duration> = Duration::from_secs(10 * MINUTE)..=Duration::from_secs(30 * DAY);
const HEARTBEATS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(DAY);
const WINDOWS: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(HOUR);
const WARNINGS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * DAY);

/// `[alerts]`.
#[derive(Clone, Debug)]
pub struct Alerts {
    /// How long a condition holds before it is told.
    pub hold: Duration,
    /// How long it is gone before that is told.
    pub clear_after: Duration,
    /// How often a condition that stands is told again; `None`: never.
    pub remind: Option<Duration>,
    /// How often it is told that the gateway lives; `None`: never.
    pub heartbeat: Option<Duration>,
    /// Most messages to one webhook within an hour.
    pub max_per_hour: usize,
    /// Share of requests that end in errors, in percent, from which on they are too many; 1 to 100.
    pub error_rate: u32,
    /// Over how long it is taken.
    pub error_window: Duration,
    /// Requests within that time below which it says nothing.
    pub error_requests: u64,
    /// Shares of a budget, in percent, each of which is told when it is used; rising. Empty: budgets are not told.
    pub budgets: Vec<u32>,
    /// How long before its end a certificate is told of.
    pub certificate: Duration,
    /// Requests refused within a minute for want of room, from which on it is told.
    pub overload: u64,
    /// Who is told.
    pub webhooks: Vec<Webhook>,
}

impl Default for Alerts {
    fn default() -> Self {
        Alerts {
            hold: Duration::from_secs(30),
            clear_after: Duration::from_secs(2 * MINUTE),
            remind: None,
            heartbeat: None,
            max_per_hour: 30,
            error_rate: 10,
            error_window: Duration::from_secs(5 * MINUTE),
            error_requests: 20,
            budgets: vec![80, 100],
            certificate: Duration::from_secs(14 * DAY),
            overload: 10,
            webhooks: Vec::new(),
        }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its name, in logs, metrics and the admin API.
    pub name: String,
    /// What it speaks.
    pub kind: WebhookKind,
    /// Where it is: a secret, as who knows it can write there.
    pub url: Reference,
    /// What messages are signed with.
    pub secret: Option<Reference>,
    /// Of which conditions it is told; empty: of all.
    pub conditions: Vec<Condition>,
    /// From which gravity on.
    pub min_severity: Severity,
}

/// What a webhook speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookKind {
    /// An incoming webhook of Slack, or of whoever takes the same.
    Slack,
    /// A custom bot of Feishu (Lark).
    Feishu,
    /// JSON, signed with HMAC-SHA256.
    Generic,
}

impl WebhookKind {
    const ALL: [WebhookKind; 3] = [WebhookKind::Slack, WebhookKind::Feishu, WebhookKind::Generic];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            WebhookKind::Slack => "slack",
            WebhookKind::Feishu => "feishu",
            WebhookKind::Generic => "generic",
        }
    }
}

/// How grave something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Good to know.
    Info,
    /// To be looked at soon.
    Warning,
    /// Requests fail, or money or records are at stake.
    Critical,
}

impl Severity {
    const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }
}

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Condition {
    /// Too many requests end in errors.
    ErrorRate,
    /// A provider does not take a credential any more.
    CredentialDead,
    /// A provider has no credential or no address that works.
    ProviderDown,
    /// A budget is used up, or nearly.
    Budget,
    /// A certificate ends soon.
    Certificate,
    /// The ledger is damaged, does not add up, lacks rows, or its disk is full.
    Ledger,
    /// New rules were refused.
    ReloadFailed,
    /// Requests are refused for want of room.
    Overload,
    /// The process could not be replaced by a new one.
    UpgradeFailed,
    /// The gateway lives.
    Heartbeat,
}

impl Condition {
    /// Each of them.
    pub const ALL: [Condition; 10] = [
        Condition::ErrorRate,
        Condition::CredentialDead,
        Condition::ProviderDown,
        Condition::Budget,
        Condition::Certificate,
        Condition::Ledger,
        Condition::ReloadFailed,
        Condition::Overload,
        Condition::UpgradeFailed,
        Condition::Heartbeat,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Condition::ErrorRate => "error_rate",
            Condition::CredentialDead => "credential_dead",
            Condition::ProviderDown => "provider_down",
            Condition::Budget => "budget",
            Condition::Certificate => "certificate",
            Condition::Ledger => "ledger",
            Condition::ReloadFailed => "reload_failed",
            Condition::Overload => "overload",
            Condition::UpgradeFailed => "upgrade_failed",
            Condition::Heartbeat => "heartbeat",
        }
    }
}

pub(super) fn alerts(mut fields: Fields<'_>) -> Alerts {
    let default = Alerts::default();
    let alerts = Alerts {
        hold: fields.duration("for", HOLDS).unwrap_or(default.hold),
        clear_after: fields.duration("clear_after", CLEARS).unwrap_or(default.clear_after),
        remind: time_or_off_within(&mut fields, "remind", default.remind, REMINDERS),
        heartbeat: time_or_off_within(&mut fields, "heartbeat", default.heartbeat, HEARTBEATS),
        max_per_hour: fields
            .integer("max_per_hour", 2..=3600)
            .map_or(default.max_per_hour, count),
        error_rate: fields
            .get("error_rate")
            .and_then(|value| share(&value))
            .unwrap_or(default.error_rate),
        error_window: fields
            .duration("error_rate_window", WINDOWS)
            .unwrap_or(default.error_window),
        error_requests: fields
            .integer("error_rate_requests", 1..=1_000_000)
            .unwrap_or(default.error_requests),
        budgets: fields
            .get("budget")
            .and_then(|value| shares(&value))
            .unwrap_or(default.budgets),
        certificate: fields.duration("certificate", WARNINGS).unwrap_or(default.certificate),
        overload: fields.integer("overload", 1..=1_000_000).unwrap_or(default.overload),
        webhooks: fields.get("webhook").map(|value| webhooks(&value)).unwrap_or_default(),
    };
    fields.finish();
    alerts
}

/// `"1%"` to `"100%"`.
fn share(value: &Value<'_>) -> Option<u32> {
    let share = percent(value)?;
    if share == 0 {
        value.problem("it must be a share in whole percent, from \"1%\" to \"100%\"");
        return None;
    }
    Some(share)
}

fn shares(value: &Value<'_>) -> Option<Vec<u32>> {
    let all = value.list()?;
    if all.len() > MAX_THRESHOLDS {
        value.problem(format!("there may be {MAX_THRESHOLDS} at most"));
    }
    let mut shares: Vec<u32> = all.iter().take(MAX_THRESHOLDS).filter_map(share).collect();
    shares.sort_unstable();
    shares.dedup();
    Some(shares)
}

fn webhooks(value: &Value<'_>) -> Vec<Webhook> {
    let all = value.list().unwrap_or_default();
    if all.len() > MAX_WEBHOOKS {
        value.problem(format!("there may be {MAX_WEBHOOKS} at most"));
    }
    let mut webhooks: Vec<Webhook> = Vec::new();
    for value in all.into_iter().take(MAX_WEBHOOKS) {
        let Some(webhook) = value.table().and_then(webhook) else {
            continue;
        };
        if webhooks.iter().any(|other| other.name == webhook.name) {
            value.problem(format!(
                "there is a webhook \"{}\" already: give this one another name",
                webhook.name
            ));
            continue;
        }
        webhooks.push(webhook);
    }
    webhooks
}

fn webhook(mut fields: Fields<'_>) -> Option<Webhook> {
    let name = fields
        .need("name", "name = \"ops\"")
        .and_then(|value| name::check(&value));
    let kind = fields
        .need("kind", "kind = \"slack\", \"feishu\" or \"generic\"")
        .and_then(|value| value.word_of(WebhookKind::ALL, WebhookKind::as_str));
    let url = fields
        .need("url", "url = \"env:NAME\" or \"file:PATH\"")
        .and_then(|value| Reference::of(value, "webhook's URL"));
    let secret_stands = fields.get("secret");
    let secret = secret_stands.clone().and_then(|value| Reference::of(value, "secret"));
    match (kind, &secret_stands) {
        (Some(WebhookKind::Generic), None) => fields.problem(
            "secret is missing: without a signature the receiver can't tell who writes. Write secret = \"env:NAME\" or \
             \"file:PATH\", with 32 characters at least (openssl rand -hex 32).",
        ),
        (Some(WebhookKind::Slack), Some(value)) => {
            value
                .clone()
                .secret()
                .problem("this kind of webhook takes no signature: remove it");
        }
        _ => {}
    }
    let conditions = fields.get("conditions").and_then(|value| {
        let all = value.list()?;
        let words = all
            .iter()
            .filter_map(|value| value.word_of(Condition::ALL, Condition::as_str));
        let mut conditions: Vec<Condition> = words.collect();
        if all.is_empty() {
            value.problem("there must be one at least; leave it out for all");
        }
        conditions.sort_unstable();
        conditions.dedup();
        Some(conditions)
    });
    let min_severity = fields
        .get("min_severity")
        .and_then(|value| value.word_of(Severity::ALL, Severity::as_str));
    fields.finish();
    Some(Webhook {
        name: name?.to_owned(),
        kind: kind?,
        url: url?,
        secret,
        conditions: conditions.unwrap_or_default(),
        min_severity: min_severity.unwrap_or(Severity::Info),
    })
}
