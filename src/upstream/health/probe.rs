//! One exchange with a provider, outside of any client's: a fresh connection, one request, an answer within bounds.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, Uri, Version, header};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, OrErr};

use crate::clock::UnixMicros;
use crate::egress::{self, Authority, ConnectTimes, Names, Reach};
use crate::observe::redact::printable;
use crate::rules::Credential;
use crate::upstream::{Endpoint, Failure, Pool, endpoint};

/// Most bytes read of an answer.
const MAX_BODY: usize = 64 << 10;

/// How the cause begins by which Pingora tells our own address.
const OUR_SIDE: &str = "local address ";

/// Longest text taken of an error of the connection, in bytes.
const MAX_WORDS: usize = 200;

/// What is dialled to reach a place.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The provider's addresses, or its proxy's; through a proxy the pinned ones, each by one of the proxy's in turn. Known ones stay
    /// when the name no longer resolves.
    pub dials: Vec<endpoint::Dial>,
    /// Whether the last look-up of the name succeeded.
    pub resolves: bool,
}

/// How providers are reached: the seam to egress.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// All that may be dialled for an endpoint.
    async fn addresses(&self, endpoint: &Endpoint) -> Found;

    /// One of them, for a call with a credential; `None`: the name does not resolve.
    async fn address(&self, endpoint: &Endpoint, credential: Option<&Credential>) -> Option<endpoint::Dial>;

    /// The peer there, reached as the provider's rules (and the credential's, if it is one's) say.
    fn peer(&self, pool: &Pool, endpoint: &Endpoint, dial: endpoint::Dial, credential: Option<&Credential>)
    -> HttpPeer;

    /// When the certificate shown there expires; `None`: there is none, or it is not known.
    async fn certificate_expiry(&self, pool: &Pool, endpoint: &Endpoint, dial: endpoint::Dial) -> Option<UnixMicros>;
}

/// Most addresses of one place that are checked.
pub(super) const MAX_ADDRESSES: usize = 64;

/// As requests reach them: by the way that the rules give.
pub struct ByRules {
    /// Where names are resolved.
    pub names: Arc<Names>,
    /// Longest time of each step; whoever checks has one for all of them.
    pub timeout: Duration,
}

impl ByRules {
    fn reach<'a>(
        &self,
        pool: &Pool,
        endpoint: &'a Endpoint,
        dial: endpoint::Dial,
        credential: Option<&Credential>,
    ) -> Reach<'a> {
        let times = ConnectTimes {
            connect: self.timeout,
            total: self.timeout,
            idle: Duration::ZERO,
            read: Some(self.timeout),
            write: self.timeout,
        };
        endpoint.reach(endpoint.way(credential), dial, pool.provider.http, times)
    }
}

#[async_trait]
impl Dial for ByRules {
    async fn addresses(&self, endpoint: &Endpoint) -> Found {
        let way = endpoint.way(None);
        let authority = way.proxy().unwrap_or_else(|| endpoint.authority());
        let known = self.names.addresses(authority).await;
        let mut addresses: Vec<SocketAddr> = Vec::new();
        for &address in known.iter().flat_map(|known| known.iter()).take(MAX_ADDRESSES) {
            if way.reaches(address.ip()) && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let failing = match authority {
            Authority::Name { host, port } => {
                let mut states = self.names.states().into_iter();
                states.any(|state| state.host == *host && state.port == *port && state.failing)
            }
            Authority::Pinned(_) => false,
        };
        let dials = match endpoint.authority() {
            Authority::Pinned(pins) if way.is_proxied() => {
                let through = addresses.iter().cycle().zip(pins.iter().take(MAX_ADDRESSES));
                let dial = |(&address, &pin)| endpoint::Dial {
                    address,
                    pin: Some(pin),
                };
                through.map(dial).collect()
            }
            _ => {
                let dial = |address| endpoint::Dial { address, pin: None };
                addresses.into_iter().map(dial).collect()
            }
        };
        Found {
            resolves: known.is_some() && !failing,
            dials,
        }
    }

    async fn address(&self, endpoint: &Endpoint, credential: Option<&Credential>) -> Option<endpoint::Dial> {
        endpoint
            .dial(endpoint.way(credential), &self.names, &[], Instant::now())
            .await
    }

    fn peer(
        &self,
        pool: &Pool,
        endpoint: &Endpoint,
        dial: endpoint::Dial,
        credential: Option<&Credential>,
    ) -> HttpPeer {
        egress::peer(self.reach(pool, endpoint, dial, credential))
    }

    async fn certificate_expiry(&self, pool: &Pool, endpoint: &Endpoint, dial: endpoint::Dial) -> Option<UnixMicros> {
        egress::certificate_expiry(self.reach(pool, endpoint, dial, None))
            .await
            .ok()?
    }
}

/// A request. Not `Debug`: it bears a key.
pub(super) struct Ask {
    pub(super) method: Method,
    /// Path and query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// An answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// At most [`MAX_BODY`] bytes of it.
    pub(super) body: Vec<u8>,
    /// The body is longer than what was read.
    pub(super) cut: bool,
    /// Until the connection was there, with TLS.
    pub(super) connected: Duration,
}

/// Why there was no answer.
pub(super) struct NoReply {
    pub(super) failure: Failure,
    pub(super) words: String,
}

/// Asks once. Never takes longer than `deadline`, and leaves no connection behind.
pub(super) async fn ask(
    connector: &Connector,
    mut peer: HttpPeer,
    endpoint: &Endpoint,
    ask: Ask,
    deadline: Instant,
) -> Result<Reply, NoReply> {
    let deadline = tokio::time::Instant::from_std(deadline);
    let began = Instant::now();
    // Not shared: a check is to find out whether a new connection can be made.
    peer.options.max_h2_streams = 1;
    let fresh = tokio::time::timeout_at(deadline, connector.get_http_session(&peer)).await;
    let mut session = match fresh {
        Ok(Ok((session, _reused))) => session,
        Ok(Err(error)) => return Err(no_connection(&error)),
        Err(_) => return Err(no_reply(Failure::Connect, "no connection in time".to_owned())),
    };
    let connected = began.elapsed();
    let exchanged = tokio::time::timeout_at(deadline, exchange(&mut session, endpoint, ask)).await;
    session.shutdown().await;
    let (failure, words) = match exchanged {
        Ok(Ok((status, headers, body, cut))) => {
            return Ok(Reply {
                status,
                headers,
                body,
                cut,
                connected,
            });
        }
        Ok(Err(error)) => (Failure::Broke, format!("the connection broke ({})", told(&error))),
        Err(_) => (Failure::FirstByte, "a connection, but no answer in time".to_owned()),
    };
    Err(no_reply(failure, words))
}

type Exchanged = (u16, HeaderMap, Vec<u8>, bool);

async fn exchange(session: &mut HttpSession, endpoint: &Endpoint, ask: Ask) -> pingora::Result<Exchanged> {
    let head = ask.method == Method::HEAD;
    let body = ask.body.clone();
    session
        .write_request_header(Box::new(header_of(ask, endpoint, session)?))
        .await?;
    if !body.is_empty() {
        session.write_request_body(body, true).await?;
    }
    session.finish_request_body().await?;
    let (status, headers) = loop {
        session.read_response_header().await?;
        let Some(answer) = session.response_header() else {
            return Error::e_explain(ErrorType::ReadError, "no header");
        };
        if !answer.status.is_informational() {
            break (answer.status.as_u16(), answer.headers.clone());
        }
    };
    let (mut body, mut cut) = (Vec::new(), false);
    // A header is answer enough where nobody asked for more.
    while !head && let Some(chunk) = session.read_response_body().await? {
        let room = MAX_BODY - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            cut = true;
            break;
        }
    }
    Ok((status, headers, body, cut))
}

/// HTTP/2 has the host in the request's target, HTTP/1.1 in a header.
fn header_of(ask: Ask, endpoint: &Endpoint, session: &HttpSession) -> pingora::Result<RequestHeader> {
    let h2 = session.as_http2().is_some();
    let (mut parts, ()) = http::Request::new(()).into_parts();
    parts.method = ask.method;
    parts.headers = ask.headers;
    let wrong = || "the path of a check";
    parts.uri = if h2 {
        parts.version = Version::HTTP_2;
        Uri::builder()
            .scheme(if endpoint.tls { "https" } else { "http" })
            .authority(endpoint.host_header.as_bytes())
            .path_and_query(ask.path)
            .build()
            .or_err_with(ErrorType::InternalError, wrong)?
    } else {
        parts.headers.insert(header::HOST, endpoint.host_header.clone());
        Uri::try_from(ask.path).or_err_with(ErrorType::InternalError, wrong)?
    };
    Ok(RequestHeader::from(parts))
}

fn no_connection(error: &Error) -> NoReply {
    let (failure, what) = match egress::failed_at_tls(error) {
        true => (Failure::Tls, "no TLS"),
        false => (Failure::Connect, "no connection"),
    };
    no_reply(failure, format!("{what} ({})", told(error)))
}

fn no_reply(failure: Failure, words: String) -> NoReply {
    NoReply { failure, words }
}

/// What lies at the bottom of an error: `Connection refused`, `invalid peer certificate: certificate expired ...`.
fn told(error: &Error) -> String {
    let mut cause = error
        .cause
        .as_deref()
        .map(|cause| cause as &(dyn std::error::Error + 'static));
    // Of a handshake Pingora tells in the context only [read, 0.9.1].
    let context = error.context.as_ref().map(|context| context.as_str());
    let mut text = context.unwrap_or(error.etype().as_str()).to_owned();
    while let Some(inner) = cause {
        let said = match inner.downcast_ref::<Box<Error>>() {
            Some(inner) => inner.etype().as_str().to_owned(),
            None => inner.to_string(),
        };
        // Where it came from is no reason, but may stand where one would.
        if !said.starts_with(OUR_SIDE) {
            text = said;
        }
        cause = inner.source();
    }
    printable(&text, MAX_WORDS).into_owned()
}
