//! `/api/v1/tokens`: the tokens of this API, and how far each goes. For owners.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::{Asked, Given, NoMore, Nothing};
use super::page::{marked, moment};
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use crate::keys::{AdminToken, Role};
use crate::observe::rfc3339;

/// How far a token goes; each role may do all that those before may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleWord {
    /// Looks.
    Viewer,
    /// Changes keys, groups, credentials, rules.
    Operator,
    /// All: tokens, the audit log, secrets of providers, prices, the ledger's repair.
    Owner,
}

impl From<Role> for RoleWord {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => RoleWord::Viewer,
            Role::Operator => RoleWord::Operator,
            Role::Owner => RoleWord::Owner,
        }
    }
}

impl From<RoleWord> for Role {
    fn from(role: RoleWord) -> Self {
        match role {
            RoleWord::Viewer => Role::Viewer,
            RoleWord::Operator => Role::Operator,
            RoleWord::Owner => Role::Owner,
        }
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// Its public part: the twelve characters after `tg-admin-`. The audit log says who it was by this.
    pub id: String,
    /// A name for people.
    pub name: String,
    /// How far it goes.
    pub role: RoleWord,
    /// What people may recognise it by.
    #[schema(example = "tg-admin-AbCdEfGhIjKl-…wxyz")]
    pub hint: String,
    /// When it was made, RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it ends by itself, RFC 3339; null: never.
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
    /// When it was revoked, RFC 3339; null: it was not.
    #[schema(format = DateTime)]
    pub revoked_at: Option<String>,
}

impl From<&AdminToken> for TokenView {
    fn from(token: &AdminToken) -> Self {
        let time = |at| rfc3339(at).to_string();
        TokenView {
            id: token.id.to_string(),
            name: token.name.clone(),
            role: token.role.into(),
            hint: format!("tg-admin-{}-…{}", token.id, token.last4),
            created_at: time(token.created_at),
            expires_at: token.expires_at.map(time),
            revoked_at: token.revoked_at.map(time),
        }
    }
}

/// All tokens.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// Oldest first, the revoked ones too.
    pub tokens: Vec<TokenView>,
    /// The token in the file `admin.token` of the data folder, by its name in the audit log: an owner's, made by the first
    /// start. To replace it, delete the file and start the gateway again.
    pub file: String,
}

/// What a new token is given.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenWanted {
    /// A name for people, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// How far it goes.
    pub role: RoleWord,
    /// When it ends by itself, RFC 3339; null: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime)]
    pub expires_at: Option<String>,
}

/// A token just made.
#[derive(Clone, Serialize, Deserialize, ToSchema)]
pub struct TokenMade {
    /// What is known of it.
    #[serde(flatten)]
    pub view: TokenView,
    /// The token itself. Shown this once; it is not stored.
    #[schema(example = "tg-admin-AbCdEfGhIjKl-…")]
    pub token: String,
}

/// Every token, oldest first, the revoked ones too.
#[utoipa::path(get, path = "/api/v1/tokens", tag = "tokens", operation_id = "list_tokens",
    responses((status = 200, description = "All tokens.", body = TokenList), AnyRefusal))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Result<Json<TokenList>, Refusal> {
    let tokens = api.blocking(|state| state.tokens.list()).await?;
    Ok(Json(TokenList {
        tokens: tokens.iter().map(|token| TokenView::from(&**token)).collect(),
        file: super::auth::fingerprint(&api.state.token),
    }))
}

/// Makes a token. Its text is in this answer and nowhere else.
#[utoipa::path(post, path = "/api/v1/tokens", tag = "tokens", operation_id = "create_token", request_body = TokenWanted,
    responses((status = 201, description = "The token was made.", body = TokenMade), AnyRefusal, BodyRefusal))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Given(wanted): Given<TokenWanted>,
) -> Result<Response, Refusal> {
    let values = json!(wanted);
    let expires_at = wanted.expires_at.map(|text| moment("expires_at", &text)).transpose()?;
    let (name, role) = (wanted.name.trim().to_owned(), wanted.role.into());
    let (token, text) = api
        .blocking(move |state| state.tokens.create(name, role, expires_at))
        .await??;
    let change = Change {
        target: token.id.to_string(),
        values,
    };
    let made = TokenMade {
        view: TokenView::from(&*token),
        token: text.expose().to_owned(),
    };
    Ok(marked(
        (StatusCode::CREATED, Json(made)).into_response(),
        None,
        Some(change),
    ))
}

/// Revokes a token: refused from now on. Revoking it again changes nothing.
#[utoipa::path(post, path = "/api/v1/tokens/{id}/revoke", tag = "tokens", operation_id = "revoke_token",
    params(("id" = String, Path, description = "The token's id.")),
    responses((status = 200, description = "The token, revoked.", body = TokenView),
        (status = 404, description = "There is no such token.", body = Refused), AnyRefusal))]
pub(super) async fn revoke(State(api): State<Arc<Api>>, Id(id): Id, Nothing: Nothing) -> Result<Response, Refusal> {
    let token = api.blocking(move |state| state.tokens.revoke(&id)).await??;
    let change = Change {
        target: token.id.to_string(),
        values: Value::Null,
    };
    let response = Json(TokenView::from(&*token)).into_response();
    Ok(marked(response, None, Some(change)))
}

/// The token's id in the path.
pub(super) struct Id(String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let sent = Path::<String>::from_request_parts(parts, state).await;
        let sent = sent.map_or(String::new(), |Path(sent)| sent);
        // A whole token does for its id. What is not an id is never said back: it may hold a secret.
        let id = sent.strip_prefix("tg-admin-").unwrap_or(&sent);
        let id = id.split_once('-').map_or(id, |(id, _secret)| id);
        if id.len() == 12 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Id(id.to_owned()))
        } else {
            let told = "there is no such token: an id is the 12 characters after `tg-admin-`";
            Err(Refusal::not_found(told))
        }
    }
}
