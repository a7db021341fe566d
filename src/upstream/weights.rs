//! Smooth weighted turns for a short list (the targets of a route): over any run of requests each entry gets its share,
//! without bursts. The idea is nginx's for its upstreams (commit 52327e0627f49dbda1e8db695e63a4b0af4448b1): at each turn
//! everyone who may be chosen is credited with his share of one turn, and the one with the most credit pays for it.
//!
//! Credit is counted in parts of a turn, not in weights: so turns among different subsets can be mixed. Each of them divides
//! one turn among those who may be chosen, by weight. Who may not is neither owed anything nor pays.

use parking_lot::Mutex;

/// Parts of one turn. Shares are rounded down to parts; the one who is chosen pays what was handed out.
const TURN: i64 = 1 << 44;

/// The state of one weighted list. Costs in proportion to its length.
#[derive(Debug)]
pub struct Turns {
    weights: Box<[u32]>,
    credit: Mutex<Box<[i64]>>,
}

impl Turns {
    /// A list with these weights; an entry of weight 0 is chosen only where no other may be, and then all of them equally.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let weights: Box<[u32]> = weights.into_iter().collect();
        let credit = Mutex::new(vec![0; weights.len()].into());
        Turns { weights, credit }
    }

    /// The weights.
    pub fn weights(&self) -> &[u32] {
        &self.weights
    }

    /// The next choice; `None`: the list is empty.
    pub fn next(&self) -> Option<usize> {
        self.next_where(|_| true)
    }

    /// The next choice among those for which `may` holds; `None`: there is none. `may` is asked once for each, without a
    /// lock held.
    pub fn next_where(&self, mut may: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut allowed = no_bits(self.weights.len());
        let (mut total, mut count, mut only) = (0, 0_i64, None);
        for index in 0..self.weights.len() {
            if may(index) {
                set(&mut allowed, index);
                total += i64::from(self.weights[index]);
                count += 1;
                only = Some(index);
            }
        }
        if count <= 1 {
            // A turn that can only be one's own costs nothing: credited and paid at once.
            return only;
        }
        // One division a turn; shares stay in exact proportion.
        let unit = (TURN / if total == 0 { count } else { total }).max(1);
        let share = |weight: u32| match total {
            0 => Some(unit),
            _ => (weight > 0).then(|| unit.saturating_mul(i64::from(weight))),
        };
        let mut credit = self.credit.lock();
        let (mut best, mut handed_out) = (None::<usize>, 0);
        for index in (0..self.weights.len()).filter(|&index| is_set(&allowed, index)) {
            let Some(share) = share(self.weights[index]) else {
                continue;
            };
            credit[index] += share;
            handed_out += share;
            if best.is_none_or(|best| credit[index] > credit[best]) {
                best = Some(index);
            }
        }
        if let Some(best) = best {
            credit[best] -= handed_out;
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

/// A bit for each entry: one word in place for up to 64, more on the heap.
type Bits = (u64, Vec<u64>);

fn no_bits(len: usize) -> Bits {
    (0, vec![0; len.saturating_sub(1) / 64])
}

fn set(bits: &mut Bits, index: usize) {
    match index / 64 {
        0 => bits.0 |= 1 << index,
        word => bits.1[word - 1] |= 1 << (index % 64),
    }
}

fn is_set(bits: &Bits, index: usize) -> bool {
    let word = match index / 64 {
        0 => bits.0,
        word => bits.1[word - 1],
    };
    word >> (index % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_spread_out() {
        let weights = Turns::new([5, 1, 1]);
        let chosen: Vec<usize> = (0..7).filter_map(|_| weights.next()).collect();
        assert_eq!(chosen, [0, 0, 1, 0, 2, 0, 0], "smooth, not in bursts");
    }

    #[test]
    fn weight_zero_is_chosen_only_if_no_other_may_be() {
        let weights = Turns::new([0, 1, 0]);
        assert!((0..10).all(|_| weights.next() == Some(1)));
        assert_eq!(weights.order(), [1, 0, 2], "but they stand in the order, last");
        let chosen: Vec<_> = (0..4).filter_map(|_| weights.next_where(|index| index != 1)).collect();
        assert_eq!(chosen, [0, 2, 0, 2]);
        assert_eq!(Turns::new([0, 0]).next(), Some(0));
        assert_eq!(Turns::new([]).next(), None);
        assert_eq!(weights.next_where(|_| false), None);
    }

    #[test]
    fn who_was_out_returns_to_its_share_and_no_more() {
        let weights = Turns::new([2, 1, 1]);
        let mut seen = [0; 3];
        for _ in 0..400 {
            seen[weights.next_where(|index| index != 0).unwrap()] += 1;
        }
        assert_eq!(seen, [0, 200, 200]);
        let mut seen = [0; 3];
        for _ in 0..40 {
            seen[weights.next().unwrap()] += 1;
        }
        assert_eq!(seen, [20, 10, 10], "nothing is owed for the time it was out");
    }

    #[test]
    fn long_lists_work_too() {
        let weights = Turns::new((0..200).map(|index| index % 3));
        let chosen: Vec<_> = (0..400)
            .filter_map(|_| weights.next_where(|index| index >= 100))
            .collect();
        assert!(chosen.iter().all(|&index| index >= 100 && index % 3 != 0));
    }

    proptest::proptest! {
        #[test]
        fn over_a_full_round_each_gets_its_weight(weights in proptest::collection::vec(0u32..20, 1..8)) {
            let total: u32 = weights.iter().sum();
            proptest::prop_assume!(total > 0);
            let smooth = Turns::new(weights.iter().copied());
            let mut seen = vec![0; weights.len()];
            for _ in 0..total {
                seen[smooth.next().unwrap()] += 1;
            }
            proptest::prop_assert_eq!(seen, weights);
        }

        #[test]
        fn subsets_take_nothing_from_each_other(masks in proptest::collection::vec(1u8..16, 1..400)) {
            let weights = [1u32, 2, 3, 4];
            let turns = Turns::new(weights);
            let (mut due, mut seen) = ([0.0; 4], [0.0; 4]);
            for mask in masks {
                let may = |index: usize| mask >> index & 1 == 1;
                let total: u32 = (0..4).filter(|&index| may(index)).map(|index| weights[index]).sum();
                for index in (0..4).filter(|&index| may(index)) {
                    due[index] += f64::from(weights[index]) / f64::from(total);
                }
                let chosen = turns.next_where(may).unwrap();
                proptest::prop_assert!(may(chosen));
                seen[chosen] += 1.0;
            }
            for index in 0..4 {
                proptest::prop_assert!((due[index] - seen[index]).abs() < 4.0, "{:?} of {:?}", seen, due);
            }
        }
    }
}
