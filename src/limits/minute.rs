//! What was used in the last 60 seconds: a sliding window of one-second slots.
//!
//! A slot is forgotten only when all of it is older than 60 seconds: in no 60 seconds more than the limit goes out, and room
//! comes back at most one second late. Seconds are counted from an origin of the caller's, by `Instant`s only: the wall clock may
//! do what it likes.

/// 60 whole seconds and the one that has begun.
pub(crate) const SLOTS: u64 = 61;

/// What was counted, by how many seconds ago.
pub(crate) type ByAge = Vec<(u64, u64)>;

/// One sum over the last 60 seconds.
#[derive(Debug)]
pub(crate) struct Minute {
    slots: [u64; SLOTS as usize],
    sum: u64,
    /// The second of the newest slot.
    at: u64,
}

impl Minute {
    pub(crate) const fn new() -> Self {
        Minute {
            slots: [0; SLOTS as usize],
            sum: 0,
            at: 0,
        }
    }

    /// The newest second it has seen.
    pub(crate) fn second(&self) -> u64 {
        self.at
    }

    /// What is counted.
    pub(crate) fn sum(&self) -> u64 {
        self.sum
    }

    fn slot(&mut self, second: u64) -> &mut u64 {
        &mut self.slots[(second % SLOTS) as usize]
    }

    /// It is now this second; an earlier one than before changes nothing.
    pub(crate) fn advance(&mut self, second: u64) {
        for passed in (self.at + 1)..=second.min(self.at + SLOTS) {
            let old = std::mem::take(self.slot(passed));
            self.sum = self.sum.saturating_sub(old);
        }
        self.at = self.at.max(second);
    }

    /// Seconds until `amount` more fits; 0: it does. What is larger than the limit fits into an empty window.
    pub(crate) fn wait(&self, amount: u64, limit: u64) -> u64 {
        let mut sum = self.sum;
        let fits = |sum: u64| sum == 0 || sum.saturating_add(amount) <= limit;
        // The slot forgotten after `wait` more seconds is the one that many after the oldest.
        for wait in 0..SLOTS {
            if fits(sum) {
                return wait;
            }
            sum = sum.saturating_sub(self.slots[((self.at + wait + 1) % SLOTS) as usize]);
        }
        SLOTS
    }

    /// Seconds until nothing is counted any more.
    pub(crate) fn empties(&self) -> u64 {
        self.wait(1, 0)
    }

    /// Counts in the newest second.
    pub(crate) fn add(&mut self, amount: u64) {
        let at = self.at;
        let slot = self.slot(at);
        *slot = slot.saturating_add(amount);
        self.sum = self.sum.saturating_add(amount);
    }

    /// What is counted, by how many seconds ago, without what is nothing.
    pub(crate) fn by_age(&self) -> ByAge {
        let age = |age: u64| (age, self.slots[((self.at + SLOTS - age) % SLOTS) as usize]);
        (0..SLOTS.min(self.at + 1))
            .map(age)
            .filter(|(_, amount)| *amount > 0)
            .collect()
    }

    /// Counts so many seconds ago.
    pub(crate) fn add_before(&mut self, age: u64, amount: u64) {
        let second = self.at.saturating_sub(age);
        if second + SLOTS <= self.at {
            return;
        }
        let slot = self.slot(second);
        *slot = slot.saturating_add(amount);
        self.sum = self.sum.saturating_add(amount);
    }

    /// Replaces what was added so many seconds ago.
    pub(crate) fn correct_before(&mut self, age: u64, was: u64, is: u64) {
        self.correct(self.at.saturating_sub(age), was, is);
    }

    /// Replaces what was added in a second that is still counted.
    pub(crate) fn correct(&mut self, second: u64, was: u64, is: u64) {
        if second + SLOTS <= self.at {
            return;
        }
        let slot = self.slot(second);
        let changed = slot.saturating_sub(was).saturating_add(is);
        let old = std::mem::replace(slot, changed);
        self.sum = self.sum.saturating_sub(old).saturating_add(changed);
    }
}

/// How much of a limit a request takes. Its wish comes from the client: what is larger takes all of it, and no more.
pub(crate) fn within(tokens: u64, limit: u64) -> u64 {
    tokens.min(limit.max(1))
}
