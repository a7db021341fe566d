//! Days, weeks and months of a time zone, and in which of them a row counts.

use jiff::civil::Date;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan};

use crate::clock::UnixMicros;

use super::balance::{Balance, Spent, Used};
use super::policy::{Limits, Window};

/// Microseconds of a day of 24 hours.
const DAY: i64 = 86_400_000_000;

/// One calendar window: its first moment, and the first one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its first moment.
    pub from: UnixMicros,
    /// The first moment after it.
    pub to: UnixMicros,
}

impl Span {
    /// Before any moment there is: looked up at the first one.
    const NEVER: Span = Span {
        from: UnixMicros(i64::MIN),
        to: UnixMicros(i64::MIN),
    };
    /// All there is.
    const ALWAYS: Span = Span {
        from: UnixMicros(0),
        to: UnixMicros(i64::MAX),
    };

    fn holds(&self, at: UnixMicros) -> bool {
        self.from <= at && at < self.to
    }
}

/// The calendar of an account. It remembers the windows it last saw: only when one of them ends is the time zone asked.
#[derive(Clone, Debug)]
pub struct Calendar {
    zone: TimeZone,
    /// Day, week, month: those a balance last stood in.
    spans: [Span; 3],
}

impl Default for Calendar {
    /// Of UTC.
    fn default() -> Self {
        Calendar::in_zone(TimeZone::UTC)
    }
}

/// From the database that is built in, so that every machine knows the same zones.
pub(super) fn zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok()
}

impl Calendar {
    /// In the time zone of these limits. One nobody knows is UTC ([`Limits::check`] refuses it).
    pub fn of(limits: &Limits) -> Self {
        Calendar::in_zone(limits.time_zone.as_deref().and_then(zone).unwrap_or(TimeZone::UTC))
    }

    fn in_zone(zone: TimeZone) -> Self {
        Calendar {
            zone,
            spans: [Span::NEVER; 3],
        }
    }

    /// The window at this moment.
    pub fn span(&self, window: Window, at: UnixMicros) -> Span {
        // What is out of jiff's range (the years -9999 to 9999) is a day of UTC: no clock says such a time.
        self.ask(window, at).unwrap_or_else(|| {
            let from = at.0.div_euclid(DAY).saturating_mul(DAY);
            Span {
                from: UnixMicros(from),
                to: UnixMicros(from.saturating_add(DAY)),
            }
        })
    }

    /// Windows begin when their first midnight comes for the first time: a day from which the clock is set back over midnight
    /// does not come back, and one without a midnight begins after the gap.
    fn ask(&self, window: Window, at: UnixMicros) -> Option<Span> {
        if window == Window::Total {
            return Some(Span::ALWAYS);
        }
        let there = Timestamp::from_microsecond(at.0).ok()?.to_zoned(self.zone.clone());
        let mut first = first_day(window, there.date())?;
        let mut from = self.midnight(first)?;
        // Once at most: no clock is ever set back by a whole day.
        loop {
            let next = next(window, first)?;
            let to = self.midnight(next)?;
            if at < to {
                return Some(Span { from, to });
            }
            (first, from) = (next, to);
        }
    }

    fn midnight(&self, day: Date) -> Option<UnixMicros> {
        let zoned = day.to_zoned(self.zone.clone()).ok()?;
        Some(UnixMicros(zoned.timestamp().as_microsecond()))
    }

    /// Adds one row to a balance: `at` is when its attempt began. **The only place which decides in which windows a row counts**;
    /// live accounts, recovery and the books all come here.
    ///
    /// - A row counts in the day, week and month it began in, if they are the balance's or later (then they take the place of
    ///   the balance's), and always in the total. One of an earlier window does not count in that window: its sum is of no use any
    ///   more. So the order of rows does not matter, and no window ever comes back (HARDENING L6).
    /// - [`Spent::NOTHING`] only makes the windows those of `at`.
    /// - A balance made in another time zone keeps its sums: each of its windows becomes the one here which holds `at` if the old
    ///   one did (about: what is left of it is not known), else its middle.
    pub fn add(&mut self, balance: &mut Balance, at: UnixMicros, spent: Spent) {
        self.add_and_tell(balance, at, spent);
    }

    /// The same; tells which of day, week and month began anew.
    pub(super) fn add_and_tell(&mut self, balance: &mut Balance, at: UnixMicros, spent: Spent) -> [bool; 3] {
        let mut anew = [false; 3];
        for (index, window) in [Window::Day, Window::Week, Window::Month].into_iter().enumerate() {
            let used = &mut balance.0[index];
            if used.from != self.spans[index].from {
                self.spans[index] = self.take_over(window, used, at);
                used.from = self.spans[index].from;
            }
            if at >= self.spans[index].to {
                self.spans[index] = self.span(window, at);
                *used = Used {
                    from: self.spans[index].from,
                    spent: Spent::NOTHING,
                };
                anew[index] = true;
            }
            if self.spans[index].holds(at) {
                used.spent += spent;
            }
        }
        balance.0[Window::Total as usize].spent += spent;
        anew
    }

    /// The windows of the balance that was last added to: day, week, month, total.
    pub(super) fn spans(&self) -> [Span; 4] {
        let [day, week, month] = self.spans;
        [day, week, month, Span::ALWAYS]
    }

    fn take_over(&self, window: Window, used: &Used, at: UnixMicros) -> Span {
        if *used == Used::default() {
            return self.span(window, at);
        }
        let own = self.span(window, used.from);
        if own.from == used.from {
            return own;
        }
        let days = match window {
            Window::Day => 1,
            Window::Week => 7,
            Window::Month | Window::Total => 28,
        };
        let after = |micros: i64| UnixMicros(used.from.0.saturating_add(micros));
        let old = Span {
            from: used.from,
            to: after(days * DAY),
        };
        self.span(window, if old.holds(at) { at } else { after(days * DAY / 2) })
    }
}

fn first_day(window: Window, day: Date) -> Option<Date> {
    match window {
        Window::Day | Window::Total => Some(day),
        Window::Week => {
            let since_monday = i64::from(day.weekday().to_monday_zero_offset());
            day.checked_sub(since_monday.days()).ok()
        }
        Window::Month => Some(day.first_of_month()),
    }
}

fn next(window: Window, first: Date) -> Option<Date> {
    let length = match window {
        Window::Day | Window::Total => 1.day(),
        Window::Week => 1.week(),
        Window::Month => 1.month(),
    };
    first.checked_add(length).ok()
}
