//! The sandbox provider: speaks all four dialects, scripted by model name, counts what it served. For the quick start,
//! tests and load tests.
//!
//! - What a model name can ask for: [`script`]. Limits in requests (`max_tokens`, `n`) are not heeded: the name decides.
//! - A request which offers tools, and whose last message is no tool result, is answered by a call of the first tool with
//!   arguments made from its schema; after a tool result comes a text with that result; otherwise a deterministic text.
//! - Any key is accepted, or none.
//! - `GET /_sandbox/counts`, `POST /_sandbox/reset`, `GET /_sandbox/last` (when recording), and `.../_sandbox/echo`,
//!   which streams a request's body back.
//!
//! A request's way: [`serve()`] → [`Sandbox::answer`] → [`mod@route`] → the dialect's `read` → [`plan`] → the dialect's `whole`,
//! or for a stream [`steps`] → its `writer` → [`answer`](mod@answer).

pub mod answer;
pub mod anthropic;
pub mod ask;
pub mod coding;
pub mod counts;
pub mod embeddings;
pub mod events;
pub mod gemini;
mod handle;
pub mod models;
pub mod openai_chat;
pub mod openai_responses;
pub mod plan;
pub mod route;
pub mod script;
pub mod serve;
mod served;
pub mod steps;
pub mod text;

use std::sync::Arc;

pub use counts::{Abort, Counts, Ended, Open, Received, Tally};
pub use handle::{Dropped, MAX_BODY};
pub use serve::serve;
pub use served::{MAX_SERVED, Served};

/// The provider and its counts.
pub struct Sandbox {
    counter: Arc<counts::Counter>,
    record: bool,
}

impl Sandbox {
    /// A provider; `record`: it remembers the last requests as received, with their headers.
    pub fn new(record: bool) -> Arc<Self> {
        Arc::new(Sandbox {
            counter: Arc::default(),
            record,
        })
    }

    /// What was served so far.
    pub fn counts(&self) -> Counts {
        self.counter.counts()
    }

    /// Forgets what was served and recorded. Requests in flight stay.
    pub fn reset(&self) {
        self.counter.reset();
    }

    /// The last requests, oldest first; none unless recording.
    pub fn last(&self) -> Vec<Received> {
        self.counter.recorded()
    }

    /// What became of each request that is over, oldest first, at most [`MAX_SERVED`]; none unless recording.
    pub fn served(&self) -> Vec<Served> {
        self.counter.served()
    }
}
