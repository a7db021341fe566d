//! Decimal numbers as tables write them (`0.25`, `1.25e-06`), read exactly: as integers of a power of ten, never as floats.

/// Digits of a number that count. What follows is below any unit prices have.
const MAX_DIGITS: usize = 30;

/// The number times 10 to the power of `shift`, rounded to the nearest integer. Tables made from floats write 0.15 as
/// 0.15000000000000002: what lies beyond the unit is noise. `None`: not a number, negative, or too large.
pub(in crate::cli) fn scaled(text: &str, shift: i32) -> Option<u64> {
    let text = text.trim();
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok().filter(|e| e.abs() < 400)?),
        None => (text, 0),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || !whole.bytes().chain(fraction.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
    let mut value: u128 = 0;
    let mut power = i32::try_from(fraction.len()).ok()?.checked_neg()? + exponent + shift;
    for (place, digit) in digits.enumerate() {
        if place < MAX_DIGITS {
            value = value * 10 + u128::from(digit - b'0');
        } else {
            power += 1;
        }
    }
    let tens = |power: i32| 10_u128.checked_pow(power.unsigned_abs());
    let value = match (value, power) {
        (0, _) => 0,
        (value, 0..) => value.checked_mul(tens(power)?)?,
        (value, _) => tens(power).map_or(0, |unit| (value + unit / 2) / unit),
    };
    u64::try_from(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_exact() {
        for (text, shift, value) in [
            ("1.25e-06", 15, Some(1_250_000_000)),
            ("5.46875e-07", 15, Some(546_875_000)),
            ("0.00000125", 15, Some(1_250_000_000)),
            ("2e-06", 15, Some(2_000_000_000)),
            ("1.9E-8", 15, Some(19_000_000)),
            ("0.1", 9, Some(100_000_000)),
            ("3", 9, Some(3_000_000_000)),
            ("0", 9, Some(0)),
            ("0.0", 9, Some(0)),
            ("0e5", 9, Some(0)),
            ("1.5e-07", 15, Some(150_000_000)),
            // What floats do to 1.5e-06 and 1.1e-06.
            ("1.4999999999999998e-06", 15, Some(1_500_000_000)),
            ("1.1000000000000001e-06", 15, Some(1_100_000_000)),
            ("1e-300", 15, Some(0)),
            ("123456789012345678901234567890123e-30", 0, Some(123)),
            ("1e30", 9, None),
            ("-1", 9, None),
            ("", 9, None),
            (".5", 9, None),
            ("null", 9, None),
            ("\"1\"", 9, None),
            ("1e", 9, None),
            ("1e99999999999", 9, None),
            ("NaN", 9, None),
        ] {
            assert_eq!(scaled(text, shift), value, "{text}");
        }
    }
}
