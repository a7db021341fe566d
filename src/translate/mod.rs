//! Joins the client's dialect and the provider's for one attempt. Knows no dialect by name.
//!
//! Where both are the same, bytes pass as they came, and a decoder of the dialect reads a copy (the tap). Else requests and
//! answers are converted: decoded into the hub's form, adapted ([`names`], [`opaque`]), encoded.

pub mod bound;
mod convert;
mod convert_frames;
pub mod edit;
pub mod estimate;
pub mod inflate;
mod keep;
mod kept;
pub mod names;
pub mod opaque;
mod plain;
pub mod request;
pub mod splice;
mod stored;
pub mod stream;
mod tail;
pub mod tap;
pub mod written;

pub use convert::{Conversion, Mask};
pub use request::{Converted, Decoded, Recipient};
pub use stream::{AnswerKind, AnswerPlan, AnswerStream, Coding};
pub use tap::Meter;
