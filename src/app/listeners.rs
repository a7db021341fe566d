//! The listeners, on Pingora's server.
//!
//! Pingora accepts on one thread and hands each connection to another: whatever a client sends is then noticed by one thread and
//! read by another, which has to be woken for it, with a system call each time. So where the system spreads connections
//! over sockets of one address by itself (Linux, `SO_REUSEPORT`), every thread is a service of its own with its own socket: a
//! connection stays where it was accepted. Work stealing is for the opposite, and keeps one socket for all.
//!
//! Sockets are ours ([`super::sockets`]); Pingora gets each through a table of its own, as its one table has one socket an address.

use std::net::SocketAddr;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora::listeners::{ConnectionFilter, ListenerConfig};
use pingora::protocols::l4::stream::L4BufferSettings;
use pingora::proxy::HttpProxy;
use pingora::server::{Fds, ListenFds, Server, ShutdownWatch};
use pingora::services::listening::Service;
use tokio::sync::watch;
use tokio::task::coop;

use crate::config::Config;
use crate::limits::flood::Flood;
use crate::proxy::Gateway;
use crate::proxy::crowd::Crowd;
use crate::proxy::door::Door;
use crate::upgrade::Role;

use super::StartError;
use super::sockets::{Sockets, one_each};
use super::tls::Tls;

/// What is read at once below TLS, in bytes, as rustls asks for 4 KiB at a time. Without TLS nothing is buffered here: headers and bodies
/// have buffers of their own, and Pingora's 64 KiB are most of what an idle connection holds.
const TLS_READ: usize = 16 * 1024;

/// The same where HTTP/2's preface is looked for before each request: it and the header are one read.
const PREFACE_READ: usize = 4096;

/// After so many connections that were accepted what else is ready has its turn. Fewer cost throughput where each request has a
/// connection of its own: a quarter of it with one (loadtest/RESULTS.md).
const ACCEPTED_AT_ONCE: usize = 16;

/// How many of the proxy's sockets are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepting {
    /// So many accept.
    pub on: usize,
    /// So many do no more although nobody told them to stop: they failed.
    pub failed: usize,
}

/// Who accepts: to be told to stop, and to say how it stands.
#[derive(Clone, Default)]
pub struct Acceptors {
    /// True: they accept no more, and tell HTTP/2 clients so.
    pub retired: watch::Sender<bool>,
    /// How many there are.
    pub accepting: watch::Sender<Accepting>,
}

/// What each door is made of.
pub struct Entrance {
    /// What is behind it.
    pub proxy: Arc<HttpProxy<Gateway>>,
    /// Floods of one address.
    pub flood: Arc<Flood>,
    /// Who is connected.
    pub crowd: Arc<Crowd>,
    /// The handshakes.
    pub tls: Arc<Tls>,
}

/// Adds a service for each socket; gives their number.
pub fn serve(
    server: &mut Server,
    config: &Config,
    entrance: &Entrance,
    sockets: &Sockets,
    acceptors: &Acceptors,
) -> Result<usize, StartError> {
    let Entrance {
        proxy,
        flood,
        crowd,
        tls,
    } = entrance;
    let mut served = 0;
    for (index, listener) in config.listeners.iter().enumerate() {
        let its = sockets.of(Role::Proxy, listener.listen);
        let its = its.map_err(|source| StartError::Listen {
            what: "the gateway",
            address: listener.listen,
            source,
        })?;
        let threads = if one_each(config) {
            1
        } else {
            config.threads.div_ceil(its.len().max(1))
        };
        for (number, socket) in its.into_iter().enumerate() {
            let h2c = listener.http2 && listener.tls.is_none();
            let door = Door::new(
                proxy.clone(),
                flood.clone(),
                crowd.clone(),
                config,
                tls.of(index),
                h2c,
                threads,
            );
            // Plain, also where there is TLS: that begins at the door.
            let mut service = Service::new(format!("proxy {index}.{number}"), door);
            let read = match &listener.tls {
                Some(_) => TLS_READ,
                None if h2c => PREFACE_READ,
                None => 0,
            };
            let buffer = L4BufferSettings::default().read(read);
            service.set_connection_filter(Arc::new(Unhurried::default()));
            service.add_listener(ListenerConfig::tcp(listener.listen.to_string()).l4_buffer(buffer));
            server.add_service(OneSocket {
                service,
                address: listener.listen.to_string(),
                socket: Some(socket),
                threads,
                acceptors: acceptors.clone(),
            });
            served += 1;
        }
    }
    Ok(served)
}

/// Makes those who accept take turns with others: thousands of connections that come at once would stop their thread for a tenth of a
/// second.
#[derive(Debug, Default)]
struct Unhurried(AtomicUsize);

#[async_trait]
impl ConnectionFilter for Unhurried {
    async fn should_accept(&self, _: Option<&SocketAddr>) -> bool {
        if self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(ACCEPTED_AT_ONCE) {
            // To wait here would lose the connection if accepting ended meanwhile. So the task's budget is used up, and Tokio makes it wait
            // before it accepts the next.
            while coop::has_budget_remaining() {
                coop::consume_budget().await;
            }
        }
        true
    }
}

/// One socket of a listener.
struct OneSocket {
    service: Service<Door>,
    address: String,
    socket: Option<OwnedFd>,
    threads: usize,
    acceptors: Acceptors,
}

/// Counts who accepts, also if Pingora panics.
struct Counted(Acceptors);

impl Counted {
    fn begin(acceptors: &Acceptors) -> Self {
        acceptors.accepting.send_modify(|accepting| accepting.on += 1);
        Counted(acceptors.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let told = *self.0.retired.borrow();
        self.0.accepting.send_modify(|accepting| {
            accepting.on -= 1;
            accepting.failed += usize::from(!told);
        });
    }
}

#[async_trait]
impl pingora::services::Service for OneSocket {
    async fn start_service(&mut self, _: Option<ListenFds>, _: ShutdownWatch, listeners_per_fd: usize) {
        let Some(socket) = self.socket.take() else { return };
        let mut table = Fds::new();
        table.add(self.address.clone(), socket.into_raw_fd());
        let _counted = Counted::begin(&self.acceptors);
        // Told to stop by us, before Pingora ends its runtimes.
        let retired = self.acceptors.retired.subscribe();
        let table = Some(Arc::new(Mutex::new(table)));
        self.service.start_service(table, retired, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.service.name()
    }

    fn threads(&self) -> Option<usize> {
        Some(self.threads)
    }
}
