//! How a provider is reached from here: names resolved ahead ([`names`]), addresses ranked by how connecting to them goes
//! ([`book`]), proxies and certificates compiled once ([`way`]), and Pingora's peer made of it all ([`peer`]).
//!
//! Names are never resolved on the path of a request once they are known: Pingora's own resolution blocks, and panics on
//! failure (PINGORA.md). What an administrator enters through the API passes [`policy`] first.

pub mod book;
pub mod certificate;
pub mod names;
pub mod peer;
pub mod policy;
pub mod post;
pub mod probe;
mod tunnel;
pub mod way;

use std::net::SocketAddr;
use std::sync::Arc;

pub use book::{AddressState, Spot};
pub use certificate::certificate_expiry;
pub use names::{NameState, Names, REFRESH};
pub use peer::{ConnectTimes, Reach, alone, failed_at_tls, of_this_thread, peer};
pub use policy::Policy;
pub use post::Post;
pub use probe::Probe;
pub use tunnel::{Side, side, stuck_at_proxy};
pub use way::{Machine, Way, Ways, check};

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// A name (or a literal address) and a port.
    Name {
        /// The name, without brackets.
        host: Arc<str>,
        /// The port.
        port: u16,
    },
    /// Addresses pinned in the rules.
    Pinned(Arc<[SocketAddr]>),
}
