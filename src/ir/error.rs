//! An API error without a wire: ours or a provider's. Dialects write it down.

/// What went wrong, in the hub's words; a dialect maps it to its own type names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong (400).
    InvalidRequest,
    /// The client's key is missing or wrong (401).
    Authentication,
    /// The client's key may not do this (403).
    Permission,
    /// No such model, path or thing (404).
    NotFound,
    /// The method does not go with the path (405).
    MethodNotAllowed,
    /// The body is over the limit (413).
    RequestTooLarge,
    /// Too many requests or tokens in a window (429).
    RateLimit,
    /// A budget is spent (429).
    InsufficientQuota,
    /// Not offered here (501).
    NotSupported,
    /// Something failed inside the gateway or at the provider (500, 502).
    Api,
    /// None of our credentials for the provider works (502).
    UpstreamCredentialsExhausted,
    /// Too much to do just now (503, 529).
    Overloaded,
    /// It took too long (408, 504).
    Timeout,
}

impl ErrorKind {
    /// What a status says by itself, where the body says no more.
    pub fn from_status(status: u16) -> Self {
        match status {
            401 => ErrorKind::Authentication,
            402 => ErrorKind::InsufficientQuota,
            403 => ErrorKind::Permission,
            404 | 410 => ErrorKind::NotFound,
            405 => ErrorKind::MethodNotAllowed,
            408 | 504 | 524 => ErrorKind::Timeout,
            413 => ErrorKind::RequestTooLarge,
            429 => ErrorKind::RateLimit,
            501 => ErrorKind::NotSupported,
            503 | 529 => ErrorKind::Overloaded,
            400..=499 => ErrorKind::InvalidRequest,
            _ => ErrorKind::Api,
        }
    }
}

/// An error as the client shall see it, before its dialect shapes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The class of error.
    pub kind: ErrorKind,
    /// HTTP status.
    pub status: u16,
    /// For people: what is wrong and what to do. Never holds a secret.
    pub message: String,
    /// For programs: a stable word, such as `model_not_found`.
    pub code: Option<String>,
    /// The request field at fault, such as `messages[3].content`.
    pub param: Option<String>,
    /// When to try again, in seconds.
    pub retry_after_secs: Option<u32>,
    /// What of the request was at fault, where another model might take it.
    pub cause: Option<Cause>,
    /// When the limit that was hit begins anew, where the error tells that and not how long to wait.
    pub resets: Option<Resets>,
}

/// When a limit that was hit begins anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resets {
    /// At this time, in seconds since 1970.
    At(i64),
    /// With the provider's next day: what it allows a day is used up.
    Daily,
}

/// What of a request was at fault, where another model might take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The prompt is longer than the model's context.
    ContextTooLong,
    /// The provider's policy refuses the content.
    ContentPolicy,
}

impl ApiError {
    /// An error with the status that goes with its kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let status = match kind {
            ErrorKind::InvalidRequest => 400,
            ErrorKind::Authentication => 401,
            ErrorKind::Permission => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::MethodNotAllowed => 405,
            ErrorKind::RequestTooLarge => 413,
            ErrorKind::RateLimit | ErrorKind::InsufficientQuota => 429,
            ErrorKind::NotSupported => 501,
            ErrorKind::Api => 500,
            ErrorKind::UpstreamCredentialsExhausted => 502,
            ErrorKind::Overloaded => 503,
            ErrorKind::Timeout => 504,
        };
        ApiError {
            kind,
            status,
            message: message.into(),
            code: None,
            param: None,
            retry_after_secs: None,
            cause: None,
            resets: None,
        }
    }

    /// The same error with another status.
    pub fn status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The same error with a word for programs.
    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    /// The same error, naming the request field at fault.
    pub fn param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error with a time to try again, in seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_secs = Some(seconds);
        self
    }
}
