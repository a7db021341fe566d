//! `/api/v1/keys`: the client keys.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::{Asked, Given, NoMore, Nothing};
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use crate::ids::KeyId;
use crate::keys::{ClientKey, NewKey};
use crate::observe::rfc3339;

/// A client key, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyView {
    /// Its public part: the twelve characters after `sk-tg-`.
    #[schema(example = "AbCdEfGhIjKl")]
    pub id: String,
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// Words by which routes tell keys apart.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What people may recognise it by.
    #[schema(example = "sk-tg-AbCdEfGhIjKl-…wxyz")]
    pub hint: String,
    /// When it was made, RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was revoked, RFC 3339; null: it is good.
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
}

impl From<&ClientKey> for KeyView {
    fn from(key: &ClientKey) -> Self {
        KeyView {
            id: key.id.to_string(),
            name: key.name.clone(),
            owner: key.owner.clone(),
            tags: key.tags.clone(),
            hint: format!("sk-tg-{}-…{}", key.id, key.last4),
            created_at: rfc3339(key.created_at).to_string(),
            revoked_at: key.revoked_at.map(|at| rfc3339(at).to_string()),
        }
    }
}

/// All keys.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// Oldest first, the revoked ones too.
    pub keys: Vec<KeyView>,
}

/// What a new key is given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyWanted {
    /// A name for people, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// Whom it belongs to, 1 to 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 100)]
    pub owner: Option<String>,
    /// Words by which routes tell keys apart: at most 16, of 1 to 64 characters, none twice.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 16)]
    pub tags: Vec<String>,
}

/// A key just made.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyMade {
    /// What is known of it.
    #[serde(flatten)]
    pub view: KeyView,
    /// The key itself. Shown this once; it is not stored.
    #[schema(example = "sk-tg-AbCdEfGhIjKl-…")]
    pub key: String,
}

/// Every client key, oldest first, the revoked ones too.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "list_keys",
    responses((status = 200, description = "All keys.", body = KeyList), AnyRefusal))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Result<Json<KeyList>, Refusal> {
    // Blocking, as all calls of the keys: a change holds their lock while it is written to disk.
    let keys = api.blocking(|state| state.keys.list()).await?;
    Ok(Json(KeyList {
        keys: keys.iter().map(|key| KeyView::from(&**key)).collect(),
    }))
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", operation_id = "create_key", request_body = KeyWanted,
    responses((status = 201, description = "The key was made.", body = KeyMade), AnyRefusal, BodyRefusal))]
pub(super) async fn create(State(api): State<Arc<Api>>, Given(wanted): Given<KeyWanted>) -> Result<Response, Refusal> {
    let new = NewKey {
        name: wanted.name.trim().to_owned(),
        owner: wanted.owner.map(|owner| owner.trim().to_owned()),
        tags: wanted.tags.iter().map(|tag| tag.trim().to_owned()).collect(),
        ..NewKey::default()
    };
    let (key, text) = api.blocking(move |state| state.keys.create(new)).await??;
    let view = KeyView::from(&*key);
    let change = Change {
        target: view.id.clone(),
        values: json!({ "name": view.name, "owner": view.owner, "tags": view.tags }),
    };
    let made = KeyMade {
        view,
        key: text.0.expose().to_owned(),
    };
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}

/// One key.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "show_key",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key.", body = KeyView),
        (status = 404, description = "There is no such key.", body = Refused), AnyRefusal))]
pub(super) async fn show(State(api): State<Arc<Api>>, Id(id): Id) -> Result<Json<KeyView>, Refusal> {
    let asked = id.clone();
    match api.blocking(move |state| state.keys.get(&asked)).await? {
        Some(key) => Ok(Json(KeyView::from(&*key))),
        None => Err(Refusal::not_found(format!("there is no key {id}"))),
    }
}

/// Revokes a key: refused from now on. Revoking it again changes nothing.
#[utoipa::path(post, path = "/api/v1/keys/{id}/revoke", tag = "keys", operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key, revoked.", body = KeyView),
        (status = 404, description = "There is no such key.", body = Refused), AnyRefusal))]
pub(super) async fn revoke(State(api): State<Arc<Api>>, Id(id): Id, Nothing: Nothing) -> Result<Response, Refusal> {
    let key = api.blocking(move |state| state.keys.revoke(&id)).await??;
    let view = KeyView::from(&*key);
    let change = Change {
        target: view.id.clone(),
        values: serde_json::Value::Null,
    };
    let mut response = Json(view).into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}

/// The same as `POST /api/v1/keys/{id}/revoke`: a key is never forgotten, its rows in the ledger need it.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "delete_key",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key, revoked.", body = KeyView),
        (status = 404, description = "There is no such key.", body = Refused), AnyRefusal))]
pub(super) async fn delete(api: State<Arc<Api>>, id: Id, nothing: Nothing) -> Result<Response, Refusal> {
    revoke(api, id, nothing).await
}

/// The key's id in the path.
pub(super) struct Id(KeyId);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        // What is no UTF-8 is no id either.
        let sent = Path::<String>::from_request_parts(parts, state)
            .await
            .map_or(String::new(), |Path(sent)| sent);
        key_id(&sent).map(Id)
    }
}

/// The id within what was sent. A whole key is accepted in its place, and what is not an id is never said back, since it
/// may hold a secret.
fn key_id(sent: &str) -> Result<KeyId, Refusal> {
    let id = sent.strip_prefix("sk-tg-").unwrap_or(sent);
    let id = id.split_once('-').map_or(id, |(id, _secret)| id);
    if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        Ok(KeyId(id.into()))
    } else {
        Err(Refusal::not_found(
            "there is no such key: an id is the 12 characters after `sk-tg-`",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_found_in_a_whole_key_and_nothing_else_is_said_back() {
        for sent in [
            "AbCdEfGhIjKl",
            "sk-tg-AbCdEfGhIjKl",
            "sk-tg-AbCdEfGhIjKl-canarycanarycanarycanarycanary12",
        ] {
            assert_eq!(key_id(sent).ok(), Some(KeyId("AbCdEfGhIjKl".into())), "{sent}");
        }
        for sent in ["", "canary", "canarycanarycanary", "sk-tg-", "AbCdEfGhIjK\u{e9}"] {
            let refusal = format!("{:?}", key_id(sent).expect_err("no id"));
            assert!(!refusal.contains("canary"), "{refusal}");
        }
    }
}
