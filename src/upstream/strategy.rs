//! Which of the usable members of a section is next, by each strategy. None looks at all of them: a choice costs about the
//! same with ten members and with a thousand.
//!
//! - *weighted* (and *cheapest*: all credentials of a target cost the same): exact shares, see [`super::shares`].
//! - *round robin*: the next in the order of the rules, whatever the weights.
//! - *least used*: fewest requests under way (with that credential, for any model) for its weight, as nginx's `least_conn`; of
//!   equal ones the next in turn. Of more than [`LOOKED_AT`] usable ones the best of the next so many.
//! - *least latency*: of two drawn at random the one with the lower decaying average of the time to the first token (power of
//!   two choices: Mitzenmacher, 2001); within a tenth they count as equal. Who was not measured of late
//!   ([`super::average::STALE`]) and has nothing under way goes first; who is being measured for the first time goes last.
//! - *adaptive*: of two drawn at random the one with the lower expected cost
//!   `(peak latency + failing share x FAILURE_COST) x (under way + 1) / weight`.
//!   Latency and load are Finagle's `PeakEwma` (cost x (pending + 1), and its penalty for who is being measured for the first
//!   time); that failures count as additional cost in proportion to their share is gRPC's
//!   `error_utilization_penalty` (gRFC A58). Times count as in *least latency*: not when they are stale.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::random;
use crate::rules::Strategy;

use super::section::Member;
use super::shares::Shares;

/// Most members looked at by *least used*.
pub const LOOKED_AT: usize = 64;

/// Seconds a failed attempt is taken to cost: asking again elsewhere, and what was waited for.
pub const FAILURE_COST: f64 = 10.0;

/// Cost of who is being measured for the first time, in seconds: more than any that was measured.
const UNKNOWN_COST: f64 = 1e6;

/// Costs that differ by less than this share count as equal: else who is ever so slightly worse would get nothing at all as
/// long as there is little load, and nobody would notice when it got better.
const NOISE: f64 = 0.1;

/// Not among the usable.
const OUT: u32 = u32::MAX;

/// The usable ones among some members of a section, in the orders the strategies need.
pub struct Tier {
    /// In any order, for draws.
    ready: Vec<u32>,
    /// Where in `ready` each member of the section stands, or [`OUT`].
    place: Box<[u32]>,
    /// The same as bits, for turns.
    bits: Box<[u64]>,
    /// The last one in turn.
    cursor: usize,
    shares: Shares,
}

impl Tier {
    /// These members (by their number in the section) with their weights; all are usable.
    pub fn new(members: &[Member], belongs: impl Fn(&Member) -> bool) -> Self {
        let mut tier = Tier {
            ready: Vec::new(),
            place: vec![OUT; members.len()].into(),
            bits: vec![0; members.len().div_ceil(64)].into(),
            cursor: members.len().saturating_sub(1),
            shares: Shares::new(members.iter().map(|member| member.weight)),
        };
        for (number, _) in members.iter().enumerate().filter(|(_, member)| belongs(member)) {
            tier.admit(number as u32);
        }
        tier
    }

    /// How many are usable.
    pub fn len(&self) -> usize {
        self.ready.len()
    }

    /// It is among the usable.
    pub fn has(&self, member: u32) -> bool {
        self.place.get(member as usize).is_some_and(|place| *place != OUT)
    }

    /// It can be used again.
    pub fn admit(&mut self, member: u32) {
        if !self.has(member) {
            self.place[member as usize] = self.ready.len() as u32;
            self.ready.push(member);
            self.bits[member as usize / 64] |= 1 << (member % 64);
            self.shares.admit(member);
        }
    }

    /// It can't be used any more.
    pub fn bench(&mut self, member: u32) {
        if !self.has(member) {
            return;
        }
        let place = std::mem::replace(&mut self.place[member as usize], OUT) as usize;
        self.ready.swap_remove(place);
        if let Some(moved) = self.ready.get(place) {
            self.place[*moved as usize] = place as u32;
        }
        self.bits[member as usize / 64] &= !(1 << (member % 64));
    }

    /// The one that was picked was taken.
    pub fn taken(&mut self, member: u32, strategy: Strategy) {
        match strategy {
            Strategy::Weighted | Strategy::Cheapest => self.shares.taken(member),
            Strategy::RoundRobin => self.cursor = member as usize,
            Strategy::LeastUsed | Strategy::LeastLatency | Strategy::Adaptive => {}
        }
    }

    /// Who is next among those that were not `tried`. It is to be taken or benched before anything else is picked.
    pub fn pick(
        &mut self,
        strategy: Strategy,
        members: &[Member],
        tried: &dyn Fn(u32) -> bool,
        now: Instant,
    ) -> Option<u32> {
        match strategy {
            Strategy::Weighted | Strategy::Cheapest => self.by_share(tried),
            Strategy::RoundRobin => self.in_turn(tried),
            Strategy::LeastUsed => self.least_used(members, tried),
            Strategy::LeastLatency => self.better_of_two(tried, |member| latency(&members[member as usize], now)),
            Strategy::Adaptive => self.better_of_two(tried, |member| cost(&members[member as usize], now)),
        }
    }

    fn by_share(&mut self, tried: &dyn Fn(u32) -> bool) -> Option<u32> {
        let mut aside = Vec::new();
        let mut found = None;
        while let Some(member) = self.shares.pop() {
            if !self.has(member) {
                continue;
            }
            if !tried(member) {
                found = Some(member);
                break;
            }
            aside.push(member);
        }
        for member in aside {
            self.shares.put_back(member);
        }
        found
    }

    fn in_turn(&mut self, tried: &dyn Fn(u32) -> bool) -> Option<u32> {
        let mut at = self.cursor;
        for _ in 0..self.ready.len() {
            at = self.after(at)?;
            if !tried(at as u32) {
                return Some(at as u32);
            }
        }
        None
    }

    /// The next usable one after that, around the end.
    fn after(&self, at: usize) -> Option<usize> {
        let words = self.bits.len();
        let start = (at + 1) % self.place.len().max(1);
        let mut mask = !0 << (start % 64);
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let bits = self.bits[word] & mask;
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            mask = !0;
        }
        None
    }

    fn least_used(&mut self, members: &[Member], tried: &dyn Fn(u32) -> bool) -> Option<u32> {
        let count = self.ready.len();
        let mut best: Option<(u32, usize, u64, u64)> = None;
        let mut looked_at = 0;
        for step in 1..=count {
            let place = (self.cursor + step) % count;
            let member = self.ready[place];
            if tried(member) {
                continue;
            }
            let known = &members[member as usize];
            let load = u64::from(known.seat.account.in_flight.load(Ordering::Relaxed));
            let weight = u64::from(known.weight.max(1));
            // load / weight, compared without dividing.
            if best.is_none_or(|(_, _, least, its)| load * its < least * weight) {
                best = Some((member, place, load, weight));
            }
            looked_at += 1;
            if load == 0 || looked_at == LOOKED_AT {
                break;
            }
        }
        let (member, place, ..) = best?;
        self.cursor = place;
        Some(member)
    }

    fn better_of_two(&self, tried: &dyn Fn(u32) -> bool, cost: impl Fn(u32) -> f64) -> Option<u32> {
        let one = self.draw(tried)?;
        let Some(other) = self.draw(&|member| member == one || tried(member)) else {
            return Some(one);
        };
        let better = cost(other) < cost(one) * (1.0 - NOISE);
        Some(if better { other } else { one })
    }

    /// Any of the usable, at random.
    fn draw(&self, not: &dyn Fn(u32) -> bool) -> Option<u32> {
        let count = self.ready.len();
        let start = random::below(count);
        (0..count)
            .map(|step| self.ready[(start + step) % count])
            .find(|&member| !not(member))
    }
}

fn latency(member: &Member, now: Instant) -> f64 {
    let averages = member.seat.state.lock().averages;
    let under_way = member.seat.in_flight.load(Ordering::Relaxed);
    expected_latency(averages.latency(), averages.is_stale(now), under_way)
}

fn cost(member: &Member, now: Instant) -> f64 {
    let averages = member.seat.state.lock().averages;
    let measuring = member.seat.in_flight.load(Ordering::Relaxed);
    let under_way = f64::from(member.seat.account.in_flight.load(Ordering::Relaxed));
    let latency = expected_latency(averages.peak(), averages.is_stale(now), measuring);
    adaptive_cost(latency, averages.failing(now), under_way, member.weight)
}

/// What *adaptive* compares, of credentials and of targets: see above. `latency`: the peak, in seconds, as far as it says anything
/// ([`expected_latency`]); `failing`: a share of 1.
pub fn adaptive_cost(latency: f64, failing: f64, under_way: f64, weight: u32) -> f64 {
    (latency + failing * FAILURE_COST) * (under_way + 1.0) / f64::from(weight.max(1))
}

/// The time to the first token to reckon with, in seconds, of credentials and of targets: what was `measured`; nothing for who is to be
/// measured (again, if that is `stale`), much for who just is for the first time.
pub fn expected_latency(measured: Option<Duration>, stale: bool, under_way: u32) -> f64 {
    match measured {
        Some(_) if stale && under_way == 0 => 0.0,
        Some(latency) => latency.as_secs_f64(),
        None if under_way == 0 => 0.0,
        None => UNKNOWN_COST * f64::from(under_way),
    }
}

#[cfg(test)]
impl Tier {
    /// Any of the usable, in turn.
    pub fn any(&mut self) -> Option<u32> {
        self.in_turn(&|_| false)
    }
}
