//! Decimal numbers as people write them (`0.15`, `2.5`), read exactly: as whole numbers of a small unit.

/// Reads a plain decimal number as a multiple of 10^-`digits`; an error says what is wrong with it. Nothing is rounded:
/// what has more digits is refused.
pub fn parse(text: &str, digits: u32) -> Result<u64, String> {
    const HELP: &str = "it must be a plain number, as in 2 or 0.25";
    // TOML allows 1_000, and a sign.
    let text = text.replace('_', "");
    let text = text.strip_prefix('+').unwrap_or(&text);
    if text.starts_with('-') {
        return Err("it must not be negative".to_owned());
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !plain(whole) || !plain(fraction) {
        return Err(HELP.to_owned());
    }
    let fraction = fraction.trim_end_matches('0');
    let used = u32::try_from(fraction.len()).unwrap_or(u32::MAX);
    let Some(missing) = digits.checked_sub(used) else {
        return Err(format!("it may have {digits} digits after the point at most"));
    };
    let number = format!("{whole}{fraction}").parse::<u64>().ok();
    let unit = 10_u64.checked_pow(missing);
    number
        .zip(unit)
        .and_then(|(number, unit)| number.checked_mul(unit))
        .ok_or_else(|| "the number is too large".to_owned())
}

/// Writes a multiple of 10^-`digits` so that [`parse`] reads it.
pub fn show(number: u64, digits: u32) -> String {
    let unit = 10_u64.checked_pow(digits).unwrap_or(u64::MAX);
    match number % unit {
        0 => (number / unit).to_string(),
        rest => {
            let width = digits as usize;
            format!("{}.{}", number / unit, format!("{rest:0width$}").trim_end_matches('0'))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        for (text, nano) in [
            ("0.15", 150_000_000),
            ("2", 2_000_000_000),
            ("2.50", 2_500_000_000),
            ("0.000000001", 1),
            ("1_000.5", 1_000_500_000_000),
            ("0", 0),
            ("+3.0", 3_000_000_000),
            ("0.1000000000000", 100_000_000),
        ] {
            assert_eq!(parse(text, 9), Ok(nano), "{text}");
        }
        assert_eq!(parse("2.5", 2), Ok(250));
    }

    #[test]
    fn nothing_is_rounded_or_guessed() {
        assert!(parse("0.0000000001", 9).unwrap_err().contains("9 digits"));
        assert!(parse("2.555", 2).unwrap_err().contains("2 digits"));
        assert!(parse("-1", 9).unwrap_err().contains("negative"));
        for text in ["1e3", "inf", "nan", "0x10", "", ".5"] {
            assert!(parse(text, 9).unwrap_err().contains("plain number"), "{text}");
        }
        assert!(parse("99999999999", 9).unwrap_err().contains("too large"));
    }

    #[test]
    fn what_is_shown_can_be_read() {
        for number in [0, 1, 250, 10_000, 2_500_000_000] {
            assert_eq!(parse(&show(number, 9), 9), Ok(number));
        }
        assert_eq!(show(250, 2), "2.5");
    }
}
