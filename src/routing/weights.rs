//! Smooth weighted choice: over any run of requests each target gets its share, without bursts (the algorithm nginx
//! describes for its upstreams, commit 52327e0627f49dbda1e8db695e63a4b0af4448b1).

use parking_lot::Mutex;

/// The state of one weighted list.
#[derive(Debug)]
pub struct SmoothWeights {
    weights: Box<[u32]>,
    current: Mutex<Box<[i64]>>,
}

impl SmoothWeights {
    /// A list with these weights; an entry of weight 0 is chosen only where all are 0.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Box<[u32]> = weights.into_iter().collect();
        let current = Mutex::new(vec![0; weights.len()].into());
        SmoothWeights { weights, current }
    }

    /// The next choice; `None`: the list is empty.
    pub fn next(&self) -> Option<usize> {
        if self.weights.len() <= 1 {
            return self.weights.first().map(|_| 0);
        }
        let total: i64 = self.weights.iter().map(|&weight| i64::from(weight)).sum();
        if total == 0 {
            return Some(0);
        }
        let mut current = self.current.lock();
        let mut best: Option<usize> = None;
        for (index, &weight) in self.weights.iter().enumerate() {
            current[index] += i64::from(weight);
            if weight > 0 && best.is_none_or(|best| current[index] > current[best]) {
                best = Some(index);
            }
        }
        if let Some(best) = best {
            current[best] -= total;
        }
        best
    }

    /// All entries: the next choice first, then the others by descending weight.
    pub fn order(&self) -> Vec<usize> {
        let Some(first) = self.next() else { return Vec::new() };
        if self.weights.len() == 1 {
            return vec![0];
        }
        let mut rest: Vec<usize> = (0..self.weights.len()).filter(|&index| index != first).collect();
        rest.sort_by_key(|&index| std::cmp::Reverse(self.weights[index]));
        std::iter::once(first).chain(rest).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_spread_out() {
        let weights = SmoothWeights::new([5, 1, 1]);
        let chosen: Vec<usize> = (0..7).filter_map(|_| weights.next()).collect();
        assert_eq!(chosen, [0, 0, 1, 0, 2, 0, 0], "smooth, not in bursts");
    }

    #[test]
    fn weight_zero_is_chosen_only_if_all_are_zero() {
        let weights = SmoothWeights::new([0, 1]);
        assert!((0..10).all(|_| weights.next() == Some(1)));
        assert_eq!(weights.order(), [1, 0], "but it stands in the order, last");
        assert_eq!(SmoothWeights::new([0, 0]).next(), Some(0));
        assert_eq!(SmoothWeights::new([]).next(), None);
    }

    proptest::proptest! {
        #[test]
        fn over_a_full_round_each_gets_its_weight(weights in proptest::collection::vec(0u32..20, 1..8)) {
            let total: u32 = weights.iter().sum();
            proptest::prop_assume!(total > 0);
            let smooth = SmoothWeights::new(weights.iter().copied());
            let mut seen = vec![0; weights.len()];
            for _ in 0..total {
                seen[smooth.next().unwrap()] += 1;
            }
            proptest::prop_assert_eq!(seen, weights);
        }
    }
}
