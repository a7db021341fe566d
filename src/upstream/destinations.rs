//! Where one route sends, ready to be asked: its targets with their pools, and whose turn it is among them.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::rules::{FallbackOn, Route, Strategy, Target};

use super::Pool;

/// One target of a route, with its provider at work.
#[derive(Clone)]
pub struct Destination {
    /// What the rules say of it.
    pub target: Arc<Target>,
    /// Its provider.
    pub pool: Arc<Pool>,
}

/// Everything one route can send to.
pub struct Destinations {
    /// Its targets, in the order of the rules.
    pub targets: Box<[Destination]>,
    /// Its fallbacks, in order.
    pub fallback: Box<[Destination]>,
    /// Its fallbacks for single failures.
    pub on: Box<[(FallbackOn, Box<[Destination]>)]>,
    turns: Arc<TargetTurns>,
}

impl Destinations {
    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Destination> {
        let on = self.on.iter().flat_map(|(_, list)| list);
        self.targets.iter().chain(&self.fallback).chain(on)
    }

    /// What this route sends to; `pool` finds the provider of a name. `before`: the state before a reload, whose turns go on if
    /// the targets are the same: reloading often must not favour the first of them.
    pub fn new(route: &Route, pool: &dyn Fn(&str) -> Option<Arc<Pool>>, before: Option<&Destinations>) -> Self {
        let ready = |targets: &[Target]| -> Box<[Destination]> {
            let one = |target: &Target| {
                Some(Destination {
                    pool: pool(&target.provider.name)?,
                    target: Arc::new(target.clone()),
                })
            };
            targets.iter().filter_map(one).collect()
        };
        let targets = ready(&route.targets);
        let weigh = |destination: &Destination| match route.strategy {
            Strategy::RoundRobin => destination.target.weight.min(1),
            _ => destination.target.weight,
        };
        let weights: Box<[u32]> = targets.iter().map(weigh).collect();
        let same = |known: &&Destinations| {
            let pairs = || known.targets.iter().zip(&targets);
            known.turns.weights == weights
                && pairs()
                    .all(|(a, b)| a.target.provider.name == b.target.provider.name && a.target.model == b.target.model)
        };
        let turns = match before.filter(same) {
            Some(known) => known.turns.clone(),
            None => Arc::new(TargetTurns::new(weights)),
        };
        Destinations {
            targets,
            fallback: ready(&route.fallback),
            on: route.fallback_on.iter().map(|(on, list)| (*on, ready(list))).collect(),
            turns,
        }
    }

    /// Whose turn it is among the targets.
    pub fn turns(&self) -> &TargetTurns {
        &self.turns
    }
}

/// Turns among the targets of a route, by weight: the one whose turn is due earliest, by stride scheduling (Waldspurger and Weihl,
/// "Stride Scheduling: Deterministic Proportional-Share Resource Management", MIT/LCS/TM-528, 1995). Who is passed over (cooling
/// down, not fit) neither loses turns nor saves them up: when it comes back, it is due now, no earlier.
///
/// First attempts and later ones have a wheel each: otherwise a target that always fails would be the first choice of every
/// request, since each of its failures charges another one as well.
#[derive(Debug)]
pub struct TargetTurns {
    weights: Box<[u32]>,
    first: Mutex<Wheel>,
    later: Mutex<Wheel>,
}

/// When each is due.
#[derive(Debug)]
struct Wheel {
    due: Box<[u64]>,
    now: u64,
}

/// Time between two turns of weight 1. Large against the largest weight (1,000), so that rounding is below a tenth of a per mille.
const STRIDE: u64 = 1 << 24;
/// The wheel is set back when it has come so far.
const FAR: u64 = 1 << 62;

fn stride(weight: u32) -> u64 {
    STRIDE / u64::from(weight.max(1))
}

impl TargetTurns {
    fn new(weights: Box<[u32]>) -> Self {
        let wheel = || {
            // Half a stride in: so turns of heavy and light ones lie between each other from the start.
            let due = weights.iter().map(|&weight| stride(weight) / 2).collect();
            Mutex::new(Wheel { due, now: 0 })
        };
        TargetTurns {
            first: wheel(),
            later: wheel(),
            weights,
        }
    }

    fn wheel(&self, later: bool) -> &Mutex<Wheel> {
        if later { &self.later } else { &self.first }
    }

    /// Takes the next turn among these places. One of weight 0 has it only if there is no other. `later`: not for a first
    /// attempt.
    pub fn take(&self, later: bool, places: impl Iterator<Item = usize>) -> Option<usize> {
        let mut wheel = self.wheel(later).lock();
        let mut best: Option<(bool, u64, usize)> = None;
        for place in places {
            let (Some(&due), Some(&weight)) = (wheel.due.get(place), self.weights.get(place)) else {
                continue;
            };
            let turn = (weight == 0, due.max(wheel.now), place);
            if best.is_none_or(|best| turn < best) {
                best = Some(turn);
            }
        }
        let (unwanted, due, place) = best?;
        if !unwanted {
            wheel.now = due;
        }
        wheel.due[place] = due + stride(self.weights[place]);
        if wheel.now > FAR {
            let now = wheel.now;
            wheel.due.iter_mut().for_each(|due| *due = due.saturating_sub(now));
            wheel.now = 0;
        }
        Some(place)
    }

    /// Gives a turn back that was taken for nothing.
    pub fn give_back(&self, later: bool, place: usize) {
        let mut wheel = self.wheel(later).lock();
        if let (Some(&weight), Some(due)) = (self.weights.get(place), wheel.due.get_mut(place)) {
            *due = due.saturating_sub(stride(weight));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32]) -> TargetTurns {
        TargetTurns::new(weights.into())
    }

    #[test]
    fn shares_are_exact_and_spread_out() {
        let turns = turns(&[4, 1, 1]);
        let taken: Vec<usize> = (0..12).filter_map(|_| turns.take(false, 0..3)).collect();
        assert_eq!(taken, [0, 0, 1, 2, 0, 0, 0, 0, 1, 2, 0, 0]);
    }

    #[test]
    fn who_is_passed_over_neither_loses_nor_saves_up() {
        let turns = turns(&[1, 1, 1]);
        for _ in 0..1000 {
            assert_ne!(turns.take(false, [0, 2].into_iter()), Some(1));
        }
        let mut seen = [0; 3];
        for _ in 0..300 {
            seen[turns.take(false, 0..3).unwrap()] += 1;
        }
        assert!(seen.iter().all(|n| (99..=101).contains(n)), "{seen:?}");
    }

    #[test]
    fn a_turn_given_back_was_never_taken() {
        let turns = turns(&[1, 1]);
        for _ in 0..10 {
            let place = turns.take(false, 0..2).unwrap();
            assert_eq!(place, 0);
            turns.give_back(false, place);
        }
    }

    #[test]
    fn weight_zero_is_last() {
        let turns = turns(&[0, 2, 0]);
        assert!((0..20).all(|_| turns.take(false, 0..3) == Some(1)));
        let two: Vec<_> = (0..4).filter_map(|_| turns.take(false, [0, 2].into_iter())).collect();
        assert_eq!(two, [0, 2, 0, 2], "among themselves in turn");
        assert_eq!(turns.take(false, std::iter::empty()), None);
    }

    #[test]
    fn later_attempts_do_not_charge_first_ones() {
        let turns = turns(&[1, 1]);
        let mut first = [0; 2];
        for _ in 0..100 {
            let place = turns.take(false, 0..2).unwrap();
            first[place] += 1;
            if place == 0 {
                assert_eq!(turns.take(true, 1..2), Some(1));
            }
        }
        assert_eq!(first, [50, 50]);
    }

    proptest::proptest! {
        #[test]
        fn over_a_full_round_each_gets_its_weight(weights in proptest::collection::vec(0u32..20, 1..8)) {
            let total: u32 = weights.iter().sum();
            proptest::prop_assume!(total > 0);
            let turns = turns(&weights);
            let mut seen = vec![0i64; weights.len()];
            for _ in 0..total * 50 {
                seen[turns.take(false, 0..weights.len()).unwrap()] += 1;
            }
            for (seen, weight) in seen.iter().zip(&weights) {
                proptest::prop_assert!((seen - i64::from(*weight) * 50).abs() <= 1, "{seen} for {weight}");
            }
        }
    }
}
