//! Lets so many requests in for each round of a thread's work, so that what it has begun it ends soon.
//!
//! A thread runs whatever is ready in turn; let in without bound, a thousand requests go through it abreast, step by step, each step with
//! memory that was last looked at a thousand steps ago, and who streams an answer waits for all of them. So here they stand in line, at
//! the price of a few words each, and a task lets the next ones in whenever everything that was ready has had its turn.
//!
//! Where the first in line has waited too long, a part of those who come is refused: the larger the longer it has waited, so that the line
//! settles, and nobody has to wait for its end while the thread is idle. A burst is no overload: the bound is the shorter one only
//! after the first in line was too late for a while, until it no longer was for as long (after CoDel, RFC 8289, section 4.4, and its use for requests:
//! Maurer, "Fail at Scale", ACM Queue 13(8)).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::proxy::metrics;

use super::lag;

/// So many are let in a round …
const EACH: usize = 8;
/// … and where more are refused in one, one for each so many, lest refusing takes all the time …
const REFUSED_FOR_ONE: usize = 4;
/// … but never more than so many.
const MOST: usize = 256;
/// In a burst the first in line may wait for so long, or the target if that is longer; it is one for as long.
const BURST: Duration = Duration::from_secs(2);
/// No line is longer.
const LONGEST_LINE: usize = 16_384;

/// The turnstile of one service: of one thread, or of several that share its work.
pub struct Turnstile {
    target: Duration,
    /// Let in each round by all threads together, at least.
    fewest: usize,
    state: Mutex<State>,
    /// Somebody went through, or stands in line.
    used: Notify,
    runs: AtomicBool,
}

#[derive(Default)]
struct State {
    line: VecDeque<Waiting>,
    /// Let in this round …
    passed: usize,
    /// … of so many.
    each: usize,
    /// Refused this round …
    refused: usize,
    /// … this part of those who came.
    part: f64,
    /// What is left of earlier decisions, so that refusals are spread evenly.
    carried: f64,
    /// Since when the first in line was too late, each round.
    late_since: Option<Instant>,
    /// When it last was.
    late_last: Option<Instant>,
    /// It is no burst.
    stands: bool,
}

struct Waiting {
    since: Instant,
    /// Told how long it has waited.
    go: oneshot::Sender<Duration>,
}

/// Refused: the line is too slow.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLate;

impl Turnstile {
    /// The line is too slow where its first has waited for longer than `target`. `threads` share the service's work.
    pub fn new(target: Duration, threads: usize) -> Arc<Self> {
        let fewest = (EACH * threads.max(1)).min(MOST);
        Arc::new(Turnstile {
            target,
            fewest,
            state: Mutex::new(State {
                each: fewest,
                ..State::default()
            }),
            used: Notify::new(),
            runs: AtomicBool::new(false),
        })
    }

    /// Lets a request in, at once or when it is its turn.
    pub async fn pass(self: &Arc<Self>) -> Result<(), TooLate> {
        if !self.runs.load(Ordering::Relaxed) && !self.runs.swap(true, Ordering::AcqRel) {
            tokio::spawn(rounds(self.clone()));
            tokio::spawn(lag::measure());
        }
        let Some(turn) = self.enter()? else { return Ok(()) };
        let _counted = metrics::InLine::begin();
        // Not answered: the runtime ends.
        metrics::stood(turn.await.map_err(|_| TooLate)?);
        Ok(())
    }

    /// `None`: it is in.
    fn enter(&self) -> Result<Option<oneshot::Receiver<Duration>>, TooLate> {
        let mut state = self.state.lock();
        if state.line.is_empty() && state.passed < state.each {
            state.passed += 1;
            let told = state.passed == state.each / 2;
            drop(state);
            if told {
                self.used.notify_one();
            }
            return Ok(None);
        }
        if state.refuses() || state.line.len() >= LONGEST_LINE {
            state.refused += 1;
            return Err(TooLate);
        }
        let (go, turn) = oneshot::channel();
        let since = Instant::now();
        state.line.push_back(Waiting { since, go });
        drop(state);
        self.used.notify_one();
        Ok(Some(turn))
    }

    /// Lets the next in line in; gives whether there were any.
    fn begin_round(&self, now: Instant) -> bool {
        let mut state = self.state.lock();
        let waited = state.line.front().map(|first| now.duration_since(first.since));
        state.look(waited.unwrap_or_default(), now, self.target);
        state.each = (state.refused / REFUSED_FOR_ONE).clamp(self.fewest, MOST);
        (state.passed, state.refused) = (0, 0);
        while state.passed < state.each
            && let Some(next) = state.line.pop_front()
        {
            // Who left does not count.
            state.passed += usize::from(next.go.send(now.duration_since(next.since)).is_ok());
        }
        state.passed > 0
    }
}

impl State {
    /// Which part is refused from now on, as the first in line has waited for so long. Only rounds look: a thread that stood still
    /// is not taken for one with too much to do.
    fn look(&mut self, waited: Duration, now: Instant, target: Duration) {
        let long_ago = |at: Instant| now.duration_since(at) > target.max(BURST);
        if waited > target {
            self.late_since.get_or_insert(now);
            self.late_last = Some(now);
        } else {
            self.late_since = None;
        }
        if self.late_since.is_some_and(long_ago) {
            self.stands = true;
        } else if self.late_last.is_none_or(long_ago) {
            self.stands = false;
        }
        self.part = part(waited, if self.stands { target } else { target.max(BURST) });
    }

    /// Is this one of those to be refused?
    fn refuses(&mut self) -> bool {
        self.carried += self.part;
        let refused = self.carried >= 1.0;
        self.carried -= f64::from(u8::from(refused));
        refused
    }
}

/// The part of those who come that is refused, where the first in line has waited for so long: none up to `bound`, all from twice that.
fn part(waited: Duration, bound: Duration) -> f64 {
    (waited.as_secs_f64() / bound.as_secs_f64() - 1.0).clamp(0.0, 1.0)
}

async fn rounds(turnstile: Arc<Turnstile>) {
    loop {
        turnstile.used.notified().await;
        while turnstile.begin_round(Instant::now()) {
            all_have_had_their_turn().await;
        }
    }
}

/// Resolves when all that was ready has had its turn.
async fn all_have_had_their_turn() {
    // New events are looked at first …
    tokio::task::yield_now().await;
    // … but a runtime of several threads then runs this task before what is ready. Who wakes himself stands behind it.
    let mut first = true;
    std::future::poll_fn(|context| {
        if std::mem::take(&mut first) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    const TARGET: Duration = Duration::from_millis(10);
    const LONG: Duration = BURST.saturating_add(TARGET);

    fn turnstile() -> Arc<Turnstile> {
        Turnstile::new(TARGET, 1)
    }

    /// One more in line, at this time.
    fn join(turnstile: &Turnstile, since: Instant) -> oneshot::Receiver<Duration> {
        let (go, turn) = oneshot::channel();
        turnstile.state.lock().line.push_back(Waiting { since, go });
        turn
    }

    /// A round in which the first in line has waited for so long; in percent, who is refused after it.
    fn round(turnstile: &Turnstile, waited: Duration, now: Instant) -> usize {
        turnstile.state.lock().line.clear();
        let since = now.checked_sub(waited).unwrap();
        let _turns: Vec<_> = (0..100).map(|_| join(turnstile, since)).collect();
        turnstile.begin_round(now);
        (0..100).filter(|_| turnstile.enter().is_err()).count()
    }

    #[test]
    fn each_round_so_many_are_let_in_and_the_others_in_their_order() {
        let turnstile = turnstile();
        for _ in 0..EACH {
            assert!(turnstile.enter().unwrap().is_none(), "at once");
        }
        let mut line: Vec<_> = (0..EACH + 2).map(|_| turnstile.enter().unwrap().unwrap()).collect();
        drop(line.remove(1));
        let now = turnstile.state.lock().line[0].since;
        assert!(turnstile.begin_round(now));
        let in_now: Vec<_> = line.iter_mut().map(|turn| turn.try_recv().is_ok()).collect();
        assert_eq!(
            in_now,
            [vec![true; EACH], vec![false]].concat(),
            "who left took nobody's place"
        );
        assert!(turnstile.enter().unwrap().is_some(), "behind the others");
        assert!(turnstile.begin_round(now));
        assert!(!turnstile.begin_round(now), "nobody is left");
        assert!(turnstile.enter().unwrap().is_none());
    }

    #[test]
    fn the_longer_the_first_has_waited_the_more_are_refused() {
        let turnstile = turnstile();
        let now = Instant::now();
        assert_eq!(round(&turnstile, TARGET * 2, now), 0, "a burst");
        let half = round(&turnstile, BURST * 3 / 2, now);
        assert!(half.abs_diff(50) <= 1, "too long for a burst");
        let now = now + LONG;
        for (waited, percent) in [
            (TARGET * 3 / 2, 50),
            (TARGET, 0),
            (TARGET * 9 / 5, 80),
            (TARGET * 3, 100),
        ] {
            assert!(round(&turnstile, waited, now).abs_diff(percent) <= 1, "{waited:?}");
        }
    }

    #[test]
    fn it_is_a_burst_again_when_nobody_was_late_for_a_while() {
        let turnstile = turnstile();
        let mut now = Instant::now();
        round(&turnstile, TARGET * 2, now);
        now += LONG;
        assert_eq!(round(&turnstile, TARGET * 2, now), 100);
        assert_eq!(round(&turnstile, Duration::ZERO, now), 0);
        now += TARGET;
        assert_eq!(
            round(&turnstile, TARGET * 2, now),
            100,
            "a line that was empty once stands all the same"
        );
        now += LONG;
        assert_eq!(round(&turnstile, Duration::ZERO, now), 0);
        assert_eq!(round(&turnstile, TARGET * 2, now), 0);
    }

    #[test]
    fn refusing_does_not_take_all_the_time() {
        let turnstile = turnstile();
        let now = Instant::now();
        round(&turnstile, TARGET * 3, now);
        assert_eq!(round(&turnstile, TARGET * 3, now + LONG), 100);
        let mut line: Vec<_> = (0..200).map(|_| join(&turnstile, now)).collect();
        turnstile.begin_round(now + LONG);
        let mut let_in = || line.iter_mut().filter_map(|turn| turn.try_recv().ok()).count();
        assert_eq!(let_in(), 100 / REFUSED_FOR_ONE);
        turnstile.begin_round(now + LONG);
        assert_eq!(let_in(), EACH);
    }

    #[tokio::test]
    async fn what_is_under_way_has_its_turn_between_those_let_in() {
        let turnstile = Turnstile::new(Duration::from_secs(10), 1);
        let seen = Rc::new(RefCell::new(Vec::new()));
        let all = tokio::task::LocalSet::new();
        let streams = {
            let seen = seen.clone();
            all.spawn_local(async move {
                loop {
                    seen.borrow_mut().push(None);
                    tokio::task::yield_now().await;
                }
            })
        };
        for number in 0..100 {
            let (turnstile, seen) = (turnstile.clone(), seen.clone());
            all.spawn_local(async move {
                turnstile.pass().await.unwrap();
                seen.borrow_mut().push(Some(number));
            });
        }
        let enough = async {
            while seen.borrow().iter().flatten().count() < 100 {
                tokio::task::yield_now().await;
            }
        };
        all.run_until(enough).await;
        streams.abort();
        let seen = seen.borrow();
        assert!(seen.iter().flatten().copied().eq(0..100), "in their order");
        let most = seen.split(Option::is_none).map(<[_]>::len).max();
        assert!(most.unwrap() <= 2 * EACH, "{most:?} in a row");
    }
}
