//! When which target is checked next, and how many at once. Pure: what time it is comes from outside.
//!
//! Each target has a time of its own, spread over the first minute and moved a little each round, so that a thousand keys
//! are not asked in the same second, and gateways which started together drift apart. At most `parallel` are checked at
//! once, of one provider only a quarter of that: one that hangs delays no other.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A first check comes within this time (within `every`, if that is shorter).
pub(super) const FIRST_WITHIN: Duration = Duration::from_secs(60);

/// Later ones come after `every`, give or take this share of it, in percent.
pub(super) const JITTER_PERCENT: u32 = 10;

/// What is checked by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum What {
    /// A credential, by its name.
    Credential(Arc<str>),
    /// A place where the provider answers, by scheme, host and port: all of its addresses.
    Place(Arc<str>),
}

/// What is checked, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Target {
    /// The provider.
    pub(super) provider: Arc<str>,
    /// What of it.
    pub(super) what: What,
}

/// A target that is to be checked.
pub(super) struct Wanted {
    pub(super) target: Target,
    /// How often.
    pub(super) every: Duration,
    /// Changes when the target is not what it was (a key replaced): then it counts as new.
    pub(super) stamp: u64,
}

struct Slot {
    every: Duration,
    stamp: u64,
    due: Instant,
    round: u64,
}

/// Targets that are not what they were before.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changed {
    /// They have another stamp.
    pub(super) replaced: Vec<Target>,
    /// They are no longer to be checked.
    pub(super) gone: Vec<Target>,
}

/// The targets and their times.
pub(super) struct Schedule {
    seed: u64,
    parallel: usize,
    slots: HashMap<Target, Slot>,
    running: HashSet<Target>,
}

impl Schedule {
    /// Nothing to check yet. `seed`: where chance comes from.
    pub(super) fn new(seed: u64, parallel: usize) -> Self {
        Schedule {
            seed,
            parallel: parallel.max(1),
            slots: HashMap::new(),
            running: HashSet::new(),
        }
    }

    /// Takes over what is to be checked from now on. Targets that stay keep their times.
    pub(super) fn follow(&mut self, wanted: Vec<Wanted>, now: Instant) -> Changed {
        let mut before = std::mem::take(&mut self.slots);
        let mut changed = Changed::default();
        for Wanted { target, every, stamp } in wanted {
            let slot = match before.remove(&target) {
                Some(known) if known.stamp == stamp && known.every == every => known,
                // Not later than the new interval says.
                Some(known) if known.stamp == stamp => Slot {
                    due: known.due.min(now + self.jittered(&target, known.round, every)),
                    every,
                    ..known
                },
                known => {
                    changed.replaced.extend(known.map(|_| target.clone()));
                    let within = every.min(FIRST_WITHIN);
                    Slot {
                        due: now + within.mul_f64(self.chance(&target, 0)),
                        every,
                        stamp,
                        round: 1,
                    }
                }
            };
            self.slots.insert(target, slot);
        }
        changed.gone.extend(before.into_keys());
        changed
    }

    /// Begins the checks that are due and find room, the longest overdue first. Each ends with [`Schedule::finish`].
    pub(super) fn begin_due(&mut self, now: Instant) -> Vec<Target> {
        let room = self.parallel.saturating_sub(self.running.len());
        if room == 0 {
            return Vec::new();
        }
        let mut due: Vec<_> = self
            .slots
            .iter()
            .filter(|(target, slot)| slot.due <= now && !self.running.contains(*target))
            .map(|(target, slot)| (slot.due, target.clone()))
            .collect();
        due.sort_by_key(|(due, _)| *due);
        let share = self.parallel.div_ceil(4);
        let mut of_provider: HashMap<Arc<str>, usize> = HashMap::new();
        for target in &self.running {
            *of_provider.entry(target.provider.clone()).or_default() += 1;
        }
        let mut begun = Vec::new();
        for (_, target) in due {
            let used = of_provider.entry(target.provider.clone()).or_default();
            if begun.len() < room && *used < share {
                *used += 1;
                self.running.insert(target.clone());
                begun.push(target);
            }
        }
        begun
    }

    /// Begins a check that was asked for, whether it is due or not. False: not now, as it is being checked or there is no
    /// room.
    pub(super) fn begin(&mut self, target: &Target) -> bool {
        self.running.len() < self.parallel && self.running.insert(target.clone())
    }

    /// Whether it is being checked.
    pub(super) fn is_running(&self, target: &Target) -> bool {
        self.running.contains(target)
    }

    /// A check has ended: the next one follows after the target's interval.
    pub(super) fn finish(&mut self, target: &Target, now: Instant) {
        self.running.remove(target);
        let Some((every, round)) = self.slots.get(target).map(|slot| (slot.every, slot.round)) else {
            return;
        };
        let due = now + self.jittered(target, round, every);
        if let Some(slot) = self.slots.get_mut(target) {
            slot.due = due;
            slot.round += 1;
        }
    }

    /// `every`, give or take [`JITTER_PERCENT`].
    fn jittered(&self, target: &Target, round: u64, every: Duration) -> Duration {
        let share = f64::from(JITTER_PERCENT) / 100.0;
        every.mul_f64(1.0 - share + 2.0 * share * self.chance(target, round))
    }

    /// From 0 to 1, the same for the same question.
    fn chance(&self, target: &Target, round: u64) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, target, round).hash(&mut hasher);
        // The 53 bits that a fraction holds.
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY: Duration = Duration::from_secs(300);

    fn target(provider: &str, name: &str) -> Target {
        Target {
            provider: provider.into(),
            what: What::Credential(name.into()),
        }
    }

    fn wanted(targets: &[Target]) -> Vec<Wanted> {
        let want = |target: &Target| Wanted {
            target: target.clone(),
            every: EVERY,
            stamp: 0,
        };
        targets.iter().map(want).collect()
    }

    fn many(providers: usize, credentials: usize) -> Vec<Target> {
        let one = |p| (0..credentials).map(move |c| target(&format!("p{p}"), &format!("c{c}")));
        (0..providers).flat_map(one).collect()
    }

    /// Lets time run second by second; each check takes as long as `took` says. Returns what began when.
    fn run(schedule: &mut Schedule, from: Instant, seconds: u64, took: impl Fn(&Target) -> u64) -> Vec<(Target, u64)> {
        let mut log = Vec::new();
        let mut running: Vec<(Target, u64)> = Vec::new();
        for second in 0..seconds {
            let now = from + Duration::from_secs(second);
            running.retain(|(target, until)| {
                let over = *until <= second;
                if over {
                    schedule.finish(target, now);
                }
                !over
            });
            for target in schedule.begin_due(now) {
                assert!(
                    running.iter().all(|(other, _)| *other != target),
                    "never two of the same at once"
                );
                running.push((target.clone(), second + took(&target)));
                log.push((target, second));
            }
            assert!(running.len() <= schedule.parallel, "the bound holds");
        }
        log
    }

    #[test]
    fn first_checks_are_spread_and_later_ones_drift() {
        let targets = many(10, 10);
        let mut schedule = Schedule::new(7, 100);
        let begin = Instant::now();
        assert_eq!(schedule.follow(wanted(&targets), begin), Changed::default());
        let log = run(&mut schedule, begin, 1200, |_| 1);
        let starts = |target: &Target| -> Vec<u64> {
            let own = log.iter().filter(|(known, _)| known == target);
            own.map(|(_, second)| *second).collect()
        };
        let mut firsts = [0; 6];
        for target in &targets {
            let starts = starts(target);
            let first = starts[0];
            assert!(first <= FIRST_WITHIN.as_secs(), "{first}");
            firsts[(first as usize / 10).min(5)] += 1;
            for pair in starts.windows(2) {
                // One second of checking, one of rounding.
                assert!((270..=332).contains(&(pair[1] - pair[0])), "{pair:?}");
            }
            assert!(starts.len() >= 3, "{starts:?}");
        }
        assert!(
            firsts.iter().all(|&some| some > 5),
            "spread over the minute: {firsts:?}"
        );
        let gaps: HashSet<u64> = targets
            .iter()
            .map(|target| starts(target)[1] - starts(target)[0])
            .collect();
        assert!(gaps.len() > 20, "the jitter is no constant: {gaps:?}");
    }

    #[test]
    fn the_bound_holds_and_a_provider_that_hangs_delays_no_other() {
        let mut targets = many(1, 200);
        let quick: Vec<Target> = (0..20).map(|c| target("quick", &format!("c{c}"))).collect();
        targets.extend(quick.iter().cloned());
        let mut schedule = Schedule::new(7, 8);
        let begin = Instant::now();
        schedule.follow(wanted(&targets), begin);
        let log = run(&mut schedule, begin, 70, |target| {
            if &*target.provider == "quick" { 1 } else { 10 }
        });
        for target in &quick {
            let first = log.iter().find(|(known, _)| known == target);
            assert!(first.is_some_and(|(_, second)| *second <= 65), "{target:?}: {first:?}");
        }
        let slow = log.iter().filter(|(target, _)| &*target.provider == "p0").count();
        assert!(slow <= 2 * 7, "two at once, ten seconds each: {slow}");
    }

    #[test]
    fn a_reload_keeps_the_times_of_what_stays() {
        let targets = many(2, 3);
        let mut schedule = Schedule::new(7, 8);
        let begin = Instant::now();
        schedule.follow(wanted(&targets), begin);
        run(&mut schedule, begin, 61, |_| 1);
        let later = begin + Duration::from_secs(100);
        let times = |schedule: &Schedule| -> HashMap<Target, Instant> {
            schedule
                .slots
                .iter()
                .map(|(target, slot)| (target.clone(), slot.due))
                .collect()
        };
        let before = times(&schedule);
        let changed = schedule.follow(wanted(&targets[..5]), later);
        assert_eq!((changed.gone, changed.replaced), (vec![targets[5].clone()], vec![]));
        let after = times(&schedule);
        assert!(targets[..5].iter().all(|target| before[target] == after[target]));

        let mut changed = wanted(&targets[..5]);
        changed[0].stamp = 1;
        changed[1].every = Duration::from_secs(10);
        let changed = schedule.follow(changed, later);
        assert_eq!(
            (changed.gone, changed.replaced),
            (vec![], vec![targets[0].clone()]),
            "a key replaced is a new one"
        );
        let after = times(&schedule);
        assert!(after[&targets[0]] <= later + FIRST_WITHIN);
        assert!(after[&targets[1]] <= later + Duration::from_secs(11));
        assert_eq!(after[&targets[2]], before[&targets[2]]);
    }

    #[test]
    fn a_check_that_was_asked_for_counts_and_excludes_the_same() {
        let targets = many(1, 3);
        let mut schedule = Schedule::new(7, 2);
        let begin = Instant::now();
        schedule.follow(wanted(&targets), begin);
        assert!(schedule.begin(&targets[0]));
        assert!(!schedule.begin(&targets[0]), "it is being checked");
        assert!(schedule.begin(&targets[1]));
        assert!(!schedule.begin(&targets[2]), "there is no room");
        let late = begin + FIRST_WITHIN;
        assert!(schedule.begin_due(late).is_empty(), "for others neither");
        schedule.finish(&targets[1], late);
        assert!(!schedule.is_running(&targets[1]) && schedule.is_running(&targets[0]));
        assert!(schedule.begin_due(late).is_empty(), "a quarter of two is one");
        schedule.finish(&targets[0], late);
        assert_eq!(
            schedule.begin_due(late),
            [targets[2].clone()],
            "the others were just checked"
        );
        schedule.finish(&target("p0", "of before a reload"), late);
    }
}
