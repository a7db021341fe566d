//! A route's own instructions, added to the client's: those of the route whose candidate is asked.

use std::sync::Arc;

use bytes::Bytes;

use crate::dialects::{Peek, PeekError};
use crate::ir::{ApiError, Operation};
use crate::rules::Route;
use crate::translate::splice;

use super::context::RequestContext;
use super::prepare::ELSEWHERE;
use super::request_filter::{unread, unreadable};

/// The body has a route's instructions.
pub struct Instructed {
    /// Whose.
    route: Arc<Route>,
    /// The client's own body and what was read of it, kept where another route may follow: the client gave several names.
    own: Option<(Bytes, Peek)>,
}

/// Gives the body the instructions of the plan's route, and none of another's. Does nothing where that is so already. Large bodies are
/// worked on elsewhere.
pub async fn execute(ctx: &mut RequestContext) -> Result<(), ApiError> {
    let Some(stage) = &ctx.route else { return Ok(()) };
    let (route, several) = (stage.plan.route.as_ref(), stage.plan.has_several_names());
    let client = &mut ctx.client;
    if let Some(done) = &client.instructed {
        if route.is_some_and(|route| Arc::ptr_eq(route, &done.route)) {
            return Ok(());
        }
        if let Some((body, peek)) = client.instructed.take().and_then(|done| done.own) {
            (client.body, client.peek, client.decoded) = (body, Some(peek), None);
            ctx.books.prompt = None;
        }
    }
    let Some(route) = route.filter(|route| !route.instructions.is_empty()) else {
        return Ok(());
    };
    let (Some(target), Some(peek)) = (&client.target, &client.peek) else {
        return Ok(());
    };
    if !matches!(target.operation, Operation::Chat | Operation::CountTokens) {
        return Ok(());
    }
    let (target, body, adding) = (target.clone(), client.body.clone(), route.clone());
    let is_large = body.len() >= ELSEWHERE;
    let work = move || -> Result<_, PeekError> {
        let added = &adding.instructions;
        let (before, after) = (added.before.as_deref(), added.after.as_deref());
        let edits = target.dialect.add_instructions(&body, before, after);
        if edits.is_empty() {
            return Ok(None);
        }
        let body = splice::apply(&body, edits);
        let peek = target.dialect.peek(&target, &body)?;
        Ok(Some((body, peek)))
    };
    let done = if is_large {
        tokio::task::spawn_blocking(work).await.map_err(|_| unread())?
    } else {
        work()
    };
    let Some((body, mut again)) = done.map_err(unreadable)? else {
        return Ok(());
    };
    (again.outline.provider, again.outline.models) = (peek.outline.provider.clone(), peek.outline.models.clone());
    let own = several.then(|| (client.body.clone(), peek.clone()));
    client.instructed = Some(Instructed {
        route: route.clone(),
        own,
    });
    (client.body, client.peek, client.decoded) = (body, Some(again), None);
    ctx.books.prompt = None;
    Ok(())
}
