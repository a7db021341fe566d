//! The section `[overload]`: what is refused when there is too much to do. What each field means for an operator stands in
//! `conf/tollgate.toml`.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::fields::Fields;
use super::load::{count, time_or_off_within};
use super::pools::percent;
use super::value::Value;

/// Most requests at once: beyond any machine.
const MAX_CONCURRENT: u64 = 1_000_000;
/// Most requests in line: some kilobytes each.
const MAX_QUEUE: u64 = 100_000;
/// Longest wait in line: a client waits behind it.
const WAITS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(10);
/// Most of the places that can be kept, in percent: others must find some.
const MAX_KEPT: u32 = 90;
/// Most tags.
const MAX_TAGS: usize = 32;
/// Bounds of `lag`: where the system gives its time to others for a slice of some milliseconds, there is a line without too much to do.
const LAGS: RangeInclusive<Duration> = Duration::from_millis(5)..=Duration::from_secs(10);

/// `[overload]`: what is refused when there is too much to do.
#[derive(Clone, Debug)]
pub struct Overload {
    /// Requests under way at once; 0: no bound.
    pub concurrent: usize,
    /// Requests that wait in line for a place.
    pub queue: usize,
    /// How long they wait.
    pub wait: Duration,
    /// The part of the places that is kept for critical requests, in percent: 0 to 90.
    pub critical_share: u32,
    /// Tags of client keys whose requests are critical.
    pub critical_tags: Vec<String>,
    /// How long requests may stand in line for their thread; `None`: none does.
    pub lag: Option<Duration>,
}

impl Default for Overload {
    fn default() -> Self {
        Overload {
            // Streams last minutes; a request takes some 72 KiB (loadtest/RESULTS.md).
            concurrent: 20_000,
            queue: 256,
            wait: Duration::from_millis(200),
            critical_share: 10,
            critical_tags: vec!["critical".to_owned()],
            lag: Some(Duration::from_millis(10)),
        }
    }
}

pub(super) fn overload(mut fields: Fields<'_>) -> Overload {
    let default = Overload::default();
    let concurrent = fields.integer("concurrent", 0..=MAX_CONCURRENT);
    let queue = fields.integer("queue", 0..=MAX_QUEUE);
    let wait = fields.duration("wait", WAITS);
    let share = fields.get("critical_share").and_then(|value| {
        let share = percent(&value)?;
        if share > MAX_KEPT {
            value.problem(format!("at most {MAX_KEPT}% can be kept: the others need places too"));
            return None;
        }
        Some(share)
    });
    let tags = fields.get("critical_tags").map(|value| tags(&value));
    let lag = time_or_off_within(&mut fields, "lag", default.lag, LAGS);
    fields.finish();
    Overload {
        concurrent: concurrent.map_or(default.concurrent, count),
        queue: queue.map_or(default.queue, count),
        wait: wait.unwrap_or(default.wait),
        critical_share: share.unwrap_or(default.critical_share),
        critical_tags: tags.unwrap_or(default.critical_tags),
        lag,
    }
}

fn tags(value: &Value<'_>) -> Vec<String> {
    let all = value.list().unwrap_or_default();
    if all.len() > MAX_TAGS {
        value.problem(format!("there may be {MAX_TAGS} at most"));
    }
    let all = all.into_iter().take(MAX_TAGS);
    all.filter_map(|value| value.string().map(str::to_owned)).collect()
}
