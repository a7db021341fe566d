//! An answer that comes faster than anything else is done takes its turns like others: a provider that sends without end does
//! not hold up its thread.

use super::Gate;
use crate::proxy::held::Held;

/// For each so many bytes others have a turn. Tokio's own bound is one of 128 reads, here 8 MiB: milliseconds. Less than is read at once, as
/// what others do takes them several turns.
const SHARE: usize = 16 * 1024;

impl Gate {
    /// Lets others have their turns, if any are due.
    pub(super) async fn give_way(&self) {
        let turns = self.control.lock().turns_due();
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
    }
}

impl Held {
    /// So many turns others are to have now, for what came of the answer since they last had.
    fn turns_due(&mut self) -> usize {
        let due = self.since_turn / SHARE;
        self.since_turn %= SHARE;
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_due_for_each_share() {
        let mut held = Held::default();
        let mut due = 0;
        for _ in 0..100 {
            held.since_turn += 1000;
            due += held.turns_due();
        }
        assert_eq!(due, 100_000 / SHARE);
        held.since_turn += 10 * SHARE;
        assert_eq!((held.turns_due(), held.turns_due()), (10, 0));
    }
}
