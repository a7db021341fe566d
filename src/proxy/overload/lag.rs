//! How late a thread is with its work, and which part of the requests it refuses therefore.
//!
//! A task wakes each [`TICK`]; how much later it runs than it wanted is what any ready task waits for its turn. The lesser of two
//! measures counts: a burst passes, a standing queue does not (as in CoDel, RFC 8289). Over the target a part of the requests is
//! refused, the larger the later the thread is, and at twice the target nearly all of them; so the queue settles between both, and the
//! thread is never without work.
//!
//! A long queue is measured late: the task itself stands in it. So who asks also looks for how long the task is due: over
//! [`LONGEST`] targets everything is refused, until the queue before it is worked off.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::proxy::metrics;

/// How often the task wakes while there are requests …
const TICK: Duration = Duration::from_millis(10);
/// … and while there are none.
const IDLE_TICK: Duration = Duration::from_millis(100);
/// So many targets late the queue is too long for everybody.
const LONGEST: u32 = 5;
/// Never more is refused.
const MOST_REFUSED: f64 = 0.98;
/// In how many parts shares are counted.
const PARTS: u32 = 1 << 16;

/// The lag of one thread (of one service, where several threads share it).
pub struct Lag {
    target: Duration,
    /// Parts of the requests to be refused.
    refused: AtomicU32,
    /// What is left of earlier decisions, so that refusals are spread evenly.
    carried: AtomicU32,
    watched: AtomicBool,
    origin: Instant,
    /// When the task wants to run, in microseconds from `origin`.
    due: AtomicU64,
}

impl Lag {
    /// A lag over `target` is too much.
    pub fn new(target: Duration) -> Arc<Self> {
        Arc::new(Lag {
            target,
            refused: AtomicU32::new(0),
            carried: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            origin: Instant::now(),
            due: AtomicU64::new(u64::MAX),
        })
    }

    /// Starts the task on this runtime, once.
    pub fn watch(self: &Arc<Self>) {
        if !self.watched.load(Ordering::Relaxed) && !self.watched.swap(true, Ordering::AcqRel) {
            tokio::spawn(measure(self.clone()));
        }
    }

    /// Is this one of the requests to be refused?
    pub fn refuses(&self) -> bool {
        let due = self.due.load(Ordering::Relaxed);
        if self.micros(Instant::now()).saturating_sub(due) > LONGEST as u64 * self.target.as_micros() as u64 {
            return true;
        }
        let refused = self.refused.load(Ordering::Relaxed);
        if refused == 0 {
            return false;
        }
        let before = self.carried.fetch_add(refused, Ordering::Relaxed);
        before % PARTS + refused >= PARTS
    }

    fn micros(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX)
    }
}

async fn measure(lag: Arc<Lag>) {
    let mut before = Duration::ZERO;
    loop {
        let busy = metrics::in_flight() > 0 || !before.is_zero();
        let due = Instant::now() + if busy { TICK } else { IDLE_TICK };
        lag.due.store(lag.micros(due), Ordering::Relaxed);
        tokio::time::sleep_until(due.into()).await;
        let late = due.elapsed();
        metrics::lag(late);
        let refused = refused(before.min(late), lag.target) * f64::from(PARTS);
        lag.refused.store(refused as u32, Ordering::Relaxed);
        before = if late > lag.target { late } else { Duration::ZERO };
    }
}

/// The part of the requests that is refused by a thread which is so late.
fn refused(late: Duration, target: Duration) -> f64 {
    (late.as_secs_f64() / target.as_secs_f64() - 1.0).clamp(0.0, MOST_REFUSED)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    #[test]
    fn the_later_the_more_is_refused() {
        let part = |late| (refused(Duration::from_millis(late), TARGET) * 100.0).round() as u32;
        assert_eq!([part(0), part(50), part(60), part(75)], [0, 0, 20, 50]);
        assert_eq!([part(100), part(10_000)], [98, 98], "some always pass");
    }

    #[test]
    fn a_queue_that_is_far_too_long_is_seen_before_it_is_measured() {
        let mut lag = Lag::new(TARGET);
        let start = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        Arc::get_mut(&mut lag).unwrap().origin = start;
        for (late, refuses) in [(0, false), (200, false), (300, true), (5_000, true)] {
            let due = Duration::from_secs(10) - Duration::from_millis(late);
            lag.due.store(due.as_micros() as u64, Ordering::Relaxed);
            assert_eq!(lag.refuses(), refuses, "{late} ms");
        }
    }

    #[test]
    fn refusals_are_spread_evenly() {
        let lag = Lag::new(TARGET);
        assert!((0..100).all(|_| !lag.refuses()));
        for percent in [2, 25, 50, 98] {
            lag.refused.store(PARTS / 100 * percent, Ordering::Relaxed);
            for _ in 0..10 {
                let refused = (0..100).filter(|_| lag.refuses()).count() as u32;
                assert!(refused.abs_diff(percent) <= 1, "{refused} of {percent}");
            }
        }
    }
}
