//! That each strategy divides as it says.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::upstream::strategy::LOOKED_AT;

#[test]
fn weighted_is_exact_in_every_round() {
    let lane = lane(credentials(&[5, 3, 2]));
    let now = Instant::now();
    for _ in 0..10 {
        assert_eq!(counts(&lane, Strategy::Weighted, 10, now), [5, 3, 2]);
    }
    assert_eq!(counts(&lane, Strategy::Cheapest, 10, now), [5, 3, 2]);
}

#[test]
fn the_share_of_a_limited_credential_goes_to_the_others_in_proportion() {
    let lane = lane(credentials(&[4, 3, 2, 1]));
    let mut now = Instant::now();
    fail(&lane, "c0", Failure::RateLimited, now);
    assert_eq!(counts(&lane, Strategy::Weighted, 60, now), [0, 30, 20, 10]);
    now += millis(1001);
    let probe = (0..100).find_map(|_| choose(&lane, now).ok().filter(|hold| hold.index() == 0));
    let probe = probe.expect("it is tried when its time is over");
    assert_eq!(counts(&lane, Strategy::Weighted, 60, now)[0], 0, "by one request only");
    probe.settle(&success(millis(100)), now);
    assert_eq!(counts(&lane, Strategy::Weighted, 100, now), [40, 30, 20, 10]);
}

#[test]
fn thousand_with_most_of_them_out() {
    let weights: Vec<u32> = (0..1000).map(|index| index % 7 + 1).collect();
    let lane = lane(credentials(&weights));
    let now = Instant::now();
    for index in 10..1000 {
        fail(&lane, &format!("c{index}"), Failure::RateLimited, now);
    }
    let total: u32 = weights[..10].iter().sum();
    for strategy in [Strategy::Weighted, Strategy::RoundRobin] {
        let seen = counts(&lane, strategy, total as usize * 10, now);
        assert_eq!(seen[10..].iter().sum::<usize>(), 0);
        if strategy == Strategy::Weighted {
            let due: Vec<usize> = weights[..10].iter().map(|weight| *weight as usize * 10).collect();
            assert_eq!(seen[..10], due);
        }
    }
    for strategy in [Strategy::LeastUsed, Strategy::LeastLatency, Strategy::Adaptive] {
        let seen = counts(&lane, strategy, 1000, now);
        assert_eq!(seen[..10].iter().sum::<usize>(), 1000, "{strategy:?}");
        assert!(seen[..10].iter().all(|seen| *seen > 20), "{strategy:?} {seen:?}");
    }
}

#[test]
fn round_robin_asks_each_in_turn() {
    let lane = lane(credentials(&[1, 9, 1, 5]));
    let now = Instant::now();
    let order = |times| -> Vec<usize> {
        let next = |_| lane.choose(&want(Strategy::RoundRobin), now).map(|hold| hold.index());
        (0..times).filter_map(|step| next(step).ok()).collect()
    };
    assert_eq!(order(8), [0, 1, 2, 3, 0, 1, 2, 3]);
    fail(&lane, "c1", Failure::RateLimited, now);
    assert_eq!(order(6), [0, 2, 3, 0, 2, 3]);
}

#[test]
fn weight_zero_is_asked_only_if_no_other_can_be() {
    let lane = lane(credentials(&[1, 0, 1, 0]));
    let now = Instant::now();
    for strategy in [
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastUsed,
        Strategy::LeastLatency,
        Strategy::Adaptive,
    ] {
        let seen = counts(&lane, strategy, 40, now);
        assert_eq!((seen[1], seen[3]), (0, 0), "{strategy:?}");
    }
    fail(&lane, "c0", Failure::RateLimited, now);
    fail(&lane, "c2", Failure::RateLimited, now);
    assert_eq!(counts(&lane, Strategy::Weighted, 40, now), [0, 20, 0, 20]);
}

/// Runs requests of these lengths, so many at once; tells how many each seat got.
fn run(
    lane: &Arc<Lane>,
    strategy: Strategy,
    at_once: usize,
    requests: usize,
    length: impl Fn(usize) -> u64,
) -> Vec<usize> {
    let start = Instant::now();
    let mut seen = vec![0; lane.seats.len()];
    let mut ends: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut holds: Vec<Option<Hold>> = Vec::new();
    let mut at = 0;
    for _ in 0..requests {
        if ends.len() == at_once {
            let Reverse((end, which)) = ends.pop().unwrap();
            at = end;
            let hold = holds[which].take().unwrap();
            let took = length(hold.index());
            hold.settle(&success(millis(took)), start + millis(at));
        }
        let hold = lane
            .choose(&want(strategy), start + millis(at))
            .unwrap_or_else(|no| panic!("{no:?}"));
        seen[hold.index()] += 1;
        ends.push(Reverse((at + length(hold.index()), holds.len())));
        holds.push(Some(hold));
    }
    seen
}

#[test]
fn least_used_gives_more_to_who_is_done_sooner() {
    let even = lane(credentials(&[1, 1, 1, 1]));
    let seen = run(
        &even,
        Strategy::LeastUsed,
        8,
        4000,
        |index| if index == 0 { 50 } else { 100 },
    );
    let slow = seen[1..].iter().sum::<usize>() / 3;
    assert!(seen[0] > slow * 17 / 10 && seen[0] < slow * 23 / 10, "{seen:?}");
    let weighted = lane(credentials(&[3, 1]));
    let seen = run(&weighted, Strategy::LeastUsed, 8, 4000, |_| 100);
    assert!(seen[0] > seen[1] * 27 / 10 && seen[0] < seen[1] * 33 / 10, "{seen:?}");
}

#[test]
fn least_used_never_piles_up() {
    for count in [3, LOOKED_AT, 1000] {
        let lane = lane(credentials(&vec![1; count]));
        let now = Instant::now();
        let holds: Vec<Hold> = (0..count * 3)
            .filter_map(|_| lane.choose(&want(Strategy::LeastUsed), now).ok())
            .collect();
        let mut load = vec![0; count];
        holds.iter().for_each(|hold| load[hold.index()] += 1);
        let most = if count <= LOOKED_AT { 3 } else { 4 };
        assert!(
            load.iter().all(|load| *load <= most),
            "{count}: {:?}",
            load.iter().max()
        );
    }
}

#[test]
fn least_latency_prefers_the_faster_and_explores_again() {
    let lane = lane(credentials(&[1, 1, 1]));
    let mut now = Instant::now();
    let mut latency = [100, 200, 900];
    let ask = |latency: [u64; 3], requests: usize, now: &mut Instant| {
        let mut seen = [0; 3];
        for _ in 0..requests {
            let hold = lane
                .choose(&want(Strategy::LeastLatency), *now)
                .unwrap_or_else(|no| panic!("{no:?}"));
            seen[hold.index()] += 1;
            hold.settle(&success(millis(latency[hold.index()])), *now);
            *now += millis(5);
        }
        seen
    };
    let first = ask(latency, 30, &mut now);
    assert!(first.iter().all(|seen| *seen > 0), "each is explored: {first:?}");
    let seen = ask(latency, 3000, &mut now);
    assert!(seen[0] > 1800 && seen[2] < 30, "{seen:?}");
    // The slowest gets fast: it is measured again by and by.
    latency[2] = 10;
    ask(latency, 12_000, &mut now);
    let seen = ask(latency, 3000, &mut now);
    assert!(seen[2] > 1800, "{seen:?}");
}

#[test]
fn who_is_measured_for_the_first_time_is_not_asked_again_meanwhile() {
    let lane = lane(credentials(&[1, 1]));
    let now = Instant::now();
    for strategy in [Strategy::LeastLatency, Strategy::Adaptive] {
        let first = lane.choose(&want(strategy), now).unwrap_or_else(|no| panic!("{no:?}"));
        let second = lane.choose(&want(strategy), now).unwrap_or_else(|no| panic!("{no:?}"));
        assert_ne!(first.index(), second.index());
    }
}

#[test]
fn adaptive_avoids_who_fails_and_comes_back() {
    // Without cooldown: the strategy alone.
    let provider = Provider {
        cooldown: false,
        ..provider(credentials(&[1, 1, 1]))
    };
    let lane = Pool::new(Arc::new(provider), None).lane("model");
    let mut now = Instant::now();
    let ask = |broken: Option<usize>, requests: usize, now: &mut Instant| {
        let mut seen = [0; 3];
        for _ in 0..requests {
            let hold = lane
                .choose(&want(Strategy::Adaptive), *now)
                .unwrap_or_else(|no| panic!("{no:?}"));
            seen[hold.index()] += 1;
            let outcome = match broken == Some(hold.index()) {
                true => failure(Failure::Server),
                false => success(millis(200)),
            };
            hold.settle(&outcome, *now);
            *now += millis(10);
        }
        seen
    };
    let seen = ask(None, 3000, &mut now);
    assert!(seen.iter().all(|seen| *seen > 500), "{seen:?}");
    let seen = ask(Some(1), 1000, &mut now);
    assert!(seen[1] < 50, "{seen:?}");
    // Failures are forgiven in tens of seconds.
    ask(None, 6000, &mut now);
    let seen = ask(None, 3000, &mut now);
    assert!(seen[1] > 500, "{seen:?}");
}

#[test]
fn adaptive_weighs_latency_load_and_weight() {
    let lane = lane(credentials(&[1, 1]));
    let seen = run(&lane, Strategy::Adaptive, 12, 6000, |index| [100, 300][index]);
    assert!(seen[0] > seen[1] * 2, "{seen:?}");
    assert!(seen[1] > 100, "the slower helps under load: {seen:?}");
    let lane = super::lane(credentials(&[3, 1]));
    let seen = run(&lane, Strategy::Adaptive, 12, 6000, |_| 100);
    assert!(seen[0] > seen[1] * 2, "{seen:?}");
}

#[test]
fn tags_and_tried_and_sticky_are_heeded() {
    let mut list = credentials(&[1; 6]);
    for (index, credential) in list.iter_mut().enumerate() {
        credential.tags = match index % 3 {
            0 => vec!["eu".into(), "paid".into()],
            1 => vec!["eu".into()],
            _ => Vec::new(),
        };
    }
    let lane = lane(list);
    let now = Instant::now();
    let (eu, paid, none): (Arc<str>, Arc<str>, Arc<str>) = ("eu".into(), "paid".into(), "none".into());
    let chosen = |tags: &[Arc<str>], tried: &[usize], sticky: Option<&str>| {
        let want = Want {
            tags,
            tried,
            sticky,
            ..want(Strategy::Weighted)
        };
        lane.choose(&want, now).map(|hold| hold.index())
    };
    let paid_eu = [eu.clone(), paid.clone()];
    let seen: Vec<_> = (0..4).map(|_| chosen(&paid_eu, &[], None)).collect();
    assert_eq!(seen, [Ok(0), Ok(3), Ok(0), Ok(3)]);
    assert_eq!(chosen(&paid_eu, &[0], None), Ok(3));
    assert_eq!(chosen(&paid_eu, &[3, 0], None), Err(NoSeat::Tried));
    assert_eq!(chosen(&[none], &[], None), Err(NoSeat::None));
    assert_eq!(chosen(&[], &[], Some("c5")), Ok(5));
    assert_eq!(
        chosen(&[eu], &[], Some("c5")).map(|index| index % 3 < 2),
        Ok(true),
        "its tags don't fit"
    );
    assert_ne!(chosen(&[], &[5], Some("c5")), Ok(5));
    assert!(chosen(&[], &[], Some("gone")).is_ok());
    fail(&lane, "c5", Failure::RateLimited, now);
    assert_ne!(chosen(&[], &[], Some("c5")), Ok(5));
}

#[test]
fn limits_are_kept_and_room_comes_back() {
    let mut list = credentials(&[1, 1]);
    list[0].limits.requests_per_minute = Some(3);
    list[1].limits.concurrent = Some(2);
    let lane = lane(list);
    let mut now = Instant::now();
    let mut holds: Vec<Hold> = (0..5).filter_map(|_| choose(&lane, now).ok()).collect();
    let count = |holds: &[Hold], index| holds.iter().filter(|hold| hold.index() == index).count();
    assert_eq!((count(&holds, 0), count(&holds, 1)), (3, 2));
    let no = choose(&lane, now).err();
    let Some(NoSeat::Cooling { until, ours: false }) = no else {
        panic!("{no:?}")
    };
    assert_eq!(until, now + seconds(1), "somebody will be done soon");
    let done = holds.iter().position(|hold| hold.index() == 1).unwrap();
    holds.swap_remove(done).settle(&success(millis(1)), now);
    let next = choose(&lane, now).map(|hold| hold.index());
    assert_eq!(next, Ok(1), "at once");
    holds.iter().for_each(|hold| hold.settle(&success(millis(1)), now));
    holds.clear();
    now += seconds(61);
    assert_eq!(counts(&lane, Strategy::Weighted, 4, now), [2, 2]);
}

#[test]
fn tokens_are_booked_by_estimate_and_settled_by_truth() {
    let mut list = credentials(&[1]);
    list[0].limits.tokens_per_minute = Some(1000);
    let lane = lane(list);
    let now = Instant::now();
    let ask = |tokens| {
        let want = Want {
            tokens,
            ..want(Strategy::Weighted)
        };
        lane.choose(&want, now)
    };
    let hold = ask(900).unwrap_or_else(|no| panic!("{no:?}"));
    assert!(matches!(ask(200), Err(NoSeat::Cooling { ours: false, .. })));
    assert!(
        ask(50).is_ok(),
        "a smaller one fits; it was dropped, and is not counted"
    );
    let outcome = Outcome {
        tokens: Some(100),
        ..success(millis(10))
    };
    hold.settle(&outcome, now);
    assert!(ask(900).is_ok());
    ask(900)
        .unwrap_or_else(|no| panic!("{no:?}"))
        .settle(&failure(Failure::Refused), now);
    assert!(ask(900).is_ok(), "a refusal costs nothing");
}

#[test]
fn no_client_fills_the_window_for_long() {
    let mut list = credentials(&[1]);
    list[0].limits.tokens_per_minute = Some(1000);
    let lane = lane(list);
    let start = Instant::now();
    // That there is no room is believed for a second.
    let ask = |tokens, second| {
        let want = Want {
            tokens,
            prompt: 100,
            ..want(Strategy::Weighted)
        };
        lane.choose(&want, start + seconds(second))
    };
    let given_up = Outcome {
        inconclusive: true,
        ..Outcome::default()
    };
    let hold = ask(u64::MAX, 0).unwrap_or_else(|no| panic!("{no:?}"));
    assert!(ask(1, 0).is_err(), "nothing beside it");
    hold.settle(&given_up, start);
    drop(hold);
    assert!(ask(901, 2).is_err(), "the prompt was sent");
    let hold = ask(900, 4).unwrap_or_else(|no| panic!("{no:?}"));
    let told = Outcome {
        tokens: Some(7),
        ..given_up
    };
    hold.settle(&told, start);
    let hold = ask(893, 6).unwrap_or_else(|no| panic!("{no:?}"));
    drop(hold);
    assert!(ask(u64::MAX, 8).is_err(), "it waits for an empty window");
    assert!(ask(u64::MAX, 70).is_ok());
}

#[test]
fn tokens_count_only_where_they_are_limited() {
    let mut list = credentials(&[1]);
    list[0].limits.requests_per_minute = Some(10);
    let lane = lane(list);
    let now = Instant::now();
    let want = Want {
        tokens: u64::MAX,
        prompt: u64::MAX,
        ..want(Strategy::Weighted)
    };
    for _ in 0..3 {
        let hold = lane.choose(&want, now).unwrap_or_else(|no| panic!("{no:?}"));
        let outcome = Outcome {
            tokens: Some(u64::MAX),
            ..success(millis(1))
        };
        hold.settle(&outcome, now);
    }
    assert!(lane.choose(&want, now).is_ok());
}
