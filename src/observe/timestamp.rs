//! RFC 3339 text of a time, without an allocation: each access-log line and each row of an answer has one.

use std::fmt;
use std::ops::Deref;

use serde::{Serialize, Serializer};

use crate::clock::UnixMicros;

/// Length of the text: `2026-01-31T23:59:59.123456Z`.
const LEN: usize = 27;

/// A time as RFC 3339 text, UTC, always with six decimals, so that lines sort by their text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Rfc3339([u8; LEN]);

/// Last microsecond of the year 9999: RFC 3339 knows no later one.
const MAX: i64 = 253_402_300_799_999_999;

/// Writes a time down. Times before 1970 or after 9999 are written as that limit.
pub fn rfc3339(at: UnixMicros) -> Rfc3339 {
    let micros = at.0.clamp(0, MAX);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    digits(&mut text[0..4], year);
    digits(&mut text[5..7], month);
    digits(&mut text[8..10], day);
    digits(&mut text[11..13], second_of_day / 3600);
    digits(&mut text[14..16], second_of_day / 60 % 60);
    digits(&mut text[17..19], second_of_day % 60);
    digits(&mut text[20..26], fraction);
    Rfc3339(text)
}

/// Year, month and day of a day counted from 1970-01-01, for days from 0 on: the algorithm `civil_from_days` of
/// <https://howardhinnant.github.io/date_algorithms.html>, where years begin in March so that the leap day is last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// Writes the decimal digits of `value`, from the right.
fn digits(to: &mut [u8], mut value: i64) {
    for digit in to.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

impl Rfc3339 {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Always ASCII: only digits are written over an ASCII template.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl Deref for Rfc3339 {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_read_as_they_should() {
        for (micros, text) in [
            (0, "1970-01-01T00:00:00.000000Z"),
            (951_782_399_999_999, "2000-02-28T23:59:59.999999Z"),
            (951_782_400_000_000, "2000-02-29T00:00:00.000000Z"),
            (1_767_225_599_000_001, "2025-12-31T23:59:59.000001Z"),
            (4_107_542_400_000_000, "2100-03-01T00:00:00.000000Z"),
            (MAX, "9999-12-31T23:59:59.999999Z"),
            (MAX + 1, "9999-12-31T23:59:59.999999Z"),
            (-1, "1970-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(rfc3339(UnixMicros(micros)).as_str(), text, "{micros} µs");
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_the_calendar_library(micros in 0..=MAX) {
            let other = jiff::Timestamp::from_microsecond(micros).expect("in range");
            proptest::prop_assert_eq!(rfc3339(UnixMicros(micros)).to_string(), format!("{other:.6}"));
        }
    }
}
