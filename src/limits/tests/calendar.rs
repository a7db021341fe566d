//! Days, weeks and months of time zones, and which rows count in them.

use jiff::tz::TimeZoneDatabase;
use proptest::prelude::*;

use super::*;

fn zone(name: &str) -> Limits {
    Limits {
        time_zone: Some(name.into()),
        ..Limits::default()
    }
}

fn span(name: &str, window: Window, moment: &str) -> (UnixMicros, UnixMicros) {
    let span = Calendar::of(&zone(name)).span(window, at(moment));
    (span.from, span.to)
}

fn hours((from, to): (UnixMicros, UnixMicros)) -> i64 {
    (to.0 - from.0) / 3_600_000_000
}

#[test]
fn days_of_23_24_and_25_hours() {
    let day = |moment| span("Europe/Berlin", Window::Day, moment);
    let spring = day("2026-03-29T12:00:00Z");
    assert_eq!(spring, (at("2026-03-28T23:00:00Z"), at("2026-03-29T22:00:00Z")));
    assert_eq!(hours(spring), 23);
    let autumn = day("2026-10-25T22:30:00Z");
    assert_eq!(autumn, (at("2026-10-24T22:00:00Z"), at("2026-10-25T23:00:00Z")));
    assert_eq!(hours(autumn), 25);
    assert_eq!(hours(day("2026-10-25T23:00:00Z")), 24);
    // A day without a midnight begins at one o'clock.
    let santiago = span("America/Santiago", Window::Day, "2025-09-07T12:00:00Z");
    assert_eq!(santiago, (at("2025-09-07T04:00:00Z"), at("2025-09-08T03:00:00Z")));
    // Until 2011 St. John's set its clocks back at one minute past midnight: the new day does not end again.
    let second_evening = span("America/St_Johns", Window::Day, "2010-11-07T02:45:00Z");
    assert_eq!(second_evening.0, at("2010-11-07T02:30:00Z"));
    assert_eq!(hours(second_evening), 25);
}

#[test]
fn weeks_begin_on_monday_across_months_and_years() {
    // Friday, the first of January 2027.
    let week = span("UTC", Window::Week, "2027-01-01T00:00:00Z");
    assert_eq!(week, (at("2026-12-28T00:00:00Z"), at("2027-01-04T00:00:00Z")));
    let sunday = span("Asia/Shanghai", Window::Week, "2027-01-03T15:59:59Z");
    assert_eq!(sunday.1, at("2027-01-03T16:00:00Z"), "Monday there");
}

#[test]
fn months_have_their_lengths() {
    let month = |moment| span("UTC", Window::Month, moment);
    assert_eq!(
        month("2028-02-29T23:59:59Z"),
        (at("2028-02-01T00:00:00Z"), at("2028-03-01T00:00:00Z"))
    );
    assert_eq!(month("2026-12-31T23:59:59Z").1, at("2027-01-01T00:00:00Z"));
    let there = span("America/New_York", Window::Month, "2026-11-01T03:59:59Z");
    assert_eq!(there, (at("2026-10-01T04:00:00Z"), at("2026-11-01T04:00:00Z")));
    assert_eq!(month("2026-01-31T12:00:00Z").1, at("2026-02-01T00:00:00Z"));
}

#[test]
fn a_row_counts_where_it_began() {
    let limits = zone("Asia/Shanghai");
    let mut balance = Balance::default();
    // 23:59 and 00:01 of the last of a month, a Sunday, there.
    add(&limits, &mut balance, at("2026-05-31T15:59:00Z"), spent(1, 10, 100));
    add(&limits, &mut balance, at("2026-05-31T16:01:00Z"), spent(1, 20, 200));
    for window in [Window::Day, Window::Week, Window::Month] {
        assert_eq!(balance.used(window).spent, spent(1, 20, 200), "{window:?}");
        assert_eq!(balance.used(window).from, at("2026-05-31T16:00:00Z"));
    }
    assert_eq!(balance.used(Window::Total).spent, spent(2, 30, 300));
    // Late rows: of the day before, which was another week and month too.
    add(&limits, &mut balance, at("2026-05-31T15:59:59Z"), spent(1, 1, 1));
    assert_eq!(balance.used(Window::Month).spent, spent(1, 20, 200));
    assert_eq!(balance.used(Window::Total).spent, spent(3, 31, 301));
    add(&limits, &mut balance, at("2026-06-02T12:00:00Z"), spent(1, 5, 5));
    add(&limits, &mut balance, at("2026-06-01T12:00:00Z"), spent(1, 1, 1));
    assert_eq!(balance.used(Window::Day).spent, spent(1, 5, 5), "not the day before");
    assert_eq!(balance.used(Window::Week).spent, spent(3, 26, 206), "but its week");
}

#[test]
fn another_time_zone_keeps_the_sums() {
    let now = at("2026-06-10T20:00:00Z");
    let mut balance = Balance::default();
    add(&zone("Asia/Shanghai"), &mut balance, now, spent(1, 10, 100));
    for name in ["UTC", "America/New_York", "Pacific/Kiritimati", "Asia/Shanghai"] {
        let limits = zone(name);
        add(&limits, &mut balance, now, Spent::NOTHING);
        for (index, window) in Window::ALL.into_iter().enumerate() {
            assert_eq!(balance.0[index].spent, spent(1, 10, 100), "{name}, {window:?}");
            if window != Window::Total {
                assert_eq!(balance.0[index].from, Calendar::of(&limits).span(window, now).from);
            }
        }
    }
}

proptest! {
    #[test]
    fn windows_are_without_gaps(zone_at in 0usize..400, moment in 0i64..4_102_444_800_000_000, window in 0usize..3) {
        let names: Vec<String> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
        let calendar = Calendar::of(&zone(&names[zone_at % names.len()]));
        let window = Window::ALL[window];
        let span = calendar.span(window, UnixMicros(moment));
        prop_assert!(span.from.0 <= moment && moment < span.to.0);
        prop_assert_eq!(calendar.span(window, span.to).from, span.to);
        prop_assert_eq!(calendar.span(window, span.from), span);
        prop_assert_eq!(calendar.span(window, UnixMicros(span.to.0 - 1)), span);
    }

    #[test]
    fn the_order_of_rows_does_not_matter(
        rows in proptest::collection::vec((0i64..40 * 24, 0u64..1000), 1..40),
        turns in 0usize..40,
    ) {
        let limits = zone("Europe/Berlin");
        let begin = at("2026-10-01T00:00:00Z").0;
        let sum = |rows: &[(i64, u64)]| {
            let mut balance = Balance::default();
            let mut calendar = Calendar::of(&limits);
            for (hour, tokens) in rows {
                calendar.add(&mut balance, UnixMicros(begin + hour * 3_600_000_000), spent(1, *tokens, 1));
            }
            balance
        };
        let mut turned = rows.clone();
        turned.rotate_left(turns % rows.len());
        prop_assert_eq!(sum(&turned), sum(&rows));
        turned.reverse();
        prop_assert_eq!(sum(&turned), sum(&rows));
        let mut without_memory = Balance::default();
        for (hour, tokens) in &rows {
            add(&limits, &mut without_memory, UnixMicros(begin + hour * 3_600_000_000), spent(1, *tokens, 1));
        }
        prop_assert_eq!(without_memory, sum(&rows));
    }
}
