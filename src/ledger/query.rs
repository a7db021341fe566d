//! Rows and sums out of the store, block by block: memory does not grow with the number of rows.

use std::collections::HashMap;

use crate::clock::UnixMicros;
use crate::store::Store;
use crate::store::rows::{BlockKey, Span};
use crate::store::sums::Period;

use super::LedgerError;
use super::blocks::BlockReader;
use super::form::{self, RowRef};
use super::report::{Cursor, Filter, GroupBy, Page, ReportLine};
use super::rollup::{self, DAY, END, HOUR, Name, Sums};

/// Most rows of one page.
pub const PAGE_MAX: usize = 10_000;
/// Most groups of one report; more is an error, not a cut report.
pub const GROUPS_MAX: usize = 10_000;
/// How days are written, for strftime: `2026-01-31`.
pub const DAY_FORM: &str = "%Y-%m-%d";
/// How weeks are written (ISO 8601): `2026-W05`.
pub const WEEK_FORM: &str = "%G-W%V";
/// How months are written: `2026-01`.
pub const MONTH_FORM: &str = "%Y-%m";

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
            && is(&self.group, opening.group)
            && is(&self.provider, opening.provider)
            && is(&self.credential, opening.credential)
            && is(&self.model, opening.model)
            && self
                .request
                .as_ref()
                .is_none_or(|request| *request.0 == *opening.request)
            && self.ended.is_none_or(|ended| ended == row.ended)
    }

    /// Sums tell as much as rows.
    fn is_of_sums(&self) -> bool {
        self.request.is_none() && self.ended.is_none()
    }

    fn matches_name(&self, name: &Name<'_>) -> bool {
        let is = |wanted: &Option<String>, text: &str| wanted.as_deref().is_none_or(|wanted| wanted == text);
        is(&self.key, name.key)
            && is(&self.group, name.group)
            && is(&self.provider, name.provider)
            && is(&self.credential, name.credential)
            && is(&self.model, name.model)
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
pub(super) fn scan(
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

/// A part of a report's time, and what it is answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// Single rows that began from .. until, in microseconds.
    Rows(i64, i64),
    /// Sums of hours.
    Hours(u32, u32),
    /// Sums of days.
    Days(u32, u32),
}

/// Sums where they tell as much as rows do: whole days, then whole hours; rows for what is left at the ends. Where rows are no
/// longer kept, whole hours stand for parts of them.
fn pieces(filter: &Filter, by: &[GroupBy], removed_before: i64) -> Vec<Piece> {
    let from = filter.from.map_or(0, |from| from.0.max(0));
    let until = filter.until.map_or(i64::MAX, |until| until.0.max(0));
    if !filter.is_of_sums()
        || by
            .iter()
            .any(|by| matches!(by, GroupBy::Route | GroupBy::UpstreamModel))
    {
        return vec![Piece::Rows(i64::MIN, i64::MAX)];
    }
    let up = |at: i64, period: i64| at / period + i64::from(at % period != 0);
    let first = if from < removed_before {
        from / HOUR
    } else {
        up(from, HOUR)
    };
    let last = if until < removed_before {
        up(until, HOUR)
    } else {
        until / HOUR
    };
    if first >= last {
        return vec![Piece::Rows(from, until)];
    }
    let number = |n: i64| u32::try_from(n).unwrap_or(u32::MAX);
    let hours = |from: i64, until: i64| Piece::Hours(number(from), number(until));
    let (first_day, last_day) = (up(first, 24), last / 24);
    let mut pieces = vec![Piece::Rows(from, first * HOUR)];
    if by.contains(&GroupBy::Hour) || first_day >= last_day {
        pieces.push(hours(first, last));
    } else {
        pieces.push(hours(first, first_day * 24));
        pieces.push(Piece::Days(number(first_day), number(last_day)));
        pieces.push(hours(last_day * 24, last));
    }
    if until != i64::MAX {
        pieces.push(Piece::Rows(last * HOUR, until));
    }
    pieces.retain(|piece| match piece {
        Piece::Rows(from, until) => from < until,
        Piece::Hours(from, until) | Piece::Days(from, until) => from < until,
    });
    pieces
}

pub(super) fn report(store: &Store, filter: &Filter, by: &[GroupBy]) -> Result<Vec<ReportLine>, LedgerError> {
    report_from(&pieces(filter, by, store.rows().removed_before()?), store, filter, by)
}

/// The same from single rows.
#[cfg(test)]
pub(super) fn report_by_rows(store: &Store, filter: &Filter, by: &[GroupBy]) -> Result<Vec<ReportLine>, LedgerError> {
    report_from(&[Piece::Rows(i64::MIN, i64::MAX)], store, filter, by)
}

fn report_from(
    pieces: &[Piece],
    store: &Store,
    filter: &Filter,
    by: &[GroupBy],
) -> Result<Vec<ReportLine>, LedgerError> {
    let mut groups = Groups::new(by);
    for &piece in pieces {
        let (from, until) = match piece {
            Piece::Rows(from, until) => {
                let mut part = filter.clone();
                if from != i64::MIN {
                    part.from = Some(UnixMicros(from));
                }
                if until != i64::MAX {
                    part.until = Some(UnixMicros(until));
                }
                scan(store, &part, part.first_block(store)?, |_, row| {
                    groups
                        .of(&Name::of(&row), OfRows::of(&row), row.opening.at.0)?
                        .add_row(&row);
                    Ok(true)
                })?;
                continue;
            }
            Piece::Hours(from, until) => (Period::Hour(from), Period::Hour(until)),
            Piece::Days(from, until) => (Period::Day(from), Period::Day(until)),
        };
        for sum in store.rows().sums(from, until) {
            let (period, name, bytes) = sum?;
            let name = Name::read(&name)?;
            if !filter.matches_name(&name) {
                continue;
            }
            let at = match period {
                Period::Hour(number) => i64::from(number) * HOUR,
                Period::Day(number) => i64::from(number) * DAY,
            };
            groups.of(&name, OfRows::default(), at)?.add(&rollup::decode(&bytes)?);
        }
    }
    Ok(groups.lines())
}

/// What rows have in common that sums do not tell.
#[derive(Clone, Copy, Default)]
struct OfRows<'a> {
    route: &'a str,
    upstream_model: &'a str,
}

impl<'a> OfRows<'a> {
    fn of(row: &RowRef<'a>) -> Self {
        OfRows {
            route: row.opening.route,
            upstream_model: row.opening.upstream_model,
        }
    }
}

/// The sums of a report, by group.
struct Groups<'a> {
    by: &'a [GroupBy],
    places: HashMap<Box<[u8]>, usize>,
    sums: Vec<Sums>,
    group: Vec<u8>,
    time: [Time; 4],
}

impl<'a> Groups<'a> {
    fn new(by: &'a [GroupBy]) -> Self {
        Groups {
            by,
            places: HashMap::new(),
            sums: Vec::new(),
            group: Vec::new(),
            time: Default::default(),
        }
    }

    /// The sums of the group which this belongs to.
    fn of(&mut self, name: &Name<'_>, rows: OfRows<'_>, at: i64) -> Result<&mut Sums, LedgerError> {
        self.group.clear();
        for by in self.by {
            let mut part = |text: &str| self.group.extend_from_slice(text.as_bytes());
            match by {
                GroupBy::Key => part(name.key),
                GroupBy::Group => part(name.group),
                GroupBy::Model => part(name.model),
                GroupBy::Provider => part(name.provider),
                GroupBy::Credential => {
                    part(name.provider);
                    part("/");
                    part(name.credential);
                }
                GroupBy::Route => part(rows.route),
                GroupBy::UpstreamModel => part(rows.upstream_model),
                GroupBy::Day => part(self.time[0].text(at, DAY, DAY_FORM)),
                GroupBy::Week => part(self.time[2].text(at, DAY, WEEK_FORM)),
                GroupBy::Month => part(self.time[3].text(at, DAY, MONTH_FORM)),
                GroupBy::Hour => part(self.time[1].text(at, HOUR, "%Y-%m-%dT%H:00Z")),
            }
            self.group.push(END);
        }
        let at = match self.places.get(self.group.as_slice()) {
            Some(&at) => at,
            None if self.sums.len() >= GROUPS_MAX => return Err(LedgerError::TooManyGroups { max: GROUPS_MAX }),
            None => {
                self.places.insert(self.group.as_slice().into(), self.sums.len());
                self.sums.push(Sums::default());
                self.sums.len() - 1
            }
        };
        Ok(&mut self.sums[at])
    }

    fn lines(self) -> Vec<ReportLine> {
        let mut lines: Vec<ReportLine> = Vec::with_capacity(self.sums.len());
        for (group, at) in self.places {
            let parts = group.split_inclusive(|&byte| byte == END);
            let group = parts.map(|part| String::from_utf8_lossy(&part[..part.len() - 1]).into_owned());
            lines.push(self.sums[at].line(group.collect()));
        }
        lines.sort_by(|a, b| a.group.cmp(&b.group));
        lines
    }
}

/// The day of so many days since 1970: `2026-01-31`.
pub(super) fn day_name(day: u32) -> String {
    Time::default().text(i64::from(day) * DAY, DAY, DAY_FORM).to_owned()
}

/// A moment: `2026-01-31T05:17:00Z`.
pub(super) fn time_name(at: i64) -> String {
    Time::default().text(at, 1, "%Y-%m-%dT%H:%M:%SZ").to_owned()
}

/// The last day or hour named: neighbours mostly share it.
#[derive(Default)]
struct Time {
    number: Option<i64>,
    text: String,
}

impl Time {
    /// In UTC.
    fn text(&mut self, at: i64, period: i64, form: &str) -> &str {
        let number = at.div_euclid(period);
        if self.number != Some(number) {
            self.number = Some(number);
            self.text = jiff::Timestamp::from_microsecond(at)
                .map(|at| at.strftime(form).to_string())
                .unwrap_or_default();
        }
        &self.text
    }
}
