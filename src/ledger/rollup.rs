//! Sums by hour and by day (UTC), for each key, group, model, provider and credential: what reports of long times are made of, and
//! what is left when single rows are removed.
//!
//! They are made of the rows in the store, behind those: about once a minute, and whenever somebody asks. The sums of a minute
//! are then written once, instead of with each batch of rows; that no row counts twice follows from the place up to which rows are
//! in the sums, written with them ([`crate::store::sums`]).
//!
//! ```text
//! name   key FF group FF model FF provider FF credential      (FF is no byte of UTF-8)
//! sums   version 1 ‖ postcard(Sums)
//! ```

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ir::Usage;
use crate::limits::Spent;
use crate::money::NanoUsd;
use crate::store::rows::{BlockKey, Span};
use crate::store::sums::{Period, Rolled};
use crate::store::{Store, StoreError, codec};

use super::blocks::BlockReader;
use super::form::{self, RowRef};
use super::report::ReportLine;
use super::{Ended, LedgerError};

/// Microseconds of an hour.
pub(super) const HOUR: i64 = 3_600_000_000;
/// Microseconds of a day.
pub(super) const DAY: i64 = 24 * HOUR;
/// Rows whose sums are written in one batch: bounds what is held in memory.
const ROLL_ROWS: usize = 1 << 16;
/// Blocks removed in one batch.
const REMOVE_BLOCKS: usize = 256;
/// Between the parts of a name.
pub(super) const END: u8 = 0xFF;

/// Sums of rows. The order of fields is the form on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sums {
    pub(super) requests: u64,
    pub(super) attempts: u64,
    pub(super) complete: u64,
    pub(super) errors: u64,
    pub(super) without_usage: u64,
    pub(super) estimated: u64,
    pub(super) unpriced: u64,
    /// Classes in the order of [`classes`].
    pub(super) tokens: [u64; 8],
    pub(super) cost: NanoUsd,
    pub(super) charge: NanoUsd,
    pub(super) request_bytes: u64,
    pub(super) response_bytes: u64,
}

impl Sums {
    pub(super) fn add_row(&mut self, row: &RowRef<'_>) {
        let closing = &row.closing;
        self.add(&Sums {
            requests: u64::from(row.opening.attempt == 1),
            attempts: 1,
            complete: u64::from(row.ended == Ended::Complete),
            errors: u64::from(!matches!(row.ended, Ended::Complete | Ended::ClientGone)),
            without_usage: u64::from(closing.usage.is_none()),
            estimated: u64::from(closing.estimated),
            unpriced: u64::from(closing.cost.is_none()),
            tokens: closing.usage.map_or([0; 8], classes),
            cost: closing.cost.unwrap_or_default(),
            charge: closing.charge,
            request_bytes: closing.request_bytes,
            response_bytes: closing.response_bytes,
        });
    }

    pub(super) fn add(&mut self, other: &Sums) {
        // Taken apart whole, so that a new sum can't be forgotten.
        let Sums {
            requests,
            attempts,
            complete,
            errors,
            without_usage,
            estimated,
            unpriced,
            tokens,
            cost,
            charge,
            request_bytes,
            response_bytes,
        } = *other;
        for (to, n) in [
            (&mut self.requests, requests),
            (&mut self.attempts, attempts),
            (&mut self.complete, complete),
            (&mut self.errors, errors),
            (&mut self.without_usage, without_usage),
            (&mut self.estimated, estimated),
            (&mut self.unpriced, unpriced),
            (&mut self.request_bytes, request_bytes),
            (&mut self.response_bytes, response_bytes),
        ]
        .into_iter()
        .chain(self.tokens.iter_mut().zip(tokens))
        {
            *to = to.saturating_add(n);
        }
        self.cost += cost;
        self.charge += charge;
    }

    pub(super) fn usage(&self) -> Usage {
        let tokens = &self.tokens;
        Usage {
            input: tokens[0],
            cache_read: tokens[1],
            cache_write_5m: tokens[2],
            cache_write_1h: tokens[3],
            input_audio: tokens[4],
            output: tokens[5],
            reasoning: tokens[6],
            output_audio: tokens[7],
            ..Usage::default()
        }
    }

    /// What they add to the balances of an account.
    pub(super) fn spent(&self) -> Spent {
        let usage = self.usage();
        Spent {
            requests: self.requests,
            tokens: usage.input_total().saturating_add(usage.output_total()),
            charge: self.charge,
        }
    }

    pub(super) fn line(&self, group: Vec<String>) -> ReportLine {
        ReportLine {
            group,
            requests: self.requests,
            attempts: self.attempts,
            complete: self.complete,
            errors: self.errors,
            without_usage: self.without_usage,
            estimated: self.estimated,
            unpriced: self.unpriced,
            usage: self.usage(),
            cost: self.cost,
            charge: self.charge,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
        }
    }
}

fn classes(usage: Usage) -> [u64; 8] {
    let Usage {
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
        // Told to clients, in no book.
        cache_read_excess: _,
        reasoning_excess: _,
    } = usage;
    [
        input,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        input_audio,
        output,
        reasoning,
        output_audio,
    ]
}

/// Whose a sum is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) key: &'a str,
    pub(super) group: &'a str,
    pub(super) model: &'a str,
    pub(super) provider: &'a str,
    pub(super) credential: &'a str,
}

impl<'a> Name<'a> {
    pub(super) fn of(row: &RowRef<'a>) -> Self {
        Name {
            key: row.opening.key,
            group: row.opening.group,
            model: row.opening.model,
            provider: row.opening.provider,
            credential: row.opening.credential,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (n, part) in [self.key, self.group, self.model, self.provider, self.credential]
            .iter()
            .enumerate()
        {
            if n > 0 {
                out.push(END);
            }
            out.extend_from_slice(part.as_bytes());
        }
    }

    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let mut parts = bytes.split(|&byte| byte == END).map(std::str::from_utf8);
        let mut next = || match parts.next() {
            Some(Ok(part)) => Ok(part),
            _ => Err(StoreError::Failed("a sum's name is malformed".into())),
        };
        Ok(Name {
            key: next()?,
            group: next()?,
            model: next()?,
            provider: next()?,
            credential: next()?,
        })
    }
}

/// The hour or the day of a row; times before 1970 are in the first.
pub(super) fn number(at: i64, period: i64) -> u32 {
    u32::try_from(at.max(0) / period).unwrap_or(u32::MAX)
}

pub(super) fn decode(bytes: &[u8]) -> Result<Sums, StoreError> {
    codec::decode(bytes)
}

/// Adds the rows to the sums which are not in them yet; how many. To be called by the ingest thread only.
pub(super) fn roll(store: &Store) -> Result<u64, LedgerError> {
    let mut reader = BlockReader::new()?;
    let mut all = 0;
    loop {
        let mut rolled = store.rows().rolled()?.unwrap_or_default();
        let mut new: HashMap<Vec<u8>, Sums> = HashMap::new();
        let mut rows = 0;
        let mut name = Vec::new();
        let mut is_end = true;
        for span in store.rows().spans(BlockKey(rolled.block)) {
            let (key, span) = span?;
            let done = if key.0 == rolled.block { rolled.rows } else { 0 };
            if span.rows <= done {
                continue;
            }
            if rows >= ROLL_ROWS {
                is_end = false;
                break;
            }
            let Some(block) = store.rows().block(key)? else {
                continue;
            };
            let mut seen = 0;
            for payload in reader.read(block.as_ref())? {
                seen += 1;
                if seen <= done {
                    continue;
                }
                rows += 1;
                let Some(row) = form::read_closed(payload) else {
                    continue; // told of when rows are read
                };
                name.clear();
                name.extend_from_slice(&number(row.opening.at.0, HOUR).to_be_bytes());
                Name::of(&row).write(&mut name);
                if let Some(sums) = new.get_mut(&name) {
                    sums.add_row(&row);
                } else {
                    new.entry(name.clone()).or_default().add_row(&row);
                }
            }
            rolled.block = key.0;
            rolled.rows = seen;
        }
        if rows == 0 {
            return Ok(all);
        }
        write(store, new, &rolled)?;
        all += rows as u64;
        if is_end {
            return Ok(all);
        }
    }
}

/// `new`: sums by hour (4 bytes, big-endian) and name.
fn write(store: &Store, new: HashMap<Vec<u8>, Sums>, rolled: &Rolled) -> Result<(), LedgerError> {
    let mut all: HashMap<(Period, Vec<u8>), Sums> = HashMap::with_capacity(2 * new.len());
    for (name, sums) in new {
        let Some((hour, name)) = name.split_first_chunk::<4>() else {
            continue;
        };
        let hour = u32::from_be_bytes(*hour);
        for period in [Period::Hour(hour), Period::Day(hour / 24)] {
            all.entry((period, name.to_vec())).or_default().add(&sums);
        }
    }
    let mut batch = Vec::with_capacity(all.len());
    for ((period, name), mut sums) in all {
        if let Some(there) = store.rows().sum(period, &name)? {
            sums.add(&decode(there.as_ref())?);
        }
        batch.push((period, name, codec::encode(&sums)?));
    }
    store.rows().apply_sums(&batch, Some(rolled))?;
    Ok(())
}

/// Removes blocks of rows that all began before, and are in the sums; how many rows are left of `total`.
pub(super) fn remove_old(store: &Store, before: UnixMicros, total: u64) -> Result<u64, LedgerError> {
    let rolled = store.rows().rolled()?.unwrap_or_default();
    let mut left = total;
    let mut latest = i64::MIN;
    let mut batch: Vec<BlockKey> = Vec::new();
    for span in store.rows().spans(BlockKey(0)) {
        let (key, Span { rows, max_at, .. }) = span?;
        if max_at >= before.0 || key.0 >= rolled.block {
            break;
        }
        batch.push(key);
        latest = latest.max(max_at);
        left = left.saturating_sub(u64::from(rows));
        if batch.len() == REMOVE_BLOCKS {
            store.rows().remove(&batch, latest.saturating_add(1), left)?;
            batch.clear();
        }
    }
    if !batch.is_empty() {
        store.rows().remove(&batch, latest.saturating_add(1), left)?;
    }
    Ok(left)
}
