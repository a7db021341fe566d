//! Names and what they resolve to: looked up ahead, refreshed in the background, each name by one lookup at a time.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Authority;
use super::book::{Book, Spot};

/// How often known names are resolved again.
pub const REFRESH: Duration = Duration::from_secs(30);

/// Most names known at once; later ones do not resolve.
const MAX_NAMES: usize = 4096;

/// Most addresses kept of one name.
const MAX_ADDRESSES: usize = 32;

/// Names refreshed at once. A lookup takes a thread of the runtime's blocking pool (512 threads) until the system's
/// resolver gives up, which may be long after we did.
const REFRESHED_AT_ONCE: usize = 16;

/// A name that never resolved is not looked up again for so long on the path of a request.
const FAILED_FOR: Duration = Duration::from_secs(5);

/// Resolves a name; blocking.
pub type Lookup = Arc<dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync>;

pub(super) type Key = (Arc<str>, u16);

/// Names, what they resolve to, and how connecting to their addresses goes.
pub struct Names {
    known: ArcSwap<HashMap<Key, Arc<Name>>>,
    adding: Mutex<()>,
    own: HashMap<Arc<str>, SocketAddr>,
    timeout: Duration,
    lookup: Lookup,
    refreshing: Arc<Semaphore>,
    book: Book,
}

/// One name.
#[derive(Default)]
struct Name(Mutex<Found>);

#[derive(Default)]
struct Found {
    /// Empty: it never resolved.
    addresses: Option<Arc<[SocketAddr]>>,
    resolved: Option<Instant>,
    /// When it last failed, if that was after it last resolved.
    failed: Option<Instant>,
    under_way: Option<UnderWay>,
}

/// A lookup under way; the channel closes when it has ended.
#[derive(Clone)]
struct UnderWay {
    began: Instant,
    ended: watch::Receiver<()>,
}

/// How a name stands.
#[derive(Clone, Debug)]
pub struct NameState {
    /// The name.
    pub host: Arc<str>,
    /// The port it was looked up with.
    pub port: u16,
    /// What it resolved to last, IPv4 first; empty: it never did.
    pub addresses: Vec<SocketAddr>,
    /// When it last resolved.
    pub resolved: Option<Instant>,
    /// Its last lookup failed.
    pub failing: bool,
}

impl Names {
    /// Knows nothing yet but `own`: names which stand for addresses of this process. `timeout`: how long a request waits
    /// for a name that is not known yet.
    pub fn new(own: HashMap<Arc<str>, SocketAddr>, timeout: Duration) -> Self {
        Self::with_lookup(own, timeout, system())
    }

    /// As [`Names::new`], with another resolver than the system's.
    pub fn with_lookup(own: HashMap<Arc<str>, SocketAddr>, timeout: Duration, lookup: Lookup) -> Self {
        Names {
            known: ArcSwap::default(),
            adding: Mutex::new(()),
            own,
            timeout,
            lookup,
            refreshing: Arc::new(Semaphore::new(REFRESHED_AT_ONCE)),
            book: Book::default(),
        }
    }

    /// The addresses of `authority`, IPv4 first; looks it up if it is not known yet. `None`: it does not resolve in time.
    pub async fn addresses(&self, authority: &Authority) -> Option<Arc<[SocketAddr]>> {
        let (host, port) = match authority {
            Authority::Pinned(addresses) => return Some(addresses.clone()),
            Authority::Name { host, port } => (host, *port),
        };
        if let Some(own) = self.own.get(host) {
            return Some(Arc::new([*own]));
        }
        if let Ok(literal) = host.parse::<IpAddr>() {
            return Some(Arc::new([SocketAddr::new(literal, port)]));
        }
        let name = self.name(&(host.clone(), port))?;
        {
            let found = name.0.lock();
            if let Some(addresses) = &found.addresses {
                return Some(addresses.clone());
            }
            if found.under_way.is_none() && found.failed.is_some_and(|at| at.elapsed() < FAILED_FOR) {
                return None;
            }
        }
        self.look_up(&name, host, port).await;
        name.0.lock().addresses.clone()
    }

    /// Resolves names that are not known yet, in parallel; with `again` also those that are, and forgets the others. What
    /// no longer resolves keeps its last addresses: a resolver's trouble must not become ours.
    pub async fn refresh(&self, authorities: impl IntoIterator<Item = Authority>, again: bool) {
        let keys: HashSet<Key> = authorities
            .into_iter()
            .filter_map(|authority| match authority {
                Authority::Name { host, port } => Some((host, port)),
                Authority::Pinned(_) => None,
            })
            .filter(|(host, _)| !self.own.contains_key(host) && host.parse::<IpAddr>().is_err())
            .collect();
        if again {
            self.forget(&keys);
        }
        let mut lookups = JoinSet::new();
        for key in keys {
            let Some(name) = self.name(&key) else {
                tracing::warn!(host = &*key.0, "too many names of providers: this one is not resolved");
                continue;
            };
            if !again && name.0.lock().addresses.is_some() {
                continue;
            }
            let (lookup, timeout, refreshing) = (self.lookup.clone(), self.timeout, self.refreshing.clone());
            lookups.spawn(async move {
                let _turn = refreshing.acquire_owned().await;
                look_up(&name, &key.0, key.1, lookup, timeout).await;
            });
        }
        while lookups.join_next().await.is_some() {}
    }

    /// How the names stand.
    pub fn states(&self) -> Vec<NameState> {
        let known = self.known.load();
        let state = |(key, name): (&Key, &Arc<Name>)| {
            let found = name.0.lock();
            NameState {
                host: key.0.clone(),
                port: key.1,
                addresses: found.addresses.iter().flat_map(|all| all.iter()).copied().collect(),
                resolved: found.resolved,
                failing: found.failed.is_some(),
            }
        };
        known.iter().map(state).collect()
    }

    /// Where it is kept how connecting to the addresses of `host:port` goes. Shared by all who ask for the same, over
    /// reloads.
    pub fn spot(&self, host: &Arc<str>, port: u16) -> Arc<Spot> {
        self.book.spot(host, port)
    }

    fn name(&self, key: &Key) -> Option<Arc<Name>> {
        if let Some(name) = self.known.load().get(key) {
            return Some(name.clone());
        }
        let _adding = self.adding.lock();
        let known = self.known.load();
        if let Some(name) = known.get(key) {
            return Some(name.clone());
        }
        if known.len() >= MAX_NAMES {
            return None;
        }
        let name = Arc::new(Name::default());
        let mut more = HashMap::clone(&known);
        more.insert(key.clone(), name.clone());
        self.known.store(Arc::new(more));
        Some(name)
    }

    fn forget(&self, all_but: &HashSet<Key>) {
        self.book.tidy();
        let _adding = self.adding.lock();
        let known = self.known.load();
        if known.keys().any(|key| !all_but.contains(key)) {
            let mut fewer = HashMap::clone(&known);
            fewer.retain(|key, _| all_but.contains(key));
            self.known.store(Arc::new(fewer));
        }
    }

    async fn look_up(&self, name: &Arc<Name>, host: &Arc<str>, port: u16) {
        look_up(name, host, port, self.lookup.clone(), self.timeout).await;
    }
}

/// Looks a name up, or waits with whoever does, at most `timeout` since that lookup began. A lookup that takes longer goes
/// on, and what it finds is kept: there is never more than one of a name.
async fn look_up(name: &Arc<Name>, host: &Arc<str>, port: u16, lookup: Lookup, timeout: Duration) {
    let mut under_way = {
        let mut found = name.0.lock();
        match &found.under_way {
            Some(under_way) => under_way.clone(),
            None => {
                let (ends, ended) = watch::channel(());
                let under_way = UnderWay {
                    began: Instant::now(),
                    ended,
                };
                found.under_way = Some(under_way.clone());
                tokio::spawn(finish(name.clone(), host.clone(), port, lookup, ends));
                under_way
            }
        }
    };
    let left = timeout.saturating_sub(under_way.began.elapsed());
    // The channel only ever closes.
    if tokio::time::timeout(left, under_way.ended.changed()).await.is_err() {
        tracing::debug!(host = &**host, "the name takes long to resolve");
    }
}

async fn finish(name: Arc<Name>, host: Arc<str>, port: u16, lookup: Lookup, ends: watch::Sender<()>) {
    let asked = host.clone();
    let answer = tokio::task::spawn_blocking(move || lookup(&asked, port)).await;
    let answer = answer.unwrap_or_else(|_panicked| Err(io::Error::other("the lookup failed")));
    let mut found = name.0.lock();
    found.under_way = None;
    match answer.map(in_order) {
        Ok(addresses) if !addresses.is_empty() => {
            if found.failed.take().is_some() {
                tracing::info!(host = &*host, "the name resolves again");
            }
            found.resolved = Some(Instant::now());
            if found.addresses.as_deref() != Some(&addresses) {
                found.addresses = Some(addresses.into());
            }
        }
        // Told once, not each time.
        answer => {
            if found.failed.replace(Instant::now()).is_none() {
                let why = answer.err().map_or("no address".to_owned(), |error| error.to_string());
                let kept = found.addresses.as_ref().map_or(0, |addresses| addresses.len());
                tracing::warn!(
                    host = &*host,
                    why,
                    kept,
                    "the name of a provider or a proxy does not resolve"
                );
            }
        }
    }
    drop(found);
    drop(ends);
}

/// IPv4 first: hosts without a route to IPv6 are common. IPv6 stays as what is tried when those fail.
fn in_order(mut addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut seen = HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.truncate(MAX_ADDRESSES);
    addresses
}

/// The system's resolver.
pub(super) fn system() -> Lookup {
    Arc::new(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn name(host: &str) -> Authority {
        Authority::Name {
            host: host.into(),
            port: 443,
        }
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn pinned_own_and_literal_addresses_need_no_resolver() {
        let own = HashMap::from([(Arc::from("sandbox.internal"), address("127.0.0.1:9"))]);
        let never: Lookup = Arc::new(|_, _| panic!("no lookup"));
        let names = Names::with_lookup(own, LONG, never);
        let pinned = Authority::Pinned(Arc::new([address("127.0.0.1:1"), address("[::1]:2")]));
        assert_eq!(names.addresses(&pinned).await.unwrap().len(), 2);
        assert_eq!(
            *names.addresses(&name("sandbox.internal")).await.unwrap(),
            [address("127.0.0.1:9")]
        );
        assert_eq!(*names.addresses(&name("::1")).await.unwrap(), [address("[::1]:443")]);
        names
            .refresh([pinned, name("::1"), name("sandbox.internal")], true)
            .await;
        assert!(names.states().is_empty());
    }

    #[tokio::test]
    async fn ipv4_comes_first_and_ipv6_is_kept() {
        let found = [
            "[::2]:443",
            "192.0.2.1:443",
            "[::3]:443",
            "192.0.2.1:443",
            "192.0.2.2:443",
        ];
        let names = Names::with_lookup(
            HashMap::new(),
            LONG,
            Arc::new(move |_, _| Ok(found.map(address).to_vec())),
        );
        let wanted = ["192.0.2.1:443", "192.0.2.2:443", "[::2]:443", "[::3]:443"].map(address);
        assert_eq!(*names.addresses(&name("a")).await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn who_asks_for_the_same_unknown_name_waits_for_the_same_lookup() {
        let count = Arc::new(AtomicUsize::new(0));
        let (go, wait) = mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let counted = count.clone();
        let lookup: Lookup = Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = wait.lock().recv();
            Ok(vec![address("192.0.2.1:443")])
        });
        let names = Arc::new(Names::with_lookup(HashMap::new(), LONG, lookup));
        let asking: Vec<_> = (0..8)
            .map(|_| {
                let names = names.clone();
                tokio::spawn(async move { names.addresses(&name("a")).await })
            })
            .collect();
        tokio::task::yield_now().await;
        go.send(()).unwrap();
        for asked in asking {
            assert_eq!(*asked.await.unwrap().unwrap(), [address("192.0.2.1:443")]);
        }
        names.addresses(&name("a")).await.unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn what_no_longer_resolves_keeps_its_addresses_and_says_so() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let lookup: Lookup = Arc::new(move |_, _| match counted.fetch_add(1, Ordering::Relaxed) {
            0 => Ok(vec![address("192.0.2.1:443")]),
            1 => Err(io::Error::other("no resolver")),
            2 => Ok(Vec::new()),
            _ => Ok(vec![address("192.0.2.2:443")]),
        });
        let names = Names::with_lookup(HashMap::new(), LONG, lookup);
        names.refresh([name("a")], false).await;
        let first = names.states()[0].resolved.unwrap();
        for _ in 0..2 {
            names.refresh([name("a")], true).await;
            assert_eq!(*names.addresses(&name("a")).await.unwrap(), [address("192.0.2.1:443")]);
            let state = &names.states()[0];
            assert!(state.failing && state.resolved == Some(first), "{state:?}");
        }
        names.refresh([name("a")], false).await;
        assert_eq!(
            count.load(Ordering::Relaxed),
            3,
            "known ones are not looked up again unasked"
        );
        names.refresh([name("a")], true).await;
        assert_eq!(*names.addresses(&name("a")).await.unwrap(), [address("192.0.2.2:443")]);
        assert!(!names.states()[0].failing);
        names.refresh([], true).await;
        assert!(names.states().is_empty(), "what the rules no longer name is forgotten");
    }

    #[tokio::test]
    async fn a_name_that_hangs_holds_up_neither_the_others_nor_a_second_request() {
        let count = Arc::new(AtomicUsize::new(0));
        let (go, wait) = mpsc::channel::<()>();
        let (wait, counted) = (Mutex::new(wait), count.clone());
        let lookup: Lookup = Arc::new(move |host, _| {
            if host == "hangs" {
                counted.fetch_add(1, Ordering::Relaxed);
                let _ = wait.lock().recv();
            }
            Ok(vec![address("192.0.2.1:443")])
        });
        let names = Names::with_lookup(HashMap::new(), Duration::from_millis(20), lookup);
        let all: Vec<Authority> = ["hangs", "b", "c"].map(name).to_vec();
        names.refresh(all.clone(), true).await;
        assert_eq!(names.addresses(&name("hangs")).await, None);
        assert_eq!(names.addresses(&name("hangs")).await, None);
        assert!(names.addresses(&name("b")).await.is_some());
        names.refresh(all, true).await;
        assert_eq!(count.load(Ordering::Relaxed), 1, "one lookup of a name at a time");
        go.send(()).unwrap();
        let patient = Names { timeout: LONG, ..names };
        assert!(
            patient.addresses(&name("hangs")).await.is_some(),
            "what came late is kept"
        );
    }

    #[tokio::test]
    async fn a_name_that_does_not_exist_is_not_asked_for_by_every_request() {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = count.clone();
        let lookup: Lookup = Arc::new(move |_, _| {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(io::Error::other("no such name"))
        });
        let names = Names::with_lookup(HashMap::new(), LONG, lookup);
        for _ in 0..5 {
            assert_eq!(names.addresses(&name("a")).await, None);
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        assert!(names.states()[0].failing);
    }
}
