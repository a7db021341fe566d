//! Scripted answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

/// One thing the provider does.
#[derive(Clone, Debug)]
pub enum Step {
    /// Bytes, written and flushed by themselves; a chunk if the answer is chunked.
    Send(Bytes),
    /// Waits.
    Wait(Duration),
    /// Waits until told (`notify_one`).
    Until(Arc<Notify>),
    /// Nothing more, until the other side closes.
    Hang,
    /// Closes at once, whatever the framing promised.
    Cut,
    /// Closes with a reset.
    Reset,
    /// These bytes again and again, as often as said.
    Flood(Bytes, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length,
    Chunked,
    /// The steps' bytes are all there is, the header too.
    Raw,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) framing: Framing,
    pub(super) steps: Vec<Step>,
}

impl Answer {
    /// A body with Content-Length.
    pub fn whole(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".into(), content_type.into())];
        Answer {
            status,
            headers,
            framing: Framing::Length,
            steps: vec![Step::Send(body.into())],
        }
    }

    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self::whole(status, "application/json", body)
    }

    /// A chunked body of status 200.
    pub fn chunked(content_type: &str, steps: Vec<Step>) -> Self {
        let headers = vec![("content-type".into(), content_type.into())];
        Answer {
            status: 200,
            headers,
            framing: Framing::Chunked,
            steps,
        }
    }

    /// An event stream in these chunks.
    pub fn events<B: Into<Bytes>>(chunks: impl IntoIterator<Item = B>) -> Self {
        Self::chunked(
            "text/event-stream",
            chunks.into_iter().map(|chunk| Step::Send(chunk.into())).collect(),
        )
    }

    /// Exactly these steps: the header is part of the bytes. HTTP/1.1 only.
    pub fn raw(steps: Vec<Step>) -> Self {
        Answer {
            status: 200,
            headers: Vec::new(),
            framing: Framing::Raw,
            steps,
        }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// … and then this.
    pub fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Before all else: this.
    pub fn after(mut self, wait: Duration) -> Self {
        self.headers.push(("x-test-wait".into(), wait.as_millis().to_string()));
        self
    }

    pub(super) fn wait(&self) -> Option<Duration> {
        let wait = self.headers.iter().find(|(name, _)| name == "x-test-wait")?;
        Some(Duration::from_millis(wait.1.parse().unwrap()))
    }
}
