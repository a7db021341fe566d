//! A full disk is waited out; any other failure is not.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::tests::{all_rows, copy, open_at, open_store, run_attempt, settings};
use super::*;

/// A disk with so much room; what does not fit is refused, after as much of it as fits was written.
#[derive(Clone)]
struct Disk(Arc<AtomicU64>);

impl Disk {
    fn hook(&self) -> journal::WriteHook {
        let room = self.0.clone();
        Arc::new(move |mut file: &File, bytes: &[u8]| {
            let left = room.load(Ordering::SeqCst);
            let fits = bytes.len().min(usize::try_from(left).unwrap());
            if fits == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            room.fetch_sub(fits as u64, Ordering::SeqCst);
            file.write(&bytes[..fits])
        })
    }
}

fn open_on(data: &Path, write: journal::WriteHook, ballast: u64, fatal: FatalHook) -> Ledger {
    let folder = data.join("journal");
    let settings = journal::Settings {
        folder,
        durability: crate::config::Durability::Process,
        queue: 8192,
        segment: 1 << 20,
        sync_every: Duration::from_millis(5),
        min_free: 0,
        ballast,
        archive: 1 << 30,
        keep_rows: None,
        clock: Clock::system(),
        write,
        fatal,
    };
    Ledger::start_by(settings, open_store(data), Arc::default()).unwrap()
}

fn no_fatal() -> FatalHook {
    Arc::new(|error| panic!("the journal failed: {error}"))
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !done() {
        assert!(Instant::now() < end, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_keeps_what_is_open_and_recovers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let data = tempfile::tempdir().unwrap();
    let disk = Disk(Arc::new(AtomicU64::new(u64::MAX / 2)));
    let ledger = open_on(data.path(), disk.hook(), 0, no_fatal());
    runtime.block_on(ledger.admit()).unwrap();
    let open: Vec<_> = (0..50).map(|n| ledger.open(samples::opening(n))).collect();
    runtime.block_on(open[49].written());
    disk.0.store(100, Ordering::SeqCst); // less than one record
    let late = ledger.open(samples::opening(50));
    for entry in open {
        entry.close(Ended::Complete);
    }
    until("the writer finds no room", || {
        ledger.0.journal.stuck.load(Ordering::SeqCst)
    });
    assert!(matches!(runtime.block_on(ledger.admit()), Err(LedgerError::DiskFull)));
    assert!(!late.is_written(), "its provider is not called");
    // A kill now: what is in the file is whole.
    let killed = tempfile::tempdir().unwrap();
    copy(data.path(), killed.path());
    let rows = all_rows(&open_at(killed.path(), &settings()));
    assert!(rows.len() >= 50, "openings were written before: {}", rows.len());
    assert_eq!(ledger.status().open, 1, "asking how it is does not wait for room");
    disk.0.store(u64::MAX / 2, Ordering::SeqCst);
    runtime.block_on(late.written());
    runtime.block_on(ledger.admit()).unwrap();
    drop(late);
    let rows = all_rows(&ledger);
    assert_eq!(rows.len(), 51, "nothing lost, nothing twice");
    assert_eq!(rows.iter().filter(|row| row.ended == Ended::Complete).count(), 50);
}

#[test]
fn the_ballast_makes_room_for_what_is_open() {
    let data = tempfile::tempdir().unwrap();
    let full = Arc::new(AtomicU64::new(0));
    let ballast = data.path().join("journal/ballast");
    let hook: journal::WriteHook = {
        let (full, ballast) = (full.clone(), ballast.clone());
        Arc::new(move |mut file: &File, bytes: &[u8]| {
            if full.load(Ordering::SeqCst) == 1 && ballast.exists() {
                return Err(io::Error::from(ErrorKind::QuotaExceeded));
            }
            file.write(bytes)
        })
    };
    let ledger = open_on(data.path(), hook, 1 << 20, no_fatal());
    until("the ballast is made", || ballast.exists());
    assert_eq!(fs::metadata(&ballast).unwrap().len(), 1 << 20);
    full.store(1, Ordering::SeqCst);
    run_attempt(&ledger, 1);
    until("it is written in the ballast's place", || {
        ledger.0.journal.queued() == 0
    });
    assert!(!ledger.0.journal.stuck.load(Ordering::SeqCst));
    full.store(0, Ordering::SeqCst);
    until("the ballast is made again", || ballast.exists());
    assert_eq!(all_rows(&ledger).len(), 1);
}

#[test]
fn an_error_that_is_no_lack_of_room_stops_the_journal() {
    let data = tempfile::tempdir().unwrap();
    let (tell, told) = mpsc::channel();
    let hook: FatalHook = Arc::new(move |error| drop(tell.send(error.to_string())));
    let broken: journal::WriteHook = Arc::new(|_, _| Err(io::Error::from_raw_os_error(5)));
    let ledger = open_on(data.path(), broken, 0, hook);
    run_attempt(&ledger, 1);
    assert!(told.recv_timeout(Duration::from_secs(30)).unwrap().contains("journal"));
    assert!(ledger.0.journal.failed.load(Ordering::SeqCst));
}
