//! The retry budget: retries are a share of the traffic, so that an outage is not made worse by them.
//!
//! A token bucket as Finagle's `RetryBudget` (twitter/finagle, `service/RetryBudget.scala`): each request deposits a share of
//! a token, each retry withdraws one, and a little comes in by time so that a gateway with little traffic can retry too.
//! Unlike there, deposits don't expire; the bucket's size bounds what a quiet time can save up.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Instant;

use super::metrics;

/// An empty bucket is filled by time alone within this many seconds.
pub const REFILL_SECONDS: u64 = 100;

/// Least size of the bucket in retries: without a reserve, deposits still need a place.
const LEAST_SIZE: i64 = 10;

/// Parts of a retry in which the bucket counts.
const PARTS: i64 = 1_000_000;

/// How many retries may follow.
#[derive(Debug)]
pub struct RetryBudget {
    /// In parts of a retry.
    balance: AtomicI64,
    size: i64,
    deposit: i64,
    /// Parts per second.
    refill: u64,
    /// Microseconds after `origin` until which the refill is booked.
    filled: AtomicU64,
    origin: Instant,
}

impl RetryBudget {
    /// `share`: retries per request in the long run, 0 to 1 (more is taken as 1). `reserve`: retries it starts with, its size,
    /// and [`REFILL_SECONDS`] times what comes in per second without any traffic. Both 0: no retries.
    pub fn new(share: f64, reserve: u32, now: Instant) -> Self {
        let reserve = i64::from(reserve) * PARTS;
        RetryBudget {
            balance: AtomicI64::new(reserve),
            size: reserve.max(LEAST_SIZE * PARTS),
            deposit: (share.clamp(0.0, 1.0) * PARTS as f64) as i64,
            refill: reserve.unsigned_abs() / REFILL_SECONDS,
            filled: AtomicU64::new(0),
            origin: now,
        }
    }

    /// A request makes its first attempt.
    pub fn deposit(&self) {
        self.add(self.deposit);
    }

    /// A retry is about to be made. False: it may not; counted in `tollgate_retries_denied_total`.
    pub fn withdraw(&self, now: Instant) -> bool {
        self.fill(now);
        let take = |balance: i64| (balance >= PARTS).then(|| balance - PARTS);
        let granted = self
            .balance
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok();
        if !granted {
            metrics::retry_denied();
        }
        granted
    }

    /// A retry that was withdrawn is not made after all.
    pub fn give_back(&self) {
        self.add(PARTS);
    }

    fn add(&self, parts: i64) {
        if parts > 0 {
            let add = |balance: i64| (balance < self.size).then(|| (balance + parts).min(self.size));
            // An error says that it is full.
            let _ = self.balance.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        }
    }

    fn fill(&self, now: Instant) {
        let at = u64::try_from(now.saturating_duration_since(self.origin).as_micros()).unwrap_or(u64::MAX);
        let filled = self.filled.load(Ordering::Relaxed);
        let parts = at.saturating_sub(filled).saturating_mul(self.refill) / 1_000_000;
        // Whoever books the time fills for it; who loses the race has nothing to add. What is less than a part waits.
        let booked = parts > 0
            && self
                .filled
                .compare_exchange(filled, at, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if booked {
            self.add(i64::try_from(parts).unwrap_or(self.size));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn withdrawn(budget: &RetryBudget, now: Instant) -> usize {
        (0..1_000).take_while(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn the_reserve_then_a_share_of_the_traffic() {
        let start = Instant::now();
        let budget = RetryBudget::new(0.2, 50, start);
        assert_eq!(withdrawn(&budget, start), 50);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget, start), 20);
        (0..100_000).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget, start), 50, "no more than the bucket holds");
    }

    #[test]
    fn it_fills_by_time() {
        let start = Instant::now();
        let budget = RetryBudget::new(0.0, 100, start);
        assert_eq!(withdrawn(&budget, start), 100);
        budget.deposit();
        assert_eq!(withdrawn(&budget, start), 0);
        assert_eq!(withdrawn(&budget, start + Duration::from_secs(3)), 3);
        let later = start + Duration::from_secs(1003);
        assert_eq!(withdrawn(&budget, later), 100);
        assert_eq!(withdrawn(&budget, start), 0, "time does not run back");
    }

    #[test]
    fn nothing_allowed_is_nothing() {
        let start = Instant::now();
        let budget = RetryBudget::new(0.0, 0, start);
        (0..100).for_each(|_| budget.deposit());
        assert_eq!(withdrawn(&budget, start + Duration::from_secs(3600)), 0);
    }

    #[test]
    fn what_is_given_back_can_be_withdrawn_again() {
        let start = Instant::now();
        let budget = RetryBudget::new(0.0, 50, start);
        assert!(budget.withdraw(start));
        budget.give_back();
        assert_eq!(withdrawn(&budget, start), 50);
    }

    #[test]
    fn threads_never_withdraw_more_than_there_is() {
        let start = Instant::now();
        let budget = RetryBudget::new(0.5, 100, start);
        let granted: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| withdrawn(&budget, start))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(granted, 100);
    }
}
