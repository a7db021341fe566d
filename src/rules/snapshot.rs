//! The compiled rules: immutable, behind an `arc-swap`. A request pins one snapshot for its life.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::clock::UnixMicros;
use crate::config::Secret;
use crate::ir::DialectId;

use super::matcher::Matcher;

/// All rules.
#[derive(Debug)]
pub struct Rules {
    /// Providers, in the order of the files.
    pub providers: Vec<Arc<Provider>>,
    /// Providers by name.
    pub by_name: HashMap<Arc<str>, Arc<Provider>>,
    /// Routes: the first which matches wins.
    pub routes: Vec<Arc<Route>>,
    /// When they were loaded.
    pub loaded_at: UnixMicros,
    /// CRC-32C over the files, to tell one state from another.
    pub digest: u32,
    /// Every glob of every route, compiled into one.
    matcher: Matcher,
}

impl Rules {
    /// Joins what was compiled. An error is the matcher's: globs too large together.
    pub fn new(
        providers: Vec<Arc<Provider>>,
        routes: Vec<Arc<Route>>,
        loaded_at: UnixMicros,
        digest: u32,
    ) -> Result<Self, globset::Error> {
        let by_name = providers.iter().map(|p| (p.name.clone(), p.clone())).collect();
        let matcher = Matcher::new(routes.iter().map(|route| route.models.as_slice()))?;
        Ok(Rules {
            providers,
            by_name,
            routes,
            loaded_at,
            digest,
            matcher,
        })
    }

    /// The first route whose model names or globs match. All are asked at once, so that it costs about the same with a
    /// thousand routes.
    pub fn route_for(&self, model: &str) -> Option<&Arc<Route>> {
        self.routes.get(self.matcher.first(model)?)
    }

    /// The provider of that name, inactive ones too.
    pub fn provider(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name)
    }
}

/// Who answers, and how it is addressed.
#[derive(Debug)]
pub struct Provider {
    /// Its name: `[provider.NAME]`.
    pub name: Arc<str>,
    /// Base URL per dialect it speaks, with the environment's values filled in.
    pub bases: Vec<Base>,
    /// Pinned addresses, instead of DNS (as curl's `--connect-to`). Empty: DNS.
    pub connect_to: Vec<SocketAddr>,
    /// How it takes its key; `None`: as the dialect's providers do.
    pub auth: Option<Auth>,
    /// HTTP versions spoken to it.
    pub http: HttpVersions,
    /// Whether its streams must be asked for usage, where the dialect can ask.
    pub stream_usage: StreamUsage,
    /// Headers added to every request to it (lower-case name, value): beta flags, `http-referer` ...
    pub headers: Vec<(http::HeaderName, http::HeaderValue)>,
    /// Its credentials, the inactive ones too.
    pub credentials: Vec<Arc<Credential>>,
    /// Times of its own.
    pub timeouts: RouteTimeouts,
    /// Why it can't be used (no credential active, no base URL complete); `None`: it can.
    pub inactive: Option<String>,
}

/// One dialect's address at a provider.
#[derive(Clone, Debug)]
pub struct Base {
    /// The dialect.
    pub dialect: DialectId,
    /// Scheme, host, port, path prefix (without a slash at its end; `/` if there is none). `None`: an environment
    /// variable in it is not set, or makes it no URL.
    pub url: Option<Url>,
}

/// How a provider takes its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `KEY` in this header.
    Header(http::HeaderName),
    /// It wants none (self-hosted models).
    None,
}

/// HTTP versions spoken to a provider. Over TLS by ALPN; over plain TCP `H2` means prior knowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersions {
    /// HTTP/1.1 only.
    H1,
    /// HTTP/2 only.
    H2,
    /// HTTP/2 if ALPN offers it, else HTTP/1.1.
    Both,
}

/// Whether a provider's streams must be asked for usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// It reports usage only if asked (the default).
    Ask,
    /// It always reports it: don't ask.
    Always,
    /// It refuses the question: don't ask.
    Never,
}

/// One key of a provider.
#[derive(Debug)]
pub struct Credential {
    /// Its name within the provider.
    pub name: Arc<str>,
    /// The key; `None`: inactive (or the provider wants none).
    pub secret: Option<Secret>,
    /// Why it is inactive: `the environment variable EXAMPLE_API_KEY is not set`.
    pub inactive: Option<String>,
    /// Its share; 0: only if all others are unusable.
    pub weight: u32,
}

/// One `[[route]]`.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Model names and globs, as written.
    pub models: Vec<String>,
    /// Where it sends, weighted.
    pub targets: Vec<Target>,
    /// Times of its own.
    pub timeouts: RouteTimeouts,
    /// What conversion may lose.
    pub on_loss: OnLoss,
    /// Whether its providers are asked for streams.
    pub upstream_stream: UpstreamStream,
}

/// What becomes of a request which can't be carried over whole to a provider's dialect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnLoss {
    /// It goes there, and the losses are reported (the default).
    #[default]
    Report,
    /// It does not go there; if it can go nowhere, it is refused with the list of losses.
    Reject,
}

/// Whether providers are asked for streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UpstreamStream {
    /// As the client asked (the default).
    #[default]
    AsAsked,
    /// Always; who did not ask for one gets the whole answer at its end.
    Always,
    /// Never; who asked for a stream gets the whole answer as one.
    Never,
}

/// One place a route sends to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The provider.
    pub provider: Arc<Provider>,
    /// The name the provider needs; `None`: the one the client said.
    pub model: Option<Arc<str>>,
    /// Its share.
    pub weight: u32,
}

/// Times a route or a provider sets; `None`: the configuration's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RouteTimeouts {
    /// TCP connect.
    pub connect: Option<Duration>,
    /// First byte of the answer.
    pub first_byte: Option<Duration>,
    /// Between two chunks.
    pub idle: Option<Duration>,
    /// Whole exchange.
    pub total: Option<Duration>,
}
