//! `/api/v1/alerts`: what stands, and what webhooks were told; and whether a webhook can be reached.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::{Asked, Given, NoMore};
use super::refusal::{AnyRefusal, BodyRefusal, Refusal, Refused};
use crate::alerts::{Active, Delivery, OutletView, TestError, Tested};
use crate::observe::rfc3339;

/// What stands, and what was told.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AlertsView {
    /// The conditions that were told and stand.
    pub active: Vec<ActiveAlert>,
    /// How many more there are, beyond the most that are kept at once (1024).
    pub beyond: u64,
    /// The webhooks of the configuration.
    pub webhooks: Vec<WebhookView>,
}

/// A condition that stands.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ActiveAlert {
    /// Which: `error_rate`, `credential_dead`, `provider_down`, `budget`, `certificate`, `ledger`, `reload_failed`, `overload`,
    /// `upgrade_failed`.
    #[schema(example = "credential_dead")]
    pub condition: String,
    /// Of what; empty: of the gateway.
    pub subject: String,
    /// `info`, `warning`, `critical`.
    pub severity: String,
    /// Since when it holds, RFC 3339.
    #[schema(format = DateTime)]
    pub since: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub help: String,
}

/// A webhook. Where it is, is not told.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WebhookView {
    /// Its name.
    pub name: String,
    /// `slack`, `feishu`, `generic`.
    pub kind: String,
    /// Why it is told nothing; null: it is active.
    pub inactive: Option<String>,
    /// Messages that wait.
    pub queued: u64,
    /// What became of the last messages (at most 20), the last first.
    pub deliveries: Vec<DeliveryView>,
}

/// What became of a message.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct DeliveryView {
    /// When it was delivered or given up, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// `raised`, `recovered`, `reminder`, `summary`, `heartbeat`, `test`.
    pub event: String,
    /// The condition; null: it was of none.
    pub condition: Option<String>,
    /// Of what.
    pub subject: String,
    /// How often it was sent.
    pub tries: u32,
    /// Why it was given up; null: it was taken.
    pub failure: Option<String>,
}

/// Which webhook is to be tested.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestWanted {
    /// Its name; null: all.
    #[serde(default)]
    #[schema(example = "ops", max_length = 64)]
    pub webhook: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestDone {
    /// Each webhook, in the order of names.
    pub results: Vec<TestResult>,
}

/// What came of a test.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct TestResult {
    /// Which webhook.
    pub webhook: String,
    /// Whether it took the message.
    pub delivered: bool,
    /// Why not: a status, `connect`, `tls`, `not_http`, `timeout`, or what is wrong with its configuration.
    pub failure: Option<String>,
}

impl From<Active> for ActiveAlert {
    fn from(active: Active) -> Self {
        ActiveAlert {
            condition: active.finding.condition.as_str().into(),
            subject: active.finding.subject,
            severity: active.finding.severity.as_str().into(),
            since: rfc3339(active.since).to_string(),
            what: active.finding.what,
            help: active.finding.help,
        }
    }
}

impl From<OutletView> for WebhookView {
    fn from(outlet: OutletView) -> Self {
        WebhookView {
            name: outlet.name,
            kind: outlet.kind.as_str().into(),
            inactive: outlet.inactive,
            queued: outlet.queued as u64,
            deliveries: outlet.deliveries.into_iter().map(DeliveryView::from).collect(),
        }
    }
}

impl From<Delivery> for DeliveryView {
    fn from(delivery: Delivery) -> Self {
        DeliveryView {
            at: rfc3339(delivery.at).to_string(),
            event: delivery.event.into(),
            condition: delivery.condition.map(|condition| condition.as_str().into()),
            subject: delivery.subject,
            tries: delivery.tries,
            failure: delivery.failure,
        }
    }
}

impl From<Tested> for TestResult {
    fn from(tested: Tested) -> Self {
        TestResult {
            webhook: tested.webhook,
            delivered: tested.failure.is_none(),
            failure: tested.failure,
        }
    }
}

/// The conditions that stand, the webhooks, and what became of the last messages to each.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "alerts", operation_id = "list_alerts",
    responses((status = 200, description = "What stands.", body = AlertsView), AnyRefusal))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Json<AlertsView> {
    let (active, beyond) = api.state.alerts.active();
    let outlets = api.state.alerts.outlets();
    Json(AlertsView {
        active: active.into_iter().map(ActiveAlert::from).collect(),
        beyond,
        webhooks: outlets.into_iter().map(WebhookView::from).collect(),
    })
}

/// Sends a test message, once, for ten seconds at most; to one webhook or to all.
#[utoipa::path(post, path = "/api/v1/alerts/test", tag = "alerts", operation_id = "test_alerts",
    request_body = TestWanted,
    responses((status = 200, description = "What came of it.", body = TestDone),
        (status = 404, description = "There is no such webhook.", body = Refused), AnyRefusal, BodyRefusal))]
pub(super) async fn test(State(api): State<Arc<Api>>, Given(wanted): Given<TestWanted>) -> Result<Response, Refusal> {
    let tested = api.state.alerts.test(wanted.webhook.as_deref()).await;
    let tested = tested.map_err(|error| match error {
        TestError::NoSuchWebhook => Refusal::not_found(error.to_string()),
        TestError::Busy => Refusal::busy("tests of webhooks"),
    })?;
    let done = TestDone {
        results: tested.into_iter().map(TestResult::from).collect(),
    };
    let change = Change {
        target: "test".into(),
        values: json!({ "results": done.results }),
    };
    let mut response = Json(done).into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}
