//! `GET /v1/key`: what a client may know of its own key: what it may do, its limits and what is used of them.

use bytes::Bytes;
use http::Method;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::Session;
use serde_json::{Value, json};

use crate::clock::UnixMicros;
use crate::keys::{Grant, Policy};
use crate::limits::{Account, Window};
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
        "created_at": rfc3339(key.created_at).to_string(),
        "expires_at": key.expires_at.map(|at| rfc3339(at).to_string()),
        "models": key.policy.models,
        "limits": limits(&key.policy, grant.chain.key(), at),
        "group": group.map(|(group, account)| json!({
            "name": group.id.0,
            "models": group.policy.models,
            "limits": limits(&group.policy, account, at),
        })),
    })
}

fn limits(policy: &Policy, account: &Account, at: UnixMicros) -> Value {
    let limits = &policy.limits;
    let balance = account.balance(at);
    let windows = Window::ALL.iter().zip(balance.0).map(|(window, used)| {
        let budget = limits.budgets.iter().find(|budget| budget.window == *window);
        json!({
            "window": window.as_str(),
            "from": (*window != Window::Total).then(|| rfc3339(used.from).to_string()),
            "requests": { "limit": budget.and_then(|budget| budget.requests), "used": used.spent.requests },
            "tokens": { "limit": budget.and_then(|budget| budget.tokens), "used": used.spent.tokens },
            "usd": {
                "limit": budget.and_then(|budget| budget.money).map(|money| money.to_string()),
                "used": used.spent.charge.to_string(),
            },
        })
    });
    json!({
        "requests_per_minute": limits.requests_per_minute,
        "tokens_per_minute": limits.tokens_per_minute,
        "concurrent": limits.concurrent,
        "time_zone": limits.time_zone.as_deref().unwrap_or("UTC"),
        "budgets": windows.collect::<Vec<_>>(),
    })
}
