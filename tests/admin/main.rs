//! The admin API as its callers see it, over HTTP on the loopback.

mod accounts;
mod addresses;
mod alerts;
mod command_line;
mod credentials;
mod document;
mod groups;
mod idempotency;
mod keys;
mod large_export;
mod reconcile;
mod refusals;
mod rules;
mod secrets;
mod support;
mod time_zones;
mod tokens;
mod usage;
