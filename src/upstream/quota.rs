//! What a credential's owner allows in any 60 seconds: requests and tokens.

use std::time::{Duration, Instant};

use crate::limits::minute::{ByAge, Minute, SLOTS, within};
use crate::rules::CredentialLimits;

/// Requests and tokens of one credential.
#[derive(Debug)]
pub struct Quota {
    origin: Instant,
    requests: Minute,
    tokens: Minute,
}

/// What a request was booked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Booked {
    second: u64,
    /// `None`: tokens are not limited.
    tokens: Option<Tokens>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Tokens {
    all: u64,
    prompt: u64,
}

impl Booked {
    /// Those of its tokens which the prompt has.
    pub fn prompt(&self) -> u64 {
        self.tokens.map_or(0, |tokens| tokens.prompt)
    }
}

impl Quota {
    /// Nothing used.
    pub fn new(now: Instant) -> Self {
        let mut quota = Quota {
            // What another process used in the last minute has a place in it.
            origin: now.checked_sub(Duration::from_secs(SLOTS)).unwrap_or(now),
            requests: Minute::new(),
            tokens: Minute::new(),
        };
        quota.advance(now);
        quota
    }

    /// What was used in the last minute, by how many seconds ago: requests, and tokens.
    pub fn used(&mut self, now: Instant) -> (ByAge, ByAge) {
        self.advance(now);
        (self.requests.by_age(), self.tokens.by_age())
    }

    /// Counts what was used so many seconds before it was said, which is `ago` seconds ago.
    pub fn recall(&mut self, requests: &[(u64, u64)], tokens: &[(u64, u64)], ago: u64, now: Instant) {
        self.advance(now);
        for (minute, all) in [(&mut self.requests, requests), (&mut self.tokens, tokens)] {
            for &(age, amount) in all {
                minute.add_before(age.saturating_add(ago), amount);
            }
        }
    }

    fn advance(&mut self, now: Instant) -> u64 {
        let second = now
            .saturating_duration_since(self.origin)
            .as_secs()
            .max(self.requests.second());
        self.requests.advance(second);
        self.tokens.advance(second);
        second
    }

    /// When a request of this many tokens fits; `None`: now.
    pub fn full(&mut self, limits: &CredentialLimits, tokens: u64, now: Instant) -> Option<Instant> {
        let second = self.advance(now);
        let wait = |window: &Minute, amount, limit: Option<u64>| limit.map_or(0, |limit| window.wait(amount, limit));
        let requests = match limits.requests_per_minute {
            // None is allowed at all: look again in a minute.
            Some(0) => SLOTS,
            limit => wait(&self.requests, 1, limit),
        };
        let tokens = within(tokens, limits.tokens_per_minute.unwrap_or(u64::MAX));
        let wait = requests.max(wait(&self.tokens, tokens, limits.tokens_per_minute));
        (wait > 0).then(|| self.origin + Duration::from_secs(second + wait))
    }

    /// Books a request: its tokens (all, and those of the prompt) only where they are limited, and at most as many as the limit.
    pub fn book(&mut self, limits: &CredentialLimits, (all, prompt): (u64, u64), now: Instant) -> Booked {
        let second = self.advance(now);
        self.requests.add(1);
        let tokens = limits.tokens_per_minute.map(|limit| Tokens {
            all: within(all, limit),
            prompt: within(prompt.min(all), limit),
        });
        self.tokens.add(tokens.map_or(0, |tokens| tokens.all));
        Booked { second, tokens }
    }

    /// The tokens a request really used.
    pub fn correct(&mut self, booked: Booked, tokens: u64) {
        if let Some(was) = booked.tokens {
            self.tokens.correct(booked.second, was.all, tokens);
        }
    }

    /// The request never went out.
    pub fn refund(&mut self, booked: Booked) {
        self.requests.correct(booked.second, 1, 0);
        self.correct(booked, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CredentialLimits = CredentialLimits {
        requests_per_minute: Some(5),
        tokens_per_minute: Some(1000),
        concurrent: None,
    };

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn another_process_goes_on_with_what_was_used() {
        let start = Instant::now();
        let mut old = Quota::new(start);
        for at in [0, 10, 10] {
            old.book(&LIMITS, (300, 100), start + seconds(at));
        }
        let (requests, tokens) = old.used(start + seconds(20));
        assert_eq!(
            (&*requests, &*tokens),
            (&[(10, 2), (20, 1)][..], &[(10, 600), (20, 300)][..])
        );
        let mut new = Quota::new(start + seconds(25));
        new.recall(&requests, &tokens, 5, start + seconds(25));
        assert!(
            new.full(&LIMITS, 200, start + seconds(25)).is_some(),
            "900 of 1,000 tokens are used"
        );
        assert_eq!(new.full(&LIMITS, 100, start + seconds(25)), None);
        assert_eq!(
            new.full(&LIMITS, 400, start + seconds(62)),
            None,
            "the first is over a minute old"
        );
    }

    #[test]
    fn requests_come_back_one_by_one() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        for at in 0..5 {
            assert_eq!(quota.full(&LIMITS, 0, start + seconds(at * 2)), None);
            quota.book(&LIMITS, (0, 0), start + seconds(at * 2));
        }
        assert_eq!(quota.full(&LIMITS, 0, start + seconds(10)), Some(start + seconds(61)));
        assert_eq!(quota.full(&LIMITS, 0, start + seconds(61)), None);
        quota.book(&LIMITS, (0, 0), start + seconds(61));
        assert_eq!(quota.full(&LIMITS, 0, start + seconds(61)), Some(start + seconds(63)));
        assert_eq!(quota.full(&LIMITS, 0, start + seconds(1000)), None);
    }

    #[test]
    fn tokens_are_corrected_and_refunded() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        let booked = quota.book(&LIMITS, (900, 0), start);
        assert!(quota.full(&LIMITS, 200, start).is_some());
        quota.correct(booked, 100);
        assert_eq!(quota.full(&LIMITS, 900, start), None);
        let more = quota.book(&LIMITS, (900, 0), start + seconds(1));
        assert!(quota.full(&LIMITS, 1, start + seconds(1)).is_some());
        quota.refund(more);
        assert_eq!(quota.full(&LIMITS, 900, start + seconds(1)), None);
        quota.correct(booked, 5);
        quota.book(&LIMITS, (1, 0), start + seconds(200));
        quota.correct(booked, 1_000_000);
        assert_eq!(quota.full(&LIMITS, 999, start + seconds(200)), None, "long forgotten");
    }

    #[test]
    fn what_is_larger_than_the_limit_goes_alone() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        assert_eq!(quota.full(&LIMITS, 5000, start), None);
        quota.book(&LIMITS, (5000, 0), start);
        assert_eq!(
            quota.full(&LIMITS, 1, start),
            Some(start + seconds(61)),
            "nothing beside it"
        );
    }

    #[test]
    fn what_is_told_can_be_anything() {
        let start = Instant::now();
        let mut quota = Quota::new(start);
        for at in 0..3 {
            let booked = quota.book(&LIMITS, (u64::MAX, u64::MAX), start + seconds(at));
            assert_eq!(booked.prompt(), 1000);
            quota.correct(booked, u64::MAX);
        }
        assert!(quota.full(&LIMITS, 1, start + seconds(3)).is_some());
        assert_eq!(quota.full(&LIMITS, 1, start + seconds(70)), None);
    }

    proptest::proptest! {
        #[test]
        fn no_minute_has_more_than_the_limit(gaps in proptest::collection::vec(0u64..20_000, 1..200)) {
            let start = Instant::now();
            let mut quota = Quota::new(start);
            let (mut at, mut sent) = (0, Vec::<u64>::new());
            for gap in gaps {
                at += gap;
                let now = start + Duration::from_millis(at);
                match quota.full(&LIMITS, 1, now) {
                    None => {
                        quota.book(&LIMITS, (1, 0), now);
                        sent.push(at);
                    }
                    Some(until) => {
                        proptest::prop_assert!(until > now);
                        proptest::prop_assert_eq!(quota.full(&LIMITS, 1, until), None, "then there is room");
                        let oldest = sent[sent.len() - 5];
                        proptest::prop_assert!(at < oldest + 61_000, "room comes back at most a second late");
                        at = (until - start).as_millis() as u64;
                    }
                }
            }
            for five in sent.windows(6) {
                proptest::prop_assert!(five[5] - five[0] >= 60_000);
            }
        }
    }
}
