//! `[[price]]`: what models cost, in whole nano-dollars for a million tokens.

use crate::config::fields::Fields;
use crate::money::Price;

use super::table::{ByModel, Line};
use super::tables::Row;

/// Digits after the point of a price in dollars: nano-dollars.
const DIGITS: u32 = 9;
/// Largest price of a million tokens, in nano-dollars: a million dollars. More is a mistake in the unit.
const MAX_PRICE: u64 = 1_000_000 * 1_000_000_000;

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
    pub fn price(&self, provider: &str, model: &str) -> Option<&Price> {
        self.0.get(provider, model)
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
