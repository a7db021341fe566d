//! Sums and rows tell the same.

use std::time::Duration;

use proptest::prelude::*;

use super::rollup::{DAY, HOUR};
use super::tests::{all_rows, open_at, run_attempt, settings};
use super::*;
use crate::clock::UnixMicros;

pub(super) const START: i64 = 1_700_000_000_000_000;

pub(super) fn enter(ledger: &Ledger, n: u64, at: i64) {
    let row = samples::row(n);
    let mut opening = row.opening;
    opening.at = UnixMicros(at);
    opening.route = ["a", "b", ""][n as usize % 3].into();
    opening.model = format!("m{}", n % 4).into();
    let mut entry = ledger.open(opening);
    entry.closing = row.closing;
    entry.close([Ended::Complete, Ended::ClientGone, Ended::UpstreamError][n as usize / 2 % 3]);
}

fn by(mask: u32) -> Vec<GroupBy> {
    use GroupBy::*;
    [Key, Model, Provider, Credential, Day, Group, Hour, Route]
        .into_iter()
        .enumerate()
        .filter(|(n, _)| mask & (1 << n) != 0)
        .map(|(_, by)| by)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn reports_are_the_same_from_sums_and_from_rows(
        times in prop::collection::vec(0..9 * DAY, 1..400),
        cuts in prop::collection::vec(0..400usize, 0..4),
        questions in prop::collection::vec((0..256u32, prop::option::of(0..9 * 24 * 4i64), prop::option::of(0..9 * 24 * 4i64), 0..7u8), 12),
    ) {
        let data = tempfile::tempdir().unwrap();
        let mut ledger = open_at(data.path(), &settings());
        for (n, at) in times.iter().enumerate() {
            enter(&ledger, n as u64, START + at);
            if cuts.contains(&n) {
                if n % 2 == 0 {
                    ledger.report(&Filter::default(), &[]).unwrap(); // sums are made here
                } else {
                    drop(ledger);
                    ledger = open_at(data.path(), &settings());
                }
            }
        }
        for (mask, from, until, filters) in questions {
            // Some aligned to hours, some not.
            let quarter = |n: i64| UnixMicros(START / DAY * DAY + n * HOUR / 4);
            let filter = Filter {
                from: from.map(quarter),
                until: until.map(quarter),
                key: (filters & 1 != 0).then(|| "key3".into()),
                group: (filters & 2 != 0).then(|| "team".into()),
                model: (filters & 4 != 0).then(|| "m1".into()),
                ..Filter::default()
            };
            let by = by(mask);
            let fast = ledger.report(&filter, &by).unwrap();
            let slow = query::report_by_rows(&ledger.0.store, &filter, &by).unwrap();
            prop_assert_eq!(fast, slow, "{:?} {:?}", filter, by);
        }
    }
}

#[test]
fn sums_outlive_their_rows() {
    let data = tempfile::tempdir().unwrap();
    let mut few_days = settings();
    few_days.keep_rows = Some(Duration::from_secs(3 * 86_400));
    let ledger = open_at(data.path(), &few_days);
    for n in 0..2000 {
        enter(&ledger, n, START + n as i64 * DAY / 200); // ten days
    }
    let by = [GroupBy::Day, GroupBy::Key, GroupBy::Group];
    let before = ledger.report(&Filter::default(), &by).unwrap();
    assert_eq!(ledger.status().rows, 2000);
    drop(ledger); // the last pass removes what is old
    for start in 0..2 {
        let ledger = open_at(data.path(), &few_days);
        let rows = all_rows(&ledger);
        assert!(
            rows.len() < 1000 && rows.len() >= 600,
            "start {start}: {} rows",
            rows.len()
        );
        assert_eq!(ledger.status().rows, rows.len() as u64);
        assert_eq!(ledger.report(&Filter::default(), &by).unwrap(), before, "start {start}");
        // A part of an hour of which there are no rows any more is told whole.
        let hour = START / HOUR * HOUR + HOUR;
        let whole = Filter {
            from: Some(UnixMicros(hour)),
            until: Some(UnixMicros(hour + HOUR)),
            ..Filter::default()
        };
        let part = Filter {
            from: Some(UnixMicros(hour + 1)),
            until: Some(UnixMicros(hour + HOUR - 1)),
            ..Filter::default()
        };
        let sums = ledger.report(&whole, &[]).unwrap();
        assert!(sums[0].attempts > 0);
        assert_eq!(ledger.report(&part, &[]).unwrap(), sums);
    }
}

#[test]
fn a_clock_that_runs_ahead_removes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut few_days = settings();
    few_days.keep_rows = Some(Duration::from_secs(86_400));
    let ledger = open_at(data.path(), &few_days); // it is years after START
    for n in 0..500 {
        run_attempt(&ledger, n);
    }
    ledger.shut_down();
    drop(ledger);
    assert_eq!(all_rows(&open_at(data.path(), &few_days)).len(), 500);
}

#[test]
fn the_form_of_sums_is_frozen() {
    let sums = rollup::Sums {
        requests: 1,
        attempts: 300,
        tokens: [1, 2, 3, 4, 5, 6, 7, 8],
        cost: crate::money::NanoUsd(9),
        response_bytes: 10,
        ..rollup::Sums::default()
    };
    let bytes = crate::store::codec::encode(&sums).unwrap();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex, "0101ac020000000000010203040506070809000".to_owned() + "00a");
    assert_eq!(rollup::decode(&bytes).unwrap(), sums);
}
