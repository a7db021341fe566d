//! `rules/*.toml`: providers, credentials, routes (later prices). Compiled into one immutable snapshot, hot-reloaded all
//! or nothing.

mod address;
mod alias;
pub mod compile;
mod conditions;
mod credential;
mod edits;
pub mod egress;
mod egress_file;
pub mod environment;
pub mod folder;
mod health;
mod lint;
pub mod models;
mod names;
mod patterns;
pub mod prices;
mod provider;
mod reference;
mod route;
pub mod snapshot;
mod table;
mod tables;
mod target;
pub mod watch;
pub mod watcher;
pub mod when;

pub use compile::{compile, compile_with};
pub use egress::Egress;
pub use models::{ModelFacts, ModelTable};
pub use prices::PriceTable;
pub use snapshot::{
    Affinity, Auth, Base, Credential, CredentialLimits, Edits, FallbackOn, Health, HttpVersions, Instructions, OnLoss,
    Provider, Requirement, Route, RouteTimeouts, Rules, Strategy, StreamUsage, Target, UnknownPrice, UpstreamStream,
};
pub use watch::{Live, OnChange, ReloadStatus};
pub use watcher::Watch;
pub use when::When;
