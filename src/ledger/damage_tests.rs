//! A bad place in a journal's last file, and in one that was taken in: it is told wherever it is looked for, and no row is lost in
//! silence. What a write that was not finished leaves is no damage.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::tests::{all_rows, copy, no_fatal, open_at, open_store, run_attempt, segments, settings};
use super::*;
use crate::ids::AttemptId;
use crate::store::frames::{HEADER_LEN, Salt};

const ROWS: u64 = 480;

/// What a process leaves that was killed after these rows, of which the store and the balances on disk have none; its journal's only file.
fn killed(data: &Path) -> PathBuf {
    let live = tempfile::tempdir().unwrap();
    let ledger = open_at(live.path(), &settings());
    for n in 0..ROWS {
        run_attempt(&ledger, n);
    }
    assert_eq!(ledger.status().rows, ROWS);
    fs::create_dir_all(data.join("journal")).unwrap();
    let files = segments(live.path());
    assert_eq!(files.len(), 1);
    let file = data.join("journal").join(files[0].file_name().unwrap());
    fs::copy(&files[0], &file).unwrap();
    file
}

fn overwrite(file: &Path, at: usize, length: usize) {
    let mut bytes = fs::read(file).unwrap();
    for byte in &mut bytes[at..at + length] {
        *byte ^= 0x5A;
    }
    fs::write(file, bytes).unwrap();
}

fn length(file: &Path) -> usize {
    fs::metadata(file).unwrap().len() as usize
}

fn ids(ledger: &Ledger) -> HashSet<AttemptId> {
    let rows = all_rows(ledger);
    let ids: HashSet<_> = rows.iter().map(|row| row.opening.id).collect();
    assert_eq!(ids.len(), rows.len(), "a row twice");
    ids
}

fn offline(data: &Path) -> Verdict {
    drop(open_store(data)); // sled has let go of it
    verify_folder(data).unwrap()
}

fn tells(verdict: &Verdict) -> bool {
    assert_eq!(verdict.ok, verdict.differences.is_empty());
    verdict
        .differences
        .iter()
        .any(|told| told.contains("is damaged at byte"))
}

fn damaged_names(data: &Path) -> usize {
    let is_damaged = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "damaged");
    segments(data).iter().filter(is_damaged).count()
}

/// It is told, named and counted at each start and by each look, until it is repaired; the rows afterwards.
fn told_until_repaired(data: &Path) -> HashSet<AttemptId> {
    for start in 0..2 {
        let ledger = open_at(data, &settings());
        assert!(tells(&ledger.verify().unwrap()), "start {start}");
        assert_eq!(ledger.reach().unwrap().damaged, 1, "start {start}");
        assert_eq!(damaged_names(data), 1, "start {start}");
        drop(ledger);
        assert!(tells(&offline(data)), "start {start}, offline");
    }
    let did = repair_folder(data, false, &Clock::system()).unwrap();
    assert_eq!((did.files.len(), did.not_done.len()), (1, 0), "{did:?}");
    assert_eq!(damaged_names(data), 0);
    let ledger = open_at(data, &settings());
    let rows = ids(&ledger);
    assert_eq!(ledger.verify().unwrap().differences, Vec::<String>::new());
    assert_eq!(ledger.reach().unwrap().damaged, 0);
    drop(ledger);
    assert_eq!(offline(data).differences, Vec::<String>::new());
    rows
}

#[test]
fn a_bad_place_in_the_last_file_of_a_dead_process_is_damage() {
    for length_bad in [1, 16] {
        let data = tempfile::tempdir().unwrap();
        let file = killed(data.path());
        overwrite(&file, length(&file) / 2, length_bad);
        let before = {
            drop(open_store(data.path()));
            assert!(tells(&verify_folder(data.path()).unwrap()));
            let ledger = open_at(data.path(), &settings());
            let rows = ids(&ledger).len() as u64;
            assert_eq!(ledger.reach().unwrap().damaged, 1, "the start tells");
            rows
        };
        assert!(before > ROWS / 3 && before < ROWS, "{before}");
        let rows = told_until_repaired(data.path());
        assert!(rows.len() as u64 >= ROWS - 2, "{} rows", rows.len());
    }
}

#[test]
fn a_write_that_was_not_finished_is_no_damage() {
    for torn in 0..8 {
        let data = tempfile::tempdir().unwrap();
        let file = killed(data.path());
        let mut bytes = fs::read(&file).unwrap();
        // The next file may have its name already, and nothing in it.
        let name = file.file_name().unwrap().to_str().unwrap();
        let next = file.with_file_name(name.replace("-00001", "-00002"));
        match torn {
            4 => fs::write(next, &bytes[..HEADER_LEN]).unwrap(),
            5 => fs::write(next, b"").unwrap(),
            6 => fs::write(next, [0; 100]).unwrap(),
            _ => {}
        }
        match torn {
            0 | 4 | 5 => bytes.truncate(bytes.len() / 2 + 1),
            1 => bytes.resize(bytes.len() + (3 << 20), 0), // room taken ahead
            2 => {
                let half = bytes.len() / 2;
                bytes[half..].fill(0);
            }
            6 => {}
            _ => bytes.extend_from_slice(&[7; 5000]),
        }
        fs::write(&file, bytes).unwrap();
        for start in 0..2 {
            let ledger = open_at(data.path(), &settings());
            assert!(!ids(&ledger).is_empty());
            assert_eq!(
                ledger.verify().unwrap().differences,
                Vec::<String>::new(),
                "{torn} {start}"
            );
            assert_eq!((ledger.reach().unwrap().damaged, damaged_names(data.path())), (0, 0));
            drop(ledger);
            assert_eq!(offline(data.path()).differences, Vec::<String>::new(), "{torn} {start}");
        }
        let did = repair_folder(data.path(), false, &Clock::system()).unwrap();
        assert_eq!((did.files.len(), did.not_done.len()), (0, 0), "{did:?}");
    }
}

/// It is of no use to this program, and no damage: the program that wrote it reads it.
#[test]
fn what_a_newer_version_wrote_is_left_to_it() {
    for record in [false, true] {
        let data = tempfile::tempdir().unwrap();
        let file = killed(data.path());
        let good = fs::read(&file).unwrap();
        let mut bytes = good.clone();
        if record {
            let salt = Salt::from_header(&good[..HEADER_LEN]).unwrap();
            let unknown = |out: &mut Vec<u8>| {
                out.extend_from_slice(&[0xEE; 40]);
                Ok::<_, std::convert::Infallible>(())
            };
            assert!(salt.append(&mut bytes, unknown).unwrap());
        } else {
            bytes[4] += 1;
            let sum = crc32c::crc32c(&bytes[..16]);
            bytes[16..HEADER_LEN].copy_from_slice(&sum.to_le_bytes());
        }
        fs::write(&file, bytes).unwrap();
        let journal = data.path().join("journal");
        let opened = Ledger::start_with(
            &journal,
            &settings(),
            open_store(data.path()),
            Arc::default(),
            Clock::system(),
            no_fatal(),
        );
        let error = opened.err().expect("it can't be read").to_string();
        assert!(error.contains("another version"), "{error}");
        drop(open_store(data.path())); // sled has let go of it
        let error = verify_folder(data.path()).unwrap_err().to_string();
        assert!(error.contains("another version"), "{error}");
        assert_eq!(damaged_names(data.path()), 0);
        fs::write(&file, good).unwrap();
        let ledger = open_at(data.path(), &settings());
        assert_eq!(ids(&ledger).len() as u64, ROWS);
        assert!(ledger.verify().unwrap().ok);
    }
}

#[test]
fn what_goes_bad_after_it_was_taken_in_is_told() {
    // In the middle, in its last record, and cut off between two.
    for place in 0..3 {
        let data = tempfile::tempdir().unwrap();
        killed(data.path());
        assert_eq!(ids(&open_at(data.path(), &settings())).len() as u64, ROWS);
        assert!(offline(data.path()).ok);
        let file = segments(data.path()).remove(0);
        assert!(file.extension().is_some_and(|extension| extension == "done"));
        match place {
            0 => overwrite(&file, length(&file) / 2, 4),
            1 => overwrite(&file, length(&file) - 9, 4),
            _ => {
                let bytes = fs::read(&file).unwrap();
                let salt = Salt::from_header(&bytes).unwrap();
                let mut at = crate::store::frames::HEADER_LEN;
                let mut before = at;
                while let crate::store::frames::Next::Record(payload) = salt.next(&bytes[at..]) {
                    before = at;
                    at += crate::store::frames::FRAME_LEN + payload.len();
                }
                fs::write(&file, &bytes[..before]).unwrap();
            }
        }
        assert!(tells(&offline(data.path())), "place {place}");
        assert!(file.exists(), "a look changes nothing");
        assert_eq!(told_until_repaired(data.path()).len() as u64, ROWS, "place {place}");
    }
}

#[test]
fn a_store_that_is_filled_from_a_file_that_went_bad_tells_what_it_misses() {
    for (sums, earlier_start) in [(true, false), (false, false), (false, true)] {
        let data = tempfile::tempdir().unwrap();
        killed(data.path());
        assert_eq!(ids(&open_at(data.path(), &settings())).len() as u64, ROWS);
        drop(open_store(data.path()));
        let file = segments(data.path()).remove(0);
        overwrite(&file, length(&file) / 2, 4);
        fs::remove_dir_all(data.path().join("store/sled")).unwrap();
        if !sums {
            let _ = fs::remove_file(data.path().join("journal/sums.tgs"));
            let _ = fs::remove_file(data.path().join("journal/sums.tgs.before"));
        }
        if earlier_start {
            // The balances are to be found again too.
            let _ = fs::remove_file(data.path().join("journal/books.tgb"));
            let _ = fs::remove_file(data.path().join("journal/books.tgb.before"));
        }
        for start in 0..2 {
            let ledger = open_at(data.path(), &settings());
            let rows = ids(&ledger).len() as u64;
            assert!(rows > ROWS / 3 && rows < ROWS, "{rows}");
            let reach = ledger.reach().unwrap();
            let missing = reach.refilled.unwrap().rows_missing;
            match sums {
                true => assert_eq!(rows + missing, ROWS, "start {start}"),
                // Of what can't be read nobody knows.
                false => assert!(
                    rows + missing >= ROWS - 2 && rows + missing <= ROWS,
                    "{rows} and {missing}"
                ),
            }
            assert_eq!((reach.damaged, damaged_names(data.path())), (1, 1), "start {start}");
            let verdict = ledger.verify().unwrap();
            assert!(tells(&verdict), "start {start}");
            assert!(
                verdict.notes.iter().any(|note| note.contains("did not come back")),
                "{:?}",
                verdict.notes
            );
        }
    }
}

#[test]
fn a_journal_that_grows_is_not_taken_for_damaged() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    for n in 0..ROWS {
        run_attempt(&ledger, n);
        if n % 60 == 0 {
            assert_eq!(ledger.verify().unwrap().differences, Vec::<String>::new());
        }
    }
    // Beside it, as in an upgrade: what it writes is its own affair.
    let beside = tempfile::tempdir().unwrap();
    copy(&data.path().join("store"), &beside.path().join("store"));
    std::os::unix::fs::symlink(data.path().join("journal"), beside.path().join("journal")).unwrap();
    let other = open_at(beside.path(), &settings());
    for n in 0..ROWS {
        run_attempt(&ledger, ROWS + n);
    }
    assert_eq!(
        (other.reach().unwrap().damaged, ledger.reach().unwrap().damaged),
        (0, 0)
    );
    drop(other);
    assert_eq!(ids(&ledger).len() as u64, 2 * ROWS);
    assert_eq!(damaged_names(data.path()), 0);
}
