//! The compiled rules: immutable, behind an `arc-swap`. A request pins one snapshot for its life.

use std::collections::HashMap;
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

    /// What a name stands for, if it is another name for a model: the last of a chain of aliases, never one itself.
    pub fn alias(&self, model: &str) -> Option<&Arc<str>> {
        self.aliases.get(model)
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

/// How one of several is chosen: targets of a route, credentials of a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// By weight, smoothly (the default).
    #[default]
    Weighted,
    /// One after the other, whatever their weights.
    RoundRobin,
    /// The one with the fewest requests under way for its weight.
    LeastUsed,
    /// The better of two by the decaying average of the time to the first token.
    LeastLatency,
    /// The better of two by success, latency and load together.
    Adaptive,
    /// The cheapest for this request; unknown prices last.
    Cheapest,
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
    /// Only credentials with all of these tags.
    pub tags: Vec<Arc<str>>,
    /// What is changed in the body there, after what the route changes.
    pub edits: Edits,
}

/// Failures with a fallback list of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FallbackOn {
    /// The prompt is longer than the model's context: `context_too_long`.
    ContextTooLong,
    /// The provider's policy refuses the content: `content_policy`.
    ContentPolicy,
    /// The provider is overloaded: `overloaded`.
    Overloaded,
}

/// What of a request the table of models is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Requirement {
    /// Prompt and requested answer fit the model's context, the answer its limit.
    Context,
    /// If the request has tools.
    Tools,
    /// If it has images.
    Vision,
    /// If it has documents.
    Documents,
    /// If it has audio.
    Audio,
    /// If it has video.
    Video,
    /// If it asks for structured output.
    Structured,
    /// If it asks for reasoning.
    Reasoning,
}

/// Whether a conversation stays with the provider, credential and model it began with, so that the provider's prompt cache
/// hits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Affinity {
    /// By the session the client names (a header, `prompt_cache_key`), else by the stable beginning of a long prompt (the
    /// default).
    #[default]
    Auto,
    /// By the session the client names.
    Session,
    /// Not.
    Off,
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
