//! How much there is to do, and what was refused because it was too much.

use std::sync::LazyLock;
use std::time::Duration;

use prometheus::{
    Histogram, IntCounterVec, IntGauge, register_histogram, register_int_counter_vec, register_int_gauge,
};

static SHED: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_shed_total",
    "Requests and connections refused because there was too much to do, by what was short.",
    &["reason"]
));
static ADMITTED: LazyLock<IntGauge> = registered!(register_int_gauge!(
    "tollgate_requests_admitted",
    "Requests that have one of the places of overload.concurrent."
));
static WAITING: LazyLock<IntGauge> = registered!(register_int_gauge!(
    "tollgate_requests_waiting",
    "Requests in line, for one of these places or until their thread has time for them."
));
static STRANGERS: LazyLock<IntGauge> = registered!(register_int_gauge!(
    "tollgate_connections_unauthenticated",
    "Connections of clients on which nobody has shown a good key yet."
));
/// Bounds of the buckets of delays, in seconds.
const DELAYS: [f64; 9] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];
static LAG: LazyLock<Histogram> = registered!(register_histogram!(
    "tollgate_lag_seconds",
    "How much later than due the proxy's threads get to their work.",
    DELAYS.to_vec()
));
static STOOD: LazyLock<Histogram> = registered!(register_histogram!(
    "tollgate_line_seconds",
    "How long requests stood in line until their thread had time for them; those let in at once are not counted.",
    DELAYS.to_vec()
));

/// What was short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shed {
    /// Places (`overload.concurrent`), for longer than one waits.
    Concurrency,
    /// Room in the line for them.
    QueueFull,
    /// A thread's time.
    Lag,
    /// Memory for request bodies.
    Bodies,
    /// Room for large answers.
    Answers,
    /// Room for connections.
    Connections,
    /// Room for connections of one address.
    Address,
    /// Room for connections without a key.
    Unauthenticated,
}

impl Shed {
    const ALL: [Shed; 8] = [
        Shed::Concurrency,
        Shed::QueueFull,
        Shed::Lag,
        Shed::Bodies,
        Shed::Answers,
        Shed::Connections,
        Shed::Address,
        Shed::Unauthenticated,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Shed::Concurrency => "concurrency",
            Shed::QueueFull => "queue_full",
            Shed::Lag => "lag",
            Shed::Bodies => "bodies",
            Shed::Answers => "answers",
            Shed::Connections => "connections",
            Shed::Address => "address",
            Shed::Unauthenticated => "unauthenticated",
        }
    }
}

/// Makes all of it appear on the page from the start.
pub(super) fn declare() {
    for reason in Shed::ALL {
        SHED.with_label_values(&[reason.as_str()]);
    }
    LazyLock::force(&ADMITTED);
    LazyLock::force(&WAITING);
    LazyLock::force(&STRANGERS);
    LazyLock::force(&LAG);
    LazyLock::force(&STOOD);
}

/// Counts a request or connection that was refused.
pub fn shed(reason: Shed) {
    SHED.with_label_values(&[reason.as_str()]).inc();
}

/// One request that stands in line, for a place or for its turn, until dropped.
pub struct InLine(());

impl InLine {
    /// Counts it.
    pub fn begin() -> Self {
        WAITING.inc();
        InLine(())
    }
}

impl Drop for InLine {
    fn drop(&mut self) {
        WAITING.dec();
    }
}

/// So many connections are strangers'.
pub fn strangers(count: usize) {
    STRANGERS.set(i64::try_from(count).unwrap_or(i64::MAX));
}

/// A thread was so late.
pub fn lag(late: Duration) {
    LAG.observe(late.as_secs_f64());
}

/// A request that its thread now has time for stood in line for so long.
pub fn stood(time: Duration) {
    STOOD.observe(time.as_secs_f64());
}

/// One request with a place, until dropped.
pub struct Admitted(());

impl Admitted {
    /// Counts it.
    pub fn begin() -> Self {
        ADMITTED.inc();
        Admitted(())
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        ADMITTED.dec();
    }
}
