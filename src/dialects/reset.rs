//! How long a provider asks to wait: headers of all kinds, and what the error's body said of it. Shared by the dialects, since
//! providers mix them freely.
//!
//! | header | means | who |
//! | --- | --- | --- |
//! | `retry-after-ms` | milliseconds | OpenAI, Azure |
//! | `retry-after` | seconds, or an HTTP date (RFC 9110, 10.2.3) | all |
//! | `x-ratelimit-reset-*`, with `x-ratelimit-remaining-*` | a duration (`6m0s`, `20ms`, `7.66s`); a number is seconds | OpenAI, Groq, Cerebras, Azure |
//! | `anthropic-ratelimit-*-reset`, with `-remaining` | RFC 3339; the unified one seconds since 1970 | Anthropic |
//! | `x-ratelimit-reset`, with `x-ratelimit-remaining` | seconds or milliseconds since 1970; a small number is seconds from now | OpenRouter, GitHub |
//!
//! The first two are the provider's own word, and count on errors only. The others tell when limits begin anew: they count where
//! nothing remains of one; on 429, if none says so, the earliest does: too short a wait costs one more attempt, too long a one
//! the credential. What is past is no wait; nothing is longer than [`MAX_WAIT`].

use std::time::Duration;

use http::HeaderMap;

use crate::clock::UnixMicros;
use crate::ir::{ApiError, Resets};

/// Longest wait taken from a provider: after a day it is worth a try, whatever was said.
pub const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);

/// When Google's day begins, in seconds after midnight UTC: its daily quotas begin anew at midnight Pacific time. That is UTC-8, in
/// summer UTC-7: then we wait an hour too long.
const DAY_BEGINS: i64 = 8 * 3600;

const MICROS: i64 = 1_000_000;

/// What headers and the error's body ask for together. `status`: of the answer they came with. What was said in so many words counts, the longest of it, then when limits
/// begin anew; a quota per day counts above all: the wait said beside it is that of another.
pub fn wait(headers: &HeaderMap, status: u16, error: Option<&ApiError>, now: UnixMicros) -> Option<Duration> {
    let resets = error.and_then(|error| error.resets);
    if resets == Some(Resets::Daily) {
        let into = (now.seconds() - DAY_BEGINS).rem_euclid(24 * 3600);
        return Some(Duration::from_secs((24 * 3600 - into).unsigned_abs()).min(MAX_WAIT));
    }
    let said = error.and_then(|error| error.retry_after_secs);
    let said = said.map(|seconds| Duration::from_secs(seconds.into()).min(MAX_WAIT));
    let at = match resets {
        Some(Resets::At(seconds)) => Some(until(UnixMicros(seconds.saturating_mul(MICROS)), now)),
        _ => None,
    };
    let asked = asked(headers, status, now);
    asked.max(said).or(at).or_else(|| limits(headers, status, now))
}

/// `Retry-After` and its kin.
fn asked(headers: &HeaderMap, status: u16, now: UnixMicros) -> Option<Duration> {
    if status < 400 {
        return None;
    }
    let text = |name: &str| Some(headers.get(name)?.to_str().ok()?.trim());
    if let Some(ms) = text("retry-after-ms").and_then(number) {
        return bounded(ms / 1000.0);
    }
    let text = text("retry-after")?;
    match number(text) {
        Some(seconds) => bounded(seconds),
        None => {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Some(until(UnixMicros(at.as_microsecond()), now))
        }
    }
}

/// When the limits begin anew of which nothing remains.
fn limits(headers: &HeaderMap, status: u16, now: UnixMicros) -> Option<Duration> {
    let mut used_up: Option<Duration> = None;
    let mut earliest: Option<Duration> = None;
    for (name, value) in headers {
        let name = name.as_str();
        let remaining = if let Some(which) = name.strip_prefix("x-ratelimit-reset") {
            format!("x-ratelimit-remaining{which}")
        } else if let Some(which) = name
            .strip_prefix("anthropic-ratelimit-")
            .and_then(|n| n.strip_suffix("-reset"))
        {
            format!("anthropic-ratelimit-{which}-remaining")
        } else {
            continue;
        };
        let Some(wait) = value.to_str().ok().and_then(|value| reset(value.trim(), now)) else {
            continue;
        };
        let left = headers
            .get(&remaining)
            .and_then(|left| left.to_str().ok())
            .and_then(|left| number(left.trim()));
        if left == Some(0.0) {
            used_up = used_up.max(Some(wait));
        }
        earliest = Some(earliest.map_or(wait, |earliest| earliest.min(wait)));
    }
    used_up.or(earliest.filter(|_| status == 429))
}

/// A reset header's value, as a wait.
fn reset(value: &str, now: UnixMicros) -> Option<Duration> {
    if let Some(at) = epoch(value) {
        return Some(until(at, now));
    }
    if let Ok(at) = value.parse::<jiff::Timestamp>() {
        return Some(until(UnixMicros(at.as_microsecond()), now));
    }
    number(value).map_or_else(|| whole(value), bounded)
}

/// A time in seconds or milliseconds since 1970; `None`: a number too small to be one (before 2001), or none.
pub(super) fn epoch(value: &str) -> Option<UnixMicros> {
    let number = number(value)?;
    let seconds = match number {
        1e9..1e11 => number,
        1e12..1e14 => number / 1000.0,
        _ => return None,
    };
    Some(UnixMicros((seconds * MICROS as f64) as i64))
}

/// From now until then; nothing if it is past.
fn until(at: UnixMicros, now: UnixMicros) -> Duration {
    let micros = u64::try_from(at.0.saturating_sub(now.0)).unwrap_or(0);
    Duration::from_micros(micros).min(MAX_WAIT)
}

/// A number without sign and exponent.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if plain { text.parse().ok() } else { None }
}

fn bounded(seconds: f64) -> Option<Duration> {
    (seconds >= 0.0).then(|| Duration::from_secs_f64(seconds.min(MAX_WAIT.as_secs_f64())))
}

/// A duration which is all of the text.
fn whole(text: &str) -> Option<Duration> {
    let (wait, rest) = duration(text)?;
    rest.is_empty().then_some(wait)
}

/// The duration at the beginning of a text in lower case: `6m0s`, `1.2s`, `20ms`, `3 seconds`.
pub(super) fn in_words(text: &str) -> Option<Duration> {
    let (wait, rest) = duration(text)?;
    // Not the beginning of a longer word.
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric());
    ends.then_some(wait)
}

/// Units and their seconds; longer names first.
const UNITS: [(&str, f64); 14] = [
    ("milliseconds", 0.001),
    ("seconds", 1.0),
    ("second", 1.0),
    ("minutes", 60.0),
    ("minute", 60.0),
    ("hours", 3600.0),
    ("hour", 3600.0),
    ("days", 86_400.0),
    ("day", 86_400.0),
    ("ms", 0.001),
    ("s", 1.0),
    ("m", 60.0),
    ("h", 3600.0),
    ("d", 86_400.0),
];

/// Numbers with units at the beginning of a text, and what follows them.
fn duration(text: &str) -> Option<(Duration, &str)> {
    let mut rest = text;
    let mut total: Option<f64> = None;
    loop {
        let digits = rest
            .bytes()
            .take_while(|byte| byte.is_ascii_digit() || *byte == b'.')
            .count();
        let (count, after) = rest.split_at(digits);
        let unit = after.strip_prefix(' ').unwrap_or(after);
        let Some((name, seconds)) = UNITS.iter().find(|(name, _)| unit.starts_with(name)) else {
            break;
        };
        let Some(count) = number(count) else { break };
        total = Some(total.unwrap_or(0.0) + count * seconds);
        rest = &unit[name.len()..];
    }
    Some((bounded(total?)?, rest))
}

#[cfg(test)]
#[path = "reset_tests.rs"]
mod tests;
