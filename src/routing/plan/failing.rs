//! What a plan learns from an attempt that failed, and whether another may follow.

use std::sync::Arc;

use crate::rules::FallbackOn;
use crate::upstream::Failure;

use super::{Aim, MAX_DEAD, MAX_LAPS, RoutePlan, Shun};

impl RoutePlan {
    /// This candidate can't be asked this request at all: it is passed over from now on, and the turn it took is given back.
    pub fn unfit(&mut self, index: usize) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.spent = true;
        }
        if let Some(current) = self.current.take_if(|current| current.index == index) {
            let slot = &self.slots[index];
            if let (Some(later), Some(destinations)) = (current.turn, &self.sources[slot.source].destinations) {
                destinations.turns().give_back(later, slot.place);
            }
        }
    }

    /// What became of the last attempt. True: another may follow, as far as is known here; whether one can, the lanes say in
    /// [`RoutePlan::next`].
    ///
    /// - A fault of a credential, or its limit: its other credentials are in line like any other candidate.
    /// - A fault of the provider: other targets are preferred, then others at this provider, then this one with another credential.
    /// - No such model, an answer that can't be read: the target is out.
    /// - Too long, or against a policy: only the route's list for that is left.
    /// - A dead connection: the same again, at once.
    /// - The request's own fault: none follows.
    pub fn failed(&mut self, index: usize, failure: Failure) -> bool {
        let current = self.current.take_if(|current| current.index == index);
        if self.slots.get(index).is_none() {
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        if failure == Failure::DeadConnection && self.slots[index].dead < MAX_DEAD {
            self.slots[index].dead += 1;
            self.again = Some(Aim {
                index,
                credential: current.and_then(|current| current.credential),
            });
            return true;
        }
        if let Some(current) = &current {
            self.mark_tried(index, current.seat);
            if failure.may_repeat() {
                self.slots[index].repeat.push(current.seat);
            }
        }
        let slot = &mut self.slots[index];
        slot.ours |= failure.is_ours();
        slot.theirs |= !failure.is_ours();
        match failure {
            Failure::Refused => return false,
            Failure::ContextTooLong => return self.confine(index, FallbackOn::ContextTooLong),
            Failure::ContentPolicy => return self.confine(index, FallbackOn::ContentPolicy),
            Failure::NoSuchModel | Failure::Unreadable => slot.spent = true,
            Failure::RateLimited | Failure::QuotaSpent | Failure::Unauthorised | Failure::Forbidden => {}
            Failure::Overloaded => {
                let source = slot.source;
                self.shun(index);
                self.sources[source].overloaded = true;
            }
            Failure::Connect
            | Failure::Tls
            | Failure::DeadConnection
            | Failure::Broke
            | Failure::FirstByte
            | Failure::Slow
            | Failure::Server => self.shun(index),
        }
        self.may_follow()
    }

    /// Its provider is not asked while there are others.
    fn shun(&mut self, index: usize) {
        let provider = self.candidates[index].pool.clone();
        for (candidate, slot) in self.candidates.iter().zip(&mut self.slots) {
            if Arc::ptr_eq(&candidate.pool, &provider) {
                slot.shun = slot.shun.max(Shun::Provider);
            }
        }
        self.slots[index].shun = Shun::Target;
    }

    /// Only the list for this failure is left.
    fn confine(&mut self, index: usize, on: FallbackOn) -> bool {
        let slot = &mut self.slots[index];
        slot.spent = true;
        self.only = Some((slot.source, on));
        self.may_follow()
    }

    /// The seat was tried, by whichever candidate has the same lane.
    pub(super) fn mark_tried(&mut self, index: usize, seat: usize) {
        let lane = self.candidates[index].lane.clone();
        for (candidate, slot) in self.candidates.iter().zip(&mut self.slots) {
            if Arc::ptr_eq(&candidate.lane, &lane) && !slot.tried.contains(&seat) {
                slot.tried.push(seat);
            }
        }
    }

    fn may_follow(&self) -> bool {
        let open = |index: usize| {
            let slot = &self.slots[index];
            let again = !slot.repeat.is_empty() && slot.laps < MAX_LAPS;
            !slot.spent && (again || self.has_seats(index, slot.tried.len() + 1))
        };
        (0..self.slots.len()).any(|index| self.is_active(index) && open(index))
    }

    /// While this candidate is asked: there is another, or another credential of it, that was not tried.
    pub fn has_others(&self, index: usize) -> bool {
        let open = |other: usize| {
            let slot = &self.slots[other];
            let taken = slot.tried.len() + usize::from(other == index);
            self.is_active(other) && !slot.spent && self.has_seats(other, taken + 1)
        };
        (0..self.slots.len()).any(open)
    }

    /// The candidate has so many seats: credentials with the tags of its target, or one where the provider wants none.
    pub(super) fn has_seats(&self, index: usize, count: usize) -> bool {
        let candidate = &self.candidates[index];
        let credentials = candidate.pool.credentials();
        if credentials.is_empty() {
            return count <= 1;
        }
        let tags = candidate.target.as_ref().map_or(&[][..], |target| &target.tags);
        let fit = credentials
            .iter()
            .filter(|credential| tags.iter().all(|tag| credential.tags.contains(tag)));
        fit.take(count).count() == count
    }
}
