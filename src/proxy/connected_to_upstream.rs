//! Connected, nothing sent yet: from here on the attempt may cost money, so its row has to be on record. Without it the
//! call would be lost if this process died.

use super::context::RequestContext;

/// Pingora's `connected_to_upstream`.
pub async fn execute(ctx: &RequestContext) {
    if let Some(entry) = ctx.attempt.as_ref().and_then(|attempt| attempt.entry.as_ref())
        && !entry.is_written()
    {
        entry.written().await;
    }
}
