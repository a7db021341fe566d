//! When to stop, and how: SIGTERM (and SIGQUIT) end gracefully, SIGINT at once. A process whose place another one has taken leaves
//! when it has nothing to do any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

use crate::config::Config;
use crate::proxy::{ending, metrics};
use crate::upgrade;

use super::systemd;

/// How often the drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// How long answers may take to end when they are told to.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Waits for signals; drains before it tells Pingora to stop, as Pingora's own grace is a fixed sleep.
pub struct Signals {
    draining: Arc<AtomicBool>,
    unready: Duration,
    longest: Duration,
    /// Another process serves, and this one has done what it had begun.
    leave: watch::Receiver<bool>,
    /// Tells those who accept to stop.
    retired: watch::Sender<bool>,
    heard: Mutex<Option<Heard>>,
}

/// The signals that are listened for; `None`: it can't be.
struct Heard {
    terminated: Option<Signal>,
    quit: Option<Signal>,
    interrupted: Option<Signal>,
}

impl Signals {
    /// `draining` is set as soon as the process is to stop; `retired` when it accepts no more; `leave` ends it without a signal.
    /// Listens from now on, on `runtime`: a signal that comes while the server starts is not the end of the process, as it would
    /// be by default.
    pub fn new(
        draining: Arc<AtomicBool>,
        config: &Config,
        leave: watch::Receiver<bool>,
        retired: watch::Sender<bool>,
        runtime: &Handle,
    ) -> Self {
        let _entered = runtime.enter();
        let listen = |kind| {
            signal(kind)
                .inspect_err(|error| tracing::error!(%error, "a signal can't be listened for"))
                .ok()
        };
        let heard = Heard {
            terminated: listen(SignalKind::terminate()),
            quit: listen(SignalKind::quit()),
            interrupted: listen(SignalKind::interrupt()),
        };
        Signals {
            draining,
            unready: config.timeouts.unready,
            longest: config.timeouts.drain,
            leave,
            retired,
            heard: Mutex::new(Some(heard)),
        }
    }

    async fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        systemd::stopping();
        if !self.unready.is_zero() {
            tracing::info!(unready = ?self.unready, "not ready any more");
            tokio::time::sleep(self.unready).await;
        }
        tracing::info!(in_flight = metrics::in_flight(), longest = ?self.longest, "draining");
        ending::close_connections();
        let until = Instant::now() + self.longest;
        loop {
            // At least one look later, so that readiness is seen to be off.
            tokio::time::sleep(LOOK).await;
            if metrics::in_flight() == 0 && upgrade::metrics::predecessors() == 0 {
                break;
            }
            if Instant::now() >= until {
                end_streams().await;
                break;
            }
        }
        self.retired.send_replace(true);
    }
}

/// The time is over: what is still under way is told to end, each with an error in its own format.
pub async fn end_streams() {
    tracing::warn!(
        in_flight = metrics::in_flight(),
        "the time to drain is over: what is under way ends with an error"
    );
    ending::end();
    let until = Instant::now() + ending::SEEN + LAST_WORDS;
    while metrics::in_flight() > 0 && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let Some(Heard {
            mut terminated,
            mut quit,
            mut interrupted,
        }) = self.heard.lock().take()
        else {
            return std::future::pending().await; // asked once only
        };
        let leave = left(self.leave.clone());
        let graceful = async {
            tokio::select! {
                () = next(&mut terminated) => self.drain().await,
                () = next(&mut quit) => self.drain().await,
                () = leave => {}
            }
        };
        tokio::select! {
            () = graceful => ShutdownSignal::GracefulTerminate,
            () = next(&mut interrupted) => ShutdownSignal::FastShutdown,
        }
    }
}

/// Another process serves, and this one is done.
async fn left(mut leave: watch::Receiver<bool>) {
    if leave.wait_for(|leave| *leave).await.is_err() {
        std::future::pending().await // nobody will say so
    }
}

/// The next signal; never, where it can't be listened for.
async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}
