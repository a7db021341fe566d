//! Usage where the provider reported none, or not the last of it: estimated from the request and from what came of the answer.

use crate::ir::{Operation, Usage};
use crate::translate::{AnswerKind, Coding, bound, estimate};

use super::context::RequestContext;
use super::held::Held;

/// What the attempt under way used, as far as can be told from here. What the provider reported of the prompt, at the beginning of a
/// stream, is exact and stays.
pub fn estimated_usage(ctx: &RequestContext, held: Option<&Held>) -> Usage {
    let answer = held.and_then(|held| held.answer.as_ref());
    let reported = answer.and_then(|answer| answer.meter().usage).map(Usage::booked);
    let output = answer.map_or(0, |answer| {
        let unread = answer.plan().kind == AnswerKind::Opaque || answer.plan().coding == Coding::Unknown;
        match held.filter(|_| unread) {
            Some(held) => bound::rough(usize::try_from(held.received).unwrap_or(usize::MAX)),
            None => answer.meter().written.tokens(),
        }
    });
    let mut usage = reported.unwrap_or_else(|| Usage {
        input: prompt_tokens(ctx),
        ..Usage::default()
    });
    let told = usage.output_total();
    usage.output = usage.output.saturating_add(output.saturating_sub(told));
    usage
}

/// An estimate of the prompt's tokens, without reading it.
pub fn prompt_tokens(ctx: &RequestContext) -> u64 {
    match ctx.books.prompt {
        Some(prompt) => prompt.expected,
        None => ctx.books.rough.max(estimate::rough_prompt(&ctx.client.body)),
    }
}

/// Before the request's body is let go: what an estimate needs of it, if it may be needed.
pub fn let_go(ctx: &mut RequestContext) {
    let is_chat = ctx
        .client
        .target
        .as_ref()
        .is_some_and(|target| target.operation == Operation::Chat);
    if is_chat && ctx.books.prompt.is_none() {
        ctx.books.rough = estimate::rough_prompt(&ctx.client.body);
    }
}
