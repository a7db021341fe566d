//! The client key of a request that is explained: who it is and what it may do, as the running gateway has it.

use std::fmt::Write as _;
use std::path::Path;

use super::super::Failure;
use super::super::client::{Client, Reach};
use crate::admin::groups::GroupView;
use crate::admin::keys::KeyView;
use crate::admin::policy::PolicyView;
use crate::keys::client_key::PUBLIC_LEN;
use crate::keys::{Allowed, KeyState};
use crate::observe::redact::printable;
use crate::routing::{Permit, What};

use super::MAX_TOLD;

/// A key with the lists of its policies.
pub(super) struct Known {
    pub(super) view: KeyView,
    own: Allowed,
    /// Its group's, and the group's name.
    shared: Option<(Allowed, String)>,
}

/// Has it the form of a key's id? A name may have it too.
pub(super) fn is_id(text: &str) -> bool {
    text.len() == PUBLIC_LEN && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

impl Known {
    /// Asks the running gateway; reads only.
    pub(super) fn ask(conf: &Path, reach: &Reach, id: &str) -> Result<Self, Failure> {
        let client = Client::new(conf, reach)?;
        let view: KeyView = client.get(&format!("/api/v1/keys/{id}"), &[])?;
        let shared = match &view.group {
            Some(group) => {
                let group: GroupView = client.get(&format!("/api/v1/groups/{group}"), &[])?;
                Some((allowed(&group.policy), group.id))
            }
            None => None,
        };
        let own = allowed(&view.policy);
        Ok(Known { view, own, shared })
    }

    /// Why it is refused whatever it asks.
    pub(super) fn refused(&self) -> Option<&'static str> {
        Some(match self.view.state.into() {
            KeyState::Active => return None,
            KeyState::Disabled => "the key is disabled",
            KeyState::Expired => "the key has expired",
            KeyState::Revoked => "the key was revoked",
            KeyState::GroupDisabled => "the key's group is disabled",
            KeyState::GroupDeleted => "the key's group was deleted",
        })
    }

    fn all(&self, allows: impl Fn(&Allowed) -> bool) -> bool {
        allows(&self.own) && self.shared.as_ref().is_none_or(|(shared, _)| allows(shared))
    }

    /// Whose lists, and whose policies they are of.
    fn each(&self) -> impl Iterator<Item = (&Allowed, String)> {
        let shared = self.shared.iter();
        let shared = shared.map(|(allowed, name)| (allowed, format!("its group {}", printable(name, MAX_TOLD))));
        std::iter::once((&self.own, "the key".to_owned())).chain(shared)
    }
}

fn allowed(policy: &PolicyView) -> Allowed {
    Allowed::new(policy.models.clone(), policy.routes.clone(), policy.providers.clone())
}

impl Permit for Known {
    fn model(&self, name: &str) -> bool {
        self.all(|allowed| allowed.may_ask(name))
    }

    fn route(&self, name: &str) -> bool {
        self.all(|allowed| allowed.may_take(name))
    }

    fn provider(&self, name: &str) -> bool {
        self.all(|allowed| allowed.may_reach(name))
    }

    fn why_not(&self, what: What<'_>) -> Option<String> {
        let mut told = String::new();
        for (allowed, whose) in self.each() {
            let mut missing = |list: &str, name: &str| {
                let join = if told.is_empty() { "" } else { "; " };
                let name = match name {
                    "" => "what is past all routes".into(),
                    name => format!("\"{}\"", printable(name, MAX_TOLD)),
                };
                // Writing to a String can't fail.
                let _ = write!(told, "{join}{name} is not in the list of {list} of {whose}");
            };
            match what {
                What::Model(said, stands_for) => {
                    for name in std::iter::once(said).chain(stands_for) {
                        if !allowed.may_ask(name) {
                            missing("models", name);
                        }
                    }
                }
                What::Place(route, provider) => {
                    if !allowed.may_take(route) {
                        missing("routes", route);
                    }
                    if !allowed.may_reach(provider) {
                        missing("providers", provider);
                    }
                }
            }
        }
        (!told.is_empty()).then_some(told)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_from_a_name_by_its_form() {
        assert!(is_id("AbCdEfGhIjK1"));
        for name in ["alice", "team-a-robot", "AbCdEfGhIjK12", "AbCdEfGhIjK\u{e9}", ""] {
            assert!(!is_id(name), "{name}");
        }
    }
}
