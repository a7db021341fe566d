//! Shares of each strategy over targets.

use std::collections::HashMap;
use std::time::Duration;

use super::*;
use crate::routing::strategy::{cost, latency};
use crate::upstream::{Failure, Outcome, Standing};

fn shares(fleet: &Fleet, requests: usize) -> HashMap<String, usize> {
    let now = Instant::now();
    let mut shares = HashMap::new();
    for _ in 0..requests {
        let choice = plan(fleet, "m").unwrap().next(now).unwrap();
        *shares
            .entry(choice.candidate.pool.provider.name.to_string())
            .or_default() += 1;
    }
    shares
}

fn fleet(strategy: Strategy, targets: &str) -> Fleet {
    Rig::of("a b c")
        .route("r", &["m"], targets, |_, route| route.strategy = strategy)
        .fleet()
}

#[test]
fn weighted_is_by_weight() {
    let shares = shares(&fleet(Strategy::Weighted, "a*5 b*3 c*2"), 1000);
    assert_eq!((shares["a"], shares["b"], shares["c"]), (500, 300, 200));
}

#[test]
fn round_robin_is_one_after_the_other_whatever_the_weights() {
    let shares = shares(&fleet(Strategy::RoundRobin, "a*5 b*3 c*2"), 300);
    assert_eq!((shares["a"], shares["b"], shares["c"]), (100, 100, 100));
}

#[test]
fn weight_zero_only_when_no_other_is_left() {
    for strategy in [
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastUsed,
        Strategy::LeastLatency,
        Strategy::Adaptive,
        Strategy::Cheapest,
    ] {
        let fleet = fleet(strategy, "a*0 b*1 c*2");
        assert!(!shares(&fleet, 100).contains_key("a"), "{strategy:?}");
        let mut plan = plan(&fleet, "m").unwrap();
        let now = Instant::now();
        let mut last = String::new();
        while let Ok(choice) = plan.next(now) {
            last = name(&choice);
            plan.failed(choice.index, Failure::RateLimited);
        }
        assert_eq!(last, "a/c0", "{strategy:?}");
    }
}

#[test]
fn one_that_always_fails_is_the_first_choice_of_its_share_only() {
    let fleet = fleet(Strategy::Weighted, "a b c");
    let now = Instant::now();
    let (mut first, mut second) = (HashMap::<String, usize>::new(), HashMap::<String, usize>::new());
    for _ in 0..300 {
        let mut plan = plan(&fleet, "m").unwrap();
        let choice = plan.next(now).unwrap();
        *first.entry(name(&choice)).or_default() += 1;
        if name(&choice) == "a/c0" {
            assert!(plan.failed(choice.index, Failure::Server));
            *second.entry(name(&plan.next(now).unwrap())).or_default() += 1;
        }
    }
    assert_eq!((first["a/c0"], first["b/c0"], first["c/c0"]), (100, 100, 100));
    assert_eq!(
        (second["b/c0"], second["c/c0"]),
        (50, 50),
        "and its requests go to all others"
    );
}

#[test]
fn least_used_is_by_requests_under_way_for_the_weight() {
    let fleet = fleet(Strategy::LeastUsed, "a*2 b*1 c*1");
    let now = Instant::now();
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(plan(&fleet, "m").unwrap().next(now).unwrap());
    }
    let count = |name: &str| {
        held.iter()
            .filter(|choice| &*choice.candidate.pool.provider.name == name)
            .count()
    };
    assert_eq!((count("a"), count("b"), count("c")), (20, 10, 10));
    held.retain(|choice| &*choice.candidate.pool.provider.name != "c");
    for _ in 0..10 {
        held.push(plan(&fleet, "m").unwrap().next(now).unwrap());
    }
    let count = |name: &str| {
        held.iter()
            .filter(|choice| &*choice.candidate.pool.provider.name == name)
            .count()
    };
    assert_eq!(count("c"), 10, "the one that became free is filled up first");
}

#[test]
fn however_many_ask_at_once_no_fallback_is_asked_while_a_target_is_healthy() {
    let names = "a b c d e f g h i j k l m n o p";
    let fleet = Rig::of(&format!("{names} z"))
        .route("r", &["m"], names, |rig, route| {
            route.strategy = Strategy::LeastUsed;
            route.fallback = rig.targets("z");
        })
        .fleet();
    let now = Instant::now();
    let astray = || {
        let mut plans: Vec<_> = (0..4000).map(|_| plan(&fleet, "m").unwrap()).collect();
        let mut held = std::collections::VecDeque::new();
        let mut astray = 0;
        for plan in &mut plans {
            let choice = plan.next(now).unwrap();
            astray += usize::from(name(&choice) == "z/c0");
            held.push_back(choice);
            if held.len() > 3 {
                held.pop_front();
            }
        }
        astray
    };
    let astray: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(astray)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(astray, 0);
}

#[test]
fn adaptive_spreads_what_is_under_way_over_equals() {
    for strategy in [Strategy::Adaptive, Strategy::LeastLatency] {
        let fleet = fleet(strategy, "a b c");
        let now = Instant::now();
        let held: Vec<Choice> = (0..300)
            .map(|_| plan(&fleet, "m").unwrap().next(now).unwrap())
            .collect();
        for name in ["a", "b", "c"] {
            let count = held
                .iter()
                .filter(|choice| &*choice.candidate.pool.provider.name == name)
                .count();
            assert!((60..=140).contains(&count), "{strategy:?} {name}: {count}");
        }
    }
}

#[test]
fn a_target_once_slow_is_measured_again_when_that_is_long_ago() {
    for strategy in [Strategy::LeastLatency, Strategy::Adaptive] {
        let fleet = fleet(strategy, "a b");
        let start = Instant::now();
        let mut seen = Vec::new();
        for second in 0..60 {
            let now = start + Duration::from_secs(second);
            let choice = plan(&fleet, "m").unwrap().next(now).unwrap();
            let slow = name(&choice) == "a/c0";
            choice
                .hold
                .answering(Duration::from_millis(if slow { 5000 } else { 100 }), now);
            choice.hold.settle(&Outcome::default(), now);
            seen.extend(slow.then_some(second));
        }
        let [first, second] = seen[..] else {
            panic!("{strategy:?}: {seen:?}");
        };
        assert_eq!((first <= 1, second - first), (true, 30), "{strategy:?}: {seen:?}");
    }
}

#[test]
fn adaptive_goes_by_the_peak_and_least_latency_by_the_mean() {
    let standing = |mean: u64, peak: u64| Standing {
        latency: Some(Duration::from_millis(mean)),
        peak: Some(Duration::from_millis(peak)),
        success: 1.0,
        ..Standing::default()
    };
    assert!(cost(&standing(100, 900), 1) > cost(&standing(300, 300), 1));
    assert!(latency(&standing(100, 900)) < latency(&standing(300, 300)));
    let stale = Standing {
        stale: true,
        ..standing(100, 900)
    };
    assert_eq!((cost(&stale, 1), latency(&stale)), (0.0, 0.0), "to be measured again");
    let asked = Standing { in_flight: 1, ..stale };
    assert_eq!(latency(&asked), 0.1, "by one at a time");
}

#[test]
fn the_cost_of_waiting() {
    let standing = |latency: Option<u64>, success: f64, in_flight: u32| Standing {
        in_flight,
        latency: latency.map(Duration::from_millis),
        peak: latency.map(Duration::from_millis),
        stale: false,
        success,
    };
    let good = standing(Some(200), 1.0, 0);
    assert!((cost(&good, 1) - 0.2).abs() < 1e-9);
    assert!(
        (cost(&standing(Some(200), 0.5, 0), 1) - 5.2).abs() < 1e-9,
        "half of the attempts: twice as long"
    );
    assert!(
        (cost(&standing(Some(200), 1.0, 3), 1) - 0.8).abs() < 1e-9,
        "three wait there"
    );
    assert!(
        (cost(&standing(Some(200), 1.0, 3), 4) - 0.2).abs() < 1e-9,
        "four times the share"
    );
    assert!(
        cost(&standing(None, 1.0, 0), 1) < cost(&good, 1),
        "never measured: tried"
    );
    assert!(
        cost(&standing(None, 1.0, 1), 1) > cost(&standing(Some(60_000), 0.1, 50), 1),
        "but by one at a time"
    );
    assert!(cost(&standing(Some(200), 0.0, 0), 0).is_finite());
}

#[test]
fn turns_go_on_over_a_reload() {
    let rules = || Arc::new(Rig::of("a b c").route("r", &["m"], "a b c", |_, _| {}).rules());
    let mut fleet = Fleet::new(rules(), None);
    let now = Instant::now();
    let mut names = Vec::new();
    for _ in 0..6 {
        names.push(name(&plan(&fleet, "m").unwrap().next(now).unwrap()));
        fleet = Fleet::new(rules(), Some(&fleet));
    }
    assert_eq!(names, ["a/c0", "b/c0", "c/c0", "a/c0", "b/c0", "c/c0"]);
}
