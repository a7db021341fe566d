//! Joins the client's dialect and the provider's for one attempt. Knows no dialect by name.
//!
//! Today both are the same: bytes pass as they came, and a decoder of the dialect reads a copy (the tap).

pub mod inflate;
mod kept;
pub mod splice;
pub mod stream;
pub mod tap;

pub use stream::{AnswerKind, AnswerPlan, AnswerStream, Coding};
pub use tap::Meter;
