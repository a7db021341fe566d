//! One message to one webhook: tried until it is taken, so often and no more, with ever longer waits.

use std::time::Duration;

use crate::clock::UnixMicros;
use crate::config::alerts::WebhookKind;
use crate::egress::policy::Refusal;
use crate::egress::post::{Answered, NoAnswer};
use crate::random;

/// Longest wait a receiver can ask for.
const MOST_TOLD: Duration = Duration::from_secs(300);

/// Codes of Feishu that mean: too many messages just now.
const FEISHU_BUSY: [i64; 2] = [11_232, 99_991_400];

/// How often it is tried, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schedule {
    /// Tries of one message.
    pub(super) tries: u32,
    /// Wait after the first; four times as long after each.
    pub(super) first: Duration,
    /// Longest time of one call.
    pub(super) longest: Duration,
}

impl Default for Schedule {
    /// HARDENING: 10 s for a call, 5 tries. With their waits (2, 8, 32 and 128 s, less some jitter) a receiver may be away for two
    /// minutes.
    fn default() -> Self {
        Schedule {
            tries: 5,
            first: Duration::from_secs(2),
            longest: Duration::from_secs(10),
        }
    }
}

impl Schedule {
    /// The wait before the next try, after so many; `None`: there is none. `told`: what the receiver asked for.
    pub(super) fn wait(&self, tried: u32, told: Option<Duration>) -> Option<Duration> {
        if tried >= self.tries {
            return None;
        }
        let step = self.first.saturating_mul(4_u32.saturating_pow(tried.saturating_sub(1)));
        // Between half of it and all.
        let wait = step.mul_f64(0.5 + random::share() / 2.0);
        Some(wait.max(told.unwrap_or_default().min(MOST_TOLD)))
    }
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was taken.
    Taken,
    /// It may be taken another time, not before this wait.
    Again(String, Option<Duration>),
    /// It will never be.
    Never(String),
}

/// Reads what was answered. Of the body nothing is told but Feishu's code.
pub(super) fn judge(kind: WebhookKind, answer: Result<Answered, NoAnswer>, now: UnixMicros) -> Outcome {
    let answered = match answer {
        Ok(answered) => answered,
        Err(NoAnswer::Refused(Refusal::Unresolved)) => return Outcome::Again(Refusal::Unresolved.to_string(), None),
        Err(NoAnswer::Refused(refusal)) => return Outcome::Never(refusal.to_string()),
        Err(failed) => return Outcome::Again(failed.to_string(), None),
    };
    let status = answered.status;
    let told = || answered.retry_after.as_deref().and_then(|text| wait(text, now));
    match status {
        200..=299 if kind == WebhookKind::Feishu => feishu(&answered.body),
        200..=299 => Outcome::Taken,
        300..=399 => Outcome::Never(format!("status {status}: redirects are not followed")),
        408 | 425 | 429 | 500.. => Outcome::Again(format!("status {status}"), told()),
        _ => Outcome::Never(format!("status {status}")),
    }
}

/// Feishu says 200 to what it refuses, too.
fn feishu(body: &[u8]) -> Outcome {
    let said: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    let code = said.get("code").or_else(|| said.get("StatusCode"));
    match code.and_then(serde_json::Value::as_i64) {
        Some(0) | None => Outcome::Taken,
        Some(code) if FEISHU_BUSY.contains(&code) => Outcome::Again(format!("code {code}"), None),
        Some(code) => Outcome::Never(format!("code {code}")),
    }
}

/// `Retry-After`: seconds, or a date.
fn wait(text: &str, now: UnixMicros) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    let left = until.timestamp().as_microsecond().saturating_sub(now.0);
    u64::try_from(left).ok().map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::egress::probe::Fault;

    fn answered(status: u16, retry_after: Option<&str>, body: &str) -> Result<Answered, NoAnswer> {
        Ok(Answered {
            status,
            retry_after: retry_after.map(str::to_owned),
            body: body.into(),
        })
    }

    #[test]
    fn what_may_pass_is_tried_again_and_nothing_else() {
        let judged = |kind, answer| judge(kind, answer, UnixMicros(1_769_860_800_000_000));
        let (generic, feishu) = (WebhookKind::Generic, WebhookKind::Feishu);
        assert_eq!(judged(generic, answered(204, None, "")), Outcome::Taken);
        assert_eq!(
            judged(generic, answered(429, Some("7"), "")),
            Outcome::Again("status 429".into(), Some(Duration::from_secs(7)))
        );
        assert_eq!(
            judged(generic, answered(503, Some("Sat, 31 Jan 2026 12:01:00 GMT"), "")),
            Outcome::Again("status 503".into(), Some(Duration::from_secs(60)))
        );
        assert_eq!(
            judged(generic, answered(302, None, "")),
            Outcome::Never("status 302: redirects are not followed".into())
        );
        assert_eq!(
            judged(generic, answered(404, None, "canary")),
            Outcome::Never("status 404".into())
        );
        assert_eq!(
            judged(generic, Err(NoAnswer::Failed(Fault::Slow))),
            Outcome::Again("timeout".into(), None)
        );
        assert_eq!(
            judged(generic, Err(NoAnswer::Refused(Refusal::Private))),
            Outcome::Never(Refusal::Private.to_string())
        );
        assert_eq!(judged(feishu, answered(200, None, r#"{"code":0}"#)), Outcome::Taken);
        assert_eq!(
            judged(feishu, answered(200, None, r#"{"code":19021,"msg":"sign match fail"}"#)),
            Outcome::Never("code 19021".into())
        );
        assert_eq!(
            judged(feishu, answered(200, None, r#"{"code":11232}"#)),
            Outcome::Again("code 11232".into(), None)
        );
    }

    #[test]
    fn waits_grow_and_end_and_what_is_told_is_heeded_up_to_a_bound() {
        let schedule = Schedule::default();
        let seconds = |tried, told: Option<u64>| {
            let wait = schedule.wait(tried, told.map(Duration::from_secs));
            wait.map(|wait| wait.as_secs_f64())
        };
        for (tried, longest) in [(1, 2.0), (2, 8.0), (3, 32.0), (4, 128.0)] {
            for _ in 0..50 {
                let wait = seconds(tried, None).expect("another try");
                assert!((longest / 2.0..=longest).contains(&wait), "{tried}: {wait}");
            }
        }
        assert_eq!(seconds(5, None), None);
        assert_eq!(seconds(1, Some(60)), Some(60.0));
        assert_eq!(seconds(1, Some(86_400)), Some(300.0));
    }
}
