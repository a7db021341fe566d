//! What adds up is found to, and what does not is found not to; power cuts leave what adds up.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::tests::{all_rows, copy, open_at, open_store, open_with, run_attempt, segments, settings};
use super::*;
use crate::clock::UnixMicros;
use crate::limits::AccountId;

#[test]
fn what_adds_up_is_found_to() {
    let data = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 8 << 10;
    small.keep_rows = Some(Duration::from_secs(86_400));
    for start in 0..3 {
        let accounts = Arc::new(Accounts::new());
        let ledger = open_with(data.path(), &small, accounts.clone());
        let long = ledger.open(samples::opening(7));
        for n in 0..300 {
            let mut opening = samples::opening(start * 300 + n);
            opening.at = UnixMicros(opening.at.0 + n as i64 * 600_000_000); // two days
            let mut entry = ledger.open(opening);
            entry.closing = samples::closing(n);
            entry.close(Ended::Complete);
        }
        let verdict = ledger.verify().unwrap();
        assert_eq!(verdict.differences, Vec::<String>::new(), "start {start}");
        assert!(verdict.ok && verdict.quiet);
        assert_eq!(verdict.open, 1);
        drop(long);
        ledger.shut_down();
        drop((ledger, accounts));
        // The same without a gateway, as it was left, and as a killed one leaves it.
        drop(open_store(data.path()));
        let verdict = verify_folder(data.path()).unwrap();
        assert_eq!(verdict.differences, Vec::<String>::new(), "start {start}, offline");
    }
}

#[test]
fn what_does_not_add_up_is_found() {
    let data = tempfile::tempdir().unwrap();
    let accounts = Arc::new(Accounts::new());
    let ledger = open_with(data.path(), &settings(), accounts.clone());
    for n in 0..300 {
        run_attempt(&ledger, n);
    }
    assert!(ledger.verify().unwrap().ok);
    let account = accounts.get(&AccountId::Key(crate::ids::KeyId("key1".into())));
    let right = account.balance(Clock::system().now());
    let mut wrong = right;
    wrong.0[3].spent.requests += 1;
    account.restore(wrong);
    let verdict = ledger.verify().unwrap();
    assert!(!verdict.ok);
    assert!(verdict.differences[0].contains("key key1"), "{:?}", verdict.differences);
    account.restore(right);
    assert!(ledger.verify().unwrap().ok);
    // A block of rows is lost.
    let rows = ledger.0.store.rows();
    let (first, _) = rows.spans(crate::store::rows::BlockKey(0)).next().unwrap().unwrap();
    rows.remove(&[first], 0, rows.total().unwrap()).unwrap();
    let verdict = ledger.verify().unwrap();
    assert!(!verdict.ok);
    assert!(
        verdict.differences.iter().any(|told| told.contains("are no rows")),
        "{:?}",
        verdict.differences
    );
    assert!(
        verdict.differences.iter().any(|told| told.contains("the sums")),
        "{:?}",
        verdict.differences
    );
}

/// A number below `n`, the same in each run.
fn draw(state: &mut u64, n: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) % n.max(1)
}

/// What a power cut leaves of the files written since they were synced: sled's are torn as well, it never syncs.
fn tear(data: &Path, boot: &str, synced: segment::Position, state: &mut u64) {
    for path in segments(data) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(boot) else { continue };
        let number: u32 = rest[1..6].parse().unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        let safe = match number.cmp(&synced.segment) {
            std::cmp::Ordering::Less => length,
            std::cmp::Ordering::Equal => synced.offset.min(length),
            std::cmp::Ordering::Greater => 0,
        };
        let cut = safe + draw(state, length - safe + 1);
        file.set_len(cut).unwrap();
        if draw(state, 2) == 0 && cut > safe {
            // A page that never came: zeroes.
            let from = safe + draw(state, cut - safe);
            let mut until = cut;
            if draw(state, 2) == 0 {
                // And those behind it came.
                until = from + draw(state, cut - from);
            }
            file.write_all_at(&vec![0; (until - from) as usize], from).unwrap();
        }
    }
    for entry in fs::read_dir(data.join("store/sled")).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_file() || draw(state, 2) == 0 {
            continue;
        }
        let file = File::options().write(true).open(&path).unwrap();
        let length = file.metadata().unwrap().len();
        match draw(state, 3) {
            0 => file.set_len(draw(state, length + 1)).unwrap(),
            1 => {
                let page = draw(state, length / 4096 + 1) * 4096;
                file.write_all_at(&[0; 4096], page).unwrap();
            }
            _ => {}
        }
    }
}

/// A power cut takes all files at one moment, a copy one after the other, and threads may be at work yet. So what follows from something
/// is copied before it: rows and checkpoints are never ahead of what is synced, which is told, nor that of the journal.
fn copy_as_it_grew(ledger: &Ledger, data: &Path, cut: &Path) -> segment::Position {
    copy(&data.join("store"), &cut.join("store"));
    let (from, to) = (data.join("journal"), cut.join("journal"));
    fs::create_dir_all(&to).unwrap();
    let mut files: Vec<_> = fs::read_dir(&from)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    let (segments, others): (Vec<_>, Vec<_>) = files
        .drain(..)
        .partition(|path| path.to_string_lossy().contains(".tgj"));
    let copy = |files: Vec<std::path::PathBuf>| {
        for file in files {
            drop(fs::copy(&file, to.join(file.file_name().unwrap()))); // may be renamed or removed meanwhile
        }
    };
    copy(others);
    let synced = ledger.0.journal.synced_end.lock().position;
    copy(segments);
    synced
}

#[test]
fn a_power_cut_leaves_books_that_are_right() {
    let rounds = if std::env::var_os("TOLLGATE_LONG").is_some() {
        20
    } else {
        5
    };
    let mut state = 1;
    for round in 0..rounds {
        let data = tempfile::tempdir().unwrap();
        let mut small = settings();
        small.segment = 1 << 20;
        let ledger = open_at(data.path(), &small);
        let stop = AtomicBool::new(false);
        let numbers = AtomicU64::new(0);
        let closed = Mutex::new(Vec::new());
        let cut = tempfile::tempdir().unwrap();
        let known = std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let n = numbers.fetch_add(1, Ordering::Relaxed);
                        let row = run_attempt(&ledger, n);
                        closed.lock().push(row.opening.id);
                        if n.is_multiple_of(64) {
                            std::thread::sleep(Duration::from_millis(1));
                        }
                    }
                });
            }
            std::thread::sleep(Duration::from_millis(50 + draw(&mut state, 300)));
            if round % 2 == 0 {
                ledger.status();
            }
            let known = closed.lock().clone();
            assert!(ledger.0.journal.settle_down());
            let boot = ledger.0.journal.boot.clone();
            std::thread::sleep(Duration::from_millis(draw(&mut state, 30)));
            // Nothing is written any more, but to say what was taken in.
            stop.store(true, Ordering::Relaxed);
            let mut synced = segment::Position::default();
            for _ in 0..100 {
                let names = segments(data.path());
                synced = copy_as_it_grew(&ledger, data.path(), cut.path());
                if segments(data.path()) == names && segments(cut.path()).len() == names.len() {
                    break;
                }
                fs::remove_dir_all(cut.path().join("journal")).unwrap();
                fs::remove_dir_all(cut.path().join("store")).unwrap();
            }
            tear(cut.path(), &boot, synced, &mut state);
            known
        });
        let begun = std::time::Instant::now();
        let accounts = Arc::new(Accounts::new());
        let mut again = open_with(cut.path(), &small, accounts);
        println!("round {round}: started in {:?}", begun.elapsed());
        if again.verify().is_err() {
            // sled broke while it was read: the next start moves it aside.
            drop(again);
            again = open_at(cut.path(), &small);
        }
        let ids: HashSet<_> = all_rows(&again).iter().map(|row| row.opening.id).collect();
        let lost = known.iter().filter(|id| !ids.contains(id)).count();
        assert_eq!(lost, 0, "round {round}: of {} synced attempts", known.len());
        // A file with a bad place is told of, but for a torn end; what stands before it is booked.
        let mut differences = again.verify().unwrap().differences;
        differences.retain(|told| !told.contains("is damaged at byte"));
        assert_eq!(differences, Vec::<String>::new(), "round {round}");
    }
}
