//! Decaying averages of one credential's answers: time to the first token, and success.

use std::time::{Duration, Instant};

/// After this long an observation counts half. Finagle's load metrics decay likewise, within about ten seconds (`PeakEwma`
/// in twitter/finagle, whose decay time of 10 s is a mean lifetime).
pub const HALF_LIFE: Duration = Duration::from_secs(10);

/// Least weight of an observation: of many within a moment each would otherwise count next to nothing, and a credential
/// that starts to fail under load would look well for seconds.
const LEAST_WEIGHT: f64 = 0.05;

/// A measured time older than this says nothing: the credential, or the target, is explored again.
pub const STALE: Duration = Duration::from_secs(30);

/// What was measured.
#[derive(Clone, Copy, Debug, Default)]
pub struct Averages {
    /// Seconds to the first token, on average.
    mean: f64,
    /// The same, but up at once and only slowly down (Finagle's "peak" average).
    peak: f64,
    measured: Option<Instant>,
    /// Share of failures, 0 to 1.
    failing: f64,
    judged: Option<Instant>,
}

impl Averages {
    /// An attempt ended.
    pub fn judge(&mut self, success: bool, now: Instant) {
        let failed = if success { 0.0 } else { 1.0 };
        self.failing = match self.judged {
            Some(at) => mixed(self.failing, failed, at, now),
            // Before the first attempt nothing is known against it.
            None => failed / 2.0,
        };
        self.judged = Some(now);
    }

    /// An answer began.
    pub fn measure(&mut self, first_token: Duration, now: Instant) {
        let seconds = first_token.as_secs_f64();
        (self.mean, self.peak) = match self.measured {
            Some(at) => (
                mixed(self.mean, seconds, at, now),
                seconds.max(mixed(self.peak, seconds, at, now)),
            ),
            None => (seconds, seconds),
        };
        self.measured = Some(now);
    }

    /// Average time to the first token, however old; `None`: never measured.
    pub fn latency(&self) -> Option<Duration> {
        self.measured.and_then(|_| Duration::try_from_secs_f64(self.mean).ok())
    }

    /// Peak time to the first token, however old; `None`: never measured.
    pub fn peak(&self) -> Option<Duration> {
        self.measured.and_then(|_| Duration::try_from_secs_f64(self.peak).ok())
    }

    /// What was measured is too old to say anything ([`STALE`]).
    pub fn is_stale(&self, now: Instant) -> bool {
        self.measured
            .is_none_or(|at| now.saturating_duration_since(at) >= STALE)
    }

    /// Share of failures, 0 to 1; forgiven as time goes by.
    pub fn failing(&self, now: Instant) -> f64 {
        self.judged.map_or(0.0, |at| self.failing * left(at, now))
    }

    /// Share of successes, 0 to 1, as last observed.
    pub fn success(&self) -> f64 {
        1.0 - self.failing
    }
}

/// What is left after the time between, of 1.
fn left(at: Instant, now: Instant) -> f64 {
    let halves = now.saturating_duration_since(at).as_secs_f64() / HALF_LIFE.as_secs_f64();
    (-halves).exp2()
}

/// Observations come unevenly: the longer the last one is ago, the more a new one counts.
fn mixed(old: f64, new: f64, at: Instant, now: Instant) -> f64 {
    let weight = (1.0 - left(at, now)).max(LEAST_WEIGHT);
    old + (new - old) * weight
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_half_after_its_half_life() {
        let start = Instant::now();
        let mut averages = Averages::default();
        assert_eq!((averages.latency(), averages.success()), (None, 1.0));
        averages.measure(Duration::from_secs(1), start);
        averages.measure(Duration::from_secs(3), start + HALF_LIFE);
        assert_eq!(averages.latency(), Some(Duration::from_secs(2)));
        assert_eq!(averages.peak(), Some(Duration::from_secs(3)), "up at once");
        averages.measure(Duration::from_secs(1), start + 2 * HALF_LIFE);
        assert_eq!(averages.peak(), Some(Duration::from_secs(2)), "slowly down");
    }

    #[test]
    fn old_times_are_measured_again_and_old_failures_forgiven() {
        let start = Instant::now();
        let mut averages = Averages::default();
        averages.measure(Duration::from_secs(1), start);
        averages.judge(true, start);
        for _ in 0..20 {
            averages.judge(false, start);
        }
        assert!(averages.failing(start) > 0.5, "a burst within one moment is noticed");
        assert!(averages.failing(start + 5 * HALF_LIFE) < 0.05);
        assert_eq!(
            (averages.is_stale(start), averages.is_stale(start + STALE)),
            (false, true)
        );
    }
}
