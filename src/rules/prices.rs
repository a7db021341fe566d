//! `[[price]]`: what models cost, in whole nano-dollars for a million tokens.

use crate::config::fields::Fields;

use super::table::{ByModel, Line};
use super::tables::Row;

/// Digits after the point of a price in dollars: nano-dollars.
const DIGITS: u32 = 9;
/// Largest price of a million tokens, in nano-dollars: a million dollars. More is a mistake in the unit.
const MAX_PRICE: u64 = 1_000_000 * 1_000_000_000;

/// Prices of one model at one provider, in nano-dollars (10^-9 USD) for a million tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Input tokens that no cache held.
    pub input: u64,
    /// Input tokens read from a cache; `None`: as `input`.
    pub cache_read: Option<u64>,
    /// Input tokens written to a cache; `None`: as `input`.
    pub cache_write: Option<u64>,
    /// Output tokens, reasoning among them.
    pub output: u64,
}

impl Price {
    /// What so many tokens cost, in nano-dollars, rounded up.
    pub fn estimate(&self, input: u64, output: u64) -> u64 {
        let cost = u128::from(input) * u128::from(self.input) + u128::from(output) * u128::from(self.output);
        u64::try_from(cost.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// All prices.
#[derive(Debug, Default)]
pub struct PriceTable(ByModel<Price>);

impl PriceTable {
    /// Sorts the entries. An error is a glob's own, or that they are too large together.
    pub(super) fn new(lines: Vec<Line<Price>>) -> Result<Self, globset::Error> {
        ByModel::new(lines).map(PriceTable)
    }

    /// The price of a model by the name its provider needs. An entry for the provider wins over one for all, then the very
    /// name over a glob, then the earlier entry over the later. `None`: unknown.
    pub fn price(&self, provider: &str, model: &str) -> Option<Price> {
        self.0.get(provider, model).copied()
    }
}

impl Row for Price {
    const SECTION: &'static str = "price";

    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let mut price = |name| Some(fields.get(name)?.decimal(DIGITS, 0..=MAX_PRICE));
        let (input, cached, cache_write) = (price("input"), price("cached"), price("cache_write"));
        let output = price("output");
        if input.is_none() {
            fields.need("input", "input = 0.25, in dollars for a million tokens");
        }
        if output.is_none() {
            fields.need(
                "output",
                "output = 2, in dollars for a million tokens (0 where there is none)",
            );
        }
        Some(Price {
            input: input??,
            cache_read: cached.flatten(),
            cache_write: cache_write.flatten(),
            output: output??,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_rounded_up() {
        let price = Price {
            input: 250_000_000,
            output: 2_000_000_000,
            ..Price::default()
        };
        assert_eq!(price.estimate(0, 0), 0);
        assert_eq!(
            price.estimate(1, 0),
            250,
            "a token of 0.25 dollars a million: 250 nano-dollars"
        );
        assert_eq!(price.estimate(1_000_000, 500_000), 250_000_000 + 1_000_000_000);
        assert_eq!(Price { input: 1, ..price }.estimate(1, 0), 1);
        assert_eq!(price.estimate(u64::MAX, u64::MAX), u64::MAX);
    }
}
