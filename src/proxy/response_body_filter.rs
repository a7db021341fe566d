//! A chunk of the answer: read by the tap, judged while nothing went out, passed on.

use bytes::Bytes;
use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::RequestContext;
use super::{estimated, failover, large_answer, logging};

/// Pingora's `response_body_filter`. Synchronous; sees arbitrary chunks.
pub fn execute(gateway: &Gateway, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestContext) -> Result<()> {
    let passed = pass(gateway, body, end, ctx);
    if let (Err(_), Some(gate)) = (&passed, &ctx.gate) {
        gate.lock().has_failed();
    }
    passed
}

fn pass(gateway: &Gateway, body: &mut Option<Bytes>, end: bool, ctx: &mut RequestContext) -> Result<()> {
    let Some(attempt) = &mut ctx.attempt else { return Ok(()) };
    let Some(gate) = &ctx.gate else {
        let bytes = body.as_ref().map_or(0, Bytes::len) as u64;
        attempt.received += bytes;
        ctx.response.sent += bytes;
        if end {
            ctx.books.admission = None;
        }
        return Ok(());
    };
    let gate = gate.clone();
    if gate.lock().is_settled() && !attempt.body.is_empty() {
        // No other attempt can follow: a long stream need not hold on to a long prompt.
        attempt.body = Bytes::new();
        estimated::let_go(ctx);
        ctx.client.body = Bytes::new();
        ctx.client.instructed = None;
        ctx.client.decoded = None;
        ctx.client.body_permit = None;
    }
    let Some(attempt) = &mut ctx.attempt else { return Ok(()) };
    let mut held = gate.lock();
    let out = match body.take() {
        Some(chunk) if !chunk.is_empty() => {
            let out = held.take_chunk(chunk);
            let elapsed = attempt.began.elapsed();
            attempt.last_chunk = Some(elapsed);
            if attempt.first_token.is_none()
                && held
                    .answer
                    .as_ref()
                    .is_some_and(|answer| answer.meter().content_events > 0)
            {
                attempt.first_token = Some(elapsed);
                if let Some(hold) = &attempt.hold {
                    hold.answering(elapsed, std::time::Instant::now());
                }
            }
            out
        }
        _ => Bytes::new(),
    };
    held.account(&gateway.answers, out.len(), end);
    if let Some(why) = held.broken_off {
        drop(held);
        let out = large_answer::break_off(gateway, ctx, why, out)?;
        ctx.response.sent += out.len() as u64;
        *body = Some(out);
        return Ok(());
    }
    let out = if end {
        let rest = held.finish_answer();
        held.account(&gateway.answers, rest.len(), end);
        join(out, rest)
    } else {
        out
    };
    let committed = held.is_settled();
    let (mut failure, mut failed, mut cut) = (None, false, None);
    if !committed {
        let status = attempt.status.unwrap_or(0);
        if attempt.failure.is_none() {
            failure = failover::judge(&held, status, end);
        }
        held.judge &= !end;
        failed = held.failure().is_some();
        cut = failover::cut(&held);
    }
    drop(held);
    if let Some(failure) = failure {
        if failover::follow(gateway, ctx, failure) {
            return Error::e_explain(ErrorType::InternalError, "the next candidate is asked");
        }
        if let Some(refusal) = failover::ours(ctx, failure) {
            ctx.refusal = Some(refusal);
            return Error::e_explain(ErrorType::InternalError, "our credential was refused");
        }
    }
    if failed || cut.is_some() {
        ctx.refusal = ctx.refusal.take().or(cut);
        // Nothing went out: the client gets a proper error.
        return Error::e_explain(ErrorType::InternalError, "the provider's answer can't be passed on");
    }
    if committed || end {
        // Before the client has the answer's end: it may ask the next thing at once.
        logging::remember(gateway, ctx);
    }
    if end {
        logging::before_the_end(gateway, ctx);
        // … and may have one request under way at once.
        ctx.books.admission = None;
    }
    ctx.response.sent += out.len() as u64;
    // `None` would end the body; an empty chunk is just nothing.
    *body = Some(out);
    Ok(())
}

fn join(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first,
        (true, _) => second,
        _ => [first, second].concat().into(),
    }
}
