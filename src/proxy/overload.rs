//! What is refused when there is too much to do, so that the rest goes on: requests over a fixed number (they wait in line for a
//! moment first), and those for which their thread has no time ([`turnstile`]). A part of the places is kept for
//! critical requests: those of keys with certain tags, and those which take a route that is marked so. They don't stand at the turnstile.
//!
//! Of whom the key says nothing, only the body tells the route. Where some route is critical, such a request without a place is
//! read and routed first; where CPU is what is short, only so many of them that reading them costs a small share.

mod lag;
pub mod turnstile;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use pingora::proxy::Session;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config;
use crate::ir::{ApiError, ErrorKind};
use crate::keys::Grant;
use crate::random;

use super::context::RequestContext;
use super::metrics::{self, Shed};
use super::request_filter::Stop;
use super::{Gateway, door, intake, refuse};

/// Clients are told to come back after 1 to so many seconds, so that they don't come back together.
const RETRY_SPREAD: usize = 4;
/// Of a refused request this much of the body is read, so that its connection can stay open: a new one costs more than that, TLS most of all.
const READ_ON: u64 = 256 * 1024;
/// How long that may take.
const READ_ON_TIME: Duration = Duration::from_millis(200);
/// While a thread is late: of each so many admitted requests, one that is not is read to see which route it takes …
const LOOK_EACH: i64 = 16;
/// … and so many may be saved up.
const MOST_LOOKS: i64 = 32;

/// The places, and who may have them.
pub struct Overload {
    /// `None`: there is no bound.
    places: Option<Places>,
    queue: usize,
    wait: Duration,
    waiting: AtomicUsize,
    tags: Vec<String>,
    /// Looks saved up, in parts of [`LOOK_EACH`].
    looks: AtomicI64,
}

struct Places {
    open: Arc<Semaphore>,
    /// Kept for critical requests.
    kept: Arc<Semaphore>,
}

/// A place among the requests under way, until dropped.
pub struct Place {
    #[expect(dead_code, reason = "held for its drop")]
    permit: Option<OwnedSemaphorePermit>,
    _counted: metrics::Admitted,
}

impl Overload {
    /// `concurrent`: the bound in force, at most that of the configuration; 0: none.
    pub fn new(config: &config::Overload, concurrent: usize) -> Self {
        let kept = concurrent * config.critical_share as usize / 100;
        let places = (concurrent > 0).then(|| Places {
            open: Arc::new(Semaphore::new(concurrent - kept)),
            kept: Arc::new(Semaphore::new(kept)),
        });
        Overload {
            places,
            queue: config.queue,
            wait: config.wait,
            waiting: AtomicUsize::new(0),
            tags: config.critical_tags.clone(),
            looks: AtomicI64::new(0),
        }
    }

    fn is_critical(&self, grant: &Grant) -> bool {
        grant.key.tags.iter().any(|tag| self.tags.contains(tag))
    }

    /// A place that is free now.
    fn free_place(&self, critical: bool) -> Option<Place> {
        let Some(places) = &self.places else {
            return Some(Place::new(None));
        };
        let mut permit = places.open.clone().try_acquire_owned().ok();
        if permit.is_none() && critical {
            permit = places.kept.clone().try_acquire_owned().ok();
        }
        permit.map(|permit| Place::new(Some(permit)))
    }

    /// A place, waited for in line.
    async fn place(&self, critical: bool) -> Result<Place, Shed> {
        if let Some(place) = self.free_place(critical) {
            return Ok(place);
        }
        let Some(places) = &self.places else {
            return Err(Shed::Concurrency);
        };
        if self.wait.is_zero() {
            return Err(Shed::Concurrency);
        }
        let _waiting = Waiting::begin(&self.waiting, self.queue).ok_or(Shed::QueueFull)?;
        let freed = async {
            let open = places.open.clone().acquire_owned();
            if !critical {
                return open.await;
            }
            tokio::select! {
                biased;
                permit = open => permit,
                permit = places.kept.clone().acquire_owned() => permit,
            }
        };
        match tokio::time::timeout(self.wait, freed).await {
            Ok(Ok(permit)) => Ok(Place::new(Some(permit))),
            _ => Err(Shed::Concurrency),
        }
    }

    fn save_look(&self) {
        if self.looks.load(Ordering::Relaxed) < MOST_LOOKS * LOOK_EACH {
            self.looks.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn may_look(&self) -> bool {
        let take = |looks: i64| (looks >= LOOK_EACH).then(|| looks - LOOK_EACH);
        self.looks
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, take)
            .is_ok()
    }
}

impl Place {
    fn new(permit: Option<OwnedSemaphorePermit>) -> Self {
        Place {
            permit,
            _counted: metrics::Admitted::begin(),
        }
    }
}

/// Counts one that stands in line, until dropped.
struct Waiting<'a> {
    waiting: &'a AtomicUsize,
    _counted: metrics::InLine,
}

impl<'a> Waiting<'a> {
    fn begin(waiting: &'a AtomicUsize, most: usize) -> Option<Self> {
        if waiting.fetch_add(1, Ordering::AcqRel) >= most {
            waiting.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        Some(Waiting {
            waiting,
            _counted: metrics::InLine::begin(),
        })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

/// When the key is known: takes a place, or refuses. A request that may turn out critical goes on without a place, until
/// [`confirm`].
pub(super) async fn enter(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<(), Stop> {
    let overload = &gateway.overload;
    let Some(grant) = &ctx.client.grant else {
        return Ok(());
    };
    let critical = overload.is_critical(grant);
    let unsure = !critical
        && ctx.client.target.is_some()
        && gateway.fleet.load().has_critical()
        && session.req_header().method == http::Method::POST;
    let turnstile = door::badge(session).and_then(|badge| badge.turnstile.clone());
    if let Some(turnstile) = turnstile.filter(|_| !critical)
        && turnstile.pass().await.is_err()
    {
        if unsure && overload.may_look() {
            ctx.unplaced = Some(Shed::Lag);
            return Ok(());
        }
        return Err(refuse(session, Shed::Lag).await.into());
    }
    let place = match unsure {
        // It waits for a place when its route is known.
        true => overload.free_place(false).ok_or(None),
        false => overload.place(critical).await.map_err(Some),
    };
    match place {
        Ok(place) => {
            overload.save_look();
            ctx.place = Some(place);
            Ok(())
        }
        Err(None) => {
            ctx.unplaced = Some(Shed::Concurrency);
            Ok(())
        }
        Err(Some(why)) => Err(refuse(session, why).await.into()),
    }
}

/// When the route is known: a request without a place takes one, or is refused.
pub(super) async fn confirm(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<(), Stop> {
    let Some(why) = ctx.unplaced.take() else {
        return Ok(());
    };
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    let critical = route.is_some_and(|route| route.critical);
    if why == Shed::Lag && !critical {
        return Err(refuse(session, why).await.into());
    }
    match gateway.overload.place(critical).await {
        Ok(place) => {
            ctx.place = Some(place);
            Ok(())
        }
        Err(why) => Err(refuse(session, why).await.into()),
    }
}

/// What the client is told. What is short of the body is read, so that the connection can stay.
async fn refuse(session: &mut Session, why: Shed) -> ApiError {
    metrics::shed(why);
    let refusal = overloaded("the gateway has too much to do");
    if why == Shed::Lag {
        door::was_shed(refusal.retry_after_secs.unwrap_or_default());
    }
    let small = intake::declared_length(session).is_some_and(|length| length <= READ_ON);
    if small && !refuse::expects_continue(session) {
        refuse::read_off(session, READ_ON_TIME, READ_ON).await;
    }
    refusal
}

/// 503 with `Retry-After`.
pub(super) fn overloaded(what: &str) -> ApiError {
    let seconds = 1 + random::below(RETRY_SPREAD) as u32;
    ApiError::new(ErrorKind::Overloaded, format!("{what}; try again in {seconds} s"))
        .code("overloaded")
        .retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overload(concurrent: usize, queue: usize, wait: Duration) -> Overload {
        let config = config::Overload {
            queue,
            wait,
            critical_share: 20,
            ..config::Overload::default()
        };
        Overload::new(&config, concurrent)
    }

    #[tokio::test]
    async fn a_share_of_the_places_is_kept_for_critical_requests() {
        let overload = overload(10, 100, Duration::ZERO);
        let mut held = Vec::new();
        for _ in 0..8 {
            held.push(overload.place(false).await.ok().unwrap());
        }
        assert_eq!(overload.place(false).await.err(), Some(Shed::Concurrency));
        held.push(overload.place(true).await.ok().unwrap());
        held.push(overload.place(true).await.ok().unwrap());
        assert_eq!(overload.place(true).await.err(), Some(Shed::Concurrency));
        held.remove(0);
        assert!(overload.place(true).await.is_ok(), "an open place is for everyone");
    }

    #[tokio::test]
    async fn a_line_has_a_length_and_an_end() {
        let overload = Arc::new(overload(1, 2, Duration::from_millis(200)));
        let held = overload.place(false).await.ok().unwrap();
        let line: Vec<_> = (0..2)
            .map(|_| {
                let overload = overload.clone();
                tokio::spawn(async move { overload.place(false).await.map(drop).err() })
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(overload.place(false).await.err(), Some(Shed::QueueFull));
        drop(held);
        for waited in line {
            assert_eq!(waited.await.unwrap(), None, "whose turn it is gets the place");
        }
        let _held = overload.place(false).await.ok().unwrap();
        let begun = tokio::time::Instant::now();
        assert_eq!(overload.place(false).await.err(), Some(Shed::Concurrency));
        assert!(begun.elapsed() >= Duration::from_millis(200));
        assert_eq!(overload.waiting.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn looks_are_a_share_of_what_is_admitted() {
        let overload = overload(0, 0, Duration::ZERO);
        assert!(!overload.may_look());
        (0..LOOK_EACH * 3).for_each(|_| overload.save_look());
        assert_eq!((0..10).filter(|_| overload.may_look()).count(), 3);
        (0..LOOK_EACH * MOST_LOOKS * 2).for_each(|_| overload.save_look());
        assert_eq!((0..100).filter(|_| overload.may_look()).count() as i64, MOST_LOOKS);
    }
}
