//! The ledger as a whole: every attempt is one row, whatever happens.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::UnixMicros;
use crate::config::Durability;
use crate::ids::AttemptId;
use crate::ir::Usage;
use crate::store::StoreError;
use crate::store::frames::HEADER_LEN;

pub(super) fn settings() -> crate::config::Ledger {
    crate::config::Ledger {
        durability: Durability::Process,
        queue: 8192,
        segment: 1 << 20,
        sync_every: Duration::from_millis(5),
        min_free: 0,
        ballast: 0,
        ..crate::config::Ledger::default()
    }
}

pub(super) fn no_fatal() -> FatalHook {
    Arc::new(|error| panic!("the journal failed: {error}"))
}

/// How long a store may stay locked after it was dropped: sled lets go of its lock from a thread of its own.
const LET_GO: Duration = Duration::from_secs(10);

pub(super) fn open_store(data: &Path) -> Arc<Store> {
    let end = std::time::Instant::now() + LET_GO;
    loop {
        match Store::open(&data.join("store"), 16 << 20) {
            Err(StoreError::Held) if std::time::Instant::now() < end => std::thread::yield_now(),
            opened => break Arc::new(opened.unwrap()),
        }
    }
}

pub(super) fn open_at(data: &Path, settings: &crate::config::Ledger) -> Ledger {
    open_with(data, settings, Arc::default())
}

pub(super) fn open_with(data: &Path, settings: &crate::config::Ledger, accounts: Arc<Accounts>) -> Ledger {
    Ledger::start_with(
        &data.join("journal"),
        settings,
        open_store(data),
        accounts,
        Clock::system(),
        no_fatal(),
    )
    .unwrap()
}

pub(super) fn all_rows(ledger: &Ledger) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut after = None;
    loop {
        let page = ledger.rows(&Filter::default(), after, 97).unwrap();
        rows.extend(page.rows);
        match page.next {
            Some(next) => after = Some(next),
            None => return rows,
        }
    }
}

pub(super) fn run_attempt(ledger: &Ledger, n: u64) -> Row {
    let row = samples::row(n);
    let mut entry = ledger.open(row.opening.clone());
    entry.closing = row.closing.clone();
    entry.close(row.ended);
    row
}

/// A copy of the folder as a killed process would have left it: the locks are not held on the copies.
pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => copy(&entry.path(), &to),
            _ => drop(fs::copy(entry.path(), to)), // may be renamed or removed meanwhile
        }
    }
}

pub(super) fn segments(data: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(data.join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".tgj"))
        .collect();
    files.sort();
    files
}

#[test]
fn an_attempt_becomes_one_row() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    let row = run_attempt(&ledger, 3);
    assert_eq!(all_rows(&ledger), std::slice::from_ref(&row));
    let status = ledger.status();
    assert_eq!((status.open, status.rows), (0, 1));
    ledger.shut_down();
    ledger.shut_down();
    assert_eq!(
        all_rows(&ledger),
        std::slice::from_ref(&row),
        "a ledger that was shut down can be read"
    );
    drop(ledger);
    assert_eq!(all_rows(&open_at(data.path(), &settings())), [row]);
}

#[test]
fn a_dropped_entry_is_closed_also_by_a_panic() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    let (dropped, panicked) = (samples::opening(1), samples::opening(2));
    let mut entry = ledger.open(dropped.clone());
    entry.closing.response_bytes = 77;
    drop(entry);
    let ledger_there = ledger.clone();
    let opening = panicked.clone();
    let thread = std::thread::spawn(move || {
        let _entry = ledger_there.open(opening);
        panic!("as asked by the test");
    });
    assert!(thread.join().is_err());
    let rows: HashMap<_, _> = all_rows(&ledger).into_iter().map(|row| (row.opening.id, row)).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[&dropped.id].ended, Ended::Interrupted);
    assert_eq!(rows[&dropped.id].closing.response_bytes, 77, "what was known is kept");
    assert_eq!(rows[&panicked.id].ended, Ended::Panicked);
    assert_eq!(ledger.status().open, 0);
}

#[test]
fn what_a_dead_process_left_open_is_interrupted_once() {
    let data = tempfile::tempdir().unwrap();
    let copied = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 4096; // the openings stand many segments before the end
    let ledger = open_at(data.path(), &small);
    let long = ledger.open(samples::opening(1));
    let mut closed = HashSet::new();
    for n in 2..200 {
        closed.insert(run_attempt(&ledger, n).opening.id);
    }
    let other = ledger.open(samples::opening(200));
    let open: HashSet<_> = [long.id(), other.id()].into();
    assert_eq!(ledger.status().rows, 198);
    copy(data.path(), copied.path());
    for start in 0..3 {
        let ledger = open_at(copied.path(), &small);
        let rows = all_rows(&ledger);
        let by_id: HashMap<_, _> = rows.iter().map(|row| (row.opening.id, row.ended)).collect();
        assert_eq!(rows.len(), by_id.len(), "start {start}: no row twice");
        assert_eq!(rows.len(), 200, "start {start}: every attempt has its row");
        for (id, ended) in by_id {
            assert_eq!(ended == Ended::Interrupted, open.contains(&id), "start {start}: {id}");
            assert!(open.contains(&id) || closed.contains(&id));
        }
    }
    drop((long, other));
    assert_eq!(all_rows(&ledger).len(), 200, "and here they ended otherwise");
}

#[test]
fn eight_threads_leave_exact_rows_and_sums() {
    const THREADS: u64 = 8;
    const EACH: u64 = 10_000;
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let ledger = &ledger;
            scope.spawn(move || {
                for n in 0..EACH {
                    run_attempt(ledger, thread * EACH + n);
                }
            });
        }
    });
    let mut expected = ReportLine::default();
    for n in 0..THREADS * EACH {
        let closing = samples::closing(n);
        expected.requests += u64::from(samples::opening(n).attempt == 1);
        expected.attempts += 1;
        expected.complete += 1;
        expected.estimated += u64::from(closing.estimated);
        expected.unpriced += u64::from(closing.cost.is_none());
        expected.cost += closing.cost.unwrap_or_default();
        expected.charge += closing.charge;
        expected.request_bytes += closing.request_bytes;
        expected.response_bytes += closing.response_bytes;
        match closing.usage {
            None => expected.without_usage += 1,
            Some(usage) => {
                let to = &mut expected.usage;
                *to = Usage {
                    input: to.input + usage.input,
                    cache_read: to.cache_read + usage.cache_read,
                    cache_write_5m: to.cache_write_5m + usage.cache_write_5m,
                    cache_write_1h: to.cache_write_1h + usage.cache_write_1h,
                    input_audio: to.input_audio + usage.input_audio,
                    output: to.output + usage.output,
                    reasoning: to.reasoning + usage.reasoning,
                    output_audio: to.output_audio + usage.output_audio,
                    ..Usage::default()
                };
            }
        }
    }
    assert_eq!(ledger.report(&Filter::default(), &[]).unwrap(), [expected]);
    assert_eq!(ledger.status().rows, THREADS * EACH);
    let by = ledger
        .report(&Filter::default(), &[GroupBy::Key, GroupBy::Credential])
        .unwrap();
    assert_eq!(by.len(), 10);
    assert_eq!(by[0].group, ["key0", "one/main"]);
    assert_eq!(by.iter().map(|line| line.attempts).sum::<u64>(), THREADS * EACH);
    let of_one = Filter {
        key: Some("key3".into()),
        ..Filter::default()
    };
    let days = ledger.report(&of_one, &[GroupBy::Day]).unwrap();
    assert_eq!(days.iter().map(|line| line.attempts).sum::<u64>(), THREADS * EACH / 5);
    assert_eq!(days[0].group, ["2023-11-14"]);
}

#[test]
fn paging_misses_nothing_while_rows_arrive() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    let writer = {
        let ledger = ledger.clone();
        std::thread::spawn(move || {
            (0..5000)
                .map(|n| run_attempt(&ledger, n).opening.id)
                .collect::<Vec<_>>()
        })
    };
    let mut seen = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let finished = writer.is_finished();
        let page = ledger.rows(&Filter::default(), after, 50).unwrap();
        seen.extend(page.rows.iter().map(|row| row.opening.id));
        match page.next {
            // As a client hands it back.
            Some(next) => after = Some(next.to_string().parse().unwrap()),
            None if finished => break,
            None => {
                // The end of what there was: the page's rows are thrown away and read again from the last cursor.
                seen.truncate(seen.len() - page.rows.len());
            }
        }
    }
    assert_eq!(
        seen,
        writer.join().unwrap(),
        "one thread's attempts come in its order, each once"
    );
}

#[test]
fn filters_by_time_skip_no_row() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    // Ends in another order than it begins, as streams do; over several blocks and passes of the ingest.
    let times: Vec<i64> = (0..1000)
        .map(|n| 1_700_000_000_000_000 + (n * 7919) % 1000 * 1000)
        .collect();
    for (n, &at) in times.iter().enumerate() {
        let mut opening = samples::opening(n as u64);
        opening.at = UnixMicros(at);
        ledger.open(opening).close(Ended::Complete);
        if n % 300 == 0 {
            ledger.status();
        }
    }
    for (from, until) in [(0, 1000), (100, 101), (0, 1), (999, 1000), (333, 777), (500, 500)] {
        let at = |n: i64| UnixMicros(1_700_000_000_000_000 + n * 1000);
        let filter = Filter {
            from: Some(at(from)),
            until: Some(at(until)),
            ..Filter::default()
        };
        let page = ledger.rows(&filter, None, PAGE).unwrap();
        assert_eq!(page.rows.len() as i64, until - from, "from {from} until {until}");
    }
}

const PAGE: usize = query::PAGE_MAX;

#[test]
fn a_request_is_found_by_its_id() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    for n in 0..300 {
        run_attempt(&ledger, n);
    }
    let filter = Filter {
        request: Some(crate::ids::RequestId("request-217".into())),
        ..Filter::default()
    };
    let page = ledger.rows(&filter, None, 10).unwrap();
    assert_eq!(page.rows.len(), 1);
    assert_eq!(page.rows[0].closing, samples::closing(217));
    assert_eq!(page.next, None);
}

#[test]
fn a_lost_or_broken_store_is_filled_again() {
    let data = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 16 << 10;
    let mut expected = HashSet::new();
    for run in 0..3 {
        let ledger = open_at(data.path(), &small);
        for n in 0..300 {
            expected.insert(run_attempt(&ledger, run * 300 + n).opening.id);
        }
    }
    for damage in 0..2 {
        let sled = data.path().join("store/sled");
        if damage == 0 {
            fs::remove_dir_all(&sled).unwrap();
        } else {
            fs::write(data.path().join("store/condemned"), b"").unwrap();
        }
        let ledger = open_at(data.path(), &small);
        let rows = all_rows(&ledger);
        assert_eq!(rows.len(), 900, "damage {damage}");
        let ids: HashSet<_> = rows.iter().map(|row| row.opening.id).collect();
        assert_eq!(ids, expected);
        assert!(rows.iter().all(|row| row.ended == Ended::Complete));
    }
}

#[test]
fn a_damaged_journal_gives_what_stands_before_the_damage_and_is_kept() {
    let data = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 4 << 10;
    let copied = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &small);
    let mut written = Vec::new();
    for n in 0..100 {
        let row = samples::row(n);
        let mut entry = ledger.open(row.opening.clone());
        entry.closing = row.closing.clone();
        entry.close(row.ended);
        written.push(row);
        while ledger.0.journal.queued() > 0 {
            std::thread::yield_now(); // so that segments are rotated between attempts
        }
    }
    copy(&data.path().join("journal"), &copied.path().join("journal"));
    let files = segments(copied.path());
    assert!(files.len() > 3);
    let mut bytes = fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&files[1], &bytes).unwrap();
    for _ in 0..2 {
        let ledger = open_at(copied.path(), &small);
        let rows = all_rows(&ledger);
        let ids: HashSet<_> = rows.iter().map(|row| row.opening.id).collect();
        assert_eq!(ids.len(), rows.len(), "no row twice");
        assert!(rows.len() < 100 && rows.len() > 60, "{} rows", rows.len());
        for row in &rows {
            let original = written
                .iter()
                .find(|written| written.opening.id == row.opening.id)
                .unwrap();
            assert!(row == original || row.ended == Ended::Interrupted, "never a wrong row");
        }
        assert_eq!(rows[0], written[0], "what stands before the damage is there");
        assert!(ids.contains(&written[99].opening.id), "and the segments behind it");
        drop(ledger);
        let damaged = segments(copied.path())
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "damaged"))
            .count();
        assert_eq!(damaged, 1, "the file is kept for people to look at");
    }
}

#[test]
fn killed_at_any_moment_no_row_is_lost_or_doubled() {
    let data = tempfile::tempdir().unwrap();
    let mut small = settings();
    small.segment = 32 << 10;
    let ledger = open_at(data.path(), &small);
    let (stop, stopped) = mpsc::channel::<()>();
    let worker = {
        let ledger = ledger.clone();
        std::thread::spawn(move || {
            let mut n = 0;
            while stopped.try_recv().is_err() && n < 30_000 {
                run_attempt(&ledger, n);
                n += 1;
                if n % 500 == 0 {
                    ledger.status(); // an ingest in the middle of it
                }
            }
            n
        })
    };
    for round in 0..6 {
        let killed = tempfile::tempdir().unwrap();
        // The store first: what it knows of the journal is in the journal's copy. sled's own files are copied while they
        // are written, as a torn kill would leave them at worst; it may have to be filled again.
        copy(data.path(), killed.path());
        let before = ledger.status().rows;
        let journal = killed.path().join("journal");
        // Segments are renamed when they are done: copied again until no name changed meanwhile.
        loop {
            fs::remove_dir_all(&journal).unwrap();
            let names = segments(data.path());
            copy(&data.path().join("journal"), &journal);
            if segments(data.path()) == names && segments(killed.path()).len() == names.len() {
                break;
            }
        }
        let again = open_at(killed.path(), &small);
        let rows = all_rows(&again);
        let ids: HashSet<_> = rows.iter().map(|row| row.opening.id).collect();
        assert_eq!(ids.len(), rows.len(), "round {round}: a row twice");
        assert!(
            rows.len() as u64 >= before,
            "round {round}: {} of {before} rows",
            rows.len()
        );
        let interrupted = rows.iter().filter(|row| row.ended == Ended::Interrupted).count();
        assert!(
            interrupted <= 1,
            "round {round}: one thread has one attempt open at most"
        );
    }
    let _ = stop.send(());
    let written = worker.join().unwrap();
    assert_eq!(ledger.status().rows, written);
}

#[test]
fn a_full_queue_refuses_and_a_full_disk_too() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let mut none = settings();
    none.queue = 0;
    let ledger = open_at(data.path(), &none);
    assert!(matches!(runtime.block_on(ledger.admit()), Err(LedgerError::Behind)));
    drop(ledger);
    let mut full = settings();
    full.min_free = u64::MAX;
    let ledger = open_at(data.path(), &full);
    assert!(matches!(runtime.block_on(ledger.admit()), Err(LedgerError::DiskFull)));
    drop(ledger);
    let ledger = open_at(data.path(), &settings());
    runtime.block_on(ledger.admit()).unwrap();
}

#[test]
fn written_returns_when_it_is_in_the_file_or_on_the_disk() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    for durability in [Durability::Process, Durability::Power] {
        let data = tempfile::tempdir().unwrap();
        let ledger = open_at(
            data.path(),
            &crate::config::Ledger {
                durability,
                ..settings()
            },
        );
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let ledger = ledger.clone();
                runtime.spawn(async move {
                    ledger.admit().await.unwrap();
                    let entry = ledger.open(samples::opening(n));
                    entry.written().await;
                    assert!(entry.is_written());
                    let id = entry.id();
                    entry.close(Ended::Complete);
                    id
                })
            })
            .collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        if durability == Durability::Power {
            assert!(ledger.0.journal.synced.load(Ordering::Acquire) > 0);
        }
        assert_eq!(ledger.status().rows, 200);
    }
}

#[test]
fn an_opening_that_is_written_is_in_the_file() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    for n in 0..50 {
        let mut opening = samples::opening(n);
        opening.model = format!("model-number-{n}.").into();
        let model = opening.model.clone();
        let entry = ledger.open(opening);
        runtime.block_on(entry.written());
        let bytes = fs::read(&segments(data.path())[0]).unwrap();
        assert!(
            bytes.windows(model.len()).any(|window| window == model.as_bytes()),
            "after written() a kill can't lose the opening"
        );
    }
}

/// Whichever of the two threads writes the last row.
#[test]
fn a_stop_syncs_and_takes_in_the_last_row_too() {
    for n in 0..60 {
        let data = tempfile::tempdir().unwrap();
        let ledger = open_at(data.path(), &settings());
        let row = samples::row(n);
        let mut entry = ledger.open(row.opening.clone());
        entry.closing = row.closing;
        entry.close(row.ended);
        ledger.shut_down();
        let journal = &ledger.0.journal;
        assert_eq!(journal.synced.load(Ordering::SeqCst), journal.handed(), "round {n}");
        assert_eq!(all_rows(&ledger).len(), 1, "round {n}");
    }
}

/// Who finds another one writing goes by it that this one writes for him too: nobody may wait for ever, nor for the second's sleep of
/// a writer that nobody wakes.
#[test]
fn who_waits_while_another_writes_is_written_too() {
    const THREADS: u64 = 8;
    const EACH: u64 = 400;
    for durability in [Durability::Process, Durability::Power] {
        let data = tempfile::tempdir().unwrap();
        let settings = crate::config::Ledger {
            durability,
            ..settings()
        };
        let ledger = Arc::new(open_at(data.path(), &settings));
        let (done, all_done) = mpsc::channel();
        for thread in 0..THREADS {
            let (ledger, done) = (ledger.clone(), done.clone());
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for n in 0..EACH {
                    let row = samples::row(thread * EACH + n);
                    let mut entry = ledger.open(row.opening.clone());
                    runtime.block_on(entry.written());
                    assert!(entry.is_written());
                    entry.closing = row.closing;
                    entry.close(row.ended);
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..THREADS {
            // Far more than it takes; a lost wake-up would last for ever.
            all_done.recv_timeout(Duration::from_secs(120)).unwrap();
        }
        assert_eq!(all_rows(&ledger).len() as u64, THREADS * EACH);
    }
}

#[test]
fn a_journal_that_fails_is_reported_and_nothing_more_is_admitted() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&data.path().join("store"), 16 << 20).unwrap());
    let (tell, told) = mpsc::channel();
    let hook: FatalHook = Arc::new(move |error| drop(tell.send(error.to_string())));
    let mut small = settings();
    small.segment = 1; // a new file for each batch
    let folder = data.path().join("journal");
    let ledger = Ledger::start_with(&folder, &small, store, Arc::default(), Clock::system(), hook).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    run_attempt(&ledger, 1);
    let error = told.recv_timeout(Duration::from_secs(30)).unwrap();
    assert!(error.contains("journal"), "{error}");
    assert!(matches!(runtime.block_on(ledger.admit()), Err(LedgerError::Behind)));
}

#[test]
fn a_live_process_beside_is_left_alone_until_it_is_dead() {
    let old = tempfile::tempdir().unwrap();
    let ledger = open_at(old.path(), &settings());
    run_attempt(&ledger, 1);
    assert_eq!(ledger.status().rows, 1);
    // Another store on the same journals: as a new process in an upgrade.
    let new = tempfile::tempdir().unwrap();
    let store = || Arc::new(Store::open(&new.path().join("store"), 16 << 20).unwrap());
    let folder = old.path().join("journal");
    let start = || {
        Ledger::start_with(
            &folder,
            &settings(),
            store(),
            Arc::default(),
            Clock::system(),
            no_fatal(),
        )
        .unwrap()
    };
    let beside = start();
    assert_eq!(all_rows(&beside).len(), 0, "a living process's journal is not taken in");
    drop(beside);
    drop(ledger);
    assert_eq!(all_rows(&start()).len(), 1, "a dead one's is");
}

#[test]
fn long_texts_do_not_break_a_record() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    let mut opening = samples::opening(1);
    opening.model = "m".repeat(10_000_000).into();
    ledger.open(opening).close(Ended::Complete);
    assert_eq!(all_rows(&ledger)[0].opening.model.len(), 512);
}

#[test]
fn too_many_groups_are_an_error() {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    for n in 0..=query::GROUPS_MAX {
        let mut opening = samples::opening(n as u64);
        opening.model = format!("model-{n}").into();
        ledger.open(opening).close(Ended::Complete);
    }
    assert!(matches!(
        ledger.report(&Filter::default(), &[GroupBy::Model]),
        Err(LedgerError::TooManyGroups { .. })
    ));
    assert_eq!(
        ledger.report(&Filter::default(), &[GroupBy::Provider]).unwrap().len(),
        2
    );
}

/// One dead process's journal, of one segment, and what was in it.
fn dead_journal() -> (Vec<u8>, String, BTreeMap<AttemptId, Row>) {
    let data = tempfile::tempdir().unwrap();
    let ledger = open_at(data.path(), &settings());
    let mut rows = BTreeMap::new();
    let mut open = Vec::new();
    for n in 0..40 {
        let row = if n % 5 == 0 {
            let opening = samples::opening(n);
            open.push(ledger.open(opening.clone()));
            Row {
                opening,
                closing: Closing::default(),
                ended: Ended::Interrupted,
            }
        } else {
            run_attempt(&ledger, n)
        };
        rows.insert(row.opening.id, row);
    }
    assert_eq!(ledger.status().rows, 32);
    let file = &segments(data.path())[0];
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    (fs::read(file).unwrap(), name, rows)
}

/// Takes in a journal with these bytes in its only, or its first of two, segments.
fn take_in(bytes: &[u8], name: &str, followed_by: Option<&[u8]>) -> Vec<Row> {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("journal");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(name), bytes).unwrap();
    if let Some(bytes) = followed_by {
        fs::write(folder.join(name.replace("-00001", "-00002")), bytes).unwrap();
    }
    let store = Arc::new(Store::open(&data.path().join("store"), 16 << 20).unwrap());
    let requests = ingest::Requests::default();
    for _ in 0..2 {
        let boot = "f".repeat(32);
        let keeper = Arc::new(Bookkeeper::open(&folder, &boot, Arc::default()).unwrap());
        let mut ingest = ingest::Ingest::new(folder.clone(), boot, 1 << 30, store.clone(), keeper).unwrap();
        ingest.take_in_the_dead(&requests).unwrap();
    }
    query::rows(&store, &Filter::default(), None, PAGE).unwrap().rows
}

fn check(rows: &[Row], written: &BTreeMap<AttemptId, Row>) -> Result<(), TestCaseError> {
    let mut seen = HashSet::new();
    for row in rows {
        prop_assert!(seen.insert(row.opening.id), "a row twice");
        let original = &written[&row.opening.id];
        let interrupted = Row {
            closing: Closing::unknown(&original.opening),
            ended: Ended::Interrupted,
            ..original.clone()
        };
        prop_assert!(*row == *original || *row == interrupted, "a wrong row");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_cut_journal_gives_what_is_left_of_it(part in 0.0..=1.0f64) {
        let (bytes, name, written) = dead_journal();
        let cut = (bytes.len() as f64 * part) as usize;
        let rows = take_in(&bytes[..cut], &name, None);
        check(&rows, &written)?;
        if cut == bytes.len() {
            prop_assert_eq!(rows.len(), written.len());
        }
    }

    #[test]
    fn a_flipped_bit_gives_no_wrong_row(part in 0.0..1.0f64, bit in 0..8u8, zeroes in 0..100usize) {
        let (mut bytes, name, written) = dead_journal();
        let at = (bytes.len() as f64 * part) as usize;
        bytes[at] ^= 1 << bit;
        let rows = take_in(&bytes, &name, None);
        check(&rows, &written)?;
        prop_assert!(at < HEADER_LEN || rows.len() <= written.len());
        // The same in the middle of a journal, and with the zeroes which a power cut may leave.
        bytes.extend(std::iter::repeat_n(0, zeroes));
        let (whole, _, _) = dead_journal();
        let rows = take_in(&bytes, &name, Some(&whole[..HEADER_LEN]));
        check(&rows, &written)?;
    }
}
