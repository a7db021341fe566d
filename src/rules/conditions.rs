//! Reads `when = { ... }`.

use globset::{GlobSet, GlobSetBuilder};
use http::HeaderName;
use jiff::civil::Weekday;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use regex::{Regex, RegexBuilder};

use crate::config::fields::{Fields, no_such, unknown};
use crate::config::load::networks_of;
use crate::config::value::Value;
use crate::dialects;
use crate::ir::{DialectId, MediaKind, Operation};

use super::names;
use super::patterns::{MAX_PATTERN, glob};
use super::when::{Bounds, Percent, PercentBy, TimeOfDay, When};

/// Most globs of one condition.
const MAX_GLOBS: usize = 1000;
/// Most headers of one condition.
const MAX_HEADERS: usize = 16;
/// Longest regular expression, in bytes.
const MAX_REGEX: usize = 4096;
/// Largest compiled regular expression, and the most memory it may take while it is matched, in bytes. Matching takes
/// time in proportion to the text, whatever the expression (`regex` has no backtracking).
const REGEX_MEMORY: usize = 1 << 20;
/// Most tokens in a bound.
const MAX_TOKENS: u64 = 1_000_000_000;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

/// Reads the conditions. `None`: there are none.
pub(super) fn read(value: &Value<'_>) -> Option<Box<When>> {
    let mut fields = value.table()?;
    let when = When {
        dialects: fields
            .get("dialect")
            .map(|v| filled(&v).iter().filter_map(dialect).collect())
            .unwrap_or_default(),
        operations: fields
            .get("operation")
            .map(|v| filled(&v).iter().filter_map(operation).collect())
            .unwrap_or_default(),
        keys: fields.get("key").and_then(|value| globs(&value)),
        owners: fields.get("owner").and_then(|value| globs(&value)),
        tags: fields.get("tag").map(|value| names::tags(&value)).unwrap_or_default(),
        headers: fields.get("header").map(|value| headers(&value)).unwrap_or_default(),
        networks: fields.get("client").map(|value| networks(&value)).unwrap_or_default(),
        prompt_tokens: bounds(&mut fields, "prompt_tokens_from", "prompt_tokens_below"),
        output_tokens: bounds(&mut fields, "output_tokens_from", "output_tokens_below"),
        tools: fields.boolean("tools"),
        media: fields.get("media").and_then(|value| media(&value)),
        structured: fields.boolean("structured"),
        stream: fields.boolean("stream"),
        text: fields.get("text").and_then(|value| regex(&value)),
        percent: percent(&mut fields),
        time: fields.get("time").and_then(|value| time(&value)),
    };
    let written = fields.count() > 0;
    fields.finish();
    written.then(|| Box::new(when))
}

/// The elements of a list, or the one value; a list of nothing is a mistake.
fn filled<'a>(value: &Value<'a>) -> Vec<Value<'a>> {
    let all = value.one_or_list();
    if all.is_empty() {
        value.problem("the list is empty, so that nothing could match. Name something, or leave it out.");
    }
    all
}

fn dialect(value: &Value<'_>) -> Option<DialectId> {
    let name = value.string()?;
    let found = dialects::by_name(name);
    if found.is_none() {
        let known: Vec<&str> = dialects::ALL.iter().map(|d| d.id().as_str()).collect();
        value.problem(unknown("dialect", name, &known));
    }
    found.map(|dialect| dialect.id())
}

/// Those which name a model and go to a provider.
fn operation(value: &Value<'_>) -> Option<Operation> {
    let all = [Operation::Chat, Operation::CountTokens, Operation::Embeddings];
    value.word(&all.map(|operation| (operation.as_str(), operation)))
}

fn globs(value: &Value<'_>) -> Option<GlobSet> {
    let all = filled(value);
    if all.len() > MAX_GLOBS {
        value.problem(format!("there may be {MAX_GLOBS} at most"));
    }
    let mut set = GlobSetBuilder::new();
    for value in all.into_iter().take(MAX_GLOBS) {
        let text = value.string()?;
        match glob(text) {
            _ if text.is_empty() || text.len() > MAX_PATTERN => {
                value.problem(format!("a name or glob has 1 to {MAX_PATTERN} bytes"));
            }
            Ok(glob) => {
                set.add(glob);
            }
            Err(error) => value.problem(format!(
                "this is not a glob: {}. A \\ before a character takes it as it is.",
                error.kind()
            )),
        }
    }
    set.build()
        .map_err(|error| value.problem(format!("{error}. Make them fewer or shorter.")))
        .ok()
}

fn headers(value: &Value<'_>) -> Vec<(HeaderName, GlobSet)> {
    let entries = value.table().map(Fields::entries).unwrap_or_default();
    if entries.len() > MAX_HEADERS {
        value.problem(format!("there may be {MAX_HEADERS} at most"));
    }
    let one = |(name, value): (&str, Value<'_>)| {
        let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
            value.secret().problem("this is not a header's name, as \"x-team\" is");
            return None;
        };
        if super::provider::of_a_credential(header.as_str()) {
            value
                .secret()
                .problem("keys travel in this header, and keys never stand in this file. Match on key, owner or tag.");
            return None;
        }
        Some((header, globs(&value)?))
    };
    entries.into_iter().take(MAX_HEADERS).filter_map(one).collect()
}

fn networks(value: &Value<'_>) -> Vec<ipnet::IpNet> {
    if value.is_string() {
        value.problem("it must be a list, as in [\"10.0.0.0/8\"]");
        return Vec::new();
    }
    let networks = networks_of(value);
    if value.list().is_some_and(|all| all.is_empty()) {
        filled(value);
    }
    networks
}

fn bounds(fields: &mut Fields<'_>, from: &'static str, below: &'static str) -> Bounds {
    let (from_value, below_value) = (fields.get(from), fields.get(below));
    let read = |value: &Option<Value<'_>>| value.as_ref()?.integer(0..=MAX_TOKENS);
    let bounds = Bounds {
        from: read(&from_value),
        below: read(&below_value),
    };
    if let (Some(least), Some(most)) = (bounds.from.or(Some(0)), bounds.below)
        && most <= least
        && let Some(value) = below_value
    {
        value.warn(format!(
            "the route never matches: nothing is from {least} and below {most}"
        ));
    }
    bounds
}

fn media(value: &Value<'_>) -> Option<Vec<MediaKind>> {
    const HELP: &str = "it must be false, or some of image, document, audio and video";
    if value.is_boolean() {
        if value.boolean()? {
            value.problem(HELP);
            return None;
        }
        return Some(Vec::new());
    }
    let all = value.one_or_list();
    if all.is_empty() {
        value.problem("the list is empty. For requests without media write media = false.");
        return None;
    }
    let kinds = all
        .iter()
        .filter_map(|value| value.word_of(MediaKind::ALL, MediaKind::as_str));
    let all: Vec<MediaKind> = kinds.collect();
    (!all.is_empty()).then_some(all)
}

fn regex(value: &Value<'_>) -> Option<Regex> {
    let text = value.string()?;
    if text.is_empty() || text.len() > MAX_REGEX {
        value.problem(format!("a regular expression has 1 to {MAX_REGEX} bytes"));
        return None;
    }
    let built = RegexBuilder::new(text)
        .size_limit(REGEX_MEMORY)
        .dfa_size_limit(REGEX_MEMORY)
        .build();
    let help = match built {
        Ok(regex) => return Some(regex),
        Err(regex::Error::CompiledTooBig(_)) => {
            "the expression is too large once it is compiled; use smaller repetitions, as {1,20} instead of {1,2000}"
                .to_owned()
        }
        // Its last line says what is wrong; those before show the text.
        Err(error) => {
            let told = error.to_string();
            let last = told.lines().last().unwrap_or_default();
            let why = last.strip_prefix("error: ").unwrap_or(last);
            format!("this is not a regular expression: {why}. There are no look-around and no backreferences.")
        }
    };
    value.problem(help);
    None
}

fn percent(fields: &mut Fields<'_>) -> Option<Percent> {
    let value = fields.get("percent");
    let by = fields.get("percent_by");
    if let (None, Some(by)) = (&value, &by) {
        by.problem("it belongs to a percentage. Write percent = 10 beside it, or remove it.");
    }
    let by = by
        .and_then(|value| value.word_of(PercentBy::ALL, PercentBy::as_str))
        .unwrap_or_default();
    let value = value?;
    let basis_points = value.decimal(2, 0..=10_000).and_then(|n| u16::try_from(n).ok())?;
    if basis_points == 0 {
        value.warn("the route never matches: it takes 0 percent");
    }
    Some(Percent { basis_points, by })
}

fn time(value: &Value<'_>) -> Option<TimeOfDay> {
    let mut fields = value.table()?;
    let from = fields.get("from").map_or(Some(0), |value| minutes(&value));
    let to = fields.get("to").map_or(Some(DAY), |value| minutes(&value));
    let zone = fields.get("zone").map_or(Some(TimeZone::UTC), |value| zone(&value));
    let days = fields
        .get("days")
        .map(|value| filled(&value).iter().filter_map(day).collect())
        .unwrap_or_default();
    let empty = fields.count() == 0;
    fields.finish();
    if empty {
        value.problem("it says nothing. Write { from = \"22:00\", to = \"06:00\" }, or leave it out.");
        return None;
    }
    let (from, to) = (from?, to?);
    if from == to {
        value.warn("the route never matches: the time ends when it begins. For a whole day leave out from and to.");
    }
    Some(TimeOfDay {
        from,
        to,
        zone: zone?,
        days,
    })
}

/// `"22:00"`, in minutes since midnight; `"24:00"` is the end of the day.
fn minutes(value: &Value<'_>) -> Option<u16> {
    let digits = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<u16>().ok()).flatten()
    };
    let read = value.string()?.split_once(':').and_then(|(hours, minutes)| {
        let (hours, minutes) = (digits(hours)?, digits(minutes)?);
        (minutes < 60 && hours * 60 + minutes <= DAY).then_some(hours * 60 + minutes)
    });
    if read.is_none() {
        value.problem("it must be a time of day from \"00:00\" to \"24:00\", as in \"06:30\"");
    }
    read
}

/// From the database that is built in, so that every machine knows the same zones.
fn zone(value: &Value<'_>) -> Option<TimeZone> {
    let name = value.string()?;
    let database = TimeZoneDatabase::bundled();
    if let Ok(zone) = database.get(name) {
        return Some(zone);
    }
    let known: Vec<String> = database.available().map(|name| name.to_string()).collect();
    // The last part is what people know: `Shanghai` is of Asia.
    let meant = known.iter().find(|zone| {
        zone.rsplit('/')
            .next()
            .is_some_and(|city| city.eq_ignore_ascii_case(name))
    });
    value.problem(match meant {
        Some(meant) => format!("no time zone has this name. Did you mean \"{meant}\"?"),
        None => {
            let told = no_such("time zone", name, known.iter().map(String::as_str));
            let near = told.split("   (").next().unwrap_or_default().to_owned();
            format!("{near} Names are as in \"Europe/Berlin\" or \"UTC\".")
        }
    });
    None
}

fn day(value: &Value<'_>) -> Option<Weekday> {
    value.word(&[
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ])
}
