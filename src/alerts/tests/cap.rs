use std::time::{Duration, Instant};

use crate::alerts::cap::Cap;

#[test]
fn so_many_an_hour_and_the_rest_in_one() {
    let start = Instant::now();
    let second = |n| start + Duration::from_secs(n);
    let mut cap = Cap::new(5);
    let sent = (0..20).filter(|n| {
        let admitted = cap.admits(second(*n));
        if !admitted {
            cap.hold("budget", "raised", second(*n));
        }
        admitted
    });
    assert_eq!(sent.count(), 4, "the last place is kept for the sum");
    assert_eq!(cap.due(second(40)), None, "they are gathered for a minute");
    let held = cap.due(second(64)).expect("a sum");
    assert_eq!(held.into_iter().collect::<Vec<_>>(), [(("budget", "raised"), 16)]);
    // The hour is full: whatever comes now waits until the first of it is over.
    assert!(!cap.admits(second(70)));
    cap.hold("ledger", "raised", second(70));
    for n in (70..3600).step_by(10) {
        assert_eq!(cap.due(second(n)), None, "{n}");
    }
    assert_eq!(cap.due(second(3600)).map(|held| held.len()), Some(1));
    assert!(cap.admits(second(3700)), "and on it goes");
}

#[test]
fn no_hour_has_more_than_it_may() {
    let start = Instant::now();
    let mut cap = Cap::new(6);
    let mut sent = Vec::new();
    for n in 0..20_000 {
        let now = start + Duration::from_secs(n);
        // Something happens every seven seconds.
        if n % 7 == 0 {
            if cap.admits(now) {
                sent.push(n);
            } else {
                cap.hold("error_rate", "raised", now);
            }
        }
        if cap.due(now).is_some() {
            sent.push(n);
        }
    }
    for (index, n) in sent.iter().enumerate() {
        let within = sent[..=index].iter().filter(|other| n - **other < 3600).count();
        assert!(within <= 6, "{within} within the hour before {n}");
    }
    assert!(sent.len() > 6 * 4, "and it goes on telling: {}", sent.len());
}
