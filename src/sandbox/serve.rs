//! The sandbox's server: HTTP/1.1 and HTTP/2 (prior knowledge) on one port.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::Sandbox;

/// Connections at once; further ones are closed at once.
pub const MAX_CONNECTIONS: usize = 65_536;
/// Longest wait for a request header, and on an idle connection.
pub const HEADER_WAIT: Duration = Duration::from_secs(600);
/// Wait after a failed accept (no descriptor left, for instance).
const ACCEPT_WAIT: Duration = Duration::from_millis(10);
/// Streams at once on one HTTP/2 connection.
const H2_STREAMS: u32 = 1_000;
/// Flow-control windows of HTTP/2, in bytes: large uploads shall not wait for us.
const H2_STREAM_WINDOW: u32 = 1 << 20;
const H2_CONNECTION_WINDOW: u32 = 16 << 20;

/// Serves HTTP/1.1 and HTTP/2 (prior knowledge) until `stop` resolves. Then all connections are cut, as when a provider
/// dies. After `enough` no more are accepted.
/// Fails only if the listener does.
pub async fn serve(
    listener: TcpListener,
    sandbox: Arc<Sandbox>,
    enough: impl Future<Output = ()> + Send + 'static,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_WAIT);
    server
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(H2_STREAMS)
        .initial_stream_window_size(H2_STREAM_WINDOW)
        .initial_connection_window_size(H2_CONNECTION_WINDOW);
    let server = Arc::new(server);
    // Dropped on return: every connection ends with it.
    let mut connections: JoinSet<()> = JoinSet::new();
    tokio::pin!(stop, enough);
    let mut listener = Some(listener);
    loop {
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        let accepted = tokio::select! {
            () = &mut stop => return Ok(()),
            () = &mut enough, if listener.is_some() => {
                listener = None;
                continue;
            }
            accepted = accept => accepted,
            Some(_) = connections.join_next() => continue,
        };
        let stream = match accepted {
            Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => stream,
            Ok(_) => continue,
            Err(error) => {
                tracing::warn!(%error, "the sandbox can't accept a connection");
                tokio::time::sleep(ACCEPT_WAIT).await;
                continue;
            }
        };
        // Without it, small events wait for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (server, sandbox) = (server.clone(), sandbox.clone());
        connections.spawn(async move {
            let _open = Connected::new(&sandbox);
            let service = service_fn(|request| {
                let sandbox = sandbox.clone();
                async move { sandbox.answer(request).await }
            });
            // Errors here are broken connections: the faults we make, and clients which went away.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// Counts a connection while it lives.
struct Connected<'a>(&'a Sandbox);

impl<'a> Connected<'a> {
    fn new(sandbox: &'a Sandbox) -> Self {
        sandbox.counter.connection(true);
        Connected(sandbox)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.counter.connection(false);
    }
}

impl Sandbox {
    /// The same answers as a router, for a server which has other things to serve as well. `fault=reset` is a body that
    /// breaks before its first byte there; most servers then send no header either.
    pub fn router(self: Arc<Self>) -> axum::Router {
        axum::Router::new().fallback(move |request: axum::extract::Request| {
            let sandbox = self.clone();
            async move {
                let answer = sandbox.answer(request).await;
                let response = answer.unwrap_or_else(|dropped| http::Response::new(dropped.into_body()));
                Ok::<_, Infallible>(response.map(axum::body::Body::new))
            }
        })
    }
}
