//! Requests for work that goes on when their answer is over (OpenAI's `background`, xAI's `deferred`): what it uses is told elsewhere, and closing
//! the connection does not end it. A key with limits in tokens or money can't ask for such: nobody would ever book it.

use crate::dialects;
use crate::ir::{ApiError, ErrorKind, Operation};
use crate::routing::Candidate;

use super::context::RequestContext;
use super::need;

/// Refuses the body for this candidate, if it asks for such work and its key has limits that depend on what it uses.
pub fn refuse(ctx: &RequestContext, candidate: &Candidate, body: &[u8]) -> Result<(), ApiError> {
    let operation = ctx.client.target.as_ref().map(|target| target.operation);
    if operation != Some(Operation::Chat) || !need::bounds_answers(ctx) {
        return Ok(());
    }
    match dialects::get(candidate.endpoint.dialect).runs_on(body) {
        Some(field) => Err(refusal(field)),
        None => Ok(()),
    }
}

fn refusal(field: &str) -> ApiError {
    let message = format!(
        "`{field}` can't be used with this key: the key has a limit in tokens or money, and what such work uses is not told when it is \
         answered; ask without `{field}`, or with a key that has no such limits"
    );
    ApiError::new(ErrorKind::InvalidRequest, message)
        .code("unsupported_for_budget")
        .param(field)
}
