//! The only room that knows Pingora's phases: one file per phase, named as Pingora names it. A request's way through them
//! is drawn in `ARCHITECTURE.md`.

pub mod abort;
mod admit;
mod bill;
pub mod byte_budget;
pub mod client_address;
pub mod client_auth;
pub mod connected_to_upstream;
pub mod context;
pub mod crowd;
pub mod door;
pub mod early_request_filter;
pub mod ending;
mod estimated;
pub mod failover;
pub mod front_check;
pub mod gate;
pub mod held;
pub mod instruct;
pub mod intake;
mod large_answer;
mod limit_headers;
pub mod local;
pub mod logging;
pub mod metrics;
mod need;
pub mod overload;
mod own_key;
pub mod passthrough;
pub mod prepare;
pub mod refuse;
mod request_body_filter;
pub mod request_filter;
pub mod response_body_filter;
pub mod response_filter;
mod run_on;
pub mod tls;
pub mod upstream_peer;
pub mod upstream_request_filter;
pub mod upstream_response_filter;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, Result};

use crate::clock::Clock;
use crate::config::Config;
use crate::egress::Names;
use crate::keys::Ring;
use crate::ledger::Ledger;
use crate::limits::flood::Flood;
use crate::observe::access_log::AccessLog;
use crate::routing::affinity::Affinities;
use crate::upstream::{LiveFleet, RetryBudget};

use abort::Drains;
use byte_budget::ByteBudget;
use context::RequestContext;
use crowd::Crowd;
use overload::Overload;

/// Requests in flight per thread from which on each thread keeps its connections to providers to itself.
const APART_FROM: usize = 4;

/// What the phases work with; built once.
pub struct Gateway {
    /// `conf/tollgate.toml`.
    pub config: Arc<Config>,
    /// What time it is.
    pub clock: Clock,
    /// Client keys.
    pub keys: Arc<Ring>,
    /// Rules and providers in force.
    pub fleet: Arc<LiveFleet>,
    /// Providers' addresses.
    pub names: Arc<Names>,
    /// Where conversations were.
    pub affinities: Arc<Affinities>,
    /// How many retries there may be.
    pub budget: Arc<RetryBudget>,
    /// The ledger.
    pub ledger: Ledger,
    /// Floods.
    pub flood: Arc<Flood>,
    /// What is refused when there is too much to do.
    pub overload: Overload,
    /// Who is connected.
    pub crowd: Arc<Crowd>,
    /// Request bodies in memory.
    pub bodies: Arc<ByteBudget>,
    /// What is kept of answers.
    pub answers: Arc<ByteBudget>,
    /// Answers read on whose clients went away.
    pub drains: Arc<Drains>,
    /// The access log.
    pub access_log: AccessLog,
    /// Set when the process is to stop.
    pub draining: Arc<AtomicBool>,
}

impl Gateway {
    /// The process is about to stop: answers close their connections.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Each thread keeps its connections to providers to itself: there is enough to do for all of them to keep some warm, and a
    /// connection of another thread costs more. With little to do they are shared, so that a provider is seldom dialled anew.
    pub fn keeps_connections_apart(&self) -> bool {
        !self.config.work_stealing && metrics::in_flight() >= (APART_FROM * self.config.threads) as i64
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    // In a box: Pingora's futures hold it several times over, and a long stream holds them.
    type CTX = Box<RequestContext>;

    fn new_ctx(&self) -> Box<RequestContext> {
        Box::new(RequestContext::new(self.clock.now()))
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<()> {
        early_request_filter::execute(self, session, ctx)
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<bool> {
        request_filter::execute(self, session, ctx).await
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        _end: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        request_body_filter::execute(self, body.as_ref(), ctx)
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Box<RequestContext>) -> Result<Box<HttpPeer>> {
        upstream_peer::execute(self, session, ctx).await
    }

    async fn connected_to_upstream(
        &self,
        session: &mut Session,
        reused: bool,
        _peer: &HttpPeer,
        _fd: RawFd,
        digest: Option<&Digest>,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        connected_to_upstream::execute(session, reused, digest, ctx).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        upstream: &mut RequestHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        upstream_request_filter::execute(session, upstream, ctx)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        answer: &mut ResponseHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        upstream_response_filter::execute(self, answer, ctx)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        answer: &mut ResponseHeader,
        ctx: &mut Box<RequestContext>,
    ) -> Result<()> {
        response_filter::execute(self, session, answer, ctx)
    }

    fn response_body_filter(
        &self,
        _session: &mut Session,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Box<RequestContext>,
    ) -> Result<Option<Duration>> {
        response_body_filter::execute(self, body, end, ctx)?;
        Ok(None)
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut Box<RequestContext>,
        error: Box<Error>,
    ) -> Box<Error> {
        failover::after_connect_failure(self, ctx, error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        _session: &mut Session,
        error: Box<Error>,
        ctx: &mut Box<RequestContext>,
        reused: bool,
    ) -> Box<Error> {
        failover::after_failure(self, ctx, error, reused)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, ctx: &mut Box<RequestContext>) -> FailToProxy {
        logging::before_the_refusal(self, ctx, error).await;
        refuse::execute(session, error, ctx).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Box<RequestContext>) {
        logging::execute(self, session, error, ctx).await;
    }

    fn request_summary(&self, _session: &Session, ctx: &Box<RequestContext>) -> String {
        // Pingora's own holds the target, and with it a key in the query.
        format!("request {}", ctx.client.request_id)
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &Box<RequestContext>,
        _error: &Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        // Each attempt has its row, and metrics count failovers.
        true
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Box<RequestContext>, _error: &Error) -> bool {
        // The access log has a line for each request, and metrics count them.
        true
    }
}
