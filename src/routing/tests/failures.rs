//! What follows a failure: every kind of it, over lanes that know nothing yet of cooling down.

use std::time::Instant;

use super::*;
use crate::upstream::Failure;

/// The attempts of one request: each fails so, until nothing may follow. `F!`: after the last one `failed` said no.
fn attempts(plan: &mut RoutePlan, failures: &[Failure]) -> Vec<String> {
    let now = Instant::now();
    let mut told = Vec::new();
    let mut failures = failures.iter();
    while let Ok(choice) = plan.next(now) {
        told.push(name(&choice));
        assert!(told.len() < 50, "no end: {told:?}");
        let Some(failure) = failures.next() else { return told };
        if !plan.failed(choice.index, *failure) {
            told.push("end".into());
            return told;
        }
    }
    told.push("exhausted".into());
    told
}

/// Two targets of two credentials each, at two providers, a fallback, and no list.
fn rig() -> Rig {
    Rig::new([provider("a", 2), provider("b", 2), provider("f", 1), provider("l", 2)])
}

fn plain() -> Fleet {
    rig()
        .route("r", &["m"], "a b", |rig, route| route.fallback = rig.targets("f"))
        .fleet()
}

fn all_of(failure: Failure) -> Vec<String> {
    let fleet = plain();
    attempts(&mut plan(&fleet, "m").unwrap(), &[failure; 40])
}

#[test]
fn a_fault_of_a_credential_leaves_the_others_of_the_target_in_line() {
    for failure in [
        Failure::RateLimited,
        Failure::QuotaSpent,
        Failure::Unauthorised,
        Failure::Forbidden,
    ] {
        let mut told = all_of(failure);
        assert_eq!(told.len(), 6, "{failure:?}: {told:?}");
        assert_eq!(told[4..], ["f/c0", "end"], "the fallback when no target is left");
        told[..4].sort();
        assert_eq!(told[..4], ["a/c0", "a/c1", "b/c0", "b/c1"], "{failure:?}");
    }
}

#[test]
fn a_fault_of_the_provider_prefers_others_then_its_other_credentials() {
    for failure in [
        Failure::Tls,
        Failure::Broke,
        Failure::FirstByte,
        Failure::Slow,
        Failure::Server,
    ] {
        let told = all_of(failure);
        assert_eq!(told[..3], ["a/c0", "b/c0", "f/c0"], "{failure:?}");
        let mut rest = told[3..5].to_vec();
        rest.sort();
        assert_eq!(rest, ["a/c1", "b/c1"], "{failure:?}");
        assert_eq!(told[5..], ["end"], "{failure:?}");
    }
}

#[test]
fn what_may_be_repeated_is_asked_at_most_twice_more() {
    for failure in [Failure::Connect, Failure::Overloaded] {
        let told = all_of(failure);
        let times = |name: &str| told.iter().filter(|told| *told == name).count();
        for name in ["a/c0", "a/c1", "b/c0", "b/c1", "f/c0"] {
            assert_eq!(times(name), 3, "{failure:?} {name}: {told:?}");
        }
        assert_eq!(told.last().unwrap(), "end");
        let first: Vec<_> = told[..5].iter().collect();
        assert_eq!(
            first.iter().collect::<std::collections::HashSet<_>>().len(),
            5,
            "nobody twice before all were asked: {told:?}"
        );
    }
}

#[test]
fn another_target_at_the_same_provider_comes_before_the_same_target_again() {
    let fleet = rig().route("r", &["m"], "a:one a:two b", |_, _| {}).fleet();
    let mut plan = plan(&fleet, "m").unwrap();
    let now = Instant::now();
    let mut models = Vec::new();
    for _ in 0..4 {
        let choice = plan.next(now).unwrap();
        let model = choice.candidate.model.as_deref().unwrap_or("-");
        models.push(format!("{}:{model}", choice.candidate.pool.provider.name));
        plan.failed(choice.index, Failure::Server);
    }
    assert_eq!(models[..3], ["a:one", "b:-", "a:two"]);
}

#[test]
fn no_such_model_spends_the_target() {
    for failure in [Failure::NoSuchModel, Failure::Unreadable] {
        assert_eq!(all_of(failure), ["a/c0", "b/c0", "f/c0", "end"], "{failure:?}");
    }
}

#[test]
fn the_requests_own_fault_ends_it() {
    assert_eq!(all_of(Failure::Refused), ["a/c0", "end"]);
    assert_eq!(all_of(Failure::ContextTooLong), ["a/c0", "end"], "no list for it");
    assert_eq!(all_of(Failure::ContentPolicy), ["a/c0", "end"]);
}

#[test]
fn a_dead_connection_is_asked_again_at_once_twice() {
    let fleet = Rig::of("a b").route("r", &["m"], "a b", |_, _| {}).fleet();
    let told = attempts(&mut plan(&fleet, "m").unwrap(), &[Failure::DeadConnection; 40]);
    assert_eq!(told[..4], ["a/c0", "a/c0", "a/c0", "b/c0"]);
    assert_eq!(told.last().unwrap(), "end");
}

#[test]
fn a_list_for_a_failure_is_all_that_is_left_after_it() {
    for (failure, on) in [
        (Failure::ContextTooLong, FallbackOn::ContextTooLong),
        (Failure::ContentPolicy, FallbackOn::ContentPolicy),
    ] {
        let fleet = rig()
            .route("r", &["m"], "a b", |rig, route| {
                route.fallback = rig.targets("f");
                route.fallback_on = vec![(on, rig.targets("l:x l:y"))];
            })
            .fleet();
        let told = attempts(&mut plan(&fleet, "m").unwrap(), &[failure; 9]);
        assert_eq!(told, ["a/c0", "l/c0", "l/c0", "end"], "each of the list once, in order");
        let told = attempts(
            &mut plan(&fleet, "m").unwrap(),
            &[failure, Failure::RateLimited, Failure::Server, failure],
        );
        assert_eq!(told.len(), 5, "{told:?}");
        assert!(
            told[1..4].iter().all(|name| name.starts_with("l/")),
            "only the list: {told:?}"
        );
        let other = match failure {
            Failure::ContextTooLong => Failure::ContentPolicy,
            _ => Failure::ContextTooLong,
        };
        let told = attempts(&mut plan(&fleet, "m").unwrap(), &[other]);
        assert_eq!(told.len(), 2, "the list is for the other failure");
        assert_eq!(told[1], "end");
        let told = attempts(&mut plan(&fleet, "m").unwrap(), &[Failure::RateLimited; 20]);
        assert!(
            !told.iter().any(|name| name.starts_with("l/")),
            "never without it: {told:?}"
        );
    }
}

#[test]
fn from_one_list_to_the_other() {
    let fleet = rig()
        .route("r", &["m"], "a", |rig, route| {
            route.fallback_on = vec![
                (FallbackOn::ContextTooLong, rig.targets("b")),
                (FallbackOn::ContentPolicy, rig.targets("l")),
            ];
        })
        .fleet();
    let told = attempts(
        &mut plan(&fleet, "m").unwrap(),
        &[Failure::ContextTooLong, Failure::ContentPolicy, Failure::ContextTooLong],
    );
    assert_eq!(told, ["a/c0", "b/c0", "l/c0", "end"], "no list twice");
}

#[test]
fn the_list_for_overload_comes_before_the_next_target() {
    let fleet = rig()
        .route("r", &["m"], "a b", |rig, route| {
            route.fallback = rig.targets("f");
            route.fallback_on = vec![(FallbackOn::Overloaded, rig.targets("l"))];
        })
        .fleet();
    let told = attempts(
        &mut plan(&fleet, "m").unwrap(),
        &[Failure::Overloaded, Failure::Server, Failure::Server],
    );
    assert_eq!(told, ["a/c0", "l/c0", "b/c0", "f/c0"]);
    let told = attempts(
        &mut plan(&fleet, "m").unwrap(),
        &[Failure::Server, Failure::Server, Failure::Server],
    );
    assert!(!told.contains(&"l/c0".to_owned()), "only after an overload: {told:?}");
}

#[test]
fn who_fails_alone_ends_with_its_own_failure() {
    let fleet = Rig::of("a").route("r", &["m"], "a", |_, _| {}).fleet();
    for failure in [Failure::RateLimited, Failure::Server, Failure::Unauthorised] {
        assert_eq!(attempts(&mut plan(&fleet, "m").unwrap(), &[failure]), ["a/c0", "end"]);
    }
    let fleet = Rig::new([open("a")]).route("r", &["m"], "a", |_, _| {}).fleet();
    assert_eq!(
        attempts(&mut plan(&fleet, "m").unwrap(), &[Failure::Server]),
        ["a/-", "end"],
        "a provider without credentials has one seat"
    );
}

#[test]
fn every_failure_ends_within_bounds() {
    const ALL: [Failure; 17] = [
        Failure::Connect,
        Failure::Tls,
        Failure::DeadConnection,
        Failure::Broke,
        Failure::FirstByte,
        Failure::Slow,
        Failure::RateLimited,
        Failure::QuotaSpent,
        Failure::Unauthorised,
        Failure::Forbidden,
        Failure::Overloaded,
        Failure::Server,
        Failure::NoSuchModel,
        Failure::ContextTooLong,
        Failure::ContentPolicy,
        Failure::Unreadable,
        Failure::Refused,
    ];
    let fleet = rig()
        .route("r", &["m"], "a b", |rig, route| {
            route.fallback = rig.targets("f");
            route.fallback_on = vec![
                (FallbackOn::Overloaded, rig.targets("l")),
                (FallbackOn::ContentPolicy, rig.targets("f l")),
            ];
        })
        .fleet();
    for first in ALL {
        for second in ALL {
            for third in ALL {
                let mut failures = vec![first, second];
                failures.extend([third; 47]);
                attempts(&mut plan(&fleet, "m").unwrap(), &failures);
            }
        }
    }
}

#[test]
fn all_ours_is_told_so() {
    let now = Instant::now();
    let fleet = Rig::of("a b").route("r", &["m"], "a b", |_, _| {}).fleet();
    for (failures, ours) in [
        ([Failure::Unauthorised, Failure::QuotaSpent], true),
        ([Failure::Unauthorised, Failure::RateLimited], false),
        ([Failure::Server, Failure::Server], false),
    ] {
        let mut plan = plan(&fleet, "m").unwrap();
        for failure in failures {
            let choice = plan.next(now).unwrap();
            plan.failed(choice.index, failure);
        }
        let exhausted = plan.next(now).err().unwrap();
        assert_eq!((exhausted.ours, exhausted.until), (ours, None), "{failures:?}");
    }
}

#[test]
fn an_unfit_candidate_is_passed_over_and_its_turn_given_back() {
    let now = Instant::now();
    let fleet = Rig::of("a b c").route("r", &["m"], "a b c", |_, _| {}).fleet();
    let mut first = Vec::new();
    for _ in 0..9 {
        let mut plan = plan(&fleet, "m").unwrap();
        let mut choice = plan.next(now).unwrap();
        if &*choice.candidate.pool.provider.name == "a" {
            plan.unfit(choice.index);
            choice = plan.next(now).unwrap();
        }
        first.push(name(&choice));
    }
    let count = |name: &str| first.iter().filter(|told| *told == name).count();
    assert_eq!(count("a/c0"), 0);
    assert!(count("b/c0").abs_diff(count("c/c0")) <= 1, "{first:?}");
}

#[test]
fn told_nothing_of_an_attempt_the_next_is_another() {
    let now = Instant::now();
    let fleet = Rig::of("a b").route("r", &["m"], "a b", |_, _| {}).fleet();
    let mut plan = plan(&fleet, "m").unwrap();
    let names: Vec<String> = (0..2).map(|_| name(&plan.next(now).unwrap())).collect();
    assert_eq!(names, ["a/c0", "b/c0"]);
    assert!(plan.next(now).is_err());
}

#[test]
fn a_seat_that_is_put_back_is_asked_for_again_first() {
    let fleet = plain();
    let mut plan = plan(&fleet, "m").unwrap();
    let now = Instant::now();
    let choice = plan.next(now).unwrap();
    let first = name(&choice);
    plan.put_back(choice);
    let again = plan.next(now).unwrap();
    assert_eq!((name(&again), again.again), (first.clone(), false));
    assert!(
        plan.failed(again.index, Failure::Server),
        "it did not count as a failure"
    );
    let other = plan.next(now).unwrap();
    assert_ne!(name(&other).split('/').next(), first.split('/').next());
}
