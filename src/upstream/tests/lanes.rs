//! Which models have a lane of their own, and for how long.

use super::*;
use crate::upstream::lanes::MAX_LANES;

/// Asks for as many models nobody has.
fn make_up(pool: &Pool, names: std::ops::Range<usize>) {
    for name in names {
        pool.lane(&format!("made up {name}"));
    }
}

fn is_known(pool: &Pool, model: &str) -> bool {
    pool.lanes.load().contains_key(model)
}

#[test]
fn made_up_names_go_and_what_is_asked_for_stays() {
    let mut pool = pool(credentials(&[1]));
    let used = pool.lane("used");
    for round in 0..10 {
        make_up(&pool, round * 200..(round + 1) * 200);
        assert!(Arc::ptr_eq(&used.totals, &pool.lane("used").totals), "in use: {round}");
        pool = Pool::new(Arc::new(provider(credentials(&[1]))), Some(&pool));
    }
    assert!(pool.lanes.load().len() <= MAX_LANES);
    assert!(is_known(&pool, "made up 1999") && !is_known(&pool, "made up 0"));
}

#[test]
fn who_cools_or_is_busy_stays_until_that_is_over() {
    let pool = pool(credentials(&[1]));
    let now = Instant::now();
    fail(&pool.lane("cools"), "c0", Failure::Forbidden, now);
    let busy = choose(&pool.lane("busy"), now).unwrap_or_else(|no| panic!("{no:?}"));
    pool.lane("idle");
    make_up(&pool, 0..2 * MAX_LANES);
    assert!(is_known(&pool, "cools") && is_known(&pool, "busy") && !is_known(&pool, "idle"));
    drop(busy);
    make_up(&pool, 2 * MAX_LANES..4 * MAX_LANES);
    assert!(is_known(&pool, "cools") && !is_known(&pool, "busy"));
}

#[test]
fn a_rate_limit_of_made_up_names_cools_nobody_else() {
    let pool = pool(credentials(&[1]));
    let now = Instant::now();
    make_up(&pool, 0..MAX_LANES);
    fail(&pool.lane("one more"), "c0", Failure::RateLimited, now);
    assert!(choose(&pool.lane("real"), now).is_ok());
    assert!(choose(&pool.lane(""), now).is_ok());
}

#[test]
fn where_none_can_go_the_rest_share_one_and_passthrough_has_its_own() {
    let pool = pool(credentials(&[1]));
    let now = Instant::now();
    for name in 0..MAX_LANES {
        fail(&pool.lane(&format!("cools {name}")), "c0", Failure::Forbidden, now);
    }
    let (one, other) = (pool.lane("one"), pool.lane("other"));
    assert!(Arc::ptr_eq(&one, &other), "shared");
    let passthrough = pool.lane("");
    assert!(!Arc::ptr_eq(&one, &passthrough));
    fail(&one, "c0", Failure::RateLimited, now);
    assert!(choose(&passthrough, now).is_ok());
    assert!(pool.lanes.load().len() <= MAX_LANES + 2);
}
