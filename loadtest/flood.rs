//! More requests than can be served: an open loop, which asks at a fixed rate whatever is answered, as many clients do that know
//! nothing of one another. What is refused is not asked again, and the next one follows all the same.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::json;

use crate::client::{self, Connection, Target};
use crate::machine;
use crate::rps::histogram;

/// More requests than can be served: an open loop at a fixed rate.
#[derive(clap::Args, Clone)]
pub struct Flood {
    /// Where to POST: http://ADDRESS:PORT/PATH
    #[arg(long)]
    url: String,
    /// A chat request for this model.
    #[arg(long, default_value = "sandbox/small")]
    model: String,
    /// Bytes of the chat request.
    #[arg(long, default_value_t = 1024)]
    size: usize,
    /// Requests a second.
    #[arg(long)]
    rate: f64,
    /// Most connections. A request for which none is free is counted as unsent.
    #[arg(long, default_value_t = 2000)]
    connections: usize,
    /// How long.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Extra headers, NAME:VALUE.
    #[arg(long)]
    header: Vec<String>,
    /// The process whose memory is looked at.
    #[arg(long)]
    pid: Option<u32>,
}

/// A request whose turn was so long ago is not sent any more: its client would have gone elsewhere.
const LATE: Duration = Duration::from_millis(500);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

struct Counts {
    next: u64,
    served: u64,
    /// Served before the end.
    in_time: u64,
    refused: u64,
    /// Refused without `Retry-After`, or with another status.
    other: u64,
    failed: u64,
    unsent: u64,
    first_error: Option<String>,
    latency: Histogram<u64>,
}

impl Flood {
    /// Runs the test.
    pub fn run(&self) -> anyhow::Result<serde_json::Value> {
        let target = Rc::new(Target::post(
            &self.url,
            &self.header,
            &client::chat(&self.model, false, self.size),
        )?);
        let counts = Rc::new(RefCell::new(Counts {
            next: 0,
            served: 0,
            in_time: 0,
            refused: 0,
            other: 0,
            failed: 0,
            unsent: 0,
            first_error: None,
            latency: histogram()?,
        }));
        let before = self.resident();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let all = tokio::task::LocalSet::new();
        let begun = Instant::now();
        for _ in 0..self.connections {
            let (target, counts, flood) = (target.clone(), counts.clone(), self.clone());
            all.spawn_local(async move { flood.keep_asking(&target, &counts, begun).await });
        }
        runtime.block_on(all);
        let seconds = begun.elapsed().as_secs_f64();
        let counts = counts.borrow();
        let at = |quantile| counts.latency.value_at_quantile(quantile);
        Ok(json!({
            "wanted": self.rate * self.seconds,
            "served": counts.served,
            "goodput": counts.in_time as f64 / self.seconds,
            "refused": counts.refused,
            "other": counts.other,
            "failed": counts.failed,
            "unsent": counts.unsent,
            "first_error": counts.first_error,
            "seconds": seconds,
            "p50": at(0.5),
            "p99": at(0.99),
            "resident_before": before,
            "resident_after": self.resident(),
        }))
    }

    /// In bytes; `None`: of whom nobody asked.
    fn resident(&self) -> Option<u64> {
        machine::resident(self.pid?).ok()
    }

    /// One connection, which takes the next request whenever it is free.
    async fn keep_asking(&self, target: &Target, counts: &RefCell<Counts>, begun: Instant) {
        let mut connection = None;
        loop {
            let turn = {
                let mut counts = counts.borrow_mut();
                counts.next += 1;
                begun + Duration::from_secs_f64(counts.next as f64 / self.rate)
            };
            if turn > begun + Duration::from_secs_f64(self.seconds) {
                return;
            }
            tokio::time::sleep_until(turn.into()).await;
            if turn.elapsed() > LATE {
                counts.borrow_mut().unsent += 1;
                continue;
            }
            let asked = tokio::time::timeout(PATIENCE, ask(target, &mut connection)).await;
            let mut counts = counts.borrow_mut();
            match asked {
                Ok(Ok((200, _))) => {
                    counts.served += 1;
                    counts.in_time += u64::from(begun.elapsed().as_secs_f64() < self.seconds);
                    let micros = u64::try_from(turn.elapsed().as_micros()).unwrap_or(u64::MAX);
                    counts.latency.saturating_record(micros);
                }
                Ok(Ok((503 | 429, true))) => counts.refused += 1,
                Ok(Ok((status, _))) => {
                    counts.other += 1;
                    counts.first_error.get_or_insert(format!("status {status}"));
                }
                Ok(Err(error)) => {
                    counts.failed += 1;
                    counts.first_error.get_or_insert(format!("{error:#}"));
                    connection = None;
                }
                Err(_) => {
                    counts.failed += 1;
                    counts.first_error.get_or_insert("no answer".to_owned());
                    connection = None;
                }
            }
        }
    }
}

/// The status, and whether the client was told when to come back.
async fn ask(target: &Target, open: &mut Option<Connection>) -> anyhow::Result<(u16, bool)> {
    let mut connection = match open.take() {
        Some(connection) => connection,
        None => Connection::open(target.address).await?,
    };
    let (status, stays) = connection.exchange(&target.request).await?;
    let told = connection.told_to_wait;
    if stays {
        *open = Some(connection);
    }
    Ok((status, told))
}
