//! `/api/v1/routes`: where requests go, in the order in which the routes are tried.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::input::{Asked, NoMore};
use super::look::{Look, TimeoutsView};
use super::refusal::AnyRefusal;
use crate::ir::{MediaKind, Operation};
use crate::observe::redact::printable;
use crate::rules::when::TimeOfDay;
use crate::rules::{self, FallbackOn, Requirement, UnknownPrice, When};

/// Longest value of an edit that is shown, in bytes of JSON.
const MAX_VALUE: usize = 500;

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
    /// What else must hold; null: nothing.
    pub when: Option<WhenView>,
    /// Where it sends.
    pub targets: Vec<TargetView>,
    /// Where it sends, in order, when no target is left.
    pub fallback: Vec<TargetView>,
    /// Where it sends, in order, what failed in a way that would repeat itself at the targets.
    pub fallback_on: Vec<FallbackView>,
    /// How its targets, and their credentials, are chosen.
    pub strategy: String,
    /// Most attempts of one request; null: the configuration's.
    pub attempts: Option<u16>,
    /// What of a request the models must be able to take, by the table of models: `context`, `tools`, `vision` ...
    pub require: Vec<String>,
    /// Whether conversations stay where they are: `auto`, `session`, `off`.
    pub affinity: String,
    /// What is changed in the body.
    pub edits: EditsView,
    /// What is added to the instructions: its length, not its text.
    pub instructions: InstructionsView,
    /// Times of its own.
    pub timeouts: TimeoutsView,
    /// What becomes of a request that conversion would lose something of: `report`, `reject`.
    pub on_loss: String,
    /// Whether its providers are asked for streams: `as_asked`, `always`, `never`.
    pub upstream_stream: String,
    /// How long a request waits for room within the limits of its key, in milliseconds; 0: it is refused at once.
    pub queue_ms: u64,
    /// What becomes of a request whose key has a money budget, where its price is unknown: `refuse`, or the most it is taken to
    /// cost, in dollars (`0.50`); null: as the configuration says.
    pub unknown_price: Option<String>,
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
    /// Only credentials with all of these tags.
    pub tags: Vec<String>,
    /// What is changed in the body there, after what the route changes.
    pub edits: EditsView,
}

/// A fallback for one class of failures.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct FallbackView {
    /// `context_too_long`, `content_policy`, `overloaded`.
    pub on: String,
    /// Where it sends, in order.
    pub targets: Vec<TargetView>,
}

/// Conditions; all that are set must hold, of a list one. Null or empty: no condition.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WhenView {
    /// The client's dialect.
    pub dialects: Vec<String>,
    /// What is asked.
    pub operations: Vec<String>,
    /// Certain keys only, by id or name: the globs stand in the rules.
    pub keys: bool,
    /// Certain owners' keys only: the globs stand in the rules.
    pub owners: bool,
    /// The key has one of these tags.
    pub tags: Vec<String>,
    /// These headers are there, with values that stand in the rules.
    pub headers: Vec<String>,
    /// The client's network.
    pub networks: Vec<String>,
    /// The estimate of the prompt is at least this.
    pub prompt_tokens_from: Option<u64>,
    /// The estimate of the prompt is below this.
    pub prompt_tokens_below: Option<u64>,
    /// The output limit asked for is at least this.
    pub output_tokens_from: Option<u64>,
    /// The output limit asked for is below this.
    pub output_tokens_below: Option<u64>,
    /// Has tools, or has none.
    pub tools: Option<bool>,
    /// Has one of these kinds; an empty list: has none at all.
    pub media: Option<Vec<String>>,
    /// Asks for structured output, or does not.
    pub structured: Option<bool>,
    /// Asks for a stream, or does not.
    pub stream: Option<bool>,
    /// A regular expression found in the last user message.
    pub text: Option<String>,
    /// A share of requests: `12.5 by session`, `by key`, `by request`.
    pub percent: Option<String>,
    /// A time of day: `22:00 to 06:00 Asia/Shanghai, mon fri`.
    pub time: Option<String>,
}

/// Changes of a JSON body.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct EditsView {
    /// Set, whatever the client says.
    pub set: Vec<EditView>,
    /// Set where the client says nothing.
    pub default: Vec<EditView>,
    /// Removed.
    pub remove: Vec<String>,
}

/// One value that is set.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EditView {
    /// Where.
    pub path: String,
    /// What, as JSON; a long one is cut.
    pub json: String,
}

/// How long the texts are that are added to instructions, in characters; null: nothing is added.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct InstructionsView {
    /// Before the client's.
    pub before_chars: Option<usize>,
    /// After them.
    pub after_chars: Option<usize>,
}

fn texts(list: &[impl ToString]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn words<T: Copy>(list: &[T], word: fn(T) -> &'static str) -> Vec<String> {
    list.iter().map(|one| word(*one).to_owned()).collect()
}

fn when(when: &When) -> WhenView {
    WhenView {
        dialects: texts(&when.dialects),
        operations: words(&when.operations, Operation::as_str),
        keys: when.keys.is_some(),
        owners: when.owners.is_some(),
        tags: texts(&when.tags),
        headers: when.headers.iter().map(|(name, _)| name.to_string()).collect(),
        networks: texts(&when.networks),
        prompt_tokens_from: when.prompt_tokens.from,
        prompt_tokens_below: when.prompt_tokens.below,
        output_tokens_from: when.output_tokens.from,
        output_tokens_below: when.output_tokens.below,
        tools: when.tools,
        media: when.media.as_ref().map(|kinds| words(kinds, MediaKind::as_str)),
        structured: when.structured,
        stream: when.stream,
        text: when.text.as_ref().map(|regex| regex.as_str().to_owned()),
        percent: when.percent.map(|percent| {
            let by = percent.by.as_str();
            format!("{} by {by}", f64::from(percent.basis_points) / 100.0)
        }),
        time: when.time.as_ref().map(time),
    }
}

fn time(time: &TimeOfDay) -> String {
    let minutes = |at: u16| format!("{:02}:{:02}", at / 60, at % 60);
    let zone = time.zone.iana_name().unwrap_or("UTC");
    let mut text = format!("{} to {} {zone}", minutes(time.from), minutes(time.to));
    for (at, day) in time.days.iter().enumerate() {
        // `Monday` as rules write it.
        let name = format!("{day:?}").to_lowercase();
        text.push_str(if at == 0 { ", " } else { " " });
        text.push_str(name.get(..3).unwrap_or(&name));
    }
    text
}

fn edits(edits: &rules::Edits, look: &Look) -> EditsView {
    let values = |list: &[(Box<str>, serde_json::Value)]| {
        let view = |(path, value): &(Box<str>, serde_json::Value)| EditView {
            path: path.to_string(),
            json: look.masked(&printable(&value.to_string(), MAX_VALUE)),
        };
        list.iter().map(view).collect()
    };
    EditsView {
        set: values(&edits.set),
        default: values(&edits.default),
        remove: texts(&edits.remove),
    }
}

fn targets(list: &[rules::Target], look: &Look) -> Vec<TargetView> {
    let view = |target: &rules::Target| TargetView {
        provider: target.provider.name.to_string(),
        model: target.model.as_ref().map(ToString::to_string),
        weight: target.weight,
        active: target.provider.inactive.is_none(),
        tags: texts(&target.tags),
        edits: edits(&target.edits, look),
    };
    list.iter().map(view).collect()
}

fn view(route: &rules::Route, look: &Look) -> RouteView {
    let fallback = |(on, list): &(FallbackOn, Vec<rules::Target>)| FallbackView {
        on: on.as_str().into(),
        targets: targets(list, look),
    };
    let chars = |text: &Option<Box<str>>| text.as_ref().map(|text| text.chars().count());
    RouteView {
        name: route.name.to_string(),
        models: route.models.clone(),
        when: route.when.as_deref().map(when),
        targets: targets(&route.targets, look),
        fallback: targets(&route.fallback, look),
        fallback_on: route.fallback_on.iter().map(fallback).collect(),
        strategy: route.strategy.as_str().into(),
        attempts: route.attempts,
        require: words(&route.require, Requirement::as_str),
        affinity: route.affinity.as_str().into(),
        edits: edits(&route.edits, look),
        instructions: InstructionsView {
            before_chars: chars(&route.instructions.before),
            after_chars: chars(&route.instructions.after),
        },
        timeouts: (&route.timeouts).into(),
        on_loss: route.on_loss.as_str().into(),
        upstream_stream: route.upstream_stream.as_str().into(),
        queue_ms: u64::try_from(route.queue.as_millis()).unwrap_or(u64::MAX),
        unknown_price: route.unknown_price.map(|unknown| match unknown {
            UnknownPrice::Refuse => "refuse".to_owned(),
            UnknownPrice::Ceiling(most) => most.to_string(),
        }),
    }
}

/// The routes, in the order in which they are tried.
#[utoipa::path(get, path = "/api/v1/routes", tag = "rules", operation_id = "list_routes",
    responses((status = 200, description = "All routes.", body = RouteList), AnyRefusal))]
pub(super) async fn routes(State(api): State<Arc<Api>>, _: Asked<NoMore, NoMore>) -> Json<RouteList> {
    let look = Look::at(&api.state);
    let rules = look.fleet.rules();
    Json(RouteList {
        routes: rules.routes.iter().map(|route| view(route, &look)).collect(),
    })
}

#[cfg(test)]
mod tests {
    use jiff::civil::Weekday;
    use jiff::tz::TimeZone;

    use super::*;
    use crate::rules::when::{Bounds, Percent, PercentBy};

    #[test]
    fn conditions_are_shown_as_rules_write_them() {
        let shown = when(&When {
            percent: Some(Percent {
                basis_points: 1250,
                by: PercentBy::Key,
            }),
            time: Some(TimeOfDay {
                from: 22 * 60,
                to: 6 * 60 + 5,
                zone: TimeZone::UTC,
                days: vec![Weekday::Monday, Weekday::Friday],
            }),
            prompt_tokens: Bounds {
                from: Some(1000),
                below: None,
            },
            media: Some(vec![MediaKind::Image]),
            ..When::default()
        });
        assert_eq!(shown.percent.as_deref(), Some("12.5 by key"));
        assert_eq!(shown.time.as_deref(), Some("22:00 to 06:05 UTC, mon fri"));
        assert_eq!(
            (shown.prompt_tokens_from, shown.prompt_tokens_below),
            (Some(1000), None)
        );
        assert_eq!(shown.media, Some(vec!["image".to_owned()]));
        assert!(!shown.keys && shown.tools.is_none());
    }
}
