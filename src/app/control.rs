//! The control runtime: admin API, metrics page, sandbox provider, rules, names. Apart from the threads which serve
//! clients.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::egress::{Authority, Names, REFRESH};
use crate::rules::Live;
use crate::sandbox::{self, Sandbox};
use crate::secrets::Vault;
use crate::upgrade::{self, Order, Role};
use crate::upstream::LiveFleet;

use super::StartError;
use super::incumbent::Running;
use super::listeners::Accepting;
use super::sockets::Sockets;

/// How often what was learned of credentials is written down, if it changed.
const REMEMBER: Duration = Duration::from_secs(1);

/// Memory of large events is kept for the next one for as long, and up to as long again.
const SPARE_FOR: Duration = Duration::from_secs(1);

/// Secrets sealed anew in one go, each with a sync of the disk.
const RESEAL_AT_ONCE: usize = 32;

/// After what time sealing anew is tried again.
const RESEAL_AGAIN: Duration = Duration::from_secs(30);

/// How long a listener that is being served may take to fail, if it does.
const GIVES_UP: Duration = Duration::from_millis(50);

/// How long stopping waits for what is being written, and then for other tasks.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The runtime and what keeps it going.
pub struct Control {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    /// Another process does all this from now on.
    retired: watch::Sender<bool>,
    watch: Arc<Mutex<Option<crate::watch::Watch>>>,
    remembering: Option<JoinHandle<()>>,
}

/// What ends the work of a process whose place another one has taken.
#[derive(Clone)]
pub struct Retirement {
    retired: watch::Sender<bool>,
    watch: Arc<Mutex<Option<crate::watch::Watch>>>,
}

impl Retirement {
    /// Nothing is accepted any more by admin API, metrics page and sandbox (what they are at they finish), rules are followed and
    /// cooldowns written down no more.
    pub fn begin(&self) {
        self.retired.send_replace(true);
        drop(self.watch.lock().take());
    }

    /// Resolves when it has begun.
    pub fn begun(&self) -> impl Future<Output = ()> + Send + use<> {
        stopped(self.retired.subscribe())
    }
}

impl Control {
    /// For what else runs there.
    pub fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// Starts the runtime, with nothing to do yet.
    pub fn start() -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("control")
            .enable_all()
            .build()?;
        Ok(Control {
            runtime,
            stop: watch::Sender::new(false),
            retired: watch::Sender::new(false),
            watch: Arc::default(),
            remembering: None,
        })
    }

    /// What ends it when another process takes over.
    pub fn retirement(&self) -> Retirement {
        Retirement {
            retired: self.retired.clone(),
            watch: self.watch.clone(),
        }
    }

    /// Serves `router` on a socket of `role` until [`Control::stop`].
    pub fn serve(
        &self,
        what: &'static str,
        (role, address): (Role, SocketAddr),
        sockets: &Sockets,
        router: axum::Router,
    ) -> Result<(), StartError> {
        let listener = self.listener(what, (role, address), sockets)?;
        let (stopped, retired) = (stopped(self.stop.subscribe()), stopped(self.retired.subscribe()));
        let stopped = async move {
            tokio::select! {
                () = stopped => {}
                () = retired => {}
            }
        };
        self.runtime.spawn(async move {
            if let Err(error) = axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>())
                .with_graceful_shutdown(stopped)
                .await
            {
                tracing::error!(%error, what, "stopped serving");
            }
        });
        Ok(())
    }

    /// Serves the sandbox provider and returns where.
    pub fn serve_sandbox(&self, address: SocketAddr, sockets: &Sockets) -> Result<SocketAddr, StartError> {
        let listener = self.listener("the sandbox provider", (Role::Sandbox, address), sockets)?;
        let failed = |source| StartError::Listen {
            what: "the sandbox provider",
            address,
            source,
        };
        let is_shared = address.port() != 0;
        let address = listener.local_addr().map_err(failed)?;
        let (stopped, retired) = (stopped(self.stop.subscribe()), stopped(self.retired.subscribe()));
        let enough = async move {
            retired.await;
            if !is_shared {
                // Nobody else accepts there, and requests under way may need it.
                std::future::pending::<()>().await;
            }
        };
        self.runtime.spawn(async move {
            if let Err(error) = sandbox::serve(listener, Sandbox::new(false), enough, stopped).await {
                tracing::error!(%error, "the sandbox provider stopped");
            }
        });
        Ok(address)
    }

    /// Resolves the names of all providers now, and again every [`REFRESH`].
    pub fn resolve_ahead(&self, names: Arc<Names>, fleet: Arc<LiveFleet>) {
        self.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(REFRESH);
            loop {
                ticks.tick().await;
                names.refresh(authorities(&fleet), true).await;
            }
        });
    }

    /// Gives memory back which was kept for large events that did not come.
    pub fn let_spare_memory_go(&self) {
        self.runtime.spawn(async move {
            let mut ticks = tokio::time::interval(SPARE_FOR);
            loop {
                ticks.tick().await;
                crate::sse::let_spare_go();
            }
        });
    }

    /// Writes down what was learned of credentials, soon after it changed: `kill -9` loses no more than [`REMEMBER`] of it.
    /// [`Control::stop`] waits for the last of it.
    pub fn remember(&mut self, fleet: Arc<LiveFleet>, path: PathBuf, clock: Clock) {
        let mut stop = self.stop.subscribe();
        let mut retired = self.retired.subscribe();
        let remembering = self.runtime.spawn(async move {
            let mut written = fleet.load().changed();
            loop {
                let stopping = tokio::select! {
                    () = tokio::time::sleep(REMEMBER) => false,
                    _ = stop.wait_for(|stop| *stop) => true,
                    // What another process learns stands there now.
                    _ = retired.wait_for(|retired| *retired) => return,
                };
                let now = fleet.load();
                let changed = now.changed();
                if changed != written {
                    let memory = now.remember(Instant::now(), clock.now());
                    let path = path.clone();
                    match tokio::task::spawn_blocking(move || memory.save(&path)).await {
                        Ok(Ok(())) => written = changed,
                        Ok(Err(error)) => tracing::warn!(%error, "cooldowns can't be written down"),
                        Err(_) => tracing::error!("writing down the cooldowns panicked"),
                    }
                }
                if stopping {
                    return;
                }
            }
        });
        self.remembering = Some(remembering);
    }

    /// Reloads the rules when their folder changes and on SIGHUP; the fleet follows.
    pub fn follow_rules(
        &mut self,
        live: &Arc<Live>,
        fleet: Arc<LiveFleet>,
        names: Arc<Names>,
    ) -> Result<(), StartError> {
        let handle = self.runtime.handle().clone();
        live.on_change(Box::new(move |rules| {
            fleet.replace(rules.clone());
            crate::observe::log::mask(fleet.load().masker().as_ref().clone());
            let (names, fleet) = (names.clone(), fleet.clone());
            handle.spawn(async move { names.refresh(authorities(&fleet), false).await });
        }));
        *self.watch.lock() = Some(live.watch()?);
        let live = live.clone();
        let retired = self.retired.subscribe();
        self.runtime.spawn(async move {
            let Ok(mut hangups) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()) else {
                return;
            };
            while hangups.recv().await.is_some() {
                if *retired.borrow() {
                    continue;
                }
                let live = live.clone();
                // It tells the log itself what became of it.
                let _ = tokio::task::spawn_blocking(move || live.reload().is_ok()).await;
            }
        });
        Ok(())
    }

    /// Takes orders of `tollgate upgrade`.
    /// Takes orders at once, but over the socket of the process before this one only when it takes its place.
    pub fn serve_upgrades(&self, running: Running) -> Result<upgrade::control::Place, StartError> {
        let data = running.config.data.clone();
        let bound = {
            let _inside = self.runtime.enter();
            upgrade::control::bind(&data)
        };
        let (listener, place) = bound.map_err(|source| StartError::File {
            path: upgrade::control::path(&data),
            source,
        })?;
        let (running, under_way) = (Arc::new(running), Arc::new(AtomicBool::new(false)));
        let retired = running.retirement.begun();
        let serve = upgrade::control::serve(listener, move |order: Order, told| {
            running.upgrade(&under_way, &order, &told);
        });
        self.runtime.spawn(async move {
            tokio::select! {
                served = serve => if let Err(error) = served {
                    tracing::error!(%error, "orders to upgrade are not heard any more");
                },
                () = retired => {}
            }
        });
        Ok(place)
    }

    /// Calls `ready` when all of the proxy's sockets are served, or with false when one can't be.
    pub fn announce(
        &self,
        mut accepting: watch::Receiver<Accepting>,
        served: usize,
        ready: impl FnOnce(bool) + Send + 'static,
    ) {
        self.runtime.spawn(async move {
            let all = accepting.wait_for(|accepting| accepting.on == served || accepting.failed > 0);
            if all.await.is_err() {
                return;
            }
            // What Pingora can't serve it gives up at once.
            tokio::time::sleep(GIVES_UP).await;
            let Accepting { on, failed } = *accepting.borrow();
            if failed > 0 {
                tracing::error!(on, failed, "not all listeners could be served");
            }
            // It may write to a terminal, or over a link to another process.
            let _ = tokio::task::spawn_blocking(move || ready(failed == 0)).await;
        });
    }

    /// Seals the secrets anew which another master key sealed, a few at a time, and says when none is left. What stops it goes
    /// on at the next start.
    pub fn reseal(&self, vault: Arc<Vault>, mut serving: watch::Receiver<bool>) {
        let stop = self.stop.subscribe();
        self.runtime.spawn(async move {
            // Until then the process before this one may have to go on, with the key before.
            if serving.wait_for(|serving| *serving).await.is_err() {
                return;
            }
            while !*stop.borrow() {
                let vault = vault.clone();
                match tokio::task::spawn_blocking(move || vault.reseal(RESEAL_AT_ONCE)).await {
                    Ok(Ok(0)) => {
                        tracing::info!(
                            "everything is sealed under the new master key: master_key_previous can go, and its file be destroyed"
                        );
                        return;
                    }
                    Ok(Ok(left)) => tracing::debug!(left, "secrets are being sealed anew"),
                    Ok(Err(error)) => {
                        tracing::error!(%error, "secrets can't be sealed anew under the new master key; trying again");
                        tokio::time::sleep(RESEAL_AGAIN).await;
                    }
                    Err(_) => return tracing::error!("sealing the secrets anew panicked"),
                }
            }
        });
    }

    fn listener(
        &self,
        what: &'static str,
        (role, address): (Role, SocketAddr),
        sockets: &Sockets,
    ) -> Result<tokio::net::TcpListener, StartError> {
        let take = || {
            let socket = sockets
                .of(role, address)?
                .pop()
                .ok_or(std::io::ErrorKind::NotConnected)?;
            let _inside = self.runtime.enter();
            tokio::net::TcpListener::from_std(TcpListener::from(socket))
        };
        take().map_err(|source| StartError::Listen { what, address, source })
    }

    /// Stops everything.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if let Some(remembering) = self.remembering {
            // A runtime that shuts down waits for no task.
            let last = async { tokio::time::timeout(LAST_WORDS, remembering).await.is_ok() };
            if !self.runtime.block_on(last) {
                tracing::warn!("the last of what was learned of credentials could not be written down in time");
            }
        }
        self.runtime.shutdown_timeout(LAST_WORDS);
    }
}

fn authorities(fleet: &LiveFleet) -> Vec<Authority> {
    let fleet = fleet.load();
    let usable = fleet.pools().filter(|pool| pool.is_usable());
    let names: HashSet<Authority> = usable.flat_map(|pool| pool.authorities().cloned()).collect();
    names.into_iter().collect()
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
