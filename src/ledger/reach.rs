//! How far back the ledger reaches, and what is known to be missing: nothing is lost in silence.

use std::path::Path;

use crate::clock::UnixMicros;
use crate::store::Store;

use super::segment::{self, State};
use super::{Ledger, LedgerError, query};

pub use crate::store::sums::Refilled;

/// How far back the ledger reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Single rows of attempts that began before may be gone: removed for their age, or with a store that broke. `None`: all are
    /// there.
    pub rows_since: Option<UnixMicros>,
    /// The store was filled again in the place of one that broke.
    pub refilled: Option<Refilled>,
    /// Damaged journal files which wait for `tollgate ledger repair`.
    pub damaged: u64,
    /// Originals of damaged journal files that were repaired.
    pub set_aside: u64,
}

impl Reach {
    pub(super) fn of(folder: &Path, store: &Store) -> Result<Self, LedgerError> {
        let removed_before = store.rows().removed_before()?;
        let segments = segment::list(folder)?;
        let damaged = segments
            .values()
            .flat_map(|segments| segments.values())
            .filter(|segment| segment.state == State::Damaged);
        Ok(Reach {
            rows_since: (removed_before > 0).then_some(UnixMicros(removed_before)),
            refilled: store.rows().refilled()?,
            damaged: damaged.count() as u64,
            set_aside: segment::set_aside(folder)?,
        })
    }

    /// What a person should know although the books add up.
    pub(super) fn notes(&self, folder: &Path) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(refilled) = self.refilled {
            let at = query::time_name(refilled.at);
            if refilled.sums_since > 0 {
                notes.push(format!(
                    "the store broke and was filled again on {at}, when no sums on disk were readable: sums and rows of what began \
                     before {} are lost, if there were any",
                    query::time_name(refilled.sums_since)
                ));
            }
            // Rows that would have been removed for their age by now are no loss.
            if refilled.rows_missing > 0 && self.rows_since.is_none_or(|since| since.0 <= refilled.rows_since) {
                notes.push(format!(
                    "the store broke and was filled again on {at}: {} single rows that began before {} did not come back; sums have \
                     those which were in the sums on disk (sums.tgs)",
                    refilled.rows_missing,
                    query::time_name(refilled.rows_since)
                ));
            }
        }
        if self.set_aside > 0 {
            notes.push(format!(
                "damaged journal files that were repaired: {}; as they were found they are in {}",
                self.set_aside,
                segment::set_aside_folder(folder).display()
            ));
        }
        notes
    }
}

impl Ledger {
    /// How far back it reaches; takes in the journal's tail first. Blocking.
    pub fn reach(&self) -> Result<Reach, LedgerError> {
        self.0.catch_up(false)?;
        Reach::of(&self.0.journal.settings.folder, &self.0.store)
    }
}
