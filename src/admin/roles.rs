//! Who may do what: the role each call needs, in one table, and what the document says of it.

use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::path::Operation;
use utoipa::openapi::{ContentBuilder, OpenApi, PathItem, Ref, RefOr, ResponseBuilder};

use super::page::if_match_parameter;
use super::refusal::Refusal;
use super::{Api, OPENAPI_PATH, idempotency};
use crate::keys::Role;

/// Only for owners, also to look at.
const OWNED: &[&str] = &["/api/v1/tokens", "/api/v1/audit"];

/// To change only for owners: what clients pay, what providers are shown, what the books say.
const CHANGED_BY_OWNERS: &[&str] = &["/api/v1/prices", "/api/v1/secrets", "/api/v1/ledger"];

/// The role which a call needs, by its method and its path's pattern.
pub(super) fn needed(method: &Method, path: &str) -> Role {
    let below = |roots: &[&str]| {
        roots.iter().any(|root| {
            path.strip_prefix(root)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    };
    match method.is_safe() {
        _ if below(OWNED) => Role::Owner,
        true => Role::Viewer,
        false if below(CHANGED_BY_OWNERS) => Role::Owner,
        false => Role::Operator,
    }
}

/// Who calls; left on the request by [`super::auth`].
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// The id of the token, or the fingerprint of the one in `admin.token`.
    pub(super) who: Arc<str>,
    /// How far it goes.
    pub(super) role: Role,
}

/// Refuses what the caller's role does not allow. A call of nobody is refused too.
pub(super) async fn require_role(State(_): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>() else {
        return next.run(request).await;
    };
    if path.as_str() == OPENAPI_PATH {
        return next.run(request).await;
    }
    let needed = needed(request.method(), path.as_str());
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.role >= needed => next.run(request).await,
        Some(caller) => Refusal::forbidden(needed, caller.role).into_response(),
        None => Refusal::unauthorized().into_response(),
    }
}

/// Says of every call which role it needs, and what it may be refused with for reasons that all calls share.
pub(super) fn describe(document: &mut OpenApi) {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            if path != OPENAPI_PATH {
                describe_one(&method, path, operation);
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ]
    .into_iter()
    .filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

fn describe_one(method: &Method, path: &str, operation: &mut Operation) {
    let role = needed(method, path);
    let told = format!("Role: `{role}`.");
    operation.description = Some(match operation.description.take() {
        Some(text) if !text.is_empty() => format!("{text}\n\n{told}"),
        _ => told,
    });
    let mut may = |status: &str, description: &str| {
        let schema = RefOr::Ref(Ref::from_schema_name("Refused"));
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(description)
            .content("application/json", content)
            .build();
        let responses = &mut operation.responses.responses;
        responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(response));
    };
    if role > Role::Viewer {
        may("403", "The token's role does not go so far.");
    }
    if !method.is_safe() {
        may("408", "The body did not arrive in time.");
        may("413", "The body is too large.");
        may("415", "The body is not said to be JSON.");
        may("422", "The body is not what this call takes: `error.field` says where.");
        may("503", "It can't be entered in the audit log: nothing was changed.");
    }
    if path.starts_with("/api/v1/usage") || path.starts_with("/api/v1/requests") {
        may("503", "Too many questions to the ledger at once.");
    }
    if *method == Method::PATCH {
        operation
            .parameters
            .get_or_insert_default()
            .push(RefOr::T(if_match_parameter()));
    }
    if idempotency::takes(method, path) {
        may(
            "409",
            "A call with the same Idempotency-Key is under way, or things stand in the way: see `error.code`.",
        );
        operation
            .parameters
            .get_or_insert_default()
            .push(RefOr::T(idempotency::parameter()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_is_for_all_changing_for_operators_and_some_things_for_owners() {
        for (method, path, role) in [
            (Method::GET, "/api/v1/keys", Role::Viewer),
            (Method::HEAD, "/api/v1/keys", Role::Viewer),
            (Method::POST, "/api/v1/keys", Role::Operator),
            (Method::DELETE, "/api/v1/keys/{id}", Role::Operator),
            (Method::POST, "/api/v1/reload", Role::Operator),
            (Method::POST, "/api/v1/alerts/test", Role::Operator),
            (Method::GET, "/api/v1/alerts", Role::Viewer),
            (Method::GET, "/api/v1/tokens", Role::Owner),
            (Method::POST, "/api/v1/tokens/{id}/revoke", Role::Owner),
            (Method::GET, "/api/v1/audit/verify", Role::Owner),
            (Method::GET, "/api/v1/tokensfoo", Role::Viewer),
            (Method::GET, "/api/v1/prices", Role::Viewer),
            (Method::POST, "/api/v1/prices/import", Role::Owner),
        ] {
            assert_eq!(needed(&method, path), role, "{method} {path}");
        }
    }
}
