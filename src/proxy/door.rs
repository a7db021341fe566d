//! The door: connections until their requests begin. Pingora's timeouts are per read, so that a header which drips is held for
//! ever, as is an HTTP/2 connection that asks nothing; it gives a TLS handshake a minute, and does not count connections. All of
//! that is done here, around its HTTP application.

use std::cell::Cell;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ipnet::IpNet;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream, ServerApp};
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::proxy::{HttpProxy, Session};
use pingora::server::ShutdownWatch;

use crate::config::Config;
use crate::limits::flood::Flood;
use crate::random;

use super::crowd::{Crowd, Member};
use super::metrics::Shed;
use super::overload::turnstile::Turnstile;
use super::tls::Handshake;
use super::{Gateway, client_address, metrics};

/// After a refusal for want of time a connection's next request is not read for as long as its client was told to wait, less up to so
/// many milliseconds.
const PAUSE_SPREAD: usize = 500;

/// Deadlines of those who have shown nothing yet are later by up to a part of so many, …
const SPREAD_PART: u32 = 20;
/// … and by no more than this: who came together does not go together, for which all others would have to wait.
const SPREAD_MOST: Duration = Duration::from_millis(500);

/// This deadline, for one of many.
pub(super) fn spread(deadline: Duration) -> Duration {
    deadline + (deadline / SPREAD_PART).min(SPREAD_MOST).mul_f64(random::share())
}

/// What is known of one HTTP/1.1 request outside of Pingora's phases.
#[derive(Default)]
struct Turn {
    /// Its header is complete: the deadline no longer counts.
    complete: Cell<bool>,
    /// It was refused since there is too much to do, and its client told to wait for so many seconds; 0: it was not.
    wait: Cell<u32>,
}

tokio::task_local! {
    /// Not set on HTTP/2, where a request begins with its header complete.
    static TURN: Turn;
    /// Requests begun on this connection.
    static REQUESTS: Cell<u64>;
}

/// Says that the header of the request under way is complete.
pub fn header_is_complete(session: &Session) {
    let _ = TURN.try_with(|turn| turn.complete.set(true));
    if let Some(badge) = badge(session) {
        badge.member.ask();
    }
}

/// Says that the request under way was refused since there is too much to do, and its client told to wait for so many seconds.
pub fn was_shed(wait: u32) {
    let _ = TURN.try_with(|turn| turn.wait.set(wait));
}

/// What the door gave a connection: its requests find it.
pub struct Badge {
    /// The connection.
    pub member: Arc<Member>,
    /// That of its thread; `None`: all are let in at once.
    pub turnstile: Option<Arc<Turnstile>>,
    /// Its requests are one client's, so that it can be made to wait. Those of a trusted proxy are many clients'.
    single: bool,
}

/// The badge of a request's connection.
pub fn badge(session: &Session) -> Option<&Badge> {
    found(session.as_downstream())
}

// As Pingora has no place for data of a connection that HTTP/2 requests find too, it stands where that of a proxy's handshake would.
fn found(session: &ServerSession) -> Option<&Badge> {
    session
        .digest()?
        .proxy_digest
        .as_ref()?
        .user_data
        .as_ref()?
        .downcast_ref()
}

/// The application of one listener.
pub struct Door {
    http: Arc<Http>,
    tls: Option<Arc<Handshake>>,
    flood: Arc<Flood>,
    crowd: Arc<Crowd>,
    turnstile: Option<Arc<Turnstile>>,
    trusted: Vec<IpNet>,
}

/// HTTP behind the door.
struct Http {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    header: Duration,
    keepalive: Duration,
}

impl Door {
    /// A door before `proxy`, for connections with TLS (`tls`) or plain ones; `h2c`: HTTP/2 with prior knowledge is taken on plain
    /// connections; `threads`: how many the service has. The listener itself is a plain one: handshakes are done here, where they are
    /// counted and have their deadline.
    pub fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        flood: Arc<Flood>,
        crowd: Arc<Crowd>,
        config: &Config,
        tls: Option<Arc<Handshake>>,
        h2c: bool,
        threads: usize,
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
            tls,
            flood,
            crowd,
            turnstile: match threads {
                // Each thread would need one of its own.
                2.. if !config.work_stealing => None,
                _ => config.overload.lag.map(|target| Turnstile::new(target, threads)),
            },
            trusted: config.trusted_proxies.clone(),
        }
    }

    /// Serves the connection. A header must come whole within its time; HTTP/2 has no such bound of its own, nor has its preface.
    async fn serve(&self, stream: Stream, member: &Member, shutdown: &ShutdownWatch) -> Option<Stream> {
        let stream = match &self.tls {
            // Boxed: what a handshake needs is not kept for as long as the connection lives.
            Some(tls) => Box::pin(tls.shake(stream)).await?,
            None => stream,
        };
        let work = REQUESTS.scope(Cell::new(0), self.http.process_new(stream, shutdown));
        let mut work = pin!(work);
        tokio::select! {
            biased;
            rest = &mut work => return rest,
            () = tokio::time::sleep(spread(self.http.header)) => {}
        }
        if member.has_asked() { work.await } else { None }
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
        // Over a limit: closed without a word, as an accept queue would.
        let counted = self.crowd.enter(Instant::now())?;
        let flood = address.map(|address| self.flood.connect(address).ok_or(()));
        let Ok(flood) = flood.transpose() else {
            metrics::shed(Shed::Address);
            return None;
        };
        let member = counted.member().clone();
        let badge = Badge {
            member: member.clone(),
            turnstile: self.turnstile.clone(),
            single: !address.is_some_and(|address| client_address::is_trusted(address, &self.trusted)),
        };
        let response = Box::new(ResponseHeader::build(200, Some(0)).ok()?);
        stream.set_proxy_digest(ProxyDigest::new(response, Some(Box::new(badge))));
        let connected = metrics::Connected::begin();
        let rest = tokio::select! {
            biased;
            rest = self.serve(stream, &member, shutdown) => rest,
            () = member.closed() => None,
        };
        drop((counted, flood, connected));
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
        let badge = found(&session);
        let single = badge.is_some_and(|badge| badge.single);
        // Between two requests a client's connection may be idle; the first header is awaited at once, as is any of a stranger.
        let deadline = match begun > 0 && badge.is_some_and(|badge| badge.member.is_known()) {
            true => self.keepalive + self.header,
            false => spread(self.header),
        };
        let mut work = self.proxy.process_new_http(session, shutdown);
        Box::pin(TURN.scope(Turn::default(), async move {
            let reused = tokio::select! {
                biased;
                reused = &mut work => reused,
                () = tokio::time::sleep(deadline) => {
                    if !TURN.with(|turn| turn.complete.get()) {
                        return None;
                    }
                    work.await
                }
            };
            let wait = Duration::from_secs(TURN.with(|turn| turn.wait.get()).into());
            if single && reused.is_some() && !wait.is_zero() {
                // What it sends meanwhile waits in its socket, where it costs nothing.
                let less = Duration::from_millis(random::below(PAUSE_SPREAD) as u64);
                tokio::time::sleep(wait.saturating_sub(less)).await;
            }
            reused
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_of_many_are_spread_and_never_earlier() {
        for (deadline, most) in [(10_000, 10_500), (2_000, 2_100), (60_000, 60_500)] {
            let (deadline, most) = (Duration::from_millis(deadline), Duration::from_millis(most));
            let all: Vec<_> = (0..1000).map(|_| spread(deadline)).collect();
            assert!(all.iter().all(|one| (deadline..=most).contains(one)));
            let early = all
                .iter()
                .filter(|one| **one < deadline + (most - deadline) / 2)
                .count();
            assert!((300..700).contains(&early), "{early}");
        }
    }
}
