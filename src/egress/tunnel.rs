//! Through a proxy: HTTP CONNECT and SOCKS5, as the lowest layer of Pingora's connections. TLS and HTTP/2 run on top.

mod http_connect;
mod socks5;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::L4Connect;
use pingora::connectors::l4::BindTo;
use pingora::protocols::l4::ext;
use pingora::protocols::l4::socket::SocketAddr as PeerAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, timeout_at};

use crate::rules::egress::{Proxy, ProxyKind};

use super::Authority;
use super::way::keyed;

/// A proxy, ready to be asked.
pub(super) struct Hop {
    kind: ProxyKind,
    pub(super) host: Arc<str>,
    pub(super) port: u16,
    pub(super) authority: Authority,
    login: Option<Login>,
}

struct Login {
    user: Box<str>,
    password: crate::config::Secret,
}

/// What went wrong with a proxy. Names of [`ErrorType::Custom`], which nothing else makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// No connection to the proxy.
    Unreachable,
    /// It wants a login, or another one.
    Login,
    /// It does not do this.
    Refused,
    /// It does not speak what it should, or closed.
    Garbled,
    /// It said nothing, or not enough, in time.
    Slow,
    /// It works, but does not get to the target.
    Target,
}

const TROUBLES: [Trouble; 6] = [
    Trouble::Unreachable,
    Trouble::Login,
    Trouble::Refused,
    Trouble::Garbled,
    Trouble::Slow,
    Trouble::Target,
];

impl Trouble {
    const fn name(self) -> &'static str {
        match self {
            Trouble::Unreachable => "ProxyUnreachable",
            Trouble::Login => "ProxyLogin",
            Trouble::Refused => "ProxyRefused",
            Trouble::Garbled => "ProxyGarbled",
            Trouble::Slow => "ProxySlow",
            Trouble::Target => "ProxyTarget",
        }
    }

    fn error(self, why: impl Into<String>) -> Box<Error> {
        let mut error = Error::explain(ErrorType::Custom(self.name()), why.into());
        error.as_up();
        error
    }
}

/// Which side a connect failed at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The proxy on the way: not there, or it refused us.
    Proxy,
    /// The provider; also where a proxy says that it can't get there.
    Target,
}

/// Which side a connect failed at.
pub fn side(error: &Error) -> Side {
    match trouble(error) {
        None | Some(Trouble::Target) => Side::Target,
        Some(_) => Side::Proxy,
    }
}

/// There is no connection because of what a proxy did, or did not.
pub fn stuck_at_proxy(error: &Error) -> bool {
    trouble(error).is_some()
}

fn trouble(error: &Error) -> Option<Trouble> {
    let ErrorType::Custom(name) = error.etype() else {
        return None;
    };
    TROUBLES.into_iter().find(|one| one.name() == *name)
}

impl Hop {
    /// The error says what is wrong with the login; it can't be sent then.
    pub(super) fn new(proxy: &Proxy) -> Result<Self, String> {
        let login = proxy.login.as_ref().map(|(user, password)| Login {
            user: user.clone(),
            password: password.clone(),
        });
        if let Some(login) = &login {
            match proxy.kind {
                ProxyKind::Connect => http_connect::check(login)?,
                ProxyKind::Socks5 => socks5::check(login)?,
            }
        }
        Ok(Hop {
            kind: proxy.kind,
            authority: Authority::Name {
                host: proxy.host.clone(),
                port: proxy.port,
            },
            host: proxy.host.clone(),
            port: proxy.port,
            login,
        })
    }

    /// Tells it from every other one.
    pub(super) fn key(&self) -> u64 {
        let login = self.login.as_ref().map(|login| (&login.user, login.password.expose()));
        keyed((self.kind == ProxyKind::Connect, &self.host, self.port, login))
    }
}

/// What a proxy is asked for: the pinned address, else the name, which it resolves itself.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// A name, or an address without brackets.
    pub(super) host: Box<str>,
    pub(super) port: u16,
}

impl Target {
    fn literal(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.literal() {
            Some(IpAddr::V6(address)) => write!(f, "[{address}]:{}", self.port),
            _ => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// The lowest layer of a connection through a proxy.
pub(super) struct Tunnel {
    pub(super) hop: Arc<Hop>,
    pub(super) target: Target,
    pub(super) bind: Option<IpAddr>,
    /// Longest time to connect to the proxy, and as much again for its answer: Pingora does not apply its own.
    pub(super) connect: Duration,
}

// No password, whoever prints a peer.
impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "tunnel through {}:{} to {}",
            self.hop.host, self.hop.port, self.target
        )
    }
}

#[async_trait]
impl L4Connect for Tunnel {
    async fn connect(&self, address: &PeerAddr) -> Result<Stream> {
        let Some(address) = address.as_inet() else {
            return Err(Trouble::Unreachable.error("the proxy has no address"));
        };
        let hop = &self.hop;
        let connected = tokio::time::timeout(self.connect, dial(*address, self.bind)).await;
        let mut stream = match connected {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                let why = format!(
                    "the proxy {}:{} can't be reached: {}",
                    hop.host,
                    hop.port,
                    error.etype().as_str()
                );
                return Err(Trouble::Unreachable.error(why));
            }
            Err(_) => {
                let why = format!("the proxy {}:{} did not answer the connect in time", hop.host, hop.port);
                return Err(Trouble::Unreachable.error(why));
            }
        };
        let until = Instant::now() + self.connect;
        let asked = async {
            match hop.kind {
                ProxyKind::Connect => http_connect::ask(&mut stream, &self.target, hop.login.as_ref()).await,
                ProxyKind::Socks5 => socks5::ask(&mut stream, &self.target, hop.login.as_ref()).await,
            }
        };
        let answer = timeout_at(until, asked).await;
        let answer = answer.unwrap_or_else(|_| Err((Trouble::Slow, "did not answer in time".into())));
        answer.map_err(|(trouble, what)| {
            trouble.error(format!(
                "the proxy {}:{} {what} (asked for {})",
                hop.host, hop.port, self.target
            ))
        })?;
        Ok(stream)
    }
}

/// What went wrong, and what the proxy did, as the end of a sentence.
type Asked = Result<(), (Trouble, String)>;

fn broken(error: &io::Error) -> (Trouble, String) {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => (Trouble::Garbled, "closed the connection".into()),
        kind => (Trouble::Garbled, format!("broke the connection: {kind}")),
    }
}

/// What refuses every connection: where the way is broken.
#[derive(Debug)]
pub(super) struct Closed;

#[async_trait]
impl L4Connect for Closed {
    async fn connect(&self, _address: &PeerAddr) -> Result<Stream> {
        Err(Trouble::Unreachable.error("the way to this provider can't be used: see the log of the last reload"))
    }
}

/// A plain connection from a local address, as Pingora makes it. No time limit of its own.
pub(super) async fn dial(address: SocketAddr, bind: Option<IpAddr>) -> Result<Stream> {
    let bind = bind.map(bind_to);
    Ok(ext::connect(&address, bind.as_ref()).await?.into())
}

/// A local address, any port.
pub(super) fn bind_to(address: IpAddr) -> BindTo {
    // It has private fields besides.
    let mut bind = BindTo::default();
    bind.addr = Some(SocketAddr::new(address, 0));
    bind
}
