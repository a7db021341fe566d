//! All providers at work, together with the rules they were built from: one snapshot.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use crate::observe::redact::Masker;
use crate::rules::Rules;

use super::{CoolState, CredentialState, Destinations, Pool, metrics};

/// One snapshot. A request pins one for its life.
pub struct Fleet {
    rules: Arc<Rules>,
    pools: HashMap<Arc<str>, Arc<Pool>>,
    destinations: HashMap<Arc<str>, Arc<Destinations>>,
    masker: Arc<Masker>,
    limits_tokens: bool,
    has_critical: bool,
}

impl Fleet {
    /// Builds the pools of these rules. `before`: the fleet they replace, whose knowledge is carried over.
    pub fn new(rules: Arc<Rules>, before: Option<&Fleet>) -> Self {
        let pools: HashMap<_, _> = rules
            .providers
            .iter()
            .map(|provider| {
                let known = before.and_then(|fleet| fleet.pool(&provider.name));
                let pool = Pool::new(provider.clone(), known.map(Arc::as_ref));
                (provider.name.clone(), Arc::new(pool))
            })
            .collect();
        let destinations = rules.routes.iter().map(|route| {
            let known = before.and_then(|fleet| fleet.destinations(&route.name));
            let pool = |name: &str| pools.get(name).cloned();
            let ready = Destinations::new(route, &pool, known.map(Arc::as_ref));
            (route.name.clone(), Arc::new(ready))
        });
        let destinations = destinations.collect();
        let secrets = rules.secrets();
        Fleet {
            limits_tokens: pools.values().any(|pool| pool.limits_tokens()),
            has_critical: rules.routes.iter().any(|route| route.critical),
            rules,
            pools,
            destinations,
            masker: Arc::new(Masker::new(&secrets)),
        }
    }

    /// The rules.
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    /// Some route is critical.
    pub fn has_critical(&self) -> bool {
        self.has_critical
    }

    /// The pool of a provider.
    pub fn pool(&self, provider: &str) -> Option<&Arc<Pool>> {
        self.pools.get(provider)
    }

    /// Every pool.
    pub fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.pools.values()
    }

    /// What the route of that name sends to.
    pub fn destinations(&self, route: &str) -> Option<&Arc<Destinations>> {
        self.destinations.get(route)
    }

    /// Some pool does ([`Pool::limits_tokens`]).
    pub fn limits_tokens(&self) -> bool {
        self.limits_tokens
    }

    /// Brings the metrics of credentials up to date: before each scrape.
    pub fn publish(&self, now: Instant) {
        let standing = |pool: &Arc<Pool>| {
            let states = pool.states(now);
            let mut worst: HashMap<Arc<str>, (CoolState, f64)> = HashMap::new();
            for CredentialState {
                credential,
                standing,
                until,
                ..
            } in states
            {
                let seconds = until.map_or(0.0, |until| until.saturating_duration_since(now).as_secs_f64());
                let rank = |state| CoolState::ALL.iter().position(|each| *each == state);
                let known = worst.entry(credential).or_insert((standing, seconds));
                if rank(standing) > rank(known.0) {
                    known.0 = standing;
                }
                known.1 = known.1.max(seconds);
            }
            let provider = pool.provider.name.clone();
            worst
                .into_iter()
                .map(move |(credential, (state, seconds))| (provider.clone(), credential, state, seconds))
        };
        metrics::publish(self.pools().flat_map(standing));
    }

    /// Hides every secret of the rules, and those which the gateway keeps beside them.
    pub fn masker(&self) -> &Arc<Masker> {
        &self.masker
    }
}

/// The fleet in force.
pub struct LiveFleet(ArcSwap<Fleet>);

impl LiveFleet {
    /// Starts with these rules.
    pub fn new(rules: Arc<Rules>) -> Self {
        LiveFleet(ArcSwap::from_pointee(Fleet::new(rules, None)))
    }

    /// The snapshot in force.
    pub fn load(&self) -> Arc<Fleet> {
        self.0.load_full()
    }

    /// Puts new rules in force.
    pub fn replace(&self, rules: Arc<Rules>) {
        let before = self.0.load();
        self.0.store(Arc::new(Fleet::new(rules, Some(&before))));
    }
}
