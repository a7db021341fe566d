//! The thread which keeps the books while the gateway runs: it follows the journal, takes over what processes left that have died
//! since, writes checkpoints, and compares the books with the accounts each minute.
//!
//! No request ever waits for it, and it wakes nobody but the syncer, once a minute.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::limits::{AccountId, Accounts, Balance, Spent, Window};

use super::LedgerError;
use super::books::{Books, over_renames};
use super::checkpoint::{Checkpoint, Files};
use super::disk::Ballast;
use super::journal::Journal;
use super::metrics::metrics;
use super::segment::Boot;
use super::verify::{Verdict, told_spent};

/// How often the journal is followed.
const EVERY: Duration = Duration::from_secs(1);
/// How often it is looked for journals whose process has died.
const LOOK_FOR_DEAD: Duration = Duration::from_secs(5);
/// Shortest time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(2);
/// After a checkpoint it rests for so many times what it took: 5 % of the time at most.
const REST: u32 = 19;
/// How often books and accounts are compared.
const COMPARE_EVERY: Duration = Duration::from_secs(60);
/// Checkpoints after a change: both files are to have it, since either may be all that is left.
const OWED: u32 = 2;
/// Differences told of at once.
const TOLD_MOST: usize = 20;

/// The books and those who work on them.
pub(super) struct Bookkeeper {
    books: Mutex<Books>,
    accounts: Arc<Accounts>,
    desk: Mutex<Desk>,
    /// Which segments the two files on disk make needless: for each boot the first one that is still needed.
    covered: Mutex<[BTreeMap<Boot, u32>; 2]>,
    stop: Mutex<bool>,
    stopped: Condvar,
}

/// What is needed to write checkpoints.
struct Desk {
    files: Files,
    owed: u32,
    not_before: Instant,
    failing: bool,
}

impl Bookkeeper {
    /// Opens the books and puts the balances into the accounts.
    pub(super) fn open(folder: &Path, boot: &Boot, accounts: Arc<Accounts>) -> Result<Self, LedgerError> {
        let begun = Instant::now();
        let mut files = Files::new(folder);
        let checkpoint = files.load()?;
        let from_checkpoint = checkpoint.is_some();
        let mut books = Books::new(
            folder.to_owned(),
            boot.clone(),
            accounts.clone(),
            checkpoint.unwrap_or_default(),
        );
        books.follow_others(false)?;
        books.restore();
        let first = !from_checkpoint && books.rows == 0;
        if !first {
            tracing::info!(
                from_checkpoint,
                rows = books.rows,
                milliseconds = begun.elapsed().as_millis() as u64,
                "the balances were restored"
            );
        }
        Ok(Bookkeeper {
            books: Mutex::new(books),
            accounts,
            desk: Mutex::new(Desk {
                files,
                owed: OWED,
                not_before: begun,
                failing: false,
            }),
            covered: Mutex::default(),
            stop: Mutex::new(false),
            stopped: Condvar::new(),
        })
    }

    /// The thread's life. If it panics, that is told; requests are admitted on, as the journal has all that the books need at the next
    /// start.
    pub(super) fn run_guarded(&self, journal: &Journal) {
        if catch_unwind(AssertUnwindSafe(|| self.run(journal))).is_err() {
            tracing::error!(
                "the thread of the books panicked: no checkpoints are made until the gateway is started again"
            );
            if let Some(metrics) = metrics() {
                metrics.books_ok.set(0);
            }
        }
    }

    fn run(&self, journal: &Journal) {
        let mut ballast = Ballast::new(&journal.settings);
        let mut looked = Instant::now();
        let mut compared = Instant::now();
        let mut before: Option<Vec<(AccountId, Spent)>> = None;
        loop {
            let stop = {
                let mut stop = self.stop.lock();
                if !*stop {
                    self.stopped.wait_for(&mut stop, EVERY);
                }
                *stop
            };
            if !stop && looked.elapsed() >= LOOK_FOR_DEAD {
                looked = Instant::now();
                if let Err(error) = self.follow_others() {
                    tracing::warn!(%error, "the journal of another process could not be read for the books");
                }
            }
            drop(self.follow(journal));
            self.write(journal, stop);
            if stop {
                return;
            }
            ballast.tend(journal);
            // Compared over a second: what was booked by its beginning is in the accounts, and nothing is in them which is not
            // booked by its end.
            if let Some(before) = before.take() {
                self.compare(journal, &before);
            } else if compared.elapsed() >= COMPARE_EVERY {
                compared = Instant::now();
                before = Some(totals(&self.books.lock()));
            }
        }
    }

    /// Ends the thread, with the last checkpoint written. Call it when the journal is synced for the last time.
    pub(super) fn stop(&self) {
        *self.stop.lock() = true;
        self.stopped.notify_all();
    }

    /// The thread may be started again.
    pub(super) fn go_on(&self) {
        *self.stop.lock() = false;
    }

    /// Takes over what processes wrote which were alive when it was last looked, or which are gone now.
    pub(super) fn follow_others(&self) -> Result<(), LedgerError> {
        self.books.lock().follow_others(true)
    }

    /// Is nothing more to come from this journal?
    pub(super) fn has_all_of(&self, boot: &str) -> bool {
        self.books.lock().has_all_of(boot)
    }

    /// Reads what is synced by now, and gives the books.
    pub(super) fn follow(&self, journal: &Journal) -> MutexGuard<'_, Books> {
        let mut books = self.books.lock();
        let end = journal.synced_end.lock().position;
        if let Err(error) = over_renames(|| books.follow(end)) {
            tracing::error!(%error, "the journal could not be read for the books; it is tried again");
        }
        if let Some(metrics) = metrics() {
            metrics.duplicates.inc_by(books.twice - books.told_twice);
            books.told_twice = books.twice;
        }
        books
    }

    /// Writes a checkpoint if there is one to write; `last`: now, and both files.
    fn write(&self, journal: &Journal, last: bool) {
        let mut desk = self.desk.lock();
        if std::mem::take(&mut self.books.lock().changed) {
            desk.owed = OWED;
        }
        while desk.owed > 0 && (last || Instant::now() >= desk.not_before) {
            let begun = Instant::now();
            let checkpoint = {
                let books = self.books.lock();
                // What a power cut could take back from another process's journal is on disk first.
                if let Err(error) = books.sync_others() {
                    tracing::warn!(%error, "the journal of another process could not be synced; balances are written later");
                    return;
                }
                books.checkpoint(journal.settings.clock.now())
            };
            let result = desk.files.write(&checkpoint);
            desk.not_before = Instant::now() + (begun.elapsed() * REST).max(CHECKPOINT_EVERY);
            match result {
                Ok(()) => {
                    desk.owed -= 1;
                    desk.failing = false;
                    self.cover(&checkpoint);
                }
                Err(error) => {
                    if !std::mem::replace(&mut desk.failing, true) {
                        tracing::error!(%error, "the balances could not be written; a start would read the journals instead");
                    }
                    return;
                }
            }
        }
    }

    fn cover(&self, checkpoint: &Checkpoint) {
        let newest = checkpoint
            .marks
            .iter()
            .map(|mark| (mark.boot.clone(), mark.first_needed()))
            .collect();
        let mut covered = self.covered.lock();
        covered.swap(0, 1);
        covered[1] = newest;
    }

    /// Would the books be found again without this segment, from either of the files on disk?
    pub(super) fn covers(&self, boot: &str, segment: u32) -> bool {
        let covered = self.covered.lock();
        covered
            .iter()
            .all(|needed| needed.get(boot).is_some_and(|&needed| segment < needed))
    }

    /// Where nothing moves: is under way what is open in the journal, and do the accounts hold what the books hold? False: something
    /// moved. `handed`: the records there were when the journal was followed.
    pub(super) fn compare_quiet(&self, journal: &Journal, books: &Books, handed: u64, verdict: &mut Verdict) -> bool {
        let now = journal.settings.clock.now();
        let under_way = journal.open.load(Ordering::Acquire);
        let mut live = Vec::new();
        for account in self.accounts.all() {
            live.push((account.id().clone(), account.limits(), account.balance(now)));
        }
        if journal.handed() != handed || journal.open.load(Ordering::Acquire) != under_way {
            return false;
        }
        let (_, open) = books.own_place();
        if under_way != open {
            verdict.differs(format!(
                "{under_way} attempts are under way, {open} are open in the journal"
            ));
        }
        let booked: BTreeMap<AccountId, Balance> = books.balances().collect();
        for (id, limits, live) in live {
            // As an account shows it: windows that are over are empty.
            let shown = Accounts::new().get(&id);
            shown.set_limits(limits);
            shown.restore(booked.get(&id).copied().unwrap_or_default());
            for ((window, live), booked) in Window::ALL.into_iter().zip(live.0).zip(shown.balance(now).0) {
                if live.spent != booked.spent {
                    verdict.differs(format!(
                        "{id}, {}: the account holds {}, the books {}",
                        window.as_str(),
                        told_spent(&live.spent),
                        told_spent(&booked.spent)
                    ));
                }
            }
        }
        true
    }

    /// The accounts the books are of.
    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    fn compare(&self, journal: &Journal, before: &[(AccountId, Spent)]) {
        let live: Vec<(AccountId, Spent)> = self
            .accounts
            .all()
            .iter()
            .map(|account| {
                (
                    account.id().clone(),
                    account.balance(journal.settings.clock.now()).0[3].spent,
                )
            })
            .collect();
        if !journal.settle_down() {
            return;
        }
        let after: BTreeMap<AccountId, Spent> = totals(&self.follow(journal)).into_iter().collect();
        let before: BTreeMap<&AccountId, &Spent> = before.iter().map(|(id, spent)| (id, spent)).collect();
        let mut differ = 0;
        for (id, live) in &live {
            let least = before.get(id).copied().copied().unwrap_or_default();
            let most = after.get(id).copied().unwrap_or_default();
            if !(covers(live, &least) && covers(&most, live)) {
                differ += 1;
                if differ <= TOLD_MOST {
                    tracing::error!(account = %id, ?live, booked_before = ?least, booked = ?most, "an account differs from the books");
                }
            }
        }
        if let Some(metrics) = metrics() {
            metrics.books_ok.set(i64::from(differ == 0));
        }
    }
}

/// What each account used in total.
fn totals(books: &Books) -> Vec<(AccountId, Spent)> {
    books.balances().map(|(id, balance)| (id, balance.0[3].spent)).collect()
}

/// Is no part of `a` less than that of `b`?
fn covers(a: &Spent, b: &Spent) -> bool {
    a.requests >= b.requests && a.tokens >= b.tokens && a.charge >= b.charge
}
