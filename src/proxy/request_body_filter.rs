//! A request body that streams through (`/p/...`) must keep a pace: nobody else looks at its time. Others are read in `intake.rs`.

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::RequestContext;
use super::intake;

/// Pingora's `request_body_filter`.
pub fn execute(gateway: &Gateway, body: Option<&Bytes>, ctx: &mut RequestContext) -> Result<()> {
    let Some(body) = body.filter(|_| ctx.gate.is_none()) else {
        return Ok(());
    };
    ctx.client.uploaded += body.len();
    let (elapsed, config) = (ctx.began.elapsed(), &gateway.config);
    if elapsed > config.timeouts.body_read && intake::is_behind(ctx.client.uploaded, elapsed, config.limits.body_pace) {
        ctx.refusal = Some(intake::slow());
        return Error::e_explain(ErrorType::ReadTimedout, "the request body came too slowly")
            .map_err(|e: Box<Error>| e.into_down());
    }
    Ok(())
}
