//! The bounded wait for room: lines in which requests stand, in the order they came.
//!
//! An account has two lines: of requests that want to enter, and of attempts that want to reserve (which hold what the others wait
//! for, and so must not stand behind them). Who waits stands in one line of one account: the one that was in its way. Only the first
//! asks again: when something is given back, when its own time to try again has come, when it becomes the first. Newcomers that may wait
//! stand behind; those that may not ask at once, and may be lucky. Who is cancelled just leaves.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::clock::UnixMicros;

use super::account::Account;
use super::admission::{Barred, Chain, MAX_WAITING};
use super::metrics;
use super::refused::Refused;

/// Which line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// Of requests that want to enter.
    Enter,
    /// Of attempts that want to reserve.
    Reserve,
}

/// The lines of an account.
#[derive(Default)]
pub(super) struct Lines {
    lines: Mutex<[Waiting; 2]>,
    /// How many stand in each: giving back costs one load where nobody waits.
    lengths: [AtomicUsize; 2],
}

#[derive(Default)]
struct Waiting {
    line: VecDeque<Arc<Notify>>,
    /// What was last in the way of its first.
    why: Option<Refused>,
}

impl Lines {
    fn is_busy(&self, line: Line) -> bool {
        // In order with the account's lock, which both sides take: either who joined sees what was given back, or who gave back
        // sees who joined.
        self.lengths[line as usize].load(Ordering::SeqCst) > 0
    }

    /// Something was given back: the first may ask again. Called without the account's lock.
    pub(super) fn wake(&self, line: Line) {
        if self.is_busy(line)
            && let Some(first) = self.lines.lock()[line as usize].line.front()
        {
            first.notify_one();
        }
    }

    pub(super) fn wake_all(&self) {
        self.wake(Line::Enter);
        self.wake(Line::Reserve);
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> usize {
        self.lengths.iter().map(|length| length.load(Ordering::SeqCst)).sum()
    }
}

/// A place in a line, left when dropped.
struct Place {
    account: Arc<Account>,
    line: Line,
    turn: Arc<Notify>,
}

impl Place {
    /// At the end of the line; `None`: too many wait at this account.
    fn join(account: &Arc<Account>, line: Line) -> Option<Place> {
        let turn = Arc::new(Notify::new());
        {
            let mut lines = account.lines.lines.lock();
            if lines.iter().map(|waiting| waiting.line.len()).sum::<usize>() >= MAX_WAITING {
                return None;
            }
            lines[line as usize].line.push_back(turn.clone());
            account.lines.lengths[line as usize].fetch_add(1, Ordering::SeqCst);
        }
        metrics::waits(1);
        let account = account.clone();
        Some(Place { account, line, turn })
    }

    fn is_first(&self) -> bool {
        let lines = self.account.lines.lines.lock();
        let first = lines[self.line as usize].line.front();
        first.is_some_and(|first| Arc::ptr_eq(first, &self.turn))
    }

    /// Says why the first, which this one is, still waits.
    fn explain(&self, why: &Refused) {
        self.account.lines.lines.lock()[self.line as usize].why = Some(why.clone());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        {
            let mut lines = self.account.lines.lines.lock();
            let waiting = &mut lines[self.line as usize];
            if let Some(index) = waiting.line.iter().position(|turn| Arc::ptr_eq(turn, &self.turn)) {
                waiting.line.remove(index);
                self.account.lines.lengths[self.line as usize].fetch_sub(1, Ordering::SeqCst);
                // The next one is the first now. There may be room for it too.
                if index == 0
                    && let Some(first) = waiting.line.front()
                {
                    first.notify_one();
                }
            }
        }
        metrics::waits(-1);
    }
}

fn why(account: &Account, line: Line) -> Option<Refused> {
    account.lines.lines.lock()[line as usize].why.clone()
}

/// Asks until it gets in, `wait` has passed, or nothing will help within it. The time it began is told by
/// both clocks; while it waits both go on by `Instant`.
pub(super) async fn within<T>(
    chain: &Chain,
    line: Line,
    wait: Duration,
    (began_at, began): (UnixMicros, Instant),
    mut ask: impl FnMut(UnixMicros, Instant) -> Result<T, Barred>,
) -> Result<T, Barred> {
    let asked = Instant::now();
    let mut place: Option<Place> = None;
    loop {
        let passed = asked.elapsed();
        let left = wait.saturating_sub(passed);
        let micros = i64::try_from(passed.as_micros()).unwrap_or(i64::MAX);
        let (at, now) = (UnixMicros(began_at.0.saturating_add(micros)), began + passed);
        if place.is_none()
            && !wait.is_zero()
            && let Some(account) = chain.accounts().find(|account| account.lines.is_busy(line))
        {
            place = Place::join(account, line);
            if place.is_none()
                && let Some(why) = why(account, line)
            {
                return Err(Barred::Limit(why));
            }
        }
        let is_turn = place.as_ref().is_none_or(Place::is_first);
        let mut pause = left;
        if is_turn {
            let refused = match ask(at, now) {
                Ok(got) => return Ok(got),
                Err(Barred::HandedOver) => return Err(Barred::HandedOver),
                Err(Barred::Limit(refused)) => refused,
            };
            if left.is_zero() || !refused.may_pass_within(left) {
                return Err(Barred::Limit(refused));
            }
            match &place {
                Some(place) if *place.account.id() == refused.account => place.explain(&refused),
                _ => {
                    // Something may have been given back before it stood there: it asks once more.
                    drop(place.take());
                    let account = chain.accounts().find(|account| *account.id() == refused.account);
                    place = account.and_then(|account| Place::join(account, line));
                    let Some(place) = &place else {
                        return Err(Barred::Limit(refused));
                    };
                    if place.is_first() {
                        place.explain(&refused);
                    }
                    continue;
                }
            }
            pause = refused.retry_after.unwrap_or(left).min(left);
        } else if left.is_zero() {
            let place = place.take();
            let why = place.as_ref().and_then(|place| why(&place.account, line));
            return match why {
                Some(why) => Err(Barred::Limit(why)),
                None => ask(at, now),
            };
        }
        if let Some(place) = &place {
            // Either way it looks again.
            let _ = tokio::time::timeout(pause, place.turn.notified()).await;
        }
    }
}
