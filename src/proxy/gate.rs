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

mod answer;
mod drain;
mod pieces;
mod pings;
mod share;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use http::HeaderMap;
use parking_lot::{Mutex, MutexGuard};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::{HttpTask, ServerSession as HttpSession};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::{Error, ErrorType, Result};
use tokio::time::{Instant, Sleep};

use super::abort;
use super::held::{Due, Expired, Held};

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
            self.pass(tasks).await
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

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.give_way().await;
        let passed = self.pass_on(tasks).await;
        self.control.lock().has_written(self.held_bytes);
        passed
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
