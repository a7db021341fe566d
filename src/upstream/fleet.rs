//! All providers at work, together with the rules they were built from: one snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::config::Secret;
use crate::observe::redact::Masker;
use crate::routing::weights::SmoothWeights;
use crate::rules::{Route, Rules};

use super::Pool;

/// One snapshot. A request pins one for its life.
pub struct Fleet {
    rules: Arc<Rules>,
    pools: HashMap<Arc<str>, Arc<Pool>>,
    turns: HashMap<Arc<str>, SmoothWeights>,
    masker: Arc<Masker>,
}

impl Fleet {
    /// Builds the pools of these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        let pools: HashMap<_, _> = rules
            .providers
            .iter()
            .map(|provider| (provider.name.clone(), Arc::new(Pool::new(provider.clone()))))
            .collect();
        let turn = |route: &Arc<Route>| {
            (
                route.name.clone(),
                SmoothWeights::new(route.targets.iter().map(|target| target.weight)),
            )
        };
        let turns = rules.routes.iter().map(turn).collect();
        let secrets: Vec<Secret> = rules
            .providers
            .iter()
            .flat_map(|provider| &provider.credentials)
            .filter_map(|credential| credential.secret.clone())
            .collect();
        Fleet {
            rules,
            pools,
            turns,
            masker: Arc::new(Masker::new(&secrets)),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// The pool of a provider.
    pub fn pool(&self, provider: &str) -> Option<&Arc<Pool>> {
        self.pools.get(provider)
    }

    /// Every pool.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values()
    }

    /// The targets of a route, by index, in the order to be tried.
    pub fn order_of(&self, route: &Route) -> Vec<usize> {
        self.turns
            .get(&route.name)
            .map(SmoothWeights::order)
            .unwrap_or_default()
    }

    /// Hides every credential.
    pub fn masker(&self) -> &Arc<Masker> {
        &self.masker
    }
}

/// The fleet in force.
pub struct LiveFleet(ArcSwap<Fleet>);

impl LiveFleet {
    /// Starts with these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        LiveFleet(ArcSwap::from_pointee(Fleet::new(rules)))
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Fleet> {
        self.0.load_full()
    }

    /// Puts new rules in force.
    pub fn replace(&self, rules: Arc<Rules>) {
        self.0.store(Arc::new(Fleet::new(rules)));
    }
}
