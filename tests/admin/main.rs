//! The admin API as its callers see it, over HTTP on the loopback.

mod addresses;
mod command_line;
mod credentials;
mod document;
mod groups;
mod idempotency;
mod keys;
mod refusals;
mod rules;
mod support;
mod tokens;
mod usage;
