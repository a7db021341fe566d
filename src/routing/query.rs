//! What routing is asked.

use std::net::IpAddr;

use http::HeaderMap;

use crate::clock::UnixMicros;
use crate::ir::{DialectId, Operation};

use super::Survey;

/// One request, as routing sees it.
#[derive(Clone, Copy)]
pub struct Query<'a> {
    /// Its id: what `percent` by request is drawn from.
    pub request: &'a str,
    /// The model the client asks for.
    pub model: &'a str,
    /// Further wishes, in order (`models`).
    pub wishes: &'a [String],
    /// The provider the client asks for (`provider`).
    pub provider: Option<&'a str>,
    /// The client's dialect.
    pub dialect: DialectId,
    /// What is asked.
    pub operation: Operation,
    /// A stream is asked for.
    pub stream: bool,
    /// Whose key; `None`: unknown (`tollgate route explain` without one).
    pub asker: Option<Asker<'a>>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// When.
    pub at: UnixMicros,
    /// What stands inside; `None` where [`needs_survey`](super::needs_survey) says that nobody asks.
    pub survey: Option<&'a Survey>,
    /// The conversation it belongs to, if it is known: a hash.
    pub session: Option<u64>,
    /// What the key may do; `None`: anything.
    pub permit: Option<&'a dyn Permit>,
}

/// What a client's key may do.
pub trait Permit: Sync {
    /// May it ask for this model: the name the client says, and what an alias makes of it?
    fn model(&self, name: &str) -> bool;
    /// May it take this route? Empty: none, the client names the provider.
    fn route(&self, name: &str) -> bool;
    /// May it be served by this provider?
    fn provider(&self, name: &str) -> bool;
    /// Which of its lists stand in the way, for who runs the gateway; `None`: clients are not told.
    fn why_not(&self, _what: What<'_>) -> Option<String> {
        None
    }
}

/// What a key may not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What<'a> {
    /// Ask for a model: the name the client says, and what an alias makes of it.
    Model(&'a str, Option<&'a str>),
    /// Take a route (empty: none) to a provider.
    Place(&'a str, &'a str),
}

impl Query<'_> {
    /// Whether the key may ask for a model.
    pub(super) fn may_ask(&self, model: &str) -> bool {
        self.permit.is_none_or(|permit| permit.model(model))
    }

    /// Whether the key may take a route (empty: none) to a provider.
    pub(super) fn may_go(&self, route: &str, provider: &str) -> bool {
        self.permit
            .is_none_or(|permit| permit.route(route) && permit.provider(provider))
    }
}

/// Whose key a request came with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The key's public part.
    pub id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its owner.
    pub owner: Option<&'a str>,
    /// Its tags.
    pub tags: &'a [String],
}
