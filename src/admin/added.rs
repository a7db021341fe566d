//! `POST /api/v1/credentials` and `DELETE /api/v1/credentials/{provider}/{name}`: credentials entered here. The key goes into the
//! store, what else there is to say into `rules/credentials-added.toml`; both or neither.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::audit::Change;
use super::credentials::{At, CredentialStatus, status};
use super::input::{Confided, Confidence, Nothing, SecretText};
use super::page::marked;
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use super::secrets::follow;
use super::{AdminState, Api};
use crate::config::{Secret, is_secret_name};
use crate::observe::redact::Masker;
use crate::rules::added::{Added, FILE};
use crate::rules::{CredentialLimits, NotRewritten};
use crate::secrets::VaultError;

/// What a credential may be called.
const NAME_RULE: &str = "a credential's name has 1 to 64 of the characters a-z, 0-9, - and _, and is not a key";

/// A credential to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CredentialWanted {
    /// The provider, as the rules call it.
    #[schema(min_length = 1, max_length = 64)]
    provider: String,
    /// A name for it there: 1 to 64 of a-z, 0-9, - and _.
    #[schema(min_length = 1, max_length = 64)]
    name: String,
    /// The provider's key. It is sealed in the store as the secret `PROVIDER.NAME`.
    #[schema(value_type = String, write_only, min_length = 1, max_length = 16384)]
    secret: SecretText,
    /// Its share, 0 to 1000; 0: only if all others are unusable. Without it: 1.
    #[schema(maximum = 1000)]
    weight: Option<u32>,
    /// Words by which targets pick among credentials.
    #[serde(default)]
    #[schema(max_items = 32)]
    tags: Vec<String>,
    /// What its owner allows.
    limits: Option<LimitsWanted>,
}

impl Confidence for CredentialWanted {
    const FIELDS: &'static [&'static str] = &["provider", "name", "secret", "weight", "tags", "limits"];
}

/// What a credential may be used for; what is left out has no limit of ours.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LimitsWanted {
    /// Requests in any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub requests_per_minute: Option<u64>,
    /// Tokens (prompt and answer) in any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub tokens_per_minute: Option<u64>,
    /// Requests under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1)]
    pub concurrent: Option<u32>,
}

/// Adds a key to a provider, in force at once. It is written into `credentials-added.toml` in the rules folder; if the rules
/// would not be good with it, nothing changes.
#[utoipa::path(post, path = "/api/v1/credentials", tag = "credentials", operation_id = "add_credential",
    request_body = CredentialWanted,
    responses((status = 201, description = "It was added.", body = CredentialStatus),
        (status = 409, description = "There is one of that name already, or the rules have problems: see `error.problems`.",
            body = Refused),
        AnyRefusal, BodyRefusal))]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    Confided(wanted): Confided<CredentialWanted>,
) -> Result<Response, Refusal> {
    let (provider, name) = api.blocking(move |state| put(state, wanted)).await??;
    let status = status(&api.state, &provider, &name).ok_or_else(Refusal::internal)?;
    let change = Change {
        target: format!("{provider}/{name}"),
        values: json!({ "weight": status.weight, "tags": status.tags, "limits": status.limits }),
    };
    Ok(marked(
        (StatusCode::CREATED, Json(status)).into_response(),
        None,
        Some(change),
    ))
}

/// The secret first, since the rules refer to it; taken back if they are not taken.
fn put(state: &AdminState, wanted: CredentialWanted) -> Result<(String, String), Refusal> {
    let _turn = state.vault.turn();
    let CredentialWanted {
        provider,
        name,
        secret: SecretText(secret),
        weight,
        tags,
        limits,
    } = wanted;
    let limits = limits.unwrap_or_default();
    let rules = state.rules.load_full();
    // Also the first to see what is sent: what it passes is a name, and may be said back.
    let Some(known) = rules.provider(&provider) else {
        return Err(Refusal::invalid_body(
            "provider",
            "there is no provider of that name in the rules",
        ));
    };
    if known.credentials.iter().any(|one| *one.name == *name) {
        let message = "the provider has a credential of that name; to give it another key, set its secret";
        return Err(Refusal::conflict("name_taken", message));
    }
    // A key put where its name belongs: names are shown everywhere.
    if !is_secret_name(&name) {
        return Err(Refusal::invalid_body("name", NAME_RULE));
    }
    let stored = format!("{provider}.{name}");
    if rules.stored.contains(&*stored) {
        let message = "the secret PROVIDER.NAME is used by another credential; choose another name";
        return Err(Refusal::conflict("name_taken", message));
    }
    let before = state.vault.get(&stored);
    state.vault.set(&stored, secret.clone()).map_err(|error| match error {
        VaultError::Unfit { field: "name", .. } => Refusal::invalid_body("name", NAME_RULE),
        other => other.into(),
    })?;
    let added = Added {
        provider: &provider,
        name: &name,
        stored: &stored,
        weight,
        tags: &tags,
        limits: CredentialLimits {
            requests_per_minute: limits.requests_per_minute,
            tokens_per_minute: limits.tokens_per_minute,
            concurrent: limits.concurrent,
        },
    };
    match state.rules.add_credential(&added) {
        Ok(_) => Ok((provider, name)),
        Err(refused) => {
            let undone = match before {
                Some(before) => state.vault.set(&stored, before).map(|_| ()),
                None => state.vault.delete(&stored).map(|_| ()),
            };
            if let Err(error) = undone {
                tracing::error!(%error, secret = stored, "a secret nobody uses could not be taken back");
            }
            Err(refusal(state, refused, Some(secret)))
        }
    }
}

/// Takes a credential out that was added here, and deletes its key. Requests under way end. Those in other files of the rules are
/// their owners': they are taken out there.
#[utoipa::path(delete, path = "/api/v1/credentials/{provider}/{name}", tag = "credentials",
    operation_id = "remove_credential",
    params(("provider" = String, Path, description = "The provider."),
        ("name" = String, Path, description = "The credential's name.")),
    responses((status = 200, description = "It is gone; this is how it stood.", body = CredentialStatus),
        (status = 404, description = "There is no such credential.", body = Refused),
        (status = 409, description = "It stands in another file, or the rules have problems.", body = Refused),
        AnyRefusal))]
pub(super) async fn remove(State(api): State<Arc<Api>>, at: At, Nothing: Nothing) -> Result<Response, Refusal> {
    let At { provider, name } = at;
    let gone = status(&api.state, &provider, &name).ok_or_else(At::unknown)?;
    let done = api.blocking(move |state| {
        let _turn = state.vault.turn();
        state
            .rules
            .remove_credential(&provider, &name)
            .map_err(|refused| refusal(state, refused, None))?;
        let stored = format!("{provider}.{name}");
        if !state.rules.load().stored.contains(&*stored) && state.vault.delete(&stored)? {
            follow(state);
        }
        Ok::<_, Refusal>(())
    });
    done.await??;
    let change = Change {
        target: format!("{}/{}", gone.provider, gone.name),
        values: Value::Null,
    };
    Ok(marked(Json(gone).into_response(), None, Some(change)))
}

fn refusal(state: &AdminState, refused: NotRewritten, secret: Option<Secret>) -> Refusal {
    match refused {
        NotRewritten::Refused(problems) => {
            let mut secrets = state.rules.load().secrets();
            secrets.extend(secret);
            Refusal::rules_refused(super::rules::problems(&problems, &Masker::new(&secrets)))
        }
        NotRewritten::Missing => Refusal::conflict(
            "not_added_here",
            format!("it does not stand in {FILE} as it was added; take it out of the rules where it stands"),
        ),
        NotRewritten::Io(error) => {
            tracing::error!(%error, file = FILE, "the rules folder can't be written");
            Refusal::conflict(
                "read_only",
                format!("{FILE} can't be written in the rules folder: see the gateway's log"),
            )
        }
    }
}
