//! The hub: what a conversation is, whoever's wire it travels on. Pure data, no company names.
//!
//! A request is a [`Request`]. An answer is told in [`StreamEvent`]s, whole or streamed; folded they give a [`Response`].
//! What one dialect alone understands is [`Native`], what one provider alone understands is [`Opaque`], and what could not
//! be said is in the [`LossReport`].

pub mod embedding;
pub mod error;
pub mod finish;
pub mod grammar;
pub mod loss;
pub mod message;
pub mod native;
pub mod reasoning;
pub mod request;
pub mod response;
pub mod sequence;
pub mod stream;
pub mod tool;
pub mod usage;

use std::fmt;

pub use embedding::{EmbeddingInput, EmbeddingRequest, EmbeddingResponse};
pub use error::{ApiError, Cause, ErrorKind, Resets};
pub use finish::{FinishKind, FinishReason};
pub use loss::{Loss, LossKind, LossReport};
pub use message::{Block, CacheHint, Content, Media, MediaSource, Message, Role, ToolCall, ToolResult};
pub use native::{Native, Opaque, Path, Set};
pub use reasoning::{Budget, Effort, Reasoning, Wish};
pub use request::{Format, Request, Sampling};
pub use response::{Accumulator, Candidate, Response};
pub use stream::{
    BlockHead, BlockIndex, Citation, Delta, EventSink, Logprob, MediaKind, StreamEnd, StreamEvent, Terms, ToolKind,
};
pub use tool::{Tool, ToolChoice, ToolDefinition};
pub use usage::{Totals, Usage};

/// A wire format's name. Opaque on purpose: compared and printed, never matched on outside `dialects/`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialectId(&'static str);

impl DialectId {
    /// Names a dialect; used by the dialects themselves only.
    pub const fn new(name: &'static str) -> Self {
        DialectId(name)
    }

    /// The name used in rules, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for DialectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for DialectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What is asked (OpenTelemetry's `gen_ai.operation.name` where it has one).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operation {
    /// A conversation's next message.
    Chat,
    /// How many tokens a request would cost.
    CountTokens,
    /// Vectors for texts.
    Embeddings,
    /// The models on offer.
    ListModels,
    /// One model of those on offer.
    GetModel,
    /// Anything else of one provider, passed through unread.
    Passthrough,
}

impl Operation {
    /// The name used in logs, metrics and the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Operation::Chat => "chat",
            Operation::CountTokens => "count_tokens",
            Operation::Embeddings => "embeddings",
            Operation::ListModels => "list_models",
            Operation::GetModel => "get_model",
            Operation::Passthrough => "passthrough",
        }
    }
}
