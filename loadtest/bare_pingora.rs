//! The floor of the load test: the plainest Pingora proxy there can be, to one upstream address, HTTP/1.1 with keep-alive on both
//! sides. No authentication, no metering, no log.

use std::net::SocketAddr;

use async_trait::async_trait;
use clap::Parser;
use pingora::prelude::*;
use pingora::server::configuration::ServerConf;

/// A bare Pingora proxy.
#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where to send everything.
    #[arg(long)]
    upstream: SocketAddr,
    /// Worker threads.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Idle upstream connections kept.
    #[arg(long, default_value_t = 512)]
    pool: usize,
    /// Whether idle workers take tasks from busy ones.
    #[arg(long)]
    work_stealing: bool,
}

struct Bare {
    upstream: SocketAddr,
}

#[async_trait]
impl ProxyHttp for Bare {
    type CTX = ();

    fn new_ctx(&self) {}

    async fn upstream_peer(&self, _session: &mut Session, _ctx: &mut ()) -> Result<Box<HttpPeer>> {
        Ok(Box::new(HttpPeer::new(self.upstream, false, String::new())))
    }

    /// Clients of the load test go away in the middle of streams, by design.
    fn suppress_error_log(&self, _session: &Session, _ctx: &(), _error: &Error) -> bool {
        true
    }
}

fn main() {
    let arguments = Arguments::parse();
    let conf = ServerConf {
        threads: arguments.threads,
        work_stealing: arguments.work_stealing,
        upstream_keepalive_pool_size: arguments.pool,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let mut proxy = http_proxy_service(
        &server.configuration,
        Bare {
            upstream: arguments.upstream,
        },
    );
    proxy.add_tcp(&arguments.listen.to_string());
    server.add_service(proxy);
    server.run_forever();
}
