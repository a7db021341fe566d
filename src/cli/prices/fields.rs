//! The fields of LiteLLM's table: `input_cost_per_token_above_200k_tokens_priority` says what, above how long a prompt, in
//! which service tier. Its CSV form has the same names with `mtok` for `token`, and dollars for a million.

use std::collections::BTreeMap;

use crate::money::{Class, Listed, Rates, Service, Tier};

use super::decimal::scaled;

/// From dollars to nano-dollars.
pub(super) const NANO: i32 = 9;
/// From dollars for a token to nano-dollars for a million.
pub(super) const NANO_MILLION: i32 = 15;

/// Suffixes of service tiers, and our words.
const SERVICES: &[(&str, &str)] = &[("_batches", "batch"), ("_flex", "flex"), ("_priority", "priority")];

/// Fields of rates (LiteLLM's model_prices_and_context_window.schema.json).
const RATES: &[(&str, Class)] = &[
    ("input_cost_per_token", Class::Input),
    ("cache_read_input_token_cost", Class::CacheRead),
    ("input_cost_per_token_cache_hit", Class::CacheRead),
    ("cache_creation_input_token_cost", Class::CacheWrite),
    ("cache_creation_input_token_cost_above_1hr", Class::CacheWrite1h),
    ("input_cost_per_audio_token", Class::InputAudio),
    ("cache_read_input_audio_token_cost", Class::CachedAudio),
    ("output_cost_per_token", Class::Output),
    ("output_cost_per_reasoning_token", Class::Reasoning),
    ("output_cost_per_audio_token", Class::OutputAudio),
    ("output_cost_per_image_token", Class::OutputImage),
];

/// What was read of one model, by service tier and length of the prompt.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    rates: BTreeMap<(Option<&'static str>, u64), Rates>,
    input_image: Option<u64>,
    output_image: Option<u64>,
    request: Option<u64>,
}

impl Gathered {
    /// Takes a field. `per_token`: what makes a rate of a token one of a million, in nano-dollars.
    pub(super) fn field(&mut self, name: &str, number: &str, per_token: i32) {
        let flat = match name {
            "input_cost_per_image" => Some(&mut self.input_image),
            "output_cost_per_image" => Some(&mut self.output_image),
            "input_cost_per_request" => Some(&mut self.request),
            _ => None,
        };
        if let Some(flat) = flat {
            *flat = scaled(number, NANO).or(*flat);
            return;
        }
        let (name, service) = SERVICES
            .iter()
            .find_map(|(suffix, word)| Some((name.strip_suffix(suffix)?, Some(*word))))
            .unwrap_or((name, None));
        let (name, above) = match name.rsplit_once("_above_") {
            Some((rest, prompt)) if prompt.ends_with("_tokens") => match length(prompt) {
                Some(above) => (rest, above),
                None => return,
            },
            _ => (name, 0),
        };
        let class = RATES.iter().find(|(field, _)| *field == name).map(|(_, class)| *class);
        if let (Some(class), Some(rate)) = (class, scaled(number, per_token)) {
            self.rate(service, above, class, rate);
        }
    }

    /// Takes a rate. `above`: 0 for prompts of usual length.
    pub(super) fn rate(&mut self, service: Option<&'static str>, above: u64, class: Class, rate: u64) {
        self.rates.entry((service, above)).or_default().set(class, Some(rate));
    }

    /// Takes a service tier whose rates are the standard's times a factor, in thousandths.
    pub(super) fn times(&mut self, service: &'static str, thousandths: u64) {
        let Some(standard) = self.rates.get(&(None, 0)).copied() else {
            return;
        };
        // All else changes as these two do.
        for class in [Class::Input, Class::Output] {
            let rate = standard.get(class).and_then(|rate| rate.checked_mul(thousandths));
            if let Some(rate) = rate {
                self.rate(Some(service), 0, class, rate / 1000);
            }
        }
    }

    /// True if neither side has a price.
    pub(super) fn is_unpriced(&self) -> bool {
        self.rates
            .get(&(None, 0))
            .is_none_or(|rates| rates.get(Class::Input).is_none())
    }

    /// The price; `None`: a rate is missing without which there is none. `embeds`: nothing is answered but vectors.
    pub(super) fn listed(mut self, embeds: bool) -> Option<Listed> {
        let mut rates = self.rates.remove(&(None, 0))?;
        let input = rates.get(Class::Input)?;
        if embeds && rates.get(Class::Output).is_none() {
            rates.set(Class::Output, Some(0));
        }
        let output = rates.get(Class::Output)?;
        // What says nothing new.
        if rates.get(Class::Reasoning) == Some(output) {
            rates.set(Class::Reasoning, None);
        }
        let mut listed = Listed {
            rates,
            // Beside rates of tokens these are another way to say the same.
            input_image: self.input_image.filter(|price| *price > 0 && input == 0),
            output_image: self
                .output_image
                .filter(|price| *price > 0 && rates.get(Class::OutputImage).is_none()),
            request: self.request.filter(|price| *price > 0),
            ..Listed::default()
        };
        for ((service, above), mut rates) in self.rates {
            if rates.get(Class::Reasoning) == rates.get(Class::Output) {
                rates.set(Class::Reasoning, None);
            }
            let place = match service {
                None => None,
                Some(word) => {
                    if listed.services.last().is_none_or(|last| last.word != word) {
                        listed.services.push(Service {
                            word: word.to_owned(),
                            ..Service::default()
                        });
                    }
                    listed.services.last_mut()
                }
            };
            match (place, above) {
                (Some(service), 0) => service.rates = rates,
                (Some(service), above) => service.tiers.push(Tier { above, rates }),
                (None, above) => listed.tiers.push(Tier { above, rates }),
            }
        }
        Some(listed)
    }
}

/// `200k_tokens`, `1m_tokens`.
fn length(text: &str) -> Option<u64> {
    let text = text.strip_suffix("_tokens")?;
    let unit = |suffix: &str, factor: u64| text.strip_suffix(suffix)?.parse::<u64>().ok()?.checked_mul(factor);
    unit("k", 1000).or_else(|| unit("m", 1_000_000))
}
