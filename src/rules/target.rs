//! Reads targets: the places a route, or a fallback of it, sends to.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::fields::{Fields, no_such};
use crate::config::value::Value;

use super::credential::MAX_WEIGHT;
use super::edits::edits;
use super::{Provider, Target, names};

/// Most targets of one route, and of one list of fallbacks.
const MAX_TARGETS: usize = 100;

/// What routes refer to.
pub(super) struct Known<'r> {
    /// Providers which are sound.
    pub(super) providers: &'r HashMap<Arc<str>, Arc<Provider>>,
    /// Names of all providers, in the files' order, with those that have problems of their own.
    pub(super) names: &'r [String],
}

/// `targets`: chosen among by weight.
pub(super) fn targets(value: &Value<'_>, known: &Known<'_>) -> Vec<Target> {
    let read = list(value, known, true);
    let weights: Vec<_> = read.iter().map(|(_, weight, _)| *weight).collect();
    if !weights.is_empty() && weights.iter().all(|w| *w == Some(0)) {
        value.problem("every target weighs 0, so that none would be chosen. Give one a weight of 1 or more.");
    }
    read.into_iter().filter_map(|(target, ..)| target).collect()
}

/// A list of fallbacks: asked in their order, after `targets`.
pub(super) fn fallback(value: &Value<'_>, known: &Known<'_>, targets: &[Target]) -> Vec<Target> {
    let read = list(value, known, false);
    for (fallback, _, value) in &read {
        let Some(fallback) = fallback else { continue };
        if targets.iter().any(|target| same(target, fallback)) {
            value.warn("it is one of the route's targets, which was tried before; it changes nothing here");
        }
    }
    read.into_iter().filter_map(|(target, ..)| target).collect()
}

/// Whether both mean the same call.
fn same(a: &Target, b: &Target) -> bool {
    a.provider.name == b.provider.name && a.model == b.model && a.tags == b.tags && a.edits == b.edits
}

/// A target, its weight even if the rest is wrong, and where it stands.
type Read<'a> = (Option<Target>, Option<u32>, Value<'a>);

fn list<'a>(value: &Value<'a>, known: &Known<'_>, weighed: bool) -> Vec<Read<'a>> {
    let Some(all) = value.list() else { return Vec::new() };
    if all.is_empty() || all.len() > MAX_TARGETS {
        value.problem(format!("there must be 1 to {MAX_TARGETS} of them"));
    }
    let one = |value: Value<'a>| {
        let (target, weight) = target(value.table()?, known, weighed);
        Some((target, weight, value))
    };
    all.into_iter().take(MAX_TARGETS).filter_map(one).collect()
}

fn target(mut fields: Fields<'_>, known: &Known<'_>, weighed: bool) -> (Option<Target>, Option<u32>) {
    let provider = fields.need("provider", "provider = \"NAME\"").and_then(|value| {
        let name = value.string()?;
        if !known.names.iter().any(|n| n == name) {
            value.problem(no_such("provider", name, known.names.iter().map(String::as_str)));
        }
        known.providers.get(name)
    });
    let model = fields
        .get("model")
        .and_then(|value| names::model(&value).map(Arc::from));
    let weight = match fields.get("weight") {
        None => Some(1),
        Some(value) if !weighed => {
            value.problem("fallbacks are asked in their order, whatever they weigh. Remove it.");
            None
        }
        Some(value) => value.integer(0..=MAX_WEIGHT).and_then(|w| u32::try_from(w).ok()),
    };
    let tags_value = fields.get("tags");
    let tags = tags_value.as_ref().map(names::tags).unwrap_or_default();
    if let (Some(value), Some(provider)) = (&tags_value, provider)
        && !provider
            .credentials
            .iter()
            .any(|c| tags.iter().all(|tag| c.tags.contains(tag)))
    {
        value.problem(format!(
            "no credential of provider \"{}\" has {}, so that the target could never be used",
            provider.name,
            if tags.len() == 1 {
                "this tag"
            } else {
                "all of these tags"
            }
        ));
    }
    let edits = edits(&mut fields);
    fields.finish();
    let target = provider.map(|provider| Target {
        provider: provider.clone(),
        model,
        weight: weight.unwrap_or(1),
        tags,
        edits,
    });
    (target, weight)
}
