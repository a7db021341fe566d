//! What a gateway of the tests is started with: configuration, rules, ports.

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// The key with which the tests' providers are called: whatever shows it has leaked it.
pub const PROVIDER_KEY: &str = "provider-key-CANARY-7h3q9x2m5v8k";

/// What differs from the defaults.
#[derive(Clone, Default)]
pub struct Options {
    /// Files of `rules/`.
    pub rules: Vec<(&'static str, String)>,
    /// Lines of `[limits]`.
    pub limits: &'static str,
    /// Lines of `[overload]`; none: no thread's lag counts, as many gateways share a small machine.
    pub overload: &'static str,
    /// Lines of `[timeouts]`.
    pub timeouts: &'static str,
    /// Lines of `[ledger]`.
    pub ledger: &'static str,
    /// Lines of `[upgrade]`.
    pub upgrade: &'static str,
    /// Most descriptors the system allows it.
    pub descriptors: Option<u64>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, String)>,
    /// Certificate and key in PEM: a third listener, with TLS.
    pub tls: Option<(String, String)>,
}

/// Rules for one provider called `p` at this address, which speaks all four dialects; every model goes there.
pub fn rules_for(address: SocketAddr) -> Vec<(&'static str, String)> {
    vec![
        ("10.toml", provider_rules("p", address, "")),
        (
            "20.toml",
            "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{ provider = \"p\" }]\n".into(),
        ),
    ]
}

/// A provider; `more`: further lines of it. Not checked unless they say so: tests count what a provider is asked.
pub fn provider_rules(name: &str, address: SocketAddr, more: &str) -> String {
    format!(
        "{}[[provider.{name}.credential]]\nname = \"main\"\nkey = \"env:E2E_PROVIDER_KEY\"\n",
        bare_provider(name, &format!("http://{address}"), more)
    )
}

/// … at this URL without a path, without a credential.
pub fn bare_provider(name: &str, base: &str, more: &str) -> String {
    let health = if more.contains("health") {
        ""
    } else {
        "health = \"off\"\n"
    };
    format!(
        "[provider.{name}]\ndialects = {{ openai_chat = \"{base}/v1\", openai_responses = \"{base}/v1\", \
         anthropic = \"{base}\", gemini = \"{base}\" }}\n{health}{more}\n"
    )
}

/// Addresses of a gateway.
#[derive(Clone, Copy)]
pub struct Ports {
    /// HTTP/1.1.
    pub http: SocketAddr,
    /// HTTP/1.1, and HTTP/2 with prior knowledge.
    pub h2c: SocketAddr,
    /// TLS, if there is a certificate.
    pub tls: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
}

/// A port nobody listens on, outside the range the system hands to outgoing connections: those of other tests would
/// take it before the gateway does.
pub fn free_port() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = 10_000 + std::process::id() * 61 % 18_000;
    for _ in 0..4000 {
        let port = 10_000 + (start + NEXT.fetch_add(1, Ordering::Relaxed)) % 22_000;
        let address = SocketAddr::from(([127, 0, 0, 1], port as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("there is no free port");
}

/// `conf/tollgate.toml` of the tests.
pub fn configuration(ports: &Ports, options: &Options) -> String {
    let tls = match &options.tls {
        None => String::new(),
        Some(_) => format!(
            "[[listener]]\nlisten = \"{}\"\ntls = {{ cert = \"conf/cert.pem\", key = \"conf/key.pem\" }}\nhttp2 = true\n",
            ports.tls
        ),
    };
    format!(
        "[[listener]]\nlisten = \"{}\"\n[[listener]]\nlisten = \"{}\"\nhttp2 = true\n{tls}\
         [admin]\nlisten = \"{}\"\n[metrics]\nlisten = \"{}\"\n[limits]\n{}\n[overload]\n{}\n[timeouts]\n{}\n[ledger]\n{}\n\
         [upgrade]\n{}\n",
        ports.http,
        ports.h2c,
        ports.admin,
        ports.metrics,
        options.limits,
        if options.overload.is_empty() {
            "lag = \"off\""
        } else {
            options.overload
        },
        options.timeouts,
        options.ledger,
        options.upgrade
    )
}
