//! `/api/v1/routes`, `/api/v1/providers`, `/api/v1/reload`: the rules in force. Never a secret: of headers only the
//! names, of addresses neither user nor query.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::{Asked, NoMore, Nothing};
use super::refusal::{AnyRefusal, ProblemView, Refusal, Refused};
use crate::config::{Problem, Secret};
use crate::observe::redact::Masker;
use crate::observe::rfc3339;
use crate::rules::{self, Auth, HttpVersions, Rules, StreamUsage};

/// All providers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderList {
    /// In the order of the files.
    pub providers: Vec<ProviderView>,
}

/// One provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ProviderView {
    /// Its name.
    pub name: String,
    /// Whether it can be used.
    pub active: bool,
    /// Why not.
    pub inactive: Option<String>,
    /// Where it speaks which dialect.
    pub bases: Vec<BaseView>,
    /// Pinned addresses, instead of DNS.
    pub connect_to: Vec<String>,
    /// How it takes its key: `dialect` (as the dialect's providers do), `bearer`, `header NAME`, `none`.
    pub auth: String,
    /// HTTP versions spoken to it: `1.1`, `2`, `1.1 and 2`.
    pub http: String,
    /// Whether its streams are asked for usage: `ask`, `always` (it reports it unasked), `never` (it refuses).
    pub stream_usage: String,
    /// Names of the headers added to every request.
    pub headers: Vec<String>,
    /// Its credentials, the inactive ones too.
    pub credentials: Vec<CredentialView>,
    /// Times of its own.
    pub timeouts: TimeoutsView,
}

/// Where a provider speaks a dialect.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct BaseView {
    /// The dialect.
    pub dialect: String,
    /// The base URL; null: an environment variable in it is not set.
    pub url: Option<String>,
}

/// One credential, without its key.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct CredentialView {
    /// Its name within the provider.
    pub name: String,
    /// Whether it can be used.
    pub active: bool,
    /// Why not.
    pub inactive: Option<String>,
    /// Its share; 0: only if all others are unusable.
    pub weight: u32,
}

/// All routes.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteList {
    /// In the order in which they are tried: the first which matches wins.
    pub routes: Vec<RouteView>,
}

/// One route.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RouteView {
    /// Its name.
    pub name: String,
    /// Model names and globs.
    pub models: Vec<String>,
    /// Where it sends.
    pub targets: Vec<TargetView>,
    /// Times of its own.
    pub timeouts: TimeoutsView,
}

/// One place a route sends to.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TargetView {
    /// The provider.
    pub provider: String,
    /// The name the provider needs; null: the one the client said.
    pub model: Option<String>,
    /// Its share.
    pub weight: u32,
    /// Whether the provider can be used.
    pub active: bool,
}

/// Times a route or a provider sets, in milliseconds; null: the configuration's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TimeoutsView {
    /// TCP connect.
    pub connect_ms: Option<u64>,
    /// First byte of the answer.
    pub first_byte_ms: Option<u64>,
    /// Between two chunks.
    pub idle_ms: Option<u64>,
    /// Whole exchange.
    pub total_ms: Option<u64>,
}

/// New rules are in force.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// When they were loaded, RFC 3339.
    #[schema(format = DateTime)]
    pub loaded_at: String,
    /// Tells one state of the files from another.
    pub digest: String,
    /// What should be looked at.
    pub warnings: Vec<ProblemView>,
}

impl From<&rules::RouteTimeouts> for TimeoutsView {
    fn from(timeouts: &rules::RouteTimeouts) -> Self {
        let ms = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        TimeoutsView {
            connect_ms: ms(timeouts.connect),
            first_byte_ms: ms(timeouts.first_byte),
            idle_ms: ms(timeouts.idle),
            total_ms: ms(timeouts.total),
        }
    }
}

impl CredentialView {
    fn of(credential: &rules::Credential, masker: &Masker) -> Self {
        CredentialView {
            name: credential.name.to_string(),
            active: credential.inactive.is_none(),
            inactive: masked(masker, credential.inactive.as_deref()),
            weight: credential.weight,
        }
    }
}

impl ProviderView {
    pub(super) fn of(provider: &rules::Provider, masker: &Masker) -> Self {
        ProviderView {
            name: provider.name.to_string(),
            active: provider.inactive.is_none(),
            inactive: masked(masker, provider.inactive.as_deref()),
            bases: provider.bases.iter().map(|base| BaseView::of(base, masker)).collect(),
            connect_to: provider.connect_to.iter().map(ToString::to_string).collect(),
            auth: match &provider.auth {
                None => "dialect".into(),
                Some(Auth::Bearer) => "bearer".into(),
                Some(Auth::Header(name)) => format!("header {name}"),
                Some(Auth::None) => "none".into(),
            },
            http: match provider.http {
                HttpVersions::H1 => "1.1",
                HttpVersions::H2 => "2",
                HttpVersions::Both => "1.1 and 2",
            }
            .into(),
            stream_usage: match provider.stream_usage {
                StreamUsage::Ask => "ask",
                StreamUsage::Always => "always",
                StreamUsage::Never => "never",
            }
            .into(),
            headers: provider.headers.iter().map(|(name, _)| name.to_string()).collect(),
            credentials: provider
                .credentials
                .iter()
                .map(|one| CredentialView::of(one, masker))
                .collect(),
            timeouts: (&provider.timeouts).into(),
        }
    }
}

impl BaseView {
    fn of(base: &rules::Base, masker: &Masker) -> Self {
        let url = base.url.clone().map(|mut url| {
            // Both fail only for addresses which have no host, and so no user either.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            masker.mask(url.as_str()).into_owned()
        });
        BaseView {
            dialect: base.dialect.to_string(),
            url,
        }
    }
}

impl From<&rules::Route> for RouteView {
    fn from(route: &rules::Route) -> Self {
        RouteView {
            name: route.name.to_string(),
            models: route.models.clone(),
            targets: route
                .targets
                .iter()
                .map(|target| TargetView {
                    provider: target.provider.name.to_string(),
                    model: target.model.as_ref().map(ToString::to_string),
                    weight: target.weight,
                    active: target.provider.inactive.is_none(),
                })
                .collect(),
            timeouts: (&route.timeouts).into(),
        }
    }
}

/// Replaces every provider key of these rules: no text below should hold one; this is for the day one does.
pub(super) fn masker(rules: &Rules) -> Masker {
    let secrets: Vec<Secret> = rules
        .providers
        .iter()
        .flat_map(|provider| &provider.credentials)
        .filter_map(|credential| credential.secret.clone())
        .collect();
    Masker::new(&secrets)
}

fn masked(masker: &Masker, text: Option<&str>) -> Option<String> {
    text.map(|text| masker.mask(text).into_owned())
}

/// Problems as they are shown.
pub(super) fn problems(problems: &[Problem], masker: &Masker) -> Vec<ProblemView> {
    problems
        .iter()
        .map(|problem| {
            let mut view = ProblemView::from(problem);
            view.what = masker.mask(&view.what).into_owned();
            view.help = masker.mask(&view.help).into_owned();
            view
        })
        .collect()
}

/// The digest as text.
pub(super) fn digest(rules: &Rules) -> String {
    format!("{:08x}", rules.digest)
}

/// The routes, in the order in which they are tried.
#[utoipa::path(get, path = "/api/v1/routes", tag = "rules", operation_id = "list_routes",
    responses((status = 200, description = "All routes.", body = RouteList), AnyRefusal))]
pub(super) async fn routes(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Json<RouteList> {
    let rules = api.state.rules.load();
    Json(RouteList {
        routes: rules.routes.iter().map(|route| RouteView::from(&**route)).collect(),
    })
}

/// The providers and their credentials, with why some are inactive.
#[utoipa::path(get, path = "/api/v1/providers", tag = "rules", operation_id = "list_providers",
    responses((status = 200, description = "All providers.", body = ProviderList), AnyRefusal))]
pub(super) async fn providers(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Json<ProviderList> {
    let rules = api.state.rules.load();
    let masker = masker(&rules);
    Json(ProviderList {
        providers: rules
            .providers
            .iter()
            .map(|one| ProviderView::of(one, &masker))
            .collect(),
    })
}

/// Reads the rules folder again, all or nothing: with a problem the last good rules stay in force.
#[utoipa::path(post, path = "/api/v1/reload", tag = "rules", operation_id = "reload_rules",
    responses((status = 200, description = "New rules are in force.", body = Reloaded),
        (status = 409, description = "They have problems: see `error.problems`.", body = Refused), AnyRefusal))]
pub(super) async fn reload(State(api): State<Arc<Api>>, Nothing: Nothing) -> Result<Response, Refusal> {
    let outcome = api.blocking(|state| state.rules.reload()).await?;
    let rules = api.state.rules.load();
    let masker = masker(&rules);
    let warnings = match outcome {
        Ok(warnings) => problems(&warnings, &masker),
        Err(found) => return Err(Refusal::rules_refused(problems(&found, &masker))),
    };
    let reloaded = Reloaded {
        loaded_at: rfc3339(rules.loaded_at).to_string(),
        digest: digest(&rules),
        warnings,
    };
    let change = Change {
        target: "rules".into(),
        values: json!({ "digest": reloaded.digest }),
    };
    let mut response = Json(reloaded).into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}
