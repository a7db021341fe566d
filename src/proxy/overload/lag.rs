//! How late a thread is with its work, and which part of the requests it refuses therefore.
//!
//! A task wakes each [`TICK`]; how much later it runs than it wanted is what any ready task waits for its turn. As with CoDel
//! (RFC 8289), not the worst of it counts but the least within a window: a burst passes, a standing queue does not. While even that
//! is over the target the admitted share shrinks by a factor; when it is back under it, the share grows again by steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::proxy::metrics;

/// How often the task wakes while there are requests …
const TICK: Duration = Duration::from_millis(10);
/// … and while there are none.
const IDLE_TICK: Duration = Duration::from_millis(100);
/// Shortest window, RFC 8289's interval …
const WINDOW: Duration = Duration::from_millis(100);
/// … which has at least so many measures: a single stall (a suspended machine) is no standing queue.
const LEAST_MEASURES: u32 = 3;
/// Least factor by which the admitted share shrinks in a window.
const SHRINK: f64 = 0.5;
/// Largest factor: a window over the target always counts.
const SHRINK_LEAST: f64 = 0.9;
/// Step by which it grows in a window.
const GROW: f64 = 0.05;
/// The admitted share never gets smaller.
const LEAST_ADMITTED: f64 = 0.02;
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
}

impl Lag {
    /// A lag over `target` is too much.
    pub fn new(target: Duration) -> Arc<Self> {
        Arc::new(Lag {
            target,
            refused: AtomicU32::new(0),
            carried: AtomicU32::new(0),
            watched: AtomicBool::new(false),
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
        let refused = self.refused.load(Ordering::Relaxed);
        if refused == 0 {
            return false;
        }
        let before = self.carried.fetch_add(refused, Ordering::Relaxed);
        before % PARTS + refused >= PARTS
    }
}

async fn measure(lag: Arc<Lag>) {
    let mut window = Window::new(Instant::now());
    loop {
        let busy = metrics::in_flight() > 0 || window.admitted < 1.0;
        let due = Instant::now() + if busy { TICK } else { IDLE_TICK };
        tokio::time::sleep_until(due.into()).await;
        let now = Instant::now();
        let late = now.saturating_duration_since(due);
        metrics::lag(late);
        window.add(late, now, lag.target);
        lag.refused
            .store(((1.0 - window.admitted) * f64::from(PARTS)) as u32, Ordering::Relaxed);
    }
}

/// What was measured lately, and what follows.
struct Window {
    began: Instant,
    least: Duration,
    measures: u32,
    /// The part of the requests that is admitted.
    admitted: f64,
}

impl Window {
    fn new(now: Instant) -> Self {
        Window {
            began: now,
            least: Duration::MAX,
            measures: 0,
            admitted: 1.0,
        }
    }

    fn add(&mut self, late: Duration, now: Instant, target: Duration) {
        self.least = self.least.min(late);
        self.measures += 1;
        if self.measures < LEAST_MEASURES || now.saturating_duration_since(self.began) < WINDOW {
            return;
        }
        self.admitted = if self.least > target {
            let factor = target.as_secs_f64() / self.least.as_secs_f64();
            (self.admitted * factor.clamp(SHRINK, SHRINK_LEAST)).max(LEAST_ADMITTED)
        } else {
            (self.admitted + GROW).min(1.0)
        };
        (self.began, self.least, self.measures) = (now, Duration::MAX, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(50);

    /// Measures of this lateness for so many windows.
    fn measured(window: &mut Window, now: &mut Instant, late: Duration, windows: u32) {
        for _ in 0..windows * 10 {
            *now += TICK + late;
            window.add(late, *now, TARGET);
        }
    }

    #[test]
    fn a_standing_queue_shrinks_what_is_admitted_and_a_burst_does_not() {
        let mut now = Instant::now();
        let mut window = Window::new(now);
        for _ in 0..100 {
            // Three of four measures are bad, but never all of a window.
            for late in [200, 300, 150, 1] {
                now += TICK;
                window.add(Duration::from_millis(late), now, TARGET);
            }
        }
        assert_eq!(window.admitted, 1.0);
        now += Duration::from_secs(30);
        window.add(Duration::from_secs(30), now, TARGET);
        window.add(Duration::ZERO, now, TARGET);
        window.add(Duration::ZERO, now, TARGET);
        assert_eq!(window.admitted, 1.0, "a machine that slept is not overloaded");
        measured(&mut window, &mut now, Duration::from_millis(80), 1);
        assert!((0.1..0.7).contains(&window.admitted), "{}", window.admitted);
        measured(&mut window, &mut now, Duration::from_millis(500), 20);
        assert_eq!(window.admitted, LEAST_ADMITTED);
        measured(&mut window, &mut now, Duration::from_millis(1), 25);
        assert_eq!(window.admitted, 1.0, "and it comes back");
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
