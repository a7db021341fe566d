//! The meter: what the tap has counted of one answer.

use crate::ir::{ApiError, FinishReason, Usage};

/// What was learned of one answer, from its events.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// The provider's id of the answer.
    pub response_id: Option<String>,
    /// The model that answered, as the provider names it.
    pub model: Option<String>,
    /// Usage as last reported; `None`: the provider reported none. An explicit zero is zero.
    pub usage: Option<Usage>,
    /// Why the (first) candidate ended.
    pub finish: Option<FinishReason>,
    /// How many tool calls began.
    pub tool_calls: u32,
    /// How many events carried content; 0 until the first token.
    pub content_events: u64,
    /// An error the provider reported inside the answer.
    pub error: Option<ApiError>,
    /// Frames that could not be read as the dialect, or were too large to be read.
    pub unread_frames: u64,
}
