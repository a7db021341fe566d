//! `GET /v1/key`: what a client may know of its own key: what it may do, its limits and what is used of them.

use std::time::Instant;

use bytes::Bytes;
use http::Method;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use serde::Serialize;
use serde_json::{Value, json};

use crate::clock::UnixMicros;
use crate::keys::Grant;
use crate::limits::{Account, Left};
use crate::observe::rfc3339;

use super::Gateway;
use super::context::RequestContext;
use super::refuse;

/// Where.
const PATH: &str = "/v1/key";

/// This request asks for it.
pub fn is_asked(request: &RequestHeader) -> bool {
    request.method == Method::GET && request.uri.path() == PATH
}

/// Answers it.
pub async fn answer(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<()> {
    let body = match ctx.client.grant.clone() {
        Some(grant) => view(&grant, gateway.clock.now()),
        None => json!({}),
    };
    let header = ResponseHeader::build(200, Some(8))?;
    refuse::send_json(session, ctx, header, Bytes::from(body.to_string()), false).await
}

fn view(grant: &Grant, at: UnixMicros) -> Value {
    let key = &grant.key;
    let group = grant.group.as_ref().zip(grant.chain.group());
    json!({
        "id": key.id.0,
        "name": key.name,
        "owner": key.owner,
        "tags": key.tags,
        "created_at": time(key.created_at),
        "expires_at": key.expires_at.map(time),
        "models": key.policy.models,
        "limits": limits(grant.chain.key(), at),
        "group": group.map(|(group, account)| json!({
            "name": group.id.0,
            "models": group.policy.models,
            "limits": limits(account, at),
        })),
    })
}

fn time(at: UnixMicros) -> String {
    rfc3339(at).to_string()
}

fn limits(account: &Account, at: UnixMicros) -> Value {
    let view = account.view(at, Instant::now());
    let windows = view.windows.iter().map(|one| {
        let budget = one.budget.as_ref();
        json!({
            "window": one.window.as_str(),
            "begins": one.begins.map(time),
            "ends": one.ends.map(time),
            "requests": amount(budget.and_then(|budget| budget.requests), one.spent.requests, one.reserved.requests),
            "tokens": amount(budget.and_then(|budget| budget.tokens), one.spent.tokens, one.reserved.tokens),
            "usd": amount(
                budget.and_then(|budget| budget.money).map(|money| money.to_string()),
                one.spent.charge.to_string(),
                one.reserved.charge.to_string(),
            ),
        })
    });
    let minute = |left: Option<Left>| left.map(|left| json!({ "limit": left.limit, "remaining": left.remaining }));
    json!({
        "requests_per_minute": minute(view.standing.requests),
        "tokens_per_minute": minute(view.standing.tokens),
        "concurrent": amount(view.limits.concurrent, view.in_flight, 0),
        "time_zone": view.limits.time_zone.as_deref().unwrap_or("UTC"),
        "budgets": windows.collect::<Vec<_>>(),
    })
}

/// `limit` null: there is none.
fn amount(limit: Option<impl Serialize>, used: impl Serialize, reserved: impl Serialize) -> Value {
    json!({ "limit": limit, "used": used, "reserved": reserved })
}
