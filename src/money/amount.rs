//! An amount of money.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Digits after the point of an amount in dollars.
const DIGITS: usize = 9;
const PER_DOLLAR: u64 = 1_000_000_000;

/// Nano-dollars: 10^-9 US dollars. At most 18.4 billion dollars; sums stop there instead of wrapping around. As text: dollars,
/// exactly, `0.0123`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NanoUsd(pub u64);

impl NanoUsd {
    /// Nothing.
    pub const ZERO: NanoUsd = NanoUsd(0);
    /// The largest amount.
    pub const MAX: NanoUsd = NanoUsd(u64::MAX);

    /// The difference, 0 at least.
    #[must_use]
    pub fn saturating_sub(self, other: NanoUsd) -> NanoUsd {
        NanoUsd(self.0.saturating_sub(other.0))
    }
}

impl Add for NanoUsd {
    type Output = NanoUsd;

    fn add(self, other: NanoUsd) -> NanoUsd {
        NanoUsd(self.0.saturating_add(other.0))
    }
}

impl AddAssign for NanoUsd {
    fn add_assign(&mut self, other: NanoUsd) {
        *self = *self + other;
    }
}

impl Sum for NanoUsd {
    fn sum<I: Iterator<Item = NanoUsd>>(amounts: I) -> NanoUsd {
        amounts.fold(NanoUsd::ZERO, Add::add)
    }
}

impl fmt::Display for NanoUsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (dollars, rest) = (self.0 / PER_DOLLAR, self.0 % PER_DOLLAR);
        if rest == 0 {
            return write!(f, "{dollars}");
        }
        let digits = format!("{rest:0DIGITS$}");
        write!(f, "{dollars}.{}", digits.trim_end_matches('0'))
    }
}

/// A text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an amount is written in dollars with up to 9 digits after the point, as 0.25 (at most 18,446,744,073 dollars)"
)]
pub struct BadAmount;

impl FromStr for NanoUsd {
    type Err = BadAmount;

    fn from_str(text: &str) -> Result<Self, BadAmount> {
        let (dollars, rest) = text.split_once('.').unwrap_or((text, "0"));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(dollars) || !is_number(rest) || rest.len() > DIGITS {
            return Err(BadAmount);
        }
        let dollars: u64 = dollars.parse().map_err(|_| BadAmount)?;
        let nanos: u64 = format!("{rest:0<DIGITS$}").parse().map_err(|_| BadAmount)?;
        let whole = dollars.checked_mul(PER_DOLLAR).ok_or(BadAmount)?;
        whole.checked_add(nanos).map(NanoUsd).ok_or(BadAmount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_exact_both_ways() {
        for (text, nanos) in [
            ("0", 0),
            ("1", PER_DOLLAR),
            ("0.25", 250_000_000),
            ("0.000000001", 1),
            ("12.3", 12_300_000_000),
            ("18446744073.709551615", u64::MAX),
        ] {
            assert_eq!(text.parse(), Ok(NanoUsd(nanos)), "{text}");
            assert_eq!(NanoUsd(nanos).to_string(), text);
        }
        assert_eq!("0.250".parse(), Ok(NanoUsd(250_000_000)));
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "0.0000000001",
            "18446744074",
            "1,5",
            " 1",
            "0x1",
        ] {
            assert_eq!(bad.parse::<NanoUsd>(), Err(BadAmount), "{bad}");
        }
    }

    #[test]
    fn sums_stop_at_the_largest_amount() {
        assert_eq!(NanoUsd::MAX + NanoUsd(1), NanoUsd::MAX);
        assert_eq!(NanoUsd(1).saturating_sub(NanoUsd(2)), NanoUsd::ZERO);
        assert_eq!([NanoUsd(1), NanoUsd(2)].into_iter().sum::<NanoUsd>(), NanoUsd(3));
    }
}
