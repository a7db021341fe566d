//! Token counts in disjoint classes: each token is in exactly one, and totals are computed, never stored.

use std::ops::{Add, AddAssign};

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
    /// Cache reads the provider told beyond its own total of the prompt. They are in no class and in no book: clients are
    /// told them, since the provider said so.
    #[serde(skip)]
    pub cache_read_excess: u64,
    /// Reasoning told beyond the provider's own total of the output, likewise.
    #[serde(skip)]
    pub reasoning_excess: u64,
}

/// What a provider reports whose totals include their parts: the form most wires have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All tokens of the prompt.
    pub input: u64,
    /// Of them, read from a cache.
    pub cache_read: u64,
    /// Of them, written to a cache of unnamed lifetime.
    pub cache_write: u64,
    /// Of them, audio which was not read from a cache.
    pub input_audio: u64,
    /// All tokens of the output.
    pub output: u64,
    /// Of them, reasoning.
    pub reasoning: u64,
    /// Of them, audio.
    pub output_audio: u64,
}

impl From<Totals> for Usage {
    /// Makes the classes disjoint. Totals win over their parts: a part which is larger than what is left of its total
    /// (some providers report more cached tokens than prompt tokens) is cut to that.
    fn from(t: Totals) -> Self {
        let mut input = t.input;
        let mut output = t.output;
        let take = |left: &mut u64, part: u64| {
            let part = part.min(*left);
            *left -= part;
            part
        };
        let cache_read = take(&mut input, t.cache_read);
        let reasoning = take(&mut output, t.reasoning);
        Usage {
            cache_read,
            cache_read_excess: t.cache_read - cache_read,
            reasoning_excess: t.reasoning - reasoning,
            cache_write_5m: take(&mut input, t.cache_write),
            cache_write_1h: 0,
            input_audio: take(&mut input, t.input_audio),
            input,
            reasoning,
            output_audio: take(&mut output, t.output_audio),
            output,
        }
    }
}

impl Usage {
    /// All tokens of the prompt.
    pub fn input_total(&self) -> u64 {
        [
            self.cache_read,
            self.cache_write_5m,
            self.cache_write_1h,
            self.input_audio,
        ]
        .into_iter()
        .fold(self.input, u64::saturating_add)
    }

    /// Cache reads as the provider told them: mostly a part of the prompt.
    pub fn cache_read_told(&self) -> u64 {
        self.cache_read.saturating_add(self.cache_read_excess)
    }

    /// Reasoning as the provider told it: mostly a part of the output.
    pub fn reasoning_told(&self) -> u64 {
        self.reasoning.saturating_add(self.reasoning_excess)
    }

    /// Could one answer have used so much? At most [`Usage::MOST`] tokens.
    pub fn is_plausible(&self) -> bool {
        self.input_total().saturating_add(self.output_total()) <= Self::MOST
    }

    /// Most tokens one answer may have used to be believed: ten times the longest context offered (10 million tokens, Llama 4 Scout).
    pub const MOST: u64 = 100_000_000;

    /// What goes into the books: the disjoint classes alone.
    pub fn booked(self) -> Self {
        Usage {
            cache_read_excess: 0,
            reasoning_excess: 0,
            ..self
        }
    }

    /// All tokens of the output.
    pub fn output_total(&self) -> u64 {
        self.output
            .saturating_add(self.reasoning)
            .saturating_add(self.output_audio)
    }
}

impl Add for Usage {
    type Output = Usage;

    /// Class by class; a sum stops at the largest number instead of wrapping around.
    fn add(self, other: Usage) -> Usage {
        Usage {
            input: self.input.saturating_add(other.input),
            cache_read: self.cache_read.saturating_add(other.cache_read),
            cache_write_5m: self.cache_write_5m.saturating_add(other.cache_write_5m),
            cache_write_1h: self.cache_write_1h.saturating_add(other.cache_write_1h),
            input_audio: self.input_audio.saturating_add(other.input_audio),
            output: self.output.saturating_add(other.output),
            reasoning: self.reasoning.saturating_add(other.reasoning),
            output_audio: self.output_audio.saturating_add(other.output_audio),
            cache_read_excess: self.cache_read_excess.saturating_add(other.cache_read_excess),
            reasoning_excess: self.reasoning_excess.saturating_add(other.reasoning_excess),
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Usage) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_add_up_to_the_totals_they_were_made_from() {
        let usage = Usage::from(Totals {
            input: 100,
            cache_read: 60,
            cache_write: 10,
            input_audio: 5,
            output: 50,
            reasoning: 30,
            output_audio: 2,
        });
        assert_eq!((usage.input, usage.output), (25, 18));
        assert_eq!((usage.input_total(), usage.output_total()), (100, 50));
    }

    #[test]
    fn totals_win_over_parts() {
        let usage = Usage::from(Totals {
            input: 7,
            cache_read: 161,
            output: 5,
            reasoning: 49,
            ..Totals::default()
        });
        assert_eq!((usage.input_total(), usage.cache_read, usage.input), (7, 7, 0));
        assert_eq!((usage.output_total(), usage.reasoning, usage.output), (5, 5, 0));
        assert_eq!(
            (usage.cache_read_told(), usage.reasoning_told()),
            (161, 49),
            "clients are told what was told"
        );
    }

    #[test]
    fn totals_do_not_overflow() {
        let usage = Usage {
            input: u64::MAX,
            cache_read: 1,
            output: u64::MAX,
            reasoning: 1,
            ..Usage::default()
        };
        assert_eq!((usage.input_total(), usage.output_total()), (u64::MAX, u64::MAX));
    }

    #[test]
    fn sums_are_by_class_and_stop_at_the_largest_number() {
        let one = Usage {
            input: 1,
            cache_read: 2,
            cache_write_5m: 3,
            cache_write_1h: 4,
            input_audio: 5,
            output: 6,
            reasoning: 7,
            output_audio: 8,
            cache_read_excess: 9,
            reasoning_excess: 10,
        };
        let mut sum = one;
        sum += one;
        let twice = Usage {
            input: 2,
            cache_read: 4,
            cache_write_5m: 6,
            cache_write_1h: 8,
            input_audio: 10,
            output: 12,
            reasoning: 14,
            output_audio: 16,
            cache_read_excess: 18,
            reasoning_excess: 20,
        };
        assert_eq!(sum, twice);
        let most = Usage {
            reasoning: u64::MAX,
            ..Usage::default()
        };
        assert_eq!((most + one).reasoning, u64::MAX);
    }
}
