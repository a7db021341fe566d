//! What can be seen from outside: the program's log, the access log, the metrics page. Metrics themselves are declared in
//! the room that measures.

pub mod access_log;
pub mod append;
mod json_line;
pub mod log;
pub mod metrics;
mod process;
pub mod redact;
mod rotate;
pub mod timestamp;

pub use timestamp::rfc3339;
