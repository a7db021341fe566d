//! One provider at work.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderValue;

use crate::egress::{Authority, Names};
use crate::ir::DialectId;
use crate::routing::weights::SmoothWeights;
use crate::rules::{Credential, Provider};

/// One provider: its endpoints by dialect, its active credentials in weighted turn.
pub struct Pool {
    /// What the rules say of it.
    pub provider: Arc<Provider>,
    endpoints: Vec<Arc<Endpoint>>,
    credentials: Vec<Arc<Credential>>,
    turn: SmoothWeights,
}

/// Where a provider answers in one dialect.
pub struct Endpoint {
    /// The dialect.
    pub dialect: DialectId,
    /// TLS or plain.
    pub tls: bool,
    /// Host name, for SNI and certificate.
    pub host: Arc<str>,
    /// `Host` header: with the port where it is not the scheme's.
    pub host_header: HeaderValue,
    /// Path prefix, without a slash at its end; may be empty.
    pub prefix: Box<str>,
    authority: Authority,
    next: AtomicUsize,
}

impl Endpoint {
    /// An address to connect to: pinned ones first, else what the name resolves to, in turn. `None`: it does not
    /// resolve.
    pub async fn address(&self, names: &Names) -> Option<SocketAddr> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        names.address(&self.authority, turn).await
    }
}

impl Pool {
    /// A pool for a provider. Bases whose URL is not complete are left out.
    pub fn new(provider: Arc<Provider>) -> Self {
        let endpoints = provider.bases.iter().filter_map(|base| {
            let url = base.url.as_ref()?;
            let tls = url.scheme() == "https";
            let host = url.host_str()?;
            let port = url.port_or_known_default()?;
            let host_header = match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            };
            let authority = if provider.connect_to.is_empty() {
                Authority::Name {
                    host: host.trim_matches(['[', ']']).into(),
                    port,
                }
            } else {
                Authority::Pinned(provider.connect_to.clone())
            };
            Some(Arc::new(Endpoint {
                dialect: base.dialect,
                tls,
                host: host.into(),
                host_header: HeaderValue::try_from(host_header).ok()?,
                prefix: url.path().trim_end_matches('/').into(),
                authority,
                next: AtomicUsize::new(0),
            }))
        });
        let endpoints = endpoints.collect();
        let credentials: Vec<_> = provider
            .credentials
            .iter()
            .filter(|credential| credential.inactive.is_none())
            .cloned()
            .collect();
        let turn = SmoothWeights::new(credentials.iter().map(|credential| credential.weight));
        Pool {
            provider,
            endpoints,
            credentials,
            turn,
        }
    }

    /// Where it answers in that dialect; `None`: it does not speak it.
    pub fn endpoint(&self, dialect: DialectId) -> Option<&Arc<Endpoint>> {
        self.endpoints.iter().find(|endpoint| endpoint.dialect == dialect)
    }

    /// Its endpoints, in the order of the rules.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// The dialects it speaks.
    pub fn dialects(&self) -> impl Iterator<Item = DialectId> {
        self.endpoints.iter().map(|endpoint| endpoint.dialect)
    }

    /// It has an address, and a credential if it wants one.
    pub fn is_usable(&self) -> bool {
        !self.endpoints.is_empty() && (!self.credentials.is_empty() || self.wants_no_credential())
    }

    fn wants_no_credential(&self) -> bool {
        self.provider.auth == Some(crate::rules::Auth::None)
    }

    /// The next credential; `None`: it wants none.
    pub fn credential(&self) -> Option<Arc<Credential>> {
        self.turn.next().and_then(|index| self.credentials.get(index)).cloned()
    }

    /// The names to be resolved ahead.
    pub fn authorities(&self) -> impl Iterator<Item = &Authority> {
        self.endpoints.iter().map(|endpoint| &endpoint.authority)
    }
}
