//! When the sums are written beside the store ([`snapshot`]): now and then, and before journals go which no such file covers. A
//! journal is removed once both files have its rows, so whichever of them is readable, with the journals that are kept, gives all sums.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::clock::UnixMicros;
use crate::ledger::disk;
use crate::ledger::journal::Settings;
use crate::ledger::pair::{Pair, Unusable};
use crate::ledger::segment::{Boot, io_error};
use crate::ledger::snapshot::{self, Head};
use crate::ledger::{LedgerError, rollup};
use crate::store::Store;
use crate::store::rows::Applied;

use super::Ingest;

/// How often they are written where no journal has to go: bounds what could be lost should store and journals break together.
const EVERY: Duration = Duration::from_secs(6 * 3600);
/// After writing them it rests for so many times what it took: 5 % of the time at most.
const REST: u32 = 19;
/// A stop does not wait for more than this is written, in bytes: about a second.
const STOP_MOST: u64 = 32 << 20;

/// The files, and what they cover.
pub(super) struct KeptSums {
    pub(super) pair: Pair,
    /// For each journal in the file before and in the newest one: the first segment which is not needed for its sums.
    covered: Option<[BTreeMap<Boot, u32>; 2]>,
    /// A journal is to go which is not covered.
    wanted: bool,
    next: Instant,
    not_before: Instant,
    failing: bool,
}

impl KeptSums {
    pub(super) fn new(folder: &Path) -> Self {
        let pair = snapshot::pair(folder);
        pair.remove_left_over();
        let now = Instant::now();
        KeptSums {
            next: if pair.newest().exists() { now + EVERY } else { now },
            pair,
            covered: None,
            wanted: false,
            not_before: now,
            failing: false,
        }
    }

    /// Would the sums be found again without this segment, from either of the files? If not, they are written.
    pub(super) fn covers(&mut self, boot: &str, segment: u32) -> bool {
        let Some(covered) = self.covered() else {
            return false;
        };
        let covers = covered
            .iter()
            .all(|needed| needed.get(boot).is_some_and(|&needed| segment < needed));
        self.wanted |= !covers;
        covers
    }

    /// What the files on disk cover. The first time they are read for it; what is damaged covers nothing, and is written anew.
    /// `None`: one of them can't be read now. It may hold what nothing else does: it stays as it is, and journals are kept.
    fn covered(&mut self) -> Option<&mut [BTreeMap<Boot, u32>; 2]> {
        if self.covered.is_none() {
            let mut covered: [BTreeMap<Boot, u32>; 2] = Default::default();
            for (covered, file) in covered.iter_mut().zip([self.pair.before(), self.pair.newest()]) {
                match snapshot::read(&file) {
                    Ok(Some(snapshot)) => *covered = first_needed(&snapshot.head.marks),
                    Ok(None) => {}
                    Err(Unusable::Damaged(why)) => {
                        tracing::error!(file = %file.display(), why, "the sums on disk are damaged; they are written anew");
                        self.pair.is_bad(&file);
                        self.wanted = true;
                    }
                    Err(Unusable::Unread(why)) => {
                        if !std::mem::replace(&mut self.failing, true) {
                            tracing::error!(
                                file = %file.display(),
                                why,
                                "the sums on disk can't be read; none are written and journals are kept until they can"
                            );
                        }
                        return None;
                    }
                }
            }
            self.covered = Some(covered);
        }
        self.covered.as_mut()
    }

    fn is_due(&mut self, stop: bool) -> bool {
        if self.covered().is_none() {
            return false;
        }
        let now = Instant::now();
        if stop {
            let bytes = std::fs::metadata(self.pair.newest()).map_or(0, |metadata| metadata.len());
            return (self.wanted || now >= self.next) && bytes <= STOP_MOST;
        }
        (self.wanted || now >= self.next) && now >= self.not_before
    }

    /// Is there room for one more file, and as much again for what it may have grown, beside what must be free and the ballast? The
    /// sums must not be what fills the disk.
    fn has_room(&self, settings: &Settings) -> Result<(), LedgerError> {
        let newest = self.pair.newest();
        let size = match std::fs::metadata(&newest) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => 0,
            Err(e) => return Err(io_error(&newest)(e)),
        };
        let needed = settings
            .min_free
            .saturating_add(settings.ballast)
            .saturating_add(size.saturating_mul(2));
        let free = disk::free_space(&settings.folder).map_err(io_error(&settings.folder))?;
        if free >= needed {
            return Ok(());
        }
        let why = format!("{needed} bytes must be free for it, and {free} are");
        Err(io_error(&newest)(io::Error::new(io::ErrorKind::StorageFull, why)))
    }

    fn write(&mut self, store: &Store, at: UnixMicros) -> Result<(), LedgerError> {
        if self.covered().is_none() {
            let why = io::Error::other("it can't be read, and is not written over");
            return Err(io_error(&self.pair.newest())(why));
        }
        let rows = store.rows();
        let mut marks: Vec<(Boot, Applied)> = Vec::new();
        for boot in rows.journals()? {
            marks.extend(rows.applied(&boot)?.map(|applied| (boot, applied)));
        }
        let head = Head {
            at,
            removed_before: rows.removed_before()?,
            sums_since: rows.refilled()?.map_or(0, |refilled| refilled.sums_since),
            marks,
        };
        let begun = Instant::now();
        let bytes = snapshot::write(&mut self.pair, store, &head)?;
        tracing::debug!(
            bytes,
            milliseconds = begun.elapsed().as_millis() as u64,
            "the sums were written beside the store"
        );
        let newest = first_needed(&head.marks);
        if let Some(covered) = self.covered() {
            covered.swap(0, 1);
            covered[1] = newest;
        }
        self.not_before = Instant::now() + begun.elapsed() * REST;
        self.next = Instant::now() + EVERY;
        self.wanted = false;
        Ok(())
    }
}

/// Writes both files from a store in which all rows are in the sums, where no gateway runs.
pub(in crate::ledger) fn write_both_sums(folder: &Path, store: &Store, at: UnixMicros) -> Result<(), LedgerError> {
    let mut kept = KeptSums::new(folder);
    kept.write(store, at)?;
    kept.write(store, at)
}

fn first_needed(marks: &[(Boot, Applied)]) -> BTreeMap<Boot, u32> {
    let needed = |applied: &Applied| match applied.finished {
        true => u32::MAX,
        false => applied.open_segment,
    };
    marks
        .iter()
        .map(|(boot, applied)| (boot.clone(), needed(applied)))
        .collect()
}

impl Ingest {
    /// Writes the sums beside the store, if it is time; true: they were written. All that was read must be in the store.
    pub(super) fn keep_sums(&mut self, settings: &Settings, stop: bool) -> Result<bool, LedgerError> {
        if !self.kept.is_due(stop) {
            return Ok(false);
        }
        rollup::roll(&self.store)?;
        let written = match self.kept.has_room(settings) {
            Ok(()) => self.kept.write(&self.store, settings.clock.now()),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => {
                self.kept.failing = false;
                Ok(true)
            }
            Err(error) => {
                self.kept.not_before = Instant::now() + super::PRUNE_EVERY;
                if !std::mem::replace(&mut self.kept.failing, true) {
                    tracing::error!(%error, "the sums could not be written beside the store; journals are kept until they can");
                }
                Ok(false)
            }
        }
    }
}
