//! The binary replaced while it serves. The running process starts the new one, hands it the listening sockets, the store and the
//! clients' accounts, and lives on only for what it has begun.
//!
//! ```text
//! old                                        new
//! ──► Offer: sockets (as descriptors), who it is
//!                                            configuration, rules, certificates, addresses are checked
//!                            Checked ◄──
//! lets go of store, books, audit log
//! ──► Released
//!                                            opens them, loads everything
//!                             Loaded ◄──
//! marks each account as handed over
//! ──► Switch: what requests under way hold
//!                                            starts to accept, on the same sockets
//!                            Serving ◄──
//! accepts no more, says so on every connection
//! ──► Enter, Reserve, GivenBack, Draining    admits and reserves for both
//! ```
//!
//! Until `Serving` the old process accepts and serves as ever, and takes everything back if the new one fails. Sockets are shared, so a
//! connection that waits to be accepted is never lost. Several old processes may be draining at once: what the oldest asks goes from one to
//! the next (HARDENING U1 to U4; PINGORA.md, "Upgrade").
//!
//! Messages are JSON with a length before them; what a version does not know in them it leaves out, so neighbouring versions understand
//! each other in both directions.

pub mod control;
pub mod metrics;
mod owner;
mod predecessor;
mod successor;
mod wire;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use predecessor::{Predecessor, Switched};
pub use successor::{Incumbent, Successor, hand_over};
pub use wire::MAX_SOCKETS;

/// What both sides speak. Another number is refused by whoever does not know it.
const PROTOCOL: u32 = 1;

/// Who listens on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Clients.
    Proxy,
    /// The admin API.
    Admin,
    /// The metrics page.
    Metrics,
    /// The sandbox provider.
    Sandbox,
}

/// Listening sockets of one address.
#[derive(Debug)]
pub struct SharedSockets {
    /// Who listens.
    pub role: Role,
    /// Where, as the configuration says it.
    pub address: SocketAddr,
    /// The sockets.
    pub sockets: Vec<OwnedFd>,
}

/// Where a conversation was answered, so that it stays there (routing's affinity, which hashes alike in one build; what
/// another build hashes otherwise is not found, and forgotten).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Its hash.
    pub id: u64,
    /// The provider.
    pub provider: Arc<str>,
    /// Its credential.
    pub credential: Option<Arc<str>>,
    /// The model, by the provider's name.
    pub model: Option<Arc<str>>,
    /// How long that is remembered.
    pub left: Duration,
}

/// What `tollgate upgrade` asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The new program.
    pub program: PathBuf,
    /// Its configuration.
    pub conf: PathBuf,
    /// The environment it gets; `None`: that of the running process.
    pub environment: Option<Vec<(String, String)>>,
}

/// A step that was done, for who asked for the upgrade.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    /// The new process was started.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It found configuration, rules, certificates and addresses good.
    Checked {
        /// Its version.
        version: String,
    },
    /// The store is free.
    Released,
    /// It has everything loaded.
    Loaded,
    /// It serves.
    Serving {
        /// Its process id.
        pid: u32,
        /// Since the upgrade was asked for, in milliseconds.
        milliseconds: u64,
    },
    /// The old process still has something to do.
    Draining {
        /// Its process id.
        pid: u32,
        /// Requests under way.
        in_flight: u64,
        /// Connections of clients.
        connections: u64,
    },
    /// Nothing was changed: the old process goes on.
    Failed {
        /// Why.
        why: String,
    },
    /// From another version.
    #[serde(other)]
    Unknown,
}

/// Why an upgrade did not come about. The old process goes on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The new process said so.
    #[error("{0}")]
    Refused(String),
    /// The new process ended, or the old one did.
    #[error("the other process ended ({0})")]
    Ended(String),
    /// It took too long.
    #[error("the new process did not serve within {0:?} (upgrade.prepare)")]
    TooLate(Duration),
    /// The new program can't be started.
    #[error("{program} can't be started: {source}")]
    Start {
        /// Which.
        program: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The link between the two.
    #[error("the link to the other process: {0}")]
    Link(#[from] std::io::Error),
    /// What it said was not understood.
    #[error("the other process said something unexpected: {0}")]
    Unexpected(String),
    /// This process can't let go of something.
    #[error("the store can't be handed over: {0}")]
    Release(String),
    /// There is one already.
    #[error("an upgrade is under way already")]
    UnderWay,
}
