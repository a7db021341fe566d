//! What the sandbox has served: counts per model, requests in flight, aborts, the last requests as received.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use serde::Serialize;

use super::plan::Usage;
use super::served::{Log, Served};
use crate::clock::{Clock, UnixMicros};

/// Models counted by name; further ones count as [`OTHER`].
pub const MAX_MODELS: usize = 4096;
/// Where models beyond [`MAX_MODELS`] are counted.
pub const OTHER: &str = "(other)";
/// Most of a model's name that is kept, in bytes.
pub const MAX_NAME: usize = 256;
/// Aborts remembered; the oldest are forgotten first.
pub const MAX_ABORTS: usize = 4096;
/// Requests remembered when recording; the oldest are forgotten first.
pub const MAX_RECORDED: usize = 64;

/// Counts of requests and tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Requests received: the sum of `completed`, `aborted`, `faulted` and those still open.
    pub received: u64,
    /// Answered to the end, errors included.
    pub completed: u64,
    /// The client went away first.
    pub aborted: u64,
    /// Not answered to the end because the model name said so.
    pub faulted: u64,
    /// Of the completed ones: answered with status 400 or above.
    pub refused: u64,
    /// Input tokens reported to clients, cached ones included.
    pub tokens_in: u64,
    /// Output tokens reported to clients, reasoning included.
    pub tokens_out: u64,
}

/// A request in flight.
#[derive(Clone, Debug, Serialize)]
pub struct Open {
    /// Its number.
    pub number: u64,
    /// Its model; empty until the body is read.
    pub model: Arc<str>,
    /// When it came.
    pub since: UnixMicros,
}

/// A request whose client went away.
#[derive(Clone, Debug, Serialize)]
pub struct Abort {
    /// Its number.
    pub number: u64,
    /// Its model; empty if the body was not read yet.
    pub model: Arc<str>,
    /// When that was noticed.
    pub at: UnixMicros,
    /// The same on the monotonic clock, for tests in this process.
    #[serde(skip)]
    pub noticed: Instant,
}

/// Everything counted. Of the models: `total` holds also requests whose model was never known.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Over all models.
    pub total: Tally,
    /// By model, as asked.
    pub models: BTreeMap<String, Tally>,
    /// In flight now, by number.
    pub open: Vec<Open>,
    /// The last aborts, oldest first.
    pub aborts: Vec<Abort>,
    /// Connections open now.
    pub connections: u64,
}

/// A request as received.
#[derive(Clone, Debug, Serialize)]
pub struct Received {
    /// Its number.
    pub number: u64,
    /// When its body was complete.
    pub at: UnixMicros,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// The method.
    pub method: String,
    /// Path and query, as they came.
    pub path: String,
    /// All headers in order, names in lower case; bytes that are no UTF-8 replaced.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_length: u64,
    /// SHA-256 of the body, hexadecimal.
    pub body_sha256: String,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Answered to the end.
    Completed,
    /// Broken off because the model name said so.
    Faulted,
    /// The client went away.
    Aborted,
}

#[derive(Default)]
struct Books {
    total: Tally,
    models: HashMap<Arc<str>, Tally>,
    open: HashMap<u64, (Arc<str>, UnixMicros)>,
    aborts: VecDeque<Abort>,
    recorded: VecDeque<Received>,
    served: Log,
    number: u64,
    connections: u64,
}

/// The books, shared by all requests. Locks are held for a few map operations only.
#[derive(Default)]
pub struct Counter {
    books: Mutex<Books>,
    clock: Clock,
}

impl Counter {
    /// What time it is.
    pub fn now(&self) -> UnixMicros {
        self.clock.now()
    }

    /// A request came in; it is open until the ticket is dropped.
    pub fn receive(self: &Arc<Self>) -> Ticket {
        let now = self.now();
        let mut books = self.books.lock();
        books.number += 1;
        books.total.received += 1;
        let number = books.number;
        let model: Arc<str> = Arc::from("");
        books.open.insert(number, (model.clone(), now));
        Ticket {
            counter: self.clone(),
            number,
            since: now,
            model,
            ended: Ended::Aborted,
            refused: false,
            usage: None,
            recorded: None,
        }
    }

    /// What became of the recorded requests that are over, oldest first.
    pub fn served(&self) -> Vec<Served> {
        self.books.lock().served.all()
    }

    /// A connection was opened or closed.
    pub fn connection(&self, opened: bool) {
        let mut books = self.books.lock();
        books.connections = if opened {
            books.connections + 1
        } else {
            books.connections.saturating_sub(1)
        };
    }

    /// Remembers a request as received.
    pub fn record(&self, received: Received) {
        let mut books = self.books.lock();
        if books.recorded.len() == MAX_RECORDED {
            books.recorded.pop_front();
        }
        books.recorded.push_back(received);
    }

    /// The last requests recorded, oldest first.
    pub fn recorded(&self) -> Vec<Received> {
        self.books.lock().recorded.iter().cloned().collect()
    }

    /// Everything counted so far.
    pub fn counts(&self) -> Counts {
        let books = self.books.lock();
        let mut open: Vec<Open> = books
            .open
            .iter()
            .map(|(number, (model, since))| Open {
                number: *number,
                model: model.clone(),
                since: *since,
            })
            .collect();
        open.sort_by_key(|o| o.number);
        Counts {
            total: books.total,
            models: books
                .models
                .iter()
                .map(|(model, tally)| (model.to_string(), *tally))
                .collect(),
            open,
            aborts: books.aborts.iter().cloned().collect(),
            connections: books.connections,
        }
    }

    /// Sets all counts to nothing and forgets what was recorded. Requests in flight stay open, and count as received,
    /// so that the sums still hold when they end.
    pub fn reset(&self) {
        let mut books = self.books.lock();
        books.total = Tally {
            received: books.open.len() as u64,
            ..Tally::default()
        };
        books.models.clear();
        let open: Vec<Arc<str>> = books.open.values().map(|(model, _)| model.clone()).collect();
        for model in open.into_iter().filter(|model| !model.is_empty()) {
            books.model(&model).received += 1;
        }
        books.aborts.clear();
        books.recorded.clear();
        books.served.clear();
    }
}

impl Books {
    /// The tally of that model.
    fn model(&mut self, model: &Arc<str>) -> &mut Tally {
        let known = self.models.contains_key(model) || self.models.len() < MAX_MODELS;
        self.models
            .entry(if known { model.clone() } else { Arc::from(OTHER) })
            .or_default()
    }
}

/// A request in flight. Dropped before it [`ended`](Ticket::ended), the client has gone away.
pub struct Ticket {
    counter: Arc<Counter>,
    number: u64,
    since: UnixMicros,
    model: Arc<str>,
    ended: Ended,
    refused: bool,
    usage: Option<Usage>,
    /// Its end is recorded, with this id.
    recorded: Option<Option<Box<str>>>,
}

impl Ticket {
    /// The request's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// When it came.
    pub fn since(&self) -> UnixMicros {
        self.since
    }

    /// The model is known.
    pub fn model(&mut self, model: &str) {
        let mut end = model.len().min(MAX_NAME);
        while !model.is_char_boundary(end) {
            end -= 1;
        }
        self.model = Arc::from(&model[..end]);
        let mut books = self.counter.books.lock();
        books.model(&self.model).received += 1;
        if let Some(open) = books.open.get_mut(&self.number) {
            open.0 = self.model.clone();
        }
    }

    /// What becomes of it is to be remembered, with the id it came with.
    pub fn record(&mut self, id: Option<Box<str>>) {
        self.recorded = Some(id);
    }

    /// It is answered with an error.
    pub fn refused(&mut self) {
        self.refused = true;
    }

    /// Its answer reports these tokens; they count if it completes.
    pub fn usage(&mut self, usage: Usage) {
        self.usage = Some(usage);
    }

    /// It is over, and how.
    pub fn ended(&mut self, ended: Ended) {
        self.ended = ended;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let now = self.counter.now();
        let mut books = self.counter.books.lock();
        books.open.remove(&self.number);
        if self.ended == Ended::Aborted {
            if books.aborts.len() == MAX_ABORTS {
                books.aborts.pop_front();
            }
            let (number, model) = (self.number, self.model.clone());
            books.aborts.push_back(Abort {
                number,
                model,
                at: now,
                noticed: Instant::now(),
            });
        }
        let settle = |tally: &mut Tally| {
            match self.ended {
                Ended::Completed => tally.completed += 1,
                Ended::Faulted => tally.faulted += 1,
                Ended::Aborted => tally.aborted += 1,
            }
            if self.ended == Ended::Completed {
                tally.refused += u64::from(self.refused);
                if let Some(usage) = self.usage {
                    tally.tokens_in += usage.input;
                    tally.tokens_out += usage.output_total();
                }
            }
        };
        settle(&mut books.total);
        if let Some(id) = self.recorded.take() {
            books.served.push(Served {
                number: self.number,
                id,
                model: self.model.clone(),
                ended: self.ended,
                refused: self.refused,
                usage: self.usage,
            });
        }
        if !self.model.is_empty() {
            settle(books.model(&self.model));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_counted_once_and_ends_once() {
        let counter = Arc::new(Counter::default());
        let mut done = counter.receive();
        done.model("a");
        done.usage(Usage {
            input: 7,
            cached: 2,
            output: 3,
            reasoning: 1,
        });
        done.ended(Ended::Completed);
        drop(done);
        let mut gone = counter.receive();
        gone.model("b");
        gone.usage(Usage {
            input: 100,
            ..Usage::default()
        });
        assert_eq!(
            counter.counts().open.len(),
            1,
            "a request is open until its ticket is dropped"
        );
        drop(gone);
        let counts = counter.counts();
        let expected = Tally {
            received: 2,
            completed: 1,
            aborted: 1,
            tokens_in: 7,
            tokens_out: 4,
            ..Tally::default()
        };
        assert_eq!(counts.total, expected, "tokens of an aborted request are not reported");
        assert_eq!(counts.models["b"].aborted, 1);
        assert_eq!(counts.aborts.len(), 1);
        assert!(counts.open.is_empty());
    }

    #[test]
    fn names_and_aborts_are_bounded() {
        let counter = Arc::new(Counter::default());
        for n in 0..MAX_MODELS + 10 {
            counter.receive().model(&format!("model-{n}"));
        }
        let counts = counter.counts();
        assert_eq!(counts.models.len(), MAX_MODELS + 1);
        assert_eq!(counts.models[OTHER].received, 10);
        assert_eq!(counts.aborts.len(), MAX_ABORTS);
    }

    #[test]
    fn sums_hold_over_a_reset_with_requests_in_flight() {
        let counter = Arc::new(Counter::default());
        let mut open = counter.receive();
        open.model("a");
        counter.reset();
        open.ended(Ended::Completed);
        drop(open);
        let total = counter.counts().total;
        assert_eq!((total.received, total.completed), (1, 1));
    }
}
