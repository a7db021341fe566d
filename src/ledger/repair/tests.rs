//! Damaged journals: what can be read comes back once, whatever happens on the way; the rest is told.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use super::*;
use crate::config;
use crate::ledger::form::{self, Kind};
use crate::ledger::tests::{all_rows, copy, open_at, open_store, segments, settings};
use crate::ledger::{Ended, Ledger, Row, samples, snapshot, verify_folder};
use crate::store::frames::Salt;
use crate::store::rows::Applied;

fn small() -> config::Ledger {
    config::Ledger {
        segment: 4 << 10,
        ..settings()
    }
}

/// Attempts by id, as they were closed.
type Written = BTreeMap<AttemptId, Row>;

/// The journal of a process that was killed, of many files; nothing is taken in.
fn killed(data: &Path) -> Written {
    let live = tempfile::tempdir().unwrap();
    let ledger = open_at(live.path(), &small());
    let mut written = Written::new();
    for n in 0..300 {
        let row = samples::row(n);
        let mut entry = ledger.open(row.opening.clone());
        entry.closing = row.closing.clone();
        entry.close(row.ended);
        written.insert(row.opening.id, row);
        while ledger.0.journal.queued() > 0 {
            std::thread::yield_now(); // so that files are rotated
        }
    }
    copy(&live.path().join("journal"), &data.join("journal"));
    written
}

/// The records of a file: offset, length, of which attempt, and whether it is its end.
fn records(path: &Path) -> Vec<(usize, usize, AttemptId, bool)> {
    let bytes = fs::read(path).unwrap();
    let salt = Salt::from_header(&bytes).unwrap();
    let mut at = crate::store::frames::HEADER_LEN;
    let mut records = Vec::new();
    while let crate::store::frames::Next::Record(payload) = salt.next(&bytes[at..]) {
        let head = form::head(payload).unwrap();
        let length = crate::store::frames::FRAME_LEN + payload.len();
        records.push((at, length, head.id, head.kind == Kind::Closed));
        at += length;
    }
    assert_eq!(at, bytes.len());
    records
}

/// Damages the records at these places among those of a file; of which attempts they were, and whether they were their ends.
fn damage(path: &Path, places: &[usize]) -> Vec<(AttemptId, bool)> {
    let records = records(path);
    let mut bytes = fs::read(path).unwrap();
    let mut damaged = Vec::new();
    for &place in places {
        let (at, length, id, closed) = records[place];
        for byte in &mut bytes[at + length / 2..at + length / 2 + 4] {
            *byte ^= 0x55;
        }
        damaged.push((id, closed));
    }
    fs::write(path, bytes).unwrap();
    damaged
}

fn start_and_stop(data: &Path) -> Vec<Row> {
    let ledger = open_at(data, &small());
    all_rows(&ledger)
}

fn rows_of(ledger: &Ledger) -> BTreeMap<AttemptId, Row> {
    let rows = all_rows(ledger);
    let count = rows.len();
    let rows: BTreeMap<_, _> = rows.into_iter().map(|row| (row.opening.id, row)).collect();
    assert_eq!(rows.len(), count, "a row twice");
    rows
}

/// What is there now, and again after the store was filled anew, adds up and is the same; the rows.
fn check(data: &Path) -> BTreeMap<AttemptId, Row> {
    drop(open_store(data));
    let offline = verify_folder(data).unwrap();
    assert_eq!(offline.differences, Vec::<String>::new());
    let ledger = open_at(data, &small());
    let rows = rows_of(&ledger);
    let verdict = ledger.verify().unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new());
    assert!(
        verdict.notes.iter().any(|note| note.contains("were repaired")),
        "{:?}",
        verdict.notes
    );
    drop(ledger);
    for sums in [true, false] {
        fs::remove_dir_all(data.join("store/sled")).unwrap();
        if !sums {
            fs::remove_file(data.join("journal/sums.tgs")).unwrap();
            let _ = fs::remove_file(data.join("journal/sums.tgs.before"));
        }
        let ledger = open_at(data, &small());
        assert_eq!(rows_of(&ledger), rows, "filled again, with sums: {sums}");
        assert_eq!(ledger.verify().unwrap().differences, Vec::<String>::new());
    }
    rows
}

fn repair(data: &Path, dry_run: bool) -> Repair {
    drop(open_store(data)); // sled has let go of it
    let repair = repair_folder(data, dry_run, &Clock::system()).unwrap();
    assert_eq!(repair.not_done, Vec::<String>::new());
    repair
}

fn nothing_left(data: &Path) {
    let again = repair(data, false);
    assert_eq!((again.files.len(), again.taken_over, again.interrupted), (0, 0, 0));
}

/// A journal with damages, taken in as far as a start does that; what was written.
fn damaged(data: &Path) -> (Written, Vec<(AttemptId, bool)>) {
    let written = killed(data);
    let files = segments(data);
    assert!(files.len() > 8);
    let mut bad = damage(&files[1], &[2]);
    bad.extend(damage(&files[4], &[0, 3]));
    bad.extend(damage(&files[6], &[records(&files[6]).len() - 1]));
    let mut bytes = fs::read(&files[7]).unwrap();
    bytes[5] ^= 1; // its header
    fs::write(&files[7], bytes).unwrap();
    let rows = start_and_stop(data);
    assert!(rows.len() < written.len());
    assert!(!verify_folder(data).unwrap().ok);
    (written, bad)
}

fn is_right(rows: &BTreeMap<AttemptId, Row>, written: &Written, bad: &[(AttemptId, bool)]) {
    let lost: HashSet<AttemptId> = bad.iter().filter(|(_, closed)| *closed).map(|(id, _)| *id).collect();
    for (id, row) in written {
        match rows.get(id) {
            Some(found) if found == row => {}
            // Its end could not be read in time, or at all.
            Some(found) => assert_eq!(found.ended, Ended::Interrupted, "{id}"),
            None => assert!(lost.contains(id), "{id} can be read and is in no book"),
        }
    }
}

#[test]
fn what_can_be_read_of_a_damaged_journal_comes_back_once() {
    let data = tempfile::tempdir().unwrap();
    let (written, bad) = damaged(data.path());
    let before = start_and_stop(data.path()).len() as u64;
    let names = segments(data.path());
    let would = repair(data.path(), true);
    assert_eq!(segments(data.path()), names, "a dry run changes nothing");
    let did = repair(data.path(), false);
    assert_eq!(
        Repair {
            dry_run: true,
            journal: None,
            at: would.at.clone(),
            ..did.clone()
        },
        would
    );
    assert_eq!(did.files.len(), 4);
    assert!(did.taken_over > 4, "{did:?}");
    assert!(did.files.iter().all(|file| file.moved_to.exists()));
    let told = fs::read_to_string(data.path().join("journal/damaged/repairs.jsonl")).unwrap();
    assert_eq!(serde_json::from_str::<Repair>(told.trim()).unwrap(), did);
    let rows = check(data.path());
    assert_eq!(rows.len() as u64, before + did.taken_over + did.interrupted);
    is_right(&rows, &written, &bad);
    nothing_left(data.path());
    assert_eq!(check(data.path()), rows);
}

#[test]
fn a_repair_that_was_killed_is_finished_by_the_next() {
    for started_between in [false, true] {
        for files_done in 0..3 {
            let data = tempfile::tempdir().unwrap();
            let (written, bad) = damaged(data.path());
            let whole = tempfile::tempdir().unwrap();
            copy(data.path(), whole.path());
            let did = repair(whole.path(), false);
            // What it had done by then: the journal of what is taken over, and some files replaced, one of them not moved away yet.
            let journal = did.journal.unwrap();
            let to = |path: &Path| data.path().join("journal").join(path.file_name().unwrap());
            fs::copy(&journal, to(&journal)).unwrap();
            for file in did.files.iter().take(files_done) {
                let found = data.path().join("journal").join(&file.file);
                let replaced = found.with_extension("repaired");
                fs::copy(
                    whole.path().join("journal").join(replaced.file_name().unwrap()),
                    replaced,
                )
                .unwrap();
            }
            if started_between {
                start_and_stop(data.path());
            }
            let again = repair(data.path(), false);
            assert_eq!(
                (again.taken_over, again.interrupted),
                (0, 0),
                "{files_done} {started_between}: {again:?}"
            );
            let rows = check(data.path());
            is_right(&rows, &written, &bad);
            assert_eq!(rows, check(whole.path()), "{files_done} {started_between}");
            nothing_left(data.path());
        }
    }
}

#[test]
fn what_went_bad_after_it_was_taken_in_is_in_the_books_already() {
    let data = tempfile::tempdir().unwrap();
    let written = killed(data.path());
    assert_eq!(start_and_stop(data.path()).len(), written.len());
    let files = segments(data.path());
    // Of one attempt the end, of another both records.
    let all = records(&files[2]);
    let both: Vec<usize> = (0..all.len())
        .filter(|&nth| all[nth].2 == all[all.len() / 2].2)
        .collect();
    assert_eq!(both.len(), 2);
    let end = (0..all.len()).find(|&nth| all[nth].3 && !both.contains(&nth)).unwrap();
    damage(&files[2], &[both[0], both[1], end]);
    assert!(!verify_folder(data.path()).unwrap().ok);
    let did = repair(data.path(), false);
    assert_eq!((did.files.len(), did.taken_over, did.interrupted), (1, 0, 0));
    assert!(did.in_the_books > 0);
    assert_eq!(did.from_the_store, 1);
    drop(open_store(data.path()));
    assert_eq!(verify_folder(data.path()).unwrap().differences, Vec::<String>::new());
    let ledger = open_at(data.path(), &small());
    assert_eq!(rows_of(&ledger), written, "the store has all rows");
    drop(ledger);
    // Filled again it has the rows that can be read; the sums have all.
    fs::remove_dir_all(data.path().join("store/sled")).unwrap();
    let ledger = open_at(data.path(), &small());
    let rows = rows_of(&ledger);
    let lost = ledger.reach().unwrap().refilled.unwrap().rows_missing;
    assert_eq!((rows.len() + 1, lost), (written.len(), 1));
    assert!(rows.iter().all(|(id, row)| written[id] == *row));
    assert_eq!(ledger.verify().unwrap().differences, Vec::<String>::new());
}

#[test]
fn what_is_not_taken_in_yet_or_held_is_left_alone() {
    let data = tempfile::tempdir().unwrap();
    killed(data.path());
    let files = segments(data.path());
    damage(&files[1], &[1]);
    drop(open_store(data.path()));
    let names = segments(data.path());
    drop(open_store(data.path()));
    let did = repair_folder(data.path(), false, &Clock::system()).unwrap();
    assert_eq!((did.files.len(), did.not_done.len()), (0, 1), "{did:?}");
    assert!(did.not_done[0].contains("start the gateway once"));
    assert_eq!(segments(data.path()), names);
    let _gateway = open_at(data.path(), &small());
    assert!(matches!(
        repair_folder(data.path(), false, &Clock::system()),
        Err(LedgerError::Store(crate::store::StoreError::Held))
    ));
}

/// Sums on disk which have a journal's first files, and of the file at `place` a part: as a process writes them while it runs. They
/// are put in the place of those of `data`.
fn put_partial_sums(data: &Path, whole: &Path, place: usize) {
    let part = tempfile::tempdir().unwrap();
    copy(&whole.join("journal"), &part.path().join("journal"));
    let files = segments(part.path());
    let all = records(&files[place]);
    let (_, _, _, closed) = all[all.len() / 2];
    let (at, length, ..) = all[all.len() / 2 + usize::from(!closed)];
    let end = (at + length) as u64;
    fs::File::options()
        .write(true)
        .open(&files[place])
        .unwrap()
        .set_len(end)
        .unwrap();
    for later in &files[place + 1..] {
        fs::remove_file(later).unwrap();
    }
    let (boot, number, _) = segment::parse_name(&name(&files[place])).unwrap();
    start_and_stop(part.path());
    let store = open_store(part.path());
    let mut pair = snapshot::pair(part.path().join("journal").as_path());
    let mut head = snapshot::load(&mut pair).unwrap().unwrap().head;
    let (_, mark) = head.marks.iter_mut().find(|(named, _)| *named == boot).unwrap();
    *mark = Applied {
        segment: number,
        offset: end,
        open_segment: number,
        open_offset: end,
        finished: false,
    };
    snapshot::write(&mut pair, &store, &head).unwrap();
    fs::copy(pair.newest(), data.join("journal/sums.tgs")).unwrap();
    let _ = fs::remove_file(data.join("journal/sums.tgs.before"));
}

#[test]
fn sums_that_go_to_the_middle_of_a_repaired_file_are_written_anew() {
    let whole = tempfile::tempdir().unwrap();
    let written = killed(whole.path());
    let data = tempfile::tempdir().unwrap();
    copy(whole.path(), data.path());
    start_and_stop(data.path());
    put_partial_sums(data.path(), whole.path(), 5);
    let old_sums = fs::read(data.path().join("journal/sums.tgs")).unwrap();
    let bad = damage(&segments(data.path())[5], &[1, 2]);
    let did = repair(data.path(), false);
    assert_eq!(did.files.len(), 1);
    let rows = check(data.path());
    is_right(&rows, &written, &bad);
    assert!(rows.len() + 2 >= written.len());
    // Old sums, put back by somebody, are refused, not guessed with.
    drop(open_store(data.path()));
    fs::remove_dir_all(data.path().join("store/sled")).unwrap();
    fs::write(data.path().join("journal/sums.tgs"), old_sums).unwrap();
    let _ = fs::remove_file(data.path().join("journal/sums.tgs.before"));
    let ledger = open_at(data.path(), &small());
    let why = ledger.reach().unwrap_err().to_string();
    assert!(why.contains("older than the repair"), "{why}");
}

#[test]
fn nothing_is_repaired_while_balances_go_to_the_middle_of_the_journal() {
    let data = tempfile::tempdir().unwrap();
    damaged(data.path());
    drop(open_store(data.path()));
    fs::remove_file(data.path().join("journal/books.tgb.before")).unwrap();
    let names = segments(data.path());
    let did = repair_folder(data.path(), false, &Clock::system()).unwrap();
    assert_eq!((did.files.len(), did.not_done.len()), (0, 4), "{did:?}");
    assert!(did.not_done[0].contains("start the gateway once"), "{did:?}");
    assert_eq!(segments(data.path()), names);
    start_and_stop(data.path());
    assert_eq!(repair(data.path(), false).files.len(), 4);
}

#[test]
fn what_may_be_charged_already_is_not_taken_over() {
    for sums in [true, false] {
        let whole = tempfile::tempdir().unwrap();
        let written = killed(whole.path());
        let data = tempfile::tempdir().unwrap();
        copy(whole.path(), data.path());
        start_and_stop(data.path()); // balances and rows have all
        drop(open_store(data.path()));
        // A file goes bad and the store breaks: it does not get the rows behind the bad place; balances have them.
        put_partial_sums(data.path(), whole.path(), 5);
        if !sums {
            fs::remove_file(data.path().join("journal/sums.tgs")).unwrap();
        }
        damage(&segments(data.path())[7], &[1]);
        fs::remove_dir_all(data.path().join("store/sled")).unwrap();
        assert!(start_and_stop(data.path()).len() < written.len());
        drop(open_store(data.path()));
        let names = segments(data.path());
        for dry_run in [true, false] {
            let did = repair_folder(data.path(), dry_run, &Clock::system()).unwrap();
            assert_eq!((did.files.len(), did.not_done.len()), (0, 1), "{did:?}");
            assert!(did.not_done[0].contains("charged again"), "{did:?}");
        }
        assert_eq!(segments(data.path()), names);
    }
}

#[test]
fn a_repaired_file_that_goes_bad_is_repaired_again() {
    let data = tempfile::tempdir().unwrap();
    damaged(data.path());
    let first = repair(data.path(), false);
    start_and_stop(data.path());
    let mut moved: HashSet<_> = first.files.into_iter().map(|file| file.moved_to).collect();
    for _ in 0..3 {
        damage(&segments(data.path())[6], &[5, 6]);
        let did = repair(data.path(), false);
        assert_eq!((did.files.len(), did.taken_over, did.interrupted), (1, 0, 0), "{did:?}");
        assert!(did.files[0].moved_to.exists());
        assert!(moved.insert(did.files[0].moved_to.clone()), "each is kept");
        let rows = start_and_stop(data.path());
        let ids: HashSet<_> = rows.iter().map(|row| row.opening.id).collect();
        assert_eq!(ids.len(), rows.len());
    }
    assert_eq!(
        segment::set_aside(&data.path().join("journal")).unwrap(),
        moved.len() as u64
    );
}

#[test]
fn what_ended_where_the_journal_rotted_is_not_interrupted_as_well() {
    let data = tempfile::tempdir().unwrap();
    let written = killed(data.path());
    assert_eq!(start_and_stop(data.path()).len(), written.len());
    let file = &segments(data.path())[5];
    let all = records(file);
    let end = (all.len() / 2..).find(|&nth| all[nth].3).unwrap();
    let bad = damage(file, &[end]);
    drop(open_store(data.path()));
    fs::remove_dir_all(data.path().join("store/sled")).unwrap();
    let ledger = open_at(data.path(), &small());
    let rows = rows_of(&ledger);
    assert!(!rows.contains_key(&bad[0].0), "its row is in the sums");
    assert!(rows.iter().all(|(id, row)| written[id] == *row));
    let missing = ledger.reach().unwrap().refilled.unwrap().rows_missing;
    assert_eq!(missing, (written.len() - rows.len()) as u64);
}
