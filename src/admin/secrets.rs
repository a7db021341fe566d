//! `/api/v1/secrets`: secrets by name, for `key = "store:NAME"` in the rules. They go in and are used; nothing gives one back.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::audit::Change;
use super::input::{Asked, Confided, Confidence, NoMore, Nothing, SecretText};
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use super::{AdminState, Api};
use crate::config::is_secret_name;
use crate::observe::rfc3339;
use crate::rules::Rules;
use crate::secrets::Known;

/// A secret, without its value.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretView {
    /// Its name.
    #[schema(example = "provider.main")]
    pub name: String,
    /// When it was first entered, RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was last entered, RFC 3339.
    #[schema(format = DateTime)]
    pub changed_at: String,
    /// Four characters of a keyed hash: the same for the same secret. Null: it was changed in the store and can't be opened.
    #[schema(example = "k3xd")]
    pub fingerprint: Option<String>,
    /// Credentials that use it, `PROVIDER/NAME`.
    pub used_by: Vec<String>,
    /// Whether the rules refer to it at all: in a credential, or in a proxy's password.
    pub in_use: bool,
}

/// All secrets.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct SecretList {
    /// By name.
    pub secrets: Vec<SecretView>,
    /// How many are still sealed under the master key before; 0: none, and that key is not needed any more.
    pub behind: usize,
}

/// A secret to be kept.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretWanted {
    /// The secret: visible ASCII, at most 16 KiB, without white space around it.
    #[schema(value_type = String, write_only, min_length = 1, max_length = 16384)]
    secret: SecretText,
}

impl Confidence for SecretWanted {
    const FIELDS: &'static [&'static str] = &["secret"];
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct How {
    /// Also if the rules refer to it: what uses it becomes inactive at once.
    force: Option<bool>,
}

/// Every secret: what it is called, when it was entered, and which credentials use it. Never its value.
#[utoipa::path(get, path = "/api/v1/secrets", tag = "secrets", operation_id = "list_secrets",
    responses((status = 200, description = "All secrets.", body = SecretList), AnyRefusal))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Result<Json<SecretList>, Refusal> {
    // Blocking: a change holds the lock while it is written to disk.
    let (known, behind) = api.blocking(|state| (state.vault.list(), state.vault.behind())).await?;
    let rules = api.state.rules.load();
    let mut users: std::collections::HashMap<&str, Vec<String>> = std::collections::HashMap::new();
    for (stored, user) in credentials(&rules) {
        users.entry(stored).or_default().push(user);
    }
    let view = |known: &Known| {
        let used_by = users.remove(&*known.name).unwrap_or_default();
        view_of(known, used_by, &rules)
    };
    Ok(Json(SecretList {
        secrets: known.iter().map(view).collect(),
        behind,
    }))
}

/// Enters a secret, or another in its place. Credentials which use it have it from their next request on; no file changes.
#[utoipa::path(put, path = "/api/v1/secrets/{name}", tag = "secrets", operation_id = "set_secret",
    params(("name" = String, Path, description = "Its name: 1 to 129 of a-z, 0-9, -, _ and `.`.")),
    request_body = SecretWanted,
    responses((status = 200, description = "Another was in its place.", body = SecretView),
        (status = 201, description = "It is new.", body = SecretView),
        (status = 409, description = "There are too many.", body = Refused), AnyRefusal, BodyRefusal))]
pub(super) async fn set(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    Confided(wanted): Confided<SecretWanted>,
) -> Result<Response, Refusal> {
    let Some(name) = name else {
        return Err(Refusal::invalid_body(
            "name",
            format!("the secret's name {}", crate::config::SECRET_NAME_RULE),
        ));
    };
    let done = api.blocking(move |state| {
        let _turn = state.vault.turn();
        let done = state.vault.set(&name, wanted.secret.0)?;
        follow(state);
        Ok::<_, Refusal>(done)
    });
    let (known, fresh) = done.await??;
    let status = if fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok(answer(&api, status, &known))
}

/// Deletes a secret. One which the rules refer to is deleted with `force=true` only.
#[utoipa::path(delete, path = "/api/v1/secrets/{name}", tag = "secrets", operation_id = "delete_secret",
    params(("name" = String, Path, description = "Its name."), How),
    responses((status = 200, description = "It is gone; this is what was known of it.", body = SecretView),
        (status = 404, description = "There is no such secret.", body = Refused),
        (status = 409, description = "The rules refer to it.", body = Refused), AnyRefusal))]
pub(super) async fn delete(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    Asked(how, _): Asked<How, NoMore>,
    Nothing: Nothing,
) -> Result<Response, Refusal> {
    let name = name.ok_or_else(unknown)?;
    let done = api.blocking(move |state| {
        let _turn = state.vault.turn();
        let known = state.vault.list().into_iter().find(|known| *known.name == *name);
        let known = known.ok_or_else(unknown)?;
        if state.rules.load().stored.contains(&*name) && how.force != Some(true) {
            return Err(Refusal::conflict(
                "in_use",
                "the rules refer to this secret, see `used_by`; take that out first, or say force=true",
            ));
        }
        state.vault.delete(&name)?;
        follow(state);
        Ok(known)
    });
    let known = done.await??;
    Ok(answer(&api, StatusCode::OK, &known))
}

/// The rules in force take the secrets as they are now.
pub(super) fn follow(state: &AdminState) {
    if state.rules.refresh().is_err() {
        // It told the log why. The secret is kept, and taken with the next reload.
        tracing::error!("the rules in force can't be compiled with the changed secret");
    }
}

/// The credentials with a key in the store: its name, `PROVIDER/NAME`.
fn credentials(rules: &Rules) -> impl Iterator<Item = (&str, String)> {
    rules.providers.iter().flat_map(|provider| {
        let stored = |credential: &'_ Arc<crate::rules::Credential>| credential.stored.is_some();
        let mine = provider.credentials.iter().filter(move |credential| stored(credential));
        mine.filter_map(move |credential| {
            Some((
                credential.stored.as_deref()?,
                format!("{}/{}", provider.name, credential.name),
            ))
        })
    })
}

fn view_of(known: &Known, used_by: Vec<String>, rules: &Rules) -> SecretView {
    SecretView {
        name: known.name.to_string(),
        created_at: rfc3339(known.created_at).to_string(),
        changed_at: rfc3339(known.changed_at).to_string(),
        fingerprint: known.fingerprint.clone(),
        used_by,
        in_use: rules.stored.contains(&known.name),
    }
}

fn answer(api: &Api, status: StatusCode, known: &Known) -> Response {
    let rules = api.state.rules.load();
    let mine = credentials(&rules).filter(|(stored, _)| *stored == &*known.name);
    let view = view_of(known, mine.map(|(_, user)| user).collect(), &rules);
    let change = Change {
        target: format!("secret {}", view.name),
        values: json!({ "fingerprint": view.fingerprint }),
    };
    let mut response = (status, Json(view)).into_response();
    response.extensions_mut().insert(change);
    response
}

/// What was sent is not said back: it may be a key.
fn unknown() -> Refusal {
    Refusal::not_found("there is no such secret; GET /api/v1/secrets lists them")
}

/// The name in the path; `None`: it can't be one.
pub(super) struct Name(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let sent = Path::<String>::from_request_parts(parts, state).await;
        Ok(Name(
            sent.ok().map(|Path(name)| name).filter(|name| is_secret_name(name)),
        ))
    }
}
