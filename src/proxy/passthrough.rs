//! `/p/{provider}/...`: any path of a provider, authenticated and recorded, bytes untouched and streamed in both
//! directions. No gate: the body is not read here, so there is one attempt.

use http::Method;
use pingora::proxy::Session;

use crate::dialects;
use crate::ir::{ApiError, ErrorKind};
use crate::keys::Grant;
use crate::routing::{Candidate, RoutePlan, Tier};

use super::Gateway;
use super::admit;
use super::context::{RequestContext, RouteStage};
use super::intake::declared_length;
use super::refuse;
use super::request_filter::{Stop, not_admitted};

/// What such paths begin with.
pub const PREFIX: &str = "/p/";

/// Finds provider and path.
pub(super) async fn prepare(gateway: &Gateway, session: &mut Session, ctx: &mut RequestContext) -> Result<(), Stop> {
    let path = session.req_header().uri.path();
    let (provider, rest) = path[PREFIX.len()..]
        .split_once('/')
        .unwrap_or((&path[PREFIX.len()..], ""));
    let fleet = gateway.fleet.load();
    if let Some(grant) = &ctx.client.grant {
        may_pass(grant, provider)?;
    }
    let Some(pool) = fleet.pool(provider) else {
        return Err(ApiError::new(
            ErrorKind::NotFound,
            format!(
                "there is no provider `{}`",
                crate::observe::redact::printable(provider, 64)
            ),
        )
        .code("unknown_provider")
        .into());
    };
    if !pool.is_usable() {
        return Err(ApiError::new(
            ErrorKind::UpstreamCredentialsExhausted,
            "none of our credentials for this provider can be used just now",
        )
        .code("upstream_credentials_exhausted")
        .into());
    }
    let rest = format!("/{rest}");
    // A path which names one of the provider's prefixes is taken as it is; any other follows the first prefix:
    // both `/p/openai/v1/files` and `/p/openai/files` are https://api.openai.com/v1/files.
    let within = |prefix: &str| {
        !prefix.is_empty()
            && rest
                .strip_prefix(prefix)
                .is_some_and(|after| after.is_empty() || after.starts_with('/'))
    };
    let named = pool.endpoints().iter().find(|endpoint| within(&endpoint.prefix));
    let (endpoint, full) = match (named, pool.endpoints().first()) {
        (Some(endpoint), _) => (endpoint, rest.clone()),
        (None, Some(first)) => (first, format!("{}{rest}", first.prefix)),
        (None, None) => {
            let error = ApiError::new(ErrorKind::NotFound, "this provider has no address");
            return Err(error.code("unknown_provider").into());
        }
    };
    if let Some(grant) = &ctx.client.grant
        && grant.chain.bounds_money()
        && is_priced(&rest)
    {
        return Err(refused(
            "this key has a budget in money, and what is asked for at this path is priced by its model",
            "not_counted",
        )
        .into());
    }
    let full = if ctx.client.query.is_empty() {
        full
    } else {
        format!("{full}?{}", ctx.client.query)
    };
    admit::enter(gateway, session, ctx).await?;
    gateway.ledger.admit().await.map_err(not_admitted)?;
    if refuse::expects_continue(session) {
        // The header does not pass on, so nobody else will say it. A client that is gone is noticed when it is read from.
        let _ = session.as_downstream_mut().write_continue_response().await;
    }
    ctx.client.body_bytes = declared_length(session).unwrap_or(0);
    let candidate = Candidate {
        pool: pool.clone(),
        endpoint: endpoint.clone(),
        lane: pool.lane(""),
        model: None,
        target: None,
        tier: Tier::Target,
    };
    session.set_read_timeout(Some(gateway.config.timeouts.body_read));
    session.set_write_timeout(Some(gateway.config.timeouts.write_stall));
    let plan = RoutePlan::passthrough(candidate);
    let masker = fleet.masker().clone();
    ctx.route = Some(RouteStage {
        fleet,
        plan,
        next: None,
        tried: Vec::new(),
        scope: None,
        passthrough: Some(full),
        masker,
        overhead: ctx.began.elapsed(),
    });
    Ok(())
}

/// Whether a key may use paths of this provider. Nothing is read there: neither the model, which a list of models would be asked about,
/// nor the tokens, which a limit would count. (Money: see `unknown_price`.)
fn may_pass(grant: &Grant, provider: &str) -> Result<(), ApiError> {
    if !grant.may_reach(provider) || !grant.may_take("") {
        return Err(refused("this key may not use paths of this provider", "not_allowed"));
    }
    let policies = std::iter::once(&grant.key.policy).chain(grant.group.iter().map(|group| &group.policy));
    for policy in policies {
        if !policy.models.is_empty() {
            return Err(refused(
                "this key may ask for certain models only, and which is asked for at this path nobody knows",
                "not_allowed",
            ));
        }
        let budgets = &policy.limits.budgets;
        if policy.limits.tokens_per_minute.is_some() || budgets.iter().any(|budget| budget.tokens.is_some()) {
            return Err(refused(
                "this key has a limit in tokens, and at this path nobody counts them",
                "not_counted",
            ));
        }
    }
    Ok(())
}

fn refused(message: &str, code: &'static str) -> ApiError {
    let message = format!("{message}; use the paths of the API formats instead, as /v1/chat/completions");
    ApiError::new(ErrorKind::Permission, message).code(code)
}

/// Does the path end as one of an API format, whose answers have a price? However it is written: providers may be lenient.
fn is_priced(path: &str) -> bool {
    let path = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let parts: Vec<&str> = path.split('/').map(str::trim).filter(|part| !part.is_empty()).collect();
    (0..parts.len()).any(|at| {
        let end = parts[at..].join("/");
        ["/v1/", "/v1beta/"].iter().any(|version| {
            let known = |path: &str| dialects::allowed(path) == Some(Method::POST);
            known(&format!("{version}{end}")) || known(&format!("{version}{}", end.to_ascii_lowercase()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_formats_are_known_however_they_are_written() {
        for path in [
            "/v1/chat/completions",
            "/chat/completions",
            "/api/v1//chat/completions/",
            "/v1/Chat/Completions",
            "/v1/chat%2Fcompletions",
            "/v1/responses",
            "/v1/messages",
            "/v1/embeddings",
            "/v1beta/models/gemini-2.5-pro:generateContent",
        ] {
            assert!(is_priced(path), "{path}");
        }
        for path in [
            "/v1/files",
            "/v1/models",
            "/v1/audio/speech",
            "/",
            "/v1/responses/resp_1",
        ] {
            assert!(!is_priced(path), "{path}");
        }
    }
}
