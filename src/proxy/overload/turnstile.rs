//! Lets so many requests in for each round of a thread's work, so that what it has begun it ends soon.
//!
//! A thread runs whatever is ready in turn; let in without bound, a thousand requests go through it abreast, step by step, each step with
//! memory that was last looked at a thousand steps ago, and who streams an answer waits for all of them. So here they stand in line, at
//! the price of a few words each, and a task lets the next ones in whenever everything that was ready has had its turn.
//!
//! Where the first in line has waited too long, a part of those who come is refused: the larger the longer it has waited, so that the line
//! settles, and nobody has to wait for its end while the thread is idle. A burst is no overload: only a line that did not become empty for
//! a while has the shorter bound, as in CoDel (RFC 8289, section 4.4) and its use for requests (Maurer, "Fail at Scale", ACM Queue 13(8)).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// The first in line may wait so many targets, until the line has stood for as long: then one.
const BURST: u32 = 20;
/// No line is longer.
const LONGEST_LINE: usize = 16_384;

/// The turnstile of one thread (of one service, where several threads share it).
pub struct Turnstile {
    target: Duration,
    state: Mutex<State>,
    /// Somebody went through, or stands in line.
    used: Notify,
    runs: AtomicBool,
}

struct State {
    line: VecDeque<Waiting>,
    /// Since when there is somebody in it.
    stands: Option<Instant>,
    /// Let in this round …
    passed: usize,
    /// … of so many.
    each: usize,
    /// Refused this round.
    refused: usize,
    /// What is left of earlier decisions, so that refusals are spread evenly.
    carried: f64,
}

struct Waiting {
    since: Instant,
    go: oneshot::Sender<()>,
}

/// Refused: the line is too slow.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLate;

impl Turnstile {
    /// The line is too slow where its first has waited for longer than `target`.
    pub fn new(target: Duration) -> Arc<Self> {
        Arc::new(Turnstile {
            target,
            state: Mutex::new(State {
                line: VecDeque::new(),
                stands: None,
                passed: 0,
                each: EACH,
                refused: 0,
                carried: 0.0,
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
        let since = Instant::now();
        let _counted = metrics::InLine::begin();
        // Not answered: the runtime ends.
        turn.await.map_err(|_| TooLate)?;
        metrics::stood(since.elapsed());
        Ok(())
    }

    /// `None`: it is in.
    fn enter(&self) -> Result<Option<oneshot::Receiver<()>>, TooLate> {
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
        let now = Instant::now();
        if state.refuses(now, self.target) || state.line.len() >= LONGEST_LINE {
            state.refused += 1;
            return Err(TooLate);
        }
        let (go, turn) = oneshot::channel();
        state.stands.get_or_insert(now);
        state.line.push_back(Waiting { since: now, go });
        drop(state);
        self.used.notify_one();
        Ok(Some(turn))
    }

    /// Lets the next in line in; gives whether there were any.
    fn begin_round(&self) -> bool {
        let mut state = self.state.lock();
        state.each = (state.refused / REFUSED_FOR_ONE).clamp(EACH, MOST);
        (state.passed, state.refused) = (0, 0);
        while state.passed < state.each
            && let Some(next) = state.line.pop_front()
        {
            // Who left does not count.
            state.passed += usize::from(next.go.send(()).is_ok());
        }
        if state.line.is_empty() {
            state.stands = None;
        }
        state.passed > 0
    }
}

impl State {
    /// Is this one of those to be refused?
    fn refuses(&mut self, now: Instant, target: Duration) -> bool {
        let Some(first) = self.line.front() else { return false };
        let stood = self.stands.map_or(Duration::ZERO, |since| now.duration_since(since));
        let bound = if stood > target * BURST { target } else { target * BURST };
        self.carried += part(now.duration_since(first.since), bound);
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
        while turnstile.begin_round() {
            // Runs again when all that was ready has had its turn.
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;

    const TARGET: Duration = Duration::from_secs(1);

    /// A turnstile whose line has stood for so long, as its first has waited.
    fn with_line(stood: Duration, waited: Duration) -> Arc<Turnstile> {
        let turnstile = Turnstile::new(TARGET);
        let now = Instant::now();
        let mut state = turnstile.state.lock();
        state.stands = now.checked_sub(stood);
        let since = now.checked_sub(waited).unwrap();
        state.line.push_back(Waiting {
            since,
            go: oneshot::channel().0,
        });
        drop(state);
        turnstile
    }

    fn refused_of(turnstile: &Turnstile, many: usize) -> usize {
        (0..many).filter(|_| turnstile.enter().is_err()).count()
    }

    #[test]
    fn each_round_so_many_are_let_in_and_the_others_in_their_order() {
        let turnstile = Turnstile::new(TARGET);
        for _ in 0..EACH {
            assert!(turnstile.enter().unwrap().is_none(), "at once");
        }
        let mut line: Vec<_> = (0..EACH + 2).map(|_| turnstile.enter().unwrap().unwrap()).collect();
        drop(line.remove(1));
        assert!(turnstile.begin_round());
        let in_now: Vec<_> = line.iter_mut().map(|turn| turn.try_recv().is_ok()).collect();
        assert_eq!(
            in_now,
            [vec![true; EACH], vec![false]].concat(),
            "who left took nobody's place"
        );
        assert!(turnstile.enter().unwrap().is_some(), "behind the others");
        assert!(turnstile.begin_round());
        assert!(!turnstile.begin_round(), "nobody is left");
        assert!(turnstile.enter().unwrap().is_none());
    }

    #[test]
    fn the_longer_the_first_has_waited_the_more_are_refused() {
        let stood = TARGET * BURST * 2;
        for (waited, percent) in [(500, 0), (900, 0), (1_500, 50), (1_800, 80), (3_000, 100)] {
            let turnstile = with_line(stood, Duration::from_millis(waited));
            let refused = refused_of(&turnstile, 200);
            assert!(refused.abs_diff(percent * 2) <= 20, "{waited} ms: {refused} of 200");
        }
    }

    #[test]
    fn a_burst_may_wait_longer() {
        let waited = TARGET * (BURST - 5);
        assert_eq!(refused_of(&with_line(waited, waited), 100), 0);
        let waited = TARGET * BURST * 3;
        assert_eq!(refused_of(&with_line(waited, waited), 100), 100);
    }

    #[test]
    fn refusing_does_not_take_all_the_time() {
        let turnstile = with_line(TARGET * BURST * 2, TARGET * 3);
        let refused = refused_of(&turnstile, 400);
        let line = (0..200).map(|_| {
            let (go, turn) = oneshot::channel();
            turnstile.state.lock().line.push_back(Waiting {
                since: Instant::now(),
                go,
            });
            turn
        });
        let mut line: Vec<_> = line.collect();
        turnstile.begin_round();
        let let_in = line.iter_mut().filter_map(|turn| turn.try_recv().ok()).count();
        assert_eq!(let_in, refused / REFUSED_FOR_ONE);
        turnstile.begin_round();
        assert_eq!(line.iter_mut().filter_map(|turn| turn.try_recv().ok()).count(), EACH);
    }

    #[tokio::test]
    async fn what_is_under_way_has_its_turn_between_those_let_in() {
        let turnstile = Turnstile::new(Duration::from_secs(10));
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
