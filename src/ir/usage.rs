//! Token counts in disjoint classes: each token is in exactly one, and totals are computed, never stored.

use serde::{Deserialize, Serialize};

/// What one answer cost in tokens. The classes are disjoint; a running total, never an increment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Prompt tokens which were neither read from nor written to a cache, without audio.
    pub input: u64,
    /// Prompt tokens read from the provider's cache.
    pub cache_read: u64,
    /// Prompt tokens written to a cache of five minutes (or of unnamed lifetime).
    pub cache_write_5m: u64,
    /// Prompt tokens written to a cache of one hour.
    pub cache_write_1h: u64,
    /// Audio tokens of the prompt, where the provider tells them apart.
    pub input_audio: u64,
    /// Visible output tokens, without audio.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Audio tokens of the output, where the provider tells them apart.
    pub output_audio: u64,
}

impl Usage {
    /// All tokens of the prompt.
    pub fn input_total(&self) -> u64 {
        self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h + self.input_audio
    }

    /// All tokens of the output.
    pub fn output_total(&self) -> u64 {
        self.output + self.reasoning + self.output_audio
    }
}
