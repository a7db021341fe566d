//! The running gateway as an upgrade sees it: what it lets go of, takes back, and how it leaves.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use pingora::proxy::HttpProxy;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use crate::admin::{Audit, Pause, Paused};
use crate::clock::Clock;
use crate::config::Config;
use crate::ledger::Ledger;
use crate::limits::Accounts;
use crate::proxy::{Gateway, door, ending, metrics};
use crate::routing::affinity::{Affinities, Sticky};
use crate::store::Store;
use crate::upgrade::{self, Conversation, Incumbent, Order, SharedSockets, Step, Successor, UpgradeError};
use crate::upstream::{Checks, LiveFleet};

use super::beside::FailedUpgrade;
use super::control::Retirement;
use super::listeners::{Accepting, Acceptors};
use super::shutdown;
use super::sockets::Sockets;

/// How often a process that is to leave looks whether it can.
const LOOK: Duration = Duration::from_millis(50);
/// How long those who accept may take to stop.
const ACCEPTED: Duration = Duration::from_secs(5);
/// How often, and after what time, what was let go of is tried to be had again: whoever had it may be just going away.
const AGAIN: u32 = 60;
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How often it tells how it stands.
const TELL: Duration = Duration::from_millis(250);

/// What an upgrade works on.
pub struct Running {
    pub config: Arc<Config>,
    pub accounts: Arc<Accounts>,
    pub ledger: Ledger,
    pub store: Arc<Store>,
    pub audit: Arc<Audit>,
    pub fleet: Arc<LiveFleet>,
    pub cooldowns: PathBuf,
    pub clock: Clock,
    pub affinities: Arc<Affinities>,
    pub pause: Pause,
    /// While store, books and audit log are not here.
    pub paused: Mutex<Option<Paused>>,
    pub sockets: Arc<Sockets>,
    pub acceptors: Acceptors,
    pub checks: Checks,
    pub failed_upgrade: FailedUpgrade,
    pub retirement: Retirement,
    pub proxy: Arc<HttpProxy<Gateway>>,
    pub leave: watch::Sender<bool>,
    pub runtime: Handle,
}

impl Running {
    /// Does what `tollgate upgrade` asks for, one at a time. Blocking, until the old process, which is this one, has nothing more to tell.
    pub fn upgrade(self: &Arc<Self>, under_way: &AtomicBool, order: &Order, told: &mpsc::Sender<Step>) {
        if under_way.swap(true, Ordering::AcqRel) {
            let why = UpgradeError::UnderWay.to_string();
            let _ = told.blocking_send(Step::Failed { why });
            return;
        }
        tracing::info!(program = %order.program.display(), conf = %order.conf.display(), "an upgrade begins");
        let incumbent: Arc<dyn Incumbent> = self.clone();
        let tell = |step: Step| {
            tracing::info!(?step, "upgrade");
            let _ = told.blocking_send(step);
        };
        let prepare = self.config.upgrade.prepare;
        match upgrade::hand_over(order, &incumbent, &self.accounts, &self.ledger, prepare, &tell) {
            Ok(_) => {
                while !*self.leave.borrow() {
                    let _ = told.try_send(Step::Draining {
                        pid: std::process::id(),
                        in_flight: under_way_here(),
                        connections: connections(),
                    });
                    std::thread::sleep(TELL);
                }
            }
            Err(error) => {
                tracing::error!(%error, "the upgrade failed; this process goes on");
                *self.failed_upgrade.lock() = Some(error.to_string());
                under_way.store(false, Ordering::Release);
            }
        }
    }
}

/// Tries something until it succeeds, for a minute. Blocking.
fn again<E>(mut work: impl FnMut() -> Result<(), E>) -> Result<(), E> {
    for _ in 1..AGAIN {
        match work() {
            Ok(()) => return Ok(()),
            Err(_) => std::thread::sleep(AGAIN_AFTER),
        }
    }
    work()
}

fn connections() -> u64 {
    metrics::connections().try_into().unwrap_or(0)
}

/// Requests under way here, and in the processes before this one.
fn under_way_here() -> u64 {
    let all = metrics::in_flight() + upgrade::metrics::predecessor_in_flight();
    all.try_into().unwrap_or(0)
}

impl Incumbent for Running {
    fn sockets(&self) -> io::Result<Vec<SharedSockets>> {
        self.sockets.share()
    }

    fn data(&self) -> PathBuf {
        // Absolute: the other process says itself where it looks from.
        self.config
            .data
            .canonicalize()
            .unwrap_or_else(|_| self.config.data.clone())
    }

    fn release(&self) -> Result<(), String> {
        if self.ledger.is_full() {
            // The store does not survive a full disk.
            return Err("the disk is full".into());
        }
        let paused = self.runtime.block_on(self.pause.pause());
        *self.paused.lock() = Some(paused.ok_or("a call of the admin API takes too long")?);
        let memory = self.fleet.load().remember(Instant::now(), self.clock.now());
        if let Err(error) = memory.save(&self.cooldowns) {
            tracing::warn!(%error, "cooldowns can't be written down");
        }
        self.ledger.hand_over();
        self.store.close().map_err(|error| error.to_string())
    }

    fn take_back(&self) {
        let Some(paused) = self.paused.lock().take() else {
            return; // nothing was let go
        };
        // Each by itself: what can be had again is had again.
        match again(|| self.store.reopen()) {
            Ok(()) => self.ledger.take_back(),
            Err(error) => tracing::error!(%error, "the store can't be opened again: restart the gateway"),
        }
        if let Err(error) = again(|| self.audit.reopen()) {
            tracing::error!(%error, "the audit log can't be opened again: restart the gateway");
        }
        drop(paused);
    }

    fn conversations(&self) -> Vec<Conversation> {
        let all = self.affinities.all(Instant::now());
        let told = |(id, sticky, left): (u64, Sticky, Duration)| Conversation {
            id,
            provider: sticky.provider,
            credential: sticky.credential,
            model: sticky.model,
            left,
        };
        all.into_iter().map(told).collect()
    }

    fn retire(&self, successor: Successor) {
        // Not `draining`: who asks here over a kept connection whether it is ready means the gateway, which is.
        ending::close_connections();
        self.acceptors.retired.send_replace(true);
        self.sockets.close();
        self.checks.stop();
        self.retirement.begin();
        if let Some(paused) = self.paused.lock().take() {
            paused.for_good();
        }
        let (upgrade, leave, proxy) = (self.config.upgrade.clone(), self.leave.clone(), self.proxy.clone());
        let accepting = self.acceptors.accepting.subscribe();
        self.runtime.spawn(async move {
            finish(&upgrade, &proxy, accepting, &successor).await;
            leave.send_replace(true);
        });
    }
}

/// Waits until nothing is under way here, nor in processes before this one, which know only this one.
async fn finish(
    upgrade: &crate::config::Upgrade,
    proxy: &HttpProxy<Gateway>,
    mut accepting: watch::Receiver<Accepting>,
    successor: &Successor,
) {
    let begun = Instant::now();
    successor.draining(under_way_here(), connections());
    // A connection may still be accepted until nobody accepts, and is counted a moment later.
    let nobody = accepting.wait_for(|accepting| accepting.on == 0);
    let _ = tokio::time::timeout(ACCEPTED, nobody).await;
    tokio::time::sleep(LOOK).await;
    let (mut busy, mut told) = (begun, begun);
    loop {
        let now = Instant::now();
        if now.duration_since(told) >= TELL {
            told = now;
            successor.draining(under_way_here(), connections());
        }
        let waited_for = upgrade::metrics::predecessors() > 0;
        if metrics::in_flight() > 0 || waited_for {
            busy = now;
        } else if connections() == 0 || now.duration_since(busy) >= upgrade.idle {
            break;
        }
        if now.duration_since(begun) >= upgrade.grace {
            if metrics::in_flight() > 0 {
                shutdown::end_streams().await;
            }
            break;
        }
        tokio::time::sleep(LOOK).await;
    }
    door::close_idle(proxy).await;
    // What came on one of them at this very moment is answered yet.
    loop {
        tokio::time::sleep(LOOK).await;
        if metrics::in_flight() == 0 || begun.elapsed() >= upgrade.grace {
            break;
        }
    }
    tracing::info!(
        seconds = begun.elapsed().as_secs(),
        "nothing is under way any more; this process leaves"
    );
}

/// Takes over where conversations were answered.
pub fn recall(affinities: &Affinities, conversations: Vec<Conversation>) {
    let now = Instant::now();
    for one in conversations {
        let sticky = Sticky {
            provider: one.provider,
            credential: one.credential,
            model: one.model,
        };
        affinities.recall(one.id, sticky, one.left, now);
    }
}
