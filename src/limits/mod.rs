//! Limits. Of a client address: floods, in estimates. Of a key and its group: exact accounts, from which requests reserve and
//! into which they settle.

pub mod account;
pub mod admission;
pub mod flood;
pub mod policy;

pub use account::{Account, AccountId, Accounts, Balance, Spent, Used};
pub use admission::{Admission, Chain, Estimate, Left, Limit, Refused, Reservation, Standing, Unit};
pub use policy::{Budget, Limits, Window};
