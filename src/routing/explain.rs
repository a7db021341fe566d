//! `tollgate route explain`: where a request goes and why. It runs what [`resolve`](super::resolve) runs, and looks on.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use crate::ir::DialectId;
use crate::rules::{Affinity, Requirement, Route};
use crate::upstream::{Failure, Fleet, Pool};

use super::conditions::Miss;
use super::find::{self, At, LeftOut, Witness};
use super::plan::Tier;
use super::{NoRoute, Query, RoutePlan, Sticky, What, fitness};

/// Most attempts told.
const MAX_ATTEMPTS: usize = 20;

/// Where a request goes and why.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// What was asked.
    pub request: Asked,
    /// The names it gives, in order, and where each leads.
    pub names: Vec<Name>,
    /// The attempts in their order, were each to fail at the provider: as things stand now.
    pub order: Vec<Attempt>,
    /// There would be more than these.
    pub more: bool,
    /// Why it goes nowhere.
    pub refused: Option<String>,
}

/// What routing sees of a request.
#[derive(Debug, Serialize)]
pub struct Asked {
    /// The model.
    pub model: String,
    /// The client's dialect.
    pub dialect: &'static str,
    /// The operation.
    pub operation: &'static str,
    /// A stream is asked for.
    pub stream: bool,
    /// The client names its conversation.
    pub session: bool,
    /// Estimate of its prompt; `None`: it could not be read.
    pub prompt_tokens: Option<u64>,
    /// The output limit it asks for.
    pub output_tokens: Option<u64>,
    /// It has tools.
    pub tools: Option<bool>,
    /// The media in it.
    pub media: Option<Vec<&'static str>>,
    /// It asks for structured output.
    pub structured: Option<bool>,
    /// It asks for reasoning.
    pub reasoning: Option<bool>,
}

/// A name, and where it leads.
#[derive(Debug, Default, Serialize)]
pub struct Name {
    /// As the client says it.
    pub name: String,
    /// What it is another name for.
    pub alias_of: Option<String>,
    /// The provider it addresses, past all routes.
    pub provider: Option<String>,
    /// The routes which take the name, up to the first whose conditions hold.
    pub routes: Vec<RouteSeen>,
    /// How its targets are chosen.
    pub strategy: Option<&'static str>,
    /// Whether conversations stay.
    pub affinity: Option<&'static str>,
    /// Most attempts, where the route says it.
    pub attempts: Option<u16>,
    /// Its targets.
    pub targets: Vec<TargetSeen>,
    /// Why it leads nowhere.
    pub refused: Option<String>,
}

/// A route that was considered.
#[derive(Debug, Serialize)]
pub struct RouteSeen {
    /// Its name.
    pub route: Arc<str>,
    /// It is taken.
    pub taken: bool,
    /// The condition that does not hold.
    pub miss: Option<MissSeen>,
}

/// A condition that does not hold.
#[derive(Debug, Serialize)]
pub struct MissSeen {
    /// Its word in the rules.
    pub condition: &'static str,
    /// What it wants.
    pub wanted: String,
    /// What the request has.
    pub found: String,
}

/// A target that was considered.
#[derive(Debug, Serialize)]
pub struct TargetSeen {
    /// `target`, `fallback`, or the failure whose list it is in.
    pub tier: &'static str,
    /// Its provider.
    pub provider: Arc<str>,
    /// The model, by the name the provider needs.
    pub model: String,
    /// The dialect it is asked in.
    pub dialect: Option<&'static str>,
    /// Its share; `None`: the client named it.
    pub weight: Option<u32>,
    /// What the request would cost there, in nano-dollars, where prices are compared and it is known.
    pub price: Option<u64>,
    /// Why it is not asked.
    pub left_out: Option<String>,
}

/// One attempt.
#[derive(Debug, Serialize)]
pub struct Attempt {
    /// The provider.
    pub provider: Arc<str>,
    /// The model there.
    pub model: String,
    /// The credential; `None`: it wants none.
    pub credential: Option<Arc<str>>,
    /// `target`, `fallback`, or the failure whose list it is in.
    pub tier: &'static str,
}

/// Explains. `sticky`: where the conversation was before. The plan is played through on `fleet`: turns are taken, and seats for a
/// moment.
pub fn explain(
    fleet: &Fleet,
    query: &Query<'_>,
    knows: &dyn Fn(DialectId) -> bool,
    sticky: Option<&Sticky>,
    now: Instant,
) -> Explanation {
    let mut notes = Notes {
        query,
        names: Vec::new(),
    };
    let found = find::find(fleet, query, knows, &mut notes);
    let (mut order, mut more, mut refused) = (Vec::new(), false, None);
    match found {
        Ok(mut plan) => {
            plan.stick(sticky);
            (order, more) = play(&mut plan, query, now);
            if order.is_empty() {
                refused = Some("all that could be asked cool down just now".to_owned());
            }
        }
        Err(why) => refused = Some(why.to_string()),
    }
    let survey = query.survey;
    Explanation {
        request: Asked {
            model: query.model.to_owned(),
            dialect: query.dialect.as_str(),
            operation: query.operation.as_str(),
            stream: query.stream,
            session: query.session.is_some(),
            prompt_tokens: survey.map(|survey| survey.prompt_tokens),
            output_tokens: survey.and_then(|survey| survey.output_tokens),
            tools: survey.map(|survey| survey.tools),
            media: survey.map(|survey| survey.media.iter().map(|kind| kind.as_str()).collect()),
            structured: survey.map(|survey| survey.structured),
            reasoning: survey.map(|survey| survey.reasoning),
        },
        names: notes.names,
        order,
        more,
        refused,
    }
}

/// The attempts, each failing with an error of the provider.
fn play(plan: &mut RoutePlan, query: &Query<'_>, now: Instant) -> (Vec<Attempt>, bool) {
    let mut order = Vec::new();
    while let Ok(choice) = plan.next(now) {
        if order.len() == MAX_ATTEMPTS {
            return (order, true);
        }
        let candidate = &choice.candidate;
        order.push(Attempt {
            provider: candidate.pool.provider.name.clone(),
            model: candidate.model.as_deref().unwrap_or(query.model).to_owned(),
            credential: choice.hold.credential().map(|credential| credential.name.clone()),
            tier: tier_name(candidate.tier),
        });
        if !plan.failed(choice.index, Failure::Server) {
            break;
        }
    }
    (order, false)
}

/// Looks on.
struct Notes<'q> {
    query: &'q Query<'q>,
    names: Vec<Name>,
}

impl Notes<'_> {
    /// Which lists of the key rule a target out.
    fn forbidden(&self, at: &At<'_>) -> Option<String> {
        let routes = self.names.last().map_or(&[][..], |name| &name.routes);
        let route = routes.iter().find(|route| route.taken);
        let route = route.map_or("", |route| &*route.route);
        self.query.permit?.why_not(What::Place(route, &at.pool.provider.name))
    }

    fn last(&mut self, write: impl FnOnce(&mut Name)) {
        if let Some(name) = self.names.last_mut() {
            write(name);
        }
    }
}

impl Witness for Notes<'_> {
    fn name(&mut self, name: &str) {
        self.names.push(Name {
            name: name.to_owned(),
            ..Name::default()
        });
    }

    fn alias(&mut self, stands_for: &str) {
        self.last(|name| name.alias_of = Some(stands_for.to_owned()));
    }

    fn direct(&mut self, pool: &Arc<Pool>, _model: &str) {
        self.last(|name| {
            name.provider = Some(pool.provider.name.to_string());
            name.strategy = Some(pool.provider.strategy.as_str());
            name.affinity = Some(Affinity::default().as_str());
        });
    }

    fn route(&mut self, route: &Arc<Route>, outcome: Result<(), Miss>) {
        let query = self.query;
        let told = |miss: Miss| {
            let when = route.when.as_deref()?;
            Some(MissSeen {
                condition: miss.condition.as_str(),
                wanted: miss.wanted(when),
                found: miss.found(when, query),
            })
        };
        let seen = RouteSeen {
            route: route.name.clone(),
            taken: outcome.is_ok(),
            miss: outcome.err().and_then(told),
        };
        self.last(|name| {
            if seen.taken {
                name.strategy = Some(route.strategy.as_str());
                name.affinity = Some(route.affinity.as_str());
                name.attempts = route.attempts;
            }
            name.routes.push(seen);
        });
    }

    fn target(&mut self, at: &At<'_>, outcome: Result<DialectId, LeftOut>) {
        let told = |why| match why {
            LeftOut::Forbidden => self.forbidden(at).unwrap_or_else(|| reason(at, why)),
            why => reason(at, why),
        };
        let seen = TargetSeen {
            tier: tier_name(at.tier),
            provider: at.pool.provider.name.clone(),
            model: at.model.to_owned(),
            dialect: outcome.ok().map(DialectId::as_str),
            weight: at.weight,
            price: at.price,
            left_out: outcome.err().map(told),
        };
        self.last(|name| name.targets.push(seen));
    }

    fn nowhere(&mut self, why: &NoRoute) {
        let permit = self.query.permit;
        self.last(|name| {
            let lists = match why {
                NoRoute::ModelNotAllowed(_) => {
                    permit.and_then(|permit| permit.why_not(What::Model(&name.name, name.alias_of.as_deref())))
                }
                _ => None,
            };
            name.refused = Some(match lists {
                Some(lists) => format!("{why}: {lists}"),
                None => why.to_string(),
            });
        });
    }
}

fn reason(at: &At<'_>, why: LeftOut) -> String {
    let inactive = at.pool.provider.inactive.as_deref();
    match why {
        LeftOut::NotOffered if inactive.is_none() => {
            let spoken: Vec<&str> = at.pool.dialects().map(DialectId::as_str).collect();
            format!("what is asked is not known in {}", spoken.join(", "))
        }
        LeftOut::NotOffered | LeftOut::Inactive => {
            format!("inactive: {}", inactive.unwrap_or("it has no usable credential"))
        }
        LeftOut::Forbidden => "the key may not use this route or provider".into(),
        LeftOut::Lacks(Requirement::Context) => "the model's context is too short for prompt and answer".into(),
        LeftOut::Lacks(requirement) => format!("the model can't take {}", fitness::missing(requirement)),
    }
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::Target => "target",
        Tier::Fallback => "fallback",
        Tier::On(on) => on.as_str(),
    }
}
