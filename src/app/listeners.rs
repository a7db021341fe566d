//! The listeners, on Pingora's server.
//!
//! Pingora accepts on one thread and hands each connection to another: whatever a client sends is then noticed by one thread and
//! read by another, which has to be woken for it, with a system call each time. So where the system spreads connections
//! over sockets of one address by itself (Linux, `SO_REUSEPORT`), every thread is a service of its own with its own socket: a
//! connection stays where it was accepted. Work stealing is for the opposite, and keeps one socket for all.

use std::sync::Arc;

use async_trait::async_trait;
use pingora::listeners::TcpSocketOptions;
use pingora::listeners::tls::{Acceptor, TlsSettings};
use pingora::proxy::HttpProxy;
use pingora::server::{ListenFds, Server, ShutdownWatch};
use pingora::services::listening::Service;

use crate::config::{Config, TlsFiles};
use crate::limits::flood::Flood;
use crate::proxy::Gateway;
use crate::proxy::crowd::Crowd;
use crate::proxy::door::Door;

use super::StartError;

/// Most sockets of the proxy: as many as one process can hand to the next (`MAX_FDS` in pingora-core's `transfer_fd`). Where each
/// thread's own would be more, threads share one for each listener.
const MAX_SOCKETS: usize = 32;

/// Adds a service for each listener, or one for each of its threads.
pub fn serve(
    server: &mut Server,
    config: &Config,
    proxy: &Arc<HttpProxy<Gateway>>,
    flood: &Arc<Flood>,
    crowd: &Arc<Crowd>,
) -> Result<(), StartError> {
    let sockets = config.listeners.len().saturating_mul(config.threads);
    let own_sockets = cfg!(target_os = "linux") && !config.work_stealing && sockets <= MAX_SOCKETS;
    for (index, listener) in config.listeners.iter().enumerate() {
        let service = |thread: usize| {
            let h2c = listener.http2 && listener.tls.is_none();
            let tls = listener
                .tls
                .as_ref()
                .map(|files| acceptor(files, listener.http2))
                .transpose()?;
            let door = Door::new(proxy.clone(), flood.clone(), crowd.clone(), config, tls, h2c);
            let mut service = Service::new(format!("proxy {index}.{thread}"), door);
            let mut options = TcpSocketOptions::default();
            options.so_reuseport = own_sockets.then_some(true);
            // TLS is the door's: it counts and bounds handshakes.
            service.add_tcp_with_settings(&listener.listen.to_string(), options);
            Ok::<_, StartError>(service)
        };
        if own_sockets {
            for thread in 0..config.threads {
                server.add_service(OneThread(service(thread)?));
            }
        } else {
            server.add_service(service(0)?);
        }
    }
    Ok(())
}

fn acceptor(files: &TlsFiles, http2: bool) -> Result<Acceptor, StartError> {
    let mut tls =
        TlsSettings::intermediate(&files.cert.to_string_lossy(), &files.key.to_string_lossy()).map_err(|error| {
            StartError::Certificate {
                cert: files.cert.clone(),
                why: error.to_string(),
            }
        })?;
    if http2 {
        tls.enable_h2();
    }
    Ok(tls.build())
}

/// One thread of a listener.
struct OneThread(Service<Door>);

#[async_trait]
impl pingora::services::Service for OneThread {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, listeners_per_fd: usize) {
        // Without the table of sockets, in which a second service of an address finds the first one's.
        self.0.start_service(None, shutdown, listeners_per_fd).await;
    }

    fn name(&self) -> &str {
        self.0.name()
    }

    fn threads(&self) -> Option<usize> {
        Some(1)
    }
}
