//! `[[route]]`: which model names it takes, and where it sends them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::fields::{Fields, no_such};
use crate::config::value::Value;

use super::credential::MAX_WEIGHT;
use super::matcher::{MAX_PATTERN, glob};
use super::names::{self, Names};
use super::{OnLoss, Provider, Route, Target, UpstreamStream, provider};

/// Most models of one route.
const MAX_MODELS: usize = 1000;
/// Most targets of one route.
const MAX_TARGETS: usize = 100;
/// Longest name of a model at a provider.
const MAX_MODEL: usize = 256;

const LATER: &[(&str, &str)] = &[
    ("when", "conditions of a route"),
    ("fallback", "fallbacks; until then give several targets"),
    ("strategy", "strategies; targets are chosen by weight"),
    (
        "attempts",
        "attempts of a route; there is limits.attempts in the configuration",
    ),
    ("limits", "limits of a route"),
    ("prices", "prices"),
];

/// What routes refer to.
pub(super) struct Known<'r> {
    /// Providers which are sound.
    pub(super) providers: &'r HashMap<Arc<str>, Arc<Provider>>,
    /// Names of all providers, in the files' order, with those that have problems of their own.
    pub(super) names: &'r [String],
}

/// Where each pattern was first taken.
#[derive(Default)]
pub(super) struct Taken(HashMap<String, String>);

/// Compiles the `[[route]]`s of one file.
pub(super) fn all(root: &mut Fields<'_>, known: &Known<'_>, names: &mut Names, taken: &mut Taken) -> Vec<Route> {
    let Some(value) = root.get("route") else {
        return Vec::new();
    };
    let entries = value.list().unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|value| one(value.table()?, known, names, taken))
        .collect()
}

fn one(mut fields: Fields<'_>, known: &Known<'_>, names: &mut Names, taken: &mut Taken) -> Option<Route> {
    let name = fields.need("name", "name = \"...\"").and_then(|value| {
        let name = names::check_phrase(&value)?;
        names.claim("route", name, &value);
        Some(name)
    });
    if let Some(name) = name {
        fields.call(format!("route \"{name}\": "));
    }
    let models = fields
        .need("model", "model = \"NAME\"; globs as \"abc-*\" and lists are allowed")
        .map(|value| models(&value, name.unwrap_or_default(), taken));
    let targets = fields
        .need("targets", "targets = [ { provider = \"NAME\" } ]")
        .map(|value| targets(&value, known));
    let timeouts = provider::timeouts(fields.table("timeouts"));
    let on_loss = fields
        .get("on_loss")
        .and_then(|value| value.word(&[("report", OnLoss::Report), ("reject", OnLoss::Reject)]));
    let upstream_stream = fields.get("upstream_stream").and_then(|value| {
        value.word(&[
            ("as_asked", UpstreamStream::AsAsked),
            ("always", UpstreamStream::Always),
            ("never", UpstreamStream::Never),
        ])
    });
    fields.later(LATER).finish();
    Some(Route {
        name: name?.into(),
        models: models?,
        targets: targets?,
        timeouts,
        on_loss: on_loss.unwrap_or_default(),
        upstream_stream: upstream_stream.unwrap_or_default(),
    })
}

fn models(value: &Value<'_>, route: &str, taken: &mut Taken) -> Vec<String> {
    let all = value.one_or_list();
    if all.is_empty() || all.len() > MAX_MODELS {
        value.problem(format!("a route takes 1 to {MAX_MODELS} model names or globs"));
    }
    let mut models = Vec::new();
    for value in all.into_iter().take(MAX_MODELS) {
        let Some(pattern) = value.string() else { continue };
        if pattern.is_empty() || pattern.len() > MAX_PATTERN || pattern.contains(char::is_control) {
            value.problem(format!(
                "a model name or glob has 1 to {MAX_PATTERN} bytes, none of them a control character"
            ));
        } else if let Err(error) = glob(pattern) {
            value.problem(format!(
                "this is not a glob: {}. A \\ before a character takes it as it is.",
                error.kind()
            ));
        } else {
            taken.check(pattern, route, &value);
            models.push(pattern.to_owned());
        }
    }
    models
}

impl Taken {
    /// Warns of a pattern that can never match, since an earlier route takes all it could.
    fn check(&mut self, pattern: &str, route: &str, value: &Value<'_>) {
        let earlier = self.0.get("*").or_else(|| self.0.get(pattern));
        if let Some(earlier) = earlier {
            value.warn(format!("it never matches: {earlier} comes first and takes the same"));
            return;
        }
        let (file, line) = value.place();
        let place = format!("route \"{route}\" at {}:{line}", file.display());
        self.0.insert(pattern.to_owned(), place);
    }
}

fn targets(value: &Value<'_>, known: &Known<'_>) -> Vec<Target> {
    let all = value.list();
    let wrong_kind = all.is_none();
    let all = all.unwrap_or_default();
    if !wrong_kind && (all.is_empty() || all.len() > MAX_TARGETS) {
        value.problem(format!("a route has 1 to {MAX_TARGETS} targets"));
    }
    let mut weights = Vec::new();
    let mut targets = Vec::new();
    for value in all.into_iter().take(MAX_TARGETS) {
        let Some(fields) = value.table() else { continue };
        let (target, weight) = target(fields, known);
        weights.push(weight);
        targets.extend(target);
    }
    if !weights.is_empty() && weights.iter().all(|w| *w == Some(0)) {
        value.problem("every target weighs 0, so that none would be chosen. Give one a weight of 1 or more.");
    }
    targets
}

/// A target, and its weight even if the rest is wrong.
fn target(mut fields: Fields<'_>, known: &Known<'_>) -> (Option<Target>, Option<u32>) {
    let provider = fields.need("provider", "provider = \"NAME\"").and_then(|value| {
        let name = value.string()?;
        if !known.names.iter().any(|n| n == name) {
            value.problem(no_such("provider", name, known.names.iter().map(String::as_str)));
        }
        known.providers.get(name)
    });
    let model = fields.get("model").and_then(|value| {
        let model = value.string()?;
        if (1..=MAX_MODEL).contains(&model.len()) && !model.contains(char::is_control) {
            return Some(model.into());
        }
        value.problem(format!(
            "a model's name has 1 to {MAX_MODEL} bytes, none of them a control character"
        ));
        None
    });
    let weight = match fields.get("weight") {
        None => Some(1),
        Some(value) => value.integer(0..=MAX_WEIGHT).and_then(|w| u32::try_from(w).ok()),
    };
    fields.finish();
    let target = provider.map(|provider| Target {
        provider: provider.clone(),
        model,
        weight: weight.unwrap_or(1),
    });
    (target, weight)
}
