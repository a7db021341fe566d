//! A wall clock that jumps: by seconds, by centuries, to where no calendar reaches.

use super::*;
use crate::config::duration;

/// Where a clock may stand after a jump: a broken battery, a wrong time server, a leap, the ends of what can be told.
fn moments() -> Vec<UnixMicros> {
    let named = [
        "1970-01-01T00:00:00Z",
        "1999-12-31T23:59:59Z",
        "2026-03-29T00:59:59Z",
        "2026-03-29T01:00:00Z",
        "2026-06-10T12:00:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-25T01:30:00Z",
        "2038-01-19T03:14:08Z",
        "9999-12-29T23:59:59Z",
    ];
    let mut all: Vec<UnixMicros> = named.into_iter().map(at).collect();
    all.extend([i64::MIN, i64::MIN + 1, -1, 0, 1, i64::MAX - 1, i64::MAX].map(UnixMicros));
    all
}

#[test]
fn wherever_the_clock_jumps_windows_never_go_back_and_nothing_panics() {
    let moments = moments();
    for zone in [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Pacific/Apia",
        "Asia/Kathmandu",
    ] {
        let limits = Limits {
            time_zone: Some(zone.into()),
            requests_per_minute: Some(1_000_000),
            budgets: [Window::Day, Window::Week, Window::Month, Window::Total]
                .map(|window| Budget {
                    window,
                    requests: Some(1_000_000),
                    tokens: Some(1_000_000_000),
                    money: Some(NanoUsd(1_000_000_000)),
                })
                .to_vec(),
            ..Limits::default()
        };
        // Every jump from anywhere to anywhere.
        for (from, &first) in moments.iter().enumerate() {
            for &second in &moments[from % 3..] {
                let (chain, start) = (chain(limits.clone()), Instant::now());
                let mut latest = UnixMicros(i64::MIN);
                for moment in [first, second, first, noon(), second] {
                    let admission = chain.enter(moment, start).unwrap();
                    let reservation = admission.reserve(costs(5), true, moment, start).unwrap();
                    let counted = reservation.at();
                    let day = Calendar::of(&limits).span(Window::Day, latest);
                    assert!(
                        latest.0 == i64::MIN || counted >= day.from,
                        "{zone}: after {latest:?} comes {moment:?}, counted at {counted:?}"
                    );
                    latest = latest.max(counted);
                    reservation.settle(spent(1, 5, 5));
                    chain.key().view(moment, start);
                    admission.standing(start);
                }
                let total = chain.key().balance(latest).used(Window::Total).spent;
                assert_eq!(
                    (total.requests, total.charge),
                    (5, NanoUsd(25)),
                    "{zone}: nothing is lost"
                );
            }
        }
    }
}

#[test]
fn waits_told_after_a_jump_can_be_shown() {
    for &first in &moments() {
        for &second in &moments() {
            let (chain, start) = (chain(money(Window::Month, 5)), Instant::now());
            let admission = chain.enter(first, start).unwrap();
            admission
                .reserve(costs(5), true, first, start)
                .unwrap()
                .settle(spent(1, 0, 5));
            if let Err(refused) = chain.enter(second, start)
                && let Some(wait) = refused.retry_after
            {
                assert!(!duration::show(wait).is_empty());
                assert!(!refused.to_string().is_empty());
            }
        }
    }
}
