//! What the others ask of the ingest thread, and what it tells them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Condvar, Mutex};

use crate::ledger::LedgerError;
use crate::ledger::verify::Verdict;
use crate::store::StoreError;

/// What the others ask of the ingest thread.
#[derive(Default)]
pub(in crate::ledger) struct Requests {
    pub(super) state: Mutex<Asked>,
    pub(super) changed: Condvar,
    /// Bytes of journal at which it is to be woken.
    pub(super) wake_at: AtomicU64,
    /// Bytes of this process's journal that are in the store.
    pub(super) applied_bytes: AtomicU64,
    /// Bytes of other journals that are not.
    pub(super) other_bytes: AtomicU64,
    /// Rows in the store.
    pub(in crate::ledger) rows: AtomicU64,
    pub(super) broken: AtomicBool,
    /// Files which are damaged since earlier starts were told of.
    pub(super) told_damaged: AtomicBool,
}

#[derive(Default)]
pub(super) struct Asked {
    /// Passes asked for, and passes done of those.
    pub(super) asked: u64,
    pub(super) done: u64,
    pub(super) failure: Option<String>,
    pub(super) stop: bool,
    pub(super) sooner: bool,
    /// The sums are wanted too.
    pub(super) roll: bool,
    /// Everything is to be compared.
    pub(super) verify: bool,
    pub(super) verdict: Option<Verdict>,
}

impl Requests {
    /// The journal has this many bytes now.
    pub(in crate::ledger) fn grown(&self, bytes: u64) {
        if bytes >= self.wake_at.load(Ordering::Relaxed) {
            self.wake_at.store(u64::MAX, Ordering::Relaxed);
            self.state.lock().sooner = true;
            self.changed.notify_all();
        }
    }

    /// Takes in all that is synced by now, and brings the sums up to date if wanted. Blocking.
    pub(in crate::ledger) fn catch_up(&self, sums: bool) -> Result<(), LedgerError> {
        let mut state = self.state.lock();
        if state.stop {
            return Ok(()); // all was taken in when it stopped
        }
        state.asked += 1;
        state.roll |= sums;
        let mine = state.asked;
        self.changed.notify_all();
        while state.done < mine {
            self.changed.wait(&mut state);
        }
        match &state.failure {
            Some(why) => Err(StoreError::Failed(why.clone()).into()),
            None => Ok(()),
        }
    }

    /// Compares everything, in the ingest thread: neither rows nor sums nor books move meanwhile. Blocking, for as long as reading all
    /// journals and rows takes (a second for a million). One at a time.
    pub(in crate::ledger) fn verify(&self) -> Result<Verdict, LedgerError> {
        {
            let mut state = self.state.lock();
            state.verify = true;
            state.verdict = None;
        }
        self.catch_up(true)?;
        let verdict = self.state.lock().verdict.take();
        verdict.ok_or(LedgerError::Behind)
    }

    /// Takes in the rest and ends the thread.
    pub(in crate::ledger) fn stop(&self) {
        self.state.lock().stop = true;
        self.changed.notify_all();
    }

    /// The thread may be started again.
    pub(in crate::ledger) fn go_on(&self) {
        self.state.lock().stop = false;
    }

    /// Bytes of journal, of `written` by this process and of others, that are not in the store.
    pub(in crate::ledger) fn lag_bytes(&self, written: u64) -> u64 {
        written.saturating_sub(self.applied_bytes.load(Ordering::Relaxed)) + self.other_bytes.load(Ordering::Relaxed)
    }
}
