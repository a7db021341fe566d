//! Limits per minute and of requests at once.

use super::*;

fn limits(requests: Option<u64>, tokens: Option<u64>, concurrent: Option<u32>) -> Limits {
    Limits {
        requests_per_minute: requests,
        tokens_per_minute: tokens,
        concurrent,
        ..Limits::default()
    }
}

#[test]
fn requests_per_minute() {
    let (chain, start) = (chain(limits(Some(2), None, None)), Instant::now());
    drop(chain.enter(noon(), start).unwrap());
    let admission = chain.enter(noon(), start + seconds(10)).unwrap();
    let standing = admission.standing(start + seconds(10)).requests.unwrap();
    assert_eq!(
        (standing.limit, standing.remaining, standing.reset),
        (2, 0, seconds(61))
    );
    let refused = refused(chain.enter(noon(), start + seconds(10)));
    assert_eq!(refused.limit, Limit::Minute(Unit::Requests));
    assert_eq!((refused.needed, refused.left), (1, 0));
    assert_eq!(refused.retry_after, Some(seconds(51)));
    assert!(chain.enter(noon(), start + seconds(61)).is_ok());
    assert!(chain.enter(noon(), start + seconds(61)).is_err());
}

#[test]
fn the_wall_clock_is_nothing_to_minutes() {
    let (chain, start) = (chain(limits(Some(1), None, None)), Instant::now());
    chain.enter(noon(), start).unwrap();
    for moment in ["1999-01-01T00:00:00Z", "2099-01-01T00:00:00Z"] {
        assert!(chain.enter(at(moment), start + seconds(30)).is_err());
    }
    assert!(chain.enter(noon(), start + seconds(61)).is_ok());
}

#[test]
fn tokens_per_minute_are_corrected() {
    let (chain, start) = (chain(limits(None, Some(100), None)), Instant::now());
    let estimate = |tokens| Estimate {
        tokens,
        ..Estimate::default()
    };
    let admission = chain.enter(noon(), start).unwrap();
    let one = admission.reserve(estimate(80), true, noon(), start).unwrap();
    let no = refused(admission.reserve(estimate(30), false, noon(), start));
    assert_eq!((no.limit, no.needed, no.left), (Limit::Minute(Unit::Tokens), 30, 20));
    assert_eq!(no.retry_after, Some(seconds(61)));
    one.settle(spent(1, 70, 0));
    let two = admission.reserve(estimate(30), false, noon(), start).unwrap();
    assert!(admission.reserve(estimate(1), false, noon(), start).is_err());
    drop(two);
    assert_eq!(admission.standing(start).tokens.unwrap().remaining, 30);
    // More than was thought counts, too.
    let three = admission.reserve(estimate(30), false, noon(), start).unwrap();
    three.settle(spent(0, 5000, 0));
    assert_eq!(admission.standing(start).tokens.unwrap().remaining, 0);
    assert!(
        admission
            .reserve(estimate(1), false, noon(), start + seconds(61))
            .is_ok()
    );
}

#[test]
fn what_is_larger_than_the_minute_takes_all_of_it() {
    let (chain, start) = (chain(limits(None, Some(100), None)), Instant::now());
    let large = Estimate {
        tokens: 100_000,
        ..Estimate::default()
    };
    let admission = chain.enter(noon(), start).unwrap();
    let _held = admission.reserve(large, true, noon(), start).unwrap();
    let no = refused(admission.reserve(large, false, noon(), start));
    assert_eq!((no.needed, no.left), (100, 0));
}

#[test]
fn requests_at_once() {
    let (chain, start) = (chain(limits(None, None, Some(2))), Instant::now());
    let one = chain.enter(noon(), start).unwrap();
    let _two = chain.enter(noon(), start).unwrap();
    let no = refused(chain.enter(noon(), start));
    assert_eq!((no.limit, no.retry_after), (Limit::Concurrent, Some(seconds(1))));
    drop(one);
    assert!(chain.enter(noon(), start).is_ok());
}

#[test]
fn zero_is_zero_and_for_good() {
    let start = Instant::now();
    for (limits, limit) in [
        (limits(Some(0), None, None), Limit::Minute(Unit::Requests)),
        (limits(None, None, Some(0)), Limit::Concurrent),
    ] {
        let no = refused(chain(limits).enter(noon(), start));
        assert_eq!((no.limit, no.retry_after), (limit, None));
    }
    let chain = chain(limits(None, Some(0), None));
    let admission = chain.enter(noon(), start).unwrap();
    let no = refused(admission.reserve(Estimate::default(), true, noon(), start));
    assert_eq!((no.limit, no.retry_after), (Limit::Minute(Unit::Tokens), None));
}

#[test]
fn clients_are_told_of_the_tighter_one() {
    let chain = team(limits(Some(10), None, None), limits(Some(5), Some(7), None));
    let start = Instant::now();
    let admission = chain.enter(noon(), start).unwrap();
    let standing = admission.standing(start);
    assert_eq!(standing.requests.map(|left| (left.limit, left.remaining)), Some((5, 4)));
    assert_eq!(
        standing.tokens,
        Some(Left {
            limit: 7,
            remaining: 7,
            reset: Duration::ZERO
        })
    );
}

#[test]
fn what_is_refused_uses_up_no_minute() {
    let limits = Limits {
        requests_per_minute: Some(2),
        ..budget(Window::Total, None, Some(100), None)
    };
    let chain = team(limits.clone(), limits);
    let start = Instant::now();
    let tokens = |most_tokens| Estimate {
        most_tokens,
        ..Estimate::default()
    };
    let left = |admission: &Admission| admission.standing(start).requests.map(|left| left.remaining);
    let kept = chain.enter(noon(), start).unwrap();
    let _held = kept.reserve(tokens(60), true, noon(), start).unwrap();
    for most in [101, 60] {
        let admission = chain.enter(noon(), start).unwrap();
        assert_eq!(left(&admission), Some(0));
        // Too large for the budget; for what others have reserved of it.
        assert!(admission.reserve(tokens(most), true, noon(), start).is_err());
        assert_eq!(left(&admission), Some(1));
        assert!(admission.reserve(tokens(most), true, noon(), start).is_err());
        assert_eq!(left(&admission), Some(1), "once");
    }
    let admission = chain.enter(noon(), start).unwrap();
    assert!(chain.enter(noon(), start).is_err(), "refused by the minute itself");
    let reserved = admission.reserve(tokens(40), true, noon(), start).unwrap();
    assert!(admission.reserve(tokens(40), false, noon(), start).is_err());
    assert_eq!(left(&admission), Some(0), "a provider was asked for it");
    drop((reserved, admission));
    assert!(chain.enter(noon(), start).is_err());
}
