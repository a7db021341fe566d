//! What we answer ourselves: health, and the models on offer.

use bytes::Bytes;
use http::Method;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::json;

use crate::dialects::{ModelEntry, Target};
use crate::ir::{ApiError, ErrorKind, Operation};

use super::Gateway;
use super::context::RequestContext;
use super::refuse;

/// Answers `/`, `/healthz`, `/readyz` and `/health`; false: the path is none of them.
pub async fn health(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<bool> {
    let header = session.req_header();
    if header.method != Method::GET && header.method != Method::HEAD {
        return Ok(false);
    }
    let draining = session.is_process_shutting_down() || gateway.is_draining();
    let (status, body) = match header.uri.path() {
        "/healthz" => (200, json!({ "status": "alive" })),
        "/readyz" if draining => (503, json!({ "status": "draining" })),
        "/readyz" => (200, json!({ "status": "ready" })),
        "/health" => (200, summary(gateway, draining)),
        "/" => (200, json!({ "name": "tollgate", "version": env!("CARGO_PKG_VERSION") })),
        _ => return Ok(false),
    };
    let header = ResponseHeader::build(status, Some(8))?;
    refuse::send_json(session, ctx, header, Bytes::from(body.to_string()), false).await?;
    Ok(true)
}

/// No names of providers here: the page is open to everyone.
fn summary(gateway: &Gateway, draining: bool) -> serde_json::Value {
    let fleet = gateway.fleet.load();
    let (usable, all) = fleet.pools().fold((0, 0), |(usable, all), pool| {
        (usable + u32::from(pool.is_usable()), all + 1)
    });
    json!({
        "status": if draining { "draining" } else { "ready" },
        "version": env!("CARGO_PKG_VERSION"),
        "providers": { "usable": usable, "defined": all },
        "requests_in_flight": super::metrics::in_flight(),
    })
}

/// Answers `GET /v1/models` and its like, in the dialect of the asker.
pub async fn models(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext, target: &Target) -> Result<()> {
    let entries = offered(gateway, target);
    let body = match (&target.operation, &target.model) {
        (Operation::GetModel, Some(wanted)) => match entries.iter().find(|entry| entry.id == *wanted) {
            Some(entry) => target.dialect.encode_model(entry),
            None => {
                let error = ApiError::new(
                    ErrorKind::NotFound,
                    "no route offers a model of this name; GET /v1/models lists those with a name of their own",
                )
                .code("model_not_found")
                .param("model");
                return refuse::send(session, ctx, error, false).await;
            }
        },
        _ => target.dialect.encode_models(&entries),
    };
    refuse::send_json(session, ctx, ResponseHeader::build(200, Some(8))?, body.into(), false).await
}

/// The models which routes name literally (a glob has no name to show), where a provider of theirs speaks the dialect and
/// can be used.
fn offered(gateway: &Gateway, target: &Target) -> Vec<ModelEntry> {
    let fleet = gateway.fleet.load();
    let created = fleet.rules().loaded_at.seconds();
    let mut entries: Vec<ModelEntry> = Vec::new();
    for route in &fleet.rules().routes {
        let pools = route.targets.iter().filter_map(|to| fleet.pool(&to.provider.name));
        let mut speaking = pools.filter(|pool| pool.is_usable() && pool.endpoint(target.dialect.id()).is_some());
        if speaking.next().is_none() {
            continue;
        }
        for model in route
            .models
            .iter()
            .filter(|model| !model.contains(['*', '?', '[', '{']))
        {
            if !entries.iter().any(|entry| entry.id == *model) {
                entries.push(ModelEntry {
                    id: model.clone(),
                    owner: "tollgate".into(),
                    created,
                });
            }
        }
    }
    entries
}
