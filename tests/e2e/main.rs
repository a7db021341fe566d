//! The built gateway, started as its user starts it: one file per promise.

#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test binary: its support is used by some tests only"
)]

mod aborts;
mod alerts;
mod any_path;
mod bodies;
mod books;
mod budgets;
mod canaries;
mod convert;
mod cooldown;
mod egress;
mod errors;
mod failover;
mod headers;
mod health;
mod keys;
mod ledger;
mod limits;
mod passthrough;
#[path = "../egress/pki.rs"]
mod pki;
mod pool;
#[path = "../egress/proxy.rs"]
mod proxy;
mod quickstart;
mod refusals;
mod reload;
mod routes;
mod seats;
mod silence;
mod support;
mod tls;
mod tls_listener;
mod upgrade;
mod watching;
