//! Tables of prices, read: LiteLLM's JSON, the same as CSV, and models.dev's `api.json`. Which it is shows in the file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::money::{Class, Listed};

use super::decimal::scaled;
use super::fields::{Gathered, NANO, NANO_MILLION};

/// What a model of a table is for, as far as it costs what an answer of text costs.
const TEXT_MODES: &[&str] = &["", "chat", "completion", "responses", "embedding"];
/// The field of LiteLLM's entries that all have.
const PROVIDER: &str = "litellm_provider";

/// A model of a table.
#[derive(Debug, PartialEq)]
pub(super) struct Found {
    /// The provider, as the table calls it.
    pub provider: String,
    /// The model, as its provider calls it.
    pub model: String,
    pub price: Result<Listed, Skip>,
}

/// Why a model is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Skip {
    /// It makes pictures, sound, films, or nothing.
    NoText,
    /// The table does not say what it costs.
    NoPrice,
}

/// What kind of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    LiteLlm,
    Csv,
    ModelsDev,
}

impl Format {
    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::LiteLlm => "LiteLLM's table",
            Format::Csv => "LiteLLM's table as CSV",
            Format::ModelsDev => "models.dev's table",
        }
    }
}

/// Raw JSON by name.
type Raw<'a> = BTreeMap<String, &'a RawValue>;

/// Reads a table. An error says what is wrong with it.
pub(super) fn table(text: &str) -> Result<(Format, Vec<Found>), String> {
    let text = text.trim_start_matches('\u{feff}');
    if !text.trim_start().starts_with('{') {
        return csv(text).map(|found| (Format::Csv, found));
    }
    let all: BTreeMap<String, Raw<'_>> =
        serde_json::from_str(text).map_err(|error| format!("it is no table of prices: {error}"))?;
    if all.values().any(|entry| entry.contains_key(PROVIDER)) {
        return Ok((Format::LiteLlm, litellm(all)));
    }
    if all.values().any(|entry| entry.contains_key("models")) {
        return Ok((Format::ModelsDev, models_dev(all)?));
    }
    Err("it is neither LiteLLM's table (model_prices_and_context_window.json) nor that of models.dev (api.json)".into())
}

fn word(raw: Option<&&RawValue>) -> String {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok())
        .unwrap_or_default()
}

fn litellm(all: BTreeMap<String, Raw<'_>>) -> Vec<Found> {
    // The entry `sample_spec` describes the others, and further ones have no provider.
    let all = all
        .into_iter()
        .filter(|(name, entry)| name != "sample_spec" && entry.contains_key(PROVIDER));
    let one = |(name, entry): (String, Raw<'_>)| {
        let provider = word(entry.get(PROVIDER));
        let mode = word(entry.get("mode"));
        let mut gathered = Gathered::default();
        for (field, raw) in &entry {
            gathered.field(field, raw.get(), NANO_MILLION);
        }
        if let Some(tiers) = entry.get("tiered_pricing") {
            tiered(tiers, &mut gathered);
        }
        // Anthropic's fast mode, and OpenAI's: a factor on all.
        let factors = entry.get("provider_specific_entry");
        let factors: Raw<'_> = factors
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        if let Some(factor) = factors.get("fast").and_then(|raw| scaled(raw.get(), 3)) {
            gathered.times("fast", factor);
        }
        Found {
            model: model(&name, &provider),
            provider,
            price: price(gathered, &mode),
        }
    };
    all.map(one).collect()
}

/// The name its provider needs: the table puts the provider's before it where names would be the same.
fn model(name: &str, provider: &str) -> String {
    let plain = name.strip_prefix(provider).and_then(|rest| rest.strip_prefix('/'));
    plain.unwrap_or(name).to_owned()
}

fn price(gathered: Gathered, mode: &str) -> Result<Listed, Skip> {
    if !TEXT_MODES.contains(&mode) {
        return Err(Skip::NoText);
    }
    gathered.listed(mode == "embedding").ok_or(Skip::NoPrice)
}

/// `tiered_pricing`: `[{ "range": [0, 32000], "input_cost_per_token": ... }, ...]`.
fn tiered(raw: &RawValue, gathered: &mut Gathered) {
    let steps: Vec<Raw<'_>> = serde_json::from_str(raw.get()).unwrap_or_default();
    let bare = gathered.is_unpriced();
    for step in steps {
        let range: Vec<&RawValue> = step
            .get("range")
            .and_then(|raw| serde_json::from_str(raw.get()).ok())
            .unwrap_or_default();
        let above = range.first().and_then(|from| scaled(from.get(), 0));
        let suffix = match above {
            Some(0) if bare => String::new(),
            Some(tokens) if tokens > 0 && tokens % 1000 == 0 => format!("_above_{}k_tokens", tokens / 1000),
            _ => continue,
        };
        for (field, raw) in &step {
            gathered.field(&format!("{field}{suffix}"), raw.get(), NANO_MILLION);
        }
    }
}

fn csv(text: &str) -> Result<Vec<Found>, String> {
    let wrong = |error: csv::Error| format!("it is no table of prices: {error}");
    let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
    let names: Vec<String> = reader
        .headers()
        .map_err(wrong)?
        .iter()
        .map(|name| name.replace("mtok", "token"))
        .collect();
    let column = |name: &str| names.iter().position(|other| other == name);
    let (Some(provider), Some(model_at)) = (column("provider"), column("model")) else {
        return Err("it is no table of prices: neither JSON, nor CSV with the columns provider and model".into());
    };
    let mode = column("mode");
    let mut found = Vec::new();
    for line in reader.records() {
        let line = line.map_err(wrong)?;
        let cell = |at: usize| line.get(at).unwrap_or_default();
        let mut gathered = Gathered::default();
        for (name, number) in names.iter().zip(&line) {
            gathered.field(name, number, NANO);
        }
        found.push(Found {
            provider: cell(provider).to_owned(),
            model: model(cell(model_at), cell(provider)),
            price: price(gathered, mode.map_or("", cell)),
        });
    }
    Ok(found)
}

/// A provider of models.dev.
#[derive(Deserialize)]
struct Provider<'a> {
    #[serde(borrow)]
    models: BTreeMap<String, Model<'a>>,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(borrow, default)]
    cost: Option<Raw<'a>>,
    #[serde(default)]
    modalities: Option<Modalities>,
}

#[derive(Deserialize)]
struct Modalities {
    #[serde(default)]
    output: Vec<String>,
}

/// Fields of `cost`, in dollars for a million tokens (models.dev's README, "Schema Reference").
const COSTS: &[(&str, Class)] = &[
    ("input", Class::Input),
    ("output", Class::Output),
    ("cache_read", Class::CacheRead),
    ("cache_write", Class::CacheWrite),
    ("reasoning", Class::Reasoning),
    ("input_audio", Class::InputAudio),
    ("output_audio", Class::OutputAudio),
];

fn models_dev(all: BTreeMap<String, Raw<'_>>) -> Result<Vec<Found>, String> {
    let mut found = Vec::new();
    for (provider, entry) in all {
        let Some(models) = entry.get("models") else { continue };
        let text = format!("{{\"models\":{}}}", models.get());
        let read: Provider<'_> =
            serde_json::from_str(&text).map_err(|error| format!("the models of {provider} can't be read: {error}"))?;
        for (model, entry) in read.models {
            let makes_text = entry.modalities.is_none_or(|kinds| {
                kinds.output.is_empty() || kinds.output.iter().any(|kind| kind == "text" || kind == "embeddings")
            });
            let mut gathered = Gathered::default();
            let cost = entry.cost.unwrap_or_default();
            costs(&cost, 0, &mut gathered);
            if let Some(long) = cost.get("context_over_200k") {
                costs(
                    &serde_json::from_str(long.get()).unwrap_or_default(),
                    200_000,
                    &mut gathered,
                );
            }
            let tiers = cost
                .get("tiers")
                .and_then(|raw| serde_json::from_str::<Vec<Raw<'_>>>(raw.get()).ok());
            for tier in tiers.unwrap_or_default() {
                let step: Raw<'_> = tier
                    .get("tier")
                    .and_then(|raw| serde_json::from_str(raw.get()).ok())
                    .unwrap_or_default();
                if let Some(above) = step
                    .get("size")
                    .and_then(|raw| scaled(raw.get(), 0))
                    .filter(|above| *above > 0)
                {
                    costs(&tier, above, &mut gathered);
                }
            }
            let price = match makes_text {
                true => gathered.listed(false).ok_or(Skip::NoPrice),
                false => Err(Skip::NoText),
            };
            found.push(Found {
                provider: provider.clone(),
                model,
                price,
            });
        }
    }
    Ok(found)
}

fn costs(cost: &Raw<'_>, above: u64, gathered: &mut Gathered) {
    for (field, class) in COSTS {
        if let Some(rate) = cost.get(*field).and_then(|raw| scaled(raw.get(), NANO)) {
            gathered.rate(None, above, *class, rate);
        }
    }
}

#[cfg(test)]
mod tests;
