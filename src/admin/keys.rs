//! `/api/v1/keys`: the client keys. New secrets for them, and keys of other systems, are in [`super::key_secrets`].

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::input::{Asked, Given, Nothing};
pub use super::key_view::{KeySecretView, KeyView, StateWord};
use super::page::{IfMatch, PageOf, changed, marked, moment};
use super::policy::{PolicyWanted, Set};
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};
use crate::keys::{NewKey, Wanted};

/// A page of keys.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct KeyList {
    /// Oldest first, the revoked ones too.
    pub keys: Vec<KeyView>,
    /// Give this as `cursor` to go on; null: this was the last page.
    pub next: Option<String>,
}

/// What a new key is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
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
    /// The group it belongs to; it must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(min_length = 1, max_length = 64)]
    pub group: Option<String>,
    /// When it ends by itself, RFC 3339; null: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// What it may do; null: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyWanted>,
}

/// A change of a key. Absent: stays as it is; null: cleared.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyPatch {
    /// A name for people; can't be cleared.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 100)]
    pub name: Set<String>,
    /// Whom it belongs to.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 100)]
    pub owner: Set<String>,
    /// Words by which routes tell keys apart, all of them.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<Vec<String>>, max_items = 16)]
    pub tags: Set<Vec<String>>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64)]
    pub group: Set<String>,
    /// When it ends by itself, RFC 3339.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Set<String>,
    /// What it may do: fields that are absent stay as they are. Null: everything.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<PolicyWanted>)]
    pub policy: Set<PolicyWanted>,
}

/// A key just made, or with a new secret.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct KeyMade {
    /// What is known of it.
    #[serde(flatten)]
    pub view: KeyView,
    /// The key itself. Shown this once; it is not stored.
    #[schema(example = "sk-tg-AbCdEfGhIjKl-…")]
    pub key: String,
}

/// Which keys. Every condition that is given must hold.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this group.
    group: Option<String>,
    /// Of this owner.
    owner: Option<String>,
    /// With this tag.
    tag: Option<String>,
    /// In this state.
    #[param(value_type = Option<StateWord>, inline)]
    state: Option<String>,
}

impl KeyMade {
    /// The answer to what made it.
    pub(super) fn answer(self, values: Value) -> Response {
        let (id, version) = (self.view.id.clone(), self.view.version);
        changed(StatusCode::CREATED, self, &id, version, values)
    }
}

fn answer(view: KeyView, values: Value) -> Response {
    let (id, version) = (view.id.clone(), view.version);
    changed(StatusCode::OK, view, &id, version, values)
}

fn trimmed(text: String) -> String {
    text.trim().to_owned()
}

impl KeyWanted {
    /// What the keys take. `at`: where in the body it stands.
    pub(super) fn read(self) -> Result<NewKey, Refusal> {
        let mut key = NewKey {
            name: trimmed(self.name),
            owner: self.owner.map(trimmed),
            tags: self.tags.into_iter().map(trimmed).collect(),
            group: self.group.map(|id| GroupId(id.into())),
            expires_at: self.expires_at.map(|text| moment("expires_at", &text)).transpose()?,
            ..NewKey::default()
        };
        if let Some(policy) = self.policy {
            policy.read()?.apply(&mut key.policy);
        }
        Ok(key)
    }
}

/// Client keys, oldest first, the revoked ones too, page by page.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", operation_id = "list_keys", params(Which, PageOf),
    responses((status = 200, description = "A page of keys.", body = KeyList), AnyRefusal))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Asked(which, page): Asked<Which, PageOf>,
) -> Result<Json<KeyList>, Refusal> {
    let state = which.state.as_deref().map(str::parse).transpose().map_err(|()| {
        let told = "`state` is active, disabled, expired, revoked, group_disabled or group_deleted";
        Refusal::invalid_query("state", told)
    })?;
    let wanted = Wanted {
        group: which.group.map(|id| GroupId(id.into())),
        owner: which.owner,
        tag: which.tag,
        state,
    };
    let (limit, after) = (page.limit()?, page.after(read_cursor)?);
    // Blocking, as all calls of the keys: a change holds their lock while it is written to disk.
    let list = api.blocking(move |state| {
        let page = state.keys.page(&wanted, after.as_ref(), limit);
        let now = state.clock.now();
        KeyList {
            keys: page.keys.iter().map(|record| KeyView::of(record, now)).collect(),
            next: page.next.map(|(at, id)| format!("{}.{id}", at.0)),
        }
    });
    Ok(Json(list.await?))
}

fn read_cursor(text: &str) -> Option<(UnixMicros, KeyId)> {
    let (at, id) = text.split_once('.')?;
    Some((UnixMicros(at.parse().ok()?), KeyId(id.into())))
}

/// Makes a key. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", operation_id = "create_key", request_body = KeyWanted,
    responses((status = 201, description = "The key was made.", body = KeyMade), AnyRefusal, BodyRefusal))]
pub(super) async fn create(State(api): State<Arc<Api>>, Given(wanted): Given<KeyWanted>) -> Result<Response, Refusal> {
    let values = json!(wanted);
    let new = wanted.read()?;
    let made = api.blocking(move |state| {
        let (key, text) = state.keys.create(new)?;
        let record = state.keys.record(&key.id);
        let record = record.ok_or_else(|| crate::keys::KeysError::NoSuchKey(key.id.clone()))?;
        Ok::<_, crate::keys::KeysError>(KeyMade {
            view: KeyView::of(&record, state.clock.now()),
            key: text.0.expose().to_owned(),
        })
    });
    Ok(made.await??.answer(values))
}

/// One key.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "show_key",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key.", body = KeyView),
        (status = 404, description = "There is no such key.", body = Refused), AnyRefusal))]
pub(super) async fn show(State(api): State<Arc<Api>>, Id(id): Id) -> Result<Response, Refusal> {
    let view = api.blocking(move |state| {
        let record = state.keys.record(&id);
        record
            .map(|record| KeyView::of(&record, state.clock.now()))
            .ok_or_else(|| Refusal::not_found(format!("there is no key {id}")))
    });
    let view = view.await??;
    let version = view.version;
    Ok(marked(Json(view).into_response(), Some(version), None))
}

/// Changes a key: what is absent stays as it is, null clears. It holds for the next request, on every thread.
#[utoipa::path(patch, path = "/api/v1/keys/{id}", tag = "keys", operation_id = "update_key", request_body = KeyPatch,
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key, changed.", body = KeyView),
        (status = 404, description = "There is no such key.", body = Refused),
        (status = 412, description = "It was changed meanwhile: its version is another.", body = Refused),
        AnyRefusal, BodyRefusal))]
pub(super) async fn update(
    State(api): State<Arc<Api>>,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Given(patch): Given<KeyPatch>,
) -> Result<Response, Refusal> {
    let values = json!(patch);
    let name = match patch.name {
        Set::Clear => return Err(Refusal::invalid_body("name", "a key needs a name")),
        Set::Leave => None,
        Set::To(name) => Some(trimmed(name)),
    };
    let expires_at = patch.expires_at.read(|text| moment("expires_at", &text))?;
    let policy = patch.policy.change()?;
    let (owner, tags, group) = (patch.owner.given(), patch.tags.given(), patch.group.given());
    let view = api.blocking(move |state| {
        let record = state.keys.update(&id, version, |key| {
            if let Some(name) = name {
                key.name = name;
            }
            if let Some(owner) = owner {
                key.owner = owner.map(trimmed);
            }
            if let Some(tags) = tags {
                key.tags = tags.unwrap_or_default().into_iter().map(trimmed).collect();
            }
            if let Some(group) = group {
                key.group = group.map(|id| GroupId(id.into()));
            }
            expires_at.apply_option(&mut key.expires_at);
            policy.change_policy(&mut key.policy);
        });
        record.map(|record| KeyView::of(&record, state.clock.now()))
    });
    Ok(answer(view.await??, values))
}

/// Revokes a key: refused from now on, with all its secrets. Revoking it again changes nothing.
#[utoipa::path(post, path = "/api/v1/keys/{id}/revoke", tag = "keys", operation_id = "revoke_key",
    params(("id" = String, Path, description = "The key's id.")),
    responses((status = 200, description = "The key, revoked.", body = KeyView),
        (status = 404, description = "There is no such key.", body = Refused), AnyRefusal))]
pub(super) async fn revoke(State(api): State<Arc<Api>>, Id(id): Id, Nothing: Nothing) -> Result<Response, Refusal> {
    let view = api.blocking(move |state| {
        let key = state.keys.revoke(&id)?;
        let record = state.keys.record(&key.id);
        record
            .map(|record| KeyView::of(&record, state.clock.now()))
            .ok_or(crate::keys::KeysError::NoSuchKey(id))
    });
    Ok(answer(view.await??, Value::Null))
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
pub(super) struct Id(pub(super) KeyId);

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
