//! The rules in force and what is known of their providers, at one moment; and the small things all views of them share.
//! Nothing here shows a secret: of headers only the names, of addresses neither user nor query, of a proxy not its login.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AdminState;
use crate::clock::UnixMicros;
use crate::observe::redact::Masker;
use crate::observe::rfc3339;
use crate::rules::egress::ProxyKind;
use crate::rules::{Egress, RouteTimeouts};
use crate::upstream::Fleet;
use crate::upstream::health::CheckResult;

/// One moment.
pub(super) struct Look {
    pub(super) fleet: Arc<Fleet>,
    pub(super) now: Instant,
    wall: UnixMicros,
}

impl Look {
    pub(super) fn at(state: &AdminState) -> Self {
        Look {
            fleet: state.fleet.load(),
            now: Instant::now(),
            wall: state.clock.now(),
        }
    }

    /// Replaces every provider key: no text shown should hold one; this is for the day one does.
    pub(super) fn masker(&self) -> &Masker {
        self.fleet.masker()
    }

    pub(super) fn masked(&self, text: &str) -> String {
        self.masker().mask(text).into_owned()
    }

    /// A moment to come, RFC 3339; `None`: it has passed.
    pub(super) fn until(&self, until: Option<Instant>) -> Option<String> {
        let left = until?.checked_duration_since(self.now).filter(|left| !left.is_zero())?;
        let micros = i64::try_from(left.as_micros()).unwrap_or(i64::MAX);
        Some(rfc3339(UnixMicros(self.wall.0.saturating_add(micros))).to_string())
    }

    /// A check as it is shown.
    pub(super) fn check(&self, check: &CheckResult) -> CheckView {
        CheckView {
            at: rfc3339(check.at).to_string(),
            took_ms: ms(check.took),
            result: check.finding.as_str().to_owned(),
            status: check.status,
            words: (!check.words.is_empty()).then(|| self.masked(&check.words)),
        }
    }
}

/// One active check.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CheckView {
    /// When it ended, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// How long it took.
    pub took_ms: u64,
    /// What it found: `ok`; how it failed (`unauthorised`, `quota_spent`, `connect`, `tls` ...); or `unproven`: the answer says
    /// neither.
    pub result: String,
    /// The status of the answer; null: there was none.
    pub status: Option<u16>,
    /// What was said.
    pub words: Option<String>,
}

/// How a provider is reached; what is null is the default.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EgressView {
    /// The proxy, without its login: `socks5 127.0.0.1:1080`, `connect proxy.example:3128`.
    pub proxy: Option<String>,
    /// The local address.
    pub bind: Option<String>,
    /// It has authorities of its own.
    pub own_ca: bool,
    /// We show it a certificate.
    pub client_certificate: bool,
}

impl From<&Egress> for EgressView {
    fn from(egress: &Egress) -> Self {
        let proxy = egress.proxy.as_ref().map(|proxy| {
            let kind = match proxy.kind {
                ProxyKind::Connect => "connect",
                ProxyKind::Socks5 => "socks5",
            };
            let brackets = if proxy.host.contains(':') { ("[", "]") } else { ("", "") };
            format!("{kind} {}{}{}:{}", brackets.0, proxy.host, brackets.1, proxy.port)
        });
        EgressView {
            proxy,
            bind: egress.bind.map(|address| address.to_string()),
            own_ca: egress.tls.as_ref().is_some_and(|tls| tls.ca.is_some()),
            client_certificate: egress.tls.as_ref().is_some_and(|tls| tls.identity.is_some()),
        }
    }
}

/// Times a route or a provider sets, in milliseconds; null: the configuration's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimeoutsView {
    /// TCP connect.
    pub connect_ms: Option<u64>,
    /// First byte of the answer.
    pub first_byte_ms: Option<u64>,
    /// Between two chunks.
    pub idle_ms: Option<u64>,
    /// Whole exchange.
    pub total_ms: Option<u64>,
}

impl From<&RouteTimeouts> for TimeoutsView {
    fn from(timeouts: &RouteTimeouts) -> Self {
        TimeoutsView {
            connect_ms: timeouts.connect.map(ms),
            first_byte_ms: timeouts.first_byte.map(ms),
            idle_ms: timeouts.idle.map(ms),
            total_ms: timeouts.total.map(ms),
        }
    }
}

/// Whole milliseconds.
pub(super) fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::rules::egress::{Proxy, TlsFiles};

    #[test]
    fn a_proxy_is_shown_without_its_login() {
        let proxy = Proxy {
            kind: ProxyKind::Socks5,
            host: "::1".into(),
            port: 1080,
            login: Some(("canary-user".into(), Secret::new("canary-password"))),
        };
        let egress = Egress {
            proxy: Some(Arc::new(proxy)),
            bind: Some("10.0.0.1".parse().unwrap()),
            tls: Some(Arc::new(TlsFiles {
                ca: None,
                identity: Some((b"canary".to_vec(), Secret::new("canary-key"))),
            })),
        };
        let view = serde_json::to_string(&EgressView::from(&egress)).unwrap();
        let expected = r#"{"proxy":"socks5 [::1]:1080","bind":"10.0.0.1","own_ca":false,"client_certificate":true}"#;
        assert_eq!(view, expected);
    }
}
