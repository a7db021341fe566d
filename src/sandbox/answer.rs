//! Bodies of answers: whole, or event by event with pace and faults.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use super::ask::Refusal;
use super::coding::Coder;
use super::counts::{Ended, Ticket};
use super::events::{Events, Writer};
use super::plan::Plan;
use super::script::{Fault, Script};
use super::steps::Steps;

/// Wait before a connection is broken, so that what was written before is on the wire.
const BREAK_AFTER: Duration = Duration::from_millis(5);

/// The body of an answer. Its [`Ticket`] ends with it.
pub enum Answer {
    /// Known and short.
    Whole(Option<Bytes>, Option<Ticket>),
    /// Piece by piece.
    Pieces(Box<Pieces>),
    /// The request's own body, back.
    Echo(Pin<Box<dyn Body<Data = Bytes, Error = io::Error> + Send>>),
}

impl Answer {
    /// A whole answer.
    pub fn whole(body: impl Into<Bytes>, ticket: Option<Ticket>) -> Answer {
        Answer::Whole(Some(body.into()), ticket)
    }
}

/// Where the pieces come from.
pub enum Source {
    /// From walking through a plan.
    Plan {
        /// The plan.
        plan: Arc<Plan>,
        /// How far we are.
        steps: Steps,
        /// Writes the dialect.
        writer: Box<dyn Writer>,
        /// Written and not sent.
        events: Events,
    },
    /// A whole answer that is not sent as one.
    Given(VecDeque<Bytes>),
}

/// How the body ends, apart from its last event.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As it should.
    Clean,
    /// Too early, without the transport noticing.
    Short,
    /// By breaking the connection.
    Broken,
}

/// A body sent piece by piece.
pub struct Pieces {
    source: Source,
    ticket: Ticket,
    pace: Duration,
    fault: Option<Fault>,
    coder: Option<Coder>,
    sleep: Option<Pin<Box<Sleep>>>,
    /// Pieces of the source sent.
    sent: u32,
    /// `fault=drip`: what is left of the current piece.
    dripping: Bytes,
    /// The next poll first lets the connection flush.
    flush: bool,
    /// A first piece is out.
    begun: bool,
    /// The next piece, while `sleep` lasts.
    waiting: Option<io::Result<Bytes>>,
    /// The wait before the connection is broken has begun.
    settled: bool,
    /// Set when nothing more comes from the source.
    ending: Option<Ending>,
    /// `ending` is carried out.
    over: bool,
}

impl Pieces {
    /// A body as the script wants it.
    pub fn new(source: Source, script: &Script, coder: Option<Coder>, ticket: Ticket) -> Pieces {
        Pieces {
            source,
            ticket,
            pace: script.pace,
            fault: script.fault,
            coder,
            sleep: None,
            sent: 0,
            dripping: Bytes::new(),
            flush: false,
            begun: false,
            waiting: None,
            settled: false,
            ending: None,
            over: false,
        }
    }

    /// The next piece, uncoded; `None` sets `ending`.
    fn piece(&mut self) -> Option<Bytes> {
        let Source::Plan {
            plan,
            steps,
            writer,
            events,
        } = &mut self.source
        else {
            return self.given();
        };
        loop {
            if let Some(event) = events.pop() {
                if let Some(ending) = struck(self.fault, self.sent) {
                    // The fault strikes instead of this event, which is dropped with all that would follow.
                    return self.strike(ending);
                }
                self.sent += 1;
                return Some(event);
            }
            if self.ending.is_some() {
                return None;
            }
            if steps.at_finish()
                && let Some(ending) = struck(self.fault, u32::MAX)
            {
                return self.strike(ending);
            }
            match steps.next(plan) {
                Some(step) => writer.step(plan, step, events),
                None => {
                    self.ending = Some(if self.fault == Some(Fault::Length) {
                        Ending::Broken
                    } else {
                        Ending::Clean
                    });
                }
            }
        }
    }

    fn given(&mut self) -> Option<Bytes> {
        let Source::Given(pieces) = &mut self.source else {
            return None;
        };
        let piece = pieces.pop_front();
        if piece.is_none() {
            self.ending = Some(match self.fault {
                Some(Fault::Cut(_) | Fault::Length) => Ending::Broken,
                Some(Fault::Stop(_)) => Ending::Short,
                _ => Ending::Clean,
            });
        }
        piece
    }

    fn strike(&mut self, ending: Ending) -> Option<Bytes> {
        self.ending = Some(ending);
        let Source::Plan {
            plan, writer, events, ..
        } = &mut self.source
        else {
            return None;
        };
        while events.pop().is_some() {}
        if let Some(Fault::Error(_)) = self.fault {
            writer.error(
                plan,
                &Refusal::new(503, "the sandbox was asked to fail in the stream"),
                events,
            );
        }
        self.fault = None;
        events.pop()
    }

    fn end(&mut self) -> Option<io::Result<Bytes>> {
        self.over = true;
        let ending = self.ending.unwrap_or(Ending::Clean);
        self.ticket.ended(if ending == Ending::Clean {
            Ended::Completed
        } else {
            Ended::Faulted
        });
        match (ending, self.coder.take()) {
            (Ending::Broken, _) => Some(Err(io::Error::other("the sandbox was asked to break this connection"))),
            (_, Some(coder)) => Some(coder.finish()),
            (_, None) => None,
        }
    }

    /// The next bytes to send, coded; `None` when `ending` is set.
    fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.dripping.is_empty() {
            let piece = self.piece()?;
            let coded = match &mut self.coder {
                Some(coder) => coder.event(&piece),
                None => Ok(piece),
            };
            match coded {
                Ok(coded) if self.fault == Some(Fault::Drip) => self.dripping = coded,
                coded => return Some(coded),
            }
        }
        self.flush = true;
        let one = self.dripping.len().min(1);
        Some(Ok(self.dripping.split_to(one)))
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if self.over {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut self.flush) {
                // The connection flushes whenever the body has nothing just now.
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            if let Some(piece) = self.waiting.take() {
                return Poll::Ready(Some(piece));
            }
            match self.next() {
                // The pace lies between pieces: not before the first, not after the last.
                Some(piece) if self.pace.is_zero() || !std::mem::replace(&mut self.begun, true) => {
                    return Poll::Ready(Some(piece));
                }
                Some(piece) => {
                    self.waiting = Some(piece);
                    self.sleep = Some(Box::pin(sleep(self.pace)));
                }
                None if self.ending == Some(Ending::Broken) && !std::mem::replace(&mut self.settled, true) => {
                    self.sleep = Some(Box::pin(sleep(BREAK_AFTER)));
                }
                None => return Poll::Ready(self.end()),
            }
        }
    }
}

/// Does the fault strike after so many events, and how does the body then end?
fn struck(fault: Option<Fault>, sent: u32) -> Option<Ending> {
    match fault {
        Some(Fault::Cut(after)) if sent >= after => Some(Ending::Broken),
        Some(Fault::Stop(after) | Fault::Error(after)) if sent >= after => Some(Ending::Short),
        _ => None,
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.get_mut() {
            Answer::Whole(body, ticket) => {
                if let Some(mut ticket) = ticket.take() {
                    ticket.ended(Ended::Completed);
                }
                Poll::Ready(body.take().map(|body| Ok(Frame::data(body))))
            }
            Answer::Pieces(pieces) => Poll::Ready(ready!(pieces.poll(cx)).map(|piece| piece.map(Frame::data))),
            Answer::Echo(body) => body.as_mut().poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Answer::Whole(body, _) => body.is_none(),
            Answer::Pieces(pieces) => pieces.over,
            Answer::Echo(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Answer::Whole(body, _) => SizeHint::with_exact(body.as_ref().map_or(0, |body| body.len() as u64)),
            Answer::Pieces(_) => SizeHint::default(),
            Answer::Echo(body) => body.size_hint(),
        }
    }
}
