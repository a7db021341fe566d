//! A policy made ready for requests: names in order, globs compiled.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use ipnet::IpNet;

use super::Policy;

/// One glob for model names. `*` matches any characters, `/` too: a model's name is no path. The same as in rules.
pub(super) fn glob(pattern: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(pattern).literal_separator(false).build()
}

/// Whether the pattern can match nothing but itself.
fn is_name(pattern: &str) -> bool {
    !pattern.contains(['*', '?', '[', ']', '{', '}', '\\'])
}

/// Models that are allowed.
#[derive(Debug)]
pub(super) struct Models {
    /// In order.
    names: Box<[Box<str>]>,
    globs: Option<GlobSet>,
    /// Its globs could not be compiled.
    broken: bool,
}

impl Models {
    /// Globs that can't be compiled allow nothing: they were checked when they were taken in, so only a store of
    /// another program holds some.
    fn new(patterns: &[String]) -> Self {
        let (names, others): (Vec<_>, Vec<_>) = patterns.iter().partition(|pattern| is_name(pattern));
        let compile = || {
            let mut set = GlobSetBuilder::new();
            for pattern in &others {
                set.add(glob(pattern)?);
            }
            set.build()
        };
        let (globs, broken) = match others.is_empty() {
            true => (None, false),
            false => compile().map_or((None, true), |globs| (Some(globs), false)),
        };
        Models {
            names: sorted(&names),
            globs,
            broken,
        }
    }

    fn allow(&self, model: &str) -> bool {
        has(&self.names, model) || self.globs.as_ref().is_some_and(|globs| globs.is_match(model))
    }
}

/// Compiled lists of models by their text: thousands of keys with the same list share one.
#[derive(Default)]
pub(super) struct ModelLists {
    lists: HashMap<Box<[String]>, Weak<Models>>,
    /// How many there were when those which nobody uses were last thrown out.
    swept: usize,
}

impl ModelLists {
    fn get(&mut self, patterns: &[String]) -> Arc<Models> {
        if let Some(known) = self.lists.get(patterns).and_then(Weak::upgrade) {
            return known;
        }
        if self.lists.len() > 64 + 2 * self.swept {
            self.lists.retain(|_, models| models.strong_count() > 0);
            self.swept = self.lists.len();
        }
        let models = Arc::new(Models::new(patterns));
        self.lists.insert(patterns.into(), Arc::downgrade(&models));
        models
    }
}

/// A policy, ready for requests. What is `None` allows everything.
#[derive(Debug, Default)]
pub(super) struct Compiled {
    models: Option<Arc<Models>>,
    routes: Option<Box<[Box<str>]>>,
    providers: Option<Box<[Box<str>]>>,
    networks: Option<Box<[IpNet]>>,
}

impl Compiled {
    pub(super) fn new(policy: &Policy, lists: &mut ModelLists) -> Self {
        let names = |list: &[String]| (!list.is_empty()).then(|| sorted(list));
        Compiled {
            models: (!policy.models.is_empty()).then(|| lists.get(&policy.models)),
            routes: names(&policy.routes),
            providers: names(&policy.providers),
            networks: (!policy.networks.is_empty()).then(|| policy.networks.as_slice().into()),
        }
    }

    /// Its globs can't be compiled together.
    pub(super) fn is_broken(&self) -> bool {
        self.models.as_ref().is_some_and(|models| models.broken)
    }

    pub(super) fn may_ask(&self, model: &str) -> bool {
        self.models.as_ref().is_none_or(|models| models.allow(model))
    }

    pub(super) fn may_take(&self, route: &str) -> bool {
        self.routes.as_ref().is_none_or(|routes| has(routes, route))
    }

    pub(super) fn may_reach(&self, provider: &str) -> bool {
        self.providers.as_ref().is_none_or(|providers| has(providers, provider))
    }

    pub(super) fn is_choosy(&self) -> bool {
        self.routes.is_some() || self.providers.is_some()
    }

    /// An address that is not known is in no network. IPv4 written as IPv6 (`::ffff:10.0.0.1`) counts as IPv4.
    pub(super) fn may_come_from(&self, address: Option<IpAddr>) -> bool {
        let Some(networks) = &self.networks else { return true };
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return false;
        };
        networks.iter().any(|network| network.contains(&address))
    }
}

/// What the lists of a policy allow, to be looked at without a key.
#[derive(Debug, Default)]
pub struct Allowed(Compiled);

impl Allowed {
    /// Of models (names and globs), routes and providers; an empty list allows everything.
    pub fn new(models: Vec<String>, routes: Vec<String>, providers: Vec<String>) -> Self {
        let policy = Policy {
            models,
            routes,
            providers,
            ..Policy::default()
        };
        Allowed(Compiled::new(&policy, &mut ModelLists::default()))
    }

    /// As [`super::Grant::may_ask`].
    pub fn may_ask(&self, model: &str) -> bool {
        self.0.may_ask(model)
    }

    /// As [`super::Grant::may_take`].
    pub fn may_take(&self, route: &str) -> bool {
        self.0.may_take(route)
    }

    /// As [`super::Grant::may_reach`].
    pub fn may_reach(&self, provider: &str) -> bool {
        self.0.may_reach(provider)
    }
}

fn sorted(names: &[impl AsRef<str>]) -> Box<[Box<str>]> {
    let mut names: Vec<Box<str>> = names.iter().map(|name| name.as_ref().into()).collect();
    names.sort_unstable();
    names.into()
}

fn has(names: &[Box<str>], name: &str) -> bool {
    names.binary_search_by(|known| (**known).cmp(name)).is_ok()
}
