//! What is carried over a reload and a restart, and threads at once.

use std::sync::atomic::Ordering;

use super::*;
use crate::clock::UnixMicros;
use crate::rules::Rules;
use crate::upstream::{CoolState, Fleet, Memory};

fn reloaded(before: &Pool, credentials: Vec<Credential>) -> Pool {
    Pool::new(Arc::new(provider(credentials)), Some(before))
}

fn fleet(credentials: Vec<Credential>, before: Option<&Fleet>) -> Fleet {
    let rules = Rules::new(vec![Arc::new(provider(credentials))], Vec::new(), UnixMicros(0), 0).unwrap();
    Fleet::new(Arc::new(rules), before)
}

fn example(fleet: &Fleet) -> Arc<Pool> {
    fleet.pool("example").cloned().unwrap()
}

#[test]
fn what_was_learned_is_carried_over_and_shared_with_the_old() {
    let old = pool(credentials(&[1, 1, 1]));
    let now = Instant::now();
    let old_lane = old.lane("model");
    fail(&old_lane, "c0", Failure::RateLimited, now);
    old.set_disabled("c1", true);
    let under_way = choose(&old_lane, now).unwrap_or_else(|no| panic!("{no:?}"));
    for weights in [&[1, 1, 1, 1][..], &[1, 1, 1], &[2, 1, 1, 1]] {
        let new = reloaded(&old, credentials(weights));
        let lane = new.lane("model");
        let seen = counts(&lane, Strategy::Weighted, 10, now);
        assert_eq!((seen[0], seen[1]), (0, 0));
        assert_eq!(new.states(now)[2].in_flight, 1);
        assert_eq!(lane.standing(now).in_flight, 1);
    }
    let new = reloaded(&old, credentials(&[1, 1, 1, 1]));
    let lane = new.lane("model");
    under_way.settle(&failure(Failure::RateLimited), now);
    drop(under_way);
    assert_eq!(counts(&lane, Strategy::Weighted, 10, now), [0, 0, 0, 10]);
    assert_eq!(lane.standing(now).in_flight, 0);
}

#[test]
fn turns_go_on_over_a_reload_that_leaves_the_weights() {
    let mut pool = pool(credentials(&[2, 1]));
    let now = Instant::now();
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(
            choose(&pool.lane("model"), now)
                .unwrap_or_else(|no| panic!("{no:?}"))
                .index(),
        );
        pool = reloaded(&pool, credentials(&[2, 1]));
    }
    assert_eq!(seen, [0, 1, 0, 0, 1, 0]);
}

#[test]
fn another_secret_starts_fresh_but_stays_disabled() {
    let old = pool(credentials(&[1, 1]));
    let now = Instant::now();
    fail(&old.lane("model"), "c0", Failure::QuotaSpent, now);
    old.set_disabled("c1", true);
    let mut list = credentials(&[1, 1]);
    for credential in &mut list {
        credential.secret = Some(Secret::new("another"));
    }
    let new = reloaded(&old, list);
    assert_eq!(counts(&new.lane("model"), Strategy::Weighted, 3, now), [3, 0]);
}

#[test]
fn who_left_and_came_back_between_others_keeps_the_others_apart() {
    let old = pool(credentials(&[1, 1, 1]));
    let now = Instant::now();
    fail(&old.lane("model"), "c2", Failure::RateLimited, now);
    let mut list = credentials(&[1, 1, 1]);
    list.remove(0);
    let new = reloaded(&old, list);
    assert_eq!(counts(&new.lane("model"), Strategy::Weighted, 3, now), [3, 0]);
}

#[test]
fn new_limits_hold_at_once() {
    let old = pool(credentials(&[1]));
    let now = Instant::now();
    let _under_way = choose(&old.lane("model"), now);
    let mut list = credentials(&[1]);
    list[0].limits.concurrent = Some(1);
    let new = reloaded(&old, list);
    assert!(choose(&new.lane("model"), now).is_err());
    assert!(choose(&reloaded(&new, credentials(&[1])).lane("model"), now + seconds(1)).is_ok());
}

#[test]
fn turning_cooldown_off_frees_at_once() {
    let old = pool(credentials(&[1, 1]));
    let now = Instant::now();
    fail(&old.lane("model"), "c0", Failure::QuotaSpent, now);
    fail(&old.lane("model"), "c1", Failure::Forbidden, now);
    assert!(choose(&old.lane("model"), now).is_err());
    let off = Provider {
        cooldown: false,
        ..provider(credentials(&[1, 1]))
    };
    let new = Pool::new(Arc::new(off), Some(&old));
    assert_eq!(counts(&new.lane("model"), Strategy::Weighted, 4, now), [2, 2]);
}

#[test]
fn memory_outlives_the_process() {
    let first = fleet(credentials(&[1, 1, 1]), None);
    let pool = example(&first);
    let (now, at) = (Instant::now(), UnixMicros(1_000_000_000));
    let before = first.changed();
    fail(&pool.lane("model"), "c0", Failure::RateLimited, now);
    fail(&pool.lane("model"), "c1", Failure::QuotaSpent, now);
    pool.set_disabled("c2", true);
    assert_eq!(first.changed(), before + 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cooldowns.json");
    first.remember(now, at).save(&path).unwrap();
    first.remember(now, at).save(&path).unwrap();
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!std::fs::read_to_string(&path).unwrap().contains("secret"));

    // Half a second later, another process.
    let second = fleet(credentials(&[1, 1, 1]), None);
    let (now, at) = (now + seconds(1000), UnixMicros(at.0 + 500_000));
    second.recall(&Memory::load(&path), now, at);
    let pool = example(&second);
    let states = pool.states(now);
    let told: Vec<_> = states.iter().map(|state| (state.standing, state.until)).collect();
    assert_eq!(
        told,
        [
            (CoolState::Ready, None),
            (CoolState::Quarantined, Some(now + millis(299_500))),
            (CoolState::Disabled, None),
            (CoolState::Cooling, Some(now + millis(500))),
        ]
    );
    assert_eq!(
        second.remember(now, at),
        first.remember(now - seconds(1000) + millis(500), at)
    );

    // Another secret, another name, another clock.
    let mut list = credentials(&[1, 1]);
    list[1].secret = Some(Secret::new("another"));
    let third = fleet(list, None);
    third.recall(&Memory::load(&path), now, UnixMicros(0));
    let states = example(&third).states(now);
    assert_eq!(states[1].standing, CoolState::Ready);
    assert!(
        states
            .iter()
            .all(|state| state.until.is_none_or(|until| until <= now + seconds(86_400)))
    );
}

#[test]
fn a_broken_file_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cooldowns.json");
    assert!(Memory::load(&path).is_empty(), "there is none");
    for text in ["", "{", "[]", r#"{"version":99,"cooling":[],"disabled":[]}"#] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(Memory::load(&path), Memory::default());
    }
}

#[test]
fn metrics_follow_the_credentials() {
    let first = fleet(credentials(&[1, 1]), None);
    let now = Instant::now();
    fail(&example(&first).lane("model"), "c1", Failure::RateLimited, now);
    first.publish(now);
    let page = prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::gather())
        .unwrap();
    for line in [
        r#"tollgate_credential_state{credential="c0",provider="example",state="ready"} 1"#,
        r#"tollgate_credential_state{credential="c1",provider="example",state="cooling"} 1"#,
        r#"tollgate_credential_cooldown_seconds{credential="c1",provider="example"} 1"#,
        r#"tollgate_failures_total{credential="c1",failure="rate_limited",provider="example"}"#,
        "tollgate_retries_denied_total",
    ] {
        assert!(page.contains(line), "no {line} in {page}");
    }
    fleet(credentials(&[1]), Some(&first)).publish(now);
    let page = prometheus::TextEncoder::new()
        .encode_to_string(&prometheus::gather())
        .unwrap();
    assert!(
        !page.contains(r#"tollgate_credential_state{credential="c1""#),
        "who is gone leaves the page"
    );
}

#[test]
fn counters_are_right_after_threads_and_reloads() {
    const THREADS: u64 = 4;
    const REQUESTS: u64 = 3000;
    let mut list = credentials(&[1; 8]);
    list[0].limits.concurrent = Some(2);
    let weights = list.clone_for_test();
    let shared = arc_swap::ArcSwap::from_pointee(pool(list));
    let start = Instant::now();
    let strategies = [
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastUsed,
        Strategy::LeastLatency,
        Strategy::Adaptive,
    ];
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let shared = &shared;
            scope.spawn(move || {
                let mut held: Vec<Hold> = Vec::new();
                for step in 0..REQUESTS {
                    let now = start + millis(step);
                    let lane = shared.load().lane(["a", "b"][(step % 2) as usize]);
                    let strategy = strategies[((step + thread) % 5) as usize];
                    if let Ok(hold) = lane.choose(&want(strategy), now) {
                        let most = lane.seats[0].account.in_flight.load(Ordering::Relaxed);
                        assert!(most <= 2, "{most} at once");
                        held.push(hold);
                    }
                    if held.len() > 3 {
                        let hold = held.swap_remove((step % 4) as usize);
                        match (step + thread) % 11 {
                            0 => hold.settle(&failure(Failure::RateLimited), now),
                            1 => hold.settle(&failure(Failure::Server), now),
                            2 => {}
                            _ => hold.settle(&success(millis(step % 50)), now),
                        }
                    }
                }
            });
        }
        for round in 0..50 {
            let mut list = weights.clone_for_test();
            list.truncate(if round % 2 == 0 { 8 } else { 7 });
            let before = shared.load_full();
            shared.store(Arc::new(reloaded(&before, list)));
            std::thread::yield_now();
        }
    });
    let pool = shared.load_full();
    for account in &pool.roster.accounts {
        assert_eq!(account.in_flight.load(Ordering::Relaxed), 0);
    }
    // Whatever cooled has come back by then, on both lanes.
    let later = start + seconds(3600);
    for model in ["a", "b"] {
        let lane = pool.lane(model);
        assert_eq!(lane.standing(later).in_flight, 0);
        for _ in 0..100 {
            choose(&lane, later)
                .unwrap_or_else(|no| panic!("{no:?}"))
                .settle(&success(millis(1)), later);
        }
        let count = lane.seats.len();
        assert_eq!(counts(&lane, Strategy::RoundRobin, count * 3, later), vec![3; count]);
    }
}

/// Credentials are not `Clone`, since nothing but this wants copies.
trait CloneForTest {
    fn clone_for_test(&self) -> Vec<Credential>;
}

impl CloneForTest for Vec<Credential> {
    fn clone_for_test(&self) -> Vec<Credential> {
        let clone = |credential: &Credential| Credential {
            limits: credential.limits,
            ..super::credential(&credential.name, credential.weight)
        };
        self.iter().map(clone).collect()
    }
}
