//! What the gate holds for one request: the body to replay, the answer on its way, the clocks. Shared by the gate, which
//! stands between Pingora and the client, and the phases, which know what the answer is.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession as HttpSession;
use tokio::time::Instant;

use crate::dialects::Dialect;
use crate::ir::{ApiError, ErrorKind, LossReport, StreamEnd, Usage};
use crate::ledger::Closed;
use crate::money::NanoUsd;
use crate::observe::redact::Masker;
use crate::sse::Framing;
use crate::translate::{AnswerKind, AnswerStream};

use super::abort::{Gone, Policy};
use super::bill::Bill;
use super::byte_budget::BytePermit;
use super::ending;
use super::large_answer::BrokenOff;
use super::logging::extras;

/// What conversion could not carry, in an answer's header.
const LOSS: &str = "x-tollgate-loss";

/// What the client is charged, in dollars.
const COST: &str = "x-tollgate-cost-usd";

/// Most of a stream's beginning that is held back while it has no content, in bytes.
pub const HOLD_STREAM: usize = 64 * 1024;

/// An answer is given so long before its pace is looked at, and looked at again as often.
const PACE_AFTER: Duration = Duration::from_secs(10);

/// When the held answer may go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// With the first event of a stream that has content, with any once [`Clocks::commit`] is over, or with [`HOLD_STREAM`] bytes.
    #[default]
    Content,
    /// At its end, with an exact Content-Length, or when [`HOLD_WHOLE`](super::gate::HOLD_WHOLE) is exceeded.
    AtEnd,
    /// At once.
    Now,
}

/// Which of our clocks ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    /// No header of an answer came in time.
    FirstByte,
    /// The provider fell silent within its answer.
    Idle,
    /// Its answer came too slowly to be worth waiting for, while there was another to ask.
    Pace,
    /// The whole exchange took too long.
    Total,
    /// The process ends.
    Ending,
}

/// What is due next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// A clock runs out: the attempt ends.
    Expired(Expired),
    /// The client has heard nothing for long: a ping.
    Ping,
    /// The pace is to be looked at.
    Pace,
    /// It is to be looked whether the process ends.
    Look,
}

/// The clocks of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Until the header of the answer.
    pub first_byte: Duration,
    /// Between two pieces of it.
    pub idle: Duration,
    /// How long the beginning of a stream is held back while it has no content.
    pub commit: Duration,
    /// Bytes a second below which an answer that is not worth sending yet is given up, while there is another to ask; 0: none.
    pub min_pace: usize,
    /// When the whole request must be over.
    pub total: Instant,
}

/// Who is answered, and how a silence is bridged.
#[derive(Clone, Copy)]
pub struct Listener {
    /// The client's dialect.
    pub dialect: &'static dyn Dialect,
    /// How its stream is framed.
    pub framing: Framing,
    /// What keeps it patient, if it asked for a stream and its dialect has something.
    pub ping: Option<&'static str>,
    /// After so much silence within an answer; `None`: never.
    pub ping_after: Option<Duration>,
    /// … and before its first event: from then on its status is 200, and a failure is told as an event.
    pub ping_before: Option<Duration>,
}

/// An answer which was read to its end before anybody could decide whether it is to be sent.
pub struct Unsent {
    /// Its header, as it would go out.
    pub header: Box<ResponseHeader>,
    /// Its body.
    pub body: Bytes,
}

/// What gate and phases share for one request.
#[derive(Default)]
pub struct Held {
    /// Request body of the current attempt.
    pub body: Bytes,
    /// The answer of the current attempt.
    pub answer: Option<AnswerStream>,
    /// When it may go out.
    pub release: Release,
    /// Something of it is on the wire: no other attempt may follow.
    pub committed: bool,
    /// A header of our own and a ping are on the wire: another attempt may follow, but the status is 200.
    pub opened: bool,
    /// Who is answered; `None`: nobody is to be pinged.
    pub listener: Option<Listener>,
    /// When something last went to the client, or the request began.
    pub last_sent: Option<Instant>,
    /// From when on a stream goes out with its next event, though it has no content.
    pub commit_at: Option<Instant>,
    /// When the answer's header came, and when its pace is looked at next.
    pub pace: Option<(Instant, Instant)>,
    /// There is another candidate to ask.
    pub others: bool,
    /// An error answer is to be judged before it is sent.
    pub judge: bool,
    /// An answer that ended where nobody could judge it.
    pub unsent: Option<Unsent>,
    /// The end of the answer was seen and its tail was given out.
    pub ended: Option<StreamEnd>,
    /// The connection was to be closed when the request came; [`Held::closes`] says whether it is now.
    pub close: bool,
    /// Clocks; `None` until an attempt begins.
    pub clocks: Option<Clocks>,
    /// When the attempt began, or the provider last sent something.
    pub last_activity: Option<Instant>,
    /// The header of the answer came.
    pub answered: bool,
    /// When it is looked again whether the process ends; `None` until an attempt begins.
    pub(super) look_at: Option<Instant>,
    /// Which clock ran out.
    pub expired: Option<Expired>,
    /// Hides our credentials in error answers.
    pub masker: Option<Arc<Masker>>,
    /// Hides our credentials in what providers say of errors.
    pub words: Option<Arc<Masker>>,
    /// The client's request id, for errors written into a stream.
    pub request_id: Arc<str>,
    /// What conversion lost of the request.
    pub request_loss: LossReport,
    /// How the attempt is billed.
    pub bill: Option<Arc<Bill>>,
    /// Tokens the answer has at most; 0: nobody made sure of that.
    pub output_limit: u64,
    /// Bytes of the answer's body received from the provider.
    pub received: u64,
    /// … since others last had their turn.
    pub(super) since_turn: usize,
    /// The share of the memory for what is held of answers.
    pub(super) kept: Option<BytePermit>,
    /// Bytes that came through the filter and are not written yet.
    pub(super) unwritten: usize,
    /// The answer does not go on, though its provider does.
    pub(super) broken_off: Option<BrokenOff>,
    /// What becomes of the answer if the client goes away; `None` until an attempt begins.
    pub policy: Option<Policy>,
    /// The attempt's row, which must be safe before the answer's end goes out.
    pub row: Option<Closed>,
    /// The client is gone, and the answer is read on.
    pub(super) gone: Option<Gone>,
    /// The gate only looks whether the client is there.
    pub(super) looking: bool,
    /// The client's own session, handed over when the gate is taken away.
    pub(super) returned: Option<HttpSession>,
}

impl Held {
    /// Starts an attempt with this body, in which conversion lost this.
    pub fn begin_attempt(&mut self, body: Bytes, loss: LossReport, clocks: Clocks) {
        self.body = body;
        self.request_loss = loss;
        self.answer = None;
        self.release = Release::Content;
        self.commit_at = None;
        self.pace = None;
        self.judge = false;
        self.unsent = None;
        self.ended = None;
        self.answered = false;
        self.expired = None;
        self.received = 0;
        self.kept = None;
        self.unwritten = 0;
        self.broken_off = None;
        self.clocks = Some(clocks);
        let now = Instant::now();
        self.last_activity = Some(now);
        self.last_sent.get_or_insert(now);
        self.look_at.get_or_insert(now + ending::SEEN);
    }

    /// The header of the answer came.
    pub fn begin_answer(&mut self, answer: AnswerStream, release: Release) {
        let now = Instant::now();
        self.answered = true;
        self.last_activity = Some(now);
        self.release = release;
        self.answer = Some(answer);
        if self.clocks.is_some_and(|clocks| clocks.min_pace > 0) {
            self.pace = Some((now, now + PACE_AFTER));
        }
    }

    /// The connection closes after the answer.
    pub(super) fn closes(&self) -> bool {
        self.close || ending::closes_connections()
    }

    /// A stream that is held back has content, or an end worth telling.
    pub(super) fn is_worth_sending(&self) -> bool {
        self.answer.as_ref().is_none_or(|answer| {
            let meter = answer.meter();
            meter.content_events > 0 || meter.finish.is_some() || meter.error.is_some()
        })
    }

    /// No other attempt may follow: something of the answer went out, or there is nobody to get it.
    pub(super) fn is_settled(&self) -> bool {
        self.committed || self.is_gone()
    }

    /// The ping that may be written now; `None`: none, as the client's dialect has none, its stream is within a frame, or over.
    pub(super) fn ping(&self) -> Option<&'static str> {
        let listener = self.listener.as_ref()?;
        let fits = match &self.answer {
            Some(answer) if self.committed => {
                matches!(self.release, Release::Content) && self.ended.is_none() && answer.may_ping()
            }
            _ => !self.committed,
        };
        listener.ping.filter(|_| fits)
    }

    /// The header with which a client is kept waiting whose answer has not begun.
    pub(super) fn opening(&self) -> Result<ResponseHeader> {
        let mut header = ResponseHeader::build(200, Some(8))?;
        header.insert_header(header::CONTENT_TYPE, "text/event-stream")?;
        header.insert_header(header::CACHE_CONTROL, "no-cache, no-transform")?;
        header.insert_header("x-accel-buffering", "no")?;
        header.insert_header("x-request-id", &*self.request_id)?;
        if let Some(name) = self.listener.and_then(|listener| listener.dialect.request_id_header()) {
            header.insert_header(name, &*self.request_id)?;
        }
        Ok(header)
    }

    /// What a client gets instead of an answer that is no stream, once it was kept waiting with a stream's header.
    pub(super) fn instead(&self, status: u16) -> Bytes {
        let error = self.reported().unwrap_or_else(|| {
            ApiError::new(
                ErrorKind::from_status(status),
                "the provider did not answer with a stream",
            )
            .status(status)
        });
        self.first_event(&error)
    }

    /// The error the provider told, if it told one, without our credentials.
    pub fn reported(&self) -> Option<ApiError> {
        let answer = self.answer.as_ref()?;
        let told = answer.meter().error.as_ref().or_else(|| answer.failure())?;
        let mut error = told.clone();
        if let Some(masker) = &self.words {
            let texts = [Some(&mut error.message), error.code.as_mut(), error.param.as_mut()];
            for text in texts.into_iter().flatten() {
                *text = masker.mask(text).into();
            }
        }
        Some(error)
    }

    /// An error as the only event of a stream.
    fn first_event(&self, error: &ApiError) -> Bytes {
        match self.listener {
            Some(to) => to
                .dialect
                .encode_stream_error(error, &self.request_id, to.framing, true)
                .into(),
            None => Bytes::new(),
        }
    }

    /// Takes a chunk of the answer and returns what may go to the client.
    pub fn take_chunk(&mut self, chunk: Bytes) -> Bytes {
        self.received += chunk.len() as u64;
        self.since_turn += chunk.len();
        match &mut self.answer {
            Some(_) if self.broken_off.is_some() => Bytes::new(),
            Some(answer) if self.ended.is_none() => answer.chunk(chunk),
            _ => chunk,
        }
    }

    /// All went out that the header promised, and the provider's end, behind its last byte, was not seen (HTTP/2).
    pub fn finish_unseen(&mut self) {
        if self.committed && !self.is_gone() {
            self.finish_answer();
        }
    }

    /// Not all of a whole answer came, or nothing of a stream. One that ended with its header no body filter saw.
    pub fn is_cut(&self) -> bool {
        let whole = |answer: &AnswerStream| answer.plan().kind == AnswerKind::Whole;
        self.ended == Some(StreamEnd::Truncated) && (self.received == 0 || self.answer.as_ref().is_some_and(whole))
    }

    /// The answer's body is over: what is still to be sent. A stream that just stopped gets an error event, so that it
    /// never looks complete. Idempotent.
    pub fn finish_answer(&mut self) -> Bytes {
        if self.ended.is_some() {
            return Bytes::new();
        }
        let Some(answer) = &mut self.answer else {
            self.ended = Some(StreamEnd::Complete);
            return Bytes::new();
        };
        let (rest, end) = answer.finish();
        self.ended = Some(end);
        let told = answer.is_converted() || !matches!(answer.plan().kind, AnswerKind::Stream(_));
        if end != StreamEnd::Truncated || told {
            return rest;
        }
        let error = ApiError::new(ErrorKind::Api, "the provider's stream stopped before its end")
            .status(502)
            .code("upstream_stream_truncated");
        let event = self.error_event(&error);
        if rest.is_empty() {
            return event;
        }
        let mut both = BytesMut::with_capacity(rest.len() + event.len());
        both.extend_from_slice(&rest);
        both.extend_from_slice(&event);
        both.freeze()
    }

    /// An error as the last event of a stream; empty where none can be written (inside an unfinished frame, compressed
    /// bytes): then only breaking the connection tells the client.
    pub fn error_event(&mut self, error: &ApiError) -> Bytes {
        if self.opened && !self.committed {
            return self.first_event(error);
        }
        match &mut self.answer {
            Some(answer) if answer.is_converted() => answer.fail(error).unwrap_or_default(),
            Some(answer) => match answer.plan().kind {
                AnswerKind::Stream(framing) if answer.can_append_error() => answer
                    .plan()
                    .dialect
                    .encode_stream_error(error, &self.request_id, framing, answer.is_first())
                    .into(),
                _ => Bytes::new(),
            },
            None => Bytes::new(),
        }
    }

    /// What the client is to be told instead of the answer, of which nothing went out.
    pub fn failure(&self) -> Option<&ApiError> {
        let answer = self.answer.as_ref().filter(|_| !self.committed)?;
        answer.failure()
    }

    /// What conversion lost, of the request and so far of the answer.
    pub fn loss(&self) -> LossReport {
        let mut loss = self.request_loss.clone();
        if let Some(answer) = &self.answer {
            loss.merge(answer.loss().clone());
        }
        loss
    }

    /// Headers that are only known when the answer goes out: what was lost, and when to try again where only the error's body says it.
    /// `whole`: the answer is read to its end, so that what it costs is known too.
    pub(super) fn late_headers(&self, header: &mut ResponseHeader, whole: bool) -> Result<()> {
        if whole && let Some(charge) = self.charge(header.status.as_u16()) {
            header.insert_header(COST, charge.to_string())?;
        }
        let lossless = self.answer.as_ref().is_none_or(|answer| answer.loss().is_empty());
        if !(self.request_loss.is_empty() && lossless)
            && let Some(line) = self.loss().summary()
        {
            header.insert_header(LOSS, line)?;
        }
        let converted = self.answer.as_ref().filter(|answer| answer.is_converted());
        if let Some(seconds) = converted.and_then(|answer| answer.meter().error.as_ref()?.retry_after_secs)
            && !header.headers.contains_key(header::RETRY_AFTER)
        {
            header.insert_header(header::RETRY_AFTER, seconds.to_string())?;
        }
        Ok(())
    }

    /// What a client is charged for an answer read to its end, as its row will say; `None`: the price is unknown, or usage was not told.
    fn charge(&self, status: u16) -> Option<NanoUsd> {
        let (bill, meter) = (self.bill.as_ref()?, self.answer.as_ref()?.meter());
        if status >= 400 || bill.is_unknown() || self.ended == Some(StreamEnd::Unfinished) {
            return None;
        }
        let usage = meter.usage.map(Usage::booked).or(bill.is_free().then(Usage::default))?;
        Some(bill.used(&usage, extras(Some(meter))).charge)
    }

    /// What is due next, and when.
    pub(super) fn next_due(&self) -> Option<(Instant, Due)> {
        let (clocks, last) = (self.clocks?, self.last_activity?);
        let (silent, which) = if self.answered {
            (clocks.idle, Expired::Idle)
        } else {
            (clocks.first_byte, Expired::FirstByte)
        };
        let mut due = (last + silent, Due::Expired(which));
        let mut sooner = |at: Instant, what: Due| {
            if at < due.0 {
                due = (at, what);
            }
        };
        sooner(clocks.total, Due::Expired(Expired::Total));
        if let Some(at) = self.look_at {
            sooner(at, Due::Look);
        }
        if let Some((_, at)) = self.pace.filter(|_| !self.committed) {
            sooner(at, Due::Pace);
        }
        if let (Some(listener), Some(sent)) = (&self.listener, self.last_sent) {
            let wait = if self.committed || self.opened {
                listener.ping_after
            } else {
                listener.ping_before
            };
            if let Some(wait) = wait.filter(|_| self.ping().is_some()) {
                sooner(sent + wait, Due::Ping);
            }
        }
        Some(due)
    }

    /// Something came due that is not a ping: which clock ran out by that, if one did.
    pub(super) fn came_due(&mut self, due: Due, now: Instant) -> Option<Expired> {
        let expired = match due {
            Due::Expired(which) => Some(which),
            Due::Pace => (!self.keeps_pace(now)).then_some(Expired::Pace),
            Due::Look => {
                self.look_at = Some(now + ending::SEEN);
                ending::is_ending().then_some(Expired::Ending)
            }
            Due::Ping => None,
        };
        self.expired = expired.or(self.expired);
        expired
    }

    /// Looks at the pace. False: it is too slow, and there is another to ask.
    fn keeps_pace(&mut self, now: Instant) -> bool {
        let (Some(clocks), Some((since, _))) = (self.clocks, self.pace) else {
            return true;
        };
        self.pace = Some((since, now + PACE_AFTER));
        let wanted = now
            .duration_since(since)
            .as_secs()
            .saturating_mul(clocks.min_pace as u64);
        self.received >= wanted || !self.others
    }
}
