//! Reads `conf/tollgate.toml`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use ipnet::IpNet;

use super::alerts;
use super::defaults::{cores, local};
use super::fields::Fields;
use super::overload;
use super::problem::{Problem, part};
use super::size;
use super::sound::{self, Bound, Seen};
use super::source::{Report, Source};
use super::value::Value;
use super::{
    AccessLog, Admin, Config, Durability, Ledger, Limits, Logs, MAX_ATTEMPTS, Problems, Rotation, Timeouts, Upgrade,
};
use super::{listen, pools};

/// Most worker threads: beyond the cores of any machine.
const MAX_THREADS: u64 = 256;
/// Most networks in one list.
const MAX_NETWORKS: usize = 1024;
/// Most ports in one list.
const MAX_PORTS: usize = 64;
/// Every time lies in these bounds: shorter is a mistake in the unit, longer is none at all.
const TIMES: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(24 * 3600);

/// How long the beginning of a stream may be held back.
const COMMIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(60);

/// How long a gateway that is to stop may go on before it drains.
const UNREADY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

/// Largest `limits.assumed_output`, in tokens: ten times the longest answer any model gives.
const MAX_ASSUMED: u64 = 10_000_000;

/// Largest `limits.tool_turns`: more rounds than any provider documents.
const MAX_TOOL_TURNS: u64 = 100;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// Reads and checks the file; every problem at once. Warnings come along with the configuration.
pub fn load(file: &Path) -> Result<(Config, Problems), Problems> {
    let (config, problems) = read(file);
    match part(problems) {
        (wrong, warnings) if wrong.is_empty() => Ok((config, warnings)),
        (wrong, warnings) => Err(wrong.into_iter().chain(warnings).collect()),
    }
}

/// As [`load`], but always with a configuration: where something is wrong, the default stands. For `tollgate check`,
/// which goes on to the rules.
pub fn read(file: &Path) -> (Config, Problems) {
    match Source::read(file) {
        Ok(source) => {
            let report = Report::default();
            let config = read_source(&source, &report);
            (config, report.into_problems(&[file]))
        }
        Err(problem) => {
            let problem = match file.exists() {
                true => problem,
                false => Problem::of_file(
                    file,
                    "there is no such file",
                    "Start where conf/tollgate.toml is, or name another file with --conf FILE. An empty file will do: \
                     everything has a default.",
                ),
            };
            (Config::default(), vec![problem])
        }
    }
}

/// Reads a text that is already there.
pub fn read_source(source: &Source, report: &Report) -> Config {
    let document = source.parse(report);
    if !document.sound {
        return Config::default();
    }
    let mut root = document.root(report);
    let mut seen = Seen::default();
    let default = Config::default();
    let listeners = listen::listeners(&mut root, &mut seen);
    let threads = match root.integer("threads", 0..=MAX_THREADS) {
        None | Some(0) => cores(),
        Some(threads) => count(threads),
    };
    let config = Config {
        listeners,
        threads,
        work_stealing: root.boolean("work_stealing").unwrap_or(default.work_stealing),
        trusted_proxies: root
            .get("trusted_proxies")
            .map(|value| networks_of(&value))
            .unwrap_or_default(),
        client_address: pools::client_address(&mut root),
        data: root.path("data").unwrap_or(default.data),
        rules: root.path("rules").unwrap_or(default.rules),
        master_key: root.path("master_key").unwrap_or(default.master_key),
        master_key_previous: root.path("master_key_previous"),
        limits: limits(root.table("limits"), &mut seen),
        overload: overload::overload(root.table("overload")),
        timeouts: timeouts(root.table("timeouts"), &mut seen),
        retries: pools::retries(root.table("retries"), &mut seen),
        affinity: pools::affinity(root.table("affinity")),
        health: pools::health(root.table("health")),
        admin: admin(root.table("admin"), &mut seen),
        metrics: address_only(root.table("metrics"), local(9090), "metrics.listen", &mut seen),
        logs: logs(root.table("logs")),
        alerts: alerts::alerts(root.table("alerts")),
        ledger: ledger(root.table("ledger")),
        store_cache: store(root.table("store")),
        sandbox: address_only(root.table("sandbox"), local(0), "sandbox.listen", &mut seen),
        upgrade: upgrade(root.table("upgrade")),
    };
    sound::check(&config, &mut root, &seen);
    root.finish();
    config
}

/// A number that is known to be small enough.
pub(super) fn count(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A list of networks.
pub(crate) fn networks_of(value: &Value<'_>) -> Vec<IpNet> {
    let all = value.list().unwrap_or_default();
    if all.len() > MAX_NETWORKS {
        value.problem(format!("there may be {MAX_NETWORKS} at most"));
    }
    let network = |value: Value<'_>| {
        let text = value.string()?;
        let read = text
            .parse::<IpNet>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        if read.is_none() {
            value.problem("it must be a network or an address, as in \"10.0.0.0/8\" or \"192.0.2.7\"");
        }
        read
    };
    all.into_iter().take(MAX_NETWORKS).filter_map(network).collect()
}

fn limits<'a>(mut fields: Fields<'a>, seen: &mut Seen<'a>) -> Limits {
    let default = Limits::default();
    let mut size = |name, least: u64, most: u64, default| {
        let value = fields.get(name);
        let read = value.as_ref().and_then(|v| v.size(least..=most)).map_or(default, count);
        seen.note(value);
        read
    };
    let body = size("body", KIB, GIB, default.body);
    let header_bytes = size("header_bytes", KIB, MIB, default.header_bytes);
    let target = size("target", 256, 64 * KIB, default.target);
    let inflight_body = size("inflight_body", MIB, TIB, default.inflight_body);
    let body_pace = size("body_pace", 0, MIB, default.body_pace);
    let answer_kept = size("answer_kept", 64 * KIB, GIB, default.answer_kept);
    let inflight_answer = size("inflight_answer", MIB, TIB, default.inflight_answer);
    let min_pace = size("min_pace", 0, MIB, default.min_pace);
    let assumed_output = fields
        .integer("assumed_output", 1..=MAX_ASSUMED)
        .unwrap_or(default.assumed_output);
    let tool_turns = fields
        .integer("tool_turns", 1..=MAX_TOOL_TURNS)
        .unwrap_or(default.tool_turns);
    let unknown_price = match fields.get("unknown_price") {
        Some(value) => value.price_or_refuse(),
        None => default.unknown_price,
    };
    let mut number = |name, least: u64, most: u64, default| fields.integer(name, least..=most).map_or(default, count);
    let limits = Limits {
        body,
        header_bytes,
        // Pingora reads 256 at most.
        header_count: number("header_count", 8, 256, default.header_count),
        target,
        inflight_body,
        body_pace,
        connections: number("connections", 1, 10_000_000, default.connections),
        unauthenticated_connections: number(
            "unauthenticated_connections",
            1,
            10_000_000,
            default.unauthenticated_connections,
        ),
        connections_per_address: number("connections_per_address", 1, 1_000_000, default.connections_per_address),
        requests_per_address: number("requests_per_address", 1, 1_000_000, default.requests_per_address),
        answer_kept,
        inflight_answer,
        min_pace,
        assumed_output,
        tool_turns,
        unknown_price,
        drains: number("drains", 0, 100_000, default.drains),
        upstream_idle: number("upstream_idle", 0, 100_000, default.upstream_idle),
        attempts: number("attempts", 1, MAX_ATTEMPTS.into(), default.attempts),
        requests_per_connection: fields
            .integer("requests_per_connection", 1..=u64::from(u32::MAX))
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(default.requests_per_connection),
    };
    fields.finish();
    limits
}

fn timeouts<'a>(mut fields: Fields<'a>, seen: &mut Seen<'a>) -> Timeouts {
    let default = Timeouts::default();
    let commit = fields.duration("commit", COMMIT).unwrap_or(default.commit);
    let unready = fields.duration("unready", UNREADY).unwrap_or(default.unready);
    let ping = time_or_off(&mut fields, "ping", default.ping);
    let on_abort = fields.get("on_abort").and_then(|value| value.abort_or_drain());
    let ping_before = time_or_off(&mut fields, "ping_before", default.ping_before);
    let mut time = |name, default| {
        let value = fields.get(name);
        let read = value.as_ref().and_then(|v| v.duration(TIMES)).unwrap_or(default);
        seen.note(value);
        read
    };
    let timeouts = Timeouts {
        handshake: time("handshake", default.handshake),
        header: time("header", default.header),
        body_read: time("body_read", default.body_read),
        body: time("body", default.body),
        keepalive: time("keepalive", default.keepalive),
        dns: time("dns", default.dns),
        connect: time("connect", default.connect),
        connect_total: time("connect_total", default.connect_total),
        first_byte: time("first_byte", default.first_byte),
        first_byte_whole: time("first_byte_whole", default.first_byte_whole),
        idle: time("idle", default.idle),
        total: time("total", default.total),
        total_whole: time("total_whole", default.total_whole),
        write_stall: time("write_stall", default.write_stall),
        upstream_idle: time("upstream_idle", default.upstream_idle),
        unready,
        drain: time("drain", default.drain),
        ping,
        ping_before,
        commit,
        on_abort: on_abort.unwrap_or(default.on_abort),
    };
    fields.finish();
    timeouts
}

fn upgrade(mut fields: Fields<'_>) -> Upgrade {
    let default = Upgrade::default();
    let upgrade = Upgrade {
        prepare: fields.duration("prepare", TIMES).unwrap_or(default.prepare),
        grace: fields.duration("grace", TIMES).unwrap_or(default.grace),
        idle: fields.duration("idle", TIMES).unwrap_or(default.idle),
    };
    fields.finish();
    upgrade
}

/// A time, or `"off"`.
fn time_or_off(fields: &mut Fields<'_>, name: &'static str, default: Option<Duration>) -> Option<Duration> {
    time_or_off_within(fields, name, default, TIMES)
}

/// The same within other bounds.
pub(super) fn time_or_off_within(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: Option<Duration>,
    times: RangeInclusive<Duration>,
) -> Option<Duration> {
    let Some(value) = fields.get(name) else {
        return default;
    };
    match value.text() {
        Some("off") => None,
        _ => value.duration(times).or(default),
    }
}

/// An address, or `"off"`. The outer `None`: nothing usable stands there.
fn address_or_off(value: &Value<'_>) -> Option<Option<SocketAddr>> {
    match value.string()? {
        "off" => Some(None),
        _ => value.address().map(Some),
    }
}

fn admin<'a>(mut fields: Fields<'a>, seen: &mut Seen<'a>) -> Admin {
    let default = Admin::default();
    let value = fields.get("listen");
    let listen = value.as_ref().and_then(address_or_off).unwrap_or(default.listen);
    let allow_public = fields.boolean("allow_public").unwrap_or(default.allow_public);
    if let (Some(address), Some(value)) = (listen, &value)
        && !address.ip().is_loopback()
        && !allow_public
    {
        value.problem(
            "the admin service would be reachable by everyone. Bind 127.0.0.1, or set admin.allow_public = true.",
        );
    }
    if let Some(address) = listen {
        seen.bound.push(Bound::new("admin.listen", address, value));
    }
    let allow_private = fields
        .get("allow_private")
        .map(|value| networks_of(&value))
        .unwrap_or_default();
    let allow_ports = ports(&mut fields, "allow_ports");
    fields.finish();
    Admin {
        listen,
        allow_public,
        allow_private,
        allow_ports,
    }
}

fn ports(fields: &mut Fields<'_>, name: &'static str) -> Vec<u16> {
    let Some(value) = fields.get(name) else {
        return Vec::new();
    };
    let all = value.list().unwrap_or_default();
    if all.len() > MAX_PORTS {
        value.problem(format!("there may be {MAX_PORTS} at most"));
    }
    let port = |value: Value<'_>| u16::try_from(value.integer(1..=65_535)?).ok();
    all.into_iter().take(MAX_PORTS).filter_map(port).collect()
}

/// A section with nothing but `listen`.
fn address_only<'a>(
    mut fields: Fields<'a>,
    default: SocketAddr,
    name: &str,
    seen: &mut Seen<'a>,
) -> Option<SocketAddr> {
    let value = fields.get("listen");
    let listen = value.as_ref().and_then(address_or_off).unwrap_or(Some(default));
    fields.finish();
    let address = listen?;
    if let Some(value) = &value
        && sound::is_public(address.ip())
    {
        value.warn("everyone who reaches this address can use it: it asks for no key. 127.0.0.1 is safer.");
    }
    seen.bound.push(Bound::new(name, address, value));
    listen
}

fn logs(mut fields: Fields<'_>) -> Logs {
    let default = Logs::default();
    let levels = ["error", "warn", "info", "debug"].map(|level| (level, level));
    let access = fields.get("access").and_then(|value| match value.string()? {
        "off" => Some(AccessLog::Off),
        "stdout" => Some(AccessLog::Stdout),
        _ => value.path().map(AccessLog::File),
    });
    let level = fields.get("level").and_then(|value| value.word(&levels));
    let logs = Logs {
        level: level.map_or(default.level, str::to_owned),
        json: fields.boolean("json").unwrap_or(default.json),
        access: access.unwrap_or(default.access),
        rotation: rotation(&mut fields),
    };
    fields.finish();
    logs
}

/// How often the access log is put away: a shorter time makes many files, a longer one is no rotation.
const ROTATIONS: RangeInclusive<Duration> = Duration::from_secs(3600)..=Duration::from_secs(31 * 86_400);

fn rotation(fields: &mut Fields<'_>) -> Rotation {
    let default = Rotation::default();
    let max_file = fields.get("access_max_file");
    let max_total = fields.get("access_max_total");
    let size = |value: &Option<Value<'_>>| value.as_ref().and_then(|value| value.size(MIB..=TIB));
    let rotation = Rotation {
        every: time_or_off_within(fields, "access_rotate", default.every, ROTATIONS),
        max_file: size(&max_file).unwrap_or(default.max_file),
        keep: fields
            .get("access_keep")
            .map_or(default.keep, |value| match value.text() {
                Some("forever") => None,
                _ => value.duration(KEEP_ROWS).or(default.keep),
            }),
        max_total: size(&max_total).unwrap_or(default.max_total),
        min_free: fields.size("access_min_free", 0..=TIB).unwrap_or(default.min_free),
        gzip: fields.boolean("access_gzip").unwrap_or(default.gzip),
    };
    if rotation.max_file > rotation.max_total
        && let Some(value) = max_total.or(max_file)
    {
        value.problem(format!(
            "one file (logs.access_max_file = {}) may be larger than all of them together (logs.access_max_total = {}). \
             Raise the one or lower the other.",
            size::show(rotation.max_file),
            size::show(rotation.max_total)
        ));
    }
    rotation
}

/// How long rows can be kept: at least a day (reports of today need them), at most a century.
const KEEP_ROWS: RangeInclusive<Duration> = Duration::from_secs(86_400)..=Duration::from_secs(100 * 366 * 86_400);

fn ledger(mut fields: Fields<'_>) -> Ledger {
    let default = Ledger::default();
    let durabilities = [("process", Durability::Process), ("power", Durability::Power)];
    let sync = Duration::from_millis(1)..=Duration::from_secs(10);
    let ledger = Ledger {
        durability: fields
            .get("durability")
            .and_then(|value| value.word(&durabilities))
            .unwrap_or(default.durability),
        queue: fields.integer("queue", 16..=1 << 20).map_or(default.queue, count),
        segment: fields.size("segment", MIB..=4 * GIB).unwrap_or(default.segment),
        sync_every: fields.duration("sync_every", sync).unwrap_or(default.sync_every),
        min_free: fields.size("min_free", 0..=TIB).unwrap_or(default.min_free),
        ballast: fields.size("ballast", 0..=GIB).unwrap_or(default.ballast),
        archive: fields.size("archive", 64 * MIB..=TIB).unwrap_or(default.archive),
        keep_rows: fields
            .get("keep_rows")
            .map_or(default.keep_rows, |value| match value.string() {
                Some("forever") => None,
                Some(_) => value.duration(KEEP_ROWS).or(default.keep_rows),
                None => default.keep_rows,
            }),
    };
    fields.finish();
    ledger
}

fn store(mut fields: Fields<'_>) -> u64 {
    let cache = fields.size("cache", MIB..=TIB).unwrap_or(Config::default().store_cache);
    fields.finish();
    cache
}
