//! What an authenticated key may do: its own policy and its group's, compiled, and the accounts it is charged to.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::clock::UnixMicros;
use crate::limits::Chain;
use crate::money::Markup;

use super::compiled::Compiled;
use super::{ClientKey, Group};

/// An authenticated key with all that follows from it. Made anew, and put into the ring, whenever its key or group changes.
pub struct Grant {
    /// The key.
    pub key: Arc<ClientKey>,
    /// Its group.
    pub group: Option<Arc<Group>>,
    /// Where its requests are charged.
    pub chain: Chain,
    /// The key's policy.
    pub(super) own: Arc<Compiled>,
    /// The group's.
    pub(super) shared: Option<Arc<Compiled>>,
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
    /// Its group was deleted: 403.
    #[error("the key's group was deleted")]
    GroupDeleted,
    /// It has expired: 401.
    #[error("the key has expired")]
    Expired,
    /// It may not be used from this address: 403.
    #[error("the key may not be used from this address")]
    Network,
}

impl Grant {
    /// May it be used from this address at this time?
    pub fn check(&self, address: Option<IpAddr>, at: UnixMicros) -> Result<(), Denied> {
        if self.key.policy.disabled {
            return Err(Denied::Disabled);
        }
        if self.key.expires_at.is_some_and(|end| end <= at) {
            return Err(Denied::Expired);
        }
        match (&self.key.group, &self.group) {
            (None, _) => {}
            // A group that is not there is as good as deleted: it may have had limits.
            (Some(_), None) => return Err(Denied::GroupDeleted),
            (Some(_), Some(group)) if group.deleted_at.is_some() => return Err(Denied::GroupDeleted),
            (Some(_), Some(group)) if group.policy.disabled => return Err(Denied::GroupDisabled),
            (Some(_), Some(_)) => {}
        }
        match self.policies().all(|policy| policy.may_come_from(address)) {
            true => Ok(()),
            false => Err(Denied::Network),
        }
    }

    /// May it ask for this model (the name the client says, and what an alias makes of it)? Key and group must both allow it.
    pub fn may_ask(&self, model: &str) -> bool {
        self.policies().all(|policy| policy.may_ask(model))
    }

    /// May it take this route?
    pub fn may_take(&self, route: &str) -> bool {
        self.policies().all(|policy| policy.may_take(route))
    }

    /// May it be served by this provider?
    pub fn may_reach(&self, provider: &str) -> bool {
        self.policies().all(|policy| policy.may_reach(provider))
    }

    /// Some provider or route is not allowed: candidates must be looked at one by one.
    pub fn is_choosy(&self) -> bool {
        self.policies().any(Compiled::is_choosy)
    }

    /// The factor on costs: the key's, else the group's, else 1.
    pub fn markup(&self) -> Markup {
        let group = self.group.as_ref().and_then(|group| group.policy.markup);
        self.key.policy.markup.or(group).unwrap_or_default()
    }

    fn policies(&self) -> impl Iterator<Item = &Compiled> {
        std::iter::once(&*self.own).chain(self.shared.as_deref())
    }
}
