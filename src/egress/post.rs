//! Sends a small document to a URL which an operator entered, under [`Policy`]: a webhook. Nothing is kept open, no redirect is
//! followed, and no error says where it went: such a URL is a secret.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use pingora::tls::{ServerName, TlsConnector};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::Way;
use super::certificate::system_roots;
use super::names::Lookup;
use super::policy::{Checked, Policy, Refusal};
use super::probe::{Fault, resolve};
use super::tunnel::dial;

/// Addresses of a name that are tried for one document.
const ADDRESSES: usize = 4;

/// Longest wait for one of them.
const CONNECT: Duration = Duration::from_secs(3);

/// Most bytes that are read of an answer's body.
const ANSWER: usize = 4096;

/// Most bytes of an answer's header.
const HEADER: usize = 16 << 10;

/// What sends documents.
pub struct Post {
    policy: Policy,
    lookup: Lookup,
    way: Way,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The status.
    pub status: u16,
    /// `Retry-After`, as it came.
    pub retry_after: Option<String>,
    /// The beginning of the body, at most 4 KiB.
    pub body: Vec<u8>,
}

/// Why there was no answer. Neither says the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// It may not be sent there.
    #[error("{0}")]
    Refused(Refusal),
    /// It did not come about.
    #[error("{}", .0.as_str())]
    Failed(Fault),
}

impl From<Refusal> for NoAnswer {
    fn from(refusal: Refusal) -> Self {
        NoAnswer::Refused(refusal)
    }
}

impl Post {
    /// Sends where this policy lets it.
    pub fn new(policy: Policy) -> Self {
        Post {
            policy,
            lookup: super::names::system(),
            way: Way::default(),
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

    /// Whether something may be sent to this URL, as far as can be said before its name is resolved.
    pub fn check(&self, url: &str) -> Result<(), Refusal> {
        self.policy.check_url(url).map(|_| ())
    }

    /// Sends JSON once. Takes at most `longest`, from resolving the name (anew each time) to the end of the answer.
    pub async fn json(
        &self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
        longest: Duration,
    ) -> Result<Answered, NoAnswer> {
        let checked = self.policy.check_url(url)?;
        let request = request(url, &checked, headers, body).ok_or(Refusal::NotAUrl)?;
        let sent = async {
            let addresses = resolve(&self.policy, &self.lookup, &checked, longest).await?;
            self.send(&checked, &addresses, request).await.map_err(NoAnswer::Failed)
        };
        timeout(longest, sent)
            .await
            .unwrap_or(Err(NoAnswer::Failed(Fault::Slow)))
    }

    async fn send(
        &self,
        url: &Checked,
        addresses: &[SocketAddr],
        request: Request<Full<Bytes>>,
    ) -> Result<Answered, Fault> {
        let mut stream = Err(Fault::Connect);
        for address in addresses.iter().take(ADDRESSES) {
            if let Ok(Ok(connected)) = timeout(CONNECT, dial(*address, None)).await {
                stream = Ok(connected);
                break;
            }
        }
        let stream = stream?;
        if !url.tls {
            return exchange(stream, request).await;
        }
        let config = self.way.tls(system_roots().map_err(|_| Fault::Tls)?);
        let config = config.map_err(|_| Fault::Tls)?;
        let name = ServerName::try_from(url.host.to_string()).map_err(|_| Fault::Tls)?;
        let tls = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        exchange(tls.map_err(|_| Fault::Tls)?, request).await
    }
}

/// In the form for servers: the path only, the host in its header.
fn request(
    url: &str,
    checked: &Checked,
    headers: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Option<Request<Full<Bytes>>> {
    let url = url::Url::parse(url).ok()?;
    let host = match checked.host.contains(':') {
        true => format!("[{}]", checked.host),
        false => checked.host.to_string(),
    };
    let host = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    };
    let mut request = Request::new(Full::new(body));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = Uri::try_from(url.path()).ok()?;
    let own = [
        (HOST, HeaderValue::from_str(&host).ok()?),
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/json; charset=utf-8"),
        ),
        (USER_AGENT, HeaderValue::from_static("tollgate")),
        (CONNECTION, HeaderValue::from_static("close")),
    ];
    request.headers_mut().extend(own);
    request.headers_mut().extend(headers.iter().cloned());
    Some(request)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<Answered, Fault> {
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Fault::NotHttp)?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|_| Fault::NotHttp)?;
        Ok(read(response).await)
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // What it read before it ended is still there to be taken.
        _ = &mut connection => answer.await,
    }
}

async fn read(mut response: http::Response<Incoming>) -> Answered {
    let retry_after = response.headers().get(RETRY_AFTER);
    let mut answered = Answered {
        status: response.status().as_u16(),
        retry_after: retry_after.and_then(|value| value.to_str().ok()).map(str::to_owned),
        body: Vec::new(),
    };
    // The status is what counts: a body that breaks off is as good as its beginning.
    while let Some(Ok(frame)) = response.frame().await {
        if let Some(data) = frame.data_ref() {
            let room = ANSWER - answered.body.len();
            answered.body.extend_from_slice(&data[..data.len().min(room)]);
            if answered.body.len() == ANSWER {
                break;
            }
        }
    }
    answered
}
