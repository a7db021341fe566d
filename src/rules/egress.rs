//! How a provider is reached from here: through a proxy, from an address of ours, with certificates of one's own.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::Secret;

/// What is not set is the default: direct, from any address, with the system's certificates.
#[derive(Clone, Debug, Default)]
pub struct Egress {
    /// The proxy.
    pub proxy: Option<Arc<Proxy>>,
    /// The local address.
    pub bind: Option<IpAddr>,
    /// Certificates of TLS.
    pub tls: Option<Arc<TlsFiles>>,
}

impl Egress {
    /// Something is: a way of its own.
    pub fn is_set(&self) -> bool {
        self.proxy.is_some() || self.bind.is_some() || self.tls.is_some()
    }
}

/// A proxy: `"socks5://127.0.0.1:1080"`, `"http://proxy.example:3128"`, or with authentication
/// `{ url = "...", user = "...", password = "env:NAME" }`.
#[derive(Debug)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Its host, without brackets.
    pub host: Arc<str>,
    /// Its port.
    pub port: u16,
    /// User and password.
    pub login: Option<(Box<str>, Secret)>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT (RFC 9110, 9.3.6).
    Connect,
    /// SOCKS5 (RFC 1928), names resolved by the proxy.
    Socks5,
}

/// Certificates: `tls = { ca = "ca.pem", cert = "client.pem", key = "client.key" }`. Read when the rules are loaded.
#[derive(Debug, Default)]
pub struct TlsFiles {
    /// Authorities trusted beside none other: PEM.
    pub ca: Option<Vec<u8>>,
    /// Our own certificate chain and key, where the provider wants one: PEM.
    pub identity: Option<(Vec<u8>, Secret)>,
}
