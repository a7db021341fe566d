//! Exact weighted shares for long lists: earliest deadline first, in a heap.
//!
//! An entry of weight `w` is due `w` times in each round, at the times `(2c + 1) / 2w` for `c` from 0 to `w - 1`; who is due
//! first is next. In every full round each is chosen exactly `w` times, evenly spread; times are compared as fractions, so that
//! nothing drifts. An entry that is out is passed over by the time, and comes back at its first due time which the others have
//! not reached yet: it neither catches up nor loses its place.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A point in the rounds: `round + (2 count + 1) / 2 weight`. Of equal ones the lower entry is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    round: u64,
    count: u32,
    weight: u32,
    entry: u32,
}

impl Due {
    fn first(entry: u32, weight: u32) -> Self {
        Due {
            round: 0,
            count: 0,
            weight: weight.max(1),
            entry,
        }
    }

    fn next(self) -> Self {
        let wraps = self.count + 1 >= self.weight;
        Due {
            round: self.round + u64::from(wraps),
            count: if wraps { 0 } else { self.count + 1 },
            ..self
        }
    }

    fn time(&self, other: &Self) -> Ordering {
        let fraction = |due: &Due, other: &Due| (2 * u128::from(due.count) + 1) * u128::from(other.weight);
        let fractions = || fraction(self, other).cmp(&fraction(other, self));
        self.round.cmp(&other.round).then_with(fractions)
    }

    /// The first time at which `self` is due, not before it is by its own count and not before `now`.
    fn not_before(self, now: &Self) -> Self {
        if self.time(now).is_ge() {
            return self;
        }
        let (weight, other) = (u128::from(self.weight), u128::from(now.weight));
        // (2c + 1) / 2w >= (2 now + 1) / 2 other, solved for c.
        let ahead = (weight * (2 * u128::from(now.count) + 1)).saturating_sub(other);
        let count = ahead.div_ceil(2 * other);
        let wraps = count >= weight;
        Due {
            round: now.round + u64::from(wraps),
            count: if wraps { 0 } else { count as u32 },
            ..self
        }
    }
}

impl Ord for Due {
    /// Reversed: the heap's greatest is who is due first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.time(self).then_with(|| other.entry.cmp(&self.entry))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The shares of one list. Whoever uses it says which entries are in ([`Shares::admit`]) and tells what became of each that
/// was popped: taken, put back, or out.
#[derive(Debug)]
pub struct Shares {
    heap: BinaryHeap<Due>,
    /// When each is due next, and whether it stands in the heap.
    entries: Box<[(Due, bool)]>,
    /// When the last one was due.
    time: Due,
}

impl Shares {
    /// A list with these weights; 0 counts as 1. All are in.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let due = |(entry, weight)| Due::first(entry as u32, weight);
        let entries: Box<[(Due, bool)]> = weights
            .into_iter()
            .enumerate()
            .map(|entry| (due(entry), true))
            .collect();
        Shares {
            heap: entries.iter().map(|(due, _)| *due).collect(),
            entries,
            time: Due {
                // Before all others: no fraction is smaller.
                weight: u32::MAX,
                ..Due::first(0, 1)
            },
        }
    }

    /// The entry that is due first leaves the list. It may have been out since it was put there: the caller knows.
    pub fn pop(&mut self) -> Option<u32> {
        let due = self.heap.pop()?;
        self.entries[due.entry as usize].1 = false;
        Some(due.entry)
    }

    /// A popped entry was chosen: it is due again later.
    pub fn taken(&mut self, entry: u32) {
        let Some((due, _)) = self.entries.get_mut(entry as usize) else {
            return;
        };
        if self.time.time(due).is_lt() {
            self.time = *due;
        }
        *due = due.next();
        self.admit(entry);
    }

    /// A popped entry was not for this request: it stays due as it was.
    pub fn put_back(&mut self, entry: u32) {
        self.push(entry);
    }

    /// An entry that was out is in again.
    pub fn admit(&mut self, entry: u32) {
        if let Some((due, false)) = self.entries.get_mut(entry as usize) {
            *due = due.not_before(&self.time);
            self.push(entry);
        }
    }

    fn push(&mut self, entry: u32) {
        if let Some((due, inside)) = self.entries.get_mut(entry as usize)
            && !std::mem::replace(inside, true)
        {
            self.heap.push(*due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shares: &mut Shares, rounds: u32, seen: &mut [u32]) {
        for _ in 0..rounds {
            let entry = shares.pop().unwrap();
            seen[entry as usize] += 1;
            shares.taken(entry);
        }
    }

    #[test]
    fn who_returns_neither_catches_up_nor_loses() {
        let mut shares = Shares::new([3, 2, 1]);
        let mut seen = [0; 3];
        run(&mut shares, 6, &mut seen);
        assert_eq!(seen, [3, 2, 1]);
        assert_eq!(shares.pop(), Some(0), "out from here on");
        let mut seen = [0; 3];
        run(&mut shares, 300, &mut seen);
        assert_eq!(seen, [0, 200, 100]);
        shares.admit(0);
        let mut seen = [0; 3];
        run(&mut shares, 600, &mut seen);
        assert_eq!(seen, [300, 200, 100]);
    }

    #[test]
    fn to_and_fro_within_one_moment_gains_nothing() {
        let mut shares = Shares::new([1, 1]);
        let mut seen = [0; 2];
        for _ in 0..100 {
            run(&mut shares, 1, &mut seen);
            let out = shares.pop().unwrap();
            shares.admit(out);
        }
        assert_eq!(seen, [50, 50]);
    }

    #[test]
    fn the_largest_weights_are_compared_exactly() {
        let mut shares = Shares::new([u32::MAX, u32::MAX - 1, 1]);
        let mut seen = [0; 3];
        run(&mut shares, 1000, &mut seen);
        assert_eq!(seen, [500, 500, 0]);
    }

    proptest::proptest! {
        #[test]
        fn every_full_round_is_exact_whoever_was_out(
            weights in proptest::collection::vec(1u32..12, 2..8),
            away in 0u32..200,
        ) {
            let total: u32 = weights.iter().sum();
            let mut shares = Shares::new(weights.iter().copied());
            let out = shares.pop().unwrap();
            let mut seen = vec![0; weights.len()];
            run(&mut shares, away, &mut seen);
            shares.admit(out);
            let mut seen = vec![0; weights.len()];
            run(&mut shares, total * 3, &mut seen);
            for (seen, weight) in seen.iter().zip(&weights) {
                proptest::prop_assert!(seen.abs_diff(weight * 3) <= 1, "the rounds may begin anywhere");
            }
        }
    }
}
