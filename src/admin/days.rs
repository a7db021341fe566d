//! Reports by days, weeks and months of a time zone. The ledger sums by hours and days of UTC: each window of the zone is asked for by
//! itself, and answered from the sums of the hours and days in it.
//!
//! A window that begins within an hour of UTC (Asia/Kolkata's days, at 18:30) takes the rest of that hour from single rows. Where
//! these are removed nobody knows any more what belongs to which day: such a report is refused, not guessed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::refusal::Refusal;
use crate::clock::UnixMicros;
use crate::ledger::query::{DAY_FORM, GROUPS_MAX, MONTH_FORM, WEEK_FORM};
use crate::ledger::{Filter, GroupBy, Ledger, LedgerError, ReportLine};
use crate::limits::{Calendar, Limits, Span, Window};
use crate::observe::redact::printable;

/// Microseconds of an hour.
const HOUR: i64 = 3_600_000_000;
/// Microseconds of a day of UTC.
const DAY: i64 = 24 * HOUR;
/// Longest name of a time zone that is said back, in characters.
const NAME_MAX: usize = 64;

/// Whose days, weeks and months count.
pub(super) struct Zone {
    pub(super) name: String,
    pub(super) zone: TimeZone,
    /// The one budgets go by, so that a report's days are those of the budgets.
    calendar: Calendar,
}

impl Zone {
    /// A name of the IANA database; `None`: UTC.
    pub(super) fn read(name: Option<&str>) -> Result<Self, Refusal> {
        let name = printable(name.unwrap_or("UTC"), NAME_MAX).into_owned();
        let limits = Limits {
            time_zone: Some(name),
            ..Limits::default()
        };
        let unknown = |told: String| Refusal::invalid_query("time_zone", told);
        limits.check().map_err(|bad| unknown(bad.to_string()))?;
        let name = limits.time_zone.clone().unwrap_or_default();
        let zone = TimeZoneDatabase::bundled()
            .get(&name)
            .map_err(|error| unknown(error.to_string()))?;
        Ok(Zone {
            name: zone.iana_name().unwrap_or(&name).to_owned(),
            zone,
            calendar: Calendar::of(&limits),
        })
    }

    /// The ledger's report by days, weeks and months of this zone; hours stay those of UTC. `None`: it would take single rows that are
    /// removed. Blocking.
    pub(super) fn report(
        &self,
        ledger: &Ledger,
        filter: &Filter,
        by: &[GroupBy],
    ) -> Result<Option<Vec<ReportLine>>, LedgerError> {
        let Some(window) = window(by).filter(|_| self.zone != TimeZone::UTC) else {
            return ledger.report(filter, by).map(Some);
        };
        let spans = self.spans(window, &ledger.report(filter, &[GroupBy::Day])?);
        let is_whole = |at: UnixMicros| at.0 % HOUR == 0;
        if !spans.iter().all(|span| is_whole(span.from) && is_whole(span.to)) && rows_are_removed(ledger, filter)? {
            return Ok(None);
        }
        let rest: Vec<GroupBy> = by.iter().copied().filter(|by| form(*by).is_none()).collect();
        let mut lines: BTreeMap<Vec<String>, ReportLine> = BTreeMap::new();
        for span in spans {
            let part = Filter {
                from: Some(filter.from.map_or(span.from, |from| from.max(span.from))),
                until: Some(filter.until.map_or(span.to, |until| until.min(span.to))),
                ..filter.clone()
            };
            if part.from >= part.until {
                continue;
            }
            let first = self.date(span.from);
            for line in ledger.report(&part, &rest)? {
                let mut others = line.group.iter().cloned();
                let group = by.iter().map(|by| match form(*by) {
                    Some(form) => first.strftime(form).to_string(),
                    None => others.next().unwrap_or_default(),
                });
                let group: Vec<String> = group.collect();
                if lines.len() >= GROUPS_MAX && !lines.contains_key(&group) {
                    return Err(LedgerError::TooManyGroups { max: GROUPS_MAX });
                }
                *lines.entry(group).or_default() += &line;
            }
        }
        let named = |(group, line)| ReportLine { group, ..line };
        Ok(Some(lines.into_iter().map(named).collect()))
    }

    /// The windows that share a moment with one of these days of UTC, in order.
    fn spans(&self, window: Window, days: &[ReportLine]) -> Vec<Span> {
        let mut spans = BTreeMap::new();
        let days = days.iter().filter_map(|line| line.group.first()?.parse::<Date>().ok());
        for day in days.filter_map(|day| day.to_zoned(TimeZone::UTC).ok()) {
            let mut at = day.timestamp().as_microsecond();
            let end = at.saturating_add(DAY);
            while at < end {
                let span = self.calendar.span(window, UnixMicros(at));
                at = span.to.0;
                spans.insert(span.from, span);
            }
        }
        spans.into_values().collect()
    }

    /// The day in the zone.
    fn date(&self, at: UnixMicros) -> Date {
        let at = Timestamp::from_microsecond(at.0).unwrap_or_default();
        at.to_zoned(self.zone.clone()).date()
    }
}

/// The longest window of which those of `by` are made; `None`: it asks for none.
fn window(by: &[GroupBy]) -> Option<Window> {
    let has = |wanted| by.contains(&wanted);
    match (has(GroupBy::Day), has(GroupBy::Week), has(GroupBy::Month)) {
        (true, _, _) | (_, true, true) => Some(Window::Day),
        (_, true, _) => Some(Window::Week),
        (_, _, true) => Some(Window::Month),
        _ => None,
    }
}

/// How a window is written: as the ledger writes those of UTC.
fn form(by: GroupBy) -> Option<&'static str> {
    match by {
        GroupBy::Day => Some(DAY_FORM),
        GroupBy::Week => Some(WEEK_FORM),
        GroupBy::Month => Some(MONTH_FORM),
        _ => None,
    }
}

/// Whether the sums tell of more than the single rows that are kept. What comes in meanwhile can't look so: the rows are asked last.
fn rows_are_removed(ledger: &Ledger, filter: &Filter) -> Result<bool, LedgerError> {
    let attempts = |by: &[GroupBy]| {
        let lines = ledger.report(filter, by)?;
        Ok::<u64, LedgerError>(lines.iter().map(|line| line.attempts).sum())
    };
    Ok(attempts(&[])? > attempts(&[GroupBy::Route])?)
}
