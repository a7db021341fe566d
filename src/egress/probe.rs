//! Tries out a URL an administrator entered, under [`Policy`]: does something answer there, and until when is its
//! certificate good. A fixed path, five seconds, no redirects, and nothing of the answer is told but the class of its
//! status.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pingora::tls::{RootCertStore, ServerName, TlsConnector};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Semaphore;

use crate::clock::UnixMicros;

use super::certificate::{not_after, system_roots};
use super::names::{Lookup, Names};
use super::policy::{Checked, Policy, Refusal};
use super::tunnel::dial;
use super::{Authority, Way};

/// Longest test, from resolving to the status line.
const LONGEST: Duration = Duration::from_secs(5);

/// Tests at once; others wait for their turn within their five seconds.
const AT_ONCE: usize = 4;

/// What is read of an answer: `HTTP/1.1 200`.
const STATUS: usize = 12;

/// What tries URLs out.
pub struct Probe {
    policy: Policy,
    lookup: Lookup,
    way: Way,
    turns: Semaphore,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tried {
    /// First digit of the answer's status; `None`: there was no answer.
    pub status_class: Option<u8>,
    /// Why there was none.
    pub failure: Option<Fault>,
    /// Until the status line came, or the failure.
    pub latency: Duration,
    /// When the certificate ends; `None`: there was none, or none that is good.
    pub certificate_ends: Option<UnixMicros>,
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No connection.
    Connect,
    /// A connection, but no TLS: its certificate is not good for the host, among others.
    Tls,
    /// What answered is not HTTP.
    NotHttp,
    /// It took too long.
    Slow,
}

impl Fault {
    /// The name used in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Fault::Connect => "connect",
            Fault::Tls => "tls",
            Fault::NotHttp => "not_http",
            Fault::Slow => "timeout",
        }
    }
}

impl Probe {
    /// Tries out what this policy lets pass.
    pub fn new(policy: Policy) -> Self {
        Probe {
            policy,
            lookup: super::names::system(),
            way: Way::default(),
            turns: Semaphore::new(AT_ONCE),
        }
    }

    /// The same with another resolver than the system's.
    pub fn with_lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = lookup;
        self
    }

    /// The same with the authorities and the client certificate of this way; proxy and local address are not used.
    pub fn with_way(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    /// Tries out the host of this URL.
    pub async fn test(&self, url: &str) -> Result<Tried, Refusal> {
        let checked = self.policy.check_url(url)?;
        let began = Instant::now();
        let until = tokio::time::Instant::from_std(began + LONGEST);
        let mut tried = Tried::default();
        let asked = async {
            // Closed never.
            let _turn = self.turns.acquire().await;
            let addresses = resolve(&self.policy, &self.lookup, &checked, LONGEST).await?;
            let address = addresses.first().copied().ok_or(Refusal::Unresolved)?;
            Ok(self.ask(&checked, address, &mut tried.certificate_ends).await)
        };
        let answer = tokio::time::timeout_at(until, asked).await;
        match answer {
            Ok(Ok(Ok(class))) => tried.status_class = Some(class),
            Ok(Ok(Err(fault))) => tried.failure = Some(fault),
            Ok(Err(refusal)) => return Err(refusal),
            Err(_) => tried.failure = Some(Fault::Slow),
        }
        tried.latency = began.elapsed();
        Ok(tried)
    }

    async fn ask(&self, url: &Checked, address: SocketAddr, ends: &mut Option<UnixMicros>) -> Result<u8, Fault> {
        let stream = dial(address, None).await.map_err(|_| Fault::Connect)?;
        if !url.tls {
            return head(stream, url).await;
        }
        let system: &Arc<RootCertStore> = system_roots().map_err(|_| Fault::Tls)?;
        let config = self.way.tls(system).map_err(|_| Fault::Tls)?;
        let name = ServerName::try_from(url.host.to_string()).map_err(|_| Fault::Tls)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let tls = tls.map_err(|_| Fault::Tls)?;
        *ends = not_after(tls.get_ref().1.peer_certificates()).ok();
        head(tls, url).await
    }
}

/// Its addresses, all of which may be connected to. Resolved anew each time, and not kept.
pub(super) async fn resolve(
    policy: &Policy,
    lookup: &Lookup,
    url: &Checked,
    longest: Duration,
) -> Result<Arc<[SocketAddr]>, Refusal> {
    let names = Names::with_lookup(HashMap::new(), longest, lookup.clone());
    let authority = Authority::Name {
        host: url.host.clone(),
        port: url.port,
    };
    let found = names.addresses(&authority).await.ok_or(Refusal::Unresolved)?;
    let addresses: Vec<IpAddr> = found.iter().map(SocketAddr::ip).collect();
    policy.admit(url, &addresses)?;
    Ok(found)
}

/// Asks for `/` and reads no more than the status.
async fn head(mut stream: impl AsyncRead + AsyncWrite + Unpin, url: &Checked) -> Result<u8, Fault> {
    let host = match url.host.contains(':') {
        true => format!("[{}]", url.host),
        false => url.host.to_string(),
    };
    let request = format!(
        "HEAD / HTTP/1.1\r\nHost: {host}:{}\r\nUser-Agent: tollgate\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.port
    );
    stream.write_all(request.as_bytes()).await.map_err(|_| Fault::NotHttp)?;
    stream.flush().await.map_err(|_| Fault::NotHttp)?;
    let mut line = [0; STATUS];
    stream.read_exact(&mut line).await.map_err(|_| Fault::NotHttp)?;
    let class = line.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2));
    match class {
        Some(digit @ b'1'..=b'5') => Ok(digit - b'0'),
        _ => Err(Fault::NotHttp),
    }
}
