//! A store that is new where an older one was: it broke, or it is gone. It is given what that one had.
//!
//! 1. Rows: every journal that is kept is read again, up to where the sums on disk ([`snapshot`]) have it.
//! 2. Sums: those on disk are taken over, to the token and the nano-dollar. From here on rows are added to them as ever, so none
//!    is in them twice. Sums say of each hour how many rows there were: what did not come back is known, and told.
//!
//! Where no sums on disk are readable, rows and sums begin with the oldest journal that is kept, and that is told.
//!
//! That the sums were begun ([`Rows::begin_sums`]) says that it is done: killed before, the next start goes on with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;

use crate::clock::UnixMicros;
use crate::ledger::metrics::metrics;
use crate::ledger::reader::{self, End, Reader};
use crate::ledger::report::Filter;
use crate::ledger::rollup::{self, HOUR, Sums};
use crate::ledger::segment::{self, Boot, Position, Segment, State};
use crate::ledger::snapshot::{self, Head, Snapshot};
use crate::ledger::{LedgerError, Reach, query, salvage};
use crate::store::codec;
use crate::store::rows::{Applied, BlockKey, Rows};
use crate::store::sums::{Period, Refilled, Rolled, Sum};

use super::{Ingest, Requests};

/// Sums which are written in one batch.
const BATCH: usize = 4096;

impl Ingest {
    /// Fills the store if it has to be. To be called before anything else is taken in.
    pub(super) fn refill(&mut self, now: UnixMicros, requests: &Requests) -> Result<(), LedgerError> {
        if self.filled {
            return Ok(());
        }
        if !requests.told_damaged.load(Ordering::Relaxed) {
            self.tell_waiting()?;
            requests.told_damaged.store(true, Ordering::Relaxed);
        }
        if self.store.rows().rolled()?.is_none() {
            match snapshot::load(&mut self.kept.pair)? {
                Some(snapshot) => self.refill_from(snapshot, now, requests)?,
                None => self.refill_without_sums(now)?,
            }
        }
        if let (Some(metrics), Some(refilled)) = (metrics(), self.store.rows().refilled()?) {
            metrics.rows_missing.set(refilled.rows_missing.cast_signed());
            metrics.sums_whole.set(i64::from(refilled.sums_since == 0));
        }
        self.filled = true;
        Ok(())
    }

    fn refill_from(&mut self, snapshot: Snapshot, now: UnixMicros, requests: &Requests) -> Result<(), LedgerError> {
        let head = snapshot.head.clone();
        self.take_in_again(&head, requests)?;
        let (gap, sums) = self.take_sums_over(snapshot)?;
        let rows = self.store.rows();
        let rolled = rows.last()?.map_or_else(Rolled::default, |(key, span)| Rolled {
            block: key.0,
            rows: span.rows,
        });
        let refilled = Refilled {
            at: now.0,
            rows_since: if gap.rows > 0 { gap.until } else { 0 },
            rows_missing: gap.rows,
            sums_since: head.sums_since,
        };
        rows.begin_sums(&rolled, head.removed_before.max(gap.until), Some(&refilled))?;
        self.store.flush()?;
        if gap.rows > 0 {
            tracing::warn!(
                rows = self.total,
                sums,
                missing = gap.rows,
                since = %query::time_name(gap.until),
                "the store was filled again with all sums; single rows reach only as far back as the journals that are kept \
                 (`[ledger] archive`)"
            );
        } else {
            tracing::info!(
                rows = self.total,
                sums,
                "the store was filled again: no row and no sum is missing"
            );
        }
        Ok(())
    }

    /// Rows again, each journal up to where the sums have it.
    fn take_in_again(&mut self, head: &Head, requests: &Requests) -> Result<(), LedgerError> {
        let boots = segment::list(&self.folder)?;
        let bytes = |segments: &BTreeMap<u32, Segment>| segments.values().map(|segment| segment.bytes).sum::<u64>();
        requests
            .other_bytes
            .store(boots.values().map(bytes).sum(), Ordering::Relaxed);
        for (boot, to) in &head.marks {
            let Some(segments) = boots.get(boot) else {
                continue;
            };
            if !to.finished {
                segment::refuse_repaired(&self.folder, &self.kept.pair.newest(), "sums", segments)?;
            }
            let there = self.store.rows().applied(boot)?;
            if there.is_none_or(|there| !reaches(&there, to)) {
                self.take_in_up_to(boot, there, to, segments)?;
            }
            requests.other_bytes.fetch_sub(bytes(segments), Ordering::Relaxed);
            requests.rows.store(self.total, Ordering::Relaxed);
        }
        Ok(())
    }

    fn take_in_up_to(
        &mut self,
        boot: &Boot,
        there: Option<Applied>,
        to: &Applied,
        segments: &BTreeMap<u32, Segment>,
    ) -> Result<(), LedgerError> {
        let mut reader = Reader::new(boot.clone(), there).was_known_to(to);
        if to.finished {
            self.read(&mut reader, segments, End::Dead)?;
            self.enter_left_open(&reader, segments)?;
        } else {
            let end = Position {
                segment: to.segment,
                offset: to.offset,
            };
            self.read(&mut reader, segments, End::At(end))?;
        }
        // As the store before had it, whatever is missing in between: the sums have it up to there.
        self.commit_at(boot, to)
    }

    /// The sums; and which rows they tell of that are not there.
    fn take_sums_over(&mut self, mut snapshot: Snapshot) -> Result<(Gap, u64), LedgerError> {
        let mut there: HashMap<u32, u64> = HashMap::new();
        query::scan(&self.store, &Filter::default(), BlockKey(0), |_, row| {
            *there.entry(rollup::number(row.opening.at.0, HOUR)).or_default() += 1;
            Ok(true)
        })?;
        let rows = self.store.rows();
        let mut gap = Gap {
            removed_before: snapshot.head.removed_before,
            ..Gap::default()
        };
        let mut day = Day::default();
        let mut batch: Vec<Sum> = Vec::with_capacity(BATCH);
        let mut hour = (0, 0);
        let mut count = 0;
        let file = self.kept.pair.newest();
        while let Some((number, name, bytes)) = snapshot.next().map_err(segment::io_error(&file))? {
            let sums = rollup::decode(&bytes)?;
            if number != hour.0 {
                gap.look(hour, &there);
                hour = (number, 0);
            }
            hour.1 += sums.attempts;
            if number / 24 != day.number {
                day.write(rows)?;
                day.number = number / 24;
            }
            day.sums.entry(name.clone()).or_default().add(&sums);
            batch.push((Period::Hour(number), name, bytes));
            count += 1;
            if batch.len() == BATCH {
                rows.apply_sums(&batch, None)?;
                batch.clear();
            }
        }
        gap.look(hour, &there);
        day.write(rows)?;
        rows.apply_sums(&batch, None)?;
        Ok((gap, count))
    }

    /// Tells of the files which earlier starts found damaged, and which are not repaired.
    fn tell_waiting(&self) -> Result<(), LedgerError> {
        let waiting = Reach::of(&self.folder, &self.store)?.damaged;
        if waiting > 0 {
            tracing::error!(
                files = waiting,
                "damaged journal files wait for `tollgate ledger repair`"
            );
            if let Some(metrics) = metrics() {
                metrics.damaged.inc_by(waiting);
            }
        }
        Ok(())
    }

    /// A file that had been taken in whole is damaged, and the sums on disk do not go so far: what stands behind the damage was rows, and
    /// does not come back. (What ended in the damage itself is entered as interrupted, or nothing tells of it.) Counted before the file
    /// gets its other name, so once.
    pub(super) fn miss_behind(
        &self,
        reader: &Reader,
        segment: &Segment,
        error: &LedgerError,
    ) -> Result<(), LedgerError> {
        let rows = self.store.rows();
        // Before there is one, sums tell of it.
        let (Some(mut refilled), LedgerError::Damaged { at, .. }) = (rows.refilled()?, error) else {
            return Ok(());
        };
        let in_sums = rows.applied(&reader.boot)?.unwrap_or_default();
        let number = reader.at.segment.saturating_sub(1);
        let from = match in_sums.segment.cmp(&number) {
            std::cmp::Ordering::Less => *at,
            std::cmp::Ordering::Equal => in_sums.offset.max(*at),
            std::cmp::Ordering::Greater => return Ok(()),
        };
        let mut missing = 0;
        salvage::rows_behind(segment, from, |head| {
            if !reader.open().contains_key(&head.id) {
                missing += 1;
                refilled.rows_since = refilled.rows_since.max(head.at.0.saturating_add(1));
            }
        })?;
        if missing == 0 {
            return Ok(());
        }
        refilled.rows_missing += missing;
        rows.set_refilled(&refilled)?;
        if let Some(metrics) = metrics() {
            metrics.rows_missing.set(refilled.rows_missing.cast_signed());
        }
        tracing::error!(
            file = %segment.path.display(),
            missing,
            "a journal file went bad after it was taken in, and the store that had its rows is gone: these do not come back"
        );
        Ok(())
    }

    /// There are no sums on disk: this is the first store, or all of them are lost.
    fn refill_without_sums(&mut self, now: UnixMicros) -> Result<(), LedgerError> {
        let rows = self.store.rows();
        let mut boots = segment::list(&self.folder)?;
        boots.remove(&self.own.boot);
        let was_taken_in = boots
            .values()
            .flat_map(BTreeMap::values)
            .any(|s| s.state != State::Fresh);
        let is_lost = self.store.moved_aside().is_some() || was_taken_in;
        // (A store from before sums were kept on disk has its rows, and makes its sums of them.)
        if !is_lost || self.total > 0 || !rows.journals()?.is_empty() {
            return Ok(rows.begin_sums(&Rolled::default(), 0, None)?);
        }
        let mut since = now.0;
        for segments in boots.values() {
            if let Some((_, oldest)) = segments.first_key_value()
                && let Some(first) = reader::first(oldest)?
            {
                since = since.min(first.at.0);
            }
        }
        let refilled = Refilled {
            at: now.0,
            rows_since: since,
            rows_missing: 0,
            sums_since: since,
        };
        rows.begin_sums(&Rolled::default(), since, Some(&refilled))?;
        tracing::warn!(
            since = %query::time_name(since),
            "the store is filled again from the journals that are kept, and its sums were nowhere else: rows and sums of what began \
             before are lost, if there were any; `tollgate ledger verify` compares the sums with the balances"
        );
        Ok(())
    }
}

fn reaches(there: &Applied, to: &Applied) -> bool {
    there.finished >= to.finished && (there.segment, there.offset) >= (to.segment, to.offset)
}

/// Rows which sums tell of, and which are not there.
#[derive(Default)]
struct Gap {
    removed_before: i64,
    /// The end of the last hour of which some are missing.
    until: i64,
    /// How many, without those which had been removed for their age before (and the hour in which that stopped).
    rows: u64,
}

impl Gap {
    /// `hour`: its number, and the rows it had.
    fn look(&mut self, (number, had): (u32, u64), there: &HashMap<u32, u64>) {
        let missing = had.saturating_sub(there.get(&number).copied().unwrap_or_default());
        if missing > 0 {
            let from = i64::from(number) * HOUR;
            self.until = self.until.max(from.saturating_add(HOUR));
            if from >= self.removed_before {
                self.rows += missing;
            }
        }
    }
}

/// The sums of a day, from those of its hours.
#[derive(Default)]
struct Day {
    number: u32,
    sums: HashMap<Vec<u8>, Sums>,
}

impl Day {
    fn write(&mut self, rows: &Rows) -> Result<(), LedgerError> {
        let number = self.number;
        let encode = |(name, sums): (Vec<u8>, Sums)| Ok((Period::Day(number), name, codec::encode(&sums)?));
        let batch: Vec<Sum> = self.sums.drain().map(encode).collect::<Result<_, LedgerError>>()?;
        Ok(rows.apply_sums(&batch, None)?)
    }
}

#[cfg(test)]
mod tests;
