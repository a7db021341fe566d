//! `[provider.NAME]`: who answers, and how it is addressed.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use crate::config::fields::{Fields, unknown};
use crate::config::value::Value;
use crate::dialects;

use super::environment::Environment;
use super::{
    Auth, Base, Credential, Egress, HttpVersions, Provider, RouteTimeouts, Strategy, StreamUsage, address, credential,
    egress_file, health,
};

/// Most addresses in `connect_to`.
const MAX_ADDRESSES: usize = 64;
/// Most headers a provider adds.
const MAX_HEADERS: usize = 32;
/// Most reasons told why a provider is inactive.
const MAX_REASONS: usize = 4;
/// Bounds of every time here, as in the configuration.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

const LATER: &[(&str, &str)] = &[
    ("limits", "limits of a provider"),
    ("prices", "prices"),
    ("models", "lists of models"),
];

/// Compiles one provider. `elsewhere`: credentials of it which stand outside of it. `None`: it is wrong, and reported.
pub(super) fn compile(
    name: &str,
    value: &Value<'_>,
    elsewhere: &[Value<'_>],
    environment: &dyn Environment,
) -> Option<Provider> {
    let mut fields = value.table()?;
    let dialects = fields.need("dialects", "dialects = { DIALECT = \"https://api.example.com/v1\" }");
    let bases = dialects.and_then(|value| bases(&value, environment));
    let auth_value = fields.get("auth");
    let auth = auth_value.as_ref().and_then(auth);
    let credentials = credential::all(&mut fields, elsewhere, environment);
    let versions = [
        ("1.1", HttpVersions::H1),
        ("2", HttpVersions::H2),
        ("both", HttpVersions::Both),
    ];
    let http = fields.get("http").and_then(|value| value.word(&versions));
    let stream_usage = fields.get("stream_usage");
    let stream_usage = stream_usage.and_then(|value| value.word_of(StreamUsage::ALL, StreamUsage::as_str));
    let connect_to = fields
        .get("connect_to")
        .map(|value| addresses(&value))
        .unwrap_or_default();
    let headers = fields.get("headers").map(|value| headers(&value)).unwrap_or_default();
    let timeouts = timeouts(fields.table("timeouts"));
    let strategy = fields.get("strategy").and_then(|value| strategy(&value));
    let health = fields.get("health").map(|value| health::read(&value));
    let cooldown = fields
        .get("cooldown")
        .and_then(|value| value.word(&[("on", true), ("off", false)]));
    let egress = egress_file::egress(&mut fields, environment);
    let tls_value = fields.get("tls");
    let tls = tls_value.as_ref().map(|value| egress_file::tls(value, environment));

    match (&auth, fields.get("credential").or_else(|| elsewhere.first().cloned())) {
        (Some(Auth::None), Some(credential)) => credential
            .problem("auth = \"none\" says that this provider wants no key. Remove the credential, or remove auth."),
        (Some(Auth::Bearer | Auth::Header(_)), None) => fields.problem(no_credential(name)),
        // A mistake in `auth` is told already; which one was meant can't be known.
        (None, None) if auth_value.is_none() => fields.problem(no_credential(name)),
        _ => {}
    }
    fields.later(LATER).finish();

    let bases = bases?;
    let plain = bases
        .iter()
        .flat_map(|(base, _)| &base.url)
        .all(|url| url.scheme() == "http");
    if let (true, Some(value)) = (plain, &tls_value) {
        value.warn("it says nothing here: all of the provider's URLs are http://, without TLS. Write https:// there.");
    }
    let (egress, no_proxy) = match egress? {
        Ok(egress) => (egress, None),
        Err(reason) => (Egress::default(), Some(reason)),
    };
    let tls = match tls {
        None => None,
        Some(read) => Some(Arc::new(read?)),
    };
    let health = match health {
        None => health::Health::default(),
        Some(read) => read?,
    };
    let usual = if plain { HttpVersions::H1 } else { HttpVersions::Both };
    let inactive = inactive(&bases, auth.as_ref(), &credentials).or(no_proxy);
    Some(Provider {
        name: name.into(),
        bases: bases.into_iter().map(|(base, _)| base).collect(),
        connect_to,
        auth,
        http: http.unwrap_or(usual),
        stream_usage: stream_usage.unwrap_or(StreamUsage::Ask),
        headers,
        credentials,
        timeouts,
        strategy: strategy.unwrap_or_default(),
        egress: Egress { tls, ..egress },
        health,
        cooldown: cooldown.unwrap_or(true),
        inactive,
    })
}

fn no_credential(name: &str) -> String {
    format!(
        "it has no credential. Add [[provider.{name}.credential]] with name and key, or auth = \"none\" if it wants \
         none."
    )
}

/// Why the provider can't be used: everything that is missing, each once.
fn inactive(bases: &[(Base, Option<String>)], auth: Option<&Auth>, credentials: &[Arc<Credential>]) -> Option<String> {
    let no_base = bases.iter().all(|(base, _)| base.url.is_none());
    let no_key = auth != Some(&Auth::None) && credentials.iter().all(|c| c.secret.is_none());
    if !no_base && !no_key {
        return None;
    }
    let of_bases = bases
        .iter()
        .filter(|_| no_base)
        .filter_map(|(_, reason)| reason.as_deref());
    let of_keys = credentials
        .iter()
        .filter(|_| no_key)
        .filter_map(|c| c.inactive.as_deref());
    let mut reasons: Vec<&str> = Vec::new();
    for reason in of_bases.chain(of_keys) {
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    let more = reasons.len().saturating_sub(MAX_REASONS);
    reasons.truncate(MAX_REASONS);
    let mut told = reasons.join("; ");
    if more > 0 {
        told.push_str(&format!("; and {more} more"));
    }
    Some(told)
}

/// Each dialect's base, with the reason where there is no URL.
fn bases(value: &Value<'_>, environment: &dyn Environment) -> Option<Vec<(Base, Option<String>)>> {
    let entries = value.table()?.entries();
    if entries.is_empty() {
        value.problem("it speaks no dialect. Name at least one, with its base URL.");
    }
    let mut sound = !entries.is_empty();
    let mut bases = Vec::new();
    for (name, value) in entries {
        let Some(dialect) = dialects::by_name(name) else {
            let known: Vec<&str> = dialects::ALL.iter().map(|d| d.id().as_str()).collect();
            value.problem(unknown("dialect", name, &known));
            sound = false;
            continue;
        };
        match address::base(&value, environment) {
            Some(url) => {
                let reason = url.as_ref().err().cloned();
                let base = Base {
                    dialect: dialect.id(),
                    url: url.ok(),
                };
                bases.push((base, reason));
            }
            None => sound = false,
        }
    }
    sound.then_some(bases)
}

/// `"bearer" | "none" | { header = "x-api-key" }`.
fn auth(value: &Value<'_>) -> Option<Auth> {
    if value.is_string() {
        let bearer = value.word(&[("bearer", true), ("none", false)])?;
        return Some(if bearer { Auth::Bearer } else { Auth::None });
    }
    let mut fields = value.table()?;
    let header = fields.need("header", "{ header = \"x-api-key\" }").and_then(|value| {
        let text = value.string()?;
        let name = HeaderName::from_bytes(text.as_bytes()).ok();
        match name {
            Some(name) if !of_the_gateway(name.as_str()) => return Some(name),
            Some(_) => value.problem("this header carries something else; a key can't be sent in it"),
            None => value.problem("this is not a header's name, as \"x-api-key\" is"),
        }
        None
    });
    fields.finish();
    header.map(Auth::Header)
}

fn addresses(value: &Value<'_>) -> Vec<SocketAddr> {
    let all = value.one_or_list();
    if all.len() > MAX_ADDRESSES {
        value.problem(format!("there may be {MAX_ADDRESSES} at most"));
    }
    all.into_iter()
        .take(MAX_ADDRESSES)
        .filter_map(|value| value.address())
        .collect()
}

fn headers(value: &Value<'_>) -> Vec<(HeaderName, HeaderValue)> {
    let entries = value.table().map(Fields::entries).unwrap_or_default();
    if entries.len() > MAX_HEADERS {
        value.problem(format!("there may be {MAX_HEADERS} at most"));
    }
    let mut names = HashSet::new();
    let mut headers = Vec::new();
    for (name, value) in entries.into_iter().take(MAX_HEADERS) {
        // Their values are never shown: a key may stand there.
        let value = value.secret();
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            value.problem("this is not a header's name, as \"http-referer\" is");
            continue;
        };
        if of_a_credential(name.as_str()) {
            value.problem(
                "this header is for a key, and keys never stand in this file. Write it as a credential, with \
                 auth = { header = \"...\" } if the provider wants it in this header.",
            );
            continue;
        }
        if of_the_gateway(name.as_str()) {
            value.problem("the gateway sets this header itself; remove it");
            continue;
        }
        if !names.insert(name.clone()) {
            value.problem("this header stands here twice, in different letters; remove one of them");
            continue;
        }
        let Some(text) = value.string() else { continue };
        match HeaderValue::from_str(text) {
            Ok(text) if !text.is_empty() => headers.push((name, text)),
            _ => value.problem("a header's value is one line of visible characters"),
        }
    }
    headers
}

/// Headers in which keys travel.
pub(super) fn of_a_credential(name: &str) -> bool {
    const NAMES: [&str; 5] = ["authorization", "proxy-authorization", "cookie", "api-key", "apikey"];
    const ENDS: [&str; 4] = ["api-key", "-token", "-secret", "-authorization"];
    NAMES.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

/// Headers which frame a message or name its ends.
fn of_the_gateway(name: &str) -> bool {
    const NAMES: [&str; 15] = [
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "accept-encoding",
        "transfer-encoding",
        "connection",
        "proxy-connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "x-request-id",
        "via",
    ];
    NAMES.contains(&name)
}

/// How one of several is chosen, at a provider or a route.
pub(super) fn strategy(value: &Value<'_>) -> Option<Strategy> {
    value.word_of(Strategy::ALL, Strategy::as_str)
}

/// Times of a provider or a route.
pub(super) fn timeouts(mut fields: Fields<'_>) -> RouteTimeouts {
    let times = RouteTimeouts {
        connect: fields.duration("connect", TIMES),
        first_byte: fields.duration("first_byte", TIMES),
        idle: fields.duration("idle", TIMES),
        total: fields.duration("total", TIMES),
    };
    fields.finish();
    times
}
