//! TLS of the listeners: certificates by name, client authorities, tickets; checked at start and by `tollgate check`, read again
//! when a file changes. All or nothing for each listener: what is no good leaves in force what was. The handshake itself is
//! `proxy/tls.rs`.

mod certificate;
mod choice;
mod files;
mod parts;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec, register_int_counter_vec, register_int_gauge_vec};
use rustls::crypto::ring;
use rustls::server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions};
use tokio::runtime::Handle;

use crate::clock::{Clock, UnixMicros};
use crate::config::problem::{log, part};
use crate::config::{Config, Problem, Problems, Timeouts, TlsListener};
use crate::proxy::tls::Handshake;
use crate::watch::Watch;

use super::StartError;
use certificate::Certificate;
use files::{Files, WatchedFiles};
use parts::{Parts, of_listener};

/// Sessions of one listener that are kept for clients of TLS 1.2 which take no tickets.
const SESSIONS: usize = 4096;

/// `None` only if something else took the name.
static RELOADS: LazyLock<Option<IntCounterVec>> = LazyLock::new(|| {
    let help = "Reloads of the listeners' certificates, by result: ok, failed (those before stay).";
    register_int_counter_vec!("tollgate_tls_reloads_total", help, &["result"]).ok()
});

static STALE: LazyLock<Option<IntGaugeVec>> = LazyLock::new(|| {
    let help = "1: the listener's files of certificates are no good, and those before stay in force.";
    register_int_gauge_vec!("tollgate_tls_files_refused", help, &["listener"]).ok()
});

static EXPIRY: LazyLock<Option<IntGaugeVec>> = LazyLock::new(|| {
    let help = "When a certificate of a listener ends, in seconds since 1970; its name is its file, as configured.";
    register_int_gauge_vec!(
        "tollgate_tls_certificate_expiry_timestamp_seconds",
        help,
        &["listener", "name"]
    )
    .ok()
});

/// The TLS of all listeners.
pub struct Tls {
    /// In the order of the configuration; `None`: plain.
    listeners: Vec<Option<Listener>>,
    clock: Clock,
}

/// The TLS of one.
struct Listener {
    address: SocketAddr,
    settings: TlsListener,
    http2: bool,
    handshake: Arc<Handshake>,
    memory: Memory,
    /// One reload at a time.
    state: Mutex<State>,
}

/// What is in force, and what was last tried.
struct State {
    tried: files::Digest,
    /// When each certificate in force ends, in seconds since 1970.
    ends: Vec<i64>,
}

/// By what clients resume sessions. Each listener has its own: a session of one must not open another.
struct Memory {
    tickets: Arc<dyn ProducesTickets>,
    sessions: Arc<dyn StoresServerSessions + Send + Sync>,
}

impl Memory {
    fn new() -> Result<Self, String> {
        Ok(Memory {
            // Another key each six hours; the one before is still taken.
            tickets: ring::Ticketer::new().map_err(|error| format!("there are no tickets: {error}"))?,
            sessions: ServerSessionMemoryCache::new(SESSIONS),
        })
    }
}

/// Problems of all certificates, without starting anything.
pub fn check(config: &Config, now: UnixMicros) -> Problems {
    let listeners = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let checked = listeners.flat_map(|settings| {
        let mut problems = Problems::new();
        Parts::of(settings, &Files::read(settings), now, &mut problems);
        problems
    });
    checked.collect()
}

impl Tls {
    /// Reads and checks all certificates. Warnings go to the log.
    pub fn load(config: &Config, clock: &Clock) -> Result<Self, StartError> {
        for metric in [&STALE, &EXPIRY] {
            LazyLock::force(metric);
        }
        if let Some(reloads) = &*RELOADS {
            // Both rows are there from the start: an alert can't count from nothing.
            for result in ["ok", "failed"] {
                reloads.with_label_values(&[result]);
            }
        }
        let mut problems = Problems::new();
        let listeners = config.listeners.iter().map(|listener| {
            let settings = listener.tls.as_ref()?;
            let one = Listener::load(listener, settings, &config.timeouts, clock.now(), &mut problems);
            if one.is_none() && problems.iter().all(|problem| problem.warning) {
                // What is to be secured is never served plain.
                problems.push(of_listener(settings, "its certificates can't be used".to_owned()));
            }
            one
        });
        let listeners: Vec<Option<Listener>> = listeners.collect();
        let (wrong, warnings) = part(problems);
        log(&warnings);
        if !wrong.is_empty() {
            return Err(StartError::Certificates(wrong));
        }
        Ok(Tls {
            listeners,
            clock: clock.clone(),
        })
    }

    /// When each certificate in force ends, by listener and file.
    pub fn ends(&self) -> Vec<(String, UnixMicros)> {
        let ends = self.all().flat_map(|listener| {
            let ends = listener.state.lock().ends.clone();
            let names = listener.settings.certificates.iter().map(|files| files.cert.display());
            let named = names.zip(ends).map(|(name, end)| {
                let name = format!("listener {}, {name}", listener.address);
                (name, UnixMicros(end.saturating_mul(1_000_000)))
            });
            named.collect::<Vec<_>>()
        });
        ends.collect()
    }

    /// The handshake of the listener at this place in the configuration; `None`: it is plain.
    pub fn of(&self, listener: usize) -> Option<Arc<Handshake>> {
        let listener = self.listeners.get(listener)?.as_ref()?;
        Some(listener.handshake.clone())
    }

    /// Reads the files again whenever one changes, until what is returned is dropped, and on SIGHUP, which is listened for on
    /// `runtime`.
    pub fn follow(self: &Arc<Self>, runtime: &Handle) -> notify::Result<Option<Watch>> {
        if self.all().next().is_none() {
            return Ok(None);
        }
        let tls = self.clone();
        runtime.spawn(async move {
            let Ok(mut hangups) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else {
                return;
            };
            while hangups.recv().await.is_some() {
                let tls = tls.clone();
                // It tells the log itself what became of it.
                let _ = tokio::task::spawn_blocking(move || tls.reload(true)).await;
            }
        });
        Watch::start(WatchedFiles(self.clone())).map(Some)
    }

    fn all(&self) -> impl Iterator<Item = &Listener> {
        self.listeners.iter().flatten()
    }

    /// Reads the files of all listeners again, and takes what changed; with `anyway`, also what did not. Blocking.
    fn reload(&self, anyway: bool) {
        self.all()
            .for_each(|listener| listener.reload(anyway, self.clock.now()));
    }
}

impl Listener {
    fn load(
        listener: &crate::config::Listener,
        settings: &TlsListener,
        times: &Timeouts,
        now: UnixMicros,
        problems: &mut Problems,
    ) -> Option<Self> {
        let files = Files::read(settings);
        let parts = Parts::of(settings, &files, now, problems)?;
        let made = Memory::new()
            .map_err(|why| of_listener(settings, why))
            .and_then(|memory| Ok((parts.config(settings, listener.http2, &memory)?, memory)));
        let (config, memory) = made.map_err(|problem| problems.push(problem)).ok()?;
        let listener = Listener {
            address: listener.listen,
            settings: settings.clone(),
            http2: listener.http2,
            handshake: Arc::new(Handshake::new(config, times.handshake)),
            memory,
            state: Mutex::new(State {
                tried: files.digest(),
                ends: parts.ends(),
            }),
        };
        listener.measure(&listener.state.lock(), true);
        Some(listener)
    }

    fn reload(&self, anyway: bool, now: UnixMicros) {
        let mut state = self.state.lock();
        let files = Files::read(&self.settings);
        let digest = files.digest();
        if !anyway && digest == state.tried {
            return;
        }
        state.tried = digest;
        let mut problems = Problems::new();
        let taken = self.take(&files, &mut state, now, &mut problems);
        log(&problems);
        self.measure(&state, taken);
        if let Some(reloads) = &*RELOADS {
            reloads.with_label_values(&[if taken { "ok" } else { "failed" }]).inc();
        }
        match taken {
            true => tracing::info!(listener = %self.address, "certificates reloaded"),
            false => {
                tracing::error!(listener = %self.address, "nothing was changed, the certificates before stay in force")
            }
        }
    }

    /// Whether what is in the files is in force now.
    fn take(&self, files: &Files, state: &mut State, now: UnixMicros, problems: &mut Problems) -> bool {
        let Some(parts) = Parts::of(&self.settings, files, now, problems) else {
            return false;
        };
        match self.replace(&parts, state, now) {
            Ok(()) => true,
            Err(problem) => {
                problems.push(problem);
                false
            }
        }
    }

    fn replace(&self, parts: &Parts, state: &mut State, now: UnixMicros) -> Result<(), Problem> {
        // The clients would be lost that the one before still serves.
        let worse = |(new, end): (&Certificate, &i64)| new.is_over(now) && *end >= now.seconds();
        if parts.certificates.iter().zip(&state.ends).any(worse) {
            let why = "a certificate that has ended does not take the place of one that has not";
            return Err(of_listener(&self.settings, why.to_owned()));
        }
        self.handshake
            .replace(parts.config(&self.settings, self.http2, &self.memory)?);
        state.ends = parts.ends();
        Ok(())
    }

    fn measure(&self, state: &State, taken: bool) {
        let listener = self.address.to_string();
        if let Some(stale) = &*STALE {
            stale.with_label_values(&[&listener]).set(i64::from(!taken));
        }
        if let Some(expiry) = &*EXPIRY {
            for (files, end) in self.settings.certificates.iter().zip(&state.ends) {
                let name = files.cert.display().to_string();
                expiry.with_label_values(&[listener.as_str(), name.as_str()]).set(*end);
            }
        }
    }
}
