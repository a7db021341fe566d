//! Rows and sums out of the store, block by block: memory does not grow with the number of rows.

use std::collections::HashMap;

use crate::clock::UnixMicros;
use crate::store::Store;
use crate::store::rows::{BlockKey, Span};

use super::blocks::BlockReader;
use super::form::{self, RowRef};
use super::report::{Cursor, Filter, GroupBy, Page, ReportLine};
use super::{Ended, LedgerError};

/// Most rows of one page.
pub const PAGE_MAX: usize = 10_000;
/// Most groups of one report; more is an error, not a cut report.
pub const GROUPS_MAX: usize = 10_000;

const MICROS_PER_DAY: i64 = 86_400_000_000;

impl Filter {
    fn may_match(&self, span: &Span) -> bool {
        self.from.is_none_or(|from| span.max_at >= from.0) && self.until.is_none_or(|until| span.min_at < until.0)
    }

    fn matches(&self, row: &RowRef<'_>) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        let opening = &row.opening;
        self.from.is_none_or(|from| opening.at >= from)
            && self.until.is_none_or(|until| opening.at < until)
            && is(&self.key, opening.key)
            && is(&self.provider, opening.provider)
            && is(&self.credential, opening.credential)
            && is(&self.model, opening.model)
            && self
                .request
                .as_ref()
                .is_none_or(|request| *request.0 == *opening.request)
            && self.ended.is_none_or(|ended| ended == row.ended)
    }

    /// The first block which may hold a row. No row began after the key of the block behind its own.
    fn first_block(&self, store: &Store) -> Result<BlockKey, LedgerError> {
        let before = match self.from {
            Some(UnixMicros(from)) if from > 0 => BlockKey(from.unsigned_abs() - 1),
            _ => return Ok(BlockKey(0)),
        };
        Ok(store.rows().at_or_before(before)?.unwrap_or_default())
    }
}

/// Calls `each` with every row that matches, in order, until it says stop.
fn scan(
    store: &Store,
    filter: &Filter,
    first: BlockKey,
    mut each: impl FnMut(Cursor, RowRef<'_>) -> Result<bool, LedgerError>,
) -> Result<(), LedgerError> {
    let mut reader = BlockReader::new()?;
    for span in store.rows().spans(first) {
        let (key, span) = span?;
        if !filter.may_match(&span) {
            continue;
        }
        let Some(block) = store.rows().block(key)? else {
            continue;
        };
        for (number, payload) in (0..).zip(reader.read(block.as_ref())?) {
            let place = Cursor {
                block: key.0,
                row: number,
            };
            let Some(row) = form::read_closed(payload) else {
                tracing::error!(%place, "a row of the ledger is unreadable: was it written by a newer program?");
                continue;
            };
            if filter.matches(&row) && !each(place, row)? {
                return Ok(());
            }
        }
    }
    Ok(())
}

pub(super) fn rows(store: &Store, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page, LedgerError> {
    let limit = limit.clamp(1, PAGE_MAX);
    let first = filter
        .first_block(store)?
        .max(BlockKey(after.map_or(0, |after| after.block)));
    let mut page = Page::default();
    scan(store, filter, first, |place, row| {
        if after.is_some_and(|after| place <= after) {
            return Ok(true);
        }
        page.rows.push(row.to_row());
        if page.rows.len() == limit {
            page.next = Some(place);
        }
        Ok(page.rows.len() < limit)
    })?;
    Ok(page)
}

pub(super) fn report(store: &Store, filter: &Filter, by: &[GroupBy]) -> Result<Vec<ReportLine>, LedgerError> {
    let mut lines: HashMap<Box<[u8]>, ReportLine> = HashMap::new();
    let mut group = Vec::new();
    let mut day = Day::default();
    scan(store, filter, filter.first_block(store)?, |_, row| {
        group.clear();
        for by in by {
            let mut part = |text: &str| {
                group.extend_from_slice(text.as_bytes());
            };
            match by {
                GroupBy::Key => part(row.opening.key),
                GroupBy::Model => part(row.opening.model),
                GroupBy::Provider => part(row.opening.provider),
                GroupBy::Credential => {
                    part(row.opening.provider);
                    part("/");
                    part(row.opening.credential);
                }
                GroupBy::Day => part(day.text(row.opening.at)),
            }
            group.push(END);
        }
        if let Some(line) = lines.get_mut(group.as_slice()) {
            add(line, &row);
            return Ok(true);
        }
        if lines.len() >= GROUPS_MAX {
            return Err(LedgerError::TooManyGroups { max: GROUPS_MAX });
        }
        let mut line = ReportLine {
            group: group
                .split_inclusive(|&byte| byte == END)
                .map(|part| String::from_utf8_lossy(&part[..part.len() - 1]).into_owned())
                .collect(),
            ..ReportLine::default()
        };
        add(&mut line, &row);
        lines.insert(group.as_slice().into(), line);
        Ok(true)
    })?;
    let mut lines: Vec<_> = lines.into_values().collect();
    lines.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(lines)
}

/// Ends a part of a group's name: no byte of UTF-8.
const END: u8 = 0xFF;

fn add(line: &mut ReportLine, row: &RowRef<'_>) {
    let sum = |to: &mut u64, n: u64| *to = to.saturating_add(n);
    sum(&mut line.attempts, 1);
    sum(&mut line.complete, u64::from(row.ended == Ended::Complete));
    sum(&mut line.request_bytes, row.closing.request_bytes);
    sum(&mut line.response_bytes, row.closing.response_bytes);
    let Some(usage) = row.closing.usage else {
        sum(&mut line.without_usage, 1);
        return;
    };
    let to = &mut line.usage;
    // Taken apart whole, so that a new class can't be forgotten.
    let crate::ir::Usage {
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
    sum(&mut to.input, input);
    sum(&mut to.cache_read, cache_read);
    sum(&mut to.cache_write_5m, cache_write_5m);
    sum(&mut to.cache_write_1h, cache_write_1h);
    sum(&mut to.input_audio, input_audio);
    sum(&mut to.output, output);
    sum(&mut to.reasoning, reasoning);
    sum(&mut to.output_audio, output_audio);
}

/// The last day named: neighbours mostly share it.
#[derive(Default)]
struct Day {
    number: Option<i64>,
    text: String,
}

impl Day {
    /// `2026-01-31`, UTC.
    fn text(&mut self, at: UnixMicros) -> &str {
        let number = at.0.div_euclid(MICROS_PER_DAY);
        if self.number != Some(number) {
            self.number = Some(number);
            self.text = jiff::Timestamp::from_microsecond(at.0)
                .map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date().to_string())
                .unwrap_or_default();
        }
        &self.text
    }
}
