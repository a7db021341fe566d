//! How connecting to addresses goes: which of several landing addresses of one host is to be taken.
//!
//! An address whose connects fail cools down, longer each time; when that is over, one request tries it (half-open). Of
//! those that can be used the near ones are taken in turn: near is what connects about as fast as the fastest, so that a
//! landing address on another continent loses against one next door.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::names::Key;

/// How long an address cools after its first failure; doubled with each further one, up to [`LONGEST`].
const FIRST: Duration = Duration::from_secs(1);

/// Longest time an address cools.
const LONGEST: Duration = Duration::from_secs(60);

/// How long the request that tries a cooled address has for it, before another one may.
const TRIAL: Duration = Duration::from_secs(10);

/// An address is near if it connects within so many times the fastest one's time ...
const NEAR: f64 = 1.5;

/// ... or within so much more: below it, differences are noise.
const NEAR_BY: Duration = Duration::from_millis(5);

/// Share of a new measurement in the decaying average of the time to connect.
const SHARE: f64 = 0.2;

/// An average older than this is as none: a far address is measured again now and then, since the network changes.
const STALE: Duration = Duration::from_secs(600);

/// Most addresses of one host to choose among: as many as can be pinned.
const MAX_ADDRESSES: usize = 64;

/// Addresses remembered of one host; where there are more, those it no longer resolves to are forgotten.
const MAX_KNOWN: usize = 128;

/// Most hosts with a shared entry; later ones have one of their own until they are reloaded.
const MAX_SPOTS: usize = 4096;

/// Every host's addresses.
#[derive(Default)]
pub(super) struct Book(Mutex<HashMap<Key, Arc<Spot>>>);

impl Book {
    pub(super) fn spot(&self, host: &Arc<str>, port: u16) -> Arc<Spot> {
        let mut spots = self.0.lock();
        let key = (host.clone(), port);
        if let Some(spot) = spots.get(&key) {
            return spot.clone();
        }
        let spot = Arc::<Spot>::default();
        if spots.len() < MAX_SPOTS {
            spots.insert(key, spot.clone());
        }
        spot
    }

    /// Forgets what nobody holds any more.
    pub(super) fn tidy(&self) {
        self.0.lock().retain(|_, spot| Arc::strong_count(spot) > 1);
    }
}

/// What is known of the addresses of one host and port.
#[derive(Default)]
pub struct Spot {
    known: Mutex<Vec<Known>>,
    turn: AtomicUsize,
}

struct Known {
    address: SocketAddr,
    failures: u32,
    until: Option<Instant>,
    /// A request is trying it.
    trial: bool,
    /// Decaying average of the time to connect, in seconds, and when it was last measured.
    connect: Option<(f64, Instant)>,
}

/// How an address stands.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressState {
    /// The address.
    pub address: SocketAddr,
    /// It is not to be used before this; `None`: it may be.
    pub until: Option<Instant>,
    /// Failures in a row.
    pub failures: u32,
    /// Decaying average of the time to connect.
    pub connect: Option<Duration>,
}

impl Spot {
    /// The best of `candidates` that was not `tried`: one that can be used, near, in turn; IPv6 only where no IPv4 is left.
    /// If all cool down, the least bad. `None`: all were tried.
    pub fn pick(
        &self,
        candidates: impl IntoIterator<Item = SocketAddr>,
        tried: &[SocketAddr],
        now: Instant,
    ) -> Option<SocketAddr> {
        let candidates: Vec<SocketAddr> = candidates.into_iter().take(MAX_ADDRESSES).collect();
        let mut known = self.known.lock();
        if known.len() > MAX_KNOWN {
            known.retain(|one| candidates.contains(&one.address));
        }
        let untried = candidates.into_iter().filter(|address| !tried.contains(address));
        let left: Vec<usize> = untried.map(|address| entry(&mut known, address)).collect();
        let usable = |index: &usize| {
            known
                .get(*index)
                .is_some_and(|one| one.until.is_none_or(|until| until <= now))
        };
        let mut ready: Vec<usize> = left.iter().copied().filter(usable).collect();
        if ready.is_empty() {
            let least_bad = left.into_iter().filter_map(|index| known.get(index));
            return least_bad.min_by_key(|one| one.until).map(|one| one.address);
        }
        let is_ipv4 = |index: &usize| known.get(*index).is_some_and(|one| one.address.is_ipv4());
        if ready.iter().any(is_ipv4) {
            ready.retain(is_ipv4);
        }
        let time = |index: &usize| known.get(*index).and_then(|one| one.connect_time(now));
        if let Some(fastest) = ready.iter().filter_map(time).min_by(f64::total_cmp) {
            let near = (fastest * NEAR).max(fastest + NEAR_BY.as_secs_f64());
            ready.retain(|index| time(index).is_none_or(|time| time <= near));
        }
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % ready.len();
        let chosen = known.get_mut(*ready.get(turn)?)?;
        if chosen.until.is_some() {
            chosen.trial = true;
            chosen.until = Some(now + TRIAL);
        }
        Some(chosen.address)
    }

    /// Notes that a connect took so long, or failed (`None`). False: the address was never asked for here.
    pub fn connected(&self, address: SocketAddr, took: Option<Duration>, now: Instant) -> bool {
        let mut known = self.known.lock();
        let Some(one) = known.iter_mut().find(|one| one.address == address) else {
            return false;
        };
        match took {
            Some(took) => {
                let took = took.as_secs_f64();
                let average = one.connect_time(now).map_or(took, |old| old + SHARE * (took - old));
                one.connect = Some((average, now));
                (one.failures, one.until, one.trial) = (0, None, false);
            }
            // Failures of connects that began before it cooled say nothing new.
            None if one.until.is_some_and(|until| now < until) && !one.trial => {}
            None => {
                let doubled = FIRST.saturating_mul(1 << one.failures.min(16));
                one.until = Some(now + doubled.min(LONGEST));
                one.failures = one.failures.saturating_add(1);
                one.trial = false;
            }
        }
        true
    }

    /// Notes that a connect went well, of whose time nothing can be said.
    pub fn answered(&self, address: SocketAddr) {
        let mut known = self.known.lock();
        if let Some(one) = known.iter_mut().find(|one| one.address == address) {
            (one.failures, one.until, one.trial) = (0, None, false);
        }
    }

    /// How its addresses stand.
    pub fn states(&self, now: Instant) -> Vec<AddressState> {
        let known = self.known.lock();
        let state = |one: &Known| AddressState {
            address: one.address,
            until: one.until.filter(|until| *until > now),
            failures: one.failures,
            connect: one.connect.map(|(seconds, _)| Duration::from_secs_f64(seconds)),
        };
        known.iter().map(state).collect()
    }
}

impl Known {
    fn connect_time(&self, now: Instant) -> Option<f64> {
        let (average, at) = self.connect?;
        (now.saturating_duration_since(at) < STALE).then_some(average)
    }
}

/// The place of an address, newly made if need be.
fn entry(known: &mut Vec<Known>, address: SocketAddr) -> usize {
    if let Some(index) = known.iter().position(|one| one.address == address) {
        return index;
    }
    known.push(Known {
        address,
        failures: 0,
        until: None,
        trial: false,
        connect: None,
    });
    known.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    const ONE: &str = "192.0.2.1:443";
    const TWO: &str = "192.0.2.2:443";
    const SIX: &str = "[2001:db8::1]:443";

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn near_addresses_take_turns_and_a_far_one_loses() {
        let (spot, now) = (Spot::default(), Instant::now());
        let all = [ONE, TWO, "192.0.2.3:443"].map(at);
        let pick = |now| spot.pick(all, &[], now).unwrap();
        let unmeasured: Vec<_> = (0..3).map(|_| pick(now)).collect();
        assert_eq!(unmeasured, all, "each is measured once");
        for (address, took) in all.into_iter().zip([20, 28, 180]) {
            assert!(spot.connected(address, Some(ms(took)), now));
        }
        let mut counts = [0; 3];
        for _ in 0..100 {
            let chosen = pick(now);
            counts[all.iter().position(|one| *one == chosen).unwrap()] += 1;
        }
        assert_eq!(counts, [50, 50, 0]);
        assert_eq!(
            spot.pick(all, &[all[0], all[1]], now),
            Some(all[2]),
            "until nothing else is left"
        );
        assert_eq!(spot.pick(all, &all, now), None);
        let later = now + STALE;
        spot.connected(all[0], Some(ms(20)), later);
        spot.connected(all[1], Some(ms(20)), later);
        assert!(
            (0..3).any(|_| pick(later) == all[2]),
            "it is measured again after a while"
        );
    }

    #[test]
    fn differences_below_a_few_milliseconds_are_noise() {
        let (spot, now) = (Spot::default(), Instant::now());
        let all = [ONE, TWO].map(at);
        spot.pick(all, &[], now);
        spot.connected(all[0], Some(Duration::from_micros(100)), now);
        spot.connected(all[1], Some(ms(4)), now);
        let chosen: Vec<_> = (0..2).map(|_| spot.pick(all, &[], now).unwrap()).collect();
        assert!(all.iter().all(|one| chosen.contains(one)), "{chosen:?}");
    }

    #[test]
    fn the_average_follows_what_is_measured() {
        let (spot, now) = (Spot::default(), Instant::now());
        spot.pick([at(ONE)], &[], now);
        spot.connected(at(ONE), Some(ms(100)), now);
        spot.connected(at(ONE), Some(ms(200)), now);
        assert_eq!(spot.states(now)[0].connect.unwrap().as_millis(), 120);
    }

    #[test]
    fn ipv6_is_what_is_tried_when_ipv4_fails() {
        let (spot, now) = (Spot::default(), Instant::now());
        let all = [ONE, SIX].map(at);
        assert_eq!(spot.pick(all, &[], now), Some(all[0]));
        assert_eq!(spot.pick(all, &[], now), Some(all[0]));
        assert_eq!(
            spot.pick(all, &[all[0]], now),
            Some(all[1]),
            "a second attempt of the same request"
        );
        spot.connected(all[0], None, now);
        assert_eq!(
            spot.pick(all, &[], now),
            Some(all[1]),
            "the next request, while IPv4 cools"
        );
    }

    #[test]
    fn failures_cool_longer_each_time_and_one_request_tries_again() {
        let spot = Spot::default();
        let mut now = Instant::now();
        let all = [ONE, TWO].map(at);
        spot.pick(all, &[], now);
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            spot.connected(all[0], None, now);
            // Others which were on their way fail too.
            spot.connected(all[0], None, now);
            let state = &spot.states(now)[0];
            assert_eq!(state.until, Some(now + Duration::from_secs(seconds)), "{state:?}");
            now += Duration::from_secs(seconds) - ms(1);
            assert!((0..4).all(|_| spot.pick(all, &[], now) == Some(all[1])));
            now += ms(1);
            let picked: Vec<_> = (0..6).filter_map(|_| spot.pick(all, &[], now)).collect();
            assert_eq!(
                picked.iter().filter(|one| **one == all[0]).count(),
                1,
                "half-open: {picked:?}"
            );
        }
        spot.connected(all[0], Some(ms(1)), now);
        let state = &spot.states(now)[0];
        assert_eq!((state.failures, state.until), (0, None), "a success clears it");
    }

    #[test]
    fn a_trial_that_nobody_reports_on_does_not_bar_for_ever() {
        let (spot, now) = (Spot::default(), Instant::now());
        let all = [ONE, TWO].map(at);
        spot.pick(all, &[], now);
        spot.connected(all[0], None, now);
        let tried = now + FIRST;
        assert!((0..2).any(|_| spot.pick(all, &[], tried) == Some(all[0])));
        assert!((0..4).all(|_| spot.pick(all, &[], tried) == Some(all[1])));
        assert!((0..2).any(|_| spot.pick(all, &[], tried + TRIAL) == Some(all[0])));
    }

    #[test]
    fn if_all_cool_the_least_bad_is_taken() {
        let (spot, now) = (Spot::default(), Instant::now());
        let all = [ONE, TWO].map(at);
        spot.pick(all, &[], now);
        spot.connected(all[0], None, now + ms(500));
        spot.connected(all[1], None, now);
        assert_eq!(spot.pick(all, &[], now + ms(600)), Some(all[1]));
        assert_eq!(spot.pick(all, &[all[1]], now + ms(600)), Some(all[0]));
    }

    #[test]
    fn what_was_learned_is_shared_and_bounded() {
        let (book, now) = (Book::default(), Instant::now());
        let spot = book.spot(&"a".into(), 443);
        spot.pick([at(ONE)], &[], now);
        book.spot(&"a".into(), 443).connected(at(ONE), None, now);
        assert_eq!(spot.states(now)[0].failures, 1);
        assert!(
            !book.spot(&"a".into(), 80).connected(at(ONE), None, now),
            "another port is another entry"
        );
        book.tidy();
        assert_eq!(book.0.lock().len(), 1, "only what somebody holds is kept");
        for n in 0..1000u16 {
            spot.pick([SocketAddr::from(([192, 0, 2, 1], n))], &[], now);
        }
        assert!(spot.states(now).len() <= MAX_KNOWN + MAX_ADDRESSES);
    }
}
