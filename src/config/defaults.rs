//! What holds where `conf/tollgate.toml` is silent. A test keeps the shipped file equal to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::{
    AccessLog, Admin, AffinitySettings, Alerts, Config, Durability, HealthSettings, Ledger, Limits, Listener, Logs,
    OnAbort, Overload, Retries, Rotation, Timeouts, Upgrade,
};

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// A port of this machine only.
pub(super) const fn local(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

/// One thread per core.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listeners: vec![Listener::default()],
            threads: cores(),
            // Measured (PINGORA.md): threads without stealing gave the better p99.
            work_stealing: false,
            trusted_proxies: Vec::new(),
            client_address: Vec::new(),
            data: "data".into(),
            rules: "rules".into(),
            master_key: "conf/master.key".into(),
            master_key_previous: None,
            limits: Limits::default(),
            overload: Overload::default(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
            affinity: AffinitySettings::default(),
            health: HealthSettings::default(),
            admin: Admin::default(),
            metrics: Some(local(9090)),
            logs: Logs::default(),
            alerts: Alerts::default(),
            ledger: Ledger::default(),
            store_cache: 64 << 20,
            sandbox: Some(local(0)),
            upgrade: Upgrade::default(),
        }
    }
}

impl Default for Listener {
    fn default() -> Self {
        Listener {
            listen: local(8080),
            tls: None,
            http2: false,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body: 32 * MIB,
            header_bytes: 32 * KIB,
            header_count: 100,
            target: 8 * KIB,
            inflight_body: 256 * MIB,
            // HARDENING, "Timeouts".
            body_pace: 8 * KIB,
            connections: 20_000,
            unauthenticated_connections: 5_000,
            // A coding agent opens dozens; an office behind one address, hundreds.
            connections_per_address: 4096,
            requests_per_address: 50_000,
            // An image of 4K is an event of 40 MB and more.
            answer_kept: 64 * MIB,
            inflight_answer: 512 * MIB,
            requests_per_connection: 1000,
            upstream_idle: 512,
            attempts: 5,
            min_pace: 0,
            assumed_output: 4096,
            tool_turns: 10,
            unknown_price: None,
            drains: 256,
        }
    }
}

/// HARDENING's table of phases.
impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            handshake: Duration::from_secs(5),
            header: Duration::from_secs(10),
            body_read: Duration::from_secs(10),
            body: Duration::from_secs(60),
            keepalive: Duration::from_secs(60),
            dns: Duration::from_secs(2),
            connect: Duration::from_secs(5),
            connect_total: Duration::from_secs(10),
            first_byte: Duration::from_secs(15),
            first_byte_whole: Duration::from_secs(300),
            idle: Duration::from_secs(60),
            total: Duration::from_secs(15 * 60),
            total_whole: Duration::from_secs(10 * 60),
            write_stall: Duration::from_secs(30),
            upstream_idle: Duration::from_secs(50),
            // The longest stream: `total`.
            unready: Duration::ZERO,
            drain: Duration::from_secs(15 * 60),
            ping: Some(Duration::from_secs(15)),
            ping_before: Some(Duration::from_secs(30)),
            commit: Duration::from_secs(2),
            on_abort: OnAbort::default(),
        }
    }
}

impl Default for Upgrade {
    fn default() -> Self {
        Upgrade {
            prepare: Duration::from_secs(60),
            // The longest stream.
            grace: Duration::from_secs(15 * 60),
            idle: Duration::from_secs(5),
        }
    }
}

impl Default for Admin {
    fn default() -> Self {
        Admin {
            listen: Some(local(8081)),
            allow_public: false,
            allow_private: Vec::new(),
            allow_ports: Vec::new(),
        }
    }
}

impl Default for Logs {
    fn default() -> Self {
        Logs {
            level: "info".to_owned(),
            json: false,
            access: AccessLog::File("data/logs/access.log".into()),
            rotation: Rotation::default(),
        }
    }
}

/// HARDENING S6: daily files, 14 days, under a cap, above a floor.
impl Default for Rotation {
    fn default() -> Self {
        Rotation {
            every: Some(Duration::from_secs(86_400)),
            max_file: 1 << 30,
            keep: Some(Duration::from_secs(14 * 86_400)),
            max_total: 10 << 30,
            // More than the ledger's: the log gives way first.
            min_free: 512 << 20,
            gzip: true,
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Ledger {
            durability: Durability::Process,
            queue: 8192,
            segment: 64 << 20,
            sync_every: Duration::from_millis(20),
            min_free: 256 << 20,
            ballast: 64 << 20,
            archive: 1 << 30,
            keep_rows: Some(Duration::from_secs(90 * 86_400)),
        }
    }
}
