//! `/api/v1/groups`: groups of keys, with a policy and an account of their own above those of their keys.

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
use super::account::AccountView;
use super::input::{Asked, Given, NoMore, Nothing};
use super::page::{IfMatch, PageOf, changed, marked};
use super::policy::{PolicyView, PolicyWanted, Set};
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use crate::clock::UnixMicros;
use crate::ids::GroupId;
use crate::keys::{GroupRecord, NewGroup};
use crate::observe::rfc3339;

/// A group of keys.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupView {
    /// Its name.
    #[schema(example = "research")]
    pub id: String,
    /// What it is for.
    pub description: String,
    /// Goes up with each change: send it as `If-Match` to change only what you saw.
    pub version: u64,
    /// When it was made, RFC 3339.
    #[schema(format = DateTime)]
    pub created_at: String,
    /// When it was deleted, RFC 3339: its keys are refused; null: it is there.
    #[schema(format = DateTime)]
    pub deleted_at: Option<String>,
    /// What its keys may do together.
    pub policy: PolicyView,
    /// What its keys have used together.
    pub account: AccountView,
}

/// A page of groups.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct GroupList {
    /// In the order of their names, the deleted ones too.
    pub groups: Vec<GroupView>,
    /// Give this as `cursor` to go on; null: this was the last page.
    pub next: Option<String>,
}

/// What a new group is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupWanted {
    /// Its name: 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`. It can't be changed, and is taken for good: the
    /// ledger's rows bear it.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$")]
    pub id: String,
    /// What it is for, at most 500 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(max_length = 500)]
    pub description: Option<String>,
    /// What its keys may do together; null: everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyWanted>,
}

/// A change of a group. Absent: stays as it is; null: cleared.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupPatch {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<String>, max_length = 500)]
    pub description: Set<String>,
    /// What its keys may do together: fields that are absent stay as they are. Null: everything.
    #[serde(default, skip_serializing_if = "Set::is_left")]
    #[schema(value_type = Option<PolicyWanted>)]
    pub policy: Set<PolicyWanted>,
}

impl GroupView {
    fn of(record: &GroupRecord, now: UnixMicros) -> Self {
        let group = &record.group;
        GroupView {
            id: group.id.to_string(),
            description: group.description.clone(),
            version: record.revision,
            created_at: rfc3339(group.created_at).to_string(),
            deleted_at: group.deleted_at.map(|at| rfc3339(at).to_string()),
            policy: (&group.policy).into(),
            account: AccountView::of(&record.account, now),
        }
    }
}

fn answer(status: StatusCode, view: GroupView, values: Value) -> Response {
    let (id, version) = (view.id.clone(), view.version);
    changed(status, view, &id, version, values)
}

/// Groups, in the order of their names, the deleted ones too, page by page.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups", operation_id = "list_groups", params(PageOf),
    responses((status = 200, description = "A page of groups.", body = GroupList), AnyRefusal))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Asked(page, _): Asked<PageOf, NoMore>,
) -> Result<Json<GroupList>, Refusal> {
    let (limit, after) = (page.limit()?, page.after(|text| Some(GroupId(text.into())))?);
    let list = api.blocking(move |state| {
        let now = state.clock.now();
        let (groups, more) = state.keys.groups(after.as_ref(), limit);
        let next = groups.last().filter(|_| more).map(|last| last.group.id.to_string());
        GroupList {
            groups: groups.iter().map(|record| GroupView::of(record, now)).collect(),
            next,
        }
    });
    Ok(Json(list.await?))
}

/// Makes a group.
#[utoipa::path(post, path = "/api/v1/groups", tag = "groups", operation_id = "create_group", request_body = GroupWanted,
    responses((status = 201, description = "The group was made.", body = GroupView),
        (status = 409, description = "There is a group of that name, or there was one; or a call with the same \
            Idempotency-Key is under way.", body = Refused),
        AnyRefusal, BodyRefusal))]
pub(super) async fn create(
    State(api): State<Arc<Api>>,
    Given(wanted): Given<GroupWanted>,
) -> Result<Response, Refusal> {
    let values = json!(wanted);
    let mut new = NewGroup {
        description: wanted.description.unwrap_or_default(),
        ..NewGroup::default()
    };
    if let Some(policy) = wanted.policy {
        policy.read()?.apply(&mut new.policy);
    }
    let view = api.blocking(move |state| {
        let record = state.keys.create_group(&wanted.id, new)?;
        Ok::<_, crate::keys::KeysError>(GroupView::of(&record, state.clock.now()))
    });
    Ok(answer(StatusCode::CREATED, view.await??, values))
}

/// One group.
#[utoipa::path(get, path = "/api/v1/groups/{id}", tag = "groups", operation_id = "show_group",
    params(("id" = String, Path, description = "The group's name.")),
    responses((status = 200, description = "The group.", body = GroupView),
        (status = 404, description = "There is no such group.", body = Refused), AnyRefusal))]
pub(super) async fn show(State(api): State<Arc<Api>>, Id(id): Id) -> Result<Response, Refusal> {
    let view = api.blocking(move |state| {
        let record = state.keys.group(&id);
        record.map(|record| GroupView::of(&record, state.clock.now()))
    });
    let view = view.await?.ok_or_else(Id::unknown)?;
    let version = view.version;
    Ok(marked(Json(view).into_response(), Some(version), None))
}

/// Changes a group: what is absent stays as it is, null clears. It holds for the next request of each of its keys.
#[utoipa::path(patch, path = "/api/v1/groups/{id}", tag = "groups", operation_id = "update_group",
    request_body = GroupPatch,
    params(("id" = String, Path, description = "The group's name.")),
    responses((status = 200, description = "The group, changed.", body = GroupView),
        (status = 404, description = "There is no such group.", body = Refused),
        (status = 409, description = "It was deleted.", body = Refused),
        (status = 412, description = "It was changed meanwhile: its version is another.", body = Refused),
        AnyRefusal, BodyRefusal))]
pub(super) async fn update(
    State(api): State<Arc<Api>>,
    Id(id): Id,
    IfMatch(version): IfMatch,
    Given(patch): Given<GroupPatch>,
) -> Result<Response, Refusal> {
    let values = json!(patch);
    let policy = patch.policy.change()?;
    let view = api.blocking(move |state| {
        let record = state.keys.update_group(&id, version, |group| {
            patch.description.apply(&mut group.description);
            policy.change_policy(&mut group.policy);
        });
        record.map(|record| GroupView::of(&record, state.clock.now()))
    });
    Ok(answer(StatusCode::OK, view.await??, values))
}

/// Deletes a group: its keys are refused until each is put into another or into none. Its name stays taken, its rows stay.
/// Deleting it again changes nothing.
#[utoipa::path(delete, path = "/api/v1/groups/{id}", tag = "groups", operation_id = "delete_group",
    params(("id" = String, Path, description = "The group's name.")),
    responses((status = 200, description = "The group, deleted.", body = GroupView),
        (status = 404, description = "There is no such group.", body = Refused), AnyRefusal))]
pub(super) async fn delete(State(api): State<Arc<Api>>, Id(id): Id, Nothing: Nothing) -> Result<Response, Refusal> {
    let view = api.blocking(move |state| {
        let record = state.keys.delete_group(&id);
        record.map(|record| GroupView::of(&record, state.clock.now()))
    });
    Ok(answer(StatusCode::OK, view.await??, Value::Null))
}

/// The group's name in the path.
pub(super) struct Id(GroupId);

impl Id {
    fn unknown() -> Refusal {
        Refusal::not_found("there is no such group; GET /api/v1/groups lists them")
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        // What is no UTF-8 is no name either.
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(sent)) => Ok(Id(GroupId(sent.into()))),
            Err(_) => Err(Id::unknown()),
        }
    }
}
