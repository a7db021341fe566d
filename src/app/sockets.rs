//! The listening sockets, bound once or taken over from the process before. They are kept here beside those who accept on them, so that
//! they can be handed on.
//!
//! A socket that another process listens on is never left alone: connections wait in its queue which nobody else would accept. So of an
//! address as many sockets are served as the process before had, also where fewer threads are wanted now.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with, sockopt};

use crate::config::Config;
use crate::upgrade::{MAX_SOCKETS, Predecessor, Role, SharedSockets};

use super::StartError;

/// Most sockets of the proxy, so that all fit into one message to the next process, beside the others.
const MOST: usize = MAX_SOCKETS - 3;

/// All of them.
pub struct Sockets(Mutex<Vec<SharedSockets>>);

/// Does every thread of a listener get a socket of its own? Where that would be too many, threads share one for each listener.
pub fn one_each(config: &Config) -> bool {
    let sockets = config.listeners.len().saturating_mul(config.threads);
    cfg!(target_os = "linux") && !config.work_stealing && sockets <= MOST
}

impl Sockets {
    /// Takes over what `predecessor` has, and binds the rest. Those of the proxy listen only when they are served: until then nobody waits
    /// in vain, should this process not come to serve.
    pub fn open(config: &Config, mut predecessor: Option<&mut Predecessor>) -> Result<Self, StartError> {
        let mut all = Vec::new();
        let mut take = |role, address| {
            let predecessor = predecessor.as_deref_mut();
            predecessor.map_or_else(Vec::new, |predecessor| predecessor.take_sockets(role, address))
        };
        let wanted = if one_each(config) { config.threads } else { 1 };
        for listener in &config.listeners {
            let address = listener.listen;
            let sockets = take(Role::Proxy, address);
            let sockets = proxy(address, sockets, wanted, one_each(config)).map_err(failed("the gateway", address))?;
            all.push(SharedSockets {
                role: Role::Proxy,
                address,
                sockets,
            });
        }
        let others = [
            (Role::Admin, "admin", config.admin.listen),
            (Role::Metrics, "metrics", config.metrics),
            (Role::Sandbox, "the sandbox provider", config.sandbox),
        ];
        for (role, what, address) in others {
            let Some(address) = address else { continue };
            let mut sockets = take(role, address);
            if sockets.is_empty() {
                let listener = TcpListener::bind(address).map_err(failed(what, address))?;
                listener.set_nonblocking(true).map_err(failed(what, address))?;
                sockets.push(listener.into());
            }
            all.push(SharedSockets { role, address, sockets });
        }
        Ok(Sockets(Mutex::new(all)))
    }

    /// Once more those of an address, to accept on.
    pub fn of(&self, role: Role, address: SocketAddr) -> io::Result<Vec<OwnedFd>> {
        let all = self.0.lock();
        let its = all
            .iter()
            .filter(|shared| shared.role == role && shared.address == address);
        its.flat_map(|shared| &shared.sockets).map(OwnedFd::try_clone).collect()
    }

    /// Once more all of them, for the next process. One with any free port stays with its process.
    pub fn share(&self) -> io::Result<Vec<SharedSockets>> {
        let all = self.0.lock();
        let fixed = all.iter().filter(|shared| shared.address.port() != 0);
        let again = fixed.map(|shared| {
            let sockets = shared.sockets.iter().map(OwnedFd::try_clone);
            Ok(SharedSockets {
                role: shared.role,
                address: shared.address,
                sockets: sockets.collect::<io::Result<_>>()?,
            })
        });
        again.collect()
    }

    /// Lets go of them: who accepts on one still has it.
    pub fn close(&self) {
        self.0.lock().clear();
    }
}

fn failed(what: &'static str, address: SocketAddr) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Listen { what, address, source }
}

fn proxy(address: SocketAddr, mut sockets: Vec<OwnedFd>, wanted: usize, one_each: bool) -> io::Result<Vec<OwnedFd>> {
    if sockets.is_empty() {
        // A socket that shares its port would not notice another program there.
        drop(TcpListener::bind(address)?);
    } else if !shares_port(&sockets)? {
        return Ok(sockets);
    }
    while sockets.len() < wanted {
        sockets.push(bound(address, one_each)?);
    }
    Ok(sockets)
}

fn shares_port(sockets: &[OwnedFd]) -> io::Result<bool> {
    for socket in sockets {
        if !sockopt::socket_reuseport(socket)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn bound(address: SocketAddr, shares_port: bool) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if shares_port {
        sockopt::set_socket_reuseport(&socket, true)?;
    }
    bind(&socket, &address)?;
    Ok(socket)
}
