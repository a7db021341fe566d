//! Active checks: what is found out about credentials and addresses by asking, while no client waits for it.
//!
//! Per address: a connection, TLS where the base is https, an HTTP answer of any kind. Per credential: a real, cheap call,
//! by which its pool learns that a key is dead before a client meets it, and that it is good again. A provider without
//! credentials is checked by address only; one that can't be used (no key set) is left alone. Before the first check
//! nothing is known. What only one request could find out (rate limits, a model that is overloaded) is not looked for here.

mod book;
mod metrics;
mod probe;
mod prober;
mod question;
mod result;
mod schedule;
mod words;

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::ShutdownWatch;
use pingora::services::background::BackgroundService;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{CoolState, Endpoint, Fleet, LiveFleet, Pool};
use crate::clock::Clock;
use crate::config::HealthSettings;
use crate::rules::Credential;

use book::Book;
pub use probe::{ByRules, Dial, Found};
use prober::Prober;
pub use result::{CheckResult, Finding, PlaceCheck};
use schedule::{Schedule, Target, Wanted, What};

/// How often it is looked whether the rules changed, or something is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the targets are listed again although the rules are the same: an operator may have disabled a credential.
const LIST_EVERY: Duration = Duration::from_secs(10);

/// Longest wait of a check that was asked for until there is room for it.
const VERIFY_WAIT: Duration = Duration::from_secs(30);

/// Why a credential can't be verified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// There is none of this name.
    #[error("there is no such credential")]
    NoSuchCredential,
    /// There is no key to try.
    #[error("the credential is inactive: {0}")]
    Inactive(String),
    /// Too many checks were under way for too long.
    #[error("too many checks at once: try again")]
    Busy,
}

/// The checks of all providers. A handle: clones share everything. Run one of them as a background service.
#[derive(Clone)]
pub struct Checks(Arc<Inner>);

struct Inner {
    fleet: Arc<LiveFleet>,
    prober: Prober,
    schedule: Mutex<Schedule>,
    /// Told whenever a check ends.
    freed: Notify,
    book: Book,
    /// Tells a key replaced from the one before, without keeping either.
    stamps: RandomState,
    /// Nothing more is checked.
    stopped: AtomicBool,
}

impl Checks {
    /// Nothing is checked before the service runs or [`Checks::verify`] is called.
    pub fn new(fleet: Arc<LiveFleet>, dial: Box<dyn Dial>, clock: Clock, settings: &HealthSettings) -> Self {
        let stamps = RandomState::new();
        let seed = stamps.hash_one("seed");
        Checks(Arc::new(Inner {
            fleet,
            prober: Prober::new(dial, clock, settings.timeout),
            schedule: Mutex::new(Schedule::new(seed, settings.parallel)),
            freed: Notify::new(),
            book: Book::new(settings.certificate_warning),
            stamps,
            stopped: AtomicBool::new(false),
        }))
    }

    /// Begins no further checks by itself: another process does.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Relaxed);
        self.0.freed.notify_waiters();
    }

    /// Checks a credential now, a disabled one too, and returns what came of it. If a check of it is under way, its result is
    /// waited for. Takes at most `VERIFY_WAIT` and then as long as a check may.
    pub async fn verify(&self, provider: &str, credential: &str) -> Result<CheckResult, VerifyError> {
        let inner = &self.0;
        let fleet = inner.fleet.load();
        let known = fleet
            .rules()
            .provider(provider)
            .and_then(|known| known.credentials.iter().find(|known| *known.name == *credential))
            .ok_or(VerifyError::NoSuchCredential)?;
        if let Some(reason) = &known.inactive {
            return Err(VerifyError::Inactive(reason.clone()));
        }
        let target = Target {
            provider: provider.into(),
            what: What::Credential(credential.into()),
        };
        let begun = tokio::time::timeout(VERIFY_WAIT, inner.begin(&target)).await;
        let Some(running) = begun.map_err(|_| VerifyError::Busy)? else {
            // It was under way and has ended; without a result, its credential went away meanwhile.
            return inner.book.of_credential(&target).ok_or(VerifyError::NoSuchCredential);
        };
        let result = inner.check_credential(&target).await;
        drop(running);
        result.ok_or(VerifyError::NoSuchCredential)
    }

    /// The last check of a credential; `None`: there was none yet.
    pub fn of_credential(&self, provider: &str, credential: &str) -> Option<CheckResult> {
        self.0.book.of_credential(&Target {
            provider: provider.into(),
            what: What::Credential(credential.into()),
        })
    }

    /// The last checks of the places where a provider answers.
    pub fn of_places(&self, provider: &str) -> Vec<PlaceCheck> {
        self.0.book.of_places(provider)
    }
}

#[async_trait]
impl BackgroundService for Checks {
    /// Checks until the server shuts down.
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut running = JoinSet::new();
        let mut listed: Option<(Arc<Fleet>, Instant)> = None;
        while !*shutdown.borrow() && !self.0.stopped.load(Ordering::Relaxed) {
            let now = Instant::now();
            let fleet = self.0.fleet.load();
            let fresh = |(of, at): &(Arc<Fleet>, Instant)| Arc::ptr_eq(of, &fleet) && now - *at < LIST_EVERY;
            if !listed.as_ref().is_some_and(fresh) {
                self.0.list(&fleet, now);
                listed = Some((fleet, now));
            }
            let due = self.0.schedule.lock().begin_due(now);
            for target in due {
                let claim = Running {
                    inner: self.0.clone(),
                    target,
                };
                running.spawn(async move { claim.inner.check(&claim.target).await });
            }
            while running.try_join_next().is_some() {}
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.0.freed.notified() => {}
                changed = shutdown.changed() => if changed.is_err() { break },
            }
        }
        // What is under way is given up: nobody waits for it.
        running.shutdown().await;
    }
}

/// A check under way. Dropped, whatever became of it, the next may begin.
struct Running {
    inner: Arc<Inner>,
    target: Target,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.inner.schedule.lock().finish(&self.target, Instant::now());
        self.inner.freed.notify_waiters();
    }
}

impl Inner {
    /// Waits for room and begins. `None`: the same was being checked, and that has ended.
    async fn begin(self: &Arc<Self>, target: &Target) -> Option<Running> {
        let mut was_running = false;
        loop {
            let freed = self.freed.notified();
            tokio::pin!(freed);
            // From here on no end of a check is missed.
            freed.as_mut().enable();
            {
                let mut schedule = self.schedule.lock();
                if was_running && !schedule.is_running(target) {
                    return None;
                }
                if schedule.begin(target) {
                    return Some(Running {
                        inner: self.clone(),
                        target: target.clone(),
                    });
                }
                was_running |= schedule.is_running(target);
            }
            freed.await;
        }
    }

    /// Lists what is to be checked.
    fn list(&self, fleet: &Fleet, now: Instant) {
        let usable = fleet.pools().filter(|pool| pool.is_usable());
        let wanted = usable.flat_map(|pool| self.targets(pool, now)).collect();
        let changed = self.schedule.lock().follow(wanted, now);
        // What is known of a credential that was only disabled stays.
        let stays = |target: &&Target| {
            let pool = fleet.pool(&target.provider);
            pool.is_some_and(|pool| pool.provider.health.every.is_some()) && is_there(fleet, target)
        };
        let gone = changed.gone.iter().filter(|target| !stays(target));
        gone.chain(&changed.replaced)
            .for_each(|target| self.book.forget(target));
        self.book.retain(|target| is_there(fleet, target));
    }

    fn targets(&self, pool: &Pool, now: Instant) -> Vec<Wanted> {
        let provider = &pool.provider;
        let Some(every) = provider.health.every else {
            return Vec::new();
        };
        let wanted = |what, stamp| Wanted {
            target: Target {
                provider: provider.name.clone(),
                what,
            },
            every,
            stamp,
        };
        let states = pool.states(now);
        let disabled: HashSet<&str> = states
            .iter()
            .filter(|state| state.model.is_none() && state.standing == CoolState::Disabled)
            .map(|state| &*state.credential)
            .collect();
        let credentials = pool.credentials().iter();
        let credentials = credentials.filter(|credential| !disabled.contains(&*credential.name));
        let keys = credentials.map(|credential| {
            let stamp = self.stamps.hash_one(key(credential));
            wanted(What::Credential(credential.name.clone()), stamp)
        });
        let mut places: Vec<Arc<str>> = pool.endpoints().iter().map(|endpoint| place(endpoint)).collect();
        places.sort();
        places.dedup();
        let places = places.into_iter().map(|place| wanted(What::Place(place), 0));
        keys.chain(places).collect()
    }

    async fn check(&self, target: &Target) {
        match &target.what {
            What::Credential(_) => {
                self.check_credential(target).await;
            }
            What::Place(at) => {
                let fleet = self.fleet.load();
                let Some(pool) = fleet.pool(&target.provider) else {
                    return;
                };
                let endpoints: Vec<_> = pool
                    .endpoints()
                    .iter()
                    .filter(|known| place(known) == *at)
                    .cloned()
                    .collect();
                if !endpoints.is_empty() {
                    let check = self.prober.place(pool, at.clone(), &endpoints).await;
                    self.book.place(target, check, self.prober.clock.now());
                }
            }
        }
    }

    /// `None`: there is no such credential any more.
    async fn check_credential(&self, target: &Target) -> Option<CheckResult> {
        let What::Credential(name) = &target.what else {
            return None;
        };
        let fleet = self.fleet.load();
        let pool = fleet.pool(&target.provider)?;
        let credential = pool.credentials().iter().find(|known| known.name == *name)?;
        let mut result = self.prober.credential(pool, credential, fleet.masker()).await;
        // After a reload it is the pool in force that has to know.
        let now = self.fleet.load();
        let pool = now.pool(&target.provider)?;
        let same = |known: &Arc<Credential>| known.name == *name && key(known) == key(credential);
        if pool.credentials().iter().any(same) {
            pool.checked(name, &result.outcome(), result.asked, Instant::now());
            if pool.works(name) {
                result = result.beside_calls();
            }
            self.book.credential(target, &result);
        }
        Some(result)
    }
}

fn key(credential: &Credential) -> Option<&str> {
    credential.secret.as_ref().map(|secret| secret.expose())
}

fn is_there(fleet: &Fleet, target: &Target) -> bool {
    fleet.pool(&target.provider).is_some_and(|pool| match &target.what {
        What::Credential(name) => pool.credentials().iter().any(|known| known.name == *name),
        What::Place(at) => pool.endpoints().iter().any(|known| place(known) == *at),
    })
}

/// Scheme, host and port: `https://api.example.com`. Dialects that a provider speaks at one place share its check.
pub fn place(endpoint: &Endpoint) -> Arc<str> {
    let scheme = if endpoint.tls { "https" } else { "http" };
    format!("{scheme}://{}", endpoint.host_header.to_str().unwrap_or_default()).into()
}

#[cfg(test)]
mod tests;
