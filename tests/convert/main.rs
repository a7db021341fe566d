//! Proofs of conversion: whatever goes from one dialect to another arrives, or is told as lost.
//!
//! Over fixtures of our own (`fixtures/`), and over recorded traffic of real providers (`../shared/wire`, or
//! `$TOLLGATE_SHARED`; not part of the project, skipped loudly where it is missing). What each proof says stands at the
//! top of its file. `TOLLGATE_BLESS=1` rewrites the golden files and `docs/conversion.md`.

mod answers;
mod conservation;
mod coverage;
mod cut;
mod fixtures;
mod gateway;
mod golden;
mod grammar;
mod home;
mod leaves;
mod meaning;
mod normal;
mod normal_gemini;
mod odd;
mod pipeline;
mod prepare;
mod properties;
mod recordings;
mod report;
mod table;
mod tokens;
mod wellformed;
