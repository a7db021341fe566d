//! Which candidates a request has, in order. Pure: no clock, no network, not async.

pub mod weights;

use std::sync::Arc;

use crate::ir::DialectId;
use crate::rules::Route;
use crate::upstream::{Endpoint, Fleet, Pool};

/// One place a request may go.
#[derive(Clone)]
pub struct Candidate {
    /// The provider and its state.
    pub pool: Arc<Pool>,
    /// Its address for the dialect.
    pub endpoint: Arc<Endpoint>,
    /// The name it needs; `None`: the one the client said.
    pub model: Option<Arc<str>>,
}

/// Candidates in the order in which they are to be tried. Never empty.
pub struct RoutePlan {
    /// The route; `None`: the model named its provider.
    pub route: Option<Arc<Route>>,
    /// The candidates.
    pub candidates: Vec<Candidate>,
}

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No route matches, and the name is not `provider/model`.
    #[error("the model `{0}` is not offered here; GET /v1/models lists what is")]
    UnknownModel(String),
    /// There is a route, but none of its providers speaks a dialect which knows what is asked.
    #[error("the model `{model}` is not offered for this operation; its providers speak: {spoken}")]
    NotOffered {
        /// The model asked for.
        model: String,
        /// What the providers speak.
        spoken: String,
    },
    /// There is a route, but none of its providers has a usable credential.
    #[error("none of our credentials for the model `{0}` can be used just now")]
    NoCredential(String),
}

/// Finds the candidates for a model. `provider/model` always addresses the provider of that name; else the first route which
/// matches wins, and its targets are ordered by their weights, smoothly over requests.
///
/// A provider is asked in the client's `dialect` if it speaks it, else in the first it speaks of those that can do what is asked:
/// `knows` tells.
pub fn resolve(
    fleet: &Fleet,
    model: &str,
    dialect: DialectId,
    knows: &dyn Fn(DialectId) -> bool,
) -> Result<RoutePlan, NoRoute> {
    if let Some((provider, rest)) = model.split_once('/')
        && !rest.is_empty()
        && let Some(pool) = fleet.pool(provider)
    {
        let candidates = vec![(pool.clone(), Some(Arc::from(rest)))];
        return plan(None, candidates, model, dialect, knows);
    }
    let Some(route) = fleet.rules().route_for(model) else {
        return Err(NoRoute::UnknownModel(model.to_owned()));
    };
    let order = fleet.order_of(route);
    let targets = order.into_iter().filter_map(|index| {
        let target = route.targets.get(index)?;
        Some((fleet.pool(&target.provider.name)?.clone(), target.model.clone()))
    });
    plan(Some(route.clone()), targets.collect(), model, dialect, knows)
}

fn plan(
    route: Option<Arc<Route>>,
    targets: Vec<(Arc<Pool>, Option<Arc<str>>)>,
    model: &str,
    dialect: DialectId,
    knows: &dyn Fn(DialectId) -> bool,
) -> Result<RoutePlan, NoRoute> {
    let speaking = targets.iter().filter_map(|(pool, model)| {
        let other = || pool.endpoints().iter().find(|endpoint| knows(endpoint.dialect));
        let endpoint = pool.endpoint(dialect).or_else(other)?.clone();
        Some(Candidate {
            pool: pool.clone(),
            endpoint,
            model: model.clone(),
        })
    });
    let speaking: Vec<Candidate> = speaking.collect();
    if speaking.is_empty() {
        let mut spoken: Vec<&str> = targets
            .iter()
            .flat_map(|(pool, _)| pool.dialects())
            .map(DialectId::as_str)
            .collect();
        spoken.sort_unstable();
        spoken.dedup();
        return Err(if spoken.is_empty() {
            NoRoute::NoCredential(model.to_owned())
        } else {
            NoRoute::NotOffered {
                model: model.to_owned(),
                spoken: spoken.join(", "),
            }
        });
    }
    let candidates: Vec<Candidate> = speaking
        .into_iter()
        .filter(|candidate| candidate.pool.is_usable())
        .collect();
    if candidates.is_empty() {
        return Err(NoRoute::NoCredential(model.to_owned()));
    }
    Ok(RoutePlan { route, candidates })
}
