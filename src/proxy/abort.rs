//! What follows when a client goes away while its answer is under way: the provider is cut off at once, or its answer is read on for a
//! while, unseen, for the exact usage (`on_abort`). Either way its row says `client_gone`. An answer which the provider is done with, but
//! for its last bytes, is read on for a moment in any case: cutting it off saves nothing, and leaving just before usage is told would
//! hide the reasoning that was never shown.
//!
//! The gate notices (`gate/drain.rs`), and what is decided stands in [`Held`]. An answer that is read on keeps its seat, and its key's place among
//! the requests under way. It is over with its end, its deadline or the provider's failure, whichever comes first; it
//! then ends with the very error it would have ended with at once, so that nothing else need know. No attempt begins for a client
//! that is gone: before each, [`is_gone`] looks.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::Duration;

use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use tokio::time::Instant;

use crate::config::OnAbort;
use crate::translate::{AnswerKind, Coding};

use super::Gateway;
use super::context::RequestContext;
use super::gate::GateControl;
use super::held::Held;
use super::metrics::{self, Drained};

/// How long an answer is read on that is all but over, whatever `on_abort` says.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How many answers may be read on at once (`limits.drains`).
pub struct Drains {
    most: usize,
    now: AtomicUsize,
}

impl Drains {
    /// So many at once.
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Drains {
            most,
            now: AtomicUsize::new(0),
        })
    }

    fn begin(self: &Arc<Self>) -> Option<Drain> {
        let more = |now| (now < self.most).then_some(now + 1);
        self.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Drain(self.clone()))
    }
}

/// One of them, until dropped.
struct Drain(Arc<Drains>);

impl Drop for Drain {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is to become of this request's answer, should its client go away.
pub struct Policy {
    /// By its route, else by the configuration.
    pub on_abort: OnAbort,
    /// The room there is.
    pub drains: Arc<Drains>,
}

impl Policy {
    /// That of the route whose candidate is asked.
    pub fn of(gateway: &Gateway, ctx: &RequestContext) -> Self {
        let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
        Policy {
            on_abort: route
                .and_then(|route| route.on_abort)
                .unwrap_or(gateway.config.timeouts.on_abort),
            drains: gateway.drains.clone(),
        }
    }
}

/// The client is gone, and the answer is read on.
pub struct Gone {
    until: Instant,
    _drain: Drain,
}

impl Held {
    /// The client is gone. Until when its answer is read on all the same; `None`: it is not.
    pub(super) fn leave(&mut self) -> Option<Instant> {
        if self.gone.is_some() {
            return self.gone_until();
        }
        let Policy { on_abort, drains } = self.policy.as_ref()?;
        let time = match on_abort {
            OnAbort::Drain(time) => *time,
            OnAbort::Abort if self.is_all_but_over() => LAST_WORDS,
            OnAbort::Abort => return None,
        };
        // There is no usage to be read in it.
        let unread = |answer: &crate::translate::AnswerStream| {
            answer.plan().kind == AnswerKind::Opaque || answer.plan().coding == Coding::Unknown
        };
        if self.ended.is_some() || self.expired.is_some() || self.answer.as_ref().is_some_and(unread) {
            return None;
        }
        let Some(drain) = drains.begin() else {
            metrics::drained(Drained::Full);
            return None;
        };
        let mut until = Instant::now() + time;
        if let Some(clocks) = &self.clocks {
            until = until.min(clocks.total);
        }
        self.gone = Some(Gone { until, _drain: drain });
        Some(until)
    }

    /// The provider has nothing more to do for the answer, and has not told what it used: its stream has its end, or an answer that is made
    /// before it is sent is on its way.
    fn is_all_but_over(&self) -> bool {
        self.answer.as_ref().is_some_and(|answer| {
            let meter = answer.meter();
            let done = match answer.plan().kind {
                AnswerKind::Stream(_) => meter.finish.is_some(),
                AnswerKind::Whole => self.received > 0,
                AnswerKind::Error | AnswerKind::Opaque => false,
            };
            done && meter.usage.is_none()
        })
    }

    /// The client is gone, and the answer is read on until then.
    pub(super) fn gone_until(&self) -> Option<Instant> {
        self.gone.as_ref().map(|gone| gone.until)
    }

    /// The client is gone, and the answer is read on.
    pub fn is_gone(&self) -> bool {
        self.gone.is_some()
    }
}

/// The client is gone, and its answer is read on.
pub fn drains(ctx: &RequestContext) -> bool {
    ctx.gate.as_ref().is_some_and(|gate| gate.lock().is_gone())
}

/// What a request ends with whose client went away.
pub(super) fn gone() -> Box<Error> {
    Error::explain(ErrorType::ConnectionClosed, "the client went away").into_down()
}

/// Looks whether the client is gone already, without waiting: nobody watches it while a provider is chosen, a connection made, or room waited
/// for.
pub async fn is_gone(session: &mut Session, ctx: &RequestContext) -> bool {
    let Some(gate) = &ctx.gate else { return false };
    let _looking = Looking::begin(gate);
    let mut read = pin!(session.downstream_session.read_body_or_idle(true));
    poll_fn(|context| Poll::Ready(read.as_mut().poll(context).is_ready())).await
}

/// Waits until the client is gone; for ever, where nobody could tell. May be dropped at any time.
pub(super) async fn leaves(session: &mut Session, gate: Option<&GateControl>) {
    let Some(gate) = gate else {
        return std::future::pending().await;
    };
    let _looking = Looking::begin(gate);
    // What comes before the answer went out is the end of the connection, or as good as that.
    let _ = session.downstream_session.read_body_or_idle(true).await;
}

/// The gate lets reads of its client through, until dropped.
struct Looking<'a>(&'a GateControl);

impl<'a> Looking<'a> {
    fn begin(gate: &'a GateControl) -> Self {
        gate.lock().looking = true;
        Looking(gate)
    }
}

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.lock().looking = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_many_answers_are_read_on_at_once() {
        let drains = Drains::new(2);
        let held = || Held {
            policy: Some(Policy {
                on_abort: OnAbort::Drain(std::time::Duration::from_secs(5)),
                drains: drains.clone(),
            }),
            ..Held::default()
        };
        let (mut first, mut second, mut third) = (held(), held(), held());
        assert!(first.leave().is_some() && second.leave().is_some());
        assert!(third.leave().is_none());
        assert!(first.leave().is_some(), "it has its room");
        drop(second);
        assert!(third.leave().is_some());
        assert_eq!(drains.now.load(Ordering::Relaxed), 2);
        drop((first, third));
        assert_eq!(drains.now.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_answer_all_but_over_is_read_on_for_a_moment() {
        const TEXT: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
        const END: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
        let stream = AnswerKind::Stream(crate::sse::Framing::Sse);
        for (kind, chunks, want) in [
            (stream, &[TEXT][..], false),
            (stream, &[TEXT, END], true),
            (stream, &[TEXT, END, USAGE], false),
            (AnswerKind::Whole, &[], false),
            (AnswerKind::Whole, &["{"], true),
            (AnswerKind::Error, &["{"], false),
        ] {
            let plan = crate::translate::stream::tests::plan("openai_chat", kind);
            let answer = crate::translate::AnswerStream::new(plan);
            let drains = Drains::new(1);
            let mut held = Held {
                policy: Some(Policy {
                    on_abort: OnAbort::Abort,
                    drains: drains.clone(),
                }),
                answer: Some(answer),
                ..Held::default()
            };
            for chunk in chunks {
                held.take_chunk(bytes::Bytes::from_static(chunk.as_bytes()));
            }
            let now = Instant::now();
            let until = held.leave();
            assert_eq!(until.is_some(), want, "{kind:?} {chunks:?}");
            assert!(
                until.is_none_or(|until| until >= now + LAST_WORDS),
                "{kind:?} {chunks:?}"
            );
            assert_eq!(drains.now.load(Ordering::Relaxed), usize::from(want));
        }
    }

    #[test]
    fn it_is_read_on_only_where_that_can_tell_something() {
        let policy = |on_abort| {
            Some(Policy {
                on_abort,
                drains: Drains::new(1),
            })
        };
        let drain = OnAbort::Drain(std::time::Duration::from_secs(5));
        let mut abort = Held {
            policy: policy(OnAbort::Abort),
            ..Held::default()
        };
        assert!(abort.leave().is_none());
        assert!(Held::default().leave().is_none(), "no attempt began");
        let mut over = Held {
            policy: policy(drain),
            ended: Some(crate::ir::StreamEnd::Complete),
            ..Held::default()
        };
        assert!(over.leave().is_none());
    }
}
