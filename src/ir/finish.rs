//! Why an answer ended: our word and theirs.

use serde::{Deserialize, Serialize};

/// Why an answer ended, in the hub's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishKind {
    /// The model had said all it wanted, or met a stop sequence.
    Stop,
    /// The output limit was reached, or the context was full.
    Length,
    /// The model wants tools to be called.
    ToolCalls,
    /// A filter or a refusal ended it.
    ContentFilter,
    /// A long turn was paused by the provider and may be continued.
    Pause,
    /// The provider says that it failed.
    Error,
    /// A reason we have no word for: see the raw one.
    Other,
}

impl FinishKind {
    /// The name used in logs, metrics and the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            FinishKind::Stop => "stop",
            FinishKind::Length => "length",
            FinishKind::ToolCalls => "tool_calls",
            FinishKind::ContentFilter => "content_filter",
            FinishKind::Pause => "pause",
            FinishKind::Error => "error",
            FinishKind::Other => "other",
        }
    }
}

/// A finish reason: ours for decisions, theirs for the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishReason {
    /// In the hub's words.
    pub kind: FinishKind,
    /// As the provider wrote it.
    pub raw: Box<str>,
    /// The stop sequence that was met, where the provider tells it.
    pub sequence: Option<Box<str>>,
}

impl FinishReason {
    /// A reason, without a stop sequence.
    pub fn new(kind: FinishKind, raw: impl Into<Box<str>>) -> Self {
        FinishReason {
            kind,
            raw: raw.into(),
            sequence: None,
        }
    }
}
