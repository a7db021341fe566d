//! Requests of `openai_responses`.
#![no_main]

mod request;

libfuzzer_sys::fuzz_target!(|input: &[u8]| request::check("/v1/responses", input));
