//! Where a provider answers in one dialect, and which of its addresses is next.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::HeaderValue;

use crate::egress::{AddressState, Authority, ConnectTimes, Names, Reach, Side, Spot, Way, Ways};
use crate::ir::DialectId;
use crate::rules::{Base, Credential, HttpVersions};

/// Where a provider answers in one dialect.
pub struct Endpoint {
    /// The dialect.
    pub dialect: DialectId,
    /// TLS or plain.
    pub tls: bool,
    /// Host name, without brackets, for SNI and certificate.
    pub host: Arc<str>,
    /// The port of its URL.
    pub port: u16,
    /// `Host` header: with the port where it is not the scheme's.
    pub host_header: HeaderValue,
    /// Path prefix, without a slash at its end; may be empty.
    pub prefix: Box<str>,
    authority: Authority,
    ways: Arc<Ways>,
    /// What is known of its addresses; shared with all of the same host and port from the first choice on.
    spot: OnceLock<Arc<Spot>>,
}

/// What one attempt connects to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dial {
    /// What is dialled: the provider's address, or its proxy's.
    pub address: SocketAddr,
    /// Through a proxy: the pinned address it is asked for.
    pub pin: Option<SocketAddr>,
}

impl Endpoint {
    /// The endpoint of a base, with pinned addresses if there are any, and the ways to its provider. `None`: its URL is
    /// not complete. `before`: the one it replaces, whose knowledge it takes over at once.
    pub fn new(base: &Base, pinned: &[SocketAddr], ways: Arc<Ways>, before: Option<&Endpoint>) -> Option<Self> {
        let url = base.url.as_ref()?;
        let shown = url.host_str()?;
        let host = shown.trim_matches(['[', ']']);
        let port = url.port_or_known_default()?;
        let host_header = match url.port() {
            Some(port) => format!("{shown}:{port}"),
            None => shown.to_owned(),
        };
        let authority = if pinned.is_empty() {
            Authority::Name {
                host: host.into(),
                port,
            }
        } else {
            Authority::Pinned(pinned.into())
        };
        let same = before.filter(|before| *before.host == *host && before.port == port);
        Some(Endpoint {
            dialect: base.dialect,
            tls: url.scheme() == "https",
            host: host.into(),
            port,
            host_header: HeaderValue::try_from(host_header).ok()?,
            prefix: url.path().trim_end_matches('/').into(),
            authority,
            ways,
            spot: same.map_or_else(OnceLock::new, |before| before.spot.clone()),
        })
    }

    /// The way there with this credential; `None`: without one.
    pub fn way(&self, credential: Option<&Credential>) -> &Way {
        self.ways.of(credential)
    }

    /// What to connect to next by this way: of the addresses not `tried`, one that can be used and is near, in turn; if
    /// all cool down, the least bad. `None`: none is left, the name does not resolve in time, or the way is closed.
    pub async fn dial(&self, way: &Way, names: &Names, tried: &[SocketAddr], now: Instant) -> Option<Dial> {
        if way.why_broken().is_some() {
            return None;
        }
        let spot = self.spot.get_or_init(|| names.spot(&self.host, self.port));
        let Some((proxy, hops)) = way.proxy().zip(way.spot(names)) else {
            let addresses = names.addresses(&self.authority).await?;
            let reachable = addresses.iter().copied().filter(|one| way.reaches(one.ip()));
            let address = spot.pick(reachable, tried, now)?;
            return Some(Dial { address, pin: None });
        };
        // The proxy resolves the provider's name itself.
        let addresses = names.addresses(proxy).await?;
        let pin = match &self.authority {
            Authority::Pinned(pins) => Some(spot.pick(pins.iter().copied(), tried, now)?),
            Authority::Name { .. } => None,
        };
        let reachable = addresses.iter().copied().filter(|one| way.reaches(one.ip()));
        // Behind the same proxy another pin may do better.
        let tried_hops = if pin.is_some() { &[] } else { tried };
        let address = hops.pick(reachable, tried_hops, now)?;
        Some(Dial { address, pin })
    }

    /// How to connect by this way to what was picked.
    pub fn reach<'a>(&'a self, way: &'a Way, dial: Dial, http: HttpVersions, times: ConnectTimes) -> Reach<'a> {
        Reach {
            address: dial.address,
            pin: dial.pin,
            tls: self.tls,
            host: &self.host,
            port: self.port,
            http,
            egress: way,
            times,
        }
    }

    /// What a connection came to: how long it took, or which side failed.
    pub fn dialled(&self, way: &Way, dial: Dial, outcome: Result<Duration, Side>, now: Instant) {
        let took = outcome.ok();
        match (way.known_spot(), outcome) {
            (None, _) => self.connected(dial.address, took, now),
            (Some(hops), Err(Side::Target)) => hops.answered(dial.address),
            (Some(hops), _) => {
                hops.connected(dial.address, took, now);
            }
        }
        // The time is the proxy's as well; that is the same for all pins.
        if let (Some(pin), Some(spot), Ok(_) | Err(Side::Target)) = (dial.pin, self.spot.get(), outcome) {
            spot.connected(pin, took, now);
        }
    }

    /// What a direct connection to one of its addresses came to: how long it took, or that it failed.
    pub fn connected(&self, address: SocketAddr, took: Option<Duration>, now: Instant) {
        if let Some(spot) = self.spot.get() {
            spot.connected(address, took, now);
        }
    }

    /// How its addresses stand: those that were asked for, of pinned ones all.
    pub fn peers(&self, now: Instant) -> Vec<AddressState> {
        let mut peers = self.spot.get().map(|spot| spot.states(now)).unwrap_or_default();
        if let Authority::Pinned(pins) = &self.authority {
            peers.retain(|peer| pins.contains(&peer.address));
            let missing: Vec<SocketAddr> = pins
                .iter()
                .filter(|pin| peers.iter().all(|peer| peer.address != **pin))
                .copied()
                .collect();
            peers.extend(missing.into_iter().map(|address| AddressState {
                address,
                until: None,
                failures: 0,
                connect: None,
            }));
        }
        peers
    }

    /// Its own name or pinned addresses.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// What is to be resolved ahead: its own name where it is reached directly, and its proxies' names.
    pub fn authorities(&self) -> impl Iterator<Item = &Authority> {
        let direct = self.ways.all().any(|way| !way.is_proxied()).then_some(&self.authority);
        direct.into_iter().chain(self.ways.all().filter_map(Way::proxy))
    }
}
