//! Requests of `gemini`.
#![no_main]

mod request;

libfuzzer_sys::fuzz_target!(|input: &[u8]| request::check("/v1beta/models/a-model:generateContent", input));
