//! What is not kept for ever: single rows, by their age; journals that are taken in, by the archive's size.

use std::fs;

use crate::clock::UnixMicros;
use crate::ledger::journal::Journal;
use crate::ledger::segment::{self, State};
use crate::ledger::{LedgerError, rollup};

use super::Ingest;

impl Ingest {
    /// Removes rows that are older than they are kept. What time it is the rows say as well as the clock: one that runs ahead removes
    /// nothing which newer rows do not make old.
    pub(super) fn forget(&mut self, journal: &Journal) -> Result<(), LedgerError> {
        let Some(keep) = journal.settings.keep_rows else {
            return Ok(());
        };
        let Some((_, newest)) = self.store.rows().last()? else {
            return Ok(());
        };
        let now = journal.settings.clock.now().0.min(newest.max_at);
        let keep = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
        let before = UnixMicros(now.saturating_sub(keep));
        let left = rollup::remove_old(&self.store, before, self.total)?;
        if left < self.total {
            tracing::info!(
                rows = self.total - left,
                "rows that are older than they are kept were removed"
            );
            self.total = left;
        }
        Ok(())
    }

    /// Removes the oldest journals beyond the archive's size, and what the store remembers of journals that are gone.
    pub(super) fn prune(&mut self) -> Result<(), LedgerError> {
        let boots = segment::list(&self.folder)?;
        let is_gone = |boot: &String| !boots.contains_key(boot);
        let gone: Vec<_> = self.store.rows().journals()?.into_iter().filter(is_gone).collect();
        if !gone.is_empty() {
            // Forgotten only once they are gone for good: a file that came back after a power cut would be taken in again.
            segment::sync_folder(&self.folder)?;
        }
        for boot in gone {
            self.store.rows().forget(&boot)?;
        }
        let mut kept = 0;
        let mut removed = false;
        for (boot, segments) in boots.iter().rev() {
            for (&number, segment) in segments.iter().rev() {
                // A damaged one is all there is of what stands behind the damage: it stays until it is repaired.
                if matches!(segment.state, State::Fresh | State::Damaged) {
                    continue;
                }
                kept += segment.bytes;
                // Neither balances nor sums on disk must need it; then it goes the next time.
                if kept > self.archive && self.kept.covers(boot, number) && self.keeper.covers(boot, number) {
                    fs::remove_file(&segment.path).map_err(segment::io_error(&segment.path))?;
                    removed = true;
                }
            }
        }
        if removed {
            segment::sync_folder(&self.folder)?;
        }
        Ok(())
    }
}
