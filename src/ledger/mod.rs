//! The ledger: one row per upstream attempt, exactly once, whatever happens to the client, the provider or the process.
//!
//! An attempt is opened in the journal before the provider is called, and closed when it ended. The journal (append-only,
//! CRC-32C per record) is the truth; the store is an index of it, filled by the ingest. What a dead process left open
//! becomes a row marked as interrupted at the next start.

pub mod ingest;
pub mod journal;
pub mod record;
pub mod report;

use std::path::Path;
use std::sync::Arc;

pub use record::{Closing, Ended, Opening, Row};
pub use report::{Cursor, Filter, GroupBy, Page, ReportLine};

use crate::clock::Clock;
use crate::ids::AttemptId;
use crate::store::Store;

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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// How long a request waits for room in the writer's queue (HARDENING L4).
pub const ADMIT_WAIT: std::time::Duration = std::time::Duration::from_millis(50);

/// The open ledger: a handle, cheap to clone.
#[derive(Clone)]
pub struct Ledger {}

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
    /// Starts writer and ingest; first takes in what earlier processes left, and marks what they left open as
    /// interrupted. `folder` is the journal's.
    pub fn start(
        _folder: &Path,
        _settings: &crate::config::Ledger,
        _store: Arc<Store>,
        _clock: Clock,
    ) -> Result<Self, LedgerError> {
        unreachable!("skeleton")
    }

    /// Is there room? Waits up to [`ADMIT_WAIT`]. Called before an attempt is opened.
    pub async fn admit(&self) -> Result<(), LedgerError> {
        unreachable!("skeleton")
    }

    /// Opens an attempt. The guard closes it, whatever happens.
    pub fn open(&self, _opening: Opening) -> Entry {
        unreachable!("skeleton")
    }

    /// Rows in the order of their ids, after `after`, at most `limit`; takes in the journal's tail first. Blocking.
    pub fn rows(&self, _filter: &Filter, _after: Option<Cursor>, _limit: usize) -> Result<Page, LedgerError> {
        unreachable!("skeleton")
    }

    /// Sums; takes in the journal's tail first. Blocking.
    pub fn report(&self, _filter: &Filter, _by: &[GroupBy]) -> Result<Vec<ReportLine>, LedgerError> {
        unreachable!("skeleton")
    }

    /// How full and how far it is.
    pub fn status(&self) -> LedgerStatus {
        LedgerStatus::default()
    }

    /// Writes and syncs all that was handed over, takes it into the store, stops the threads. Blocking; idempotent.
    pub fn shut_down(&self) {}
}

/// One open attempt. Dropping it closes it: with what [`Entry::close`] said, else as [`Ended::Panicked`].
pub struct Entry {
    /// What is known of its end so far; written when it closes. Fields may be filled as they become known.
    pub closing: Closing,
}

impl Entry {
    /// Its id.
    pub fn id(&self) -> AttemptId {
        unreachable!("skeleton")
    }

    /// True once its opening is in the file (and synced, with `durability = "power"`). One atomic load.
    pub fn is_written(&self) -> bool {
        true
    }

    /// Waits until [`Entry::is_written`]; an answer's header goes out after it, so that no answered request is missing
    /// after a crash.
    pub async fn written(&self) {}

    /// Closes the attempt now; handed to the writer before this returns.
    pub fn close(self, _ended: Ended) {}
}
