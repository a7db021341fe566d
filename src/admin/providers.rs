//! `/api/v1/providers`: who answers, how each is reached, and how its addresses stand.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::input::{Asked, NoMore};
use super::look::{CheckView, EgressView, Look, TimeoutsView, ms};
use super::refusal::AnyRefusal;
use crate::observe::rfc3339;
use crate::rules::{self, Auth, HttpVersions};
use crate::upstream::health::{Finding, PlaceCheck, place};
use crate::upstream::{Checks, Pool};

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
    /// Its credentials, the inactive ones too; how they stand is at `/api/v1/credentials`.
    pub credentials: Vec<CredentialView>,
    /// Times of its own.
    pub timeouts: TimeoutsView,
    /// How its credentials are chosen where no route says it.
    pub strategy: String,
    /// How it is reached.
    pub egress: EgressView,
    /// Whether failures cool its credentials down.
    pub cooldown: bool,
    /// Its addresses, those that are known.
    pub peers: Vec<PeerView>,
    /// Active checks.
    pub health: HealthView,
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

/// One address of a provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PeerView {
    /// Scheme, host and port it belongs to.
    pub place: String,
    /// The address.
    pub address: String,
    /// Whether the last connection to it came about; null: nothing is known yet.
    pub up: Option<bool>,
    /// Connections that failed, in a row.
    pub failures: u32,
    /// Decaying average of the time to connect.
    pub connect_ms: Option<u64>,
    /// It is not used before this, RFC 3339; null: it may be.
    #[schema(format = DateTime)]
    pub cooling_until: Option<String>,
    /// The last active check.
    pub last_check: Option<CheckView>,
}

/// Active checks of a provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct HealthView {
    /// How often; null: never.
    pub every_seconds: Option<u64>,
    /// The path that is asked; null: the list of models, as the dialect has it.
    pub path: Option<String>,
    /// The model that is asked instead.
    pub model: Option<String>,
    /// What was found of the places where it answers.
    pub places: Vec<PlaceView>,
}

/// What was found of a place where a provider answers.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PlaceView {
    /// Scheme, host and port.
    pub place: String,
    /// Whether the name resolves.
    pub resolves: bool,
    /// When the certificate shown there expires, RFC 3339; null: there is none, or it is not known.
    #[schema(format = DateTime)]
    pub certificate_expires_at: Option<String>,
}

/// Every provider, as it is shown.
pub(super) fn views(look: &Look, checks: &Checks) -> Vec<ProviderView> {
    let providers = look.fleet.rules().providers.iter();
    providers.map(|provider| view(provider, look, checks)).collect()
}

fn view(provider: &rules::Provider, look: &Look, checks: &Checks) -> ProviderView {
    let places = checks.of_places(&provider.name);
    let masked = |text: &Option<String>| text.as_deref().map(|text| look.masked(text));
    let credential = |credential: &Arc<rules::Credential>| CredentialView {
        name: credential.name.to_string(),
        active: credential.inactive.is_none(),
        inactive: masked(&credential.inactive),
        weight: credential.weight,
    };
    ProviderView {
        name: provider.name.to_string(),
        active: provider.inactive.is_none(),
        inactive: masked(&provider.inactive),
        bases: provider.bases.iter().map(|one| base(one, look)).collect(),
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
        stream_usage: provider.stream_usage.as_str().into(),
        headers: provider.headers.iter().map(|(name, _)| name.to_string()).collect(),
        credentials: provider.credentials.iter().map(credential).collect(),
        timeouts: (&provider.timeouts).into(),
        strategy: provider.strategy.as_str().into(),
        egress: (&provider.egress).into(),
        cooldown: provider.cooldown,
        peers: look
            .fleet
            .pool(&provider.name)
            .map(|pool| peers(pool, &places, look))
            .unwrap_or_default(),
        health: HealthView {
            every_seconds: provider.health.every.map(|every| every.as_secs()),
            path: provider.health.path.as_deref().map(|path| look.masked(path)),
            model: provider.health.model.as_ref().map(ToString::to_string),
            places: places
                .iter()
                .map(|check| PlaceView {
                    place: check.place.to_string(),
                    resolves: check.resolves,
                    certificate_expires_at: check.certificate_expires.map(|at| rfc3339(at).to_string()),
                })
                .collect(),
        },
    }
}

/// What traffic and checks know of each address. Dialects at one place share it; the worst that one of them knows is shown.
fn peers(pool: &Pool, checks: &[PlaceCheck], look: &Look) -> Vec<PeerView> {
    let mut peers: BTreeMap<(Arc<str>, _), PeerView> = BTreeMap::new();
    let unknown = |place: &Arc<str>, address: std::net::SocketAddr| PeerView {
        place: place.to_string(),
        address: address.to_string(),
        up: None,
        failures: 0,
        connect_ms: None,
        cooling_until: None,
        last_check: None,
    };
    for check in checks {
        for (address, result) in &check.addresses {
            let view = peers
                .entry((check.place.clone(), *address))
                .or_insert_with(|| unknown(&check.place, *address));
            view.up = Some(result.finding == Finding::Ok);
            view.last_check = Some(look.check(result));
        }
    }
    for endpoint in pool.endpoints() {
        let place = place(endpoint);
        for state in endpoint.peers(look.now) {
            let view = peers
                .entry((place.clone(), state.address))
                .or_insert_with(|| unknown(&place, state.address));
            // Traffic and checks both tell the endpoint, so that it knows the latest.
            if state.failures >= view.failures {
                view.up = Some(state.failures == 0);
                view.failures = state.failures;
                view.cooling_until = look.until(state.until);
            }
            view.connect_ms = view.connect_ms.or(state.connect.map(ms));
        }
    }
    peers.into_values().collect()
}

fn base(base: &rules::Base, look: &Look) -> BaseView {
    let url = base.url.clone().map(|mut url| {
        // Both fail only for addresses which have no host, and so no user either.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.set_fragment(None);
        look.masked(url.as_str())
    });
    BaseView {
        dialect: base.dialect.to_string(),
        url,
    }
}

/// The providers: how each is reached, why some are inactive, and how their addresses stand.
#[utoipa::path(get, path = "/api/v1/providers", tag = "rules", operation_id = "list_providers",
    responses((status = 200, description = "All providers.", body = ProviderList), AnyRefusal))]
pub(super) async fn providers(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Json<ProviderList> {
    let look = Look::at(&api.state);
    Json(ProviderList {
        providers: views(&look, &api.state.checks),
    })
}
