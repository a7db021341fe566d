//! `rules/*.toml`: providers, credentials, routes (later prices). Compiled into one immutable snapshot, hot-reloaded all
//! or nothing.

pub mod compile;
pub mod snapshot;
pub mod watch;

pub use compile::compile;
pub use snapshot::{Auth, Base, Credential, HttpVersions, Provider, Route, RouteTimeouts, Rules, StreamUsage, Target};
pub use watch::{Live, ReloadStatus};
