//! Times as people write them: `15s`, `5m`, `1h30m`, `20ms`.

use std::time::Duration;

use humantime::DurationError;

/// Reads a time; an error says what is wrong with it.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match error {
        DurationError::UnknownUnit { unit, value, .. } if unit.is_empty() => {
            format!("the unit is missing; write \"{value}s\" for seconds, or ms, m, h")
        }
        DurationError::UnknownUnit { unit, .. } => format!("\"{unit}\" is not a unit of time; there are ms, s, m, h"),
        DurationError::NumberOverflow => "the number is too large".to_owned(),
        _ => "it is not a time; write it as \"15s\", \"500ms\" or \"1h30m\"".to_owned(),
    })
}

/// Writes a time so that [`parse`] reads it.
pub fn show(time: Duration) -> String {
    const DAY: u64 = 24 * 3600;
    // Its months and years have fractions of days.
    match (time.as_secs() / DAY, time.subsec_nanos()) {
        (1, 0) if time.as_secs() == DAY => return "1day".to_owned(),
        (days @ 2.., 0) if time.as_secs() == days * DAY => return format!("{days}days"),
        _ => {}
    }
    humantime::format_duration(time).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write_is_read() {
        for (text, millis) in [
            ("15s", 15_000),
            ("5m", 300_000),
            ("1h30m", 5_400_000),
            ("20ms", 20),
            ("2m 3s", 123_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn errors_say_what_to_write() {
        assert_eq!(
            parse("15").unwrap_err(),
            "the unit is missing; write \"15s\" for seconds, or ms, m, h"
        );
        assert_eq!(
            parse("15 parsecs").unwrap_err(),
            "\"parsecs\" is not a unit of time; there are ms, s, m, h"
        );
        assert!(parse("").unwrap_err().contains("\"15s\""));
        assert!(parse("-3s").unwrap_err().contains("\"15s\""));
        assert_eq!(parse("99999999999999999999s").unwrap_err(), "the number is too large");
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for millis in [1, 20, 1000, 61_000, 3_600_000, 5_430_007] {
            let time = Duration::from_millis(millis);
            assert_eq!(parse(&show(time)), Ok(time));
        }
        assert_eq!(show(Duration::from_secs(900)), "15m");
        assert_eq!(show(Duration::from_secs(24 * 3600)), "1day");
        assert_eq!(show(Duration::from_secs(365 * 24 * 3600)), "365days");
    }
}
