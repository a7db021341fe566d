//! What rules choose from a few words, and the words themselves: read, shown and explained by the same.

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

impl Strategy {
    /// Every one.
    pub const ALL: [Strategy; 6] = [
        Strategy::Weighted,
        Strategy::RoundRobin,
        Strategy::LeastUsed,
        Strategy::LeastLatency,
        Strategy::Adaptive,
        Strategy::Cheapest,
    ];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Strategy::Weighted => "weighted",
            Strategy::RoundRobin => "round_robin",
            Strategy::LeastUsed => "least_used",
            Strategy::LeastLatency => "least_latency",
            Strategy::Adaptive => "adaptive",
            Strategy::Cheapest => "cheapest",
        }
    }
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

impl Affinity {
    /// Every one.
    pub const ALL: [Affinity; 3] = [Affinity::Auto, Affinity::Session, Affinity::Off];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Affinity::Auto => "auto",
            Affinity::Session => "session",
            Affinity::Off => "off",
        }
    }
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

impl FallbackOn {
    /// Every one.
    pub const ALL: [FallbackOn; 3] = [
        FallbackOn::ContextTooLong,
        FallbackOn::ContentPolicy,
        FallbackOn::Overloaded,
    ];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            FallbackOn::ContextTooLong => "context_too_long",
            FallbackOn::ContentPolicy => "content_policy",
            FallbackOn::Overloaded => "overloaded",
        }
    }
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

impl Requirement {
    /// Every one.
    pub const ALL: [Requirement; 8] = [
        Requirement::Context,
        Requirement::Tools,
        Requirement::Vision,
        Requirement::Documents,
        Requirement::Audio,
        Requirement::Video,
        Requirement::Structured,
        Requirement::Reasoning,
    ];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Requirement::Context => "context",
            Requirement::Tools => "tools",
            Requirement::Vision => "vision",
            Requirement::Documents => "documents",
            Requirement::Audio => "audio",
            Requirement::Video => "video",
            Requirement::Structured => "structured",
            Requirement::Reasoning => "reasoning",
        }
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

impl OnLoss {
    /// Every one.
    pub const ALL: [OnLoss; 2] = [OnLoss::Report, OnLoss::Reject];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            OnLoss::Report => "report",
            OnLoss::Reject => "reject",
        }
    }
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

impl UpstreamStream {
    /// Every one.
    pub const ALL: [UpstreamStream; 3] = [UpstreamStream::AsAsked, UpstreamStream::Always, UpstreamStream::Never];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            UpstreamStream::AsAsked => "as_asked",
            UpstreamStream::Always => "always",
            UpstreamStream::Never => "never",
        }
    }
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

impl StreamUsage {
    /// Every one.
    pub const ALL: [StreamUsage; 3] = [StreamUsage::Ask, StreamUsage::Always, StreamUsage::Never];

    /// Its word in the rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            StreamUsage::Ask => "ask",
            StreamUsage::Always => "always",
            StreamUsage::Never => "never",
        }
    }
}
