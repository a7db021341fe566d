//! From the names a client asks for to the candidates: aliases, `provider/model`, the first route that holds, and who of it
//! can be asked. [`resolve`](super::resolve) and `tollgate route explain` run the same code; the latter looks on
//! ([`Witness`]).

use std::sync::Arc;

use crate::ir::DialectId;
use crate::rules::{Affinity, Requirement, Route, Strategy};
use crate::upstream::{Destination, Fleet, Pool};

use super::conditions::{self, Miss};
use super::plan::{Candidate, RoutePlan, Source, Tier};
use super::{NoRoute, Query, fitness};

/// Most names of one request that are looked at: `model`, and so many of `models` but one.
pub const MAX_NAMES: usize = 16;

/// Tokens of an answer whose length nobody limited, where a price is compared.
pub const ASSUMED_OUTPUT: u64 = 1024;

/// Why something that a route or a client names is not asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// The provider speaks no dialect that can do what is asked.
    NotOffered,
    /// It has no address or no credential.
    Inactive,
    /// The model can't take it.
    Lacks(Requirement),
    /// The client's key may not take the route, or be served by the provider.
    Forbidden,
}

/// Looks on. What it is told is what happens.
pub(super) trait Witness {
    /// A name is looked for.
    fn name(&mut self, _name: &str) {}
    /// It is another name for this one.
    fn alias(&mut self, _stands_for: &str) {}
    /// It names a provider.
    fn direct(&mut self, _pool: &Arc<Pool>, _model: &str) {}
    /// A route that takes the name; whether its conditions hold.
    fn route(&mut self, _route: &Arc<Route>, _outcome: Result<(), Miss>) {}
    /// A target, with the model as the provider calls it; its number among the candidates, or why it is none.
    fn target(&mut self, _at: &At<'_>, _outcome: Result<usize, LeftOut>) {}
    /// The name leads nowhere.
    fn nowhere(&mut self, _why: &NoRoute) {}
}

/// Nobody looks.
impl Witness for () {}

/// A target under consideration.
pub(super) struct At<'a> {
    pub(super) pool: &'a Arc<Pool>,
    pub(super) model: &'a str,
    pub(super) tier: Tier,
    pub(super) weight: Option<u32>,
    pub(super) price: Option<u64>,
}

/// Finds the candidates.
pub(super) fn find(
    fleet: &Fleet,
    query: &Query<'_>,
    knows: &dyn Fn(DialectId) -> bool,
    witness: &mut impl Witness,
) -> Result<RoutePlan, NoRoute> {
    let mut search = Search {
        fleet,
        query,
        knows,
        witness,
        plan: RoutePlan::empty(query.survey),
    };
    let mut refused = None;
    for name in names(query.model, query.wishes) {
        if let Err(why) = search.name(name) {
            search.witness.nowhere(&why);
            refused = refused.or(Some(why));
        }
    }
    match refused {
        Some(why) if search.plan.candidates.is_empty() => Err(why),
        _ => Ok(search.plan),
    }
}

/// The names asked for, each once.
fn names<'a>(model: &'a str, wishes: &'a [String]) -> impl Iterator<Item = &'a str> {
    let earlier = move |at: usize, name: &str| name == model || wishes.iter().take(at).any(|wish| wish == name);
    let wishes = wishes.iter().take(MAX_NAMES - 1).enumerate();
    let others = wishes.filter_map(move |(at, wish)| (!earlier(at, wish)).then_some(wish.as_str()));
    std::iter::once(model).chain(others)
}

/// What a name stands for.
pub(super) fn unaliased<'a>(fleet: &'a Fleet, name: &'a str) -> &'a str {
    fleet.rules().aliases.get(name).map_or(name, |stands_for| stands_for)
}

/// `provider/model`, where there is such a provider.
pub(super) fn direct<'f, 'n>(fleet: &'f Fleet, name: &'n str) -> Option<(&'f Arc<Pool>, &'n str)> {
    let (provider, rest) = name.split_once('/')?;
    match rest.is_empty() {
        true => None,
        false => Some((fleet.pool(provider)?, rest)),
    }
}

/// Some route that may take this request asks for what stands inside it, or a limit does.
pub(super) fn needs_survey(fleet: &Fleet, model: &str, wishes: &[String], provider: Option<&str>) -> bool {
    let limited = |pool: &Arc<Pool>| pool.limits_tokens();
    if let Some(provider) = provider {
        return fleet.pool(provider).is_some_and(limited);
    }
    let counts = |route: &Route| {
        let destinations = fleet.destinations(&route.name).filter(|_| fleet.limits_tokens());
        destinations.is_some_and(|all| all.all().any(|destination| limited(&destination.pool)))
    };
    let asks = |route: &Route| !route.require.is_empty() || route.strategy == Strategy::Cheapest || counts(route);
    names(model, wishes).any(|name| {
        let name = unaliased(fleet, name);
        if let Some((pool, _)) = direct(fleet, name) {
            return limited(pool);
        }
        for route in fleet.rules().routes_for(name) {
            match &route.when {
                Some(when) if when.needs_survey() => return true,
                _ if asks(route) => return true,
                // Nothing comes after a route without conditions.
                None => return false,
                Some(_) => {}
            }
        }
        false
    })
}

struct Search<'a, W> {
    fleet: &'a Fleet,
    query: &'a Query<'a>,
    knows: &'a dyn Fn(DialectId) -> bool,
    witness: &'a mut W,
    plan: RoutePlan,
}

impl<W: Witness> Search<'_, W> {
    fn name(&mut self, said: &str) -> Result<(), NoRoute> {
        self.witness.name(said);
        let fleet = self.fleet;
        let name = unaliased(fleet, said);
        if name != said {
            self.witness.alias(name);
        }
        if !self.query.may_ask(said) || !self.query.may_ask(name) {
            return Err(NoRoute::ModelNotAllowed(said.to_owned()));
        }
        if let Some(provider) = self.query.provider {
            let Some(pool) = fleet.pool(provider) else {
                return Err(NoRoute::UnknownProvider(provider.to_owned()));
            };
            return self.direct(pool, name);
        }
        if let Some((pool, model)) = direct(fleet, name) {
            return self.direct(pool, model);
        }
        let mut taken = None;
        for route in fleet.rules().routes_for(name) {
            let outcome = match &route.when {
                Some(when) => conditions::holds(when, &route.name, self.query),
                None => Ok(()),
            };
            self.witness.route(route, outcome);
            if outcome.is_ok() {
                taken = Some(route);
                break;
            }
        }
        match taken {
            Some(route) => self.route(route, name),
            None => Err(NoRoute::UnknownModel(self.query.model.to_owned())),
        }
    }

    /// The client names the provider.
    fn direct(&mut self, pool: &Arc<Pool>, model: &str) -> Result<(), NoRoute> {
        self.witness.direct(pool, model);
        let source = self.plan.begin(Source::direct(pool));
        let mut left = Left::default();
        let at = At {
            pool,
            model,
            tier: Tier::Target,
            weight: None,
            price: None,
        };
        self.consider(&at, None, (source, 0), Some(model), &mut left);
        self.close(source, left)
    }

    /// The route takes the name.
    fn route(&mut self, route: &Arc<Route>, name: &str) -> Result<(), NoRoute> {
        let Some(destinations) = self.fleet.destinations(&route.name) else {
            return Err(NoRoute::UnknownModel(self.query.model.to_owned()));
        };
        let source = self.plan.begin(Source::route(route, destinations));
        let mut left = Left::default();
        let lists = [
            (Tier::Target, &destinations.targets),
            (Tier::Fallback, &destinations.fallback),
        ];
        let on = destinations.on.iter().map(|(on, list)| (Tier::On(*on), list));
        for (tier, list) in lists.into_iter().chain(on) {
            // An alias, or a wish, is not what the body says: the name has to be put there.
            let said = (name != self.query.model).then_some(name);
            for (place, destination) in list.iter().enumerate() {
                let model = destination.target.model.as_deref();
                let at = At {
                    pool: &destination.pool,
                    model: model.unwrap_or(name),
                    tier,
                    weight: Some(destination.target.weight),
                    price: self.price(route, destination, model.unwrap_or(name)),
                };
                let renamed = if model.is_none() { said } else { None };
                self.consider(&at, Some((route, destination)), (source, place), renamed, &mut left);
            }
        }
        self.close(source, left)
    }

    /// What this request would cost there, in nano-dollars.
    fn price(&self, route: &Route, destination: &Destination, model: &str) -> Option<u64> {
        if route.strategy != Strategy::Cheapest {
            return None;
        }
        let prices = &self.fleet.rules().prices;
        let price = prices.price(&destination.pool.provider.name, model, self.query.at)?;
        let (prompt, output) = self
            .query
            .survey
            .map_or((0, None), |survey| (survey.prompt_tokens, survey.output_tokens));
        Some(price.estimate(prompt, output.unwrap_or(ASSUMED_OUTPUT)).0)
    }

    /// Takes a target as a candidate, or notes why it is none. `renamed`: the name to be asked for, where the target has none
    /// of its own and it is not the client's.
    fn consider(
        &mut self,
        at: &At<'_>,
        of: Option<(&Arc<Route>, &Destination)>,
        (source, place): (usize, usize),
        renamed: Option<&str>,
        left: &mut Left,
    ) {
        let pool = at.pool;
        let other = || pool.endpoints().iter().find(|endpoint| (self.knows)(endpoint.dialect));
        let endpoint = pool.endpoint(self.query.dialect).or_else(other);
        let outcome = match endpoint {
            _ if !self
                .query
                .may_go(of.map_or("", |(route, _)| &route.name), &pool.provider.name) =>
            {
                Err(LeftOut::Forbidden)
            }
            None => Err(LeftOut::NotOffered),
            Some(_) if !pool.is_usable() => Err(LeftOut::Inactive),
            Some(endpoint) => match of.and_then(|(route, _)| self.lacks(route, at)) {
                Some(requirement) => Err(LeftOut::Lacks(requirement)),
                None => Ok(endpoint.clone()),
            },
        };
        let endpoint = match outcome {
            Ok(endpoint) => endpoint,
            Err(why) => {
                self.witness.target(at, Err(why));
                return left.note(at, why);
            }
        };
        let target = of.map(|(_, destination)| destination.target.clone());
        let own = target.as_ref().and_then(|target| target.model.clone());
        let candidate = Candidate {
            lane: pool.lane(at.model),
            pool: pool.clone(),
            endpoint,
            model: own.or_else(|| renamed.map(Arc::from)),
            target,
            tier: at.tier,
        };
        self.witness.target(at, Ok(self.plan.candidates.len()));
        self.plan.add(candidate, source, place, at.price);
    }

    fn lacks(&self, route: &Route, at: &At<'_>) -> Option<Requirement> {
        if route.require.is_empty() {
            return None;
        }
        let facts = self.fleet.rules().models.facts(&at.pool.provider.name, at.model)?;
        fitness::lacks(&route.require, self.query.survey?, facts)
    }

    /// All of a name was considered: an error if none can be asked at first.
    fn close(&mut self, source: usize, left: Left) -> Result<(), NoRoute> {
        if self.plan.close(source) {
            return Ok(());
        }
        let model = self.query.model.to_owned();
        Err(
            if left.forbidden && !left.inactive && left.spoken.is_empty() && left.lacking.is_empty() {
                NoRoute::NotAllowed(model)
            } else if !left.lacking.is_empty() {
                NoRoute::Unfit {
                    model,
                    missing: left.lacking,
                }
            } else if left.inactive || left.spoken.is_empty() {
                NoRoute::NoCredential(model)
            } else {
                left.spoken_once(model)
            },
        )
    }
}

/// What was left out, for the error if nothing else is there.
#[derive(Default)]
struct Left {
    /// Providers that could be asked, had they a credential.
    inactive: bool,
    /// What providers speak that can't be asked this.
    spoken: Vec<&'static str>,
    /// What models can't take, in words.
    lacking: String,
    /// Some that the key may not use.
    forbidden: bool,
}

/// Longest list of what models can't take.
const MAX_LACKING: usize = 500;

impl Left {
    fn note(&mut self, at: &At<'_>, why: LeftOut) {
        match why {
            LeftOut::NotOffered => self.spoken.extend(at.pool.dialects().map(DialectId::as_str)),
            LeftOut::Inactive => self.inactive = true,
            LeftOut::Forbidden => self.forbidden = true,
            LeftOut::Lacks(requirement) if self.lacking.len() < MAX_LACKING => {
                if !self.lacking.is_empty() {
                    self.lacking.push_str("; ");
                }
                let (model, missing) = (at.model, fitness::missing(requirement));
                self.lacking.push_str(&format!("{model} can't take {missing}"));
            }
            LeftOut::Lacks(_) => {}
        }
    }

    fn spoken_once(mut self, model: String) -> NoRoute {
        self.spoken.sort_unstable();
        self.spoken.dedup();
        NoRoute::NotOffered {
            model,
            spoken: self.spoken.join(", "),
        }
    }
}

impl Source {
    fn direct(pool: &Arc<Pool>) -> Self {
        Source::new(
            None,
            None,
            pool.provider.strategy,
            Affinity::default(),
            pool.provider.name.clone(),
        )
    }

    fn route(route: &Arc<Route>, destinations: &Arc<crate::upstream::Destinations>) -> Self {
        Source::new(
            Some(route.clone()),
            Some(destinations.clone()),
            route.strategy,
            route.affinity,
            route.name.clone(),
        )
    }
}
