//! How one of several targets is chosen: by the strategy of the route, over what is known of each target's lane.

use std::time::Instant;

use crate::random;
use crate::rules::Strategy;
use crate::upstream::{Destinations, Standing, adaptive_cost, expected_latency};

/// One target that may be chosen.
#[derive(Clone, Copy)]
pub(super) struct Offer<'a> {
    /// Its number among the candidates.
    pub(super) index: usize,
    /// Its place among the targets of its route.
    pub(super) place: usize,
    /// Its share.
    pub(super) weight: u32,
    /// What the request costs there; `None`: unknown.
    pub(super) price: Option<u64>,
    /// The model there.
    pub(super) lane: &'a crate::upstream::Lane,
}

/// What it costs to wait there, for `adaptive`: as among credentials ([`adaptive_cost`] has the formula and its sources).
pub(super) fn cost(standing: &Standing, weight: u32) -> f64 {
    let failing = 1.0 - standing.success;
    let latency = expected_latency(standing.peak, standing.stale, standing.in_flight);
    adaptive_cost(latency, failing, f64::from(standing.in_flight), weight)
}

/// Seconds to the first token, for `least_latency`.
pub(super) fn latency(standing: &Standing) -> f64 {
    expected_latency(standing.latency, standing.stale, standing.in_flight)
}

/// Chooses among `options`, an iterator that can be begun anew. Those of weight 0 only where there is no other. Weighted choices,
/// and choices among equals, take a turn: whoever passes on the one chosen gives it back.
pub(super) fn choose<'a, I>(
    strategy: Strategy,
    destinations: &Destinations,
    later: bool,
    now: Instant,
    options: I,
) -> Option<usize>
where
    I: Iterator<Item = Offer<'a>> + Clone,
{
    let mut all = options.clone();
    let (first, second) = (all.next()?, all.next());
    if second.is_none() {
        // Nothing to choose. The turn is taken all the same: it counts as this one's share.
        destinations.turns().take(later, std::iter::once(first.place));
        return Some(first.index);
    }
    let wanted = options.clone().any(|option| option.weight > 0);
    let options = options.filter(move |option| option.weight > 0 || !wanted);
    match strategy {
        Strategy::Weighted | Strategy::RoundRobin => turn(destinations, later, options),
        Strategy::LeastUsed => {
            let used =
                |option: &Offer<'_>| f64::from(option.lane.standing(now).in_flight) / f64::from(option.weight.max(1));
            least(destinations, later, options, used)
        }
        Strategy::Cheapest => {
            let price = |option: &Offer<'_>| option.price.map_or(f64::INFINITY, |price| price as f64);
            least(destinations, later, options, price)
        }
        Strategy::LeastLatency => better_of_two(destinations, later, options, |option| {
            latency(&option.lane.standing(now))
        }),
        Strategy::Adaptive => better_of_two(destinations, later, options, |option| {
            cost(&option.lane.standing(now), option.weight)
        }),
    }
}

fn turn<'a>(
    destinations: &Destinations,
    later: bool,
    options: impl Iterator<Item = Offer<'a>> + Clone,
) -> Option<usize> {
    let place = destinations
        .turns()
        .take(later, options.clone().map(|option| option.place))?;
    options
        .into_iter()
        .find(|option| option.place == place)
        .map(|option| option.index)
}

/// The least by `key`; among equals, by turns. The key is read once of each: what is under way changes while we look, and of what was
/// read twice nobody might be the least.
fn least<'a>(
    destinations: &Destinations,
    later: bool,
    options: impl Iterator<Item = Offer<'a>>,
    key: impl Fn(&Offer<'a>) -> f64,
) -> Option<usize> {
    let keyed: Vec<(Offer<'a>, f64)> = options.map(|option| (option, key(&option))).collect();
    let least = keyed.iter().map(|(_, key)| *key).fold(f64::INFINITY, f64::min);
    let equals = keyed.iter().filter(move |(_, key)| *key <= least);
    turn(destinations, later, equals.map(|(option, _)| *option))
}

/// The better of two drawn at random, by `key`: nearly as good as the best of all, without all running to the same one at once
/// (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
fn better_of_two<'a>(
    destinations: &Destinations,
    later: bool,
    options: impl Iterator<Item = Offer<'a>> + Clone,
    key: impl Fn(&Offer<'a>) -> f64,
) -> Option<usize> {
    let count = options.clone().count();
    let first = random::below(count);
    // Another one than the first.
    let second = (first + 1 + random::below(count.saturating_sub(1))) % count.max(1);
    let mut pick = options.clone();
    let first = pick.nth(first)?;
    let second = options.clone().nth(second)?;
    let chosen = if key(&second) < key(&first) { second } else { first };
    destinations.turns().take(later, std::iter::once(chosen.place));
    Some(chosen.index)
}
