//! How many messages a webhook gets: so many an hour. What is beyond is counted, and told in one message.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// The time in which messages are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// How long messages that are held back are gathered before they are summed up.
const GATHER: Duration = Duration::from_secs(60);

/// The messages of the last hour, and those held back.
pub(super) struct Cap {
    most: usize,
    sent: VecDeque<Instant>,
    held: BTreeMap<(&'static str, &'static str), u64>,
    held_since: Option<Instant>,
}

/// What was held back: how many of each condition and kind of message.
pub(super) type Held = BTreeMap<(&'static str, &'static str), u64>;

impl Cap {
    /// At most so many messages within an hour, the sums among them. At least 2.
    pub(super) fn new(most: usize) -> Self {
        Cap {
            most: most.max(2),
            sent: VecDeque::new(),
            held: BTreeMap::new(),
            held_since: None,
        }
    }

    /// Whether a message may go out now; then it counts. The last place of an hour is kept for a sum.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        self.forget(now);
        let room = self.held.is_empty() && self.sent.len() + 1 < self.most;
        if room {
            self.sent.push_back(now);
        }
        room
    }

    /// Counts a message that does not go out.
    pub(super) fn hold(&mut self, condition: &'static str, kind: &'static str, now: Instant) {
        *self.held.entry((condition, kind)).or_default() += 1;
        self.held_since.get_or_insert(now);
    }

    /// What was held back, if it is to be summed up now; then the sum counts as a message.
    pub(super) fn due(&mut self, now: Instant) -> Option<Held> {
        self.forget(now);
        let gathered = now.saturating_duration_since(self.held_since?) >= GATHER;
        if !gathered || self.sent.len() >= self.most {
            return None;
        }
        self.sent.push_back(now);
        self.held_since = None;
        Some(std::mem::take(&mut self.held))
    }

    fn forget(&mut self, now: Instant) {
        while let Some(first) = self.sent.front()
            && now.saturating_duration_since(*first) >= HOUR
        {
            self.sent.pop_front();
        }
    }
}
