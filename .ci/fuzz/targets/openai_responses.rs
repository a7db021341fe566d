//! Answers of `openai_responses`.
#![no_main]

mod answer;
mod cut;

libfuzzer_sys::fuzz_target!(|input: &[u8]| answer::check("openai_responses", input));
