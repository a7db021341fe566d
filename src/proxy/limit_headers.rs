//! What is left of a client's limits per minute, in the headers its SDK reads.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::clock::UnixMicros;
use crate::dialects::Dialect;
use crate::limits::{Left, Standing};
use crate::observe::rfc3339;

/// Adds them; where there is no limit there is no header. `at`: now.
pub fn insert(headers: &mut HeaderMap, dialect: &dyn Dialect, standing: Standing, at: UnixMicros) {
    let names = dialect.limit_headers();
    let both = [(names.requests, standing.requests), (names.tokens, standing.tokens)];
    for ([limit, remaining, reset], left) in both {
        let Some(left) = left else { continue };
        let Left {
            limit: most,
            remaining: rest,
            reset: until,
        } = left;
        let until = if names.absolute {
            let micros = i64::try_from(until.as_micros()).unwrap_or(i64::MAX);
            rfc3339(UnixMicros(at.0.saturating_add(micros))).to_string()
        } else {
            duration(until)
        };
        for (name, value) in [(limit, most.to_string()), (remaining, rest.to_string()), (reset, until)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

/// As OpenAI writes durations (and Go): `0s`, `17s`, `6m0s`, in whole seconds, rounded up.
fn duration(left: Duration) -> String {
    match left.as_millis().div_ceil(1000) {
        seconds @ 0..=59 => format!("{seconds}s"),
        seconds => format!("{}m{}s", seconds / 60, seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialects::by_name;

    #[test]
    fn each_dialect_gets_its_own_headers() {
        let standing = Standing {
            requests: Some(Left {
                limit: 60,
                remaining: 59,
                reset: Duration::from_millis(1200),
            }),
            tokens: None,
        };
        let of = |dialect: &str| {
            let mut headers = HeaderMap::new();
            insert(&mut headers, by_name(dialect).unwrap(), standing, UnixMicros(0));
            let mut told: Vec<_> = headers
                .iter()
                .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
                .collect();
            told.sort();
            told
        };
        let common = [
            "x-ratelimit-limit-requests: 60",
            "x-ratelimit-remaining-requests: 59",
            "x-ratelimit-reset-requests: 2s",
        ];
        for dialect in ["openai_chat", "openai_responses", "gemini"] {
            assert_eq!(of(dialect), common, "{dialect}");
        }
        assert_eq!(
            of("anthropic"),
            [
                "anthropic-ratelimit-requests-limit: 60",
                "anthropic-ratelimit-requests-remaining: 59",
                "anthropic-ratelimit-requests-reset: 1970-01-01T00:00:01.200000Z",
            ]
        );
    }

    #[test]
    fn durations_are_written_as_the_sdks_read_them() {
        let of = |millis| duration(Duration::from_millis(millis));
        assert_eq!(
            [of(0), of(1), of(59_000), of(60_000), of(360_000)],
            ["0s", "1s", "59s", "1m0s", "6m0s"]
        );
    }
}
