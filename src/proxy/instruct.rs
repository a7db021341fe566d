//! A route's own instructions, added to the client's: those of the route whose candidate is asked.

use std::sync::Arc;

use bytes::Bytes;

use crate::dialects::{Peek, PeekError};
use crate::ir::Operation;
use crate::rules::Route;
use crate::translate::splice;

use super::context::RequestContext;

/// The body has a route's instructions.
pub struct Instructed {
    /// Whose.
    route: Arc<Route>,
    /// The client's own body and what was read of it, kept where another route may follow: the client gave several names.
    own: Option<(Bytes, Peek)>,
}

/// Gives the body the instructions of the plan's route, and none of another's. Does nothing where that is so already.
pub fn execute(ctx: &mut RequestContext) -> Result<(), PeekError> {
    let Some(stage) = &ctx.route else { return Ok(()) };
    let (route, several) = (stage.plan.route.as_ref(), stage.plan.has_several_names());
    let client = &mut ctx.client;
    if let Some(done) = &client.instructed {
        if route.is_some_and(|route| Arc::ptr_eq(route, &done.route)) {
            return Ok(());
        }
        if let Some((body, peek)) = client.instructed.take().and_then(|done| done.own) {
            (client.body, client.peek, client.decoded) = (body, Some(peek), None);
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
    let added = &route.instructions;
    let edits = target
        .dialect
        .add_instructions(&client.body, added.before.as_deref(), added.after.as_deref());
    if edits.is_empty() {
        return Ok(());
    }
    let body = splice::apply(&client.body, edits);
    let mut again = target.dialect.peek(target, &body)?;
    (again.outline.provider, again.outline.models) = (peek.outline.provider.clone(), peek.outline.models.clone());
    let own = several.then(|| (client.body.clone(), peek.clone()));
    client.instructed = Some(Instructed {
        route: route.clone(),
        own,
    });
    (client.body, client.peek, client.decoded) = (body, Some(again), None);
    Ok(())
}
