//! zlib's interface under the name `libz-ng-sys`. See `Cargo.toml` for the reason.

pub use libz_sys::*;
