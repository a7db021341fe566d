//! Refusals of the admin API: always `{"error": {"code", "message", "field"?}}`.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoResponses, ToSchema};

use crate::config::Problem;
use crate::keys::tokens::TokensError;
use crate::keys::{KeysError, Role};
use crate::ledger::LedgerError;
use crate::secrets::VaultError;

/// What a refused call is answered with.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// The reason.
    pub error: RefusedError,
}

/// Why a call was refused.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RefusedError {
    /// For programs: a stable word, such as `unauthorized`.
    pub code: String,
    /// For people: what is wrong and what to do.
    pub message: String,
    /// The field of the body or of the query that is at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What is wrong with the rules, if they were not taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<ProblemView>,
}

/// One problem of the rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    /// The file.
    pub file: String,
    /// The line, from 1; 0: the file as a whole.
    pub line: usize,
    /// What stands there.
    pub what: String,
    /// What is wrong and what to do.
    pub help: String,
    /// A warning leaves the rules valid.
    pub warning: bool,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        ProblemView {
            file: problem.file.display().to_string(),
            line: problem.line,
            what: problem.what.clone(),
            help: problem.help.clone(),
            warning: problem.warning,
        }
    }
}

/// A refusal on its way out.
#[derive(Clone, Debug)]
pub struct Refusal {
    status: StatusCode,
    error: RefusedError,
}

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let error = RefusedError {
            code: code.into(),
            message: message.into(),
            field: None,
            problems: Vec::new(),
        };
        Refusal { status, error }
    }

    /// The same refusal, naming the field at fault; an empty name is none.
    fn field(mut self, field: &str) -> Self {
        self.error.field = (!field.is_empty()).then(|| field.to_owned());
        self
    }

    /// 401: no token, or not ours.
    pub(super) fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "send an admin token: `Authorization: Bearer TOKEN`; the first one is in first-run.toml in the data folder",
        )
    }

    /// 403: the token's role does not go so far.
    pub(super) fn forbidden(needed: Role, has: Role) -> Self {
        let message =
            format!("this call needs the role {needed}, the token has {has}: ask an owner for a token that may");
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// 400: a header is wrong.
    pub(super) fn invalid_header(name: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_header", message).field(name)
    }

    /// 422: the Idempotency-Key stands for another call.
    pub(super) fn idempotency_mismatch() -> Self {
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "idempotency_key_reused",
            "this Idempotency-Key was sent with another call before: take a new one for each thing that is to be made",
        )
        .field("idempotency-key")
    }

    /// 409: the first call with the Idempotency-Key is under way.
    pub(super) fn idempotency_running() -> Self {
        Self::new(
            StatusCode::CONFLICT,
            "idempotency_key_in_use",
            "a call with this Idempotency-Key is under way: send it again when that has ended",
        )
        .field("idempotency-key")
    }

    /// 404.
    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// 405.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "this path does not know the method; the header `allow` says which it knows",
        )
    }

    /// 400: the body can't be read, or is not JSON at all.
    pub(super) fn unreadable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_json", message)
    }

    /// 408: the body did not arrive in time.
    pub(super) fn body_late() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "body_late",
            "the request's body did not arrive in time",
        )
    }

    /// 413.
    pub(super) fn too_large() -> Self {
        let message = format!("the body is larger than {} bytes", super::MAX_BODY);
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
    }

    /// 415.
    pub(super) fn not_json() -> Self {
        Self::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the body as JSON, with `content-type: application/json`",
        )
    }

    /// 422: a field of the body is wrong; an empty `field` means the body as a whole.
    pub(super) fn invalid_body(field: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_field", message).field(field)
    }

    /// 400: a field of the query is wrong.
    pub(super) fn invalid_query(field: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_query", message).field(field)
    }

    /// 409: the new rules were not taken.
    pub(super) fn rules_refused(problems: Vec<ProblemView>) -> Self {
        let mut refusal = Self::new(
            StatusCode::CONFLICT,
            "rules_refused",
            "the rules have problems; the last good ones stay in force",
        );
        refusal.error.problems = problems;
        refusal
    }

    /// 409: the credential has no key.
    pub(super) fn inactive(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "inactive", message)
    }

    /// 409: something else needs it, or has its place.
    pub(super) fn conflict(code: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, message)
    }

    /// 500. What happened is in the log, not in the answer.
    pub(super) fn internal() -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something failed inside the gateway: see its log",
        )
    }

    /// 503: too many of `what` at once.
    pub(super) fn busy(what: &str) -> Self {
        let message = format!("too many {what} at once: try again");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message)
    }

    /// 503: another process has the store, or is getting it.
    pub(super) fn upgrading() -> Self {
        let message = "the gateway is being upgraded: try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "upgrading", message.to_owned())
    }

    /// 503: what is wanted can't be entered in the audit log, and was not done.
    pub(super) fn not_audited(error: &std::io::Error) -> Self {
        let message = format!(
            "nothing was changed, since the audit log can't be written: {error}. See to the disk and the rights of the data folder, \
             then send it again"
        );
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "audit_unwritable", message)
    }
}

/// What there may be too many of: questions whose answers wait for the ledger.
pub(super) const QUESTIONS: &str = "questions to the ledger";

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Refusal { status, error } = self;
        let code = RefusedCode(error.code.clone());
        let mut response = (status, Json(Refused { error })).into_response();
        let extra = match status {
            StatusCode::UNAUTHORIZED => Some((header::WWW_AUTHENTICATE, "Bearer realm=\"tollgate admin\"")),
            StatusCode::SERVICE_UNAVAILABLE => Some((header::RETRY_AFTER, "5")),
            _ => None,
        };
        if let Some((name, value)) = extra {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.extensions_mut().insert(code);
        response
    }
}

/// The code of a refusal, left on the response for the audit log.
#[derive(Clone)]
pub(super) struct RefusedCode(pub(super) String);

impl From<KeysError> for Refusal {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::NoSuchKey(id) => Refusal::not_found(format!("there is no key {id}")),
            KeysError::NoSuchGroup(_) => Refusal::not_found("there is no such group; GET /api/v1/groups lists them"),
            KeysError::GroupExists(_) => Refusal::new(StatusCode::CONFLICT, "exists", error.to_string()).field("id"),
            KeysError::GroupDeleted(_) => Refusal::new(StatusCode::CONFLICT, "deleted", error.to_string()),
            KeysError::IsRevoked(_) => Refusal::new(StatusCode::CONFLICT, "revoked", error.to_string()),
            KeysError::ManySecrets => Refusal::new(StatusCode::CONFLICT, "many_secrets", error.to_string()),
            KeysError::Full(..) => Refusal::new(StatusCode::CONFLICT, "full", error.to_string()),
            KeysError::Changed(_) => Refusal::new(StatusCode::PRECONDITION_FAILED, "changed", error.to_string()),
            KeysError::Unfit { field, why } => Refusal::invalid_body(field, format!("`{field}` {why}")),
            other => {
                tracing::error!(error = %other, "the keys can't be read or written");
                Refusal::internal()
            }
        }
    }
}

impl From<VaultError> for Refusal {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Unfit { field, why } => Refusal::invalid_body(field, format!("the secret's {field} {why}")),
            VaultError::TooMany => Refusal::conflict("too_many", error.to_string()),
            other => {
                tracing::error!(error = %other, "the secrets can't be read or written");
                Refusal::internal()
            }
        }
    }
}

impl From<TokensError> for Refusal {
    fn from(error: TokensError) -> Self {
        match error {
            TokensError::NoSuchToken(_) => Refusal::not_found(error.to_string()),
            TokensError::Keys(error) => error.into(),
        }
    }
}

impl From<LedgerError> for Refusal {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::TooManyGroups { .. } => Refusal::invalid_query("by", error.to_string()),
            LedgerError::Behind => Refusal::busy(QUESTIONS),
            _ => {
                tracing::error!(%error, "the ledger can't be read");
                Refusal::internal()
            }
        }
    }
}

/// Refusals that any call may meet, for the document.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers; never made")]
pub(super) enum AnyRefusal {
    /// The token is missing or wrong.
    #[response(status = 401)]
    Unauthorized(Refused),
    /// The request is wrong: `error.field` says where.
    #[response(status = 400)]
    Invalid(Refused),
    /// Something failed inside the gateway.
    #[response(status = 500)]
    Internal(Refused),
}

/// Refusals that a call with a body may meet besides, for the document.
#[derive(IntoResponses)]
#[allow(dead_code, reason = "describes answers; never made")]
pub(super) enum BodyRefusal {
    /// The body is too large.
    #[response(status = 413)]
    TooLarge(Refused),
    /// The body is not said to be JSON.
    #[response(status = 415)]
    NotJson(Refused),
    /// A field is missing, unknown or wrong: `error.field` says which.
    #[response(status = 422)]
    Field(Refused),
}
