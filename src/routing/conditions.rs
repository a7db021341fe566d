//! Whether the conditions of a route hold of a request. Pure; `tollgate route explain` asks the same function.

use http::HeaderMap;
use jiff::Timestamp;

use crate::clock::UnixMicros;
use crate::rules::When;
use crate::rules::when::{Bounds, Percent, PercentBy, TimeOfDay};

use super::{Query, Survey, hash};

/// A condition, by the word that stands for it in the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `dialect`
    Dialect,
    /// `operation`
    Operation,
    /// `stream`
    Stream,
    /// `client`
    Client,
    /// `key`
    Key,
    /// `owner`
    Owner,
    /// `tag`
    Tag,
    /// `header`
    Header,
    /// `percent`
    Percent,
    /// `time`
    Time,
    /// `prompt_tokens_from`, `prompt_tokens_below`
    PromptTokens,
    /// `output_tokens_from`, `output_tokens_below`
    OutputTokens,
    /// `tools`
    Tools,
    /// `media`
    Media,
    /// `structured`
    Structured,
    /// `text`
    Text,
}

impl Condition {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Condition::Dialect => "dialect",
            Condition::Operation => "operation",
            Condition::Stream => "stream",
            Condition::Client => "client",
            Condition::Key => "key",
            Condition::Owner => "owner",
            Condition::Tag => "tag",
            Condition::Header => "header",
            Condition::Percent => "percent",
            Condition::Time => "time",
            Condition::PromptTokens => "prompt_tokens",
            Condition::OutputTokens => "output_tokens",
            Condition::Tools => "tools",
            Condition::Media => "media",
            Condition::Structured => "structured",
            Condition::Text => "text",
        }
    }
}

/// The first condition that does not hold. What it wants and what the request has is told by [`Miss::wanted`] and
/// [`Miss::found`], made only where somebody reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miss {
    /// Which.
    pub condition: Condition,
    /// The name of the route: shares of requests depend on it.
    route: u64,
    /// Which of several headers.
    at: usize,
}

/// Whether all conditions hold for the route of this name. What is asked of a request's inside does not hold where the inside
/// is not known.
pub fn holds(when: &When, route: &str, query: &Query<'_>) -> Result<(), Miss> {
    let route = hash::of(&("route", route));
    let miss = |condition| {
        Err(Miss {
            condition,
            route,
            at: 0,
        })
    };
    let asker = query.asker;
    if !when.dialects.is_empty() && !when.dialects.contains(&query.dialect) {
        return miss(Condition::Dialect);
    }
    if !when.operations.is_empty() && !when.operations.contains(&query.operation) {
        return miss(Condition::Operation);
    }
    if when.stream.is_some_and(|stream| stream != query.stream) {
        return miss(Condition::Stream);
    }
    if !when.networks.is_empty() {
        let inside = query
            .address
            .is_some_and(|address| when.networks.iter().any(|net| net.contains(&address)));
        if !inside {
            return miss(Condition::Client);
        }
    }
    if let Some(keys) = &when.keys
        && !asker.is_some_and(|asker| keys.is_match(asker.id) || keys.is_match(asker.name))
    {
        return miss(Condition::Key);
    }
    if let Some(owners) = &when.owners {
        let owner = asker.and_then(|asker| asker.owner);
        if !owner.is_some_and(|owner| owners.is_match(owner)) {
            return miss(Condition::Owner);
        }
    }
    if !when.tags.is_empty()
        && !asker.is_some_and(|asker| when.tags.iter().any(|tag| asker.tags.iter().any(|own| *own == **tag)))
    {
        return miss(Condition::Tag);
    }
    for (at, (name, values)) in when.headers.iter().enumerate() {
        if !texts(query.headers, name).any(|value| values.is_match(&*value)) {
            return Err(Miss {
                condition: Condition::Header,
                route,
                at,
            });
        }
    }
    if let Some(percent) = when.percent
        && share(route, percent.by, query) >= percent.basis_points
    {
        return miss(Condition::Percent);
    }
    if let Some(time) = &when.time
        && !within(time, query.at)
    {
        return miss(Condition::Time);
    }
    if when.needs_survey() {
        inside(when, query.survey).or_else(miss)?;
    }
    Ok(())
}

/// What stands inside.
fn inside(when: &When, survey: Option<&Survey>) -> Result<(), Condition> {
    // Sure to be asked for: the first that is set is told.
    let Some(survey) = survey else {
        return Err(match when {
            _ if when.prompt_tokens.is_set() => Condition::PromptTokens,
            _ if when.output_tokens.is_set() => Condition::OutputTokens,
            _ if when.tools.is_some() => Condition::Tools,
            _ if when.media.is_some() => Condition::Media,
            _ if when.structured.is_some() => Condition::Structured,
            _ => Condition::Text,
        });
    };
    if !when.prompt_tokens.holds(survey.prompt_tokens) {
        return Err(Condition::PromptTokens);
    }
    if when.output_tokens.is_set() && !survey.output_tokens.is_some_and(|n| when.output_tokens.holds(n)) {
        return Err(Condition::OutputTokens);
    }
    if when.tools.is_some_and(|tools| tools != survey.tools) {
        return Err(Condition::Tools);
    }
    if let Some(media) = &when.media {
        let holds = match media.is_empty() {
            true => survey.media.is_empty(),
            false => media.iter().any(|kind| survey.media.contains(kind)),
        };
        if !holds {
            return Err(Condition::Media);
        }
    }
    if when
        .structured
        .is_some_and(|structured| structured != survey.structured)
    {
        return Err(Condition::Structured);
    }
    if when.text.as_ref().is_some_and(|text| !text.is_match(&survey.last_text)) {
        return Err(Condition::Text);
    }
    Ok(())
}

/// The values of a header, as text.
fn texts<'h>(
    headers: &'h HeaderMap,
    name: &http::HeaderName,
) -> impl Iterator<Item = std::borrow::Cow<'h, str>> + use<'h> {
    headers
        .get_all(name)
        .into_iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
}

/// Parts of a whole: basis points.
const WHOLE: u64 = 10_000;

/// Where a request stands among all, 0 to 9,999: the same for all of one session, key or request, and another one for each
/// route, so that two routes do not take the same tenth.
fn share(route: u64, by: PercentBy, query: &Query<'_>) -> u16 {
    let key = || query.asker.map(|asker| hash::of(&("key", asker.id)));
    let request = || hash::of(&("request", query.request));
    let who = match by {
        PercentBy::Session => query.session.or_else(key).unwrap_or_else(request),
        PercentBy::Key => key().unwrap_or_else(request),
        PercentBy::Request => request(),
    };
    u16::try_from(hash::of(&(route, who)) % WHOLE).unwrap_or(0)
}

/// Minutes since midnight and the weekday before that: a span over midnight belongs to the day on which it begins.
fn within(time: &TimeOfDay, at: UnixMicros) -> bool {
    let Some((weekday, minute)) = local(time, at) else {
        return false;
    };
    let on = |day| time.days.is_empty() || time.days.contains(&day);
    match time.from < time.to {
        true => (time.from..time.to).contains(&minute) && on(weekday),
        false => (minute >= time.from && on(weekday)) || (minute < time.to && on(weekday.previous())),
    }
}

fn local(time: &TimeOfDay, at: UnixMicros) -> Option<(jiff::civil::Weekday, u16)> {
    let there = Timestamp::from_microsecond(at.0).ok()?.to_zoned(time.zone.clone());
    let minute = u16::from(there.hour().unsigned_abs()) * 60 + u16::from(there.minute().unsigned_abs());
    Some((there.weekday(), minute))
}

/// Longest text of a request repeated in an explanation, in characters.
const MAX_TEXT: usize = 80;

impl Miss {
    /// What the condition wants.
    pub fn wanted(&self, when: &When) -> String {
        match self.condition {
            Condition::Dialect => listed(when.dialects.iter().map(|dialect| dialect.as_str())),
            Condition::Operation => listed(when.operations.iter().map(|operation| operation.as_str())),
            Condition::Stream => yes(when.stream),
            Condition::Client => listed(when.networks.iter().map(ToString::to_string)),
            Condition::Key => "a key of another id or name".into(),
            Condition::Owner => "a key of another owner".into(),
            Condition::Tag => listed(when.tags.iter().map(|tag| &**tag)),
            Condition::Header => match when.headers.get(self.at) {
                Some((name, _)) => format!("another value of {name}"),
                None => String::new(),
            },
            Condition::Percent => when.percent.map(|percent| show_percent(&percent)).unwrap_or_default(),
            Condition::Time => when.time.as_ref().map(show_time).unwrap_or_default(),
            Condition::PromptTokens => show_bounds(when.prompt_tokens),
            Condition::OutputTokens => show_bounds(when.output_tokens),
            Condition::Tools => yes(when.tools),
            Condition::Media => match when.media.as_deref() {
                Some([]) => "none".into(),
                media => listed(media.unwrap_or_default().iter().map(|kind| kind.as_str())),
            },
            Condition::Structured => yes(when.structured),
            Condition::Text => when.text.as_ref().map(ToString::to_string).unwrap_or_default(),
        }
    }

    /// What the request has.
    pub fn found(&self, when: &When, query: &Query<'_>) -> String {
        let none = || "none".to_owned();
        let no_key = || "no key is known".to_owned();
        let inside = |of: &dyn Fn(&Survey) -> String| match query.survey {
            Some(survey) => of(survey),
            None => "not known: the request could not be read".to_owned(),
        };
        match self.condition {
            Condition::Dialect => query.dialect.to_string(),
            Condition::Operation => query.operation.as_str().into(),
            Condition::Stream => yes(Some(query.stream)),
            Condition::Client => query
                .address
                .map_or_else(|| "not known".into(), |address| address.to_string()),
            Condition::Key => query.asker.map_or_else(no_key, |asker| match asker.id == asker.name {
                true => asker.id.to_string(),
                false => format!("{} ({})", asker.id, asker.name),
            }),
            Condition::Owner => match query.asker {
                Some(asker) => asker.owner.map_or_else(none, str::to_owned),
                None => no_key(),
            },
            Condition::Tag => match query.asker {
                Some(asker) => listed(asker.tags.iter().map(|tag| &**tag)),
                None => no_key(),
            },
            Condition::Header => match when.headers.get(self.at) {
                Some((name, _)) => listed(texts(query.headers, name).map(|value| short(&value))),
                None => none(),
            },
            Condition::Percent => match when.percent {
                Some(percent) => show_points(share(self.route, percent.by, query)),
                None => none(),
            },
            Condition::Time => match when.time.as_ref().and_then(|time| local(time, query.at)) {
                Some((day, minute)) => format!("{} {}", day_name(day), clock(minute)),
                None => none(),
            },
            Condition::PromptTokens => inside(&|survey| survey.prompt_tokens.to_string()),
            Condition::OutputTokens => inside(&|survey| survey.output_tokens.map_or_else(none, |n| n.to_string())),
            Condition::Tools => inside(&|survey| yes(Some(survey.tools))),
            Condition::Media => inside(&|survey| listed(survey.media.iter().map(|kind| kind.as_str()))),
            Condition::Structured => inside(&|survey| yes(Some(survey.structured))),
            Condition::Text => inside(&|survey| format!("\"{}\"", short(&survey.last_text))),
        }
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

fn listed(items: impl Iterator<Item = impl AsRef<str>>) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(item.as_ref());
    }
    if text.is_empty() { "none".into() } else { text }
}

fn yes(value: Option<bool>) -> String {
    value.is_some_and(|value| value).to_string()
}

fn show_bounds(bounds: Bounds) -> String {
    match (bounds.from, bounds.below) {
        (Some(from), Some(below)) => format!("from {from} and below {below}"),
        (Some(from), None) => format!("from {from}"),
        (None, Some(below)) => format!("below {below}"),
        (None, None) => "any".into(),
    }
}

fn show_percent(percent: &Percent) -> String {
    format!("below {}", show_points(percent.basis_points))
}

fn show_points(points: u16) -> String {
    format!("{}.{:02} %", points / 100, points % 100)
}

fn clock(minute: u16) -> String {
    format!("{:02}:{:02}", minute / 60, minute % 60)
}

fn show_time(time: &TimeOfDay) -> String {
    let zone = time.zone.iana_name().unwrap_or("UTC");
    let days = match time.days.is_empty() {
        true => String::new(),
        false => format!(" on {}", listed(time.days.iter().map(|day| day_name(*day)))),
    };
    format!("{} to {} {zone}{days}", clock(time.from), clock(time.to))
}

fn day_name(day: jiff::civil::Weekday) -> &'static str {
    const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let at = usize::try_from(day.to_monday_zero_offset()).unwrap_or(0);
    DAYS.get(at).copied().unwrap_or("")
}
