//! The journal of this process: what request threads hand over, and what the writer's threads make of it.
//!
//! A record is encoded by the thread it comes from and appended to a shared buffer. The writer swaps that buffer for an empty
//! one and writes it with one `write(2)`: from then on the record survives the death of the process. A second thread syncs
//! the file, so that a slow disk does not delay the next write; from then on it survives a power cut.
//!
//! Waking a sleeping thread costs system calls and context switches, more than all the rest of handing over. So after each
//! batch the writer naps for [`NAP`] and looks again by itself; only when it found nothing does it sleep until it is woken.
//! And who waits for a record does not wake it, but writes what waits itself, if it is little ([`HELP_MOST`]): one `write(2)` into
//! the page cache, about a microsecond. If somebody else is writing just then, that one looks again when it is done
//! ([`Journal::is_wanted`]), and writes this record too. Only syncing, which waits for the disk, is never done by a request's thread.

use std::cell::RefCell;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::config::Durability;
use crate::limits::Accounts;
use crate::store::frames::Salt;

use super::segment::{Boot, Position, io_error};
use super::{ADMIT_WAIT, Closing, Ended, LedgerError, Opening, form, ingest, writer};

/// How long the writer naps after a batch before it sleeps for good: the most a record waits while there is traffic and nobody waits
/// for it.
pub(super) const NAP: Duration = Duration::from_millis(1);
/// The same after a nap in which requests wrote: what nobody waits for mostly goes with what they write, and waking the writer costs
/// more than its write. At most so long does a record wait when the traffic ends just then.
pub(super) const LONG_NAP: Duration = Duration::from_millis(4);
/// Most bytes which a request's thread writes itself.
pub(super) const HELP_MOST: usize = 64 << 10;
/// How often a request's thread writes for others before it leaves the rest to the writer.
const HELP_TURNS: u32 = 4;
/// Largest buffer that is kept for the next batch, in bytes; a larger one (after a stall) is given back.
pub(super) const BUFFER_KEPT: usize = 4 << 20;

/// What to do when the journal can't be written or synced any more. The default logs it and ends the process: after
/// a failed fsync nobody knows what is on the disk (PostgreSQL's "fsyncgate"), and unwritten rows are unpaid-for calls.
pub type FatalHook = Arc<dyn Fn(&LedgerError) + Send + Sync>;

/// Exit code of a process whose journal failed.
pub const FATAL_EXIT_CODE: i32 = 2;

/// Logs the error and ends the process.
pub fn exit_on_fatal() -> FatalHook {
    Arc::new(|error| {
        tracing::error!(%error, "the journal can't be written; the gateway stops, since no call may go unrecorded");
        std::process::exit(FATAL_EXIT_CODE);
    })
}

/// What a journal needs to know.
pub(super) struct Settings {
    pub(super) folder: PathBuf,
    pub(super) durability: Durability,
    pub(super) queue: u64,
    pub(super) segment: u64,
    pub(super) sync_every: Duration,
    pub(super) min_free: u64,
    pub(super) ballast: u64,
    pub(super) archive: u64,
    pub(super) keep_rows: Option<Duration>,
    pub(super) clock: Clock,
    pub(super) write: WriteHook,
    pub(super) fatal: FatalHook,
}

/// Writes some of the bytes to the end of a file: `write(2)`, or what a test puts in its place.
pub(super) type WriteHook = Arc<dyn Fn(&File, &[u8]) -> std::io::Result<usize> + Send + Sync>;

/// Records on their way to the file.
#[derive(Default)]
pub(super) struct Buffer {
    pub(super) bytes: Vec<u8>,
    /// Records handed over since the start: the number of the last one.
    pub(super) number: u64,
    pub(super) opened: u64,
    pub(super) closed: u64,
}

/// What the syncer has to sync.
#[derive(Default)]
pub(super) struct Files {
    pub(super) current: Option<(PathBuf, Arc<File>)>,
    /// Full segments which are not synced yet. Bounded: the syncer takes them all each time.
    pub(super) retired: Vec<(PathBuf, Arc<File>)>,
    /// The journal's folder, held open: where there are no descriptors left it can be synced all the same.
    pub(super) folder: Option<Arc<File>>,
    /// A name was made in the folder which is not synced yet.
    pub(super) new_name: bool,
}

/// How far the files are written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) position: Position,
    /// Bytes over all segments.
    pub(super) bytes: u64,
}

/// The state which request threads, writer, syncer and ingest share.
pub(super) struct Journal {
    pub(super) settings: Settings,
    pub(super) boot: Boot,
    pub(super) salt: Salt,
    pub(super) buffer: Mutex<Buffer>,
    /// The batch being written. Who holds it is the one who writes; before [`Journal::buffer`] in the order of locks.
    pub(super) writing: Mutex<Buffer>,
    /// Who takes the records in.
    pub(super) ingest: Arc<ingest::Requests>,
    /// [`Buffer::number`], readable without the lock.
    handed: AtomicU64,
    /// Number of the last record in the file.
    pub(super) written: AtomicU64,
    /// Number of the last record somebody waits for.
    wanted: AtomicU64,
    /// Number of the last record synced.
    pub(super) synced: AtomicU64,
    pub(super) end: Mutex<Written>,
    /// Up to where the files are synced. Store and books are never ahead of it: what a power cut takes back is in neither.
    pub(super) synced_end: Mutex<Written>,
    /// Somebody waits for a sync.
    pub(super) hurry: AtomicBool,
    /// In which rows of attempts without a reservation are booked.
    pub(super) accounts: Arc<Accounts>,
    pub(super) files: Mutex<Files>,
    pub(super) open: AtomicU64,
    pub(super) disk_full: AtomicBool,
    /// The last write found no room: what waits is tried again ([`super::disk`]).
    pub(super) stuck: AtomicBool,
    /// No more records are expected: write and sync what there is, then stop.
    pub(super) stopping: AtomicBool,
    /// The writer has ended: from then on the syncer writes what is left.
    pub(super) writer_ended: AtomicBool,
    /// Writing failed; nothing is written any more.
    pub(super) failed: AtomicBool,
    /// A batch was written, or synced.
    pub(super) progress: Notify,
    pub(super) writer: Sleeper,
    pub(super) syncer: Sleeper,
}

thread_local! {
    /// Where a record is encoded before the shared buffer is locked.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Journal {
    pub(super) fn new(
        settings: Settings,
        boot: Boot,
        salt: Salt,
        ingest: Arc<ingest::Requests>,
        accounts: Arc<Accounts>,
    ) -> Self {
        Journal {
            settings,
            boot,
            salt,
            buffer: Mutex::default(),
            writing: Mutex::default(),
            ingest,
            handed: AtomicU64::new(0),
            written: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            synced: AtomicU64::new(0),
            end: Mutex::default(),
            synced_end: Mutex::default(),
            hurry: AtomicBool::new(false),
            accounts,
            files: Mutex::default(),
            open: AtomicU64::new(0),
            disk_full: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            writer_ended: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            progress: Notify::new(),
            writer: Sleeper::default(),
            syncer: Sleeper::default(),
        }
    }

    /// Hands an opening over; its number.
    pub(super) fn opened(&self, opening: &Opening) -> u64 {
        self.open.fetch_add(1, Ordering::Relaxed);
        // Not a wake-up: who opens an attempt waits for its record, and so writes it.
        self.push(|out| form::write_opened(opening, out), |buffer| buffer.opened += 1)
    }

    /// Hands a row over; its number. Whoever does not wait for it wakes the writer.
    pub(super) fn closed(&self, opening: &Opening, closing: &Closing, ended: Ended) -> u64 {
        self.push(
            |out| form::write_closed(opening, closing, ended, out),
            |buffer| buffer.closed += 1,
        )
    }

    /// An attempt was closed, and its reservation settled.
    pub(super) fn settled(&self) {
        self.open.fetch_sub(1, Ordering::Release);
    }

    fn push(&self, write: impl FnOnce(&mut Vec<u8>) -> postcard::Result<()>, count: impl FnOnce(&mut Buffer)) -> u64 {
        let mut scratch = SCRATCH.try_with(RefCell::take).unwrap_or_default();
        scratch.clear();
        match self.salt.append(&mut scratch, write) {
            Ok(true) => {}
            // Texts are clipped before, so no record is too long; and postcard fails on nothing that we give it.
            Ok(false) | Err(_) => tracing::error!("a record could not be encoded"),
        }
        let number = {
            let mut buffer = self.buffer.lock();
            buffer.bytes.extend_from_slice(&scratch);
            buffer.number += 1;
            count(&mut buffer);
            self.handed.store(buffer.number, Ordering::Release);
            buffer.number
        };
        let _ = SCRATCH.try_with(|cell| cell.replace(scratch));
        number
    }

    /// Records handed over and not yet in the file.
    pub(super) fn queued(&self) -> u64 {
        let written = self.written.load(Ordering::Acquire);
        self.handed.load(Ordering::Acquire).saturating_sub(written)
    }

    /// Number of the last record handed over.
    pub(super) fn handed(&self) -> u64 {
        self.handed.load(Ordering::Acquire)
    }

    /// Is the record as safe as the settings ask for?
    pub(super) fn is_safe(&self, number: u64) -> bool {
        let safe = match self.settings.durability {
            Durability::Process => &self.written,
            Durability::Power => &self.synced,
        };
        safe.load(Ordering::Acquire) >= number
    }

    /// Waits until it is.
    pub(super) async fn safe(&self, number: u64) {
        let wake = !self.help(number);
        self.wait_for(|| self.is_safe(number), wake).await;
    }

    /// Does somebody wait for a record which is not in the file? Who has held [`Journal::writing`] asks it afterwards: who wanted
    /// to write meanwhile, and could not, relies on it.
    pub(super) fn is_wanted(&self) -> bool {
        // With the one in `help`: either this sees what is wanted there, or that one finds the lock free.
        fence(Ordering::SeqCst);
        self.wanted.load(Ordering::Relaxed) > self.written.load(Ordering::Acquire)
    }

    /// Writes what waits, up to the record, if that is little. True: it is written, or whoever is writing will do so. False: the writer
    /// is to do it.
    fn help(&self, number: u64) -> bool {
        if self.written.load(Ordering::Acquire) >= number {
            return true;
        }
        self.wanted.fetch_max(number, Ordering::Relaxed);
        for _ in 0..HELP_TURNS {
            if self.failed.load(Ordering::Relaxed) || self.stuck.load(Ordering::Relaxed) {
                return false;
            }
            fence(Ordering::SeqCst);
            let Some(mut batch) = self.writing.try_lock() else {
                return true;
            };
            // What found no room before stays in the batch; the writer tries again.
            if !batch.bytes.is_empty() || self.buffer.lock().bytes.len() > HELP_MOST {
                break;
            }
            match writer::write_waiting(self, &mut batch) {
                Ok(writer::Wrote::Stuck) => break,
                Ok(writer::Wrote::All | writer::Wrote::Nothing) => {}
                Err(error) => self.fail(&error),
            }
            drop(batch);
            if !self.is_wanted() {
                return true;
            }
        }
        // For those too who rely on this thread.
        self.writer.wake();
        false
    }

    /// Waits until all that was handed over before is written and synced: a few milliseconds. Blocking; false: it failed, or there is
    /// no room on the disk.
    pub(super) fn settle_down(&self) -> bool {
        let handed = self.handed();
        while self.synced.load(Ordering::Acquire) < handed {
            if self.failed.load(Ordering::Acquire) || self.stuck.load(Ordering::Acquire) {
                return false;
            }
            if self.stopping.load(Ordering::Acquire) {
                break; // the threads are ending: they write and sync all there is
            }
            self.hurry.store(true, Ordering::SeqCst);
            self.writer.wake();
            self.syncer.wake();
            std::thread::sleep(NAP);
        }
        true
    }

    /// Waits until all that was handed over before is written: a millisecond or a few. Blocking; false: it failed, or there is no room on
    /// the disk.
    pub(super) fn write_out(&self) -> bool {
        let handed = self.handed();
        while self.written.load(Ordering::Acquire) < handed {
            if self.failed.load(Ordering::Acquire) || self.stuck.load(Ordering::Acquire) {
                return false;
            }
            self.writer.wake();
            std::thread::sleep(NAP / 4);
        }
        true
    }

    /// There is no room on the disk, or nearly none.
    pub(super) fn is_full(&self) -> bool {
        self.disk_full.load(Ordering::Relaxed) || self.stuck.load(Ordering::Relaxed)
    }

    /// Waits for room in the queue.
    pub(super) async fn room(&self) -> Result<(), LedgerError> {
        if self.is_full() {
            return Err(LedgerError::DiskFull);
        }
        let has_room = || self.queued() < self.settings.queue && !self.failed.load(Ordering::Relaxed);
        if has_room() {
            return Ok(());
        }
        tokio::time::timeout(ADMIT_WAIT, self.wait_for(has_room, true))
            .await
            .map_err(|_| LedgerError::Behind)
    }

    /// Waits; `wake`: the writer is needed for it.
    async fn wait_for(&self, done: impl Fn() -> bool, wake: bool) {
        while !done() {
            let mut progress = std::pin::pin!(self.progress.notified());
            // Registered before looking again: a batch finished in between is not missed.
            progress.as_mut().enable();
            if done() {
                return;
            }
            if wake {
                self.writer.wake();
            }
            progress.await;
        }
    }

    /// Runs a thread of the journal: should it panic, the journal has failed.
    pub(super) fn guard(&self, run: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(run)).is_err() {
            let source = std::io::Error::other("a thread of the journal panicked");
            self.fail(&io_error(&self.settings.folder)(source));
        }
    }

    /// Writing failed: nothing more is admitted, and what waits to be written waits for ever.
    pub(super) fn fail(&self, error: &LedgerError) {
        self.failed.store(true, Ordering::Release);
        (self.settings.fatal)(error);
    }
}

/// A thread that sleeps when it has nothing to do, and those who wake it.
#[derive(Default)]
pub(super) struct Sleeper {
    /// [`AWAKE`], [`NAPPING`], [`ASLEEP`] or [`CALLED`].
    state: AtomicU8,
    thread: OnceLock<Thread>,
}

const AWAKE: u8 = 0;
const NAPPING: u8 = 1;
const ASLEEP: u8 = 2;
/// Awake, and called meanwhile: the next rest is left out.
const CALLED: u8 = 3;

impl Sleeper {
    /// Says whose this is: called by the thread itself before anything else.
    pub(super) fn is_me(&self) {
        let _ = self.thread.set(std::thread::current());
    }

    /// Wakes the thread if only a wake-up will. Call after making `is_idle` of [`Sleeper::sleep`] false.
    pub(super) fn wake_if_asleep(&self) {
        if self.state.load(Ordering::SeqCst) == ASLEEP
            && self
                .state
                .compare_exchange(ASLEEP, AWAKE, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        {
            self.unpark();
        }
    }

    /// Wakes it from a nap too, and keeps it from the next one.
    pub(super) fn wake(&self) {
        if matches!(self.state.swap(CALLED, Ordering::SeqCst), NAPPING | ASLEEP) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Rests for `time`, or until woken by [`Sleeper::wake`].
    pub(super) fn nap(&self, time: Duration) {
        self.rest(NAPPING, time, || true);
    }

    /// Sleeps until woken, at most for `time`, unless there is something to do.
    pub(super) fn sleep(&self, time: Duration, is_idle: impl FnOnce() -> bool) {
        self.rest(ASLEEP, time, is_idle);
    }

    fn rest(&self, how: u8, time: Duration, is_idle: impl FnOnce() -> bool) {
        let called = self
            .state
            .compare_exchange(AWAKE, how, Ordering::SeqCst, Ordering::SeqCst)
            .is_err();
        if !called && is_idle() {
            std::thread::park_timeout(time);
        }
        self.state.store(AWAKE, Ordering::SeqCst);
    }
}
