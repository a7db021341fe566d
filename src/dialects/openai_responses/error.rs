//! The error event of a stream of responses.

use serde_json::{Value, json};

use crate::dialects::openai_error::body;
use crate::ir::ApiError;

/// The event `error`. The reference has code, message and param at the top and a sequence number, which the gateway
/// does not know and leaves at 0. OpenAI's SDK for Python raises only if there is an `error` object (`_streaming.py`,
/// which the real service sends too), so that both forms are given.
pub(super) fn event(error: &ApiError) -> Value {
    let mut event = body(error);
    for field in ["code", "message", "param"] {
        event[field] = event["error"][field].clone();
    }
    event["type"] = json!("error");
    event["sequence_number"] = json!(0);
    event
}
