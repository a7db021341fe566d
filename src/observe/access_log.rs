//! One JSON line a request. No secret, prompt or answer is ever in it.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::append::Appender;
use super::json_line::JsonLine;
use parking_lot::{Condvar, Mutex};
use prometheus::IntCounter;

pub use super::timestamp::{Rfc3339, rfc3339};

/// One request, as logged.
pub struct Line<'a> {
    /// When it began, RFC 3339 with microseconds, UTC.
    pub time: &'a str,
    /// `x-request-id`.
    pub request_id: &'a str,
    /// Client address (HARDENING H5); `None`: unknown.
    pub client: Option<IpAddr>,
    /// Client key id; empty: not authenticated.
    pub key: &'a str,
    /// Its group; absent: none.
    pub group: &'a str,
    /// Method.
    pub method: &'a str,
    /// Path without query, control characters escaped, at most 256 bytes.
    pub path: &'a str,
    /// HTTP version: `1.1`, `2`.
    pub http: &'static str,
    /// Client dialect; empty: none.
    pub dialect: &'a str,
    /// Operation; empty: none.
    pub operation: &'a str,
    /// Model asked for.
    pub model: &'a str,
    /// Provider; empty: none was called.
    pub provider: &'a str,
    /// Credential's name.
    pub credential: &'a str,
    /// Model the provider was asked for.
    pub upstream_model: &'a str,
    /// Status sent; 0: none.
    pub status: u16,
    /// Upstream attempts.
    pub attempts: u32,
    /// Whether a stream was asked for.
    pub stream: bool,
    /// How it ended: a word of the ledger's, or `refused`, `local`.
    pub ended: &'a str,
    /// Error code of a refusal or failure; empty: none.
    pub error: &'a str,
    /// Input tokens, all classes; absent: unknown.
    pub input_tokens: Option<u64>,
    /// Output tokens, all classes; absent: unknown.
    pub output_tokens: Option<u64>,
    /// What providers bill for it, in dollars; absent: the price is unknown, or none was called.
    pub cost_usd: Option<String>,
    /// What the client is charged, in dollars; absent: no provider was called.
    pub charge_usd: Option<String>,
    /// Tokens, cost or charge are our estimate; absent: they are not.
    pub estimated: bool,
    /// What conversion between dialects lost: how many fields, and the first; absent: nothing.
    pub loss: &'a str,
    /// Bytes of the request body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Until the first byte of the answer, microseconds; absent: none.
    pub first_byte_us: Option<u64>,
    /// Whole request, microseconds.
    pub total_us: u64,
    /// The gateway's own share of it before the upstream call, microseconds.
    pub overhead_us: u64,
}

impl Line<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        let mut line = JsonLine::begin(out);
        line.text("time", self.time);
        line.text("request_id", self.request_id);
        line.address("client", self.client);
        line.text("key", self.key);
        if !self.group.is_empty() {
            line.text("group", self.group);
        }
        line.text("method", self.method);
        line.text("path", self.path);
        line.text("http", self.http);
        line.text("dialect", self.dialect);
        line.text("operation", self.operation);
        line.text("model", self.model);
        line.text("provider", self.provider);
        line.text("credential", self.credential);
        line.text("upstream_model", self.upstream_model);
        line.number("status", u64::from(self.status));
        line.number("attempts", u64::from(self.attempts));
        line.flag("stream", self.stream);
        line.text("ended", self.ended);
        line.text("error", self.error);
        line.number_if_any("input_tokens", self.input_tokens);
        line.number_if_any("output_tokens", self.output_tokens);
        if let Some(cost) = &self.cost_usd {
            line.text("cost_usd", cost);
        }
        if let Some(charge) = &self.charge_usd {
            line.text("charge_usd", charge);
        }
        if self.estimated {
            line.flag("estimated", true);
        }
        if !self.loss.is_empty() {
            line.text("loss", self.loss);
        }
        line.number("request_bytes", self.request_bytes);
        line.number("response_bytes", self.response_bytes);
        line.number_if_any("first_byte_us", self.first_byte_us);
        line.number("total_us", self.total_us);
        line.number("overhead_us", self.overhead_us);
        line.end();
    }
}

/// Most bytes of lines that wait for the writer; beyond it lines are dropped. As much again may be in the writer's hands.
pub const MAX_WAITING: usize = 8 * 1024 * 1024;

/// Longest line, in bytes; a longer one is dropped.
pub const MAX_LINE: usize = 64 * 1024;

/// How long a line waits for the writer, at most.
const WRITE_EVERY: Duration = Duration::from_millis(100);

/// How often the writer looks whether the file was moved away, and at most how often it complains.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How long [`AccessLog::flush`] waits for a disk or a pipe that does not take the lines.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// Takes lines from every thread and writes them from one of its own. When it can't keep up lines are dropped and
/// counted (`tollgate_access_log_dropped_total`): a log never holds up traffic.
#[derive(Clone)]
pub struct AccessLog {
    /// `None`: off.
    handle: Option<Arc<Handle>>,
}

/// Ends the writer when the last [`AccessLog`] is dropped.
struct Handle(Arc<Shared>);

struct Shared {
    /// Whole lines, to be written.
    waiting: Mutex<Vec<u8>>,
    orders: Mutex<Orders>,
    /// Wakes the writer: there is an order.
    ordered: Condvar,
    /// Wakes those who flush: an order was carried out.
    carried_out: Condvar,
    dropped: AtomicU64,
    dropped_total: IntCounter,
}

/// What the writer was asked for, beyond its rhythm.
#[derive(Default)]
struct Orders {
    /// Flushes asked for.
    flushes: u64,
    /// Flushes carried out.
    flushed: u64,
    /// Write what is there, then end.
    stop: bool,
}

impl AccessLog {
    /// Opens the file and starts the writer.
    pub fn start(to: &crate::config::AccessLog) -> io::Result<Self> {
        let sink = match to {
            crate::config::AccessLog::Off => return Ok(AccessLog { handle: None }),
            crate::config::AccessLog::Stdout => Sink::Other(Box::new(io::stdout())),
            crate::config::AccessLog::File(path) => Sink::File(Appender::open(path, 0o640)?),
        };
        Self::start_writer(sink)
    }

    fn start_writer(sink: Sink) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Vec::new()),
            orders: Mutex::new(Orders::default()),
            ordered: Condvar::new(),
            carried_out: Condvar::new(),
            dropped: AtomicU64::new(0),
            dropped_total: dropped_total().map_err(io::Error::other)?,
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            sink,
            torn: false,
            looked: Instant::now(),
            complained: None,
        };
        std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || writer.run())?;
        Ok(AccessLog {
            handle: Some(Arc::new(Handle(shared))),
        })
    }

    /// Hands a line over. About a microsecond; never waits for the disk.
    pub fn write(&self, line: &Line<'_>) {
        thread_local! {
            /// Lines are made here, so that the shared buffer is locked for a copy only.
            static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let Some(handle) = &self.handle else { return };
        SCRATCH.with_borrow_mut(|scratch| {
            scratch.clear();
            line.write(scratch);
            if scratch.len() > MAX_LINE || !handle.0.hand_over(scratch) {
                handle.0.count_dropped(1);
            }
            // A thread does not keep the room of one long line for ever.
            scratch.shrink_to(4096);
        });
    }

    /// Writes what was handed over. Blocking, at most 5 seconds.
    pub fn flush(&self) {
        let Some(Handle(shared)) = self.handle.as_deref() else {
            return;
        };
        let mut orders = shared.orders.lock();
        orders.flushes += 1;
        let mine = orders.flushes;
        shared.ordered.notify_one();
        let until = Instant::now() + FLUSH_WAIT;
        shared
            .carried_out
            .wait_while_until(&mut orders, |orders| orders.flushed < mine, until);
    }

    /// Lines dropped since the start.
    pub fn dropped(&self) -> u64 {
        self.handle
            .as_ref()
            .map_or(0, |handle| handle.0.dropped.load(Ordering::Relaxed))
    }
}

impl Shared {
    /// Whether there was room.
    fn hand_over(&self, line: &[u8]) -> bool {
        let mut waiting = self.waiting.lock();
        let room = waiting.len() + line.len() <= MAX_WAITING;
        if room {
            waiting.extend_from_slice(line);
        }
        room
    }

    fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
        self.dropped_total.inc_by(lines);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.orders.lock().stop = true;
        self.0.ordered.notify_one();
    }
}

/// The metric; registered once however many logs there are.
fn dropped_total() -> prometheus::Result<IntCounter> {
    static REGISTERED: Mutex<Option<IntCounter>> = Mutex::new(None);
    let mut registered = REGISTERED.lock();
    if let Some(counter) = &*registered {
        return Ok(counter.clone());
    }
    let counter = IntCounter::new(
        "tollgate_access_log_dropped_total",
        "Access-log lines dropped because they could not be written fast enough, or at all.",
    )?;
    prometheus::register(Box::new(counter.clone()))?;
    *registered = Some(counter.clone());
    Ok(counter)
}

/// Where lines go.
enum Sink {
    File(Appender),
    Other(Box<dyn Write + Send>),
}

/// The thread that writes.
struct Writer {
    shared: Arc<Shared>,
    sink: Sink,
    /// The last write ended within a line: end it before the next.
    torn: bool,
    looked: Instant,
    complained: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        let mut lines = Vec::new();
        loop {
            let (flushes, stop) = {
                let mut orders = self.shared.orders.lock();
                if !orders.stop && orders.flushes == orders.flushed {
                    self.shared.ordered.wait_for(&mut orders, WRITE_EVERY);
                }
                (orders.flushes, orders.stop)
            };
            std::mem::swap(&mut *self.shared.waiting.lock(), &mut lines);
            self.follow_path();
            self.write_lines(&lines);
            lines.clear();
            // The buffers keep room for a busy tenth of a second, not for the worst one there ever was.
            lines.shrink_to(1024 * 1024);
            self.shared.orders.lock().flushed = flushes;
            self.shared.carried_out.notify_all();
            if stop {
                return;
            }
        }
    }

    /// Once a second: is the file still where it should be?
    fn follow_path(&mut self) {
        let Sink::File(file) = &mut self.sink else { return };
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        match file.follow_path() {
            Ok(opened_again) => self.torn &= !opened_again,
            Err(error) => self.complain(&error),
        }
    }

    /// Writes what it can; counts the lines it could not write whole.
    fn write_lines(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        let mut rest = lines;
        let outcome = self.end_torn_line().and_then(|()| {
            let to: &mut dyn Write = match &mut self.sink {
                Sink::File(file) => file,
                Sink::Other(other) => other,
            };
            while !rest.is_empty() {
                match to.write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            to.flush()
        });
        if let Err(error) = outcome {
            let written = lines.len() - rest.len();
            self.torn |= written > 0 && lines[written - 1] != b'\n';
            self.shared
                .count_dropped(memchr::memchr_iter(b'\n', rest).count() as u64);
            self.complain(&error);
        }
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.torn) {
            let outcome = match &mut self.sink {
                Sink::File(file) => file.write_all(b"\n"),
                Sink::Other(other) => other.write_all(b"\n"),
            };
            self.torn = outcome.is_err();
            return outcome;
        }
        Ok(())
    }

    fn complain(&mut self, error: &io::Error) {
        if self.complained.is_none_or(|last| last.elapsed() >= LOOK_EVERY) {
            self.complained = Some(Instant::now());
            tracing::error!(%error, "the access log can't be written: lines are dropped");
        }
    }
}

#[cfg(test)]
mod tests;
