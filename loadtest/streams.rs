//! Many SSE streams at once: events are counted, not read.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::bail;
use bytes::Bytes;
use hdrhistogram::Histogram;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::{Notify, OnceCell, Semaphore};

use crate::client::{self, Connection, Target};
use crate::rps::histogram;

/// Many SSE streams at once.
#[derive(clap::Args, Clone)]
pub struct Streams {
    /// Where to POST: http://ADDRESS:PORT/PATH
    #[arg(long)]
    pub url: String,
    /// The model of the chat request; its name says how long the stream is and its pace.
    #[arg(long, default_value = "sandbox/small,tokens=1000000,pace=10ms")]
    pub model: String,
    /// Bytes of the chat request.
    #[arg(long, default_value_t = 1024)]
    pub size: usize,
    /// Streams at once.
    #[arg(long, default_value_t = 200)]
    pub streams: usize,
    /// So many of them on one HTTP/2 connection; 0: HTTP/1.1, each on a connection of its own.
    #[arg(long, default_value_t = 0)]
    pub http2: usize,
    /// How long, from when all are open.
    #[arg(long, default_value_t = 5.0)]
    pub seconds: f64,
    /// Extra headers, NAME:VALUE.
    #[arg(long)]
    pub header: Vec<String>,
}

/// Connections opened at the same time: fewer than any backlog.
const OPENING: usize = 64;
/// Longest wait until all streams have shown an event.
const READY: Duration = Duration::from_secs(60);

/// What is counted while streams are open.
struct Counted {
    events: AtomicU64,
    bytes: AtomicU64,
    /// Streams which have shown their first event.
    begun: AtomicU64,
    ended: AtomicU64,
    errors: AtomicU64,
    first_error: Mutex<Option<String>>,
    /// Microseconds from sending the request to its first event.
    first_event: Mutex<Histogram<u64>>,
}

/// Streams which are open until this is dropped.
pub struct Open {
    counted: Arc<Counted>,
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Streams {
    /// Opens all streams and returns when each has shown an event, or an error.
    pub fn open(&self) -> anyhow::Result<Open> {
        let target = Target::post(&self.url, &self.header, &client::chat(&self.model, true, self.size))?;
        let counted = Arc::new(Counted {
            events: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            first_error: Mutex::new(None),
            first_event: Mutex::new(histogram()?),
        });
        let stop = Arc::new(Notify::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (streams, driven, stopped) = (self.streams, counted.clone(), stop.clone());
        let each = self.http2;
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let opening = Arc::new(Semaphore::new(OPENING));
                let (target, mut all, mut last) = (Arc::new(target), tokio::task::JoinSet::new(), None);
                for at in 0..streams {
                    let shared = match each {
                        0 => None,
                        each if at % each == 0 => Some(Arc::new(OnceCell::new())),
                        _ => last.clone(),
                    };
                    last.clone_from(&shared);
                    all.spawn(keep_reading(target.clone(), shared, driven.clone(), opening.clone()));
                }
                stopped.notified().await;
            });
        });
        let open = Open {
            counted,
            stop,
            thread: Some(thread),
        };
        let begun = Instant::now();
        let enough = streams as u64;
        while open.counted.begun.load(Ordering::Relaxed) < enough {
            if begun.elapsed() > READY || open.errors() >= enough {
                let error = open.counted.first_error.lock().clone().unwrap_or_default();
                let begun = open.counted.begun.load(Ordering::Relaxed);
                bail!("only {begun} of {streams} streams began: {error}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(open)
    }

    /// Runs the test and says what was counted. Latencies in microseconds.
    pub fn run(&self) -> anyhow::Result<serde_json::Value> {
        let open = self.open()?;
        let (events, begun) = (open.events(), Instant::now());
        std::thread::sleep(Duration::from_secs_f64(self.seconds));
        let (events, elapsed) = (open.events() - events, begun.elapsed().as_secs_f64());
        let first = open.counted.first_event.lock().clone();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Ok(json!({
            "streams": self.streams,
            "errors": open.errors(),
            "first_error": open.counted.first_error.lock().clone(),
            "ended": load(&open.counted.ended),
            "seconds": elapsed,
            "events": events,
            "events_per_second": events as f64 / elapsed,
            "bytes": load(&open.counted.bytes),
            "first_event_p50": first.value_at_quantile(0.5),
            "first_event_p99": first.value_at_quantile(0.99),
            "first_event_max": first.max(),
        }))
    }
}

impl Open {
    /// Events seen so far, over all streams.
    pub fn events(&self) -> u64 {
        self.counted.events.load(Ordering::Relaxed)
    }

    /// Streams which failed.
    pub fn errors(&self) -> u64 {
        self.counted.errors.load(Ordering::Relaxed)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// An HTTP/2 connection, once somebody made it.
type Shared = Arc<OnceCell<SendRequest<Full<Bytes>>>>;

/// One stream after the other.
async fn keep_reading(target: Arc<Target>, shared: Option<Shared>, counted: Arc<Counted>, opening: Arc<Semaphore>) {
    let mut first = true;
    loop {
        let read = match &shared {
            None => read_stream(&target, &counted, &opening, &mut first).await,
            Some(shared) => read_http2(&target, shared, &counted, &opening, &mut first).await,
        };
        match read {
            Ok(()) => {
                counted.ended.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                counted.errors.fetch_add(1, Ordering::Relaxed);
                counted.first_error.lock().get_or_insert_with(|| format!("{error:#}"));
                return;
            }
        }
    }
}

async fn read_stream(
    target: &Target,
    counted: &Counted,
    opening: &Semaphore,
    first_of_all: &mut bool,
) -> anyhow::Result<()> {
    let permit = opening.acquire().await?;
    let sent = Instant::now();
    let mut connection = Connection::open(target.address).await?;
    drop(permit);
    let head = connection.send(&target.request).await?;
    if head.status != 200 {
        bail!("status {}", head.status);
    }
    let (mut head, mut chunks, mut seen) = (Some(head), client::Chunks::default(), Seen::new(sent));
    loop {
        let bytes = connection.next(&mut head).await?;
        if bytes.is_empty() {
            bail!("the stream was cut");
        }
        seen.count(bytes, counted, first_of_all);
        if chunks.feed(bytes)? {
            return Ok(());
        }
    }
}

async fn read_http2(
    target: &Target,
    shared: &Shared,
    counted: &Counted,
    opening: &Semaphore,
    first_of_all: &mut bool,
) -> anyhow::Result<()> {
    let permit = opening.acquire().await?;
    let sent = Instant::now();
    let mut connection = shared.get_or_try_init(|| connect(target)).await?.clone();
    connection.ready().await?;
    drop(permit);
    let answer = connection.send_request(target.http2()?).await?;
    if answer.status() != 200 {
        bail!("status {}", answer.status());
    }
    let (mut body, mut seen) = (answer.into_body(), Seen::new(sent));
    while let Some(frame) = body.frame().await {
        if let Ok(bytes) = frame?.into_data() {
            seen.count(&bytes, counted, first_of_all);
        }
    }
    Ok(())
}

async fn connect(target: &Target) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(target.address).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

/// What was seen of one stream.
struct Seen {
    sent: Instant,
    ends: Ends,
    first: bool,
}

impl Seen {
    fn new(sent: Instant) -> Self {
        Seen {
            sent,
            ends: Ends::default(),
            first: true,
        }
    }

    fn count(&mut self, bytes: &[u8], counted: &Counted, first_of_all: &mut bool) {
        let events = self.ends.count(bytes);
        counted.events.fetch_add(events, Ordering::Relaxed);
        counted.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        if events > 0 && std::mem::take(&mut self.first) {
            let micros = u64::try_from(self.sent.elapsed().as_micros()).unwrap_or(u64::MAX);
            counted.first_event.lock().saturating_record(micros);
            if std::mem::take(first_of_all) {
                counted.begun.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Counts empty lines ended by LF: the ends of SSE events. Chunk sizes around them end lines with CRLF and do not count.
#[derive(Default)]
struct Ends {
    after_line_end: bool,
}

impl Ends {
    fn count(&mut self, bytes: &[u8]) -> u64 {
        let mut events = 0;
        for at in memchr::memchr_iter(b'\n', bytes) {
            let before = if at == 0 {
                self.after_line_end
            } else {
                bytes[at - 1] == b'\n'
            };
            events += u64::from(before);
        }
        self.after_line_end = bytes.last() == Some(&b'\n');
        events
    }
}
