//! What we answer ourselves: health, and the models on offer.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use serde_json::json;

use crate::dialects::{self, ModelEntry, Target};
use crate::ir::{ApiError, ErrorKind, Operation};
use crate::keys::Grant;
use crate::translate::{Decoded, estimate, request};

use super::Gateway;
use super::context::RequestContext;
use super::{prepare, refuse};

/// Who owns a name that routes give.
const OWNER: &str = "tollgate";

/// Says that a number was estimated here, and which.
const ESTIMATED: &str = "x-tollgate-estimated";

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
        "/readyz" if gateway.ledger.is_full() => (503, json!({ "status": "ledger_disk_full" })),
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
    let grant = ctx.client.grant.clone();
    let entries = offered(gateway, grant.as_deref());
    let body = match (&target.operation, &target.model) {
        // A name that only a glob knows is not in the list, and is served all the same.
        (Operation::GetModel, Some(wanted)) => match entry_of(gateway, grant.as_deref(), &entries, wanted) {
            Some(entry) => target.dialect.encode_model(&entry),
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

/// Answers a count of tokens where no provider counts them: an estimate, which says so in a header.
pub async fn estimated_count(session: &mut Session, ctx: &mut RequestContext, target: &Target) -> Result<()> {
    let estimate = match request::decode(target, &ctx.client.body) {
        Ok(decoded) => count(decoded, asked_model(ctx)).await,
        Err(error) => return refuse::send(session, ctx, prepare::unreadable(error), false).await,
    };
    let Some(body) = target.dialect.encode_count(estimate) else {
        let error = ApiError::new(ErrorKind::NotSupported, "this API format has no count of tokens");
        return refuse::send(session, ctx, error.code("unsupported_operation"), false).await;
    };
    let mut header = ResponseHeader::build(200, Some(8))?;
    header.insert_header(ESTIMATED, "tokens")?;
    refuse::send_json(session, ctx, header, body.into(), false).await
}

/// By the model's tokenizer, if it has one.
async fn count(decoded: Decoded, model: &str) -> u64 {
    let estimate = decoded.chat().map_or(0, estimate::prompt_tokens);
    match dialects::tokenizer(model) {
        Some(tokenizer) => tokio::task::spawn_blocking(move || decoded.counted(tokenizer))
            .await
            .unwrap_or(estimate),
        None => estimate,
    }
}

/// The model which the request would go to at first.
fn asked_model(ctx: &RequestContext) -> &str {
    let first = ctx.route.as_ref().and_then(|stage| stage.plan.candidates.first());
    let asked = ctx.client.peek.as_ref().map_or("", |peek| &peek.model);
    first.and_then(|candidate| candidate.model.as_deref()).unwrap_or(asked)
}

/// What routes offer, where a provider of theirs can be used: the names they spell out; of a glob, which has no name to show, the
/// models its targets name, as `provider/model`; and the aliases of what is served. (Conditions are asked of requests only.)
fn offered(gateway: &Gateway, grant: Option<&Grant>) -> Vec<ModelEntry> {
    let fleet = gateway.fleet.load();
    let created = fleet.rules().loaded_at.seconds();
    let mut entries: Vec<ModelEntry> = Vec::new();
    let may_ask = |model: &str| grant.is_none_or(|grant| grant.may_ask(model));
    let mut offer = |id: String, owner: &str| {
        if may_ask(&id) && !entries.iter().any(|entry| entry.id == id) {
            entries.push(ModelEntry {
                id,
                owner: owner.to_owned(),
                created,
            });
        }
    };
    for route in &fleet.rules().routes {
        let usable =
            |name: &str| may_go(grant, &route.name, name) && fleet.pool(name).is_some_and(|pool| pool.is_usable());
        let all = || route.targets.iter().chain(&route.fallback);
        let targets = || all().filter(|target| usable(&target.provider.name));
        if targets().next().is_none() {
            continue;
        }
        let (globs, names): (Vec<_>, Vec<_>) = route.models.iter().partition(|model| is_glob(model));
        names.into_iter().for_each(|name| offer(name.clone(), OWNER));
        if !globs.is_empty() {
            for target in targets() {
                let provider = &target.provider.name;
                // Under that name it is asked past all routes.
                if let Some(model) = target.model.as_ref().filter(|_| may_go(grant, "", provider)) {
                    offer(format!("{provider}/{model}"), provider);
                }
            }
        }
    }
    let mut aliases: Vec<(&Arc<str>, &Arc<str>)> = fleet.rules().aliases.iter().collect();
    aliases.sort_unstable();
    for (alias, name) in aliases {
        if may_ask(alias)
            && entry_of(gateway, grant, &entries, name).is_some()
            && !entries.iter().any(|entry| *entry.id == **alias)
        {
            entries.push(ModelEntry {
                id: alias.to_string(),
                owner: OWNER.to_owned(),
                created,
            });
        }
    }
    entries
}

/// Whether the key may take the route (empty: none) to a provider.
fn may_go(grant: Option<&Grant>, route: &str, provider: &str) -> bool {
    grant.is_none_or(|grant| grant.may_take(route) && grant.may_reach(provider))
}

fn is_glob(model: &str) -> bool {
    model.contains(['*', '?', '[', '{'])
}

/// The entry of one model: as listed, or as a glob or `provider/model` would serve it.
fn entry_of(gateway: &Gateway, grant: Option<&Grant>, entries: &[ModelEntry], wanted: &str) -> Option<ModelEntry> {
    if let Some(entry) = entries.iter().find(|entry| entry.id == wanted) {
        return Some(entry.clone());
    }
    let fleet = gateway.fleet.load();
    let rules = fleet.rules();
    let usable =
        |route: &str, name: &str| may_go(grant, route, name) && fleet.pool(name).is_some_and(|pool| pool.is_usable());
    let wanted_there = rules.alias(wanted).map_or(wanted, |name| &**name);
    if grant.is_some_and(|grant| !grant.may_ask(wanted) || !grant.may_ask(wanted_there)) {
        return None;
    }
    let direct = wanted_there
        .split_once('/')
        .filter(|(provider, model)| !model.is_empty() && usable("", provider));
    let routed = || {
        let mut targets = rules.routes_for(wanted_there).flat_map(|route| {
            route
                .targets
                .iter()
                .chain(&route.fallback)
                .map(move |target| (route, target))
        });
        targets.find(|(route, target)| usable(&route.name, &target.provider.name))
    };
    let owner = match direct {
        Some((provider, _)) => provider,
        None => routed().map(|_| OWNER)?,
    };
    Some(ModelEntry {
        id: wanted.to_owned(),
        owner: owner.to_owned(),
        created: rules.loaded_at.seconds(),
    })
}
