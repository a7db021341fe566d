//! Connected, nothing sent yet: from here on the attempt may cost money, so its row has to be on record. Without it the
//! call would be lost if this process died.

use std::time::Instant;

use pingora::protocols::Digest;
use pingora::proxy::Session;
use pingora::{Error, ErrorType, Result};

use crate::ledger::LedgerError;

use super::abort;
use super::context::RequestContext;
use super::request_filter::not_admitted;

/// Pingora's `connected_to_upstream`.
pub async fn execute(
    session: &mut Session,
    reused: bool,
    digest: Option<&Digest>,
    ctx: &mut RequestContext,
) -> Result<()> {
    if let Some(attempt) = &ctx.attempt
        && let Some(dial) = attempt.dial.filter(|_| !reused)
    {
        // The first timing is the lowest layer's: connecting, without TLS.
        let timing = digest.and_then(|digest| digest.timing_digest.first()?.as_ref());
        let took = timing.and_then(|timing| timing.establishment_duration);
        let took = took.unwrap_or_else(|| attempt.began.elapsed());
        let way = attempt.endpoint.way(attempt.credential.as_deref());
        attempt.endpoint.dialled(way, dial, Ok(took), Instant::now());
    }
    if abort::is_gone(session, ctx).await {
        // Nothing was sent, so that nothing is to be paid.
        return Err(abort::gone());
    }
    if let Some(gate) = &ctx.gate {
        // The clock of the first byte starts with the request, not with the dialling: that has a time of its own.
        gate.lock().last_activity = Some(tokio::time::Instant::now());
    }
    if let Some(entry) = ctx.attempt.as_ref().and_then(|attempt| attempt.entry.as_ref())
        && !entry.is_written()
    {
        let total = ctx
            .gate
            .as_ref()
            .and_then(|gate| gate.lock().clocks)
            .map(|clocks| clocks.total);
        let over = async {
            match total {
                Some(total) => tokio::time::sleep_until(total).await,
                None => std::future::pending().await,
            }
        };
        // A full disk may take long.
        tokio::select! {
            biased;
            () = entry.written() => {}
            () = abort::leaves(session, ctx.gate.as_ref()) => return Err(abort::gone()),
            () = over => {
                ctx.refusal = Some(not_admitted(LedgerError::DiskFull));
                return Error::e_explain(ErrorType::InternalError, "the attempt could not be recorded in time");
            }
        }
    }
    if let Some(attempt) = &mut ctx.attempt {
        attempt.sent = true;
    }
    Ok(())
}
