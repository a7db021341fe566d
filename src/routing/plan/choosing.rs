//! The next attempt of a plan: a target by the strategy of its route, of it a credential.

use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use crate::rules::{FallbackOn, Route};
use crate::upstream::{Hold, NoSeat, Want};

use super::super::strategy::{self, Offer};
use super::{Aim, Barred, Choice, Current, Exhausted, MAX_LAPS, Need, RoutePlan, Shun, Tier};

impl RoutePlan {
    /// The next attempt. Until [`RoutePlan::failed`] or [`RoutePlan::unfit`] was told of the one before, its seat counts as tried.
    pub fn next(&mut self, now: Instant) -> Result<Choice, Exhausted> {
        if let Some(current) = self.current.take() {
            self.mark_tried(current.index, current.seat);
            self.failures = self.failures.saturating_add(1);
        }
        loop {
            let mut barred = Barred::default();
            for need in [Need::Ready, Need::Any, Need::Lone] {
                if need == Need::Lone && !self.is_lone() {
                    break;
                }
                (self.need, barred) = (need, Barred::default());
                if let Some(choice) = self.pick(now, &mut barred) {
                    return Ok(choice);
                }
            }
            if !self.next_lap() {
                return Err(self.exhausted(&barred));
            }
        }
    }

    /// Gives the seat of the latest choice back, untried: its candidate is asked for one first when it is time. The turn it took stays
    /// taken.
    pub fn put_back(&mut self, choice: Choice) {
        if let Some(current) = self.current.take_if(|current| current.index == choice.index) {
            self.again = Some(Aim {
                index: choice.index,
                credential: current.credential,
            });
        }
    }

    /// There is one seat in all: nobody else can be asked, now or later.
    fn is_lone(&self) -> bool {
        self.candidates.len() == 1 && !self.has_seats(0, 2)
    }

    fn pick(&mut self, now: Instant, barred: &mut Barred) -> Option<Choice> {
        self.round += 1;
        for aim in [self.again.take(), self.sticky.take()].into_iter().flatten() {
            if self.is_open(aim.index)
                && let Some(hold) = self.seat(aim.index, aim.credential.as_deref(), now, barred)
            {
                return Some(self.chosen(aim.index, hold, false));
            }
        }
        if let Some((source, on)) = self.only {
            let list = self.sources[source].lists();
            return self.in_order(list, Tier::On(on), None, now, barred);
        }
        for shun in [Shun::No, Shun::Provider, Shun::Target] {
            for source in 0..self.sources.len() {
                if let Some(choice) = self.pick_of(source, shun, now, barred) {
                    return Some(choice);
                }
            }
            if self.failures == 0 {
                // Nobody is shunned.
                break;
            }
        }
        None
    }

    /// Of one name: after an overload the list for that, then the targets by strategy, then the fallbacks.
    fn pick_of(&mut self, source: usize, shun: Shun, now: Instant, barred: &mut Barred) -> Option<Choice> {
        let known = &self.sources[source];
        let (fallback, lists) = (known.fallback.clone(), known.lists());
        if known.overloaded {
            let tier = Tier::On(FallbackOn::Overloaded);
            let choice = self.in_order(lists, tier, Some(shun), now, barred);
            if choice.is_some() {
                return choice;
            }
        }
        self.by_strategy(source, shun, now, barred)
            .or_else(|| self.in_order(fallback, Tier::Fallback, Some(shun), now, barred))
    }

    /// The first of them which has a seat. `shun`: only those which are so.
    fn in_order(
        &mut self,
        list: Range<usize>,
        tier: Tier,
        shun: Option<Shun>,
        now: Instant,
        barred: &mut Barred,
    ) -> Option<Choice> {
        for index in list {
            let wanted = shun.is_none_or(|shun| self.slots[index].shun == shun);
            if wanted
                && self.candidates[index].tier == tier
                && self.is_open(index)
                && let Some(hold) = self.seat(index, None, now, barred)
            {
                return Some(self.chosen(index, hold, false));
            }
        }
        None
    }

    /// One of the targets, by the strategy of the route.
    fn by_strategy(&mut self, source: usize, shun: Shun, now: Instant, barred: &mut Barred) -> Option<Choice> {
        let known = &self.sources[source];
        let Some(destinations) = known.destinations.clone() else {
            return self.in_order(known.targets.clone(), Tier::Target, Some(shun), now, barred);
        };
        let (strategy, targets, later) = (known.strategy, known.targets.clone(), self.failures > 0);
        loop {
            let offers = targets.clone().filter_map(|index| {
                let slot = &self.slots[index];
                (slot.shun == shun && self.is_open(index)).then(|| Offer {
                    index,
                    place: slot.place,
                    weight: slot.weight,
                    price: slot.price,
                    lane: &self.candidates[index].lane,
                })
            });
            let index = strategy::choose(strategy, &destinations, later, now, offers)?;
            if let Some(hold) = self.seat(index, None, now, barred) {
                return Some(self.chosen(index, hold, true));
            }
            destinations.turns().give_back(later, self.slots[index].place);
        }
    }

    /// It may be asked for a seat in this round.
    fn is_open(&self, index: usize) -> bool {
        let slot = &self.slots[index];
        !slot.spent && slot.passed != self.round
    }

    /// A seat of this candidate: a credential by the strategy, or the one it had.
    fn seat(&mut self, index: usize, sticky: Option<&str>, now: Instant, barred: &mut Barred) -> Option<Hold> {
        let (slot, candidate) = (&mut self.slots[index], &self.candidates[index]);
        let want = Want {
            strategy: self.sources[slot.source].strategy,
            tags: candidate.target.as_ref().map_or(&[], |target| &target.tags),
            tried: &slot.tried,
            sticky,
            tokens: self.tokens,
            prompt: self.prompt,
        };
        let seat = match self.need {
            Need::Ready => candidate.lane.choose_ready(&want, now),
            Need::Any => candidate.lane.choose(&want, now),
            Need::Lone => candidate.lane.choose_lone(&want, now),
        };
        match seat {
            Ok(hold) => return Some(hold),
            Err(NoSeat::Cooling { until, ours }) => {
                let known = if ours { &mut barred.ours } else { &mut barred.cooling };
                *known = Some(known.map_or(until, |known| known.min(until)));
            }
            Err(NoSeat::Tried | NoSeat::None) => {}
        }
        slot.passed = self.round;
        None
    }

    fn chosen(&mut self, index: usize, hold: Hold, turn: bool) -> Choice {
        let candidate = self.candidates[index].clone();
        let source = &self.sources[self.slots[index].source];
        let at = |route: &Option<Arc<Route>>| route.as_ref().map(Arc::as_ptr);
        if at(&self.route) != at(&source.route) {
            self.route = source.route.clone();
        }
        self.current = Some(Current {
            index,
            seat: hold.index(),
            credential: hold.credential().map(|credential| credential.name.clone()),
            turn: turn.then_some(self.failures > 0),
        });
        let again = self.slots[index].laps > 0;
        Choice {
            index,
            candidate,
            hold,
            again,
        }
    }

    /// All were tried: those whose failure may be repeated are open again, each a few times. False: there is none.
    fn next_lap(&mut self) -> bool {
        let mut any = false;
        for index in 0..self.slots.len() {
            if !self.is_active(index) {
                continue;
            }
            let slot = &mut self.slots[index];
            if slot.spent || slot.repeat.is_empty() || slot.laps >= MAX_LAPS {
                continue;
            }
            let repeat = std::mem::take(&mut slot.repeat);
            slot.tried.retain(|seat| !repeat.contains(seat));
            slot.laps += 1;
            slot.shun = Shun::No;
            any = true;
        }
        any
    }

    fn exhausted(&self, barred: &Barred) -> Exhausted {
        let active = || (0..self.slots.len()).filter(|index| self.is_active(*index));
        let ours = barred.ours.is_some() || active().any(|index| self.slots[index].ours);
        let theirs = barred.cooling.is_some() || active().any(|index| self.slots[index].theirs);
        Exhausted {
            until: barred.cooling.or(barred.ours),
            ours: ours && !theirs,
        }
    }

    /// It is among those that may be asked as things stand.
    pub(super) fn is_active(&self, index: usize) -> bool {
        let (source, tier) = (self.slots[index].source, self.candidates[index].tier);
        match self.only {
            Some((only, on)) => source == only && tier == Tier::On(on),
            None => match tier {
                Tier::Target | Tier::Fallback => true,
                Tier::On(on) => on == FallbackOn::Overloaded && self.sources[source].overloaded,
            },
        }
    }
}
