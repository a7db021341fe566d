//! A client which is gone, and an answer read on for its usage: nothing is written any more, and Pingora, which reads the provider, is
//! told that all is well until the time is over.

use bytes::Bytes;
use pingora::protocols::http::HttpTask;
use pingora::{Error, ErrorSource, Result};
use tokio::time::Instant;

use crate::proxy::abort;

use super::Gate;

impl Gate {
    /// Until when the answer is to be read on, if the watch over the client ended because it is gone.
    pub(super) fn left(&mut self, watched: &Result<Option<Bytes>>) -> Option<Instant> {
        watched.is_err().then(|| self.leave()).flatten()
    }

    /// … if the client could not be written to, or took nothing for too long.
    pub(super) fn left_while_written_to(&mut self, error: &Error) -> Option<Instant> {
        // What the provider did comes this way too.
        (*error.esource() != ErrorSource::Upstream)
            .then(|| self.leave())
            .flatten()
    }

    fn leave(&mut self) -> Option<Instant> {
        let left = self.control.lock().leave();
        if left.is_some() {
            self.inner_mut().set_keepalive(None);
            self.header = None;
            self.parts = Vec::new();
            self.held_bytes = 0;
        }
        left
    }

    /// What would have gone to the client. With the end of the answer the request ends, as it would have at once.
    pub(super) fn swallow(tasks: Vec<HttpTask>) -> Result<bool> {
        for task in tasks {
            match task {
                HttpTask::Failed(error) => return Err(error),
                task if task.is_end() => return Err(abort::gone()),
                _ => {}
            }
        }
        Ok(false)
    }
}
