//! Limits. Of a client address: floods, in estimates. Of a key and its group: exact accounts, from which requests reserve and
//! into which they settle.
//!
//! `policy` says what may be used, `calendar` when a window begins and what counts in it, `balance` what was used, `minute` what was
//! used in the last 60 seconds; `state` is all of it under the lock of one `account`. `admission` works on both accounts of
//! a request, `queue` waits for room, `refused` says why there is none.

pub mod account;
pub mod admission;
mod balance;
pub mod calendar;
pub mod flood;
pub mod handover;
mod metrics;
pub(crate) mod minute;
pub mod policy;
mod queue;
mod refused;
mod state;
pub mod view;

#[cfg(test)]
mod tests;

pub use account::{Account, AccountId, Accounts, Balance, Spent, Used};
pub use admission::{Admission, Chain, Estimate, Left, Limit, Overshoot, Refused, Reservation, Standing, Unit};
pub use calendar::{Calendar, Span};
pub use policy::{BadLimits, Budget, Limits, Window};
pub use view::{View, WindowView};
