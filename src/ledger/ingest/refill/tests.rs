//! A store that broke is given what it had: all sums, rows as far back as journals are kept; and what is missing is told.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::ids::AttemptId;
use crate::ledger::bookkeeper::Bookkeeper;
use crate::ledger::report::{GroupBy, ReportLine};
use crate::ledger::rollup::DAY;
use crate::ledger::rollup_tests::{START, enter};
use crate::ledger::samples;
use crate::ledger::tests::{all_rows, copy, open_at, open_store, segments, settings};
use crate::ledger::{Ledger, Row};

const BY: [GroupBy; 4] = [GroupBy::Hour, GroupBy::Key, GroupBy::Group, GroupBy::Model];

fn small() -> crate::config::Ledger {
    crate::config::Ledger {
        segment: 8 << 10,
        archive: 64 << 10,
        ..settings()
    }
}

/// Lives one after the other, over five days, of which the first ones' journals are removed.
fn live(data: &Path, settings: &crate::config::Ledger, lives: std::ops::Range<u64>) {
    for life in lives {
        let ledger = open_at(data, settings);
        let mut opening = samples::opening(life);
        opening.at = UnixMicros(START + life as i64 * DAY);
        drop(ledger.open(opening)); // interrupted
        for n in 0..300 {
            enter(
                &ledger,
                life * 300 + n,
                START + life as i64 * DAY + n as i64 * DAY / 300,
            );
        }
    }
}

#[derive(Debug, PartialEq)]
struct Told {
    by_hour: Vec<ReportLine>,
    by_day: Vec<ReportLine>,
}

fn told(ledger: &Ledger) -> Told {
    let report = |by: &[GroupBy]| ledger.report(&Filter::default(), by).unwrap();
    Told {
        by_hour: report(&BY),
        by_day: report(&[GroupBy::Day, GroupBy::Provider, GroupBy::Credential]),
    }
}

fn ids(rows: &[Row]) -> HashSet<AttemptId> {
    let ids: HashSet<_> = rows.iter().map(|row| row.opening.id).collect();
    assert_eq!(ids.len(), rows.len(), "a row twice");
    ids
}

fn break_store(data: &Path, how: u32) {
    let sled = data.join("store/sled");
    match how {
        0 => fs::remove_dir_all(&sled).unwrap(),
        1 => fs::write(data.join("store/condemned"), b"").unwrap(),
        _ => {
            for entry in fs::read_dir(&sled).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    fs::write(path, vec![0xC3; 1 << 20]).unwrap();
                }
            }
        }
    }
}

/// Lives, and then the store breaks; what it told, and its rows.
fn live_and_break(
    data: &Path,
    settings: &crate::config::Ledger,
    lives: std::ops::Range<u64>,
    how: u32,
) -> (Told, Vec<Row>) {
    live(data, settings, lives);
    let ledger = open_at(data, settings);
    let before = (told(&ledger), all_rows(&ledger));
    drop(ledger);
    break_store(data, how);
    before
}

fn garble(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

/// What there was, and then what there is of it after the store broke.
fn check_refilled(data: &Path, settings: &crate::config::Ledger, before: &Told, rows: &[Row]) -> u64 {
    let ledger = open_at(data, settings);
    assert_eq!(told(&ledger), *before, "sums");
    let left = all_rows(&ledger);
    let (ids, found) = (ids(rows), ids(&left));
    assert!(found.is_subset(&ids));
    let reach = ledger.reach().unwrap();
    let refilled = reach.refilled.unwrap();
    assert_eq!(refilled.rows_missing, (ids.len() - found.len()) as u64);
    assert_eq!(refilled.sums_since, 0);
    for row in rows.iter().filter(|row| row.opening.at.0 >= refilled.rows_since) {
        assert!(found.contains(&row.opening.id), "{} did not come back", row.opening.id);
    }
    let verdict = ledger.verify().unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new());
    let is_told = verdict.notes.iter().any(|note| note.contains("did not come back"));
    assert_eq!(is_told, refilled.rows_missing > 0, "{:?}", verdict.notes);
    refilled.rows_missing
}

#[test]
fn sums_are_whole_and_rows_reach_as_far_as_the_archive() {
    let data = tempfile::tempdir().unwrap();
    let small = small();
    for how in 0..3 {
        // The second time with what was missing from the first.
        let lives = u64::from(how) * 5..u64::from(how) * 5 + 5;
        let (before, rows) = live_and_break(data.path(), &small, lives, how);
        let removed = segments(data.path()).len();
        assert!(removed < 40, "journals were removed: {removed} are left");
        if how == 0 {
            assert!(check_refilled(data.path(), &small, &before, &rows) > 0);
        } else {
            let ledger = open_at(data.path(), &small);
            assert_eq!(told(&ledger), before);
            let verdict = ledger.verify().unwrap();
            assert!(verdict.ok, "{:?}", verdict.differences);
        }
    }
}

#[test]
fn rows_that_were_removed_for_their_age_are_not_missed() {
    let data = tempfile::tempdir().unwrap();
    let mut few_days = settings();
    few_days.segment = 8 << 10;
    few_days.keep_rows = Some(Duration::from_secs(2 * 86_400));
    let (before, rows) = live_and_break(data.path(), &few_days, 0..5, 1); // all journals are kept
    assert!(rows.len() < 800);
    // (Rows are removed by the block, and blocks are others now.)
    let newest = rows.iter().map(|row| row.opening.at.0).max().unwrap();
    let young: HashSet<_> = ids(&rows)
        .into_iter()
        .filter(|id| {
            rows.iter()
                .any(|row| row.opening.id == *id && row.opening.at.0 >= newest - 2 * DAY)
        })
        .collect();
    for start in 0..3 {
        let ledger = open_at(data.path(), &few_days);
        assert_eq!(told(&ledger), before);
        let verdict = ledger.verify().unwrap();
        assert_eq!((verdict.differences, verdict.notes), (vec![], vec![]));
        let left = all_rows(&ledger);
        assert!(ids(&left).is_superset(&young), "start {start}");
        assert_eq!(
            left.len() < 1000,
            start > 0,
            "start {start}: what is too old goes again"
        );
    }
}

#[test]
fn the_file_before_does_as_well_and_without_both_it_is_told() {
    let data = tempfile::tempdir().unwrap();
    let small = small();
    let (before, rows) = live_and_break(data.path(), &small, 0..5, 2);
    let newest = data.path().join("journal/sums.tgs");
    let second = data.path().join("journal/sums.tgs.before");
    garble(&newest);
    let copied = tempfile::tempdir().unwrap();
    copy(data.path(), copied.path());
    assert!(check_refilled(data.path(), &small, &before, &rows) > 0);

    garble(&copied.path().join("journal/sums.tgs.before"));
    assert!(second.exists());
    let ledger = open_at(copied.path(), &small);
    let reach = ledger.reach().unwrap();
    let refilled = reach.refilled.unwrap();
    assert!(refilled.sums_since > START && refilled.rows_since == refilled.sums_since);
    assert_eq!(reach.rows_since, Some(UnixMicros(refilled.sums_since)));
    let sum = |lines: &[ReportLine]| lines.iter().map(|line| line.attempts).sum::<u64>();
    let left = told(&ledger);
    assert_eq!(sum(&left.by_hour), all_rows(&ledger).len() as u64);
    assert!(sum(&left.by_hour) < sum(&before.by_hour));
    let verdict = ledger.verify().unwrap();
    assert!(!verdict.ok, "the balances know of more");
    assert!(verdict.differences.iter().any(|told| told.contains("the sums come to")));
    assert!(
        verdict.notes.iter().any(|note| note.contains("no sums on disk")),
        "{:?}",
        verdict.notes
    );
    // And for good: also after it broke again.
    drop(ledger);
    break_store(copied.path(), 0);
    let ledger = open_at(copied.path(), &small);
    assert_eq!(told(&ledger), left);
    assert_eq!(
        ledger.reach().unwrap().refilled.unwrap().sums_since,
        refilled.sums_since
    );
}

#[test]
fn killed_between_writing_the_sums_and_removing_journals_nothing_counts_twice() {
    let data = tempfile::tempdir().unwrap();
    let mut small = small();
    live(data.path(), &small, 0..4);
    small.archive = 0;
    let kept = tempfile::tempdir().unwrap();
    copy(&data.path().join("journal"), &kept.path().join("journal"));
    let ledger = open_at(data.path(), &small);
    let (before, rows) = (told(&ledger), all_rows(&ledger));
    drop(ledger); // the sums are written, and journals removed
    let left = segments(data.path()).len();
    for name in fs::read_dir(kept.path().join("journal")).unwrap() {
        let name = name.unwrap().file_name();
        let (from, to) = (
            kept.path().join("journal").join(&name),
            data.path().join("journal").join(&name),
        );
        if name.to_string_lossy().contains(".tgj") && !to.exists() && !to.with_extension("tgj.done").exists() {
            fs::copy(from, to).unwrap();
        }
    }
    assert!(segments(data.path()).len() > left, "as if it was killed before");
    break_store(data.path(), 0);
    check_refilled(data.path(), &small, &before, &rows);
}

#[test]
fn killed_while_it_is_filled_it_goes_on() {
    let data = tempfile::tempdir().unwrap();
    let small = small();
    let (before, rows) = live_and_break(data.path(), &small, 0..5, 0);
    for step in 0..3 {
        let folder = data.path().join("journal");
        let boot = "f".repeat(32);
        let keeper = std::sync::Arc::new(Bookkeeper::open(&folder, &boot, Default::default()).unwrap());
        let mut ingest = Ingest::new(folder, boot, 1 << 30, open_store(data.path()), keeper).unwrap();
        let snapshot = snapshot::load(&mut ingest.kept.pair).unwrap().unwrap();
        let boots = segment::list(&ingest.folder).unwrap();
        let (boot, to) = snapshot
            .head
            .marks
            .iter()
            .rev()
            .find(|(boot, _)| boots.contains_key(boot))
            .unwrap();
        match step {
            0 => {
                // A part of one journal.
                let (&last, segment) = boots[boot].last_key_value().unwrap();
                let part = Applied {
                    segment: last,
                    offset: segment.bytes,
                    ..Applied::default()
                };
                ingest.take_in_up_to(boot, None, &part, &boots[boot]).unwrap();
            }
            1 => ingest
                .take_in_up_to(boot, ingest.store.rows().applied(boot).unwrap(), to, &boots[boot])
                .unwrap(),
            _ => {
                ingest.take_in_again(&snapshot.head, &Requests::default()).unwrap();
                ingest.take_sums_over(snapshot).unwrap();
            }
        }
        assert!(ingest.store.rows().rolled().unwrap().is_none(), "not done yet");
        ingest.store.flush().unwrap();
    }
    check_refilled(data.path(), &small, &before, &rows);
}

#[test]
fn sums_that_can_not_be_read_now_are_waited_for_and_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let small = small();
    let (before, rows) = live_and_break(data.path(), &small, 0..5, 0);
    let newest = data.path().join("journal/sums.tgs");
    let (good, journals) = (fs::read(&newest).unwrap(), segments(data.path()).len());
    for newer in [false, true] {
        if newer {
            let mut bytes = good.clone();
            bytes[7] = b'2';
            fs::write(&newest, bytes).unwrap();
        } else {
            fs::remove_file(&newest).unwrap();
            fs::create_dir(&newest).unwrap(); // opens, and can't be read
        }
        let ledger = open_at(data.path(), &small);
        let why = ledger.reach().unwrap_err().to_string();
        assert!(
            why.contains("sums.tgs") && why.contains(if newer { "newer" } else { "read" }),
            "{why}"
        );
        enter(&ledger, 5000 + u64::from(newer), START + 5 * DAY);
        drop(ledger);
        assert!(
            open_store(data.path()).rows().rolled().unwrap().is_none(),
            "nothing was begun"
        );
        assert!(segments(data.path()).len() >= journals, "no journal was removed");
        if newer {
            assert_eq!(fs::read(&newest).unwrap()[8..], good[8..]);
        } else {
            fs::remove_dir(&newest).unwrap();
        }
    }
    fs::write(&newest, &good).unwrap();
    let ledger = open_at(data.path(), &small);
    let sum = |told: &Told| told.by_hour.iter().map(|line| line.attempts).sum::<u64>();
    assert_eq!(sum(&told(&ledger)), sum(&before) + 2);
    assert!(ids(&all_rows(&ledger)).len() <= ids(&rows).len() + 2);
    assert_eq!(ledger.verify().unwrap().differences, Vec::<String>::new());
}

#[test]
fn sums_for_which_there_is_no_room_are_not_written() {
    let data = tempfile::tempdir().unwrap();
    let small = small();
    live(data.path(), &small, 0..1);
    let newest = data.path().join("journal/sums.tgs");
    fs::remove_file(&newest).unwrap(); // so that they are due
    fs::write(newest.with_extension("tgs.new"), b"half").unwrap();
    // All but nothing of the disk must stay free: not even the ballast is made.
    let full = crate::config::Ledger {
        min_free: 0,
        ballast: 1 << 60,
        ..small.clone()
    };
    drop(open_at(data.path(), &full));
    assert!(!newest.exists());
    assert!(
        !newest.with_extension("tgs.new").exists(),
        "what was half written is removed"
    );
    drop(open_at(data.path(), &small));
    assert!(newest.exists());
}
