//! The providers at work: their addresses, and which credential is next. Rebuilt when the rules change; what was learned
//! of an address or a credential is carried over.

mod authorise;
mod average;
pub mod budget;
pub mod cooldown;
pub mod destinations;
pub mod endpoint;
pub mod fleet;
pub mod health;
pub mod hold;
pub mod lane;
mod lanes;
pub mod memory;
mod metrics;
pub mod outcome;
pub mod pool;
mod quota;
mod seat;
mod section;
mod shares;
pub mod state;
mod strategy;
pub mod verdict;
pub mod weights;

pub use authorise::authorisation;
pub use budget::RetryBudget;
pub use destinations::{Destination, Destinations, TargetTurns};
pub use endpoint::{Dial, Endpoint};
pub use fleet::{Fleet, LiveFleet};
pub use health::Checks;
pub use hold::Hold;
pub use lane::{Lane, NoSeat, Standing, Want};
pub use memory::Memory;
pub use outcome::{Failure, Outcome};
pub use pool::Pool;
pub use state::{CoolState, CredentialState, PeerState};
pub use strategy::adaptive_cost;
pub use verdict::Asked;
pub use weights::Turns;

/// A random number from 0 (inclusive) to 1 (exclusive), for jitter and for the choice of two. Not for secrets.
pub fn random_share() -> f64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    thread_local! {
        static STATE: std::cell::Cell<u64> = std::cell::Cell::new(RandomState::new().build_hasher().finish());
    }
    // SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    let next = STATE.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
    STATE.set(next);
    let mixed = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests;
