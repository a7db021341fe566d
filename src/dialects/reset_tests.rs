use http::{HeaderName, HeaderValue};

use super::*;
use crate::ir::ErrorKind;

/// 2025-08-08T15:00:00Z.
const NOW: UnixMicros = UnixMicros(1_754_665_200_000_000);

fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
    let all = all.iter();
    all.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

fn seconds(wait: Option<Duration>) -> Option<f64> {
    wait.map(|wait| wait.as_secs_f64())
}

#[test]
fn every_header_is_read() {
    type Case = (u16, &'static [(&'static str, &'static str)], Option<f64>);
    let cases: [Case; 33] = [
        (429, &[], None),
        (429, &[("retry-after", "7")], Some(7.0)),
        (503, &[("retry-after", " 1.5 ")], Some(1.5)),
        (200, &[("retry-after", "7")], None),
        (429, &[("retry-after", "7"), ("retry-after-ms", "250")], Some(0.25)),
        (429, &[("retry-after", "Fri, 08 Aug 2025 15:01:30 GMT")], Some(90.0)),
        (429, &[("retry-after", "Fri, 08 Aug 2025 14:00:00 GMT")], Some(0.0)),
        (429, &[("retry-after", "9999999999999999999999")], Some(86_400.0)),
        (429, &[("retry-after", "soon")], None),
        (429, &[("retry-after", "-1")], None),
        (429, &[("retry-after", "1e3")], None),
        (429, &[("retry-after", ".")], None),
        (429, &[("x-ratelimit-reset-requests", "1s")], Some(1.0)),
        (429, &[("x-ratelimit-reset-requests", "6m0s")], Some(360.0)),
        (429, &[("x-ratelimit-reset-tokens", "20ms")], Some(0.02)),
        (429, &[("x-ratelimit-reset-tokens", "1h2m3.5s")], Some(3723.5)),
        (429, &[("x-ratelimit-reset-tokens", "12")], Some(12.0)),
        (429, &[("x-ratelimit-reset-tokens", "12 parsecs")], None),
        (429, &[("x-ratelimit-reset-tokens", "400d")], Some(86_400.0)),
        (200, &[("x-ratelimit-reset-requests", "1s")], None),
        (
            200,
            &[
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-requests", "5"),
            ],
            None,
        ),
        (
            200,
            &[
                ("x-ratelimit-reset-requests", "1s"),
                ("x-ratelimit-remaining-requests", "0"),
            ],
            Some(1.0),
        ),
        // Of two, the one that is used up; else the earliest.
        (
            429,
            &[
                ("x-ratelimit-reset-requests", "2m59.5s"),
                ("x-ratelimit-remaining-requests", "0"),
                ("x-ratelimit-reset-tokens", "7.66s"),
                ("x-ratelimit-remaining-tokens", "17"),
            ],
            Some(179.5),
        ),
        (
            429,
            &[
                ("x-ratelimit-reset-requests", "2m59.5s"),
                ("x-ratelimit-remaining-requests", "14369"),
                ("x-ratelimit-reset-tokens", "7.66s"),
                ("x-ratelimit-remaining-tokens", "17"),
            ],
            Some(7.66),
        ),
        (
            429,
            &[
                ("anthropic-ratelimit-requests-reset", "2025-08-08T15:00:10Z"),
                ("anthropic-ratelimit-requests-remaining", "0"),
                ("anthropic-ratelimit-input-tokens-reset", "2025-08-08T15:01:00Z"),
                ("anthropic-ratelimit-input-tokens-remaining", "0"),
            ],
            Some(60.0),
        ),
        (
            200,
            &[
                ("anthropic-ratelimit-requests-reset", "2025-08-08T14:59:00Z"),
                ("anthropic-ratelimit-requests-remaining", "0"),
            ],
            Some(0.0),
        ),
        (429, &[("anthropic-ratelimit-unified-reset", "1754665260")], Some(60.0)),
        (429, &[("anthropic-ratelimit-unified-reset", "x")], None),
        (429, &[("x-ratelimit-reset", "1754665260000")], Some(60.0)),
        (429, &[("x-ratelimit-reset", "1754665260")], Some(60.0)),
        (429, &[("x-ratelimit-reset", "60")], Some(60.0)),
        (
            429,
            &[("x-ratelimit-reset", "99999999999999"), ("x-ratelimit-remaining", "0")],
            Some(86_400.0),
        ),
        (
            429,
            &[
                ("retry-after", "3"),
                ("x-ratelimit-reset", "60"),
                ("x-ratelimit-remaining", "0"),
            ],
            Some(3.0),
        ),
    ];
    for (status, all, want) in cases {
        assert_eq!(
            seconds(wait(&headers(all), status, None, NOW)),
            want,
            "{status} {all:?}"
        );
    }
}

#[test]
fn the_body_has_its_say() {
    let mut error = ApiError::new(ErrorKind::RateLimit, "");
    let of = |all: &[_], error: &ApiError| seconds(wait(&headers(all), 429, Some(error), NOW));
    assert_eq!(of(&[], &error), None);
    assert_eq!(of(&[("x-ratelimit-reset-requests", "1s")], &error), Some(1.0));
    error.retry_after_secs = Some(9);
    assert_eq!(of(&[], &error), Some(9.0));
    assert_eq!(of(&[("x-ratelimit-reset-requests", "1s")], &error), Some(9.0));
    assert_eq!(of(&[("retry-after", "2")], &error), Some(9.0), "the longer of two");
    assert_eq!(of(&[("retry-after", "20")], &error), Some(20.0));
    error.retry_after_secs = Some(u32::MAX);
    assert_eq!(of(&[], &error), Some(86_400.0));
    error.retry_after_secs = None;
    error.resets = Some(Resets::At(NOW.seconds() + 60));
    assert_eq!(of(&[], &error), Some(60.0));
    error.resets = Some(Resets::At(i64::MIN));
    assert_eq!(of(&[], &error), Some(0.0));
    // Google's day begins at eight in the morning, UTC.
    error.resets = Some(Resets::Daily);
    error.retry_after_secs = Some(18);
    assert_eq!(of(&[("retry-after", "18")], &error), Some(17.0 * 3600.0));
    let eight = UnixMicros(NOW.0 - 7 * 3600 * MICROS);
    assert_eq!(wait(&headers(&[]), 429, Some(&error), eight), Some(MAX_WAIT));
    assert_eq!(
        seconds(wait(&headers(&[("retry-after", "2")]), 429, None, NOW)),
        Some(2.0)
    );
}

#[test]
fn durations_are_read_out_of_sentences() {
    let cases = [
        ("1.2s. visit", Some(1.2)),
        ("579ms. visit", Some(0.579)),
        ("6m0s", Some(360.0)),
        ("9m38.016s. need more", Some(578.016)),
        ("3 seconds. please", Some(3.0)),
        ("1 minute", Some(60.0)),
        ("7 days", Some(86_400.0)),
        ("2 hours 5 minutes", Some(7200.0)),
        ("5", None),
        ("5 requests", None),
        ("12 mice", None),
        ("a while", None),
        ("", None),
        ("1..2s", None),
    ];
    for (text, want) in cases {
        assert_eq!(seconds(in_words(text)), want, "{text}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_header_panics_or_exceeds_the_bound(value in "[ -~]{0,40}", number in "[0-9.]{0,30}[smhd]{0,3}", status: u16, now: i64) {
        for name in ["retry-after", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-tokens", "anthropic-ratelimit-tokens-reset"] {
            for value in [&value, &number] {
                let mut all = HeaderMap::new();
                all.insert(name, HeaderValue::from_str(value).expect("printable"));
                let wait = wait(&all, status, None, UnixMicros(now));
                proptest::prop_assert!(wait.is_none_or(|wait| wait <= MAX_WAIT));
            }
        }
    }
}
