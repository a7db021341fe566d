//! What can be seen from outside: the program's log, the access log, the metrics page. Metrics themselves are declared in
//! the room that measures.

pub mod access_log;
pub mod log;
pub mod metrics;
pub mod redact;
