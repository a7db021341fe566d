//! How to reach an address from here. Names are resolved ahead, never on the path of a request once they are known:
//! Pingora's own resolution blocks, and panics on failure (PINGORA.md).

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

/// How often known names are resolved again.
pub const REFRESH: Duration = Duration::from_secs(30);

/// Most names known at once.
const MAX_NAMES: usize = 4096;

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A name (or a literal address) and a port.
    Name {
        /// The name, without brackets.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// Addresses pinned in the rules.
    Pinned(Vec<SocketAddr>),
}

type Addresses = Arc<[SocketAddr]>;

/// Names and what they resolve to.
pub struct Names {
    known: ArcSwap<HashMap<(Arc<str>, u16), Addresses>>,
    changing: Mutex<()>,
    own: HashMap<Arc<str>, SocketAddr>,
    timeout: Duration,
}

impl Names {
    /// Knows nothing yet but `own`: names which stand for addresses of this process.
    pub fn new(own: HashMap<Arc<str>, SocketAddr>, timeout: Duration) -> Self {
        Names {
            known: ArcSwap::default(),
            changing: Mutex::new(()),
            own,
            timeout,
        }
    }

    /// An address of `authority`, the `turn`-th of those it has; resolves it if it is not known yet. `None`: it does not
    /// resolve in time.
    pub async fn address(&self, authority: &Authority, turn: usize) -> Option<SocketAddr> {
        let pick = |addresses: &[SocketAddr]| addresses.get(turn % addresses.len().max(1)).copied();
        match authority {
            Authority::Pinned(addresses) => pick(addresses),
            Authority::Name { host, port } => {
                if let Some(own) = self.own.get(host) {
                    return Some(*own);
                }
                let key = (host.clone(), *port);
                if let Some(addresses) = self.known.load().get(&key) {
                    return pick(addresses);
                }
                pick(&self.resolve(&key).await?)
            }
        }
    }

    /// Resolves names that are not known yet and, with `again`, those that are. What no longer resolves keeps its last
    /// addresses: a resolver's trouble must not become ours.
    pub async fn refresh(&self, authorities: impl IntoIterator<Item = Authority>, again: bool) {
        for authority in authorities {
            if let Authority::Name { host, port } = authority
                && !self.own.contains_key(&host)
            {
                let key = (host, port);
                if (again || !self.known.load().contains_key(&key)) && self.resolve(&key).await.is_none() {
                    tracing::warn!(host = &*key.0, "the name of a provider does not resolve");
                }
            }
        }
    }

    async fn resolve(&self, key: &(Arc<str>, u16)) -> Option<Addresses> {
        let found = tokio::time::timeout(self.timeout, tokio::net::lookup_host((&*key.0, key.1)))
            .await
            .ok()?
            .ok()?;
        // IPv4 first: hosts without a route to IPv6 are common, and Pingora tries one address an attempt.
        let mut addresses: Vec<SocketAddr> = found.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        if let Some(first) = addresses.first() {
            let family = first.is_ipv6();
            addresses.retain(|address| address.is_ipv6() == family);
        }
        if addresses.is_empty() {
            return None;
        }
        let addresses: Addresses = addresses.into();
        let _changing = self.changing.lock();
        let known = self.known.load();
        if known.get(key) != Some(&addresses) && (known.len() < MAX_NAMES || known.contains_key(key)) {
            let mut changed = HashMap::clone(&known);
            changed.insert(key.clone(), addresses.clone());
            self.known.store(Arc::new(changed));
        }
        Some(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(own: &[(&str, &str)]) -> Names {
        let own = own
            .iter()
            .map(|(name, address)| (Arc::from(*name), address.parse().unwrap()))
            .collect();
        Names::new(own, Duration::from_secs(2))
    }

    #[tokio::test]
    async fn pinned_addresses_are_taken_in_turn() {
        let pinned = Authority::Pinned(vec!["127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap()]);
        let names = names(&[]);
        assert_eq!(names.address(&pinned, 0).await, Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(names.address(&pinned, 1).await, Some("127.0.0.1:2".parse().unwrap()));
        assert_eq!(names.address(&pinned, 2).await, Some("127.0.0.1:1".parse().unwrap()));
    }

    #[tokio::test]
    async fn own_names_and_literals_need_no_resolver() {
        let names = names(&[("sandbox.internal", "127.0.0.1:9")]);
        let own = Authority::Name {
            host: "sandbox.internal".into(),
            port: 80,
        };
        assert_eq!(names.address(&own, 0).await, Some("127.0.0.1:9".parse().unwrap()));
        let literal = Authority::Name {
            host: "::1".into(),
            port: 443,
        };
        assert_eq!(names.address(&literal, 0).await, Some("[::1]:443".parse().unwrap()));
    }
}
