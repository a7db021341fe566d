//! Numbers that look random: for ids, draws and jitter. Never for secrets, which ask the system.

use std::cell::Cell;

thread_local! {
    /// State of this thread's generator, seeded by the system: a system call for each number would cost more than all that is
    /// done with it.
    static STATE: Cell<Option<u64>> = const { Cell::new(None) };
}

/// 64 bits that look random: SplitMix64 (Steele, Lea, Flood: "Fast Splittable Pseudorandom Number Generators", 2014). They repeat
/// no sooner than others do; they can be guessed.
pub fn number() -> u64 {
    let state = STATE.get().unwrap_or_else(|| {
        let mut seed = [0; 8];
        match getrandom::fill(&mut seed) {
            Ok(()) => u64::from_ne_bytes(seed),
            // Without the system's randomness, its own id generator decides what becomes of us.
            Err(_) => uuid::Uuid::now_v7().as_u64_pair().1,
        }
    });
    let state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(Some(state));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// One of the numbers from 0 (inclusive) to `count` (exclusive), all equally likely; 0 if there are none.
pub fn below(count: usize) -> usize {
    ((u128::from(number()) * count as u128) >> 64) as usize
}

/// A number from 0 (inclusive) to 1 (exclusive).
pub fn share() -> f64 {
    (number() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_stay_within_their_bounds_and_reach_all_of_them() {
        let mut seen = [0; 5];
        for _ in 0..5_000 {
            seen[below(5)] += 1;
            assert!((0.0..1.0).contains(&share()));
        }
        assert!(seen.iter().all(|count| (800..1_200).contains(count)), "{seen:?}");
        assert_eq!((below(0), below(1)), (0, 0));
    }
}
