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

use crate::ir::{ApiError, ErrorKind, LossReport, StreamEnd};
use crate::observe::redact::Masker;
use crate::translate::{AnswerKind, AnswerStream};

/// What conversion could not carry, in an answer's header.
const LOSS: &str = "x-tollgate-loss";

/// When the held answer may go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Release {
    /// With the first whole frame of a stream.
    #[default]
    FirstFrame,
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
    /// The whole exchange took too long.
    Total,
}

/// The clocks of one attempt.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// Until the header of the answer.
    pub first_byte: Duration,
    /// Between two pieces of it.
    pub idle: Duration,
    /// When the whole request must be over.
    pub total: Instant,
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
    /// The end of the answer was seen and its tail was given out.
    pub ended: Option<StreamEnd>,
    /// Close the connection after the answer.
    pub close: bool,
    /// Clocks; `None` until an attempt begins.
    pub clocks: Option<Clocks>,
    /// When the attempt began, or the provider last sent something.
    pub last_activity: Option<Instant>,
    /// The header of the answer came.
    pub answered: bool,
    /// Which clock ran out.
    pub expired: Option<Expired>,
    /// Hides our credentials in error answers.
    pub masker: Option<Arc<Masker>>,
    /// The client's request id, for errors written into a stream.
    pub request_id: Arc<str>,
    /// What conversion lost of the request.
    pub request_loss: LossReport,
    /// Bytes of the answer's body received from the provider.
    pub received: u64,
    /// The client's own session, handed over when the gate is taken away.
    pub(super) returned: Option<HttpSession>,
}

impl Held {
    /// Starts an attempt with this body, in which conversion lost this.
    pub fn begin_attempt(&mut self, body: Bytes, loss: LossReport, clocks: Clocks) {
        self.body = body;
        self.request_loss = loss;
        self.answer = None;
        self.release = Release::FirstFrame;
        self.ended = None;
        self.answered = false;
        self.expired = None;
        self.received = 0;
        self.clocks = Some(clocks);
        self.last_activity = Some(Instant::now());
    }

    /// Takes a chunk of the answer and returns what may go to the client.
    pub fn take_chunk(&mut self, chunk: Bytes) -> Bytes {
        self.received += chunk.len() as u64;
        match &mut self.answer {
            Some(answer) if self.ended.is_none() => answer.chunk(chunk),
            _ => chunk,
        }
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
    pub(super) fn late_headers(&self, header: &mut ResponseHeader) -> Result<()> {
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

    /// When the next clock runs out, and which.
    pub(super) fn next_expiry(&self) -> Option<(Instant, Expired)> {
        let (clocks, last) = (self.clocks?, self.last_activity?);
        let (silent, which) = if self.answered {
            (clocks.idle, Expired::Idle)
        } else {
            (clocks.first_byte, Expired::FirstByte)
        };
        let silent = last + silent;
        Some(if clocks.total <= silent {
            (clocks.total, Expired::Total)
        } else {
            (silent, which)
        })
    }
}
