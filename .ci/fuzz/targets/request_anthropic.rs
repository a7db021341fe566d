//! Requests of `anthropic`.
#![no_main]

mod request;

libfuzzer_sys::fuzz_target!(|input: &[u8]| request::check("/v1/messages", input));
