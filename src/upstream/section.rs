//! The seats of a lane that fit some tags, and which of them is next.
//!
//! A section knows which of its members it *believes* usable. Who turns out not to be when it is picked is benched until a
//! time; whatever ends a bar before its time wakes the sections that wait for it. So a choice looks at one or two seats,
//! however many cool. Locks are short: the section's, then the account's and the seat's of the one that was picked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::lane::{NoSeat, Want};
use super::seat::{Barred, Entry, Mercy, Seat, Taken};
use super::strategy::Tier;

/// Most members benched under one lock.
const BATCH: usize = 64;

/// A seat in a section.
pub struct Member {
    /// Its number in the lane.
    pub index: usize,
    /// What is known of it.
    pub seat: Arc<Seat>,
    /// Its share.
    pub weight: u32,
}

/// The seats of a lane which fit some tags.
pub struct Section {
    members: Box<[Member]>,
    book: Mutex<Book>,
    /// Members whose bar ended before its time.
    woken: Mutex<Vec<u32>>,
    any_woken: AtomicBool,
}

struct Book {
    /// Those with a weight, and those of weight 0, which are asked when no other can be.
    tiers: [Tier; 2],
    timers: BinaryHeap<Reverse<(Instant, u32)>>,
    benches: Box<[Bench]>,
    dry: Option<Dry>,
    /// Which of the softly cooling ones is next.
    soft_turn: usize,
}

/// What brings a member back.
#[derive(Clone, Copy, Default)]
struct Bench {
    /// The earliest timer that is set.
    timer: Option<Instant>,
    /// The account will wake it.
    account: bool,
    /// The seat will wake it.
    seat: bool,
}

/// What was found when no member could be used; true until one can.
#[derive(Clone)]
struct Dry {
    until: Instant,
    ours: bool,
    /// Of a request with so many tokens.
    tokens: u64,
    /// Softly cooling ones, those first which failed least.
    soft: Arc<[u32]>,
    /// How many of them failed least: these are asked in turn.
    least: usize,
}

impl Dry {
    /// The softly cooling ones in the order to be tried.
    fn order(&self, turn: usize) -> impl Iterator<Item = u32> {
        let (least, rest) = self.soft.split_at(self.least);
        let turned = (0..least.len()).map(move |step| least[(turn + step) % least.len()]);
        turned.chain(rest.iter().copied())
    }
}

impl Section {
    /// A section of these.
    pub fn new(members: Box<[Member]>) -> Self {
        let book = Book {
            tiers: [
                Tier::new(&members, |member| member.weight > 0),
                Tier::new(&members, |member| member.weight == 0),
            ],
            timers: BinaryHeap::new(),
            benches: vec![Bench::default(); members.len()].into(),
            dry: None,
            soft_turn: 0,
        };
        Section {
            members,
            book: Mutex::new(book),
            woken: Mutex::default(),
            any_woken: AtomicBool::new(false),
        }
    }

    /// Nobody fits.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// A member's bar ended before its time.
    pub fn freed(&self, member: u32) {
        self.woken.lock().push(member);
        self.any_woken.store(true, Ordering::Release);
    }

    /// Takes a seat. `entry` says for a seat by its index what the request needs of it; `need`: a softly cooling one will
    /// do if there is no other.
    pub fn choose<'e>(
        self: &Arc<Self>,
        want: &Want<'_>,
        entry: &dyn Fn(usize) -> Entry<'e>,
        need: bool,
        now: Instant,
    ) -> Result<(usize, Taken), NoSeat> {
        if self.is_empty() {
            return Err(NoSeat::None);
        }
        let tried = |member: u32| !want.tried.is_empty() && want.tried.contains(&self.members[member as usize].index);
        loop {
            let mut book = self.book.lock();
            self.admit(&mut book, now);
            for _ in 0..BATCH {
                let pick = |tier: usize, book: &mut Book| {
                    Some((tier, book.tiers[tier].pick(want.strategy, &self.members, &tried, now)?))
                };
                let Some((tier, picked)) = pick(0, &mut book).or_else(|| pick(1, &mut book)) else {
                    drop(book);
                    return self.in_need(want, entry, need, now);
                };
                let member = &self.members[picked as usize];
                match self.take(&mut book, picked, &entry(member.index), now) {
                    Some(taken) => {
                        book.tiers[tier].taken(picked, want.strategy);
                        return Ok((member.index, taken));
                    }
                    None => book.tiers[tier].bench(picked),
                }
            }
        }
    }

    /// Takes a member, or sees to it that it comes back when it can be taken.
    fn take(self: &Arc<Self>, book: &mut Book, picked: u32, entry: &Entry<'_>, now: Instant) -> Option<Taken> {
        let seat = &self.members[picked as usize].seat;
        for _ in 0..2 {
            match seat.take(entry, now) {
                Ok(taken) => return Some(taken),
                Err(barred) if self.come_back(book, picked, barred, now) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Sees to it that a barred member is looked at again in time. True: only now it will be woken, and it may have been freed
    /// before that: look once more.
    fn come_back(self: &Arc<Self>, book: &mut Book, member: u32, barred: Barred, now: Instant) -> bool {
        let seat = &self.members[member as usize].seat;
        let bench = &mut book.benches[member as usize];
        let at = barred.look_again(now);
        if bench.timer.is_none_or(|timer| at < timer) {
            bench.timer = Some(at);
            book.timers.push(Reverse((at, member)));
        }
        let (asked, waiters) = match barred.whole {
            true => (&mut bench.account, &seat.account.waiters),
            false => (&mut bench.seat, &seat.waiters),
        };
        let first = !std::mem::replace(asked, true);
        if first {
            waiters.add(self, member);
        }
        first
    }

    /// Brings back whose time has come, and who was woken.
    fn admit(&self, book: &mut Book, now: Instant) {
        if self.any_woken.swap(false, Ordering::Acquire) {
            for member in std::mem::take(&mut *self.woken.lock()) {
                let bench = &mut book.benches[member as usize];
                // Which of the two woke it is not told; asking twice does no harm.
                (bench.account, bench.seat) = (false, false);
                self.back(book, member);
            }
        }
        while let Some(Reverse((at, member))) = book.timers.peek().copied()
            && at <= now
        {
            book.timers.pop();
            let bench = &mut book.benches[member as usize];
            if bench.timer == Some(at) {
                bench.timer = None;
            }
            self.back(book, member);
        }
    }

    fn back(&self, book: &mut Book, member: u32) {
        let tier = usize::from(self.members[member as usize].weight == 0);
        if !book.tiers[tier].has(member) {
            book.tiers[tier].admit(member);
            book.dry = None;
        }
    }

    /// No member is believed usable, or all of those were tried.
    fn in_need<'e>(
        self: &Arc<Self>,
        want: &Want<'_>,
        entry: &dyn Fn(usize) -> Entry<'e>,
        need: bool,
        now: Instant,
    ) -> Result<(usize, Taken), NoSeat> {
        let untried = |member: &Member| !want.tried.contains(&member.index);
        if !self.members.iter().any(untried) {
            return Err(NoSeat::Tried);
        }
        let known = self.book.lock().dry.clone();
        let known = known.filter(|dry| now < dry.until && want.tokens >= dry.tokens);
        let dry = match known {
            Some(dry) => dry,
            None => match self.look(want, entry, now) {
                Ok(taken) => return Ok(taken),
                Err(dry) => dry,
            },
        };
        if need {
            let turn = {
                let mut book = self.book.lock();
                book.soft_turn = book.soft_turn.wrapping_add(1);
                book.soft_turn
            };
            for number in dry.order(turn) {
                let member = &self.members[number as usize];
                let anyway = Entry {
                    mercy: Mercy::Soft,
                    ..entry(member.index)
                };
                if untried(member)
                    && let Ok(taken) = member.seat.take(&anyway, now)
                {
                    return Ok((member.index, taken));
                }
            }
        }
        Err(NoSeat::Cooling {
            until: dry.until,
            ours: dry.ours,
        })
    }

    /// Looks at every member that was not tried, without the section's lock; who can be used after all is taken.
    fn look<'e>(
        &self,
        want: &Want<'_>,
        entry: &dyn Fn(usize) -> Entry<'e>,
        now: Instant,
    ) -> Result<(usize, Taken), Dry> {
        let mut found = Dry {
            until: now + super::cooldown::MAX_TOLD,
            ours: true,
            tokens: want.tokens,
            soft: Arc::default(),
            least: 0,
        };
        let mut soft = Vec::new();
        for (number, member) in self.members.iter().enumerate() {
            if want.tried.contains(&member.index) {
                continue;
            }
            match member.seat.take(&entry(member.index), now) {
                Ok(taken) => {
                    self.freed(number as u32);
                    return Ok((member.index, taken));
                }
                Err(Barred { bar, .. }) => {
                    found.until = found.until.min(bar.until);
                    found.ours &= bar.ours;
                    if bar.soft {
                        let step = member.seat.state.lock().cooldown.failures();
                        soft.push((step, bar.until, number as u32));
                    }
                }
            }
        }
        soft.sort_unstable();
        let failures = soft.first().map(|(failures, ..)| *failures);
        found.least = soft.iter().take_while(|(its, ..)| Some(*its) == failures).count();
        found.soft = soft.iter().map(|(.., number)| *number).collect();
        let mut book = self.book.lock();
        let empty = book.tiers.iter().all(|tier| tier.len() == 0);
        if empty && want.tried.is_empty() && !self.any_woken.load(Ordering::Acquire) {
            book.dry = Some(found.clone());
        }
        Err(found)
    }
}

#[cfg(test)]
impl Section {
    /// How many members are believed usable; 0 only if none of those looked at is. Benches those which are not.
    pub fn usable<'e>(self: &Arc<Self>, entry: &dyn Fn(usize) -> Entry<'e>, now: Instant) -> u32 {
        let mut book = self.book.lock();
        self.admit(&mut book, now);
        for tier in 0..2 {
            for _ in 0..BATCH {
                let Some(any) = book.tiers[tier].any() else { break };
                let member = &self.members[any as usize];
                let entry = entry(member.index);
                let barred = member.seat.barred(&entry, now).filter(|barred| {
                    !self.come_back(&mut book, any, *barred, now) || member.seat.barred(&entry, now).is_some()
                });
                if barred.is_none() {
                    return book.tiers.iter().map(|tier| tier.len() as u32).sum();
                }
                book.tiers[tier].bench(any);
            }
        }
        0
    }
}
