//! The composition root: configuration in, a running gateway out. Everything is built once, here, and handed down.
//!
//! Two worlds of threads: Pingora's runtime serves clients; one of our own (`control`) serves the admin API, the metrics
//! page and the sandbox provider, watches the rules and resolves names, so that operating the gateway has its own share
//! whatever the traffic.

mod beside;
pub mod control;
mod descriptors;
pub mod first_run;
mod incumbent;
pub mod listeners;
pub mod shutdown;
pub mod sockets;
pub mod surroundings;
mod systemd;
pub mod tls;
pub mod vitals;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use parking_lot::Mutex;
use pingora::proxy::http_proxy;
use pingora::server::configuration::ServerConf;
use pingora::server::{RunArgs, Server};
use pingora::services::background::background_service;
use tokio::sync::watch;

use crate::admin::{self, AdminState, Pause};
use crate::alerts::{self, Alerts};
use crate::clock::Clock;
use crate::config::{Config, MAX_ATTEMPTS, Problems};
use crate::egress::{Machine, Names, Policy, Probe};
use crate::keys::{Keys, MasterKey, Tokens, envelope};
use crate::ledger::Ledger;
use crate::limits::Accounts;
use crate::limits::flood::Flood;
use crate::observe::access_log::AccessLog;
use crate::observe::redact::Masker;
use crate::proxy::abort::Drains;
use crate::proxy::byte_budget::ByteBudget;
use crate::proxy::crowd::Crowd;
use crate::proxy::overload::Overload;
use crate::proxy::{Gateway, metrics};
use crate::routing::affinity::Affinities;
use crate::rules::{self, Live};
use crate::secrets::Vault;
use crate::store::Store;
use crate::upgrade::{self, Predecessor, Role, UpgradeError};
use crate::upstream::health::ByRules;
use crate::upstream::{Checks, LiveFleet, Memory, RetryBudget};

use beside::{Beside, FailedUpgrade};
use control::Control;
use first_run::FirstRun;
use incumbent::Running;
use listeners::Acceptors;
use sockets::Sockets;
use surroundings::Surroundings;
use vitals::Vitals;

/// The name which stands for the sandbox provider inside the gateway, in base URLs.
const SANDBOX_HOST: &str = "sandbox.internal";

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Rules with mistakes.
    #[error("the rules can't be used")]
    Rules(Problems),
    /// An address can't be served.
    #[error("{what} can't listen on {address}: {source}")]
    Listen {
        /// Who.
        what: &'static str,
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file or folder can't be used.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Certificates of the listeners which can't be used.
    #[error("the certificates can't be used")]
    Certificates(Problems),
    /// The master key.
    #[error(transparent)]
    MasterKey(#[from] crate::keys::master::MasterKeyError),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] crate::keys::KeysError),
    /// The secrets.
    #[error(transparent)]
    Vault(#[from] crate::secrets::VaultError),
    /// The store.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// The process before this one can't be taken over from.
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    /// Rules or certificates can't be watched.
    #[error("files can't be watched: {0}")]
    Watch(#[from] notify::Error),
}

/// Builds everything and serves until the process is told to stop. `predecessor`: the process whose place this one takes. `ready` is
/// called when clients are served, with what a first start made.
pub fn run(
    config: Config,
    mut predecessor: Option<Predecessor>,
    ready: impl FnOnce(&Config, Option<&FirstRun>) + Send + 'static,
) -> Result<(), StartError> {
    let clock = Clock::system();
    let started = clock.now();
    let config = Arc::new(config);
    make_folder(&config.data)?;
    let tls = Arc::new(tls::Tls::load(&config, &clock)?);
    let sockets = Arc::new(Sockets::open(&config, predecessor.as_mut())?);
    upgrade::metrics::declare();
    if let Some(predecessor) = &mut predecessor {
        // The store's secrets are taken to be there, as the store is not ours yet.
        rules::compile_with(&config.rules, &clock, &Machine).map_err(StartError::Rules)?;
        predecessor.checked(&config.data)?;
    }
    let was_used = first_run::was_used(&config.data);
    let store = Arc::new(Store::open(&config.data.join("store"), config.store_cache)?);
    let sealed = Keys::sealed(&store)?;
    if was_used && !sealed {
        first_run::tell_of_lost_store(&config.data);
    }
    let master = MasterKey::load(&config.master_key, !sealed)?;
    let previous = config.master_key_previous.as_deref();
    let previous = previous.map(|file| MasterKey::load(file, false)).transpose()?;
    if let Some(previous) = &previous {
        envelope::rotate(&store, previous, &master)?;
    }
    let vault = Arc::new(Vault::load(store.clone(), &master, previous.as_ref(), clock.clone())?);
    let policy = Policy::new(config.admin.allow_private.clone(), config.admin.allow_ports.clone());
    let alerts = Alerts::new(&config.alerts, policy.clone(), clock.clone());
    let surroundings = Surroundings::new(vault.clone(), alerts.secrets());
    let (rules, warnings) = rules::compile_with(&config.rules, &clock, &surroundings).map_err(StartError::Rules)?;
    crate::observe::log::mask(Masker::new(&rules.secrets()));
    for warning in &warnings {
        tracing::warn!(file = %warning.file.display(), line = warning.line, what = warning.what, help = warning.help, "rules");
    }

    let accounts = Arc::new(Accounts::new());
    let keys = Arc::new(Keys::load(store.clone(), &master, accounts.clone(), clock.clone())?);
    let tokens = Arc::new(Tokens::load(store.clone(), &master, clock.clone())?);
    let (admin_token, first_run) = first_run::prepare(&config, &keys)?;
    let ledger = Ledger::start(
        &config.data.join("journal"),
        &config.ledger,
        store.clone(),
        accounts.clone(),
        clock.clone(),
    )?;
    let access_log = AccessLog::start(&config.logs, clock.clone()).map_err(|source| StartError::File {
        path: access_log_path(&config),
        source,
    })?;
    let audit = Arc::new(
        admin::Audit::open(&config.data.join("audit.jsonl")).map_err(|source| StartError::File {
            path: config.data.join("audit.jsonl"),
            source,
        })?,
    );
    let pause = Pause::default();
    // Changes wait until clients are served: until then the process before this one may have to go on with what there was.
    let opening = predecessor.as_ref().and_then(|_| pause.now());
    let regrets = predecessor.as_ref().map(Predecessor::regrets);
    let serving = watch::Sender::new(false);

    let live = Live::with(config.rules.clone(), rules, clock.clone(), Box::new(surroundings));
    let fleet = Arc::new(LiveFleet::new(live.load().clone()));
    let cooldowns = config.data.join("cooldowns.json");
    fleet
        .load()
        .recall(&Memory::load(&cooldowns), Instant::now(), clock.now());
    let mut control = Control::start().map_err(|source| StartError::File {
        path: "control thread".into(),
        source,
    })?;
    let sandbox = config
        .sandbox
        .map(|address| control.serve_sandbox(address, &sockets))
        .transpose()?;
    let own = sandbox
        .map(|address| (Arc::from(SANDBOX_HOST), address))
        .into_iter()
        .collect::<HashMap<_, _>>();
    let names = Arc::new(Names::new(own, config.timeouts.dns));
    control.resolve_ahead(names.clone(), fleet.clone());
    control.let_spare_memory_go();
    control.remember(fleet.clone(), cooldowns.clone(), clock.clone());
    control.follow_rules(&live, fleet.clone(), names.clone())?;
    if previous.is_some() {
        control.reseal(vault.clone(), serving.subscribe());
    }
    drop((master, previous));
    let dial = Box::new(ByRules {
        names: names.clone(),
        timeout: config.health.timeout,
    });
    let checks = Checks::new(fleet.clone(), dial, clock.clone(), &config.health);
    let failed_upgrade = FailedUpgrade::default();
    let sources = alerts::Sources {
        settings: config.alerts.clone(),
        clock: clock.clone(),
        rules: live.clone(),
        fleet: fleet.clone(),
        checks: checks.clone(),
        ledger: ledger.clone(),
        accounts: accounts.clone(),
        keys: keys.clone(),
        outside: Arc::new(Beside {
            tls: tls.clone(),
            failed_upgrade: failed_upgrade.clone(),
        }),
    };
    let (alerting, retired) = (alerts.clone().run(sources), control.retirement().begun());
    control.handle().spawn(async move {
        // What is wrong from then on is told by the process that takes over.
        tokio::select! {
            () = alerting => {}
            () = retired => {}
        }
    });
    if let Some(address) = config.admin.listen {
        let state = AdminState {
            keys: keys.clone(),
            vault,
            ledger: ledger.clone(),
            rules: live.clone(),
            fleet: fleet.clone(),
            checks: checks.clone(),
            token: admin_token,
            tokens,
            started,
            clock: clock.clone(),
            audit: audit.clone(),
            probe: Arc::new(Probe::new(policy)),
            pause: pause.clone(),
            alerts: alerts.clone(),
        };
        control.serve("admin", (Role::Admin, address), &sockets, admin::router(state))?;
    }
    let draining = Arc::new(AtomicBool::new(false));
    let bodies = ByteBudget::new(config.limits.inflight_body);
    let answers = ByteBudget::new(config.limits.inflight_answer);
    if let Some(address) = config.metrics {
        let vitals = Vitals::new(
            &config,
            draining.clone(),
            ledger.clone(),
            bodies.clone(),
            answers.clone(),
            fleet.clone(),
        );
        let router = crate::observe::metrics::router(move || vitals.publish());
        control.serve("metrics", (Role::Metrics, address), &sockets, router)?;
    }

    metrics::declare();
    let flood = Arc::new(Flood::new(
        config.limits.requests_per_address,
        config.limits.connections_per_address,
    ));
    let affinities = Arc::new(Affinities::new(config.affinity.sessions, config.affinity.ttl));
    let bounds = descriptors::bounds(&config);
    let crowd = Crowd::new(bounds.connections, config.limits.unauthenticated_connections);
    let gateway = Gateway {
        config: config.clone(),
        clock: clock.clone(),
        keys: keys.ring().clone(),
        fleet: fleet.clone(),
        names,
        affinities: affinities.clone(),
        budget: Arc::new(RetryBudget::new(
            f64::from(config.retries.share_percent) / 100.0,
            config.retries.reserve,
            std::time::Instant::now(),
        )),
        ledger: ledger.clone(),
        flood: flood.clone(),
        overload: Overload::new(&config.overload, bounds.concurrent),
        crowd: crowd.clone(),
        bodies,
        answers,
        drains: Drains::new(config.limits.drains),
        access_log: access_log.clone(),
        draining: draining.clone(),
    };
    let mut server = Server::new_with_opt_and_conf(None, server_conf(&config));
    server.bootstrap();
    server.add_service(background_service("health", checks.clone()));
    let proxy = Arc::new(http_proxy(&server.configuration, gateway));
    let acceptors = Acceptors::default();
    let entrance = listeners::Entrance {
        proxy: proxy.clone(),
        flood,
        crowd,
        tls: tls.clone(),
    };
    let served = listeners::serve(&mut server, &config, &entrance, &sockets, &acceptors)?;
    let _certificates = tls.follow(control.handle())?;

    let leave = watch::Sender::new(false);
    let signals = shutdown::Signals::new(
        draining.clone(),
        &config,
        leave.subscribe(),
        acceptors.retired.clone(),
        control.handle(),
    );
    let mut switched = predecessor
        .map(|predecessor| predecessor.switch(&accounts, &ledger, &clock, control.handle()))
        .transpose()?;
    if let Some(switched) = &mut switched {
        incumbent::recall(&affinities, std::mem::take(&mut switched.conversations));
    }
    let place = control.serve_upgrades(Running {
        config: config.clone(),
        accounts,
        ledger: ledger.clone(),
        store,
        audit,
        fleet,
        cooldowns,
        clock,
        affinities,
        pause,
        paused: Mutex::default(),
        sockets,
        acceptors: acceptors.clone(),
        checks,
        failed_upgrade,
        retirement: control.retirement(),
        proxy,
        leave,
        runtime: control.handle().clone(),
    })?;
    let place = match &switched {
        Some(_) => Some(place),
        None => {
            place.take_place();
            None
        }
    };
    control.announce(acceptors.accepting.subscribe(), served, {
        let config = config.clone();
        move |serves| {
            if !serves {
                // What is served of it is no gateway: the process before this one, if there is one, goes on.
                if let Some(regrets) = regrets {
                    regrets.tell("not all listeners could be served; its log says which".into());
                }
                std::process::exit(2);
            }
            if let Some(place) = place {
                place.take_place();
            }
            if let Some(switched) = switched {
                switched.serving();
            }
            systemd::serving();
            drop(opening);
            serving.send_replace(true);
            ready(&config, first_run.as_ref());
        }
    });
    server.run(RunArgs {
        shutdown_signal: Box::new(signals),
    });

    control.stop();
    ledger.shut_down();
    access_log.flush();
    tracing::info!("stopped");
    Ok(())
}

fn access_log_path(config: &Config) -> std::path::PathBuf {
    match &config.logs.access {
        crate::config::AccessLog::File(path) => path.clone(),
        _ => "access log".into(),
    }
}

fn make_folder(folder: &Path) -> Result<(), StartError> {
    use std::os::unix::fs::DirBuilderExt;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| StartError::File {
        path: folder.to_owned(),
        source,
    })
}

fn server_conf(config: &Config) -> ServerConf {
    ServerConf {
        threads: config.threads,
        work_stealing: config.work_stealing,
        upstream_keepalive_pool_size: config.limits.upstream_idle,
        // Fewer where its route or the configuration says so.
        max_retries: MAX_ATTEMPTS.into(),
        // We drain ourselves before Pingora is told to stop.
        grace_period_seconds: Some(0),
        graceful_shutdown_timeout_seconds: Some(5),
        ..ServerConf::default()
    }
}
