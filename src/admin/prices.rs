//! `/api/v1/prices`: what a model costs now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::input::{Asked, NoMore};
use super::refusal::{AnyRefusal, Refusal};
use crate::money::{Class, NanoUsd};
use crate::observe::redact::printable;
use crate::observe::rfc3339;

/// Longest name that is shown again, in bytes.
const MAX_NAME: usize = 256;

/// Of what.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PriceOf {
    /// Provider.
    #[param(required, value_type = String)]
    provider: Option<String>,
    /// Model, by the name the provider needs.
    #[param(required, value_type = String)]
    model: Option<String>,
}

/// What a model costs at a provider.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct PriceView {
    /// Provider.
    pub provider: String,
    /// Model, by the name the provider needs.
    pub model: String,
    /// When: the present, RFC 3339.
    #[schema(format = DateTime)]
    pub at: String,
    /// For a million tokens of each class at the usual service and length of prompt; null: the price is unknown.
    pub rates: Option<Vec<RateView>>,
}

/// What a million tokens of one class cost.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RateView {
    /// As in `[[price]]`: `input`, `cached`, `cache_write`, `output` ...
    pub class: String,
    /// In dollars.
    #[schema(example = "2.5")]
    pub usd: String,
    /// The same in nano-dollars.
    pub nano_usd: u64,
}

/// What a model costs now at a provider, by the rules in force, without markup.
#[utoipa::path(get, path = "/api/v1/prices", tag = "rules", operation_id = "show_price", params(PriceOf),
    responses((status = 200, description = "Its rates.", body = PriceView), AnyRefusal))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Asked(PriceOf { provider, model }, _): Asked<PriceOf, NoMore>,
) -> Result<Json<PriceView>, Refusal> {
    let needed = |field: &str| Refusal::invalid_query(field, format!("`{field}` is needed"));
    let provider = provider.ok_or_else(|| needed("provider"))?;
    let model = model.ok_or_else(|| needed("model"))?;
    let now = api.state.clock.now();
    let fleet = api.state.fleet.load();
    let price = fleet.rules().prices.price(&provider, &model, now);
    let rate = |price: &crate::money::Price, class: Class| RateView {
        class: class.field().to_owned(),
        usd: NanoUsd(price.rate(class)).to_string(),
        nano_usd: price.rate(class),
    };
    Ok(Json(PriceView {
        provider: printable(&provider, MAX_NAME).into_owned(),
        model: printable(&model, MAX_NAME).into_owned(),
        at: rfc3339(now).to_string(),
        rates: price.map(|price| Class::ALL.map(|class| rate(price, class)).into()),
    }))
}
