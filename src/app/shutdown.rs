//! When to stop, and how: SIGTERM (and SIGQUIT) end gracefully, SIGINT at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::proxy::metrics;

/// How often the drain looks whether it is done.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for signals; drains before it tells Pingora to stop, as Pingora's own grace is a fixed sleep.
pub struct Signals {
    draining: Arc<AtomicBool>,
    longest: Duration,
}

impl Signals {
    /// `draining` is set as soon as the process is to stop; requests in flight are waited for up to `longest`.
    pub fn new(draining: Arc<AtomicBool>, longest: Duration) -> Self {
        Signals { draining, longest }
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
        let listen = |kind| {
            signal(kind)
                .inspect_err(|error| tracing::error!(%error, "a signal can't be listened for"))
                .ok()
        };
        let mut terminated = listen(SignalKind::terminate());
        let mut quit = listen(SignalKind::quit());
        let mut interrupted = listen(SignalKind::interrupt());
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
