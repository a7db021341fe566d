//! What a model costs at a provider, and what an answer of it cost.

use crate::ir::Usage;

use super::NanoUsd;

/// Tokens prices are given for.
const MILLION: u128 = 1_000_000;

/// Prices of one model at one provider, in nano-dollars (10^-9 USD) for a million tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Input tokens that no cache held.
    pub input: u64,
    /// Input tokens read from a cache; `None`: as `input`.
    pub cache_read: Option<u64>,
    /// Input tokens written to a cache for five minutes; `None`: as `input`.
    pub cache_write: Option<u64>,
    /// Output tokens.
    pub output: u64,
}

/// What beside tokens decides what an answer cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extras<'a> {
    /// The service tier which the provider says it used (`batch`, `flex`, `priority`), else the one asked for.
    pub service: Option<&'a str>,
    /// Pictures in the prompt.
    pub images_in: u32,
    /// Pictures in the answer.
    pub images_out: u32,
}

impl Price {
    /// What so many tokens cost at most, rounded up: every token at the dearest rate of its side.
    pub fn estimate(&self, input: u64, output: u64) -> NanoUsd {
        let cost = u128::from(input) * u128::from(self.input) + u128::from(output) * u128::from(self.output);
        NanoUsd(u64::try_from(cost.div_ceil(MILLION)).unwrap_or(u64::MAX))
    }

    /// What an answer cost, rounded up once to a nano-dollar.
    pub fn cost(&self, usage: &Usage, _extras: Extras<'_>) -> NanoUsd {
        let tokens = |count: u64, rate: u64| u128::from(count) * u128::from(rate);
        let write = self.cache_write.unwrap_or(self.input);
        let cost = tokens(usage.input.saturating_add(usage.input_audio), self.input)
            + tokens(usage.cache_read, self.cache_read.unwrap_or(self.input))
            + tokens(usage.cache_write_5m.saturating_add(usage.cache_write_1h), write)
            + tokens(usage.output_total(), self.output);
        NanoUsd(u64::try_from(cost.div_ceil(MILLION)).unwrap_or(u64::MAX))
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
        assert_eq!(price.estimate(0, 0).0, 0);
        assert_eq!(
            price.estimate(1, 0).0,
            250,
            "a token of 0.25 dollars a million: 250 nano-dollars"
        );
        assert_eq!(price.estimate(1_000_000, 500_000).0, 250_000_000 + 1_000_000_000);
        let cheap = Price { input: 1, ..price };
        assert_eq!(cheap.estimate(1, 0).0, 1);
        assert_eq!(cheap.estimate(u64::MAX, u64::MAX), NanoUsd::MAX);
    }
}
