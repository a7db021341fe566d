//! Pingora's peer for one attempt or one check.
//!
//! Pingora shares pooled connections among peers with the same hash: address, scheme, SNI, serial number of the client
//! certificate, `group_key`. Neither CA, local address, HTTP versions nor the lowest layer are in it [read, 0.9.1], and
//! two authorities may number certificates alike: so all of them, and the target, go into `group_key`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pingora::protocols::ALPN;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType};

use crate::rules::HttpVersions;

use super::Way;
use super::tunnel::{Closed, Target, Tunnel, bind_to};
use super::way::keyed;

/// Requests which share one HTTP/2 connection to a provider (Pingora's default is 1: no sharing).
const H2_STREAMS: usize = 100;

/// How often an HTTP/2 connection to a provider is pinged.
const H2_PING: Duration = Duration::from_secs(30);

/// A name no certificate is for (RFC 6761, 6.4). Pingora checks no certificate where the SNI is empty [read, 0.9.1].
const NO_HOST: &str = "invalid";

/// Where to connect to, and how.
#[derive(Clone, Copy)]
pub struct Reach<'a> {
    /// What is dialled: the provider's address, or its proxy's.
    pub address: SocketAddr,
    /// Through a proxy: the address it is asked for instead of the host.
    pub pin: Option<SocketAddr>,
    /// TLS or plain.
    pub tls: bool,
    /// The provider's host, without brackets: SNI, name in the certificate, what a proxy is asked for.
    pub host: &'a str,
    /// The provider's port.
    pub port: u16,
    /// HTTP versions.
    pub http: HttpVersions,
    /// The way there.
    pub egress: &'a Way,
    /// How long it may take.
    pub times: ConnectTimes,
}

/// Times of a connection.
#[derive(Clone, Copy, Debug)]
pub struct ConnectTimes {
    /// TCP connect; TLS handshake; a proxy's answer: each.
    pub connect: Duration,
    /// All of it together.
    pub total: Duration,
    /// How long an unused connection is kept: below the provider's own time.
    pub idle: Duration,
    /// Longest read; `None`: whoever reads has a clock of its own.
    pub read: Option<Duration>,
    /// Longest write.
    pub write: Duration,
}

/// The peer. Certificates are always checked.
pub fn peer(reach: Reach<'_>) -> HttpPeer {
    let (way, times) = (reach.egress, reach.times);
    let host = reach.host;
    let sni = match (reach.tls, host) {
        (false, _) => "",
        (true, "") => NO_HOST,
        (true, host) => host,
    };
    let mut peer = HttpPeer::new(reach.address, reach.tls, sni.to_owned());
    let h1_and_h2 = match reach.http {
        HttpVersions::H1 => (true, false),
        HttpVersions::H2 => (false, true),
        HttpVersions::Both => (true, reach.tls),
    };
    peer.group_key = keyed((way.key, host, reach.port, reach.pin, h1_and_h2));
    peer.client_cert_key.clone_from(&way.identity);
    let options = &mut peer.options;
    options.alpn = match h1_and_h2 {
        (false, _) => ALPN::H2,
        (true, true) => ALPN::H2H1,
        (true, false) => ALPN::H1,
    };
    options.max_h2_streams = H2_STREAMS;
    options.h2_ping_interval = Some(H2_PING);
    options.connection_timeout = Some(times.connect);
    options.total_connection_timeout = Some(times.total.max(times.connect));
    options.idle_timeout = Some(times.idle);
    options.read_timeout = times.read;
    options.write_timeout = Some(times.write);
    options.bind_to = way.bind.map(bind_to);
    options.ca.clone_from(&way.ca);
    if way.why_broken().is_some() {
        options.custom_l4 = Some(Arc::new(Closed));
    } else if let Some(tunnel) = tunnel(&reach) {
        options.custom_l4 = Some(Arc::new(tunnel));
    }
    peer
}

/// Makes it a peer with a connection of its own, neither taken from the pool nor left to it.
pub fn alone(peer: &mut HttpPeer) {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    peer.group_key = keyed((peer.group_key, NUMBER.fetch_add(1, Ordering::Relaxed)));
    peer.options.max_h2_streams = 1;
    peer.options.idle_timeout = Some(Duration::ZERO);
    if peer.options.alpn == ALPN::H2H1 {
        // Of peers that chose HTTP/1.1 when asked Pingora remembers every one, for good [read, 0.9.1].
        peer.options.alpn = ALPN::H1;
    }
}

/// There is a connection, but no TLS: what [`peer`]'s handshakes fail with.
pub fn failed_at_tls(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::TLSHandshakeFailure
            | ErrorType::TLSHandshakeTimedout
            | ErrorType::TLSWantX509Lookup
            | ErrorType::InvalidCert
            | ErrorType::HandshakeError
    )
}

/// Makes it a peer whose connections are shared among the requests of this thread only, unless they may be HTTP/2's, where requests share
/// one. What arrives on a connection is noticed by the thread that made it: when another one uses it, that has to be woken each time,
/// with a system call.
pub fn of_this_thread(peer: &mut HttpPeer) {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static THREAD: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    if peer.options.alpn == ALPN::H1 {
        peer.group_key = keyed((peer.group_key, "thread", THREAD.with(|number| *number)));
    }
}

/// The tunnel, if the way leads through a proxy.
pub(super) fn tunnel(reach: &Reach<'_>) -> Option<Tunnel> {
    let hop = reach.egress.hop.clone()?;
    let target = match reach.pin {
        Some(pin) => Target {
            host: pin.ip().to_string().into(),
            port: pin.port(),
        },
        None => Target {
            host: reach.host.into(),
            port: reach.port,
        },
    };
    Some(Tunnel {
        hop,
        target,
        bind: reach.egress.bind,
        connect: reach.times.connect,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_this_thread_with(http: HttpVersions) -> u64 {
        let mut peer = peer(Reach {
            address: SocketAddr::from(([127, 0, 0, 1], 9)),
            pin: None,
            tls: false,
            host: "localhost",
            port: 9,
            http,
            egress: &Way::default(),
            times: ConnectTimes {
                connect: Duration::ZERO,
                total: Duration::ZERO,
                idle: Duration::ZERO,
                read: None,
                write: Duration::ZERO,
            },
        });
        of_this_thread(&mut peer);
        peer.group_key
    }

    #[test]
    fn threads_keep_connections_apart_unless_they_are_http_2s() {
        let there = |http| std::thread::spawn(move || of_this_thread_with(http)).join().unwrap();
        let here = of_this_thread_with(HttpVersions::H1);
        assert_eq!(here, of_this_thread_with(HttpVersions::H1));
        assert_ne!(here, there(HttpVersions::H1));
        assert_eq!(of_this_thread_with(HttpVersions::H2), there(HttpVersions::H2));
    }
}
