//! The providers at work: their addresses, and which credential is next. Rebuilt when the rules change; what was learned
//! of an address is carried over.

pub mod fleet;
pub mod pool;

pub use fleet::{Fleet, LiveFleet};
pub use pool::{Endpoint, Pool};
