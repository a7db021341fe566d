//! The admin API: its own listener, tokens with roles, JSON, an OpenAPI 3.1 document at `/api/v1/openapi.json`.
//!
//! One file per resource. Around all of them, outermost first: headers of every answer, the token ([`auth`]), the record
//! of writes ([`audit`]), the role ([`roles`]), calls that are sent twice ([`idempotency`]). What is refused is refused in one
//! shape ([`refusal`]).

pub mod account;
pub mod added;
pub mod addresses;
pub mod alerts;
pub mod audit;
mod audit_file;
mod audit_head;
pub mod audit_log;
mod auth;
pub mod credentials;
mod days;
pub mod export;
pub mod groups;
mod idempotency;
mod input;
pub mod key_secrets;
mod key_view;
pub mod keys;
pub mod ledger;
pub mod look;
mod page;
mod pause;
pub mod policy;
pub mod prices;
pub mod providers;
pub mod refusal;
mod roles;
pub mod routes;
pub mod row;
pub mod rules;
pub mod secrets;
pub mod status;
mod times;
pub mod tokens;
pub mod usage;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config::Secret;
use crate::egress::Probe;
use crate::keys::{Keys, Tokens};
use crate::ledger::{Ledger, LedgerError};
use crate::rules::Live;
use crate::secrets::Vault;
use crate::upstream::{Checks, LiveFleet};

pub use audit::Audit;
pub use pause::{Pause, Paused};
use refusal::Refusal;

/// Where the document is; the only path that needs no token.
pub const OPENAPI_PATH: &str = "/api/v1/openapi.json";

/// Largest request body, in bytes; 413 above.
pub const MAX_BODY: usize = 64 * 1024;

/// Questions to the ledger answered at once (exports included); others wait [`QUESTION_WAIT`], then 503.
const MAX_QUESTIONS: usize = 4;

/// How long a question to the ledger waits for its turn.
const QUESTION_WAIT: Duration = Duration::from_secs(5);

/// What the admin API works on.
#[derive(Clone)]
pub struct AdminState {
    /// Client keys.
    pub keys: Arc<Keys>,
    /// Secrets entered here.
    pub vault: Arc<Vault>,
    /// The ledger.
    pub ledger: Ledger,
    /// The rules.
    pub rules: Arc<Live>,
    /// The providers at work, built from the rules.
    pub fleet: Arc<LiveFleet>,
    /// Their active checks.
    pub checks: Checks,
    /// The owner's token of the first start. Empty: it lets nobody in.
    pub token: Secret,
    /// All other tokens. Every call but the document must bear one.
    pub tokens: Arc<Tokens>,
    /// When the process began.
    pub started: crate::clock::UnixMicros,
    /// What time it is.
    pub clock: Clock,
    /// Where writes are recorded.
    pub audit: Arc<Audit>,
    /// What tries out the URLs that callers enter.
    pub probe: Arc<Probe>,
    /// Holds calls back while the gateway is upgraded.
    pub pause: Pause,
    /// What is told to webhooks.
    pub alerts: Alerts,
}

/// What handlers share.
struct Api {
    state: AdminState,
    questions: Arc<Semaphore>,
    document: OnceLock<String>,
    answers: idempotency::Answers,
}

impl Api {
    /// Runs work which blocks (the store, the disk) off the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&AdminState) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let state = self.state.clone();
        tokio::task::spawn_blocking(move || work(&state))
            .await
            .map_err(|_panicked| Refusal::internal())
    }

    /// Asks the ledger when it is this call's turn. The turn lasts until the ledger has answered, also where nobody waits
    /// for the answer any more.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Ledger) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let turn = self.question().await?;
        let answer = self
            .blocking(move |state| {
                let _turn = turn;
                question(&state.ledger)
            })
            .await?;
        Ok(answer?)
    }

    /// A turn to ask the ledger; given back when dropped.
    async fn question(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        match tokio::time::timeout(QUESTION_WAIT, Arc::clone(&self.questions).acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(Refusal::busy(refusal::QUESTIONS)),
        }
    }
}

/// The routes and the document, from one list.
fn paths() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(frame())
        .routes(routes!(openapi))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::show, keys::update, keys::delete))
        .routes(routes!(keys::revoke))
        .routes(routes!(key_secrets::rotate))
        .routes(routes!(key_secrets::import))
        .routes(routes!(groups::list, groups::create))
        .routes(routes!(groups::show, groups::update, groups::delete))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(audit_log::list))
        .routes(routes!(audit_log::verify))
        .routes(routes!(usage::report))
        .routes(routes!(usage::rows))
        .routes(routes!(usage::requests))
        .routes(routes!(export::export))
        .routes(routes!(status::status))
        .routes(routes!(ledger::show))
        .routes(routes!(ledger::verify))
        .routes(routes!(routes::routes))
        .routes(routes!(providers::providers))
        .routes(routes!(prices::show))
        .routes(routes!(secrets::list))
        .routes(routes!(secrets::set, secrets::delete))
        .routes(routes!(credentials::list, added::add))
        .routes(routes!(added::remove))
        .routes(routes!(credentials::verify))
        .routes(routes!(credentials::disable))
        .routes(routes!(credentials::enable))
        .routes(routes!(rules::reload))
        .routes(routes!(addresses::test))
        .routes(routes!(alerts::list))
        .routes(routes!(alerts::test))
}

/// The document without its paths.
fn frame() -> OpenApi {
    let info = InfoBuilder::new()
        .title("Tollgate admin API")
        .description(Some(
            "Keys, usage, rules and state of one gateway. Times are RFC 3339, UTC; sizes are bytes; durations carry \
             their unit in their name; money is a text in dollars. Every refusal has the shape of `Refused`. Each call says \
             which role its token needs: a `viewer` looks, an `operator` changes keys, groups, credentials and rules, an \
             `owner` may do everything. Calls with a body take JSON only, of at most 65536 bytes; fields and parameters that \
             are not known are refused.",
        ))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An admin token: the owner's is written to `first-run.toml` in the data folder at the first start, others are \
             made by `POST /api/v1/tokens`.",
        ))
        .build();
    let components = ComponentsBuilder::new()
        .security_scheme("token", SecurityScheme::Http(token))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .components(Some(components))
        .security(Some([SecurityRequirement::new("token", Vec::<String>::new())]))
        .build()
}

/// The OpenAPI document.
pub fn document() -> OpenApi {
    let mut document = paths().into_openapi();
    roles::describe(&mut document);
    document
}

/// The router. Serve it with `into_make_service_with_connect_info::<SocketAddr>()`, so that the audit log knows
/// addresses; it works without.
pub fn router(state: AdminState) -> axum::Router {
    let pause = state.pause.clone();
    let api = Arc::new(Api {
        state,
        questions: Arc::new(Semaphore::new(MAX_QUESTIONS)),
        document: OnceLock::new(),
        answers: idempotency::Answers::default(),
    });
    let (router, mut document) = paths().split_for_parts();
    roles::describe(&mut document);
    // A document that can't be written is answered with 500 by the handler.
    if let Ok(text) = document.to_pretty_json() {
        let _ = api.document.set(text);
    }
    router
        .fallback(async || Refusal::not_found("there is nothing at this path; see /api/v1/openapi.json"))
        .method_not_allowed_fallback(async || Refusal::method_not_allowed())
        .layer(from_fn_with_state(Arc::clone(&api), idempotency::once))
        .layer(from_fn_with_state(Arc::clone(&api), roles::require_role))
        .layer(from_fn_with_state(Arc::clone(&api), audit::record_writes))
        .layer(from_fn_with_state(Arc::clone(&api), auth::require_token))
        .layer(from_fn_with_state(pause, pause::hold))
        .layer(from_fn(answer_headers))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(api)
}

/// The OpenAPI document. Needs no token.
#[utoipa::path(get, path = OPENAPI_PATH, tag = "document", security(()),
    responses((status = 200, description = "This document.", body = serde_json::Value)))]
async fn openapi(State(api): State<Arc<Api>>) -> Result<Response, Refusal> {
    let text = api.document.get().ok_or_else(Refusal::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], text.clone()).into_response())
}

/// Headers of every answer: nothing here may be kept by a cache or guessed at by a browser.
async fn answer_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
