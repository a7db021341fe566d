//! What dead processes left behind: their journals to the end, and what they left open, as interrupted.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::ledger::metrics::metrics;
use crate::ledger::reader::{End, Reader};
use crate::ledger::segment::{self, Boot, Segment, State};
use crate::ledger::{Closing, Ended, LedgerError, form};

use super::{Ingest, Requests};

/// How often it is looked for journals whose process has died.
const LOOK_FOR_DEAD: Duration = Duration::from_secs(5);

impl Ingest {
    /// Takes in what dead processes left behind.
    pub(in crate::ledger) fn take_in_the_dead(&mut self, requests: &Requests) -> Result<(), LedgerError> {
        if self.looked_for_dead.is_some_and(|at| at.elapsed() < LOOK_FOR_DEAD) {
            return Ok(());
        }
        let first = self.looked_for_dead.is_none();
        let mut dead = Vec::new();
        for (boot, segments) in segment::list(&self.folder)? {
            if boot == self.own.boot || self.newer.contains(&boot) {
                continue;
            }
            let applied = self.store.rows().applied(&boot)?;
            if applied.is_some_and(|applied| applied.finished) && segments.values().all(|s| s.state != State::Fresh) {
                continue;
            }
            let bytes = segments
                .values()
                .map(|segment| segment.bytes)
                .sum::<u64>()
                .saturating_sub(applied.map_or(0, |applied| applied.offset));
            if let Some(lock) = segment::dead(&self.folder, &boot)? {
                dead.push((boot, segments, bytes, lock));
            }
        }
        requests
            .other_bytes
            .store(dead.iter().map(|(_, _, bytes, _)| bytes).sum(), Ordering::Relaxed);
        let found = !dead.is_empty();
        for (boot, segments, bytes, lock) in dead {
            self.take_in_dead(boot, &segments, lock)?;
            requests.other_bytes.fetch_sub(bytes, Ordering::Relaxed);
            requests.rows.store(self.total, Ordering::Relaxed);
        }
        if first || found {
            self.prune()?;
        }
        self.looked_for_dead = Some(Instant::now());
        Ok(())
    }

    /// `_lock` is held until all is done.
    fn take_in_dead(&mut self, boot: Boot, segments: &BTreeMap<u32, Segment>, _lock: File) -> Result<(), LedgerError> {
        let applied = self.store.rows().applied(&boot)?;
        if !applied.is_some_and(|applied| applied.finished) {
            let before = self.total;
            let mut reader = Reader::new(boot.clone(), applied);
            match self.read(&mut reader, segments, End::Dead) {
                Err(LedgerError::Newer { file }) => {
                    // Its own version takes it in; here it is looked at again at the next start.
                    tracing::warn!(file = %file.display(), "a journal of another version of tollgate is left to it");
                    self.newer.insert(boot);
                    return self.commit(&reader, false);
                }
                read => read?,
            }
            if reader.doubtful() > 0 {
                tracing::error!(
                    boot,
                    attempts = reader.doubtful(),
                    "a journal went bad after it was taken in: these attempts may have ended there, and are not entered as interrupted; \
                     `tollgate ledger verify` tells of those that are no rows"
                );
            }
            // Listed again: a damaged segment has another name by now.
            let segments = segment::list(&self.folder)?.remove(&boot).unwrap_or_default();
            let interrupted = self.enter_left_open(&reader, &segments)?;
            self.commit(&reader, true)?;
            if let Some(metrics) = metrics() {
                metrics.interrupted.inc_by(interrupted);
            }
            tracing::info!(
                boot,
                rows = self.total - before,
                interrupted,
                "the journal of an earlier process was taken in"
            );
        }
        self.store.flush()?;
        for segment in segment::list(&self.folder)?.remove(&boot).unwrap_or_default().values() {
            segment::mark(segment, State::Done)?;
        }
        segment::remove_lock(&self.folder, &boot);
        Ok(())
    }

    /// Makes rows of what is open at the end of a dead process's journal; how many.
    pub(super) fn enter_left_open(
        &mut self,
        reader: &Reader,
        segments: &BTreeMap<u32, Segment>,
    ) -> Result<u64, LedgerError> {
        let mut entered = 0;
        let mut payload = Vec::new();
        for opening in &reader.left_open(segments)? {
            payload.clear();
            match form::write_closed(opening, &Closing::unknown(opening), Ended::Interrupted, &mut payload) {
                Ok(()) => self.add(&payload, opening.at)?,
                Err(e) => {
                    tracing::error!(error = %e, id = %opening.id, "an interrupted attempt could not be encoded");
                    continue;
                }
            }
            entered += 1;
        }
        Ok(entered)
    }
}
