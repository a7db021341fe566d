//! The ingest: journals into the store, exactly once.
//!
//! Rows are written in blocks, and in the same atomic batch how far the journal is applied with them: whatever is lost or
//! killed, the next start goes on from what the store says. It also remembers where the oldest attempt stands that was open
//! then; from there a dead process's journal is read again, for openings only, so that what it left open becomes
//! a row marked as interrupted, together with the note that this journal is finished.
//!
//! Journals which are taken in are kept, the newest of them (`[ledger] archive`), and the sums are written beside the store: one
//! which broke is filled from both ([`refill`]).

mod dead;
mod keep_sums;
mod refill;
mod removal;
mod requests;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::clock::UnixMicros;
use crate::store::rows::{Applied, Block};
use crate::store::{Store, StoreError};

use super::blocks::{Compressor, Tail};
use super::bookkeeper::Bookkeeper;
use super::journal::Journal;
use super::metrics::metrics;
use super::reader::{End, Reader, Stop};
use super::segment::{self, Boot, Segment, State};
use super::verify::{Question, Verdict};
use super::{LedgerError, rollup, verify};

use keep_sums::KeptSums;

pub(super) use keep_sums::write_both_sums;
pub(super) use requests::Requests;

/// How often the journal's tail is taken in when nobody asks.
const EVERY: Duration = Duration::from_secs(1);
/// Bytes of journal after which it is taken in sooner.
const SOONER: u64 = 1 << 20;
/// How often it is looked for journals that can go.
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How often rows are added to the sums when nobody asks.
const ROLL_EVERY: Duration = Duration::from_secs(60);
/// Full blocks which are written in one batch.
const BATCH_BLOCKS: usize = 8;

/// The ingest thread's life.
pub(super) fn run(journal: &Journal, store: &Arc<Store>, requests: &Requests, keeper: &Arc<Bookkeeper>) {
    let mut ingest = None;
    loop {
        let (asked, what) = {
            let mut state = requests.state.lock();
            if state.done == state.asked && !state.stop && !state.sooner {
                requests.changed.wait_for(&mut state, EVERY);
            }
            state.sooner = false;
            let what = What {
                stop: state.stop,
                roll: std::mem::take(&mut state.roll) || state.stop,
                verify: std::mem::take(&mut state.verify),
            };
            (state.asked, what)
        };
        let result = if requests.broken.load(Ordering::Relaxed) {
            Err("the store broke; it will be filled again at the next start".to_owned())
        } else {
            catch_unwind(AssertUnwindSafe(|| {
                pass(&mut ingest, journal, store, requests, keeper, what)
            }))
            .unwrap_or_else(|_| {
                requests.broken.store(true, Ordering::Relaxed);
                store.condemn();
                tracing::error!(
                    "the store panicked; rows stay in the journal, and the store is filled again at the next start"
                );
                Err("the store broke".into())
            })
        };
        if result.is_err() {
            ingest = None; // what it holds in memory is unknown to the store: start again from what the store says
        }
        let mut state = requests.state.lock();
        state.done = asked;
        state.failure = result.err();
        requests.changed.notify_all();
        if what.stop {
            // Whoever asked while this pass ran is answered too.
            state.done = state.asked;
            return;
        }
    }
}

/// What a pass is to do besides taking rows in.
#[derive(Clone, Copy)]
struct What {
    stop: bool,
    roll: bool,
    verify: bool,
}

fn pass(
    ingest: &mut Option<Ingest>,
    journal: &Journal,
    store: &Arc<Store>,
    requests: &Requests,
    keeper: &Arc<Bookkeeper>,
    what: What,
) -> Result<(), String> {
    if journal.is_full() {
        return Ok(()); // sled does not survive a full disk: rows wait in the journal
    }
    let written = journal.end.lock().bytes;
    requests
        .wake_at
        .store(written.saturating_add(SOONER), Ordering::Relaxed);
    let work = || -> Result<(), LedgerError> {
        let ingest = match ingest {
            Some(ingest) => ingest,
            none => none.insert(Ingest::new(
                journal.settings.folder.clone(),
                journal.boot.clone(),
                journal.settings.archive,
                store.clone(),
                keeper.clone(),
            )?),
        };
        if what.verify {
            ingest.looked_for_dead = None;
        }
        let now = journal.settings.clock.now();
        ingest.refill(now, requests)?;
        ingest.take_in_the_dead(requests)?;
        let end = *journal.synced_end.lock();
        ingest.take_in_own(End::At(end.position))?;
        if ingest.rolled.elapsed() >= ROLL_EVERY || what.roll {
            ingest.rolled = Instant::now();
            rollup::roll(store)?;
        }
        if ingest.pruned.elapsed() >= PRUNE_EVERY || what.stop {
            ingest.pruned = Instant::now();
            ingest.prune()?;
            ingest.forget(journal)?;
            if ingest.keep_sums(&journal.settings, what.stop)? {
                ingest.prune()?;
            }
        }
        if what.verify {
            let verdict = ingest.verify(journal)?;
            requests.state.lock().verdict = Some(verdict);
        }
        requests.applied_bytes.store(end.bytes, Ordering::Relaxed);
        requests.rows.store(ingest.total, Ordering::Relaxed);
        Ok(())
    };
    let result = work().map_err(|e| {
        tracing::error!(error = %e, "rows could not be taken into the store; they stay in the journal");
        e.to_string()
    });
    if let Some(metrics) = metrics() {
        let lag = requests.lag_bytes(journal.end.lock().bytes);
        metrics.lag_bytes.set(lag.cast_signed());
    }
    result
}

/// What the ingest knows between two passes.
pub(super) struct Ingest {
    folder: PathBuf,
    store: Arc<Store>,
    compressor: Compressor,
    tail: Tail,
    /// Full blocks, not in the store yet.
    full: Vec<Block>,
    /// Rows in the store, and in `full` and `tail`.
    total: u64,
    own: Reader,
    /// The own segment from which on nothing was archived yet.
    archived: u32,
    looked_for_dead: Option<Instant>,
    /// Journals of dead processes of another version.
    newer: BTreeSet<Boot>,
    pruned: Instant,
    rolled: Instant,
    /// Bytes of journal to keep.
    archive: u64,
    keeper: Arc<Bookkeeper>,
    kept: KeptSums,
    /// The store has what an older one had.
    filled: bool,
}

impl Ingest {
    pub(super) fn new(
        folder: PathBuf,
        boot: Boot,
        archive: u64,
        store: Arc<Store>,
        keeper: Arc<Bookkeeper>,
    ) -> Result<Self, LedgerError> {
        let applied = store.rows().applied(&boot)?;
        Ok(Ingest {
            kept: KeptSums::new(&folder),
            filled: false,
            folder,
            compressor: Compressor::new()?,
            tail: Tail::after(store.rows().last()?),
            full: Vec::new(),
            total: store.rows().total()?,
            own: Reader::new(boot, applied),
            archived: 0,
            looked_for_dead: None,
            newer: BTreeSet::new(),
            pruned: Instant::now(),
            rolled: Instant::now(),
            archive,
            keeper,
            store,
        })
    }

    fn take_in_own(&mut self, end: End) -> Result<(), LedgerError> {
        let before = self.own.at;
        if let End::At(end) = end
            && end == before
        {
            return Ok(());
        }
        let mut segments = segment::list(&self.folder)?;
        let own = segments.remove(&self.own.boot).unwrap_or_default();
        let mut reader = std::mem::replace(&mut self.own, Reader::new(Boot::new(), None));
        let result = self.read(&mut reader, &own, end).and_then(|()| {
            if reader.at == before {
                return Ok(());
            }
            self.commit(&reader, false)
        });
        self.own = reader;
        result?;
        let needed = self.own.first_needed();
        if needed > self.archived {
            self.archived = needed;
            self.store.flush()?;
            for (_, segment) in own.range(..needed) {
                segment::mark(segment, State::Done)?;
            }
            self.prune()?;
        }
        Ok(())
    }

    /// Reads to the end, writing full batches on the way. What is in the tail then is not written yet.
    fn read(&mut self, reader: &mut Reader, segments: &BTreeMap<u32, Segment>, end: End) -> Result<(), LedgerError> {
        loop {
            let mut failed = None;
            let stop = reader.read(segments, end, |payload, head| match self.add(payload, head.at) {
                Ok(()) => self.full.len() < BATCH_BLOCKS,
                Err(e) => {
                    failed = Some(e);
                    false
                }
            })?;
            if let Some(e) = failed {
                return Err(e.into());
            }
            match stop {
                Stop::End => return Ok(()),
                Stop::Paused => self.commit(reader, false)?,
                Stop::Damaged(segment, error) => {
                    if matches!(segment.state, State::Fresh | State::Done) {
                        tell_damaged(&error);
                        if segment.state == State::Done {
                            self.miss_behind(reader, &segment, &error)?;
                        }
                        // In the store first: a file that is moved aside is not read for these rows again.
                        self.commit(reader, false)?;
                        // The file that is being written keeps its name.
                        let is_written = matches!(end, End::At(end) if reader.at.segment > end.segment);
                        if !is_written {
                            segment::mark(&segment, State::Damaged)?;
                        }
                    }
                }
            }
        }
    }

    fn add(&mut self, payload: &[u8], at: UnixMicros) -> Result<(), StoreError> {
        self.tail.push(payload, at);
        self.total += 1;
        if self.tail.is_full() {
            self.full.extend(self.tail.block(&mut self.compressor)?);
            self.tail.begin_next();
        }
        Ok(())
    }

    /// Writes what was read, and how far, as one.
    fn commit(&mut self, reader: &Reader, finished: bool) -> Result<(), LedgerError> {
        self.commit_at(&reader.boot, &reader.progress(finished))
    }

    fn commit_at(&mut self, boot: &Boot, applied: &Applied) -> Result<(), LedgerError> {
        let full = self.full.len();
        self.full.extend(self.tail.block(&mut self.compressor)?);
        let written = self.store.rows().apply(&self.full, boot, applied, self.total);
        self.full.truncate(full);
        written?;
        self.full.clear();
        self.tail.saved();
        Ok(())
    }

    /// Brings rows, sums and books to the same place, and compares everything.
    fn verify(&mut self, journal: &Journal) -> Result<Verdict, LedgerError> {
        let keeper = self.keeper.clone();
        let handed = journal.handed();
        let synced = journal.settle_down();
        keeper.follow_others()?;
        let books = keeper.follow(journal);
        let (end, _) = books.own_place();
        self.take_in_own(End::At(end))?;
        rollup::roll(&self.store)?;
        let (mut verdict, damaged) = verify::check(&Question {
            folder: &self.folder,
            store: &self.store,
            books: &books,
            accounts: Some(keeper.accounts()),
            own: Some((&journal.boot, end)),
        })?;
        verdict.quiet = synced && keeper.compare_quiet(journal, &books, handed, &mut verdict);
        verdict.ok = verdict.differences.is_empty();
        // Fresh ones are named when they are taken in.
        for segment in damaged.iter().filter(|segment| segment.state == State::Done) {
            if let Err(error) = segment::mark(segment, State::Damaged) {
                tracing::warn!(%error, "a damaged journal file could not be renamed; the next look at the books tries again");
                continue;
            }
            tracing::error!(
                file = %segment.path.display(),
                "a journal file went bad after it was taken in; it is kept as .damaged"
            );
            if let Some(metrics) = metrics() {
                metrics.damaged.inc();
            }
        }
        Ok(verdict)
    }
}

fn tell_damaged(error: &LedgerError) {
    tracing::error!(
        %error,
        "the journal is damaged; what stands before the damage was taken in, the file is kept as .damaged; stop the gateway and say \
         `tollgate ledger repair` to take over what can be read behind it"
    );
    if let Some(metrics) = metrics() {
        metrics.damaged.inc();
    }
}
