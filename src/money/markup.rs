//! What a client is charged for what a provider bills.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{NanoUsd, decimal};

/// A factor on the cost, in millionths: 1,250,000 charges a quarter more than the provider bills, 900,000 a tenth less, 0
/// nothing. As text a decimal with up to 6 digits after the point, `1.25`; at most 1,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Markup(u32);

impl Default for Markup {
    /// The cost itself.
    fn default() -> Self {
        Markup(MILLION)
    }
}

const MILLION: u32 = 1_000_000;
const DIGITS: usize = 6;
const MOST: u32 = 1_000 * MILLION;

impl Markup {
    /// What is charged for this cost, rounded up to a nano-dollar.
    pub fn charge(self, cost: NanoUsd) -> NanoUsd {
        let charge = (u128::from(cost.0) * u128::from(self.0)).div_ceil(u128::from(MILLION));
        NanoUsd(u64::try_from(charge).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Markup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        decimal::write(f, self.0.into(), DIGITS)
    }
}

/// A text is no factor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a markup is a factor on the cost with up to 6 digits after the point, as 1.25 (at most 1000)")]
pub struct BadMarkup;

impl FromStr for Markup {
    type Err = BadMarkup;

    fn from_str(text: &str) -> Result<Self, BadMarkup> {
        decimal::read(text, DIGITS)
            .and_then(|factor| u32::try_from(factor).ok())
            .filter(|&factor| factor <= MOST)
            .map(Markup)
            .ok_or(BadMarkup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_charge_is_the_cost_times_the_factor_rounded_up() {
        let charge = |factor: &str, cost| factor.parse::<Markup>().unwrap().charge(NanoUsd(cost)).0;
        assert_eq!(Markup::default().charge(NanoUsd(7)).0, 7);
        assert_eq!(charge("1.25", 100), 125);
        assert_eq!(charge("1.25", 1), 2);
        assert_eq!(charge("0.9", 1000), 900);
        assert_eq!(charge("0", u64::MAX), 0);
        assert_eq!(charge("1000", u64::MAX), u64::MAX);
    }

    #[test]
    fn texts_are_exact_both_ways() {
        for text in ["0", "1", "1.25", "0.000001", "1000"] {
            assert_eq!(text.parse::<Markup>().unwrap().to_string(), text);
        }
        for bad in ["", "-1", "1001", "1000.5", "0.0000001", "x", "1e2", "4294967296"] {
            assert!(bad.parse::<Markup>().is_err(), "{bad}");
        }
    }
}
