//! Decimals with a fixed number of digits after the point, as whole numbers of the smallest unit.

use std::fmt;

/// Reads `12.5` as a multiple of 10^-`digits`: digits, and if there is a point digits on both sides of it, at most `digits` behind it.
/// `None`: it is written otherwise, or too large.
pub(super) fn read(text: &str, digits: usize) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(whole) || !is_number(rest) || rest.len() > digits {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let rest: u64 = format!("{rest:0<digits$}").parse().ok()?;
    whole.checked_mul(unit(digits)?)?.checked_add(rest)
}

/// Most characters of a number: the digits of the largest, and a point.
const LONGEST: usize = 21;

/// Writes a multiple of 10^-`digits` so that [`read`] reads it, without zeros at the end. By hand, since each answer tells its cost
/// in a header and in the log: the formatter's way takes ten times as long.
pub(super) fn write(f: &mut fmt::Formatter<'_>, mut number: u64, digits: usize) -> fmt::Result {
    let mut text = [b'0'; LONGEST];
    let mut at = LONGEST;
    let mut put = |byte: u8| {
        at -= 1;
        text[at] = byte;
    };
    let mut behind = digits;
    while behind > 0 && number.is_multiple_of(10) {
        number /= 10;
        behind -= 1;
    }
    if behind > 0 {
        for _ in 0..behind {
            put(b'0' + (number % 10) as u8);
            number /= 10;
        }
        put(b'.');
    }
    loop {
        put(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    f.write_str(std::str::from_utf8(&text[at..]).unwrap_or_default())
}

fn unit(digits: usize) -> Option<u64> {
    10_u64.checked_pow(u32::try_from(digits).ok()?)
}
