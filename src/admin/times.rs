//! Times as callers write them: RFC 3339, a day, or so long ago.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use crate::clock::UnixMicros;

/// Reads `2026-01-31T12:00:00Z` (any offset), `2026-01-31` (its first moment in `zone`), or `24h`, `7d` (so long before `now`;
/// units s, m, h, d, w).
pub(super) fn read(text: &str, now: UnixMicros, zone: &TimeZone) -> Result<UnixMicros, String> {
    let text = text.trim();
    if let Some(ago) = ago(text) {
        return Ok(UnixMicros(now.0.saturating_sub(ago)));
    }
    if let Ok(day) = text.parse::<Date>()
        && text.len() == "2026-01-31".len()
        && let Ok(start) = day.to_zoned(zone.clone())
    {
        return Ok(UnixMicros(start.timestamp().as_microsecond()));
    }
    // In a query a plus sign that was not escaped arrives as a space: `...T12:00:00 02:00`.
    let plus = if text.contains('T') {
        text.replace(' ', "+")
    } else {
        text.to_owned()
    };
    match plus.parse::<Timestamp>() {
        Ok(time) => Ok(UnixMicros(time.as_microsecond())),
        Err(_) => Err("write a time as 2026-01-31T12:00:00Z, a day as 2026-01-31, or 24h, 7d for so long ago".into()),
    }
}

/// Microseconds of `24h`; `None`: the text is something else.
fn ago(text: &str) -> Option<i64> {
    let number = text.trim_end_matches(|last: char| last.is_ascii_alphabetic());
    let seconds: i64 = match &text[number.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<i64>().ok()?.checked_mul(seconds)?.checked_mul(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_write_a_time() {
        let now = UnixMicros(1_700_000_000_000_000);
        for (text, expected) in [
            ("24h", now.0 - 86_400_000_000),
            ("7d", now.0 - 7 * 86_400_000_000),
            ("90s", now.0 - 90_000_000),
            ("0m", now.0),
            ("1970-01-02", 86_400_000_000),
            ("1970-01-01T00:00:01Z", 1_000_000),
            ("1970-01-01T00:00:00.000001Z", 1),
            ("1970-01-01T02:00:01+02:00", 1_000_000),
            ("1970-01-01T02:00:01 02:00", 1_000_000),
        ] {
            assert_eq!(read(text, now, &TimeZone::UTC), Ok(UnixMicros(expected)), "{text}");
        }
        let berlin = TimeZone::get("Europe/Berlin").expect("a zone");
        assert_eq!(read("1970-01-02", now, &berlin), Ok(UnixMicros(82_800_000_000)));
        for text in [
            "",
            "h",
            "7",
            "-1d",
            "1.5h",
            "7 d",
            "1y",
            "yesterday",
            "1970-13-01",
            "1970-01-01T00:00:00",
            "99999999999999999d",
        ] {
            assert!(read(text, now, &TimeZone::UTC).is_err(), "{text} is no time");
        }
    }
}
