//! `/api/v1/addresses/test`: whether something answers where a URL leads, before it is written into the rules.
//!
//! The gateway may reach more than whoever asks: so what is tried is bound by `egress::policy`, and what is told is no more
//! than needed to see that a URL is right.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::Api;
use super::audit::Change;
use super::input::Given;
use super::refusal::{AnyRefusal, BodyRefusal, Refusal};
use crate::egress::probe::Tried;

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;

/// What is to be tried.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressWanted {
    /// A base URL, as rules have it. Its path is not asked for.
    #[schema(example = "https://api.example.com/v1", max_length = 2048)]
    pub url: String,
}

/// What came of it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AddressTried {
    /// Class of the answer's status: `2xx`; null: there was no answer. Any answer shows that a server is there.
    #[schema(example = "4xx")]
    pub status_class: Option<String>,
    /// Why there was no answer: `connect`, `tls`, `not_http`, `timeout`.
    pub failure: Option<String>,
    /// Until the answer's status came, or the failure, in milliseconds.
    pub latency_ms: u64,
    /// Whole days until the certificate ends; null: there was none, or none that is valid for the host.
    pub certificate_days_left: Option<i64>,
}

/// Tries out where a URL leads: asks for `/`, once, for five seconds, follows no redirect.
#[utoipa::path(post, path = "/api/v1/addresses/test", tag = "addresses", operation_id = "test_address",
    request_body = AddressWanted,
    responses((status = 200, description = "What came of it.", body = AddressTried), AnyRefusal, BodyRefusal))]
pub(super) async fn test(
    State(api): State<Arc<Api>>,
    Given(wanted): Given<AddressWanted>,
) -> Result<Response, Refusal> {
    let tried = api.state.probe.test(&wanted.url).await;
    let tried = tried.map_err(|refusal| Refusal::invalid_body("url", refusal.to_string()))?;
    let Tried {
        status_class,
        failure,
        latency,
        certificate_ends,
    } = tried;
    let now = api.state.clock.now();
    let view = AddressTried {
        status_class: status_class.map(|class| format!("{class}xx")),
        failure: failure.map(|failure| failure.as_str().to_owned()),
        latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
        certificate_days_left: certificate_ends.map(|end| end.0.saturating_sub(now.0).div_euclid(DAY)),
    };
    // What passed has neither user nor query in it.
    let change = Change {
        target: "test".into(),
        values: json!({ "url": wanted.url }),
    };
    let mut response = Json(view).into_response();
    response.extensions_mut().insert(change);
    Ok(response)
}
