//! Tollgate: a reverse proxy for language-model APIs, built on Pingora.
//!
//! The modules stand in the order of a request's path; `ARCHITECTURE.md` beside this file draws both
//! routes. A room is a folder, its door is its `mod.rs`; `tests/house.rs` checks who may import whom.

pub mod clock;
pub mod ids;
pub mod random;
pub mod watch;

pub mod cli;
pub mod config;
pub mod rules;

pub mod app;
pub mod proxy;

pub mod dialects;
pub mod ir;
pub mod sse;
pub mod translate;

pub mod egress;
pub mod routing;
pub mod upgrade;
pub mod upstream;

pub mod keys;
pub mod ledger;
pub mod limits;
pub mod money;
pub mod store;

pub mod admin;
pub mod alerts;
pub mod observe;
pub mod sandbox;
pub mod secrets;
