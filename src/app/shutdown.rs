//! When to stop, and how: SIGTERM (and SIGQUIT) end gracefully, SIGINT at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::proxy::metrics;

/// How often the drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for signals; drains before it tells Pingora to stop, as Pingora's own grace is a fixed sleep.
pub struct Signals {
    draining: Arc<AtomicBool>,
    longest: Duration,
    heard: Mutex<Option<Heard>>,
}

/// The signals that are listened for; `None`: it can't be.
struct Heard {
    terminated: Option<Signal>,
    quit: Option<Signal>,
    interrupted: Option<Signal>,
}

impl Signals {
    /// `draining` is set as soon as the process is to stop; requests in flight are waited for up to `longest`.
    /// Listens from now on, on `runtime`: a signal that comes while the server starts is not the end of the process, as it would
    /// be by default.
    pub fn new(draining: Arc<AtomicBool>, longest: Duration, runtime: &Handle) -> Self {
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
            longest,
            heard: Mutex::new(Some(heard)),
        }
    }

    async fn drain(&self, interrupted: &mut Option<Signal>) -> ShutdownSignal {
        self.draining.store(true, Ordering::Relaxed);
        tracing::info!(in_flight = metrics::in_flight(), longest = ?self.longest, "draining");
        let finished = async {
            // At least one look later, so that readiness is seen to be off.
            loop {
                tokio::time::sleep(LOOK).await;
                if metrics::in_flight() == 0 {
                    break;
                }
            }
        };
        tokio::select! {
            drained = tokio::time::timeout(self.longest, finished) => {
                if drained.is_err() {
                    tracing::warn!(in_flight = metrics::in_flight(), "the time to drain is over");
                }
                ShutdownSignal::GracefulTerminate
            }
            () = next(interrupted) => ShutdownSignal::FastShutdown,
        }
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
        tokio::select! {
            () = next(&mut terminated) => self.drain(&mut interrupted).await,
            () = next(&mut quit) => self.drain(&mut interrupted).await,
            () = next(&mut interrupted) => ShutdownSignal::FastShutdown,
        }
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
