//! The gate: a session wrapped around the client's. It replays the prepared request body for each attempt, and holds
//! the answer back until it is worth sending.
//!
//! Why: Pingora forwards a body only as it is read from the client, once; a body read in `request_filter` is lost. And an answer's header goes out
//! as soon as it comes, which forbids a second attempt. [`HttpSession::new_custom`] takes any implementation of the session trait, so that all
//! phases stay Pingora's. The trait is doc-hidden: Pingora's version is pinned, and `tests/e2e/bodies.rs` proves the wrapper.
//!
//! Traps (PINGORA.md): the body filter may see the end of an answer never or twice, hence [`Held::finish_answer`] is
//! idempotent and called from here too; at most three pieces of body, as the pipe to the upstream has four slots and a full
//! one stops the watch over the client; no lock is held across an await.

mod drain;
mod pings;
mod share;

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use http::{HeaderMap, header};
use parking_lot::{Mutex, MutexGuard};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession as HttpSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, Sleep};

use crate::ir::StreamEnd;

use super::abort;
use super::held::{Due, Expired, HOLD_STREAM, Held, Release, Unsent};

/// Smallest piece in which a request body is handed to the upstream pipe.
const PIECE: usize = 64 * 1024;
/// Most pieces: see the traps above.
const MAX_PIECES: usize = 3;
/// A whole answer up to this size is held until its end, so that a broken one becomes a proper error.
pub const HOLD_WHOLE: usize = 1024 * 1024;

/// The phases' handle on the gate.
#[derive(Clone, Default)]
pub struct GateControl(Arc<Mutex<Held>>);

impl GateControl {
    /// What is shared. Never hold it across an await.
    pub fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock()
    }

    /// Puts the gate around the client's session.
    pub fn wrap(&self, slot: &mut HttpSession) {
        let inner = std::mem::replace(slot, HttpSession::new_custom(Box::new(())));
        let gate = Gate {
            inner: Some(inner),
            control: self.clone(),
            header: None,
            parts: Vec::new(),
            held_bytes: 0,
            sent_of_body: 0,
            timer: None,
            opening: None,
            pinging: Bytes::new(),
        };
        *slot = HttpSession::new_custom(Box::new(gate));
    }

    /// Takes the gate away: the client's own session stands there again. Idempotent.
    pub fn unwrap(&self, slot: &mut HttpSession) {
        if slot.is_custom() {
            // Dropping the gate hands the inner session over.
            drop(std::mem::replace(slot, HttpSession::new_custom(Box::new(()))));
            if let Some(inner) = self.lock().returned.take() {
                *slot = inner;
            }
        }
    }
}

struct Gate {
    inner: Option<HttpSession>,
    control: GateControl,
    header: Option<Box<ResponseHeader>>,
    parts: Vec<Bytes>,
    held_bytes: usize,
    sent_of_body: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// Of a ping on HTTP/2: our own header, and what is not written yet.
    opening: Option<Box<ResponseHeader>>,
    pinging: Bytes,
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            self.control.lock().returned = Some(inner);
        }
    }
}

impl Gate {
    fn inner(&self) -> &HttpSession {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("the inner session leaves the gate only when it is dropped"),
        }
    }

    fn inner_mut(&mut self) -> &mut HttpSession {
        match &mut self.inner {
            Some(inner) => inner,
            None => unreachable!("the inner session leaves the gate only when it is dropped"),
        }
    }

    /// Sends what is held, in one write.
    async fn commit(&mut self, end: bool) -> Result<bool> {
        let mut body = match self.parts.len() {
            0 => Bytes::new(),
            1 => self.parts.pop().unwrap_or_default(),
            _ => {
                let mut all = BytesMut::with_capacity(self.held_bytes);
                self.parts.drain(..).for_each(|part| all.extend_from_slice(&part));
                all.freeze()
            }
        };
        self.held_bytes = 0;
        let (exact, close, masker) = {
            let mut held = self.control.lock();
            held.committed = true;
            if self.sent_of_body >= held.body.len() {
                // Sent whole, and not to be sent again.
                held.body = Bytes::new();
                self.sent_of_body = 0;
            }
            (
                end && held.release == Release::AtEnd,
                held.closes(),
                held.masker.clone(),
            )
        };
        if close {
            self.inner_mut().set_keepalive(None);
        }
        let mut tasks = Vec::with_capacity(3);
        let opened = self.control.lock().opened;
        if opened && let Some(header) = self.header.take() {
            // The client has its header, with our status.
            let coded = header.headers.get(header::CONTENT_ENCODING);
            let coded = coded.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity"));
            let stream = header.status.as_u16() < 400 && !coded && exact_type(&header, "text/event-stream");
            if !stream {
                {
                    let mut held = self.control.lock();
                    body = held.instead(header.status.as_u16());
                    held.ended = Some(StreamEnd::Failed);
                }
                self.write(vec![HttpTask::Body(Some(body), false), HttpTask::Done])
                    .await?;
                return match end {
                    true => Ok(true),
                    false => Error::e_explain(ErrorType::InternalError, "the provider did not answer with a stream"),
                };
            }
        }
        if let Some(mut header) = self.header.take() {
            if header.status.as_u16() >= 400
                && let Some(masker) = masker
            {
                let masked = match masker.mask_bytes(&body) {
                    Cow::Owned(masked) => Some(masked),
                    Cow::Borrowed(_) => None,
                };
                body = masked.map_or(body, Bytes::from);
            }
            self.control.lock().late_headers(&mut header, exact)?;
            if exact && !says_length(&header, body.len()) {
                header.remove_header(&header::TRANSFER_ENCODING);
                header.insert_header(header::CONTENT_LENGTH, body.len())?;
            }
            tasks.push(HttpTask::Header(header, false));
        }
        if !body.is_empty() {
            tasks.push(HttpTask::Body(Some(body), false));
        }
        if end {
            tasks.push(HttpTask::Done);
        }
        if tasks.is_empty() {
            return Ok(end);
        }
        self.write(tasks).await
    }

    /// Writes to the client, within the total time. (That the client takes something at all is the inner session's write
    /// timeout.)
    async fn write(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        let ends = tasks.iter().any(HttpTask::is_end);
        let (total, row) = {
            let mut held = self.control.lock();
            let row = if ends { held.row.take() } else { None };
            (held.clocks.map(|clocks| clocks.total), row)
        };
        let write = async {
            if let Some(row) = row {
                row.written().await;
            }
            self.finish_ping().await?;
            self.inner_mut().response_duplex_vec(tasks).await
        };
        let written = match total {
            None => Ok(write.await),
            Some(total) => tokio::time::timeout_at(total, write).await,
        };
        {
            // The time it took was the client's, not the provider's.
            let mut held = self.control.lock();
            let now = Instant::now();
            (held.last_sent, held.last_activity) = (Some(now), Some(now));
        }
        match written {
            Ok(Err(error)) if !ends && self.left_while_written_to(&error).is_some() => Ok(false),
            Ok(written) => written,
            Err(_) => self.took_too_long(),
        }
    }

    /// Watches the client and the clocks; ends when the one leaves or the other runs out.
    async fn watch(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.is_pinging() {
                let total = self.control.lock().clocks.map(|clocks| clocks.total);
                match total {
                    None => self.finish_ping().await.map_err(|e| e.into_down())?,
                    Some(total) => match tokio::time::timeout_at(total, self.finish_ping()).await {
                        Ok(written) => written.map_err(|e| e.into_down())?,
                        Err(_) => return self.took_too_long(),
                    },
                }
            }
            let Some((at, due)) = self.control.lock().next_due() else {
                return self.inner_mut().read_body_or_idle(true).await;
            };
            // One timer for the life of the request, moved forward only when it fires: an event of a stream costs none.
            let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
            if at < timer.deadline() {
                timer.as_mut().reset(at);
            }
            let Some(inner) = self.inner.as_mut() else {
                return Ok(None);
            };
            tokio::select! {
                biased;
                read = inner.read_body_or_idle(true) => return read,
                () = timer.as_mut() => {}
            }
            let now = Instant::now();
            if now < at {
                timer.as_mut().reset(at);
                continue;
            }
            if due == Due::Ping {
                self.queue_ping().map_err(|e| e.into_down())?;
            } else if self.control.lock().came_due(due, now).is_some() {
                return Error::e_explain(ErrorType::ReadTimedout, "one of the gateway's clocks ran out");
            }
        }
    }

    fn took_too_long<T>(&self) -> Result<T> {
        self.control.lock().expired = Some(Expired::Total);
        Error::e_explain(ErrorType::WriteTimedout, "total time").map_err(|e: Box<Error>| e.into_down())
    }
}

/// The header says just this length already, as the provider's does.
fn says_length(header: &ResponseHeader, length: usize) -> bool {
    let headers = &header.headers;
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let (Some(said), None) = (lengths.next(), lengths.next()) else {
        return false;
    };
    let said = said
        .to_str()
        .ok()
        .filter(|said| said.bytes().all(|byte| byte.is_ascii_digit()));
    said.and_then(|said| said.parse().ok()) == Some(length) && !headers.contains_key(header::TRANSFER_ENCODING)
}

fn exact_type(header: &ResponseHeader, kind: &str) -> bool {
    let value = header.headers.get(header::CONTENT_TYPE).map(|value| value.as_bytes());
    value.is_some_and(|value| {
        value
            .get(..kind.len())
            .is_some_and(|value| value.eq_ignore_ascii_case(kind.as_bytes()))
    })
}

#[async_trait]
impl CustomSession for Gate {
    // ---- the request: replayed from the control

    /// Pingora calls this once at the start of each attempt.
    fn enable_retry_buffering(&mut self) {
        self.sent_of_body = 0;
        self.header = None;
        self.parts.clear();
        self.held_bytes = 0;
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    fn is_body_done(&mut self) -> bool {
        self.sent_of_body >= self.control.lock().body.len()
    }

    fn is_body_empty(&mut self) -> bool {
        self.control.lock().body.is_empty()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        let held = self.control.lock();
        if self.sent_of_body >= held.body.len() {
            return Ok(None);
        }
        let piece = PIECE.max(held.body.len().div_ceil(MAX_PIECES));
        let end = (self.sent_of_body + piece).min(held.body.len());
        let bytes = held.body.slice(self.sent_of_body..end);
        self.sent_of_body = end;
        Ok(Some(bytes))
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    /// Next piece of the body; after the last one, the watch over the client and over the clocks.
    async fn read_body_or_idle(&mut self, no_body_expected: bool) -> Result<Option<Bytes>> {
        let (looking, gone) = {
            let held = self.control.lock();
            (held.looking, held.gone_until())
        };
        if looking {
            return self.inner_mut().read_body_or_idle(true).await;
        }
        if !no_body_expected && !self.is_body_done() {
            return self.read_body_bytes().await;
        }
        let until = match gone {
            Some(until) => until,
            None => {
                let watched = self.watch().await;
                match self.left(&watched) {
                    Some(until) => until,
                    None => return watched,
                }
            }
        };
        // Pingora reads the provider meanwhile.
        tokio::time::sleep_until(until).await;
        Err(abort::gone())
    }

    // ---- the answer: held, then let through

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        self.give_way().await;
        let (committed, tail) = {
            let mut held = self.control.lock();
            held.last_activity = Some(Instant::now());
            // The filter may never see the end (trailers, an empty body): finish here, once.
            let ends = held.ended.is_none()
                && tasks
                    .iter()
                    .any(|task| task.is_end() && !matches!(task, HttpTask::Failed(_)));
            let tail = if ends { held.finish_answer() } else { Bytes::new() };
            if held.is_gone() {
                drop(held);
                return Gate::swallow(tasks);
            }
            if held.failure().is_some() || !held.committed && held.is_cut() {
                return Error::e_explain(ErrorType::InternalError, "the provider's answer can't be passed on");
            }
            (held.committed, tail)
        };
        if !tail.is_empty() {
            for task in &mut tasks {
                if let HttpTask::Header(_, last) | HttpTask::Body(_, last) = task {
                    *last = false;
                }
            }
            tasks.retain(|task| !matches!(task, HttpTask::Trailer(_) | HttpTask::Done));
            tasks.push(HttpTask::Body(Some(tail), false));
            tasks.push(HttpTask::Done);
        }
        if committed {
            return self.write(tasks).await;
        }
        let mut end = false;
        for task in tasks {
            match task {
                // 1xx of a provider is none of the client's business.
                HttpTask::Header(header, _) if header.status.is_informational() => {}
                HttpTask::Header(header, last) => {
                    self.header = Some(header);
                    end |= last;
                }
                HttpTask::Body(body, last) => {
                    if let Some(body) = body.filter(|body| !body.is_empty()) {
                        self.held_bytes += body.len();
                        self.parts.push(body);
                    }
                    end |= last;
                }
                HttpTask::UpgradedBody(..) => {
                    return Error::e_explain(ErrorType::InternalError, "an upgrade through the gate");
                }
                HttpTask::Trailer(_) | HttpTask::Done => end = true,
                // Nothing is on the wire: another attempt may follow.
                HttpTask::Failed(error) => return Err(error),
            }
        }
        let go = {
            let mut held = self.control.lock();
            if end && held.judge {
                // Nobody saw its end: it is judged where it failed, and sent from there if nothing follows.
                let body = self.parts.concat().into();
                held.unsent = self.header.take().map(|header| Unsent { header, body });
                self.parts.clear();
                return Error::e_explain(ErrorType::InternalError, "an error answer is to be judged");
            }
            end || match held.release {
                Release::Content if self.parts.is_empty() => false,
                Release::Content => {
                    let now = Instant::now();
                    let wait = held.clocks.map_or(Duration::ZERO, |clocks| clocks.commit);
                    let over = *held.commit_at.get_or_insert(now + wait) <= now;
                    over || held.is_worth_sending() || self.held_bytes > HOLD_STREAM
                }
                Release::AtEnd => self.held_bytes > HOLD_WHOLE,
                Release::Now => true,
            }
        };
        if go {
            self.commit(end).await.map_err(|e| e.into_down())
        } else {
            Ok(false)
        }
    }

    async fn write_response_header(&mut self, header: Box<ResponseHeader>, _end: bool) -> Result<()> {
        if !header.status.is_informational() {
            self.control.lock().committed = true;
            self.header = None;
            self.parts.clear();
        }
        self.finish_ping().await?;
        self.inner_mut().write_response_header(header).await
    }

    async fn write_response_header_ref(&mut self, header: &ResponseHeader, end: bool) -> Result<()> {
        self.write_response_header(Box::new(header.clone()), end).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.control.lock().committed = true;
        self.finish_ping().await?;
        self.inner_mut().write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner_mut().write_response_trailers(trailers).await
    }

    async fn finish(&mut self) -> Result<()> {
        self.control.lock().finish_unseen();
        self.finish_ping().await?;
        if self.header.is_some() && !self.control.lock().committed {
            self.commit(true).await?;
        }
        self.inner_mut().finish_body().await
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        let begun = {
            let held = self.control.lock();
            held.committed || held.opened
        };
        if begun { self.inner().response_written() } else { None }
    }

    async fn shutdown(&mut self, _code: u32, _why: &str) {
        self.inner_mut().shutdown().await
    }

    // ---- the rest: the inner session's

    fn req_header(&self) -> &RequestHeader {
        self.inner().req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner_mut().req_header_mut()
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_read_timeout(timeout)
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner().get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_write_timeout(timeout)
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner().get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner_mut().set_total_drain_timeout(timeout)
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner().get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner().request_summary()
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner().body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner().body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner().digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner_mut().digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner().client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner().server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner().to_h1_raw()
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(
        &mut self,
    ) -> Option<Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>> {
        None
    }

    fn restore_custom_message_reader(
        &mut self,
        _reader: Box<dyn Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>,
    ) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _writer: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
