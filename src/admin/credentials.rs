//! `/api/v1/credentials`: how the keys of providers stand; verifying, disabling and enabling them. Never a key.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::audit::Change;
use super::input::{Asked, NoMore, Nothing};
use super::look::{CheckView, EgressView, Look, ms};
use super::page::marked;
use super::refusal::{AnyRefusal, Refusal, Refused};
use super::{AdminState, Api};
use crate::rules::{Credential, Provider};
use crate::upstream::health::VerifyError;
use crate::upstream::{Checks, CredentialState};

/// Credentials of providers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialList {
    /// In the order of the files.
    pub credentials: Vec<CredentialStatus>,
}

/// One credential and how it stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialStatus {
    /// The provider.
    pub provider: String,
    /// Its name within the provider.
    pub name: String,
    /// Whether there is a key.
    pub active: bool,
    /// Why not.
    pub inactive: Option<String>,
    /// Its share; 0: only if all others are unusable.
    pub weight: u32,
    /// Words by which targets pick among credentials.
    pub tags: Vec<String>,
    /// What its owner allows.
    pub limits: LimitsView,
    /// How the provider is reached with it, where that is not as the provider says.
    pub egress: EgressView,
    /// How it stands as a whole.
    pub state: StateView,
    /// How it stands for models, where that differs.
    pub models: Vec<ModelStateView>,
    /// The last active check.
    pub last_check: Option<CheckView>,
}

/// What a credential may be used for; null: no limit of ours.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct LimitsView {
    /// Requests in any 60 seconds.
    pub requests_per_minute: Option<u64>,
    /// Tokens (prompt and answer) in any 60 seconds.
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at once.
    pub concurrent: Option<u32>,
}

/// Whether a credential may be asked, and how it did.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct StateView {
    /// `ready`; `cooling`: not before `until`; `probing`: one request tries it; `quarantined`: barred for a fault of its own;
    /// `disabled`: by an operator; `inactive`: there is no key.
    pub standing: String,
    /// Why it cools or is barred: `rate_limited`, `unauthorised`, `quota_spent` ...
    pub reason: Option<String>,
    /// When it may be asked again, RFC 3339.
    #[schema(format = DateTime)]
    pub until: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Requests under way.
    pub in_flight: u32,
    /// Decaying average of the time to the first token.
    pub latency_ms: Option<u64>,
    /// Decaying share of successes, 0 to 1; null: nothing is known.
    pub success: Option<f64>,
}

/// How a credential stands for one model.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ModelStateView {
    /// The model, by the provider's name.
    pub model: String,
    /// How it stands.
    pub state: StateView,
}

/// What a credential's verification came to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Verified {
    /// The provider.
    pub provider: String,
    /// The credential's name.
    pub name: String,
    /// Whether it is good; null: the check could not tell, see `check`.
    pub good: Option<bool>,
    /// The check.
    pub check: CheckView,
}

/// Which credentials.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Only this provider's.
    provider: Option<String>,
}

fn state(state: &CredentialState, look: &Look) -> StateView {
    StateView {
        standing: state.standing.as_str().into(),
        reason: state.reason.map(|reason| reason.as_str().into()),
        until: look.until(state.until),
        failures: state.failures,
        in_flight: state.in_flight,
        latency_ms: state.latency.map(ms),
        success: state.success.is_finite().then_some(state.success),
    }
}

/// The credentials of a provider, or one of them.
fn statuses(provider: &Provider, only: Option<&str>, look: &Look, checks: &Checks) -> Vec<CredentialStatus> {
    let states = look.fleet.pool(&provider.name).map(|pool| pool.states(look.now));
    let mut by_name: HashMap<Arc<str>, Vec<CredentialState>> = HashMap::new();
    for state in states.into_iter().flatten() {
        by_name.entry(state.credential.clone()).or_default().push(state);
    }
    let wanted = |credential: &&Arc<Credential>| only.is_none_or(|only| *credential.name == *only);
    let view = |credential: &Arc<Credential>| {
        let states = by_name.get(&credential.name).map_or(&[][..], Vec::as_slice);
        let whole = states.iter().find(|state| state.model.is_none());
        let model = |of: &CredentialState| {
            Some(ModelStateView {
                model: of.model.as_ref()?.to_string(),
                state: state(of, look),
            })
        };
        CredentialStatus {
            provider: provider.name.to_string(),
            name: credential.name.to_string(),
            active: credential.inactive.is_none(),
            inactive: credential.inactive.as_deref().map(|why| look.masked(why)),
            weight: credential.weight,
            tags: credential.tags.iter().map(ToString::to_string).collect(),
            limits: LimitsView {
                requests_per_minute: credential.limits.requests_per_minute,
                tokens_per_minute: credential.limits.tokens_per_minute,
                concurrent: credential.limits.concurrent,
            },
            egress: (&credential.egress).into(),
            state: whole.map_or_else(|| nothing_known(credential), |whole| state(whole, look)),
            models: states.iter().filter_map(model).collect(),
            last_check: checks
                .of_credential(&provider.name, &credential.name)
                .map(|check| look.check(&check)),
        }
    };
    provider.credentials.iter().filter(wanted).map(view).collect()
}

fn nothing_known(credential: &Credential) -> StateView {
    StateView {
        standing: if credential.inactive.is_none() {
            "ready"
        } else {
            "inactive"
        }
        .into(),
        reason: None,
        until: None,
        failures: 0,
        in_flight: 0,
        latency_ms: None,
        success: None,
    }
}

/// The credentials of all providers: how each stands, and what the last check found.
#[utoipa::path(get, path = "/api/v1/credentials", tag = "credentials", operation_id = "list_credentials", params(Which),
    responses((status = 200, description = "The credentials.", body = CredentialList), AnyRefusal))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Asked(which, _): Asked<Which, NoMore>,
) -> Result<Json<CredentialList>, Refusal> {
    let look = Look::at(&api.state);
    let rules = look.fleet.rules();
    if let Some(name) = &which.provider
        && rules.provider(name).is_none()
    {
        let told = crate::observe::redact::printable(name, 64);
        return Err(Refusal::invalid_query(
            "provider",
            format!("there is no provider `{told}`"),
        ));
    }
    let wanted = |provider: &&Arc<Provider>| which.provider.as_deref().is_none_or(|name| *provider.name == *name);
    let providers = rules.providers.iter().filter(wanted);
    Ok(Json(CredentialList {
        credentials: providers
            .flat_map(|provider| statuses(provider, None, &look, &api.state.checks))
            .collect(),
    }))
}

/// Checks a credential now, and waits for what comes of it: a real, cheap call. A dead key is no refusal: see `good`.
#[utoipa::path(post, path = "/api/v1/credentials/{provider}/{name}/verify", tag = "credentials",
    operation_id = "verify_credential",
    params(("provider" = String, Path, description = "The provider."),
        ("name" = String, Path, description = "The credential's name.")),
    responses((status = 200, description = "It was checked.", body = Verified),
        (status = 404, description = "There is no such credential.", body = Refused),
        (status = 409, description = "It is inactive: there is no key.", body = Refused),
        (status = 503, description = "Too many checks at once.", body = Refused), AnyRefusal))]
pub(super) async fn verify(State(api): State<Arc<Api>>, at: At, Nothing: Nothing) -> Result<Response, Refusal> {
    let At { provider, name } = at;
    let checked = api.state.checks.verify(&provider, &name).await;
    let look = Look::at(&api.state);
    let result = checked.map_err(|error| match error {
        VerifyError::NoSuchCredential => At::unknown(),
        VerifyError::Inactive(why) => Refusal::inactive(format!("the credential is inactive: {}", look.masked(&why))),
        VerifyError::Busy => Refusal::busy("checks"),
    })?;
    let change = Change {
        target: format!("{provider}/{name}"),
        values: json!({ "result": result.finding.as_str() }),
    };
    let verified = Verified {
        provider,
        name,
        good: result.finding.credential_is_good(),
        check: look.check(&result),
    };
    Ok(marked(Json(verified).into_response(), None, Some(change)))
}

/// Takes a credential out of the choice until it is enabled again, also over reloads and restarts. Requests under way end.
/// Disabling it again changes nothing.
#[utoipa::path(post, path = "/api/v1/credentials/{provider}/{name}/disable", tag = "credentials",
    operation_id = "disable_credential",
    params(("provider" = String, Path, description = "The provider."),
        ("name" = String, Path, description = "The credential's name.")),
    responses((status = 200, description = "The credential, disabled.", body = CredentialStatus),
        (status = 404, description = "There is no such credential.", body = Refused),
        (status = 409, description = "It is inactive: there is no key.", body = Refused), AnyRefusal))]
pub(super) async fn disable(State(api): State<Arc<Api>>, at: At, Nothing: Nothing) -> Result<Response, Refusal> {
    set_disabled(api, at, true).await
}

/// Lets a credential be chosen again, and forgets what cools it, as a whole and for each model: a spent quota that was paid, a
/// quarantine that is over. Enabling one that is not disabled forgets that too.
#[utoipa::path(post, path = "/api/v1/credentials/{provider}/{name}/enable", tag = "credentials",
    operation_id = "enable_credential",
    params(("provider" = String, Path, description = "The provider."),
        ("name" = String, Path, description = "The credential's name.")),
    responses((status = 200, description = "The credential, enabled.", body = CredentialStatus),
        (status = 404, description = "There is no such credential.", body = Refused),
        (status = 409, description = "It is inactive: there is no key.", body = Refused), AnyRefusal))]
pub(super) async fn enable(State(api): State<Arc<Api>>, at: At, Nothing: Nothing) -> Result<Response, Refusal> {
    set_disabled(api, at, false).await
}

async fn set_disabled(api: Arc<Api>, at: At, disabled: bool) -> Result<Response, Refusal> {
    let look = Look::at(&api.state);
    let found = look.fleet.rules().provider(&at.provider).and_then(|provider| {
        let credential = provider.credentials.iter().find(|known| *known.name == *at.name)?;
        Some((provider.clone(), credential.clone()))
    });
    let Some((provider, credential)) = found else {
        return Err(At::unknown());
    };
    if let Some(why) = &credential.inactive {
        let why = look.masked(why);
        return Err(Refusal::inactive(format!("the credential is inactive anyway: {why}")));
    }
    let (pool, name) = (look.fleet.pool(&provider.name).cloned(), credential.name.clone());
    // It is written to disk.
    let done = api.blocking(move |_| pool.is_some_and(|pool| pool.set_disabled(&name, disabled)));
    if !done.await? {
        return Err(At::unknown());
    }
    let look = Look::at(&api.state);
    let status = statuses(&provider, Some(&credential.name), &look, &api.state.checks).pop();
    let change = Change {
        target: format!("{}/{}", provider.name, credential.name),
        values: Value::Null,
    };
    Ok(marked(
        Json(status.ok_or_else(At::unknown)?).into_response(),
        None,
        Some(change),
    ))
}

/// How one credential stands.
pub(super) fn status(state: &AdminState, provider: &str, name: &str) -> Option<CredentialStatus> {
    let look = Look::at(state);
    let provider = look.fleet.rules().provider(provider)?;
    statuses(provider, Some(name), &look, &state.checks).pop()
}

/// The credential in the path.
pub(super) struct At {
    pub(super) provider: String,
    pub(super) name: String,
}

impl At {
    /// What was sent is not said back: it may be a key.
    pub(super) fn unknown() -> Refusal {
        Refusal::not_found("there is no such credential; GET /api/v1/credentials lists them")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for At {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let sent = Path::<(String, String)>::from_request_parts(parts, state).await;
        // What is no UTF-8 is no name either.
        let Path((provider, name)) = sent.map_err(|_| Self::unknown())?;
        Ok(At { provider, name })
    }
}
