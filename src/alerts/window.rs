//! How much counters grew within a time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Most samples kept of a window: an hour, one each second. Older ones are forgotten early, which shortens the window.
const MAX_SAMPLES: usize = 3600;

/// Samples of some counters, the oldest as old as the window is long.
pub(super) struct Window<const N: usize> {
    length: Duration,
    samples: VecDeque<(Instant, [u64; N])>,
}

impl<const N: usize> Window<N> {
    pub(super) fn new(length: Duration) -> Self {
        Window {
            length,
            samples: VecDeque::new(),
        }
    }

    /// Takes the counters as they are now; gives by how much each grew within the window. The first sample says nothing.
    pub(super) fn grew(&mut self, now: Instant, counters: [u64; N]) -> [u64; N] {
        self.samples.push_back((now, counters));
        // The last sample that is older than the window is where it begins.
        while self.samples.len() > MAX_SAMPLES
            || self
                .samples
                .get(1)
                .is_some_and(|(at, _)| now.saturating_duration_since(*at) >= self.length)
        {
            self.samples.pop_front();
        }
        let first = self.samples.front().map_or(counters, |(_, first)| *first);
        std::array::from_fn(|index| counters[index].saturating_sub(first[index]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_window_and_no_more() {
        let start = Instant::now();
        let mut window = Window::new(Duration::from_secs(10));
        let mut at = |seconds, counters| window.grew(start + Duration::from_secs(seconds), counters);
        assert_eq!(at(0, [100, 7]), [0, 0], "what was before is not of it");
        assert_eq!(at(2, [103, 7]), [3, 0]);
        assert_eq!(at(9, [110, 8]), [10, 1]);
        assert_eq!(at(12, [110, 8]), [7, 1], "the sample at 2 is where it begins");
        assert_eq!(at(19, [111, 8]), [1, 0]);
        assert_eq!(at(60, [111, 8]), [0, 0]);
        assert_eq!(at(61, [5, 9]), [0, 1], "a counter that went back grew by nothing");
    }
}
