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
pub use state::{CoolState, CredentialState};
pub use strategy::{adaptive_cost, expected_latency};
pub use verdict::Asked;

#[cfg(test)]
mod tests;
