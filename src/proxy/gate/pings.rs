//! Pings: what a client hears while its provider says nothing.

use bytes::{Buf, Bytes};
use http::{Version, header};
use pingora::Result;
use pingora::protocols::http::HttpTask;
use tokio::time::Instant;

use super::Gate;

impl Gate {
    /// Prepares what keeps a client patient that has heard nothing for long. Before the answer a header of our own goes first.
    pub(super) fn queue_ping(&mut self) -> Result<()> {
        let (text, header) = {
            let mut held = self.control.lock();
            let Some(text) = held.ping() else { return Ok(()) };
            let first = !held.committed && !held.opened;
            held.opened |= first;
            held.last_sent = Some(Instant::now());
            (text, first.then(|| held.opening()).transpose()?)
        };
        let header = match header {
            Some(mut header) => {
                if self.inner().req_header().version == Version::HTTP_11 {
                    header.insert_header(header::TRANSFER_ENCODING, "chunked")?;
                }
                if self.control.lock().closes() {
                    self.inner_mut().set_keepalive(None);
                }
                Some(Box::new(header))
            }
            None => None,
        };
        if self.inner().is_http2() {
            (self.opening, self.pinging) = (header, Bytes::from_static(text.as_bytes()));
        } else {
            let inner = self.inner_mut();
            if let Some(header) = header {
                inner.send_downstream_proxy_task(HttpTask::Header(header, false));
            }
            inner.send_downstream_proxy_task(HttpTask::Body(Some(Bytes::from_static(text.as_bytes())), false));
        }
        Ok(())
    }

    /// There is a ping whose writing has not ended.
    pub(super) fn is_pinging(&self) -> bool {
        self.opening.is_some()
            || !self.pinging.is_empty()
            || self.inner().as_http1().is_some() && self.inner().has_pending_downstream_proxy_tasks()
    }

    /// Writes the queued ping. May be dropped at any await, and goes on where it was: Pingora polls [`read_body_or_idle`] beside
    /// the provider's next bytes, which must neither cut a ping nor be written into one. HTTP/1.1 has a queue for that; on HTTP/2
    /// a piece goes out in an instant once there is room for it, so that each byte is a piece of its own.
    ///
    /// [`read_body_or_idle`]: CustomSession::read_body_or_idle
    pub(super) async fn finish_ping(&mut self) -> Result<()> {
        if let Some(header) = self.opening.take() {
            self.inner_mut().write_response_header(header).await?;
        }
        while !self.pinging.is_empty() {
            let byte = self.pinging.slice(..1);
            self.inner_mut().write_response_body(byte, false).await?;
            self.pinging.advance(1);
        }
        let inner = self.inner_mut();
        if inner.as_http1().is_some() && inner.has_pending_downstream_proxy_tasks() {
            inner.write_downstream_proxy_tasks().await?;
        }
        Ok(())
    }
}
