//! What failures do to a lane and to its neighbours.

use super::*;
use crate::upstream::cooldown::IN_A_ROW;
use crate::upstream::{Asked, CoolState};

fn no_seat(lane: &Arc<Lane>, now: Instant) -> NoSeat {
    match choose(lane, now) {
        Ok(hold) => panic!("seat {}", hold.index()),
        Err(no) => no,
    }
}

#[test]
fn a_rate_limit_is_of_one_model_a_spent_quota_of_all() {
    let pool = pool(credentials(&[1, 1]));
    let now = Instant::now();
    let (one, other) = (pool.lane("one"), pool.lane("other"));
    fail(&one, "c0", Failure::RateLimited, now);
    assert_eq!(counts(&one, Strategy::Weighted, 4, now), [0, 4]);
    assert_eq!(counts(&other, Strategy::Weighted, 4, now), [2, 2]);
    fail(&one, "c1", Failure::QuotaSpent, now);
    assert_eq!(counts(&other, Strategy::Weighted, 4, now), [4, 0]);
    assert_eq!(
        no_seat(&one, now),
        NoSeat::Cooling {
            until: now + seconds(1),
            ours: false
        }
    );
    let states = pool.states(now);
    let told = |credential: &str, model: Option<&str>| {
        let of = |state: &&super::super::CredentialState| {
            &*state.credential == credential && state.model.as_deref() == model
        };
        let state = states.iter().find(of)?;
        Some((state.standing, state.reason, state.until))
    };
    let limited = (CoolState::Cooling, Some(Failure::RateLimited), Some(now + seconds(1)));
    assert_eq!(told("c0", Some("one")), Some(limited));
    assert_eq!(told("c0", None), Some((CoolState::Ready, None, None)));
    let spent = (
        CoolState::Quarantined,
        Some(Failure::QuotaSpent),
        Some(now + seconds(300)),
    );
    assert_eq!(told("c1", None), Some(spent));
}

#[test]
fn when_all_of_our_keys_are_dead_it_is_our_fault() {
    let pool = pool(credentials(&[1, 1, 1]));
    let now = Instant::now();
    let lane = pool.lane("model");
    fail(&lane, "c0", Failure::Unauthorised, now);
    fail(&lane, "c1", Failure::QuotaSpent, now);
    assert!(pool.set_disabled("c2", true));
    assert_eq!(
        no_seat(&lane, now),
        NoSeat::Cooling {
            until: now + seconds(1),
            ours: true
        }
    );
    assert_eq!(lane.usable(now), 0);
    assert!(pool.set_disabled("c2", false));
    assert_eq!(counts(&lane, Strategy::Weighted, 3, now), [0, 0, 3], "at once");
    assert!(!pool.set_disabled("nobody", true));
}

#[test]
fn a_failing_credential_is_out_within_a_second_and_returns_by_itself() {
    let lane = lane(credentials(&[1, 1]));
    let start = Instant::now();
    let (mut failed, mut late, mut back) = (0, 0, 0);
    // A request each 10 ms; `c0` is broken for the first 20 seconds.
    for step in 0..10_000 {
        let now = start + millis(step * 10);
        let hold = choose(&lane, now).unwrap_or_else(|no| panic!("{no:?}"));
        let broken = hold.index() == 0 && step < 2000;
        failed += usize::from(broken);
        late += usize::from(broken && step >= 100);
        back += usize::from(hold.index() == 0 && step >= 6000);
        let outcome = if broken {
            failure(Failure::Server)
        } else {
            success(millis(50))
        };
        hold.settle(&outcome, now);
    }
    assert!(failed <= 10, "{failed} failed requests");
    assert!(late <= 4, "{late} probes after the first second");
    assert_eq!(back, 2000);
}

#[test]
fn a_provider_that_fails_is_asked_all_the_same_where_there_is_nothing_else() {
    let lane = lane(credentials(&[1, 1]));
    let now = Instant::now();
    for name in ["c0", "c1"] {
        for _ in 0..IN_A_ROW {
            fail(&lane, name, Failure::Server, now);
        }
    }
    assert_eq!(lane.usable(now), 0);
    let ready = lane
        .choose_ready(&want(Strategy::Weighted), now)
        .map(|hold| hold.index());
    assert_eq!(
        ready,
        Err(NoSeat::Cooling {
            until: now + seconds(1),
            ours: false
        })
    );
    let seen = counts(&lane, Strategy::Weighted, 10, now);
    assert_eq!(seen, [5, 5], "in turn");
    let hold = choose(&lane, now).unwrap_or_else(|no| panic!("{no:?}"));
    let index = hold.index();
    hold.settle(&success(millis(10)), now);
    let ready = lane
        .choose_ready(&want(Strategy::Weighted), now)
        .map(|hold| hold.index());
    assert_eq!(ready, Ok(index), "it works again");
}

#[test]
fn a_hard_one_is_not_asked_even_so() {
    let lane = lane(credentials(&[1, 1]));
    let now = Instant::now();
    fail(&lane, "c0", Failure::RateLimited, now);
    for _ in 0..IN_A_ROW {
        fail(&lane, "c1", Failure::Broke, now);
    }
    assert_eq!(counts(&lane, Strategy::Weighted, 10, now), [0, 10]);
}

#[test]
fn a_dropped_probe_gives_its_slot_back_and_a_beginning_answer_is_enough() {
    let lane = lane(credentials(&[1]));
    let mut now = Instant::now();
    fail(&lane, "c0", Failure::RateLimited, now);
    now += seconds(1);
    let probe = choose(&lane, now).unwrap_or_else(|no| panic!("{no:?}"));
    assert!(matches!(no_seat(&lane, now), NoSeat::Cooling { ours: false, .. }));
    drop(probe);
    let probe = choose(&lane, now).unwrap_or_else(|no| panic!("{no:?}"));
    probe.settle(
        &Outcome {
            inconclusive: true,
            ..Outcome::default()
        },
        now,
    );
    let probe = choose(&lane, now).unwrap_or_else(|no| panic!("{no:?}"));
    assert!(choose(&lane, now).is_err());
    probe.answering(millis(70), now);
    assert!(choose(&lane, now).is_ok());
    probe.settle(&success(millis(9000)), now);
    assert_eq!(lane.standing(now).latency, Some(millis(70)), "measured once");
}

#[test]
fn checks_lift_and_bar() {
    let pool = pool(credentials(&[1]));
    let mut now = Instant::now();
    let lane = pool.lane("model");
    pool.checked("c0", &failure(Failure::Unauthorised), Asked::List, now);
    pool.checked("c0", &failure(Failure::Unauthorised), Asked::List, now);
    assert_eq!(pool.states(now)[0].standing, CoolState::Quarantined);
    assert!(choose(&lane, now).is_err());
    pool.checked("c0", &failure(Failure::Connect), Asked::List, now);
    assert!(choose(&lane, now).is_err(), "that says nothing");
    pool.checked("c0", &success(millis(1)), Asked::List, now);
    assert!(choose(&lane, now).is_ok(), "at once");
    fail(&lane, "c0", Failure::QuotaSpent, now);
    now += seconds(1);
    pool.checked("c0", &success(millis(1)), Asked::List, now);
    assert!(choose(&lane, now).is_err(), "a list of models costs nothing");
    pool.checked("c0", &success(millis(1)), Asked::Path, now);
    assert!(choose(&lane, now).is_err(), "nor does a path");
    pool.checked("c0", &success(millis(1)), Asked::Model, now);
    assert!(choose(&lane, now).is_ok());
    pool.checked("nobody", &success(millis(1)), Asked::Model, now);
}

#[test]
fn who_wants_no_credential_has_one_seat_that_is_never_locked() {
    let pool = Pool::new(Arc::new(open()), None);
    let lane = pool.lane("model");
    let now = Instant::now();
    let hold = choose(&lane, now).unwrap_or_else(|no| panic!("{no:?}"));
    assert!(hold.credential().is_none());
    hold.settle(&failure(Failure::RateLimited), now);
    assert!(lane.choose_ready(&want(Strategy::Weighted), now).is_err());
    assert!(choose(&lane, now).is_ok(), "in need");
}

#[test]
fn without_cooldown_nothing_cools() {
    let provider = Provider {
        cooldown: false,
        ..provider(credentials(&[1]))
    };
    let lane = Pool::new(Arc::new(provider), None).lane("model");
    let now = Instant::now();
    for what in Failure::ALL {
        fail(&lane, "c0", what, now);
    }
    assert_eq!(lane.usable(now), 1);
}

#[test]
fn no_connection_is_the_lanes_trouble_not_the_credentials() {
    let lane = lane(credentials(&[1]));
    let now = Instant::now();
    for _ in 0..20 {
        fail(&lane, "c0", Failure::Connect, now);
    }
    let standing = lane.standing(now);
    assert_eq!(lane.usable(now), 1);
    assert!(standing.success < 0.5, "{standing:?}");
    assert!(lane.seats[0].state.lock().averages.success() > 0.99);
}

#[test]
fn what_is_told_of_a_lane_adds_up() {
    let lane = lane(credentials(&[1, 1, 1]));
    let now = Instant::now();
    let holds: Vec<Hold> = (0..5).filter_map(|_| choose(&lane, now).ok()).collect();
    let standing = lane.standing(now);
    assert_eq!((lane.usable(now), standing.in_flight, standing.latency), (3, 5, None));
    fail(&lane, "c1", Failure::RateLimited, now);
    counts(&lane, Strategy::Weighted, 3, now);
    assert_eq!(lane.usable(now), 2, "once a choice came across it");
    holds[0].settle(&success(millis(300)), now);
    assert_eq!(lane.standing(now).latency, Some(millis(300)));
    drop(holds);
    assert_eq!(lane.standing(now).in_flight, 0);
}

#[test]
fn enabling_forgets_what_cools() {
    let pool = pool(credentials(&[1, 1]));
    let now = Instant::now();
    let lane = pool.lane("model");
    fail(&lane, "c0", Failure::Forbidden, now);
    fail(&lane, "c1", Failure::RateLimited, now);
    fail(&pool.lane("other"), "c0", Failure::QuotaSpent, now);
    let before = pool.roster.changes.counted();
    assert!(pool.set_disabled("c0", false), "it was not disabled");
    assert_eq!(counts(&lane, Strategy::Weighted, 3, now), [3, 0], "of c0 alone");
    assert!(pool.roster.changes.counted() > before, "worth remembering");
    assert_eq!(pool.states(now)[0].failures, 0);
    fail(&lane, "c0", Failure::Unauthorised, now);
    assert!(pool.set_disabled("c0", true));
    assert!(choose(&lane, now).is_err());
    assert!(pool.set_disabled("c0", false));
    assert!(choose(&lane, now).is_ok());
}

#[test]
fn who_always_breaks_after_its_first_token_cools_ever_longer() {
    let lane = lane(credentials(&[1, 1]));
    let mut now = Instant::now();
    let breaks = |now| {
        let want = Want {
            sticky: Some("c0"),
            ..want(Strategy::Weighted)
        };
        let hold = lane.choose_ready(&want, now).unwrap_or_else(|no| panic!("{no:?}"));
        assert_eq!(hold.index(), 0);
        hold.answering(millis(10), now);
        hold.settle(&failure(Failure::Broke), now);
    };
    let until = || lane.seats[0].state.lock().cooldown.until();
    for _ in 0..IN_A_ROW {
        assert_eq!(until(), None);
        breaks(now);
    }
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(until(), Some(now + seconds(pause)));
        now += seconds(pause);
        breaks(now);
    }
    now += seconds(60);
    let probe = Want {
        sticky: Some("c0"),
        ..want(Strategy::Weighted)
    };
    let hold = lane.choose_ready(&probe, now).unwrap_or_else(|no| panic!("{no:?}"));
    hold.answering(millis(10), now);
    hold.settle(&success(millis(10)), now);
    drop(hold);
    breaks(now);
    assert_eq!(until(), None, "one that ends well ends the row");
}
