//! What the proxy measures, under OpenTelemetry's generative-AI names (in Prometheus form) and `tollgate_*`. No label has
//! unbounded values: a model has a name of its own only once an answer of it succeeded, and only the first
//! [`MAX_MODELS`]; later ones are `other`.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, register_histogram, register_histogram_vec,
    register_int_counter_vec, register_int_gauge,
};

use crate::dialects::Target;
use crate::ir::{DialectId, LossKind, LossReport, Usage};
use crate::ledger::{Closing, Ended};
use crate::routing::affinity::Kept;
use crate::upstream::Failure;

use super::context::{Attempt, RequestContext};

/// Most models with a label of their own.
const MAX_MODELS: usize = 256;

/// Buckets of durations, in seconds: OpenTelemetry's advice for `gen_ai.server.request.duration`.
const DURATIONS: [f64; 14] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
];
/// … `gen_ai.server.time_to_first_token`.
const FIRST_TOKEN: [f64; 16] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];
/// … `gen_ai.server.time_per_output_token`.
const PER_TOKEN: [f64; 13] = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5];
/// … `gen_ai.client.token.usage`.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// Our own overhead, in seconds.
const OVERHEAD: [f64; 12] = [
    0.000_01, 0.000_02, 0.000_05, 0.000_1, 0.000_2, 0.000_5, 0.001, 0.005, 0.02, 0.1, 1.0, 10.0,
];

/// Token classes, as the label `gen_ai_token_type` names them.
const CLASSES: [&str; 5] = ["input", "cached_input", "cache_creation_input", "output", "reasoning"];

// Names and help texts are literals, registered once in the process: registration can't fail.
macro_rules! registered {
    ($registration:expr) => {
        LazyLock::new(|| match $registration {
            Ok(metric) => metric,
            Err(error) => unreachable!("a metric is registered once, under a valid name: {error}"),
        })
    };
}

mod load;

pub use load::{Admitted, InLine, Shed, lag, shed, stood, strangers};

static REQUESTS: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_requests_total",
    "Requests of clients, by dialect, operation, status sent (0: none) and how they ended.",
    &["dialect", "operation", "status", "ended"]
));
static ATTEMPTS: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_attempts_total",
    "Upstream attempts, by provider, credential and how they ended.",
    &["provider", "credential", "ended"]
));
static FAILOVERS: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_failovers_total",
    "Attempts that were followed by another, by the provider which failed and how.",
    &["provider", "failure"]
));
static AFFINITY: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_affinity_total",
    "Answered requests of a known conversation: fresh (its first), stayed (where it was), moved.",
    &["result"]
));
static PROMPT_TOKENS: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_prompt_tokens_total",
    "Prompt tokens as providers reported them, by whether their prompt cache had them: the cache-hit share is the part \
     with cached=\"yes\".",
    &["provider", "cached"]
));
static REFUSALS: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_refusals_total",
    "Errors of our own sent to clients, by code.",
    &["code"]
));
static COST: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_cost_nanousd_total",
    "What providers bill, in nano-dollars (10^-9 USD), by known prices; estimates included.",
    &["provider", "model"]
));
static CHARGE: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_charge_nanousd_total",
    "What clients are charged, in nano-dollars (10^-9 USD).",
    &["provider", "model"]
));
static ESTIMATED: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_estimated_attempts_total",
    "Attempts whose usage or cost is our estimate, since the provider told none, by how they ended.",
    &["ended"]
));
static UNPRICED: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_unpriced_attempts_total",
    "Attempts whose price is unknown.",
    &["provider"]
));
static ABORTS: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_streams_aborted_total",
    "Streams that ended before their end, by the side which ended them.",
    &["by"]
));
static DRAINED: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_drained_total",
    "Answers to be read on whose clients went away: exact (usage was told), cut (not before the time was over, or the provider \
     failed), full (too many at once: not read on).",
    &["result"]
));
static LOSSES: LazyLock<IntCounterVec> = registered!(register_int_counter_vec!(
    "tollgate_conversion_losses_total",
    "Fields which conversion left out, approximated or made up, by client dialect, provider dialect and kind.",
    &["from", "to", "kind"]
));
static IN_FLIGHT: LazyLock<IntGauge> = registered!(register_int_gauge!(
    "tollgate_requests_in_flight",
    "Requests being served."
));
static CONNECTIONS: LazyLock<IntGauge> =
    registered!(register_int_gauge!("tollgate_connections", "Connections of clients."));
static OVERHEAD_SECONDS: LazyLock<Histogram> = registered!(register_histogram!(
    "tollgate_overhead_seconds",
    "The gateway's own work before the upstream call, the wait for the request body included.",
    OVERHEAD.to_vec()
));
static TOKEN_USAGE: LazyLock<HistogramVec> = registered!(register_histogram_vec!(
    "gen_ai_client_token_usage",
    "Tokens of one answer, by class.",
    &[
        "gen_ai_operation_name",
        "gen_ai_provider_name",
        "gen_ai_request_model",
        "gen_ai_token_type"
    ],
    TOKENS.to_vec()
));
static DURATION: LazyLock<HistogramVec> = registered!(register_histogram_vec!(
    "gen_ai_server_request_duration_seconds",
    "Upstream attempts from their start to their end.",
    &[
        "gen_ai_operation_name",
        "gen_ai_provider_name",
        "gen_ai_request_model",
        "error_type"
    ],
    DURATIONS.to_vec()
));
static TIME_TO_FIRST_TOKEN: LazyLock<HistogramVec> = registered!(register_histogram_vec!(
    "gen_ai_server_time_to_first_token_seconds",
    "From the start of an attempt to the first event with content of its stream.",
    &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
    FIRST_TOKEN.to_vec()
));
static TIME_PER_TOKEN: LazyLock<HistogramVec> = registered!(register_histogram_vec!(
    "gen_ai_server_time_per_output_token_seconds",
    "Time between output tokens after the first.",
    &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_request_model"],
    PER_TOKEN.to_vec()
));

/// An attempt failed, and another follows.
pub fn failed_over(provider: &str, failure: Failure) {
    FAILOVERS.with_label_values(&[provider, failure.as_str()]).inc();
}

/// A request of a known conversation was answered.
pub fn stayed(kept: Kept) {
    AFFINITY.with_label_values(&[kept.as_str()]).inc();
}

/// What became of an answer whose client went away, and which was to be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Its usage was told.
    Exact,
    /// It was not, by the end of the time or of the answer.
    Cut,
    /// There was no room: it was cut off at once.
    Full,
}

impl Drained {
    fn as_str(self) -> &'static str {
        match self {
            Drained::Exact => "exact",
            Drained::Cut => "cut",
            Drained::Full => "full",
        }
    }
}

/// Counts it.
pub fn drained(result: Drained) {
    DRAINED.with_label_values(&[result.as_str()]).inc();
}

/// Makes every family appear on the page from the start.
pub fn declare() {
    LazyLock::force(&REQUESTS);
    LazyLock::force(&ATTEMPTS);
    LazyLock::force(&REFUSALS);
    for by in ["client", "upstream", "gateway"] {
        ABORTS.with_label_values(&[by]);
    }
    for result in [Drained::Exact, Drained::Cut, Drained::Full] {
        DRAINED.with_label_values(&[result.as_str()]);
    }
    for result in [Kept::Fresh, Kept::Stayed, Kept::Moved] {
        AFFINITY.with_label_values(&[result.as_str()]);
    }
    load::declare();
    LazyLock::force(&COST);
    LazyLock::force(&CHARGE);
    LazyLock::force(&ESTIMATED);
    LazyLock::force(&UNPRICED);
    LazyLock::force(&LOSSES);
    LazyLock::force(&IN_FLIGHT);
    LazyLock::force(&CONNECTIONS);
    LazyLock::force(&OVERHEAD_SECONDS);
    LazyLock::force(&TOKEN_USAGE);
    LazyLock::force(&DURATION);
    LazyLock::force(&TIME_TO_FIRST_TOKEN);
    LazyLock::force(&TIME_PER_TOKEN);
}

/// One request in flight, until dropped: also when a filter panics.
pub struct InFlight(());

impl InFlight {
    /// Counts it.
    pub fn begin() -> Self {
        IN_FLIGHT.inc();
        InFlight(())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        IN_FLIGHT.dec();
    }
}

/// Requests being served.
pub fn in_flight() -> i64 {
    IN_FLIGHT.get()
}

/// Connections of clients.
pub fn connections() -> i64 {
    CONNECTIONS.get()
}

/// One connection of a client, until dropped.
pub struct Connected(());

impl Connected {
    /// Counts it.
    pub fn begin() -> Self {
        CONNECTIONS.inc();
        Connected(())
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        CONNECTIONS.dec();
    }
}

/// Counts an error of our own.
pub fn refused(code: &str) {
    REFUSALS.with_label_values(&[code]).inc();
}

/// Counts what conversion lost between the client's dialect and the provider's.
pub fn lost(from: DialectId, to: DialectId, loss: &LossReport) {
    for kind in LossKind::ALL {
        let count = loss.count(kind);
        if count > 0 {
            LOSSES
                .with_label_values(&[from.as_str(), to.as_str(), kind.as_str()])
                .inc_by(u64::from(count));
        }
    }
}

/// Counts a request.
pub fn request_ended(ctx: &RequestContext, status: u16, ended: &str) {
    let target = ctx.client.target.as_ref();
    let dialect = target.map_or("", |target| target.dialect.id().as_str());
    let operation = target.map_or(if ctx.attempts > 0 { "passthrough" } else { "" }, |target| {
        target.operation.as_str()
    });
    let mut digits = [b'0'; 3];
    let status = status_text(status, &mut digits);
    REQUESTS.with_label_values(&[dialect, operation, status, ended]).inc();
    if let Some(stage) = &ctx.route {
        OVERHEAD_SECONDS.observe(stage.overhead.as_secs_f64());
    }
}

fn status_text(status: u16, digits: &mut [u8; 3]) -> &str {
    if !(100..1000).contains(&status) {
        return "0";
    }
    *digits = [status / 100, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    std::str::from_utf8(digits).unwrap_or("0")
}

/// Counts an attempt: how it ended, how long it took, what it cost in tokens.
pub fn attempt_ended(
    target: Option<&Target>,
    attempt: &Attempt,
    ended: Ended,
    usage: Option<Usage>,
    closing: &Closing,
) {
    let provider = &*attempt.pool.provider.name;
    let credential = attempt.credential.as_ref().map_or("", |credential| &credential.name);
    ATTEMPTS
        .with_label_values(&[provider, credential, ended.as_str()])
        .inc();
    if attempt.first_token.is_some() {
        match ended {
            Ended::ClientGone => ABORTS.with_label_values(&["client"]).inc(),
            Ended::UpstreamBroke => ABORTS.with_label_values(&["upstream"]).inc(),
            Ended::TimedOut | Ended::Panicked => ABORTS.with_label_values(&["gateway"]).inc(),
            _ => {}
        }
    }
    if closing.estimated {
        ESTIMATED.with_label_values(&[ended.as_str()]).inc();
    }
    if closing.cost.is_none() {
        UNPRICED.with_label_values(&[provider]).inc();
    }
    let Some(target) = target else {
        CHARGE.with_label_values(&[provider, "other"]).inc_by(closing.charge.0);
        return;
    };
    let operation = target.operation.as_str();
    let total = closing.total_us as f64 / 1e6;
    if ended != Ended::Complete {
        let model = ModelMetrics::known(operation, provider, &attempt.model).map_or("other", |_| &*attempt.model);
        DURATION
            .with_label_values(&[operation, provider, model, ended.as_str()])
            .observe(total);
        COST.with_label_values(&[provider, model])
            .inc_by(closing.cost.unwrap_or_default().0);
        CHARGE.with_label_values(&[provider, model]).inc_by(closing.charge.0);
        return;
    }
    let metrics = ModelMetrics::of(operation, &attempt.pool.provider.name, &attempt.model);
    metrics.duration.observe(total);
    metrics.cost.inc_by(closing.cost.unwrap_or_default().0);
    metrics.charge.inc_by(closing.charge.0);
    if let (Some(first), Some(last)) = (attempt.first_token, attempt.last_chunk)
        && closing.first_token_us.is_some()
    {
        metrics.first_token.observe(first.as_secs_f64());
        let tokens = usage.map_or(0, |usage| usage.output_total());
        if tokens > 1 && last > first {
            metrics
                .per_token
                .observe((last - first).as_secs_f64() / (tokens - 1) as f64);
        }
    }
    if let Some(usage) = usage {
        metrics.prompt[0].inc_by(usage.cache_read);
        metrics.prompt[1].inc_by(usage.input_total().saturating_sub(usage.cache_read));
        let classes = [
            usage.input + usage.input_audio,
            usage.cache_read,
            usage.cache_write_5m + usage.cache_write_1h,
            usage.output + usage.output_audio,
            usage.reasoning,
        ];
        for (histogram, tokens) in metrics.tokens.iter().zip(classes).filter(|(_, tokens)| *tokens > 0) {
            histogram.observe(tokens as f64);
        }
    }
}

/// The handles of one (operation, provider, model): looked up once, not by every label on every request.
struct ModelMetrics {
    duration: Histogram,
    first_token: Histogram,
    per_token: Histogram,
    tokens: [Histogram; CLASSES.len()],
    cost: IntCounter,
    charge: IntCounter,
    /// Prompt tokens: cached, and not.
    prompt: [IntCounter; 2],
}

type Known = HashMap<(&'static str, Arc<str>), HashMap<Arc<str>, Arc<ModelMetrics>>>;

static KNOWN: LazyLock<ArcSwap<Known>> = LazyLock::new(ArcSwap::default);
static LEARNING: Mutex<()> = Mutex::new(());

impl ModelMetrics {
    fn known(operation: &'static str, provider: &str, model: &str) -> Option<Arc<Self>> {
        KNOWN.load().get(&(operation, Arc::from(provider)))?.get(model).cloned()
    }

    fn of(operation: &'static str, provider: &Arc<str>, model: &str) -> Arc<Self> {
        let key = (operation, provider.clone());
        if let Some(known) = KNOWN.load().get(&key).and_then(|models| models.get(model)) {
            return known.clone();
        }
        let _learning = LEARNING.lock();
        let mut known = Known::clone(&KNOWN.load());
        let room = known.values().map(HashMap::len).sum::<usize>() < MAX_MODELS;
        let label: Arc<str> = if room { model.into() } else { "other".into() };
        let models = known.entry(key).or_default();
        let metrics = models
            .entry(label.clone())
            .or_insert_with(|| Arc::new(Self::new(operation, provider, &label)))
            .clone();
        KNOWN.store(Arc::new(known));
        metrics
    }

    fn new(operation: &str, provider: &str, model: &str) -> Self {
        ModelMetrics {
            duration: DURATION.with_label_values(&[operation, provider, model, ""]),
            first_token: TIME_TO_FIRST_TOKEN.with_label_values(&[operation, provider, model]),
            per_token: TIME_PER_TOKEN.with_label_values(&[operation, provider, model]),
            cost: COST.with_label_values(&[provider, model]),
            charge: CHARGE.with_label_values(&[provider, model]),
            tokens: CLASSES.map(|class| TOKEN_USAGE.with_label_values(&[operation, provider, model, class])),
            prompt: ["yes", "no"].map(|cached| PROMPT_TOKENS.with_label_values(&[provider, cached])),
        }
    }
}
