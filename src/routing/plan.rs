//! The candidates of one request, and which is next.

mod choosing;
mod failing;

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::rules::{Affinity, FallbackOn, Route, Strategy, Target};
use crate::upstream::{Destinations, Endpoint, Hold, Lane, Pool};

use super::affinity::{Scope, Session, Sticky};
use super::find::ASSUMED_OUTPUT;
use super::{Survey, hash};

/// How often a candidate may be asked again when all were tried, if its failure may be repeated.
const MAX_LAPS: u8 = 2;
/// How often a candidate is asked again at once because a pooled connection to it was dead. A pool may hold several such; after
/// that it counts as not reachable.
const MAX_DEAD: u8 = 2;

/// One place a request may go.
#[derive(Clone)]
pub struct Candidate {
    /// The provider and its state.
    pub pool: Arc<Pool>,
    /// Its address for the dialect.
    pub endpoint: Arc<Endpoint>,
    /// The model there.
    pub lane: Arc<Lane>,
    /// The name it needs; `None`: the one the client said.
    pub model: Option<Arc<str>>,
    /// The target of the route; `None`: the client named the provider.
    pub target: Option<Arc<Target>>,
    /// When it is asked.
    pub tier: Tier,
}

/// When a candidate is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// At first.
    Target,
    /// When no target is left.
    Fallback,
    /// After such a failure.
    On(FallbackOn),
}

/// Candidates and what became of them. Never without a candidate.
///
/// The order: the targets by the route's strategy, each with a credential of its own choosing; the fallbacks in their order; then
/// the same of the next name the client gave. Providers at which this request failed for no fault of a credential come after all
/// others, and of them the very target that failed comes last. When all were tried, those which failed in a way that may be repeated
/// ([`Failure::may_repeat`](crate::upstream::Failure::may_repeat)) are asked again.
pub struct RoutePlan {
    /// The route of the latest choice, at first of the first candidate; `None`: the client named the provider.
    pub route: Option<Arc<Route>>,
    /// The candidates.
    pub candidates: Vec<Candidate>,
    /// What became of each.
    slots: Vec<Slot>,
    /// Where they come from: one for each name the client gave.
    sources: Vec<Source>,
    /// The attempt under way: candidate and seat.
    current: Option<Current>,
    /// Where the conversation was before.
    sticky: Option<Aim>,
    /// What is asked again at once.
    again: Option<Aim>,
    /// Only this list of this source is left: everything else would fail in the same way.
    only: Option<(usize, FallbackOn)>,
    /// Attempts that failed.
    failures: u16,
    /// Tokens the request may need.
    tokens: u64,
    /// Those of them which the prompt has.
    prompt: u64,
    /// Counts the calls of [`RoutePlan::next`], to know who was asked for a seat in this one.
    round: u32,
    /// Which seats will do, in this round.
    need: Need,
}

/// Which seats will do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Need {
    /// Those which nothing speaks against.
    #[default]
    Ready,
    /// Those of failing providers too: all that are left may be such.
    Any,
    /// The only one there is, whatever speaks against it: the provider says better than we can why it won't answer.
    Lone,
}

/// Where candidates come from.
pub(super) struct Source {
    route: Option<Arc<Route>>,
    destinations: Option<Arc<Destinations>>,
    strategy: Strategy,
    affinity: Affinity,
    /// The route's name, or the provider's.
    name: Arc<str>,
    /// Its candidates.
    all: Range<usize>,
    /// Those of them to be asked at first.
    targets: Range<usize>,
    /// Those to be asked when no target is left.
    fallback: Range<usize>,
    /// A provider was overloaded: the list for that comes first.
    overloaded: bool,
}

/// What became of a candidate.
#[derive(Default)]
struct Slot {
    source: usize,
    /// Which target of its list it is.
    place: usize,
    weight: u32,
    price: Option<u64>,
    shun: Shun,
    /// It can't be asked this at all.
    spent: bool,
    /// Seats tried.
    tried: Vec<usize>,
    /// Those of them that may be asked again.
    repeat: Vec<usize>,
    laps: u8,
    dead: u8,
    /// Failures here that were our credentials' fault, and others.
    ours: bool,
    theirs: bool,
    /// The round in which its lane had no seat.
    passed: u32,
}

/// Whether others are preferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Shun {
    /// No.
    #[default]
    No,
    /// Its provider failed elsewhere.
    Provider,
    /// It failed itself.
    Target,
}

/// A candidate, and its credential if there is one.
struct Aim {
    index: usize,
    credential: Option<Arc<str>>,
}

/// The attempt under way.
struct Current {
    index: usize,
    seat: usize,
    credential: Option<Arc<str>>,
    /// The wheel on which it took a turn: that of later attempts, or of first ones.
    turn: Option<bool>,
}

/// The next attempt.
pub struct Choice {
    /// Which candidate, by its place in [`RoutePlan::candidates`].
    pub index: usize,
    /// The candidate.
    pub candidate: Candidate,
    /// Its seat.
    pub hold: Hold,
    /// It was tried before by this request: to be asked again only after a wait.
    pub again: bool,
}

/// No attempt can follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted {
    /// When one of the candidates may be asked again; `None`: all that can be asked were.
    pub until: Option<Instant>,
    /// All that is left is barred for a fault of our own credentials.
    pub ours: bool,
}

/// What lanes without a seat said.
#[derive(Default)]
struct Barred {
    cooling: Option<Instant>,
    ours: Option<Instant>,
}

impl Source {
    pub(super) fn new(
        route: Option<Arc<Route>>,
        destinations: Option<Arc<Destinations>>,
        strategy: Strategy,
        affinity: Affinity,
        name: Arc<str>,
    ) -> Self {
        Source {
            route,
            destinations,
            strategy,
            affinity,
            name,
            all: 0..0,
            targets: 0..0,
            fallback: 0..0,
            overloaded: false,
        }
    }

    /// Its lists for single failures.
    fn lists(&self) -> Range<usize> {
        self.fallback.end..self.all.end
    }
}

/// How plans are made.
impl RoutePlan {
    /// A plan for any path of a provider: it alone is asked, with a credential by its own strategy.
    pub fn passthrough(candidate: Candidate) -> Self {
        let mut plan = RoutePlan::empty(None);
        let provider = &candidate.pool.provider;
        let (strategy, name) = (provider.strategy, provider.name.clone());
        let source = plan.begin(Source::new(None, None, strategy, Affinity::Off, name));
        plan.add(candidate, source, 0, None);
        plan.close(source);
        plan
    }

    /// A plan to be filled.
    pub(super) fn empty(survey: Option<&Survey>) -> Self {
        let tokens = |survey: &Survey| {
            let output = survey.output_tokens.unwrap_or(ASSUMED_OUTPUT);
            survey.prompt_tokens.saturating_add(output)
        };
        RoutePlan {
            route: None,
            candidates: Vec::new(),
            slots: Vec::new(),
            sources: Vec::new(),
            current: None,
            sticky: None,
            again: None,
            only: None,
            failures: 0,
            tokens: survey.map_or(0, tokens),
            prompt: survey.map_or(0, |survey| survey.prompt_tokens),
            round: 0,
            need: Need::Ready,
        }
    }

    /// Begins with the candidates of one name.
    pub(super) fn begin(&mut self, mut source: Source) -> usize {
        source.all = self.candidates.len()..self.candidates.len();
        self.sources.push(source);
        self.sources.len() - 1
    }

    /// Adds a candidate of the source begun last. Tiers come in their order.
    pub(super) fn add(&mut self, candidate: Candidate, source: usize, place: usize, price: Option<u64>) {
        self.slots.push(Slot {
            source,
            place,
            weight: candidate.target.as_ref().map_or(1, |target| target.weight),
            price,
            ..Slot::default()
        });
        self.candidates.push(candidate);
    }

    /// Ends the candidates of one name. False: none can be asked at first, and all are out again.
    pub(super) fn close(&mut self, source: usize) -> bool {
        let end = self.candidates.len();
        let Some(known) = self.sources.get_mut(source) else {
            return false;
        };
        known.all.end = end;
        let from = known.all.start;
        let count = |tier: Tier| {
            self.candidates[from..end]
                .iter()
                .filter(|candidate| candidate.tier == tier)
                .count()
        };
        known.targets = from..from + count(Tier::Target);
        known.fallback = known.targets.end..known.targets.end + count(Tier::Fallback);
        if known.targets.is_empty() && known.fallback.is_empty() {
            self.candidates.truncate(from);
            self.slots.truncate(from);
            self.sources.truncate(source);
            return false;
        }
        if source == 0 {
            self.route = known.route.clone();
        }
        true
    }

    /// Candidates come from several names the client gave: the route may be another for a later attempt.
    pub fn has_several_names(&self) -> bool {
        self.sources.len() > 1
    }
}

/// Affinity.
impl RoutePlan {
    /// Under which mark this request's place is remembered; `None`: it is not, since the route wants none, or there is nothing to
    /// choose.
    pub fn scope(&self, session: Option<Session>) -> Option<Scope> {
        let (session, source) = (session?, self.sources.first()?);
        let wanted = match source.affinity {
            Affinity::Auto => true,
            Affinity::Session => session.named,
            Affinity::Off => false,
        };
        let choice = source.targets.len() > 1 || source.targets.clone().any(|index| self.has_seats(index, 2));
        (wanted && choice).then(|| Scope(hash::of(&(session.id, &*source.name))))
    }

    /// Where the conversation was before: asked first, if it can be. It is looked for among the targets of the first name: a fallback is
    /// no home.
    pub fn stick(&mut self, sticky: Option<&Sticky>) {
        let Some((sticky, source)) = sticky.zip(self.sources.first()) else {
            return;
        };
        let is_it = |index: &usize| {
            let candidate = &self.candidates[*index];
            candidate.pool.provider.name == sticky.provider && candidate.model == sticky.model
        };
        self.sticky = source.targets.clone().find(is_it).map(|index| Aim {
            index,
            credential: sticky.credential.clone(),
        });
    }

    /// What to remember of an attempt that succeeded; `None`: nothing, it was a fallback.
    pub fn remembered(&self, index: usize, hold: &Hold) -> Option<Sticky> {
        let at_home = self.sources.first()?.targets.contains(&index);
        let candidate = self.candidates.get(index).filter(|_| at_home)?;
        Some(Sticky {
            provider: candidate.pool.provider.name.clone(),
            credential: hold.credential().map(|credential| credential.name.clone()),
            model: candidate.model.clone(),
        })
    }
}
