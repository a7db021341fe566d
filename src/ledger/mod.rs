//! The ledger: one row per upstream attempt, exactly once, whatever happens to the client, the provider or the process.
//!
//! An attempt is opened in the journal before the provider is called, and closed when it ended. The journal (append-only,
//! CRC-32C per record) is the truth; the store is an index of it, filled by the ingest. What a dead process left open
//! becomes a row marked as interrupted at the next start.

mod blocks;
mod bookkeeper;
mod books;
mod checkpoint;
mod disk;
mod entry;
mod form;
mod form_before_money;
pub mod ingest;
pub mod journal;
mod metrics;
mod pair;
pub mod query;
mod reach;
mod reader;
pub mod record;
mod repair;
pub mod report;
mod rollup;
mod salvage;
mod segment;
mod snapshot;
mod verify;
mod writer;

#[cfg(test)]
mod books_tests;
#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod rollup_tests;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod verify_tests;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use parking_lot::Mutex;

pub use entry::{Closed, Entry};
pub use journal::FatalHook;
pub use reach::{Reach, Refilled};
pub use record::{Closing, Ended, Opening, Row, UNFINISHED};
pub use repair::{Repair, RepairedFile, repair_folder};
pub use report::{BadCursor, Cursor, Filter, GroupBy, Page, ReportLine};
pub use verify::{Verdict, verify_folder};

use crate::clock::Clock;
use crate::limits::{Accounts, Reservation, Spent};
use crate::store::Store;
use crate::store::frames::Salt;
use bookkeeper::Bookkeeper;
use journal::Journal;

/// Why the ledger can't take an attempt, or can't be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The writer did not catch up within [`ADMIT_WAIT`]: 503 before any provider is called.
    #[error("the ledger is behind; try again in a second")]
    Behind,
    /// The disk is nearly full: 503.
    #[error("the disk which holds the ledger is nearly full")]
    DiskFull,
    /// A file failed.
    #[error("the ledger's file {file}: {source}")]
    Io {
        /// Which.
        file: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A journal is damaged elsewhere than at its end.
    #[error("the journal {file} is damaged at byte {at}: {why}")]
    Damaged {
        /// Which.
        file: std::path::PathBuf,
        /// Where.
        at: u64,
        /// What is wrong.
        why: String,
    },
    /// A journal is of another form than this program's.
    #[error(
        "the journal {file} was written by another version of tollgate, whose records this one can't read: start that version, or move \
         the file to another folder (what it charged is missing in balances and reports then)"
    )]
    Newer {
        /// Which.
        file: std::path::PathBuf,
    },
    /// A report would have more groups than are held in memory.
    #[error("the report would have more than {max} groups: narrow it down, or group by less")]
    TooManyGroups {
        /// The bound.
        max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

impl LedgerError {
    /// The store is with the process that takes this one's place.
    pub fn is_handed_over(&self) -> bool {
        matches!(self, LedgerError::Store(crate::store::StoreError::HandedOver))
    }
}

/// How long a request waits for room in the writer's queue (HARDENING L4).
pub const ADMIT_WAIT: std::time::Duration = std::time::Duration::from_millis(50);

/// The open ledger: a handle, cheap to clone. Dropping the last one shuts it down.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    journal: Arc<Journal>,
    requests: Arc<ingest::Requests>,
    store: Arc<Store>,
    keeper: Arc<Bookkeeper>,
    verifying: Mutex<()>,
    threads: Mutex<Option<Threads>>,
    /// Says that this process lives.
    _lock: File,
}

struct Threads {
    writer: JoinHandle<()>,
    syncer: JoinHandle<()>,
    /// `None`: another process keeps the store and the books ([`Ledger::hand_over`]).
    keeping: Option<Keeping>,
}

/// Those who take the journal in.
struct Keeping {
    ingest: JoinHandle<()>,
    books: JoinHandle<()>,
}

/// How full and how far the ledger is.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct LedgerStatus {
    /// Attempts open now.
    pub open: u64,
    /// Records handed over and not yet in the file.
    pub queued: u64,
    /// Bytes of journal not yet in the store.
    pub lag_bytes: u64,
    /// Rows in the store.
    pub rows: u64,
}

impl Ledger {
    /// Opens the books: before this returns, the balances of all accounts are right, with what dead processes left (what they left
    /// open is charged as [`Closing::unknown`] says). Then starts writer and ingest, which takes the same into the store in its own
    /// time: requests need not wait for it, [`Ledger::rows`] and [`Ledger::report`] do. `folder` is the journal's; `accounts` have
    /// their limits already (balances depend on their time zones).
    ///
    /// A journal that can't be written or synced any more ends the process, with [`journal::FATAL_EXIT_CODE`].
    pub fn start(
        folder: &Path,
        settings: &crate::config::Ledger,
        store: Arc<Store>,
        accounts: Arc<Accounts>,
        clock: Clock,
    ) -> Result<Self, LedgerError> {
        Self::start_with(folder, settings, store, accounts, clock, journal::exit_on_fatal())
    }

    /// The same, with something else to do when the journal fails.
    pub fn start_with(
        folder: &Path,
        settings: &crate::config::Ledger,
        store: Arc<Store>,
        accounts: Arc<Accounts>,
        clock: Clock,
        fatal: FatalHook,
    ) -> Result<Self, LedgerError> {
        let settings = journal::Settings {
            folder: folder.to_owned(),
            durability: settings.durability,
            queue: settings.queue as u64,
            segment: settings.segment,
            sync_every: settings.sync_every,
            min_free: settings.min_free,
            ballast: settings.ballast,
            archive: settings.archive,
            keep_rows: settings.keep_rows,
            clock,
            write: disk::plain_write(),
            fatal,
        };
        Self::start_by(settings, store, accounts)
    }

    fn start_by(settings: journal::Settings, store: Arc<Store>, accounts: Arc<Accounts>) -> Result<Self, LedgerError> {
        let folder = &settings.folder.clone();
        let (boot, lock) = segment::new_boot(folder)?;
        let keeper = Bookkeeper::open(folder, &boot, accounts.clone());
        let keeper = Arc::new(keeper.inspect_err(|_| segment::remove_lock(folder, &boot))?);
        let salt = getrandom::u64().map_err(|e| segment::io_error(folder)(std::io::Error::other(e.to_string())))?;
        let requests = Arc::new(ingest::Requests::default());
        let journal = Arc::new(Journal::new(
            settings,
            boot,
            Salt::new(salt),
            requests.clone(),
            accounts,
        ));
        writer::prepare(&journal)?;
        requests.rows.store(store.rows().total()?, Ordering::Relaxed);
        let spawn = |name: &str, run| spawn(folder, name, run);
        let threads = Threads {
            writer: spawn("ledger-write", {
                let journal = journal.clone();
                Box::new(move || {
                    journal.guard(|| writer::write(&journal));
                    journal.writer_ended.store(true, Ordering::SeqCst);
                })
            })?,
            syncer: spawn("ledger-sync", {
                let journal = journal.clone();
                Box::new(move || journal.guard(|| writer::keep_synced(&journal)))
            })?,
            keeping: Some(Keeping::start(&journal, &requests, &store, &keeper)?),
        };
        Ok(Ledger(Arc::new(Inner {
            journal,
            requests,
            store,
            keeper,
            verifying: Mutex::default(),
            threads: Mutex::new(Some(threads)),
            _lock: lock,
        })))
    }

    /// Is there room? Waits up to [`ADMIT_WAIT`]. Called before an attempt is opened. Attempts which are open always find
    /// room for their rows: what is bounded is the queue at admission.
    pub async fn admit(&self) -> Result<(), LedgerError> {
        self.0.journal.room().await
    }

    /// The disk is full: nothing is admitted until there is room again.
    pub fn is_full(&self) -> bool {
        self.0.journal.is_full()
    }

    /// Opens an attempt. The guard closes it, whatever happens. Never fails, never waits. Texts longer than 512 bytes
    /// are cut.
    pub fn open(&self, opening: Opening) -> Entry {
        Entry::open(self.0.journal.clone(), opening, None)
    }

    /// The same, of an attempt that reserved: the reservation is settled with what the row says, whatever closes it.
    pub fn open_reserved(&self, opening: Opening, reservation: Reservation) -> Entry {
        Entry::open(self.0.journal.clone(), opening, Some(reservation))
    }

    /// Rows in the order in which they were taken in (about that of their ends), after `after`, at most `limit` and
    /// [`query::PAGE_MAX`]; takes in the journal's tail first. Blocking.
    pub fn rows(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, LedgerError> {
        self.0.catch_up(false)?;
        query::rows(&self.0.store, filter, after, limit)
    }

    /// Sums, sorted by group; takes in the journal's tail first. Blocking. At most [`query::GROUPS_MAX`] groups.
    ///
    /// Answered from the sums by hour and by day where question and time allow it, so also for times of which no single rows
    /// are kept any more; of those, hours are told whole.
    pub fn report(&self, filter: &Filter, by: &[GroupBy]) -> Result<Vec<ReportLine>, LedgerError> {
        self.0.catch_up(true)?;
        query::report(&self.0.store, filter, by)
    }

    /// Do the books add up? Reads all journals, rows and sums and compares them with one another and with the balances. Blocking: about
    /// a second for a million rows, in which new ones are not taken in; requests are not held up.
    pub fn verify(&self) -> Result<Verdict, LedgerError> {
        let _one_at_a_time = self.0.verifying.lock();
        self.0.catch_up(false)?;
        let verdict = self.0.requests.verify()?;
        if let Some(metrics) = metrics::metrics() {
            metrics.books_ok.set(i64::from(verdict.ok));
        }
        Ok(verdict)
    }

    /// How full and how far it is at this moment; the number of rows after taking in the journal's tail (as it was
    /// before, should that fail). Blocking.
    pub fn status(&self) -> LedgerStatus {
        let journal = &self.0.journal;
        let open = journal.open.load(Ordering::Relaxed);
        let queued = journal.queued();
        let lag_bytes = self.0.requests.lag_bytes(journal.end.lock().bytes);
        if let Err(e) = self.0.catch_up(false) {
            tracing::warn!(error = %e, "the number of rows may be behind");
        }
        LedgerStatus {
            open,
            queued,
            lag_bytes,
            rows: self.0.requests.rows.load(Ordering::Relaxed),
        }
    }

    /// Lets go of store and books, for the process that takes this one's place: all that is synced is taken in, sums and balances are on
    /// disk, and nothing but this process's own journal is written from now on. Blocking; idempotent. [`Ledger::take_back`] undoes it.
    pub fn hand_over(&self) {
        // What the last pass takes in.
        self.0.journal.settle_down();
        let keeping = self
            .0
            .threads
            .lock()
            .as_mut()
            .and_then(|threads| threads.keeping.take());
        if let Some(keeping) = keeping {
            keeping.stop(&self.0);
        }
    }

    /// Takes store and books up again, which must be this process's. Blocking.
    pub fn take_back(&self) {
        let mut threads = self.0.threads.lock();
        let Some(threads) = threads.as_mut().filter(|threads| threads.keeping.is_none()) else {
            return;
        };
        let Inner {
            journal,
            requests,
            store,
            keeper,
            ..
        } = &*self.0;
        keeper.go_on();
        requests.go_on();
        match Keeping::start(journal, requests, store, keeper) {
            Ok(keeping) => threads.keeping = Some(keeping),
            Err(error) => {
                requests.stop();
                tracing::error!(%error, "the books can't be kept any more: restart the gateway");
            }
        }
        // Of a process that began and failed: its journal. What fails now the thread of the books tries again.
        if let Err(error) = keeper.follow_others() {
            tracing::warn!(%error, "the journal of another process could not be read for the books");
        }
    }

    /// Writes all that was handed over into the journal: from then on another process can read it. Blocking; false: it failed, or there
    /// is no room on the disk.
    pub fn write_out(&self) -> bool {
        self.0.journal.write_out()
    }

    /// Books what other processes wrote into their journals by now. Blocking.
    pub fn follow_others(&self) -> Result<(), LedgerError> {
        self.0.keeper.follow_others()
    }

    /// Have the books all of the journal of this name, which nobody writes any more?
    pub fn has_all_of(&self, boot: &str) -> bool {
        self.0.keeper.has_all_of(boot)
    }

    /// The name of this process's journal.
    pub fn boot(&self) -> &str {
        &self.0.journal.boot
    }

    /// Does the process live that writes the journal of this name?
    pub fn lives(&self, boot: &str) -> Result<bool, LedgerError> {
        segment::lives(&self.0.journal.settings.folder, boot)
    }

    /// Writes and syncs all that was handed over, takes it into the store, stops the threads. Blocking; idempotent.
    /// Call it when no attempt is open any more: one that closes later is found as interrupted at the next start.
    pub fn shut_down(&self) {
        self.0.shut_down();
    }
}

/// What a row adds to the balances of its accounts.
fn spent(opening: &Opening, closing: &Closing) -> Spent {
    spent_by(opening.attempt, closing.usage, closing.charge)
}

/// The same, of the fields that count.
fn spent_by(attempt: u16, usage: Option<crate::ir::Usage>, charge: crate::money::NanoUsd) -> Spent {
    Spent {
        requests: u64::from(attempt == 1),
        tokens: usage.map_or(0, |usage| usage.input_total().saturating_add(usage.output_total())),
        charge,
    }
}

impl Inner {
    /// Takes in all that was handed over before this call, and brings the sums up to date if wanted.
    fn catch_up(&self, sums: bool) -> Result<(), LedgerError> {
        if !self.journal.settle_down() && self.journal.failed.load(Ordering::Acquire) {
            return Err(LedgerError::Behind);
        }
        self.requests.catch_up(sums)
    }

    fn shut_down(&self) {
        // Held to the end, so that a second caller returns when all is done too.
        let mut threads = self.threads.lock();
        let Some(Threads {
            writer,
            syncer,
            keeping,
        }) = threads.take()
        else {
            return;
        };
        self.journal.stopping.store(true, Ordering::SeqCst);
        self.journal.writer.wake();
        join(writer);
        self.journal.syncer.wake();
        join(syncer);
        let Some(keeping) = keeping else {
            return;
        };
        keeping.stop(self);
        if let Err(e) = self.store.flush() {
            tracing::error!(error = %e, "the store could not be flushed; the next start takes in what it lost");
        }
    }
}

impl Keeping {
    fn start(
        journal: &Arc<Journal>,
        requests: &Arc<ingest::Requests>,
        store: &Arc<Store>,
        keeper: &Arc<Bookkeeper>,
    ) -> Result<Self, LedgerError> {
        let spawn = |name: &str, run| spawn(&journal.settings.folder, name, run);
        Ok(Keeping {
            ingest: spawn("ledger-ingest", {
                let (journal, requests, store, keeper) =
                    (journal.clone(), requests.clone(), store.clone(), keeper.clone());
                Box::new(move || ingest::run(&journal, &store, &requests, &keeper))
            })?,
            books: spawn("ledger-books", {
                let (journal, keeper) = (journal.clone(), keeper.clone());
                Box::new(move || keeper.run_guarded(&journal))
            })?,
        })
    }

    fn stop(self, inner: &Inner) {
        inner.keeper.stop();
        join(self.books);
        inner.requests.stop();
        join(self.ingest);
    }
}

fn spawn(folder: &Path, name: &str, run: Box<dyn FnOnce() + Send>) -> Result<JoinHandle<()>, LedgerError> {
    std::thread::Builder::new()
        .name(name.into())
        .spawn(run)
        .map_err(segment::io_error(folder))
}

fn join(thread: JoinHandle<()>) {
    let name = thread.thread().name().unwrap_or_default().to_owned();
    if thread.join().is_err() {
        tracing::error!(thread = name, "a thread of the ledger panicked");
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shut_down();
    }
}
