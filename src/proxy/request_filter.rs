//! Recognise dialect and operation, authenticate, take in the body, route, admit.

use std::time::Instant;

use bytes::Bytes;
use http::header;
use pingora::Result;
use pingora::proxy::Session;

use crate::dialects::{self, Line, Peek, PeekError, Target};
use crate::ir::{ApiError, ErrorKind, Operation};
use crate::keys::{Denied, Grant, KeyError};
use crate::ledger::LedgerError;
use crate::routing::affinity::{self, Session as Conversation};
use crate::routing::{self, Asker, NoRoute, Permit, Query, Survey};
use crate::translate::request::Decoded;
use crate::translate::{estimate, request, splice};

use super::Gateway;
use super::client_auth::presented;
use super::context::{RequestContext, RouteStage};
use super::gate::GateControl;
use super::held::Listener;
use super::intake::{self, NoBody};
use super::prepare::ELSEWHERE;
use super::{admit, door, instruct, local, overload, own_key, passthrough, refuse};

/// Where a request ends before a provider is called.
pub(super) enum Stop {
    /// With an error for the client.
    Refuse(ApiError),
    /// It was answered.
    Answered,
    /// The client is gone.
    Gone(Box<pingora::Error>),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Stop::Refuse(error)
    }
}

impl From<Box<pingora::Error>> for Stop {
    fn from(error: Box<pingora::Error>) -> Self {
        Stop::Gone(error)
    }
}

/// Pingora's `request_filter`: true: it was answered here.
pub async fn execute(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
    match prepare(gateway, session, ctx).await {
        Ok(()) => Ok(false),
        Err(Stop::Answered) => Ok(true),
        Err(Stop::Gone(error)) => Err(error),
        Err(Stop::Refuse(error)) => {
            refuse::send(session, ctx, error, false).await?;
            Ok(true)
        }
    }
}

async fn prepare(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<(), Stop> {
    if local::health(gateway, session, ctx).await? {
        return Err(Stop::Answered);
    }
    let is_key = own_key::is_asked(session.req_header());
    let passes = session.req_header().uri.path().starts_with(passthrough::PREFIX);
    if !passes && !is_key {
        ctx.client.target = Some(recognise(session)?);
    }
    authenticate(gateway, session, ctx)?;
    overload::enter(gateway, session, ctx).await?;
    if is_key {
        own_key::answer(gateway, session, ctx).await?;
        return Err(Stop::Answered);
    }
    if passes {
        return passthrough::prepare(gateway, session, ctx).await;
    }
    let Some(target) = ctx.client.target.clone() else {
        return Err(not_found().into());
    };
    if matches!(target.operation, Operation::ListModels | Operation::GetModel) {
        local::models(gateway, session, ctx, &target).await?;
        return Err(Stop::Answered);
    }
    take_in(gateway, session, ctx, &target).await?;
    route(gateway, session, ctx, &target).await?;
    overload::confirm(gateway, session, ctx).await?;
    admit::enter(gateway, session, ctx).await?;
    instruct::execute(ctx).await?;
    if target.operation == Operation::CountTokens && !is_counted(ctx) {
        local::estimated_count(session, ctx, &target).await?;
        return Err(Stop::Answered);
    }
    gateway.ledger.admit().await.map_err(not_admitted)?;

    let gate = GateControl::default();
    {
        let mut held = gate.lock();
        held.request_id = ctx.client.request_id.0.clone();
        held.words = ctx.route.as_ref().map(|stage| stage.masker.clone());
        held.close = session.is_process_shutting_down();
        if ctx.wants_stream() && target.operation == Operation::Chat {
            held.listener = Some(Listener {
                dialect: target.dialect,
                framing: target.framing,
                ping: target.dialect.ping(target.framing),
                ping_after: gateway.config.timeouts.ping,
                ping_before: gateway.config.timeouts.ping_before,
            });
        }
    }
    // Setters which do nothing on a wrapped session come before it.
    session.set_read_timeout(None);
    session.set_write_timeout(Some(gateway.config.timeouts.write_stall));
    gate.wrap(&mut session.downstream_session);
    ctx.gate = Some(gate);
    Ok(())
}

fn recognise(session: &Session) -> Result<Target, ApiError> {
    let request = session.req_header();
    let line = Line {
        method: &request.method,
        path: request.uri.path(),
        query: request.uri.query().unwrap_or(""),
        headers: &request.headers,
    };
    dialects::find(line).ok_or_else(|| {
        if dialects::knows_path(line.path) {
            ApiError::new(ErrorKind::MethodNotAllowed, "this path does not go with this method")
                .code("method_not_allowed")
        } else {
            not_found()
        }
    })
}

fn not_found() -> ApiError {
    ApiError::new(
        ErrorKind::NotFound,
        "there is nothing at this path; other paths of a provider are reached through /p/{provider}/...",
    )
    .code("unknown_path")
}

fn authenticate(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<(), ApiError> {
    let request = session.req_header();
    let found = presented(&request.headers, request.uri.query().unwrap_or(""))?;
    ctx.client.query = found.query.into_owned();
    let Some(key) = found.key else {
        return Err(ApiError::new(
            ErrorKind::Authentication,
            "no key was sent; send it as `Authorization: Bearer <key>`",
        )
        .code("missing_api_key"));
    };
    let grant = gateway.keys.authenticate(&key).map_err(|error| {
        let code = match error {
            KeyError::Revoked | KeyError::Replaced => "revoked_api_key",
            KeyError::Malformed | KeyError::Unknown => "invalid_api_key",
        };
        ApiError::new(
            ErrorKind::Authentication,
            format!("{error}; ask the one who runs this gateway for a good one"),
        )
        .code(code)
    })?;
    let checked = grant.check(ctx.client.address, ctx.at);
    // A key that is refused is known: its lines in the log bear its name.
    ctx.client.grant = Some(grant);
    checked.map_err(denied)?;
    if let Some(badge) = door::badge(session) {
        gateway.crowd.know(&badge.member);
    }
    Ok(())
}

/// What the client is told of a good key that may not be used here and now.
fn denied(why: Denied) -> ApiError {
    let (kind, code) = match why {
        Denied::Disabled => (ErrorKind::Permission, "key_disabled"),
        Denied::GroupDisabled => (ErrorKind::Permission, "group_disabled"),
        Denied::GroupDeleted => (ErrorKind::Permission, "group_deleted"),
        Denied::Network => (ErrorKind::Permission, "address_not_allowed"),
        Denied::Expired => (ErrorKind::Authentication, "expired_api_key"),
    };
    ApiError::new(kind, format!("{why}; ask the one who runs this gateway")).code(code)
}

async fn take_in(
    gateway: &Gateway,
    session: &mut Session,
    ctx: &mut RequestContext,
    target: &Target,
) -> Result<(), Stop> {
    let json = session
        .get_header(header::CONTENT_TYPE)
        .is_none_or(|kind| is_json(kind.as_bytes()));
    if !json {
        return Err(ApiError::new(
            ErrorKind::InvalidRequest,
            "the request body must be JSON (content-type: application/json)",
        )
        .status(415)
        .code("unsupported_content_type")
        .into());
    }
    let body = intake::read(
        session,
        &gateway.config.limits,
        &gateway.config.timeouts,
        &gateway.bodies,
    )
    .await
    .map_err(|none| match none {
        NoBody::Refused(error) => Stop::Refuse(error),
        NoBody::Gone(error) => Stop::Gone(error),
    })?;
    ctx.client.body_bytes = body.received;
    ctx.client.body_permit = Some(body.permit);
    let (mut peek, mut bytes) = peek(target, body.bytes).await?;
    if !peek.outline.ours.is_empty() {
        // `provider` and `models` are for us: no provider gets to see them.
        let (provider, models) = (peek.outline.provider.take(), std::mem::take(&mut peek.outline.models));
        let without = splice::apply(&bytes, std::mem::take(&mut peek.outline.ours));
        (peek, bytes) = self::peek(target, without).await?;
        (peek.outline.provider, peek.outline.models) = (provider, models);
    }
    ctx.client.peek = Some(peek);
    ctx.client.body = bytes;
    Ok(())
}

async fn peek(target: &Target, bytes: Bytes) -> Result<(Peek, Bytes), ApiError> {
    let peeked = if bytes.len() < ELSEWHERE {
        target.dialect.peek(target, &bytes)
    } else {
        let (target, bytes) = (target.clone(), bytes.clone());
        let peek = tokio::task::spawn_blocking(move || target.dialect.peek(&target, &bytes)).await;
        peek.map_err(|_| unread())?
    };
    Ok((peeked.map_err(unreadable)?, bytes))
}

/// What the client is told when reading its request failed for a fault of ours.
pub fn unread() -> ApiError {
    ApiError::new(ErrorKind::Api, "the gateway failed to read the request").code("internal_error")
}

/// Reads all of a request, where a route wants to know what stands inside. What can't be read says nothing: whether it is
/// refused is for the candidate to say, whose own format it may be.
async fn survey(ctx: &mut RequestContext, target: &Target) -> Result<Option<Survey>, ApiError> {
    let body = ctx.client.body.clone();
    let decoded = if body.len() < ELSEWHERE {
        request::decode(target, &body)
    } else {
        let target = target.clone();
        let decode = tokio::task::spawn_blocking(move || request::decode(&target, &body)).await;
        decode.map_err(|_| unread())?
    };
    let Ok(decoded) = decoded else { return Ok(None) };
    let survey = surveyed(&decoded);
    ctx.client.decoded = Some(decoded);
    Ok(Some(survey))
}

/// What stands inside a request, as far as routes ask.
pub fn surveyed(decoded: &Decoded) -> Survey {
    match decoded {
        Decoded::Chat(request) => Survey::of(request, estimate::prompt_tokens(request)),
        Decoded::Embeddings(request) => Survey {
            prompt_tokens: estimate::embedding_tokens(request),
            ..Survey::default()
        },
    }
}

/// JSON, or a type that clients send without meaning it (curl's default for `-d`).
fn is_json(kind: &[u8]) -> bool {
    let kind = kind.split(|&b| b == b';').next().unwrap_or(kind).trim_ascii();
    [
        &b"application/json"[..],
        b"text/json",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"application/octet-stream",
        b"",
    ]
    .iter()
    .any(|known| kind.eq_ignore_ascii_case(known))
        || kind.to_ascii_lowercase().ends_with(b"+json")
}

/// What the client is told of a body that is no request.
pub fn unreadable(error: PeekError) -> ApiError {
    let (code, param) = match &error {
        PeekError::NotJson { .. } => ("invalid_json", None),
        PeekError::MissingModel => ("missing_model", Some("model")),
        PeekError::Duplicate(field) => ("duplicate_field", Some(*field)),
        PeekError::WrongType { field, .. } => ("invalid_type", Some(*field)),
        PeekError::TooDeep => ("too_deep", None),
    };
    let refusal = ApiError::new(ErrorKind::InvalidRequest, error.to_string()).code(code);
    match param {
        Some(param) => refusal.param(param),
        None => refusal,
    }
}

async fn route(
    gateway: &Gateway,
    session: &Session,
    ctx: &mut RequestContext,
    target: &Target,
) -> Result<(), ApiError> {
    let fleet = gateway.fleet.load();
    let survey = match &ctx.client.peek {
        Some(Peek { model, outline, .. })
            if routing::needs_survey(&fleet, model, &outline.models, outline.provider.as_deref()) =>
        {
            survey(ctx, target).await?
        }
        Some(_) => None,
        None => return Err(not_found()),
    };
    let Some(peek) = &ctx.client.peek else {
        return Err(not_found());
    };
    let operation = target.operation;
    let knows = |dialect| dialects::knows(dialect, operation);
    let grant = ctx.client.grant.as_ref();
    let allowed = grant.map(|grant| Allowed(grant));
    let key = grant.map(|grant| &grant.key);
    let asker = key.map(|key| Asker {
        id: &key.id.0,
        name: &key.name,
        owner: key.owner.as_deref(),
        tags: &key.tags,
    });
    let headers = &session.req_header().headers;
    let key = key.map_or("", |key| &key.id.0);
    let named = affinity::named(
        target.dialect.session_headers(),
        &gateway.config.affinity.headers,
        headers,
        &peek.outline,
        key,
    );
    let query = Query {
        request: &ctx.client.request_id.0,
        model: &peek.model,
        wishes: &peek.outline.models,
        provider: peek.outline.provider.as_deref(),
        dialect: target.dialect.id(),
        operation,
        stream: peek.stream,
        asker,
        address: ctx.client.address,
        headers,
        at: ctx.at,
        survey: survey.as_ref(),
        session: named.map(|session| session.id),
        permit: allowed.as_ref().map(|allowed| allowed as &dyn Permit),
    };
    let mut plan = routing::resolve(&fleet, &query, &knows).map_err(no_route)?;
    // The beginning of a conversation is only looked at where it would be remembered.
    let scope = match named {
        Some(session) => plan.scope(Some(session)),
        None if plan.scope(Some(Conversation::UNNAMED)).is_some() => {
            plan.scope(affinity::by_beginning(&peek.outline, &ctx.client.body, key))
        }
        None => None,
    };
    if let Some(scope) = scope {
        plan.stick(gateway.affinities.get(scope, Instant::now()).as_ref());
    }
    let masker = fleet.masker().clone();
    ctx.route = Some(RouteStage {
        fleet,
        plan,
        next: None,
        tried: Vec::new(),
        scope,
        passthrough: None,
        masker,
        overhead: ctx.began.elapsed(),
    });
    Ok(())
}

/// What a key may do, as routing asks.
pub(super) struct Allowed<'a>(pub(super) &'a Grant);

impl Permit for Allowed<'_> {
    fn model(&self, name: &str) -> bool {
        self.0.may_ask(name)
    }

    fn route(&self, name: &str) -> bool {
        self.0.may_take(name)
    }

    fn provider(&self, name: &str) -> bool {
        self.0.may_reach(name)
    }
}

fn no_route(none: NoRoute) -> ApiError {
    let message = none.to_string();
    match none {
        NoRoute::UnknownModel(_) => ApiError::new(ErrorKind::NotFound, message)
            .code("model_not_found")
            .param("model"),
        NoRoute::ModelNotAllowed(_) => ApiError::new(ErrorKind::Permission, message)
            .code("model_not_allowed")
            .param("model"),
        NoRoute::NotAllowed(_) => ApiError::new(ErrorKind::Permission, message)
            .code("not_allowed")
            .param("model"),
        NoRoute::NotOffered { .. } => ApiError::new(ErrorKind::InvalidRequest, message)
            .code("unsupported_operation")
            .param("model"),
        NoRoute::UnknownProvider(_) => ApiError::new(ErrorKind::NotFound, message)
            .code("provider_not_found")
            .param("provider"),
        NoRoute::Unfit { .. } => ApiError::new(ErrorKind::InvalidRequest, message)
            .code("unsupported_by_model")
            .param("model"),
        NoRoute::NoCredential(_) => {
            ApiError::new(ErrorKind::UpstreamCredentialsExhausted, message).code("upstream_credentials_exhausted")
        }
    }
}

/// Some candidate's provider counts tokens.
fn is_counted(ctx: &RequestContext) -> bool {
    let candidates = ctx.route.iter().flat_map(|stage| &stage.plan.candidates);
    candidates
        .map(|candidate| dialects::get(candidate.endpoint.dialect))
        .any(|dialect| dialect.own_target(Operation::CountTokens, false).is_some())
}

/// What the client is told when the ledger can't take an attempt.
pub fn not_admitted(error: LedgerError) -> ApiError {
    let code = match error {
        LedgerError::DiskFull => "ledger_disk_full",
        _ => "ledger_behind",
    };
    ApiError::new(
        ErrorKind::Overloaded,
        "the gateway can't record more requests just now; try again in a second",
    )
    .code(code)
    .retry_after(1)
}
