//! The body for one candidate: the client's own bytes, a few of them replaced, or the request in another dialect.

use std::sync::Arc;

use bytes::Bytes;

use crate::dialects::{self, Answering, Splice, Target, Upstream};
use crate::ir::{ApiError, DialectId, ErrorKind, LossReport, Operation};
use crate::money::Price;
use crate::routing::Candidate;
use crate::rules::{Edits, OnLoss, Route, StreamUsage, UpstreamStream};
use crate::translate::edit::{self, Change, How};
use crate::translate::opaque;
use crate::translate::request::{Asked, Decoded};
use crate::translate::{Conversion, Converted, Mask, Recipient, request, splice};

use super::Gateway;
use super::context::RequestContext;
use super::need::Length;
use super::{instruct, need, run_on};

/// Bodies from this size on are peeked and converted on a thread for blocking work.
pub const ELSEWHERE: usize = 4 * 1024 * 1024;

/// Most losses listed in a refusal.
const MAX_LISTED: usize = 20;

/// What goes to the provider, and how its answer comes back.
#[derive(Default)]
pub struct Prepared {
    /// The body.
    pub body: Bytes,
    /// The model asked of the provider.
    pub model: Arc<str>,
    /// The usage-only frame is to be withheld: we asked for it, not the client.
    pub withhold_usage: bool,
    /// The provider is asked for a stream.
    pub stream: bool,
    /// The answer is to be converted.
    pub conversion: Option<Arc<Conversion>>,
    /// What could not be said.
    pub loss: LossReport,
    /// Bytes it has beyond the client's body.
    pub grown: u64,
    /// How long the answer can be, where somebody needs to know.
    pub length: Length,
    /// The model's price, as it was when this was prepared.
    pub price: Option<Arc<Price>>,
}

/// Prepares the body. An error: this candidate can't be asked this.
pub async fn execute(gateway: &Gateway, ctx: &mut RequestContext, candidate: &Candidate) -> Result<Prepared, ApiError> {
    // The candidate of another name the client gave may be one of another route.
    instruct::execute(ctx).await?;
    let peek = ctx.client.peek.as_ref();
    let asked = || peek.map(|peek| Arc::from(peek.model.as_str()));
    let model: Arc<str> = candidate.model.clone().or_else(asked).unwrap_or_default();
    let price = need::price(gateway, ctx, candidate, &model).cloned();
    need::prompt(ctx, price.as_deref()).await?;
    let (Some(peek), Some(target)) = (&ctx.client.peek, &ctx.client.target) else {
        // `/p/...`: the body is not ours to touch.
        return Ok(Prepared::default());
    };
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_deref());
    let stream = upstream_stream(target, peek.stream, route);
    // Where the path names the model, some requests repeat it inside, at places no peek looks for.
    let inside = match target.operation {
        Operation::Embeddings => true,
        Operation::CountTokens => target.dialect.count_names_model(&ctx.client.body),
        _ => false,
    };
    let renamed = candidate.model.as_ref().is_some_and(|model| **model != *peek.model);
    let repeated = inside && renamed && peek.model_span.is_none();
    let same = candidate.endpoint.dialect == target.dialect.id() && stream == peek.stream && !repeated;
    let prepared = if same && !opaque::has_sealed(&ctx.client.body) {
        spliced(ctx, candidate, model)
    } else {
        convert(gateway, ctx, candidate, model, stream, !same).await?
    };
    let mut prepared = edited(ctx, candidate, prepared).await?;
    prepared.price = price;
    run_on::refuse(ctx, candidate, &prepared.body)?;
    need::limit(gateway, ctx, candidate, &mut prepared).await?;
    prepared.grown = prepared.body.len().saturating_sub(ctx.client.body.len()) as u64;
    Ok(prepared)
}

/// What the route, then the target, change in the body of a conversation. (Counts and vectors have fields of their own: a provider may
/// refuse those of a conversation there.)
async fn edited(ctx: &RequestContext, candidate: &Candidate, mut prepared: Prepared) -> Result<Prepared, ApiError> {
    let is_chat = ctx
        .client
        .target
        .as_ref()
        .is_some_and(|target| target.operation == Operation::Chat);
    let route = ctx.route.as_ref().and_then(|stage| stage.plan.route.clone());
    let target = candidate.target.clone();
    let of_route = route.as_ref().is_some_and(|route| !route.edits.is_empty());
    let of_target = target.as_ref().is_some_and(|target| !target.edits.is_empty());
    if !is_chat || !of_route && !of_target {
        return Ok(prepared);
    }
    let (body, dialect) = (prepared.body.clone(), dialects::get(candidate.endpoint.dialect));
    let work = move || {
        let of_route = route.as_ref().map(|route| &route.edits);
        let of_target = target.as_ref().map(|target| &target.edits);
        let mut body = body;
        for edits in of_route.into_iter().chain(of_target) {
            body = edit::apply(&body, dialect, &changes(edits))?;
        }
        Ok(body)
    };
    let done: Result<Bytes, edit::EditError> = if prepared.body.len() < ELSEWHERE {
        work()
    } else {
        tokio::task::spawn_blocking(work).await.map_err(|_| internal())?
    };
    prepared.body =
        done.map_err(|error| ApiError::new(ErrorKind::InvalidRequest, error.to_string()).code("route_edit_failed"))?;
    Ok(prepared)
}

fn changes(edits: &Edits) -> Vec<Change<'_>> {
    let set = edits.set.iter().map(|(path, value)| (path, How::Set(value)));
    let default = edits.default.iter().map(|(path, value)| (path, How::Default(value)));
    let remove = edits.remove.iter().map(|path| (path, How::Remove));
    remove
        .chain(default)
        .chain(set)
        .map(|(path, how)| Change { path, how })
        .collect()
}

fn upstream_stream(target: &Target, asked: bool, route: Option<&Route>) -> bool {
    match route.map(|route| route.upstream_stream) {
        Some(UpstreamStream::Always) if target.operation == Operation::Chat => true,
        Some(UpstreamStream::Never) => false,
        _ => asked,
    }
}

/// The client's body with the provider's model name and the question for usage; the bytes themselves where neither is
/// needed.
fn spliced(ctx: &RequestContext, candidate: &Candidate, model: Arc<str>) -> Prepared {
    let mut prepared = Prepared {
        body: ctx.client.body.clone(),
        stream: ctx.wants_stream(),
        ..Prepared::default()
    };
    let Some(peek) = &ctx.client.peek else {
        return prepared;
    };
    let mut edits = Vec::new();
    if *model != *peek.model
        && let (Some(at), Ok(name)) = (&peek.model_span, serde_json::to_vec(&*model))
    {
        edits.push(Splice {
            at: at.clone(),
            with: name.into(),
        });
    }
    prepared.model = model;
    let ask = peek
        .ask_usage
        .clone()
        .filter(|_| candidate.pool.provider.stream_usage == StreamUsage::Ask);
    prepared.withhold_usage = ask.is_some();
    edits.extend(ask);
    prepared.body = splice::apply(&ctx.client.body, edits);
    prepared
}

async fn convert(
    gateway: &Gateway,
    ctx: &mut RequestContext,
    candidate: &Candidate,
    model: Arc<str>,
    stream: bool,
    convert_answer: bool,
) -> Result<Prepared, ApiError> {
    let (Some(peek), Some(target)) = (&ctx.client.peek, ctx.client.target.clone()) else {
        return Err(internal());
    };
    let (client_stream, asked_model) = (peek.stream, peek.model.clone());
    let work = Work {
        target: target.clone(),
        body: ctx.client.body.clone(),
        dialect: candidate.endpoint.dialect,
        provider: candidate.pool.provider.name.clone(),
        model: model.clone(),
        stream,
        ask_usage: stream && candidate.pool.provider.stream_usage == StreamUsage::Ask,
        decoded: ctx.client.decoded.take(),
    };
    let done = if work.body.len() < ELSEWHERE {
        work.run()
    } else {
        tokio::task::spawn_blocking(move || work.run())
            .await
            .map_err(|_| internal())?
    };
    let converted = done?;
    let on_loss = ctx.route.as_ref().and_then(|stage| stage.plan.route.as_ref());
    if on_loss.is_some_and(|route| route.on_loss == OnLoss::Reject) && converted.loss.has_lost() {
        return Err(rejected(&converted.loss));
    }
    let Asked {
        include_usage,
        echo,
        embeddings,
    } = converted.asked;
    // Tools that were renamed get their own names back.
    let convert_answer = convert_answer || !converted.names.is_empty();
    let conversion = convert_answer.then(|| {
        let crosses = candidate.endpoint.dialect != target.dialect.id();
        Arc::new(Conversion {
            client: target.clone(),
            client_stream,
            origin: crosses.then_some(converted.origin),
            names: Arc::new(converted.names),
            answering: Answering {
                request_id: ctx.client.request_id.0.to_string(),
                created: gateway.clock.now().seconds(),
                model: model.to_string(),
                asked_model,
                include_usage,
                echo,
                framing: target.framing,
            },
            asked: embeddings,
            mask: ctx.route.as_ref().map(|stage| mask(stage.masker.clone())),
        })
    });
    Ok(Prepared {
        body: converted.body.into(),
        model,
        withhold_usage: conversion.is_none() && stream && !include_usage,
        stream,
        conversion,
        loss: converted.loss,
        ..Prepared::default()
    })
}

fn mask(masker: Arc<crate::observe::redact::Masker>) -> Mask {
    Arc::new(move |text: &str| match masker.mask_bytes(text.as_bytes()) {
        std::borrow::Cow::Owned(masked) => Some(String::from_utf8_lossy(&masked).into_owned()),
        std::borrow::Cow::Borrowed(_) => None,
    })
}

/// What may have to be done on another thread.
struct Work {
    target: Target,
    body: Bytes,
    dialect: DialectId,
    provider: Arc<str>,
    model: Arc<str>,
    stream: bool,
    ask_usage: bool,
    /// The request, if it was read before.
    decoded: Option<Decoded>,
}

impl Work {
    /// Reads the body anew for each attempt: a second one is rare, and a copy of what was read would cost every first one.
    fn run(self) -> Result<Converted, ApiError> {
        let decoded = match self.decoded {
            Some(decoded) => decoded,
            None => request::decode(&self.target, &self.body).map_err(unreadable)?,
        };
        let to = Recipient {
            dialect: dialects::get(self.dialect),
            provider: &self.provider,
            upstream: Upstream {
                model: &self.model,
                stream: self.stream,
                ask_usage: self.ask_usage,
            },
        };
        let converted = request::encode(decoded, self.target.dialect.id(), self.target.operation, &to);
        converted.map_err(|error| {
            ApiError::new(ErrorKind::InvalidRequest, error.to_string())
                .code("unsupported_by_provider")
                .param(error.path)
        })
    }
}

/// What the client is told of a request that can't be read.
pub fn unreadable(error: dialects::RequestError) -> ApiError {
    ApiError::new(ErrorKind::InvalidRequest, error.to_string())
        .code("invalid_type")
        .param(error.path)
}

/// `on_loss = "reject"`: what would be lost.
fn rejected(loss: &LossReport) -> ApiError {
    let mut lost = loss
        .losses()
        .iter()
        .filter(|loss| loss.kind != crate::ir::LossKind::Synthesized);
    let list: Vec<String> = lost
        .clone()
        .take(MAX_LISTED)
        .map(|loss| format!("`{}` would be {}: {}", loss.path, loss.kind.as_str(), loss.why))
        .collect();
    let more = lost.clone().count().saturating_sub(list.len());
    let more = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    let message = format!(
        "this route refuses what its provider's API format can't carry: {}{more}",
        list.join("; ")
    );
    let error = ApiError::new(ErrorKind::InvalidRequest, message).code("conversion_loss");
    match lost.next() {
        Some(first) => error.param(first.path.to_string()),
        None => error,
    }
}

/// What the client is told when making its body failed for a fault of ours.
pub fn internal() -> ApiError {
    ApiError::new(ErrorKind::Api, "the gateway failed to convert the request").code("internal_error")
}
