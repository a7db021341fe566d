//! The sections about pools and routes: `[retries]`, `[affinity]`, `[health]`, `client_address`. What each field means
//! for an operator stands in `conf/tollgate.toml`.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::HeaderName;
use ipnet::IpNet;

use super::fields::Fields;
use super::load::{count, networks_of};
use super::sound::Seen;
use super::value::Value;

/// Most headers that may name a session.
const MAX_SESSION_HEADERS: usize = 32;
/// Most headers that may name a client's address.
const MAX_ADDRESS_HEADERS: usize = 16;
/// Most conversations remembered: about 200 MiB.
const MAX_SESSIONS: u64 = 1_000_000;
/// Bounds of the wait before another attempt: a client waits behind it.
const WAITS: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
/// Bounds of the time a conversation is remembered.
const SESSION_TIMES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * DAY);
/// Bounds of one health check.
const CHECK_TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
/// Bounds of the warning before a certificate expires.
const WARNING_TIMES: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(365 * DAY);

const DAY: u64 = 24 * 3600;

/// `[retries]`: further attempts of a request, over all requests.
#[derive(Clone, Debug)]
pub struct Retries {
    /// Further attempts, as a share of first ones, in percent: 0 to 100.
    pub share_percent: u32,
    /// Further attempts that are always in stock, whatever the share says.
    pub reserve: u32,
    /// Wait before the second attempt at the same place; doubled from then on.
    pub wait: Duration,
    /// Longest of these waits.
    pub max_wait: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Retries {
            share_percent: 20,
            reserve: 1000,
            wait: Duration::from_millis(50),
            max_wait: Duration::from_millis(800),
        }
    }
}

/// `[affinity]`: how conversations are told apart, and how long their place is remembered.
#[derive(Clone, Debug)]
pub struct AffinitySettings {
    /// Headers in which clients name a session, beside those of the dialects. The first that is there counts.
    pub headers: Vec<HeaderName>,
    /// How long after its last request a conversation's place is remembered.
    pub ttl: Duration,
    /// Conversations remembered at once.
    pub sessions: usize,
}

impl Default for AffinitySettings {
    fn default() -> Self {
        AffinitySettings {
            headers: [
                "x-session-id",
                "x-session-affinity",
                "session-id",
                "session_id",
                "x-conversation-id",
            ]
            .map(HeaderName::from_static)
            .to_vec(),
            ttl: Duration::from_secs(3600),
            sessions: 100_000,
        }
    }
}

/// `[health]`: active checks of providers; how often is each provider's own.
#[derive(Clone, Debug)]
pub struct HealthSettings {
    /// Checks under way at once, over all providers.
    pub parallel: usize,
    /// Longest time of one check.
    pub timeout: Duration,
    /// How long before it expires a provider's certificate is warned of.
    pub certificate_warning: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        HealthSettings {
            parallel: 32,
            timeout: Duration::from_secs(10),
            certificate_warning: Duration::from_secs(14 * DAY),
        }
    }
}

/// A header with the client's address, believed if it comes from these networks (HARDENING H5).
#[derive(Clone, Debug)]
pub struct AddressHeader {
    /// The header: one address.
    pub header: HeaderName,
    /// Who sets it. Never empty.
    pub from: Vec<IpNet>,
}

pub(super) fn retries<'a>(mut fields: Fields<'a>, seen: &mut Seen<'a>) -> Retries {
    let default = Retries::default();
    let share = fields.get("share").and_then(|value| percent(&value));
    let reserve = fields.integer("reserve", 0..=1_000_000);
    let mut wait = |name, default| {
        let value = fields.get(name);
        let read = value.as_ref().and_then(|v| v.duration(WAITS)).unwrap_or(default);
        seen.note(value);
        read
    };
    let (wait, max_wait) = (wait("wait", default.wait), wait("max_wait", default.max_wait));
    fields.finish();
    Retries {
        share_percent: share.unwrap_or(default.share_percent),
        reserve: reserve.and_then(|n| n.try_into().ok()).unwrap_or(default.reserve),
        wait,
        max_wait,
    }
}

/// `"20%"`.
pub(super) fn percent(value: &Value<'_>) -> Option<u32> {
    let percent = value
        .text()
        .and_then(|text| text.strip_suffix('%')?.trim_end().parse().ok());
    if let Some(percent @ 0..=100) = percent {
        return Some(percent);
    }
    value.problem("it must be a share in whole percent, from \"0%\" to \"100%\"");
    None
}

pub(super) fn affinity(mut fields: Fields<'_>) -> AffinitySettings {
    let default = AffinitySettings::default();
    let headers = fields.get("headers").and_then(|value| {
        let all = value.list()?;
        if all.len() > MAX_SESSION_HEADERS {
            value.problem(format!("there may be {MAX_SESSION_HEADERS} at most"));
        }
        let all = all.into_iter().take(MAX_SESSION_HEADERS);
        Some(all.filter_map(|value| session_header(&value)).collect())
    });
    let settings = AffinitySettings {
        headers: headers.unwrap_or(default.headers),
        ttl: fields.duration("ttl", SESSION_TIMES).unwrap_or(default.ttl),
        sessions: fields
            .integer("sessions", 1..=MAX_SESSIONS)
            .map_or(default.sessions, count),
    };
    fields.finish();
    settings
}

fn header(value: &Value<'_>, example: &str) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(value.string()?.as_bytes()).ok();
    if name.is_none() {
        value.problem(format!("this is not a header's name, as \"{example}\" is"));
    }
    name
}

fn session_header(value: &Value<'_>) -> Option<HeaderName> {
    let name = header(value, "x-session-id")?;
    if ["authorization", "x-api-key", "x-goog-api-key", "cookie"].contains(&name.as_str()) {
        value.problem("keys travel in this header, and it is the same for all conversations of a client. Remove it.");
        return None;
    }
    Some(name)
}

pub(super) fn client_address(root: &mut Fields<'_>) -> Vec<AddressHeader> {
    let Some(value) = root.get("client_address") else {
        return Vec::new();
    };
    let all = value.list().unwrap_or_default();
    if all.len() > MAX_ADDRESS_HEADERS {
        value.problem(format!("there may be {MAX_ADDRESS_HEADERS} at most"));
    }
    let all = all.into_iter().take(MAX_ADDRESS_HEADERS);
    all.filter_map(|value| address_header(value.table()?)).collect()
}

fn address_header(mut fields: Fields<'_>) -> Option<AddressHeader> {
    const HEADER: &str = "header = \"x-real-ip\"";
    const FROM: &str = "from = [\"10.0.0.0/8\"], the networks of those who set it";
    let header = fields.need("header", HEADER).and_then(|value| {
        let name = header(&value, "x-real-ip")?;
        if ["x-forwarded-for", "forwarded"].contains(&name.as_str()) {
            value.problem("this header lists several addresses; the networks which set it belong into trusted_proxies");
            return None;
        }
        Some(name)
    });
    let from = fields.need("from", FROM).map(|value| {
        let networks = networks_of(&value);
        if networks.is_empty() && value.list().is_some_and(|all| all.is_empty()) {
            value.problem("there must be one network at least: a header that anyone may set says nothing");
        }
        networks
    });
    fields.finish();
    Some(AddressHeader {
        header: header?,
        from: from.filter(|from| !from.is_empty())?,
    })
}

pub(super) fn health(mut fields: Fields<'_>) -> HealthSettings {
    let default = HealthSettings::default();
    let settings = HealthSettings {
        parallel: fields.integer("parallel", 1..=1024).map_or(default.parallel, count),
        timeout: fields.duration("timeout", CHECK_TIMES).unwrap_or(default.timeout),
        certificate_warning: fields
            .duration("certificate_warning", WARNING_TIMES)
            .unwrap_or(default.certificate_warning),
    };
    fields.finish();
    settings
}
