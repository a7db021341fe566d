//! Requests per second: each connection sends its next request when it has the answer to the last one.

use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use serde_json::json;

use crate::client::{self, Connection, Target};

/// Requests per second: a closed loop on keep-alive HTTP/1.1 connections.
#[derive(clap::Args, Clone)]
pub struct Rps {
    /// Where to POST: http://ADDRESS:PORT/PATH
    #[arg(long)]
    pub url: String,
    /// The body, from a file; instead of --model.
    #[arg(long, conflicts_with = "model")]
    pub body: Option<PathBuf>,
    /// A chat request for this model.
    #[arg(long, default_value = "sandbox/small")]
    pub model: String,
    /// Bytes of the chat request.
    #[arg(long, default_value_t = 1024)]
    pub size: usize,
    /// Connections.
    #[arg(long, default_value_t = 32)]
    pub connections: usize,
    /// How long.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Milliseconds between an answer and the connection's next request.
    #[arg(long, default_value_t = 0)]
    pub pause: u64,
    /// Threads of this driver.
    #[arg(long, default_value_t = 1)]
    pub threads: usize,
    /// Extra headers, NAME:VALUE.
    #[arg(long)]
    pub header: Vec<String>,
}

/// What was counted.
pub struct Outcome {
    /// Answers of status 200.
    pub requests: u64,
    /// Everything else.
    pub errors: u64,
    /// The first thing that went wrong.
    pub first_error: Option<String>,
    /// How long it took.
    pub elapsed: Duration,
    /// Microseconds from sending a request to having its whole answer.
    pub latency: Histogram<u64>,
}

impl Outcome {
    fn new() -> anyhow::Result<Outcome> {
        let latency = histogram()?;
        Ok(Outcome {
            requests: 0,
            errors: 0,
            first_error: None,
            elapsed: Duration::ZERO,
            latency,
        })
    }

    /// Answers per second.
    pub fn rps(&self) -> f64 {
        self.requests as f64 / self.elapsed.as_secs_f64()
    }

    /// As the command prints it. Latencies in microseconds.
    pub fn to_json(&self) -> serde_json::Value {
        let at = |quantile| self.latency.value_at_quantile(quantile);
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "first_error": self.first_error,
            "seconds": self.elapsed.as_secs_f64(),
            "rps": self.rps(),
            "p50": at(0.5),
            "p90": at(0.9),
            "p99": at(0.99),
            "p999": at(0.999),
            "max": self.latency.max(),
        })
    }

    fn failed(&mut self, what: String) {
        self.errors += 1;
        self.first_error.get_or_insert(what);
    }
}

/// For microseconds up to a minute.
pub fn histogram() -> anyhow::Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000, 3).map_err(|error| anyhow::anyhow!("{error:?}"))
}

/// Wait before connecting again after an error.
const AFTER_ERROR: Duration = Duration::from_millis(10);
/// What a request may take longer than the test before it is given up.
const GRACE: Duration = Duration::from_secs(5);

impl Rps {
    /// Runs the test.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let body = match &self.body {
            Some(file) => std::fs::read(file).with_context(|| format!("can't read {}", file.display()))?,
            None => client::chat(&self.model, false, self.size),
        };
        let target = Target::post(&self.url, &self.header, &body)?;
        let threads = self.threads.clamp(1, self.connections.max(1));
        let begun = Instant::now();
        let end = begun + Duration::from_secs_f64(self.seconds);
        let running: Vec<_> = (0..threads)
            .map(|thread| {
                let target = target.clone();
                let connections = self.connections / threads + usize::from(thread < self.connections % threads);
                let pause = Duration::from_millis(self.pause);
                std::thread::spawn(move || drive(&target, connections, pause, end))
            })
            .collect();
        let mut total = Outcome::new()?;
        for thread in running {
            let outcome = thread
                .join()
                .map_err(|_| anyhow::anyhow!("a thread of the driver panicked"))??;
            total.requests += outcome.requests;
            total.errors += outcome.errors;
            total.first_error = total.first_error.or(outcome.first_error);
            total
                .latency
                .add(&outcome.latency)
                .map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        total.elapsed = begun.elapsed();
        Ok(total)
    }
}

fn drive(target: &Target, connections: usize, pause: Duration, end: Instant) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = Rc::new(std::cell::RefCell::new(Outcome::new()?));
    let all = tokio::task::LocalSet::new();
    let target = Rc::new(target.clone());
    for _ in 0..connections {
        let (target, outcome) = (target.clone(), outcome.clone());
        all.spawn_local(async move {
            while Instant::now() < end {
                let asking = keep_asking(&target, &outcome, pause, end);
                let result = tokio::time::timeout_at((end + GRACE).into(), asking).await;
                match result.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {GRACE:?} of the end"))) {
                    Ok(()) => {}
                    Err(error) => {
                        outcome.borrow_mut().failed(format!("{error:#}"));
                        tokio::time::sleep(AFTER_ERROR).await;
                    }
                }
            }
        });
    }
    runtime.block_on(all);
    Rc::try_unwrap(outcome)
        .map(std::cell::RefCell::into_inner)
        .map_err(|_| anyhow::anyhow!("a connection is left"))
}

/// One connection, until it fails, is closed by the server, or the end.
async fn keep_asking(
    target: &Target,
    outcome: &std::cell::RefCell<Outcome>,
    pause: Duration,
    end: Instant,
) -> anyhow::Result<()> {
    let mut connection = Connection::open(target.address).await?;
    let mut sent = Instant::now();
    while sent < end {
        let (status, open) = connection.exchange(&target.request).await?;
        let done = Instant::now();
        if status == 200 {
            let mut outcome = outcome.borrow_mut();
            outcome.requests += 1;
            let micros = u64::try_from((done - sent).as_micros()).unwrap_or(u64::MAX);
            outcome.latency.saturating_record(micros);
        } else {
            outcome.borrow_mut().failed(format!("status {status}"));
        }
        if !open {
            break;
        }
        sent = done;
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
            sent = Instant::now();
        }
    }
    Ok(())
}
