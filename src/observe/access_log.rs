//! One JSON line a request. No secret, prompt or answer is ever in it.
//!
//! The file is put away by time and by size (`super::rotate`). Two processes may write into it at once, while one takes the
//! place of the other: each line is part of one appending write, who puts the file away locks it, and who did not notices
//! within a second, by its number, and goes on in the new one.

use std::cell::RefCell;
use std::io::{self, Write};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::{Duration, Instant};

use super::append::Appender;
use super::json_line::JsonLine;
use super::rotate::Files;
use crate::clock::{Clock, UnixMicros};
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

/// How often old files are looked through.
const TIDY_EVERY: Duration = Duration::from_secs(60);

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

/// The file, and what is known of it.
struct Rotated {
    file: Appender,
    files: Files,
    clock: Clock,
    /// When its first line was written; `None`: there is none.
    began: Option<UnixMicros>,
    /// There is no room: lines are dropped.
    starved: bool,
    tidied: Option<Instant>,
}

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
    /// Ends the compressing ...
    ended: AtomicBool,
    /// ... by this thread, if there is one.
    compressing: OnceLock<Thread>,
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
    pub fn start(logs: &crate::config::Logs, clock: Clock) -> io::Result<Self> {
        let path = match &logs.access {
            crate::config::AccessLog::Off => return Ok(AccessLog { handle: None }),
            crate::config::AccessLog::Stdout => return Self::start_writer(Sink::Other(Box::new(io::stdout()))),
            crate::config::AccessLog::File(path) => path,
        };
        let file = Appender::open(path, 0o640)?;
        let files = Files::new(path, logs.rotation.clone());
        let began = files.began();
        let log = Self::start_writer(Sink::File(Box::new(Rotated {
            file,
            files: files.clone(),
            clock: clock.clone(),
            began,
            starved: false,
            tidied: None,
        })))?;
        if let (true, Some(handle)) = (logs.rotation.gzip, &log.handle) {
            let shared = Arc::clone(&handle.0);
            let thread = std::thread::Builder::new()
                .name("access-log-gzip".into())
                .spawn(move || compress(&files, &clock, &shared.ended))?;
            let _ = handle.0.compressing.set(thread.thread().clone());
        }
        Ok(log)
    }

    fn start_writer(sink: Sink) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Vec::new()),
            orders: Mutex::new(Orders::default()),
            ordered: Condvar::new(),
            carried_out: Condvar::new(),
            dropped: AtomicU64::new(0),
            dropped_total: dropped_total().map_err(io::Error::other)?,
            ended: AtomicBool::new(false),
            compressing: OnceLock::new(),
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
        self.0.ended.store(true, Ordering::Relaxed);
        self.0.orders.lock().stop = true;
        self.0.ordered.notify_one();
        if let Some(thread) = self.0.compressing.get() {
            thread.unpark();
        }
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
    File(Box<Rotated>),
    Other(Box<dyn Write + Send>),
}

/// Compresses what was put away, until the log ends.
fn compress(files: &Files, clock: &Clock, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        if let Err(error) = files.compress(clock.now(), ended) {
            tracing::warn!(%error, "old access logs can't be compressed");
        }
        std::thread::park_timeout(TIDY_EVERY);
    }
}

impl Rotated {
    /// Whether another file is in use than before.
    fn follow(&mut self) -> io::Result<bool> {
        if self.file.follow_path()? {
            self.began = self.files.began();
            return Ok(true);
        }
        if !self.files.are_ours() {
            return Ok(false);
        }
        let now = self.clock.now();
        let Some(began) = self.began else { return Ok(false) };
        if !self.files.is_due(began, self.file.length()?, now) || !self.file.put_away(&self.files.name(now))? {
            return Ok(false);
        }
        self.began = self.files.began();
        self.tidied = None;
        Ok(true)
    }

    /// Removes what has to go, each minute, or at once if there is no room.
    fn tidy(&mut self) -> io::Result<()> {
        if !self.files.are_ours() {
            return Ok(());
        }
        let starved = self.files.is_starved();
        if !starved && self.tidied.is_some_and(|last| last.elapsed() < TIDY_EVERY) {
            self.starved = false;
            return Ok(());
        }
        self.tidied = Some(Instant::now());
        let removed = self.files.tidy(self.clock.now());
        // Whatever came of it: a full disk is not filled further.
        let was_starved = std::mem::replace(&mut self.starved, starved && self.files.is_starved());
        if self.starved && !was_starved {
            tracing::error!("there is less free disk space than logs.access_min_free: access-log lines are dropped");
        }
        let removed = removed?;
        if removed.early > 0 {
            tracing::warn!(
                files = removed.early,
                "access logs were removed before their time, for want of room"
            );
        }
        if removed.old > 0 {
            tracing::info!(files = removed.old, "old access logs were removed");
        }
        Ok(())
    }
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
            self.look();
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

    /// Once a second: is the file still where it should be, is it time for another, is there room?
    fn look(&mut self) {
        let Sink::File(file) = &mut self.sink else { return };
        if self.looked.elapsed() < LOOK_EVERY {
            return;
        }
        self.looked = Instant::now();
        let followed = file.follow();
        let tidied = file.tidy();
        match followed {
            Ok(opened_again) => self.torn &= !opened_again,
            Err(error) => self.complain(&error),
        }
        if let Err(error) = tidied {
            tracing::warn!(%error, "old access logs can't be removed");
        }
    }

    /// Writes what it can; counts the lines it could not write whole.
    fn write_lines(&mut self, lines: &[u8]) {
        if lines.is_empty() {
            return;
        }
        if let Sink::File(file) = &mut self.sink {
            if file.starved {
                self.shared
                    .count_dropped(memchr::memchr_iter(b'\n', lines).count() as u64);
                return;
            }
            if file.began.is_none() {
                file.began = Some(file.clock.now());
            }
        }
        let mut rest = lines;
        let outcome = self.end_torn_line().and_then(|()| {
            let to: &mut dyn Write = match &mut self.sink {
                Sink::File(file) => &mut file.file,
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
                Sink::File(file) => file.file.write_all(b"\n"),
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
