//! The state machine of cooldown, event by event and at random.

use proptest::prelude::*;

use super::*;

fn blow(failure: Failure) -> Blow {
    Blow {
        failure,
        told: None,
        open: false,
    }
}

fn told(failure: Failure, seconds: u64) -> Blow {
    Blow {
        told: Some(Duration::from_secs(seconds)),
        ..blow(failure)
    }
}

/// Lets it fail as often as given, each time with the probe, and tells the pauses in seconds.
fn pauses(failure: Failure, times: usize) -> Vec<u64> {
    let mut state = Cooldown::default();
    let mut now = Instant::now();
    let mut seen = Vec::new();
    while seen.len() < times {
        assert_eq!(state.bar(now), None, "it is due");
        let ticket = state.enter(now);
        if state.failed(blow(failure), ticket, now) {
            let until = state.bar(now).expect("it cools").until;
            seen.push((until - now).as_secs());
            now = until;
        }
    }
    seen
}

#[test]
fn each_failure_has_its_schedule() {
    assert_eq!(pauses(Failure::RateLimited, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(pauses(Failure::Overloaded, 7), [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(pauses(Failure::Server, 8), [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(pauses(Failure::QuotaSpent, 5), [300, 600, 1200, 2400, 3600]);
    assert_eq!(pauses(Failure::Unauthorised, 6), [1, 300, 600, 1200, 2400, 3600]);
    assert_eq!(pauses(Failure::Forbidden, 7), [60, 120, 240, 480, 960, 1800, 1800]);
    assert_eq!(pauses(Failure::RateLimited, 100).last(), Some(&60), "no overflow");
}

#[test]
fn the_provider_is_believed_within_bounds() {
    let now = Instant::now();
    let until = |blow: Blow| {
        let mut state = Cooldown::default();
        state.failed(blow, Ticket::default(), now);
        state.bar(now).map(|bar| bar.until - now)
    };
    assert_eq!(until(told(Failure::RateLimited, 7)), Some(Duration::from_secs(7)));
    assert_eq!(until(told(Failure::RateLimited, 0)), Some(LEAST_PAUSE));
    assert_eq!(until(told(Failure::RateLimited, 900_000)), Some(MAX_TOLD));
    assert_eq!(
        until(told(Failure::Forbidden, 1)),
        Some(MINUTE),
        "no word of the provider's"
    );
}

#[test]
fn faults_of_the_provider_cool_after_three_in_a_row() {
    let now = Instant::now();
    let mut state = Cooldown::default();
    let fail = |state: &mut Cooldown, failure| {
        let ticket = state.enter(now);
        state.failed(blow(failure), ticket, now)
    };
    assert!(!fail(&mut state, Failure::Server));
    assert!(!fail(&mut state, Failure::FirstByte));
    let ticket = state.enter(now);
    assert!(!state.succeeded(ticket), "nothing cooled");
    assert!(!fail(&mut state, Failure::Broke), "the row was broken");
    assert!(!fail(&mut state, Failure::Slow));
    assert!(fail(&mut state, Failure::Unreadable));
    assert_eq!(state.bar(now).map(|bar| (bar.soft, bar.ours)), Some((true, false)));
}

#[test]
fn one_incident_is_one_step() {
    let now = Instant::now();
    let mut state = Cooldown::default();
    let tickets: Vec<Ticket> = (0..10).map(|_| state.enter(now)).collect();
    assert!(state.failed(blow(Failure::RateLimited), tickets[0], now));
    for ticket in &tickets[1..] {
        assert!(!state.failed(blow(Failure::RateLimited), *ticket, now));
    }
    assert_eq!(state.until(), Some(now + SECOND));
    assert!(
        state.failed(told(Failure::RateLimited, 9), tickets[1], now),
        "a longer time told is heeded"
    );
    assert_eq!(state.until(), Some(now + 9 * SECOND));
    assert!(!state.succeeded(tickets[2]), "it began before: it proves nothing");
    assert!(
        state.failed(blow(Failure::QuotaSpent), tickets[3], now),
        "a graver reason is"
    );
    assert_eq!((state.until(), state.is_quarantined()), (Some(now + 5 * MINUTE), true));
}

#[test]
fn what_fails_while_it_cools_is_counted_if_it_was_asked_then() {
    let now = Instant::now();
    let mut state = Cooldown::default();
    let early: Vec<Ticket> = (0..5).map(|_| state.enter(now)).collect();
    for ticket in early {
        state.failed(blow(Failure::RateLimited), ticket, now);
    }
    assert_eq!(state.failures(), 1, "one incident");
    for failures in 2..=10 {
        let ticket = state.enter(now);
        state.failed(told(Failure::RateLimited, 9), ticket, now);
        assert_eq!(state.failures(), failures);
    }
    let ticket = state.enter(now);
    assert!(state.succeeded(ticket));
    assert_eq!(state.failures(), 0);
}

#[test]
fn one_unauthorised_is_suspect_two_are_quarantine() {
    let now = Instant::now();
    let mut state = Cooldown::default();
    let (one, other) = (state.enter(now), state.enter(now));
    state.failed(blow(Failure::Unauthorised), one, now);
    state.failed(blow(Failure::Unauthorised), other, now);
    assert!(!state.is_quarantined(), "both were under way");
    let now = now + SECOND;
    let probe = state.enter(now);
    state.failed(blow(Failure::Unauthorised), probe, now);
    assert!(state.is_quarantined());
    assert_eq!(state.bar(now).map(|bar| (bar.soft, bar.ours)), Some((false, true)));
    let check = state.enter_as_check(now);
    assert!(state.succeeded(check));
    assert_eq!((state.bar(now), state.is_quarantined()), (None, false));
}

#[test]
fn a_probe_is_alone_and_its_slot_returns() {
    let mut now = Instant::now();
    let mut state = Cooldown::default();
    state.failed(blow(Failure::RateLimited), Ticket::default(), now);
    now += SECOND;
    assert!(state.is_half_open(now));
    let probe = state.enter(now);
    assert_eq!(state.bar(now).map(|bar| bar.until), Some(now + PROBE_WAIT));
    assert!(state.give_back(probe));
    assert!(!state.give_back(probe));
    let probe = state.enter(now);
    assert!(state.bar(now).is_some());
    now += PROBE_LEASE;
    assert_eq!(state.bar(now), None, "it takes too long");
    let second = state.enter(now);
    assert!(!state.give_back(probe), "the slot is no longer its own");
    assert!(state.bar(now).is_some());
    assert!(state.succeeded(second));
    assert_eq!(state.bar(now), None);
}

#[test]
fn where_there_is_no_account_rate_limits_are_soft() {
    let now = Instant::now();
    let mut state = Cooldown::default();
    let open = Blow {
        open: true,
        ..blow(Failure::RateLimited)
    };
    state.failed(open, Ticket::default(), now);
    assert_eq!(state.bar(now).map(|bar| bar.soft), Some(true));
}

#[test]
fn what_was_kept_comes_back_with_its_step() {
    let now = Instant::now();
    let mut state = Cooldown::default();
    for _ in 0..3 {
        let at = state.until().unwrap_or(now);
        let ticket = state.enter(at);
        state.failed(blow(Failure::QuotaSpent), ticket, at);
    }
    let kept = state.keep().expect("it cools");
    let mut later = Cooldown::default();
    assert!(later.recall(kept, now));
    assert_eq!((later.until(), later.is_quarantined()), (state.until(), true));
    let due = kept.until;
    let probe = later.enter(due);
    later.failed(blow(Failure::QuotaSpent), probe, due);
    assert_eq!(later.until(), Some(due + 40 * MINUTE), "the next step");
    assert!(!later.recall(kept, now), "what was learned since stays");
    assert_eq!(Cooldown::default().keep(), None);
}

#[test]
fn every_failure_is_learned_somewhere_or_nowhere() {
    assert_eq!(lesson(Failure::Connect, false), Lesson::Silent);
    assert_eq!(lesson(Failure::Connect, true), Lesson::Seat);
    assert_eq!(lesson(Failure::Unauthorised, false), Lesson::Account);
    assert_eq!(lesson(Failure::Refused, false), Lesson::Proves);
    assert_eq!(
        Failure::ALL.map(|failure| Failure::from_name(failure.as_str())),
        Failure::ALL.map(Some)
    );
}

/// Found by the property test below: the pause is over, nobody has probed, and a straggler is told to wait for no time at all.
#[test]
fn a_wait_of_no_time_begins_no_pause() {
    let begun = Instant::now();
    let mut state = Cooldown::default();
    let (first, straggler) = (state.enter(begun), state.enter(begun));
    let blow = |failure, told| Blow {
        failure,
        told,
        open: false,
    };
    assert!(state.failed(blow(Failure::Forbidden, None), first, begun));
    let until = state.until().unwrap();
    let now = until + Duration::from_millis(1);
    assert!(!state.failed(blow(Failure::RateLimited, Some(Duration::ZERO)), straggler, now));
    assert_eq!(state.until(), Some(until));
}

#[derive(Clone, Debug)]
enum Event {
    Ask,
    Wait(u64),
    Succeed(usize),
    Fail(usize, Failure, Option<u64>),
    Drop(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let failures = [
        Failure::RateLimited,
        Failure::Overloaded,
        Failure::Server,
        Failure::Unauthorised,
        Failure::QuotaSpent,
        Failure::Forbidden,
    ];
    prop_oneof![
        4 => Just(Event::Ask),
        2 => (0u64..70_000).prop_map(Event::Wait),
        1 => (0usize..8).prop_map(Event::Succeed),
        3 => (0usize..8, proptest::sample::select(failures.to_vec()), proptest::option::of(0u64..200))
            .prop_map(|(which, failure, told)| Event::Fail(which, failure, told)),
        1 => (0usize..8).prop_map(Event::Drop),
    ]
}

proptest! {
    #[test]
    fn nobody_passes_while_it_cools_and_one_probe_when_it_is_due(events in proptest::collection::vec(event(), 1..200)) {
        let mut now = Instant::now();
        let mut state = Cooldown::default();
        // Requests under way, and since when each is the probe.
        let mut under_way: Vec<(Ticket, Option<Instant>)> = Vec::new();
        for event in events {
            let which = |which: usize, under_way: &Vec<_>| which % under_way.len().max(1);
            match event {
                Event::Wait(millis) => now += Duration::from_millis(millis),
                Event::Ask => {
                    let until = state.until();
                    match state.bar(now) {
                        Some(bar) => prop_assert!(bar.until > now, "never in the past"),
                        None => {
                            prop_assert!(until.is_none_or(|until| until <= now), "let through while it cools");
                            let probe = until.map(|_| now);
                            let ticket = state.enter(now);
                            if let Some(until) = until {
                                let young = |since: Option<Instant>| since.is_some_and(|since| since >= until && now < since + PROBE_LEASE);
                                let probes = under_way.iter().filter(|(_, since)| young(*since)).count();
                                prop_assert_eq!(probes, 0, "a second probe");
                            }
                            under_way.push((ticket, probe));
                        }
                    }
                }
                _ if under_way.is_empty() => {}
                Event::Succeed(index) => {
                    let (ticket, _) = under_way.swap_remove(which(index, &under_way));
                    if state.succeeded(ticket) || !state.is_cooling() {
                        prop_assert_eq!(state.bar(now), None);
                        under_way.iter_mut().for_each(|(_, probe)| *probe = None);
                    }
                }
                Event::Fail(index, failure, told) => {
                    let (ticket, _) = under_way.swap_remove(which(index, &under_way));
                    let told = told.map(Duration::from_secs);
                    if state.failed(Blow { failure, told, open: false }, ticket, now) {
                        let until = state.until().unwrap();
                        prop_assert!(until > now && until <= now + MAX_TOLD);
                        prop_assert!(state.bar(now).is_some());
                    }
                }
                Event::Drop(index) => {
                    let (ticket, _) = under_way.swap_remove(which(index, &under_way));
                    state.give_back(ticket);
                }
            }
        }
    }
}
