//! The compiled rules: immutable, behind an `arc-swap`. A request pins one snapshot for its life.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::clock::UnixMicros;
use crate::config::{OnAbort, Secret};
use crate::ir::DialectId;
use crate::money::NanoUsd;

use super::egress::Egress;
use super::models::ModelTable;
use super::patterns::Patterns;
use super::prices::PriceTable;
use super::when::When;
use super::words::{Affinity, FallbackOn, OnLoss, Requirement, Strategy, StreamUsage, UpstreamStream};

pub use super::edits::{Edits, Instructions};
pub use super::health::Health;

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
    /// Other names for models: what a client says, and what it stands for in the end.
    pub aliases: HashMap<Arc<str>, Arc<str>>,
    /// What is known of models.
    pub models: ModelTable,
    /// What models cost.
    pub prices: PriceTable,
    /// Names of the gateway's secrets which they refer to, for whatever.
    pub stored: BTreeSet<Arc<str>>,
    /// Secrets to be hidden beside those of credentials: of proxies, and such as the gateway keeps for nobody.
    pub(super) hidden: Vec<Secret>,
    /// The models of all routes, by the route's place in `routes`.
    pub(super) patterns: Patterns,
}

impl Rules {
    /// Every route whose model names or globs match, in order: the first whose conditions hold too is taken.
    pub fn routes_for(&self, model: &str) -> impl Iterator<Item = &Arc<Route>> {
        let numbers = self.patterns.all(model).into_iter();
        numbers.filter_map(|number| self.routes.get(usize::try_from(number).ok()?))
    }

    /// Whether something is said of a model at a provider: a route sends there, or the table of models has it.
    pub fn uses(&self, provider: &str, model: &str) -> bool {
        let sends = |route: &Route, asked: Option<&str>| {
            let on = route.fallback_on.iter().flat_map(|(_, targets)| targets);
            let mut all = route.targets.iter().chain(&route.fallback).chain(on);
            all.any(|target| *target.provider.name == *provider && target.model.as_deref() == asked)
        };
        self.models.facts(provider, model).is_some()
            || self.routes_for(model).any(|route| sends(route, None))
            || self.routes.iter().any(|route| sends(route, Some(model)))
    }

    /// What routes send to active providers without a price at that time, as `provider/model`, as far as the names are
    /// certain.
    pub fn unpriced(&self, at: UnixMicros) -> BTreeSet<String> {
        let named = self.routes.iter().flat_map(|route| super::lint::named(route));
        let named = named.filter(|(provider, _)| provider.inactive.is_none());
        let unpriced = named.filter(|(provider, model)| self.prices.price(&provider.name, model, at).is_none());
        unpriced
            .map(|(provider, model)| format!("{}/{model}", provider.name))
            .collect()
    }

    /// What a name stands for, if it is another name for a model: the last of a chain of aliases, never one itself.
    pub fn alias(&self, model: &str) -> Option<&Arc<str>> {
        self.aliases.get(model)
    }

    /// Every secret there is in or beside them, to be hidden wherever it might show.
    pub fn secrets(&self) -> Vec<Secret> {
        let of_credentials = self.providers.iter().flat_map(|provider| &provider.credentials);
        let keys = of_credentials.filter_map(|credential| credential.secret.clone());
        keys.chain(self.hidden.iter().cloned()).collect()
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
    /// How its credentials are chosen where no route says it.
    pub strategy: Strategy,
    /// How it is reached from here.
    pub egress: Egress,
    /// Active checks.
    pub health: Health,
    /// Whether failures cool its credentials down.
    pub cooldown: bool,
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

/// One key of a provider.
#[derive(Debug)]
pub struct Credential {
    /// Its name within the provider.
    pub name: Arc<str>,
    /// The key; `None`: inactive (or the provider wants none).
    pub secret: Option<Secret>,
    /// The name of its key in the gateway's store, if it is kept there (`store:NAME`).
    pub stored: Option<Arc<str>>,
    /// Why it is inactive: `the environment variable EXAMPLE_API_KEY is not set`.
    pub inactive: Option<String>,
    /// Its share; 0: only if all others are unusable.
    pub weight: u32,
    /// Words by which targets pick among credentials.
    pub tags: Vec<Arc<str>>,
    /// What its owner allows.
    pub limits: CredentialLimits,
    /// How the provider is reached with it; what is not set here is the provider's.
    pub egress: Egress,
}

/// What a credential may be used for, per minute or at once; `None`: no limit of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CredentialLimits {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens (prompt and answer) in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at once.
    pub concurrent: Option<u32>,
}

/// One `[[route]]`.
#[derive(Debug)]
pub struct Route {
    /// Its name.
    pub name: Arc<str>,
    /// Model names and globs, as written.
    pub models: Vec<String>,
    /// What else must hold; `None`: nothing.
    pub when: Option<Box<When>>,
    /// Where it sends, weighted.
    pub targets: Vec<Target>,
    /// Where it sends, in order, when no target is left.
    pub fallback: Vec<Target>,
    /// Where it sends, in order, what failed in a way that would repeat itself at the targets.
    pub fallback_on: Vec<(FallbackOn, Vec<Target>)>,
    /// How its targets, and their credentials, are chosen.
    pub strategy: Strategy,
    /// Most attempts of one request; `None`: the configuration's.
    pub attempts: Option<u16>,
    /// What of a request its provider's model must be able to take, by the table of models.
    pub require: Vec<Requirement>,
    /// Whether conversations stay where they are.
    pub affinity: Affinity,
    /// What is changed in the body, in the provider's words.
    pub edits: Edits,
    /// What is added to the instructions.
    pub instructions: Instructions,
    /// Times of its own.
    pub timeouts: RouteTimeouts,
    /// What conversion may lose.
    pub on_loss: OnLoss,
    /// Whether its providers are asked for streams.
    pub upstream_stream: UpstreamStream,
    /// How long requests wait for room in their key's limits; zero: not at all.
    pub queue: Duration,
    /// Its requests go on while others are refused for want of room.
    pub critical: bool,
    /// What becomes of requests whose price is unknown, where the key has a budget in money; `None`: the configuration's.
    pub unknown_price: Option<UnknownPrice>,
    /// What becomes of a provider's answer whose client went away; `None`: the configuration's.
    pub on_abort: Option<OnAbort>,
}

/// What becomes of a request whose price is unknown, where the key has a budget in money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownPrice {
    /// It does not go there.
    Refuse,
    /// So much is reserved and charged for it.
    Ceiling(NanoUsd),
}

impl From<Option<u64>> for UnknownPrice {
    /// As the configuration has it: nano-dollars; `None`: refuse.
    fn from(nanos: Option<u64>) -> Self {
        nanos.map_or(UnknownPrice::Refuse, |nanos| UnknownPrice::Ceiling(NanoUsd(nanos)))
    }
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
    /// Only credentials with all of these tags.
    pub tags: Vec<Arc<str>>,
    /// What is changed in the body there, after what the route changes.
    pub edits: Edits,
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
