//! The door: connections before their first request. Pingora's timeouts are per read, so that a header which drips is
//! held for ever; and it does not count connections. Both are done here, around its HTTP application.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;

use crate::limits::flood::Flood;

use super::tls::Handshake;
use super::{Gateway, metrics};

tokio::task_local! {
    /// Set by the first phase: the header is complete, the deadline no longer counts.
    static HEADER_COMPLETE: Cell<bool>;
    /// Requests begun on this connection.
    static REQUESTS: Cell<u64>;
}

/// Says that the header of the request under way is complete.
pub fn header_is_complete() {
    // Not set on HTTP/2, where a request begins with its header complete.
    let _ = HEADER_COMPLETE.try_with(|complete| complete.set(true));
}

/// The application of one listener.
pub struct Door {
    http: Arc<Http>,
    flood: Arc<Flood>,
    tls: Option<Arc<Handshake>>,
}

/// HTTP behind the door.
struct Http {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    header: Duration,
    keepalive: Duration,
}

impl Door {
    /// A door before `proxy`; `h2c`: HTTP/2 with prior knowledge is taken on plain connections. With `tls` connections begin with a
    /// handshake.
    pub fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        flood: Arc<Flood>,
        config: &crate::config::Config,
        h2c: bool,
        tls: Option<Arc<Handshake>>,
    ) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2c = h2c;
        options.keepalive_request_limit = Some(config.limits.requests_per_connection);
        // HARDENING: five minutes, five times HTTP/1.1's minute.
        options.h2_idle_timeout = Some(config.timeouts.keepalive * 5);
        let http = Http {
            proxy,
            options,
            header: config.timeouts.header,
            keepalive: config.timeouts.keepalive,
        };
        Door {
            http: Arc::new(http),
            flood,
            tls,
        }
    }
}

#[async_trait]
impl ServerApp for Door {
    async fn process_new(self: &Arc<Self>, mut stream: Stream, shutdown: &ShutdownWatch) -> Option<Stream> {
        let address = stream.get_socket_digest().and_then(|digest| {
            digest
                .peer_addr()
                .and_then(|address| address.as_inet().map(|inet| inet.ip().to_canonical()))
        });
        let counted = match address {
            // Over the limit: closed without a word, as an accept queue would.
            Some(address) => Some(self.flood.connect(address)?),
            None => None,
        };
        let connected = metrics::Connected::begin();
        if let Some(tls) = &self.tls {
            // Boxed: what a handshake needs is not kept for as long as the connection lives.
            stream = Box::pin(tls.shake(stream)).await?;
        }
        if self.http.options.h2c && stream.get_ssl_digest().is_none() {
            // Pingora waits for the preface without a limit.
            let mut first = [0u8; 1];
            match tokio::time::timeout(self.http.header, stream.try_peek(&mut first)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return None,
            }
        }
        let rest = REQUESTS
            .scope(Cell::new(0), self.http.process_new(stream, shutdown))
            .await;
        drop((counted, connected));
        rest
    }

    async fn cleanup(&self) {
        // Called when this door accepts no more. Idle connections stay until their clients heard that they are to close them: who ends the
        // process ends them ([`close_idle`]).
    }
}

/// Closes every connection on which no request is under way.
pub async fn close_idle(proxy: &HttpProxy<Gateway>) {
    proxy.http_cleanup().await;
}

// What `async_trait` would write, by hand: the session, some kilobytes, goes straight into the proxy's future. An `async fn` would
// keep a place for it in a future of its own, and copy it there first.
impl HttpServerApp for Http {
    fn process_new_http<'app, 'shutdown, 'both>(
        self: &'app Arc<Self>,
        session: ServerSession,
        shutdown: &'shutdown ShutdownWatch,
    ) -> Pin<Box<dyn Future<Output = Option<ReusedHttpStream>> + Send + 'both>>
    where
        'app: 'both,
        'shutdown: 'both,
        Self: 'both,
    {
        if session.is_http2() {
            return self.proxy.process_new_http(session, shutdown);
        }
        let begun = REQUESTS
            .try_with(|requests| requests.replace(requests.get() + 1))
            .unwrap_or(0);
        // Between two requests the connection may be idle; the first header is awaited at once.
        let deadline = if begun == 0 {
            self.header
        } else {
            self.keepalive + self.header
        };
        let mut work = self.proxy.process_new_http(session, shutdown);
        Box::pin(HEADER_COMPLETE.scope(Cell::new(false), async move {
            tokio::select! {
                biased;
                reused = &mut work => return reused,
                () = tokio::time::sleep(deadline) => {}
            }
            if HEADER_COMPLETE.with(Cell::get) {
                work.await
            } else {
                None
            }
        }))
    }

    fn h2_options(&self) -> Option<H2Options> {
        // `None` are Pingora's bounded defaults (PINGORA.md, "The client's side").
        None
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    fn http_cleanup<'app, 'both>(&'app self) -> Pin<Box<dyn Future<Output = ()> + Send + 'both>>
    where
        'app: 'both,
        Self: 'both,
    {
        self.proxy.http_cleanup()
    }
}
