//! `conf/tollgate.toml`: what is read at start and at upgrade. Names, defaults and bounds stand in `conf/tollgate.toml`.

pub mod alerts;
pub mod decimal;
mod defaults;
pub mod duration;
pub mod fields;
pub mod json;
mod listen;
pub mod load;
pub mod name;
pub mod overload;
mod pools;
pub mod problem;
pub mod reference;
pub mod secret;
pub mod size;
mod sound;
pub mod source;
pub mod value;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

pub use alerts::Alerts;
pub use listen::{ClientAuth, Listener, TlsFiles, TlsListener, TlsVersion, UnknownName};
pub use overload::Overload;
pub use pools::{AddressHeader, AffinitySettings, HealthSettings, Retries};
pub use problem::{Problem, Problems};
pub use secret::{MAX_SECRET_NAME, SECRET_NAME_RULE, Secret, is_secret_name};

/// Everything of `conf/tollgate.toml`, checked, with defaults filled in. Relative paths are relative to the working
/// directory.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. At least one.
    pub listeners: Vec<Listener>,
    /// Worker threads of the proxy; 0 in the file means one per core.
    pub threads: usize,
    /// Whether idle workers take tasks from busy ones.
    pub work_stealing: bool,
    /// Networks whose `X-Forwarded-For` is believed (HARDENING H5). Empty: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// Headers with the client's address, each believed from some networks only. Empty: none is.
    pub client_address: Vec<AddressHeader>,
    /// The data folder: store, journal, logs, first-run file.
    pub data: PathBuf,
    /// The rules folder.
    pub rules: PathBuf,
    /// The file with the 32-byte master key, or `credential:NAME` for what systemd hands the service.
    pub master_key: PathBuf,
    /// The same of the master key before, while it is being replaced.
    pub master_key_previous: Option<PathBuf>,
    /// Sizes and counts.
    pub limits: Limits,
    /// What is refused when there is too much to do.
    pub overload: Overload,
    /// Times.
    pub timeouts: Timeouts,
    /// Further attempts, over all requests.
    pub retries: Retries,
    /// How conversations stay where they are.
    pub affinity: AffinitySettings,
    /// Active checks of providers.
    pub health: HealthSettings,
    /// The admin listener.
    pub admin: Admin,
    /// The metrics listener; `None`: off.
    pub metrics: Option<SocketAddr>,
    /// Logs.
    pub logs: Logs,
    /// What is told to webhooks.
    pub alerts: Alerts,
    /// The ledger.
    pub ledger: Ledger,
    /// Cache of the store, in bytes.
    pub store_cache: u64,
    /// The sandbox provider inside the gateway; `None`: off. Port 0 takes a free one.
    pub sandbox: Option<SocketAddr>,
    /// Replacing the running process.
    pub upgrade: Upgrade,
}

/// Replacing the running process (`tollgate upgrade`).
#[derive(Clone, Debug)]
pub struct Upgrade {
    /// How long the new process may take until it serves; then it is ended, and the old one goes on.
    pub prepare: Duration,
    /// How long the old process may go on with what it has begun.
    pub grace: Duration,
    /// How long it keeps idle connections of clients open when nothing is under way any more.
    pub idle: Duration,
}

/// Most attempts of one request, whatever its route or the configuration says.
pub const MAX_ATTEMPTS: u16 = 16;

/// Sizes in bytes, and counts.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request body, after decoding. 413 above.
    pub body: usize,
    /// Request header block.
    pub header_bytes: usize,
    /// Request header fields.
    pub header_count: usize,
    /// Request target.
    pub target: usize,
    /// Bytes of request bodies held at once over all requests; 503 above.
    pub inflight_body: usize,
    /// Bytes per second below which a large request body is given up; 0: off.
    pub body_pace: usize,
    /// Connections of clients at once, over all of them.
    pub connections: usize,
    /// Those of them on which nobody has shown a good key yet.
    pub unauthenticated_connections: usize,
    /// Connections of one client address at once.
    pub connections_per_address: usize,
    /// Requests of one client address per second; 429 above.
    pub requests_per_address: usize,
    /// Most bytes of one answer kept for metering or conversion, and of one event of a stream.
    pub answer_kept: usize,
    /// Bytes of large answers and events held until they are written, over all requests; 503 above.
    pub inflight_answer: usize,
    /// Requests on one keep-alive connection.
    pub requests_per_connection: u32,
    /// Idle upstream connections kept.
    pub upstream_idle: usize,
    /// Attempts of one request over all candidates, where its route says nothing.
    pub attempts: usize,
    /// Bytes per second below which an answer, before any of it was passed on, counts as failed; 0: off.
    pub min_pace: usize,
    /// Tokens an answer may have where neither the client nor the table of models limits it, for keys with limits in tokens or money:
    /// the provider is told so.
    pub assumed_output: u64,
    /// How often a provider may read a prompt for one answer while its own tools work, where the request does not say it, for keys with
    /// limits in tokens or money: so often it is reserved.
    pub tool_turns: u64,
    /// What a request is charged at most whose price is unknown, for keys with a budget in money, in nano-dollars; `None`: it is
    /// refused.
    pub unknown_price: Option<u64>,
    /// Answers read on at once whose clients went away ([`OnAbort::Drain`]); further ones are cut off.
    pub drains: usize,
}

/// Times, with the defaults of HARDENING's table.
#[derive(Clone, Debug)]
pub struct Timeouts {
    /// The TLS handshake of a client.
    pub handshake: Duration,
    /// Whole request header, however it drips.
    pub header: Duration,
    /// Between two reads of a request body.
    pub body_read: Duration,
    /// Whole request body.
    pub body: Duration,
    /// Idle keep-alive connection of a client.
    pub keepalive: Duration,
    /// Resolving a provider's name.
    pub dns: Duration,
    /// TCP connect to a provider.
    pub connect: Duration,
    /// TCP connect and TLS handshake.
    pub connect_total: Duration,
    /// First byte of a streamed answer.
    pub first_byte: Duration,
    /// First byte of a whole answer.
    pub first_byte_whole: Duration,
    /// Between two chunks of a stream.
    pub idle: Duration,
    /// Whole exchange, stream.
    pub total: Duration,
    /// Whole exchange, not a stream.
    pub total_whole: Duration,
    /// A client that takes nothing.
    pub write_stall: Duration,
    /// Idle upstream connection.
    pub upstream_idle: Duration,
    /// After SIGTERM: how long it goes on as before, but says that it is not ready.
    pub unready: Duration,
    /// After SIGTERM: how long streams may go on.
    pub drain: Duration,
    /// Silence within a stream after which the client gets a ping; `None`: it gets none.
    pub ping: Option<Duration>,
    /// The same before the first event of the answer; `None`: it gets none.
    pub ping_before: Option<Duration>,
    /// How long the beginning of a stream that holds no content yet is held back, so that another candidate can still
    /// take over.
    pub commit: Duration,
    /// What becomes of a provider's answer whose client went away, where its route says nothing.
    pub on_abort: OnAbort,
}

/// What becomes of a provider's answer whose client went away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAbort {
    /// It is cut off at once; what it used is estimated where the provider told nothing by then.
    #[default]
    Abort,
    /// It is read on for so long, for its exact usage; then it is cut off.
    Drain(Duration),
}

/// The admin API.
#[derive(Clone, Debug)]
pub struct Admin {
    /// Its address; `None`: off.
    pub listen: Option<SocketAddr>,
    /// Allows an address that is not loopback.
    pub allow_public: bool,
    /// Networks which URLs entered through the API may lead to although they are not public (HARDENING, SSRF).
    pub allow_private: Vec<IpNet>,
    /// Ports which such URLs may have besides 443 and 8443.
    pub allow_ports: Vec<u16>,
}

/// Logs.
#[derive(Clone, Debug)]
pub struct Logs {
    /// `error | warn | info | debug`, for the program's own log (standard error).
    pub level: String,
    /// JSON lines instead of text.
    pub json: bool,
    /// Where access-log lines go.
    pub access: AccessLog,
    /// What becomes of its file.
    pub rotation: Rotation,
}

/// When the access log's file is put away, and what is kept of those that were.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// At the end of each such time, counted from 1970 (UTC); `None`: not by time.
    pub every: Option<Duration>,
    /// As soon as it is so long, in bytes.
    pub max_file: u64,
    /// How long it is kept then; `None`: as long as there is room.
    pub keep: Option<Duration>,
    /// Most bytes of all of them, the one in use among them.
    pub max_total: u64,
    /// Bytes of the disk that stay free: first old files go, then lines are dropped.
    pub min_free: u64,
    /// Whether they are compressed.
    pub gzip: bool,
}

/// Where access-log lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

/// The ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// When an answer may go out (HARDENING L3).
    pub durability: Durability,
    /// Records waiting for the writer; when full, requests wait 50 ms, then 503.
    pub queue: usize,
    /// Size of a journal segment, in bytes.
    pub segment: u64,
    /// How long after a record was written it is synced to disk, at most.
    pub sync_every: Duration,
    /// Free disk space below which no request is admitted, in bytes.
    pub min_free: u64,
    /// A file of so many bytes which is removed when the disk is full, so that attempts under way can still be written; 0: none.
    pub ballast: u64,
    /// Bytes of journal that are kept after they were taken into the store, to fill a broken one from.
    pub archive: u64,
    /// How long single rows are kept; `None`: for ever. Sums by hour and day are kept for ever.
    pub keep_rows: Option<Duration>,
}

/// When an answer may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The attempt's record is in the file: survives the death of the process.
    Process,
    /// … and synced: survives a power cut.
    Power,
}
