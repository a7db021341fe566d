//! What is allowed in routes but hardly meant: warnings that concern several entries at once.

use crate::config::value::Value;

use super::alias::Aliases;
use super::patterns::{Patterns, head, is_name};
use super::route::Written;
use super::when::Bounds;
use super::{Affinity, ModelTable, OnLoss, PriceTable, Provider, Route, RouteTimeouts, Strategy, UpstreamStream};

/// Most pairs of routes looked at. Enough for some thousands which share their models; beyond it fewer warnings are given,
/// and a reload stays quick.
const MAX_PAIRS: usize = 5_000_000;
/// Most names told in one warning.
const MAX_TOLD: usize = 5;

/// What is compared with what.
pub(super) struct Lint<'l, 'a> {
    /// All routes, in order.
    pub(super) routes: &'l [Written<'a>],
    /// Their models, by their places.
    pub(super) patterns: &'l Patterns,
    pub(super) aliases: &'l Aliases<'a>,
    /// Names of all providers.
    pub(super) providers: &'l [String],
    pub(super) models: &'l ModelTable,
    pub(super) prices: &'l PriceTable,
}

impl Lint<'_, '_> {
    /// Warns of all.
    pub(super) fn warn(&self) {
        let mut pairs = MAX_PAIRS;
        for (at, written) in self.routes.iter().enumerate() {
            self.reachable(at, written, &mut pairs);
            if let Some(route) = &written.route {
                self.known(written, route);
                self.priced(written, route);
            }
        }
    }

    /// Patterns which never match, since something before takes all they could.
    fn reachable(&self, at: usize, written: &Written<'_>, pairs: &mut usize) {
        let mut never: Vec<(&Value<'_>, String)> = Vec::new();
        for (n, (pattern, value)) in written.models.iter().enumerate() {
            let twice = written.models.iter().take(n).any(|(earlier, _)| earlier == pattern);
            if twice {
                value.warn("it stands in this list twice");
            } else if let Some(why) = self.taken(at, written, pattern, pairs) {
                never.push((value, why));
            }
        }
        match (&written.model, &*never) {
            // One line says it, if it is the same for all.
            (Some(model), [(_, why), _, ..])
                if never.len() == written.models.len() && never.iter().all(|(_, other)| other == why) =>
            {
                model.warn(format!("none of them ever matches: {why}"));
            }
            _ => {
                for (value, why) in never {
                    value.warn(format!("it never matches: {why}"));
                }
            }
        }
    }

    /// Why this pattern never matches.
    fn taken(&self, at: usize, written: &Written<'_>, pattern: &str, pairs: &mut usize) -> Option<String> {
        if let Some(place) = is_name(pattern).then(|| self.aliases.place(pattern)).flatten() {
            return Some(format!("the alias at {place} takes this name first"));
        }
        if let Some((provider, rest)) = head(pattern).split_once('/')
            && (!rest.is_empty() || !is_name(pattern))
            && self.providers.iter().any(|known| known == provider)
            && !written.route.as_ref().is_some_and(|route| is_direct(route, provider))
        {
            return Some(format!(
                "a name that begins with {provider}/ goes to the provider of that name, past all routes. Call the model \
                 otherwise"
            ));
        }
        if *pairs == 0 {
            return None;
        }
        let covering = self.patterns.covering(pattern);
        *pairs = pairs.saturating_sub(covering.len());
        let earlier = covering.into_iter().filter_map(|n| usize::try_from(n).ok());
        let earlier = earlier.take_while(|n| *n < at).filter_map(|n| self.routes.get(n));
        let mut earlier = earlier.filter(|earlier| implies(written, earlier));
        let (name, (file, line)) = earlier
            .find_map(|earlier| Some((earlier.route.as_ref()?.name.clone(), earlier.model.as_ref()?.place())))?;
        Some(format!(
            "route \"{name}\" at {}:{line} comes first and takes the same",
            file.display()
        ))
    }

    /// `require` where nothing is known.
    fn known(&self, written: &Written<'_>, route: &Route) {
        let Some(require) = written.require.as_ref().filter(|_| !route.require.is_empty()) else {
            return;
        };
        let unknown = named(route).filter(|(provider, model)| self.models.facts(&provider.name, model).is_none());
        let mut unknown: Vec<String> = unknown.map(|(_, model)| format!("\"{model}\"")).collect();
        unknown.dedup();
        let more = unknown.len().saturating_sub(MAX_TOLD);
        unknown.truncate(MAX_TOLD);
        if unknown.is_empty() {
            return;
        }
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        require.warn(format!(
            "nothing is known of {}{more}, so that nothing can be required there. Say it in [[model]], with name, \
             context, output and can.",
            unknown.join(", ")
        ));
    }

    /// `cheapest` where no price is known.
    fn priced(&self, written: &Written<'_>, route: &Route) {
        let Some(strategy) = written
            .strategy
            .as_ref()
            .filter(|_| route.strategy == Strategy::Cheapest)
        else {
            return;
        };
        let mut named = named(route).peekable();
        if named.peek().is_some() && named.all(|(p, model)| !self.prices.knows(&p.name, model)) {
            strategy.warn("no price of these targets is known, so that none is cheaper. Say them in [[price]].");
        }
    }
}

/// Provider and model of each target, as far as the names are certain.
fn named(route: &Route) -> impl Iterator<Item = (&Provider, &str)> {
    route.targets.iter().flat_map(|target| {
        let own = target.model.as_deref();
        let asked = route.models.iter().map(String::as_str);
        let asked = asked.filter(move |model| own.is_none() && is_name(model));
        own.into_iter().chain(asked).map(|model| (&*target.provider, model))
    })
}

/// Whether the route does only what `provider/model` does without it, so that nothing is missed. It is there to be listed.
fn is_direct(route: &Route, provider: &str) -> bool {
    let there = |target: &super::Target| {
        *target.provider.name == *provider
            && target.model.is_none()
            && target.tags.is_empty()
            && target.edits.is_empty()
    };
    route.when.is_none()
        && route.targets.iter().all(there)
        && route.fallback.is_empty()
        && route.fallback_on.is_empty()
        && route.strategy == Strategy::default()
        && route.attempts.is_none()
        && route.require.is_empty()
        && route.affinity == Affinity::default()
        && route.edits.is_empty()
        && route.instructions.is_empty()
        && route.timeouts == RouteTimeouts::default()
        && route.on_loss == OnLoss::default()
        && route.upstream_stream == UpstreamStream::default()
}

/// Whether every request which meets the later route's conditions meets the earlier one's, as far as can be told.
fn implies(later: &Written<'_>, earlier: &Written<'_>) -> bool {
    let (Some(later_route), Some(earlier_route)) = (&later.route, &earlier.route) else {
        return false;
    };
    let Some(must) = earlier_route.when.as_deref() else {
        return true;
    };
    let (Some(has), Some(later), Some(earlier)) = (later_route.when.as_deref(), &later.when, &earlier.when) else {
        return false;
    };
    // A share of requests leaves the others to those which follow.
    if must.percent.is_some() {
        return false;
    }
    let same = |(name, value): (&String, &serde_json::Value)| {
        name.contains("_tokens_") || later.get(name).is_some_and(|other| other == value)
    };
    inside(has.prompt_tokens, must.prompt_tokens)
        && inside(has.output_tokens, must.output_tokens)
        && earlier.as_object().is_some_and(|earlier| earlier.iter().all(same))
}

/// Whether all that is within `inner` is within `outer`. What is not bounded at all is within no bounds: a request without
/// the number would not be.
fn inside(inner: Bounds, outer: Bounds) -> bool {
    if !outer.is_set() {
        return true;
    }
    inner.is_set()
        && inner.from.unwrap_or(0) >= outer.from.unwrap_or(0)
        && outer
            .below
            .is_none_or(|most| inner.below.is_some_and(|below| below <= most))
}
