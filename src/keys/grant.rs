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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{GroupId, KeyId};
    use crate::keys::Policy;
    use crate::keys::compiled::ModelLists;
    use crate::limits::{AccountId, Accounts};

    const NOW: UnixMicros = UnixMicros(1_000);

    fn grant(own: Policy, group: Option<Policy>) -> Grant {
        let id = GroupId("team".into());
        let key = ClientKey {
            id: KeyId("AbCdEfGhIjKl".into()),
            name: "name".into(),
            owner: None,
            last4: "wxyz".into(),
            created_at: UnixMicros(1),
            revoked_at: None,
            tags: Vec::new(),
            group: group.is_some().then(|| id.clone()),
            expires_at: None,
            policy: own,
        };
        let group = group.map(|policy| Group {
            id,
            description: String::new(),
            created_at: UnixMicros(1),
            deleted_at: None,
            policy,
        });
        let mut lists = ModelLists::default();
        Grant {
            own: Arc::new(Compiled::new(&key.policy, &mut lists)),
            shared: group
                .as_ref()
                .map(|group| Arc::new(Compiled::new(&group.policy, &mut lists))),
            chain: Chain::new(Accounts::new().get(&AccountId::Key(key.id.clone())), None),
            key: Arc::new(key),
            group: group.map(Arc::new),
        }
    }

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    fn models(names: &[&str]) -> Policy {
        Policy {
            models: list(names),
            ..Policy::default()
        }
    }

    #[test]
    fn an_empty_policy_allows_everything() {
        for grant in [
            grant(Policy::default(), None),
            grant(Policy::default(), Some(Policy::default())),
        ] {
            assert_eq!(grant.check(None, NOW), Ok(()));
            assert!(grant.may_ask("") && grant.may_take("x") && grant.may_reach("y") && !grant.is_choosy());
            assert_eq!(grant.markup(), Markup::default());
        }
    }

    #[test]
    fn key_and_group_must_both_allow_a_model() {
        let both = grant(models(&["big-*", "o3"]), Some(models(&["*-mini", "o3", "vendor/*"])));
        for (model, may) in [
            ("big-5-mini", true),
            ("o3", true),
            ("big-5", false),
            ("other-mini", false),
            ("vendor/x", false),
            ("O3", false),
            ("o3 ", false),
            ("", false),
        ] {
            assert_eq!(both.may_ask(model), may, "{model}");
        }
        let slash = grant(models(&["vendor/*", "[ab]?", "exact[1]"]), None);
        for (model, may) in [("vendor/a/b", true), ("ax", true), ("cx", false), ("exact1", true)] {
            assert_eq!(slash.may_ask(model), may, "{model}");
        }
        let group_only = grant(Policy::default(), Some(models(&["o3"])));
        assert!(group_only.may_ask("o3") && !group_only.may_ask("o4"));
        let broken = grant(models(&["{"]), None);
        assert!(!broken.may_ask("{"), "what can't be compiled allows nothing");
    }

    #[test]
    fn routes_and_providers_are_allowed_by_name() {
        let own = Policy {
            routes: list(&["b", "a"]),
            ..Policy::default()
        };
        let group = Policy {
            providers: list(&["p", "q"]),
            ..Policy::default()
        };
        let both = grant(own, Some(group));
        assert!(both.is_choosy());
        assert!(both.may_take("a") && both.may_take("b") && !both.may_take("c"));
        assert!(both.may_reach("p") && !both.may_reach("P"));
    }

    #[test]
    fn networks_are_checked_as_they_are_meant() {
        let networks = |text: &[&str]| Policy {
            networks: text.iter().map(|text| text.parse().unwrap()).collect(),
            ..Policy::default()
        };
        let office = grant(
            networks(&["10.1.0.0/16", "2001:db8::/32"]),
            Some(networks(&["10.0.0.0/8"])),
        );
        for (address, good) in [
            (Some("10.1.2.3"), true),
            (Some("::ffff:10.1.2.3"), true),
            (Some("10.2.0.1"), false),
            (Some("2001:db8::1"), false),
            (Some("127.0.0.1"), false),
            (None, false),
        ] {
            let denied = office.check(address.map(|address| address.parse().unwrap()), NOW);
            assert_eq!(denied.is_ok(), good, "{address:?}");
            assert!(good || denied == Err(Denied::Network));
        }
    }

    #[test]
    fn disabled_expired_and_orphaned_keys_are_denied() {
        let disabled = || Policy {
            disabled: true,
            ..Policy::default()
        };
        assert_eq!(grant(disabled(), None).check(None, NOW), Err(Denied::Disabled));
        let member = grant(Policy::default(), Some(disabled()));
        assert_eq!(member.check(None, NOW), Err(Denied::GroupDisabled));
        let mut expiring = grant(Policy::default(), None);
        Arc::make_mut(&mut expiring.key).expires_at = Some(NOW);
        assert_eq!(
            expiring.check(None, NOW),
            Err(Denied::Expired),
            "from its last moment on"
        );
        assert_eq!(expiring.check(None, UnixMicros(999)), Ok(()));
        let mut orphan = grant(Policy::default(), Some(Policy::default()));
        orphan.group = None;
        assert_eq!(
            orphan.check(None, NOW),
            Err(Denied::GroupDeleted),
            "a lost group opens nothing"
        );
    }

    #[test]
    fn the_keys_markup_comes_before_its_groups() {
        let with = |text: Option<&str>| Policy {
            markup: text.map(|text| text.parse().unwrap()),
            ..Policy::default()
        };
        let markup = |own, group| grant(with(own), Some(with(group))).markup().to_string();
        assert_eq!(markup(Some("0"), Some("2")), "0", "an explicit zero is zero");
        assert_eq!(markup(None, Some("2")), "2");
        assert_eq!(markup(None, None), "1");
    }
}
