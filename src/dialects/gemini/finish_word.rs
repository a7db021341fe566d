//! Why an answer ended, in this dialect's words.

use std::borrow::Cow;

use super::finish_kind;
use crate::ir::{FinishKind, FinishReason, LossReport};

/// The `finishReason` of a candidate. Its own words stay as they are; there is none for tool calls.
pub(super) fn finish_word(finish: Option<&FinishReason>, refused: bool, loss: &mut LossReport) -> Cow<'static, str> {
    let Some(finish) = finish else {
        loss.synthesized("finishReason", "why the answer ended was not told");
        return Cow::Borrowed(if refused { "SAFETY" } else { "STOP" });
    };
    let kind = match finish.kind {
        FinishKind::ToolCalls => FinishKind::Stop,
        kind => kind,
    };
    let is_own = !finish.raw.is_empty() && finish.raw.bytes().all(|b| b.is_ascii_uppercase() || b == b'_');
    if is_own && finish_kind(&finish.raw) == kind {
        return Cow::Owned(finish.raw.to_string());
    }
    Cow::Borrowed(match kind {
        FinishKind::Stop | FinishKind::ToolCalls if refused => "SAFETY",
        FinishKind::Stop | FinishKind::ToolCalls => "STOP",
        FinishKind::Length => "MAX_TOKENS",
        FinishKind::ContentFilter => "SAFETY",
        FinishKind::Pause => {
            loss.approximated("finishReason", "turns are not paused there");
            "STOP"
        }
        FinishKind::Error | FinishKind::Other => {
            loss.approximated("finishReason", "there is no such reason there");
            "OTHER"
        }
    })
}
