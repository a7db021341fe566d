//! The admin API as its callers see it, over HTTP on the loopback.

mod command_line;
mod document;
mod keys;
mod refusals;
mod rules;
mod support;
mod usage;
