//! Money: whole nano-dollars, what models cost, what a request cost. Pure; integers only (HARDENING B1).
//!
//! What a provider bills us is the **cost**; what the client's budget is charged with is the **charge**: the cost times the
//! key's or its group's [`Markup`]. Prices are read by `rules/`, kept per attempt by `proxy/`, and both sums stand in the ledger's row.

mod amount;
mod decimal;
mod markup;
mod price;
mod rates;

pub use amount::{BadAmount, NanoUsd};
pub use markup::Markup;
pub use price::{Extras, Listed, Price, Service, Tier};
pub use rates::{Class, Rates};
