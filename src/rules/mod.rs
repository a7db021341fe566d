//! `rules/*.toml`: providers, credentials, routes (later prices). Compiled into one immutable snapshot, hot-reloaded all
//! or nothing.

mod address;
pub mod compile;
mod credential;
pub mod environment;
pub mod folder;
mod matcher;
mod names;
mod provider;
mod route;
pub mod snapshot;
pub mod watch;
pub mod watcher;

pub use compile::{compile, compile_with};
pub use snapshot::{
    Auth, Base, Credential, HttpVersions, OnLoss, Provider, Route, RouteTimeouts, Rules, StreamUsage, Target,
    UpstreamStream,
};
pub use watch::{Live, OnChange, ReloadStatus};
pub use watcher::Watch;
