//! `[[route]]`: which requests it takes, where it sends them, and what it changes.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::config::MAX_ATTEMPTS;
use crate::config::fields::Fields;
use crate::config::value::Value;

use super::edits::{edits, instructions};
use super::names::{self, Names};
use super::target::{self, Known};
use super::{Affinity, FallbackOn, OnLoss, Requirement, Route, Target, UpstreamStream, conditions, provider};

/// Bounds of `queue`: the client waits, and its body is held.
const QUEUE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(300);

const LATER: &[(&str, &str)] = &[("limits", "limits of a route"), ("prices", "prices of a route")];

/// A route as it stands in its file, so that what concerns several of them can name the line.
pub(super) struct Written<'a> {
    /// The route; `None`: something in it is wrong, and reported.
    pub(super) route: Option<Arc<Route>>,
    /// Its names and globs, where each stands.
    pub(super) models: Vec<(&'a str, Value<'a>)>,
    /// `model`.
    pub(super) model: Option<Value<'a>>,
    /// `when`, as JSON.
    pub(super) when: Option<serde_json::Value>,
    /// `require`.
    pub(super) require: Option<Value<'a>>,
    /// `strategy`.
    pub(super) strategy: Option<Value<'a>>,
}

/// Compiles the `[[route]]`s of one file.
pub(super) fn all<'a>(root: &mut Fields<'a>, known: &Known<'_>, names: &mut Names) -> Vec<Written<'a>> {
    let entries = root.get("route").and_then(|value| value.list()).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|value| Some(one(value.table()?, known, names)))
        .collect()
}

fn one<'a>(mut fields: Fields<'a>, known: &Known<'_>, names: &mut Names) -> Written<'a> {
    let name = fields.need("name", "name = \"...\"").and_then(|value| {
        let name = names::check_phrase(&value)?;
        names.claim("route", name, &value);
        Some(name)
    });
    if let Some(name) = name {
        fields.call(format!("route \"{name}\": "));
    }
    let model = fields.need("model", "model = \"NAME\"; globs as \"abc-*\" and lists are allowed");
    let models = model.as_ref().map(names::models).unwrap_or_default();
    let when_value = fields.get("when");
    let when = when_value.as_ref().and_then(conditions::read);
    let targets = targets(&mut fields, known);
    let primary = targets.as_deref().unwrap_or_default();
    let fallback = fields
        .get("fallback")
        .map(|value| target::fallback(&value, known, primary))
        .unwrap_or_default();
    let fallback_on = fields
        .get("fallback_on")
        .map(|value| fallback_on(&value, known, primary))
        .unwrap_or_default();
    let strategy = fields.get("strategy");
    let attempts = fields.integer("attempts", 1..=u64::from(MAX_ATTEMPTS));
    let require = fields.get("require");
    let affinity = fields.get("affinity");
    let affinity = affinity.and_then(|value| value.word_of(Affinity::ALL, Affinity::as_str));
    let edits = edits(&mut fields);
    let instructions = instructions(fields.table("system"));
    let timeouts = provider::timeouts(fields.table("timeouts"));
    let on_loss = fields.get("on_loss");
    let on_loss = on_loss.and_then(|value| value.word_of(OnLoss::ALL, OnLoss::as_str));
    let upstream_stream = fields.get("upstream_stream");
    let upstream_stream = upstream_stream.and_then(|value| value.word_of(UpstreamStream::ALL, UpstreamStream::as_str));
    let queue = fields.get("queue").and_then(|value| queue(&value));
    let critical = fields.boolean("critical").unwrap_or_default();
    let on_abort = fields.get("on_abort").and_then(|value| value.abort_or_drain());
    let unknown_price = fields.get("unknown_price").map(|value| value.price_or_refuse().into());
    fields.later(LATER).finish();
    let route = match (name, &model, targets) {
        (Some(name), Some(_), Some(targets)) => Some(Arc::new(Route {
            name: name.into(),
            models: models.iter().map(|(model, _)| (*model).to_owned()).collect(),
            when,
            targets,
            fallback,
            fallback_on,
            strategy: strategy.as_ref().and_then(provider::strategy).unwrap_or_default(),
            attempts: attempts.and_then(|n| u16::try_from(n).ok()),
            require: require.as_ref().map(requirements).unwrap_or_default(),
            affinity: affinity.unwrap_or_default(),
            edits,
            instructions,
            timeouts,
            on_loss: on_loss.unwrap_or_default(),
            upstream_stream: upstream_stream.unwrap_or_default(),
            queue: queue.unwrap_or_default(),
            critical,
            unknown_price,
            on_abort,
        })),
        _ => None,
    };
    Written {
        route,
        models,
        model,
        when: when_value.and_then(|value| value.json().ok()),
        require,
        strategy,
    }
}

/// A time, or `"off"`.
fn queue(value: &Value<'_>) -> Option<Duration> {
    match value.text() {
        Some("off") => Some(Duration::ZERO),
        _ => value.duration(QUEUE),
    }
}

fn targets(fields: &mut Fields<'_>, known: &Known<'_>) -> Option<Vec<Target>> {
    const EXAMPLE: &str = "targets = [ { provider = \"NAME\" } ]";
    if !fields.has("targets") && (fields.has("fallback") || fields.has("fallback_on")) {
        let _ = fields.get("targets");
        fields.problem(format!(
            "targets is missing, and fallbacks are asked only when the targets have failed. Write {EXAMPLE}."
        ));
        return None;
    }
    fields
        .need("targets", EXAMPLE)
        .map(|value| target::targets(&value, known))
}

fn fallback_on(value: &Value<'_>, known: &Known<'_>, targets: &[Target]) -> Vec<(FallbackOn, Vec<Target>)> {
    let Some(mut fields) = value.table() else {
        return Vec::new();
    };
    let lists = FallbackOn::ALL.map(|on| {
        let value = fields.get(on.as_str())?;
        Some((on, target::fallback(&value, known, targets)))
    });
    fields.finish();
    lists.into_iter().flatten().collect()
}

fn requirements(value: &Value<'_>) -> Vec<Requirement> {
    let all = value.one_or_list();
    let mut found: Vec<Requirement> = Vec::new();
    for requirement in all
        .iter()
        .filter_map(|value| value.word_of(Requirement::ALL, Requirement::as_str))
    {
        if !found.contains(&requirement) {
            found.push(requirement);
        }
    }
    found
}
