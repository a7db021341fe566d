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

/// Writes a multiple of 10^-`digits` so that [`read`] reads it, without zeros at the end.
pub(super) fn write(f: &mut fmt::Formatter<'_>, number: u64, digits: usize) -> fmt::Result {
    let unit = unit(digits).ok_or(fmt::Error)?;
    let (whole, rest) = (number / unit, number % unit);
    if rest == 0 {
        return write!(f, "{whole}");
    }
    let rest = format!("{rest:0digits$}");
    write!(f, "{whole}.{}", rest.trim_end_matches('0'))
}

fn unit(digits: usize) -> Option<u64> {
    10_u64.checked_pow(u32::try_from(digits).ok()?)
}
