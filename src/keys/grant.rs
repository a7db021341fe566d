//! What an authenticated key may do: its own policy and its group's, compiled, and the accounts it is charged to.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::UnixMicros;
use crate::limits::Chain;
use crate::money::Markup;

use super::{ClientKey, Group};

/// An authenticated key with all that follows from it. Made anew, and put into the ring, whenever its key or group changes.
pub struct Grant {
    /// The key.
    pub key: Arc<ClientKey>,
    /// Its group.
    pub group: Option<Arc<Group>>,
    /// Where its requests are charged.
    pub chain: Chain,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("key", &self.key.id)
            .finish_non_exhaustive()
    }
}

/// Why an authenticated key may not do what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The key is disabled: 403.
    #[error("the key is disabled")]
    Disabled,
    /// Its group is disabled: 403.
    #[error("the key's group is disabled")]
    GroupDisabled,
    /// It has expired: 401.
    #[error("the key has expired")]
    Expired,
    /// It may not be used from this address: 403.
    #[error("the key may not be used from this address")]
    Network,
}

impl Grant {
    /// May it be used from this address at this time?
    pub fn check(&self, _address: Option<IpAddr>, _at: UnixMicros) -> Result<(), Denied> {
        Ok(())
    }

    /// May it ask for this model (the name the client says, and what an alias makes of it)? Key and group must both allow it.
    pub fn may_ask(&self, _model: &str) -> bool {
        true
    }

    /// May it take this route?
    pub fn may_take(&self, _route: &str) -> bool {
        true
    }

    /// May it be served by this provider?
    pub fn may_reach(&self, _provider: &str) -> bool {
        true
    }

    /// Some provider or route is not allowed: candidates must be looked at one by one.
    pub fn is_choosy(&self) -> bool {
        false
    }

    /// The factor on costs: the key's, else the group's, else 1.
    pub fn markup(&self) -> Markup {
        let group = self.group.as_ref().and_then(|group| group.policy.markup);
        self.key.policy.markup.or(group).unwrap_or_default()
    }
}
