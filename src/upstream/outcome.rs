//! What an attempt came to, classified: whether another may follow, and what its credential and its provider are to learn
//! from it.

use std::time::Duration;

use crate::ir::{ApiError, Cause, ErrorKind};

/// How an attempt failed, before anything of its answer went to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Failure {
    /// No connection: refused, no route, no address, timed out, or the proxy on the way refused.
    Connect,
    /// A connection, but no TLS.
    Tls,
    /// A pooled connection turned out to be dead: no byte of an answer came, the request was not worked on.
    DeadConnection,
    /// The connection broke, or the answer did, before it was worth sending.
    Broke,
    /// No header of an answer in time.
    FirstByte,
    /// An answer that began and then fell silent, or came too slowly, before it was worth sending.
    Slow,
    /// Too many requests or tokens for now (429).
    RateLimited,
    /// The account's quota or balance is spent (429 that says so, 402).
    QuotaSpent,
    /// The credential is wrong or revoked (401, or a 400 that says so).
    Unauthorised,
    /// The credential may not do this (403).
    Forbidden,
    /// Overloaded (503, 529, or an error that says so).
    Overloaded,
    /// Something failed at the provider (other 5xx, an error as first event of a stream).
    Server,
    /// The provider has no such model (404 that says so).
    NoSuchModel,
    /// The prompt is longer than the model's context.
    ContextTooLong,
    /// The provider's policy refuses the content.
    ContentPolicy,
    /// An answer that can't be read or converted.
    Unreadable,
    /// Any other 4xx: the request's own fault, the same everywhere.
    Refused,
}

impl Failure {
    /// What an error says: the status of the answer, or 200 where it came as the first event of a stream.
    pub fn of(status: u16, error: &ApiError) -> Self {
        match error.cause {
            Some(Cause::ContextTooLong) => return Failure::ContextTooLong,
            Some(Cause::ContentPolicy) => return Failure::ContentPolicy,
            None => {}
        }
        match (status, error.kind) {
            (402, _) | (_, ErrorKind::InsufficientQuota) => Failure::QuotaSpent,
            // An invalid key is 400 to some.
            (401, _) | (200 | 400, ErrorKind::Authentication) => Failure::Unauthorised,
            (403, _) | (200, ErrorKind::Permission) => Failure::Forbidden,
            (503 | 529, _) | (_, ErrorKind::Overloaded) => Failure::Overloaded,
            (429, _) | (200, ErrorKind::RateLimit) => Failure::RateLimited,
            (404, ErrorKind::NotFound) => Failure::NoSuchModel,
            (500.., _) | (408, _) => Failure::Server,
            (200, ErrorKind::Api | ErrorKind::Timeout) => Failure::Server,
            _ => Failure::Refused,
        }
    }

    /// What the status of an answer alone says, where nobody read its error.
    pub fn of_status(status: u16) -> Self {
        Failure::of(status, &ApiError::new(ErrorKind::from_status(status), ""))
    }

    /// Nobody can have begun to work on the request, or the provider asks for it: the same candidate may be asked again.
    pub fn may_repeat(self) -> bool {
        matches!(self, Failure::Connect | Failure::DeadConnection | Failure::Overloaded)
    }

    /// Nobody can have begun to work on the request: it may be repeated even where working on it twice would do harm.
    pub fn is_untouched(self) -> bool {
        matches!(
            self,
            Failure::Connect
                | Failure::Tls
                | Failure::DeadConnection
                | Failure::RateLimited
                | Failure::QuotaSpent
                | Failure::Unauthorised
                | Failure::Forbidden
                | Failure::NoSuchModel
                | Failure::ContextTooLong
        )
    }

    /// The provider said nothing of it: connecting, sending or waiting failed.
    pub fn is_silence(self) -> bool {
        matches!(
            self,
            Failure::Connect
                | Failure::Tls
                | Failure::DeadConnection
                | Failure::Broke
                | Failure::FirstByte
                | Failure::Slow
        )
    }

    /// Our credential is at fault, not the client nor the provider.
    pub fn is_ours(self) -> bool {
        matches!(self, Failure::Unauthorised | Failure::Forbidden | Failure::QuotaSpent)
    }

    /// Every kind.
    pub const ALL: [Failure; 17] = [
        Failure::Connect,
        Failure::Tls,
        Failure::DeadConnection,
        Failure::Broke,
        Failure::FirstByte,
        Failure::Slow,
        Failure::RateLimited,
        Failure::QuotaSpent,
        Failure::Unauthorised,
        Failure::Forbidden,
        Failure::Overloaded,
        Failure::Server,
        Failure::NoSuchModel,
        Failure::ContextTooLong,
        Failure::ContentPolicy,
        Failure::Unreadable,
        Failure::Refused,
    ];

    /// The kind of that name ([`Failure::as_str`]).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|failure| failure.as_str() == name)
    }

    /// The name used in metrics, logs and the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::Connect => "connect",
            Failure::Tls => "tls",
            Failure::DeadConnection => "dead_connection",
            Failure::Broke => "broke",
            Failure::FirstByte => "first_byte_timeout",
            Failure::Slow => "slow",
            Failure::RateLimited => "rate_limited",
            Failure::QuotaSpent => "quota_spent",
            Failure::Unauthorised => "unauthorised",
            Failure::Forbidden => "forbidden",
            Failure::Overloaded => "overloaded",
            Failure::Server => "server_error",
            Failure::NoSuchModel => "no_such_model",
            Failure::ContextTooLong => "context_too_long",
            Failure::ContentPolicy => "content_policy",
            Failure::Unreadable => "unreadable",
            Failure::Refused => "refused",
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// How it failed; `None`: it succeeded.
    pub failure: Option<Failure>,
    /// How long the provider asked to wait: Retry-After, reset headers, the error's body.
    pub retry_after: Option<Duration>,
    /// Until the first event with content; of a whole answer, until its header.
    pub first_token: Option<Duration>,
    /// Tokens of prompt and answer; `None`: the provider told nothing.
    pub tokens: Option<u64>,
    /// The client went away, or we gave up for a reason of our own: it says nothing of the provider.
    pub inconclusive: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects;
    use crate::ir::DialectId;

    impl Failure {
        /// The next candidate may do better.
        fn fails_over(self) -> bool {
            !matches!(
                self,
                Failure::Refused | Failure::ContextTooLong | Failure::ContentPolicy
            )
        }
    }

    #[test]
    fn a_dead_key_is_ours_whatever_the_status() {
        let google = br#"{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}"#;
        let error = dialects::get(DialectId::new("gemini")).decode_error(400, google);
        assert_eq!(Failure::of(400, &error), Failure::Unauthorised);
        assert!(Failure::of(400, &error).fails_over());
        for (status, kind, failure) in [
            (401, ErrorKind::InvalidRequest, Failure::Unauthorised),
            (200, ErrorKind::Authentication, Failure::Unauthorised),
            (403, ErrorKind::Authentication, Failure::Forbidden),
            (400, ErrorKind::InvalidRequest, Failure::Refused),
        ] {
            assert_eq!(
                Failure::of(status, &ApiError::new(kind, "")),
                failure,
                "{status} {kind:?}"
            );
        }
    }
}
