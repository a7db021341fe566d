//! Recognise dialect and operation, authenticate, take in the body, route, admit.

use http::header;
use pingora::Result;
use pingora::proxy::Session;

use crate::dialects::{self, Line, PeekError, Target};
use crate::ir::{ApiError, ErrorKind, Operation};
use crate::keys::KeyError;
use crate::ledger::LedgerError;
use crate::routing::{self, NoRoute};

use super::Gateway;
use super::client_auth::presented;
use super::context::{RequestContext, RouteStage};
use super::gate::GateControl;
use super::intake::{self, NoBody};
use super::prepare::ELSEWHERE;
use super::{local, passthrough, refuse};

/// Where a request ends before a provider is called.
enum Stop {
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
    let passes = session.req_header().uri.path().starts_with(passthrough::PREFIX);
    if !passes {
        ctx.client.target = Some(recognise(session)?);
    }
    authenticate(gateway, session, ctx)?;
    if passes {
        return passthrough::prepare(gateway, session, ctx).await.map_err(Stop::Refuse);
    }
    let Some(target) = ctx.client.target.clone() else {
        return Err(not_found().into());
    };
    if matches!(target.operation, Operation::ListModels | Operation::GetModel) {
        local::models(gateway, session, ctx, &target).await?;
        return Err(Stop::Answered);
    }
    take_in(gateway, session, ctx, &target).await?;
    route(gateway, ctx, &target)?;
    if target.operation == Operation::CountTokens && !is_counted(ctx) {
        local::estimated_count(session, ctx, &target).await?;
        return Err(Stop::Answered);
    }
    gateway.ledger.admit().await.map_err(not_admitted)?;

    let gate = GateControl::default();
    {
        let mut held = gate.lock();
        held.request_id = ctx.client.request_id.0.clone();
        held.close = session.is_process_shutting_down() || gateway.is_draining();
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
    let key = gateway.keys.authenticate(&key).map_err(|error| {
        let code = match error {
            KeyError::Revoked => "revoked_api_key",
            KeyError::Malformed | KeyError::Unknown => "invalid_api_key",
        };
        ApiError::new(
            ErrorKind::Authentication,
            format!("{error}; ask the one who runs this gateway for a good one"),
        )
        .code(code)
    })?;
    ctx.client.key = Some(key);
    Ok(())
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
    let peeked = if body.bytes.len() < ELSEWHERE {
        target.dialect.peek(target, &body.bytes)
    } else {
        let (target, bytes) = (target.clone(), body.bytes.clone());
        let peek = tokio::task::spawn_blocking(move || target.dialect.peek(&target, &bytes)).await;
        peek.map_err(|_| {
            ApiError::new(ErrorKind::Api, "the gateway failed to read the request").code("internal_error")
        })?
    };
    ctx.client.peek = Some(peeked.map_err(unreadable)?);
    ctx.client.body = body.bytes;
    Ok(())
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

fn unreadable(error: PeekError) -> ApiError {
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

fn route(gateway: &Gateway, ctx: &mut RequestContext, target: &Target) -> Result<(), ApiError> {
    let Some(peek) = &ctx.client.peek else {
        return Err(not_found());
    };
    let fleet = gateway.fleet.load();
    // Tokens are estimated where nobody counts them.
    let operation = target.operation;
    let knows =
        |dialect| operation == Operation::CountTokens || dialects::get(dialect).own_target(operation, false).is_some();
    let plan = routing::resolve(&fleet, &peek.model, target.dialect.id(), &knows).map_err(|none| {
        let message = none.to_string();
        match none {
            NoRoute::UnknownModel(_) => ApiError::new(ErrorKind::NotFound, message)
                .code("model_not_found")
                .param("model"),
            NoRoute::NotOffered { .. } => ApiError::new(ErrorKind::InvalidRequest, message)
                .code("unsupported_operation")
                .param("model"),
            NoRoute::NoCredential(_) => {
                ApiError::new(ErrorKind::UpstreamCredentialsExhausted, message).code("upstream_credentials_exhausted")
            }
        }
    })?;
    ctx.route = Some(RouteStage {
        plan,
        taken: 0,
        passthrough: None,
        masker: fleet.masker().clone(),
        overhead: ctx.began.elapsed(),
    });
    Ok(())
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
