//! `rules/*.toml`: providers, credentials, routes (later prices). Compiled into one immutable snapshot, hot-reloaded all
//! or nothing.

pub mod added;
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
pub mod words;

pub use added::Added;
pub use compile::{compile, compile_with};
pub use egress::Egress;
pub use models::{ModelFacts, ModelTable};
pub use prices::PriceTable;
pub use snapshot::{
    Auth, Base, Credential, CredentialLimits, Edits, Health, HttpVersions, Instructions, Provider, Route,
    RouteTimeouts, Rules, Target, UnknownPrice,
};
pub use watch::{Live, NotRewritten, OnChange, ReloadStatus};
pub use when::When;
pub use words::{Affinity, FallbackOn, OnLoss, Requirement, Strategy, StreamUsage, UpstreamStream};
