//! Each condition, where it holds and where not.

use std::net::IpAddr;

use globset::{Glob, GlobSet};

use super::*;
use crate::ir::MediaKind;
use crate::routing::conditions::{Condition, holds};
use crate::routing::{Asker, Survey};
use crate::rules::When;
use crate::rules::when::{Bounds, Percent, PercentBy, TimeOfDay};

fn globs(of: &[&str]) -> GlobSet {
    let mut set = GlobSet::builder();
    for glob in of {
        set.add(Glob::new(glob).unwrap());
    }
    set.build().unwrap()
}

/// Whether the one condition holds of a request; else what is told.
fn ask<'q>(
    when: impl FnOnce(&mut When),
    request: impl FnOnce(&mut Query<'q>),
) -> Result<(), (Condition, String, String)> {
    let mut query = query("m", no_headers());
    request(&mut query);
    judge(when, &query)
}

fn judge(when: impl FnOnce(&mut When), query: &Query<'_>) -> Result<(), (Condition, String, String)> {
    let mut condition = When::default();
    when(&mut condition);
    holds(&condition, "route", query)
        .map_err(|miss| (miss.condition, miss.wanted(&condition), miss.found(&condition, query)))
}

fn miss(condition: Condition, wanted: &str, found: &str) -> Result<(), (Condition, String, String)> {
    Err((condition, wanted.to_owned(), found.to_owned()))
}

#[test]
fn nothing_wanted_holds() {
    assert_eq!(ask(|_| {}, |_| {}), Ok(()));
}

#[test]
fn dialect_operation_stream() {
    assert_eq!(ask(|w| w.dialects = vec![MESSAGES, CHAT], |_| {}), Ok(()));
    assert_eq!(
        ask(|w| w.dialects = vec![MESSAGES], |_| {}),
        miss(Condition::Dialect, "anthropic", "openai_chat")
    );
    assert_eq!(ask(|w| w.operations = vec![Operation::Chat], |_| {}), Ok(()));
    assert_eq!(
        ask(
            |w| w.operations = vec![Operation::Embeddings, Operation::CountTokens],
            |_| {}
        ),
        miss(Condition::Operation, "embeddings, count_tokens", "chat")
    );
    assert_eq!(ask(|w| w.stream = Some(false), |_| {}), Ok(()));
    assert_eq!(
        ask(|w| w.stream = Some(true), |_| {}),
        miss(Condition::Stream, "true", "false")
    );
}

#[test]
fn whose_key() {
    let tags = ["gold".to_owned(), "eu".to_owned()];
    let asker = Asker {
        id: "AbC",
        name: "team one",
        owner: Some("ann"),
        tags: &tags,
    };
    let none = Asker::default();
    for (keys, expected) in [
        (&["AbC"][..], true),
        (&["team *"], true),
        (&["x", "A?C"], true),
        (&["abc"], false),
    ] {
        assert_eq!(
            ask(|w| w.keys = Some(globs(keys)), |q| q.asker = Some(asker)).is_ok(),
            expected,
            "{keys:?}"
        );
    }
    assert_eq!(
        ask(|w| w.keys = Some(globs(&["x"])), |q| q.asker = Some(asker)),
        miss(Condition::Key, "a key of another id or name", "AbC (team one)")
    );
    assert!(
        ask(|w| w.keys = Some(globs(&["*"])), |_| {}).is_err(),
        "no key is known"
    );
    assert_eq!(
        ask(|w| w.owners = Some(globs(&["a*"])), |q| q.asker = Some(asker)),
        Ok(())
    );
    assert!(ask(|w| w.owners = Some(globs(&["*"])), |q| q.asker = Some(none)).is_err());
    assert_eq!(
        ask(|w| w.tags = vec!["eu".into(), "us".into()], |q| q.asker = Some(asker)),
        Ok(())
    );
    assert_eq!(
        ask(|w| w.tags = vec!["us".into()], |q| q.asker = Some(asker)),
        miss(Condition::Tag, "us", "gold, eu")
    );
}

#[test]
fn headers_and_networks() {
    let mut headers = HeaderMap::new();
    headers.append("x-team", "red".parse().unwrap());
    headers.append("x-team", "blue".parse().unwrap());
    headers.append("x-app", "cli/1".parse().unwrap());
    let query = query("m", &headers);
    let want = |name: &'static str, value: &str| (http::HeaderName::from_static(name), globs(&[value]));
    assert_eq!(
        judge(
            |w| w.headers = vec![want("x-team", "bl*"), want("x-app", "cli*")],
            &query
        ),
        Ok(())
    );
    assert_eq!(
        judge(
            |w| w.headers = vec![want("x-team", "red"), want("x-app", "web")],
            &query
        ),
        miss(Condition::Header, "another value of x-app", "cli/1"),
        "each of them"
    );
    assert!(judge(|w| w.headers = vec![want("x-none", "*")], &query).is_err());
    let nets = |w: &mut When| w.networks = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
    for (address, expected) in [("10.1.2.3", true), ("11.1.2.3", false), ("2001:db8::7", true)] {
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(ask(nets, |q| q.address = Some(address)).is_ok(), expected);
    }
    assert_eq!(
        ask(nets, |_| {}),
        miss(Condition::Client, "10.0.0.0/8, 2001:db8::/32", "not known")
    );
}

#[test]
fn what_stands_inside() {
    let survey = Survey {
        prompt_tokens: 400,
        output_tokens: Some(50),
        tools: true,
        media: vec![MediaKind::Image],
        structured: false,
        reasoning: false,
        last_text: "please review this diff".into(),
    };
    let bounds = |from, below| Bounds { from, below };
    let with = |when: &dyn Fn(&mut When)| ask(|w| when(w), |q| q.survey = Some(&survey));
    let ok: [&dyn Fn(&mut When); 9] = [
        &|w| w.prompt_tokens = bounds(Some(400), Some(401)),
        &|w| w.output_tokens = bounds(None, Some(51)),
        &|w| w.tools = Some(true),
        &|w| w.media = Some(vec![MediaKind::Audio, MediaKind::Image]),
        &|w| w.structured = Some(false),
        &|w| w.text = Some(regex::Regex::new("(?i)REVIEW").unwrap()),
        &|w| w.prompt_tokens = bounds(None, None),
        &|w| w.output_tokens = bounds(Some(50), None),
        &|w| (w.tools, w.structured) = (Some(true), Some(false)),
    ];
    for (n, when) in ok.into_iter().enumerate() {
        assert_eq!(with(when), Ok(()), "case {n}");
    }
    assert_eq!(
        with(&|w| w.prompt_tokens = bounds(Some(1), Some(400))),
        miss(Condition::PromptTokens, "from 1 and below 400", "400")
    );
    assert_eq!(
        with(&|w| w.output_tokens = bounds(Some(51), None)),
        miss(Condition::OutputTokens, "from 51", "50")
    );
    assert_eq!(
        with(&|w| w.tools = Some(false)),
        miss(Condition::Tools, "false", "true")
    );
    assert_eq!(
        with(&|w| w.media = Some(vec![])),
        miss(Condition::Media, "none", "image"),
        "none at all"
    );
    assert_eq!(
        with(&|w| w.media = Some(vec![MediaKind::Video])),
        miss(Condition::Media, "video", "image")
    );
    assert_eq!(
        with(&|w| w.structured = Some(true)),
        miss(Condition::Structured, "true", "false")
    );
    assert_eq!(
        with(&|w| w.text = Some(regex::Regex::new("^diff").unwrap())),
        miss(Condition::Text, "^diff", "\"please review this diff\"")
    );
    let unlimited = Survey {
        output_tokens: None,
        media: Vec::new(),
        ..survey.clone()
    };
    assert!(
        ask(
            |w| w.output_tokens = bounds(None, Some(9)),
            |q| q.survey = Some(&unlimited)
        )
        .is_err()
    );
    assert_eq!(ask(|w| w.media = Some(vec![]), |q| q.survey = Some(&unlimited)), Ok(()));
    assert_eq!(
        ask(|w| w.tools = Some(false), |_| {}),
        miss(Condition::Tools, "false", "not known: the request could not be read")
    );
}

#[test]
fn a_share_is_stable_and_about_as_large_as_said() {
    let share = |basis_points, by, route: &str, change: &dyn Fn(&mut Query<'_>)| {
        let when = When {
            percent: Some(Percent { basis_points, by }),
            ..When::default()
        };
        let headers = HeaderMap::new();
        let mut query = query("m", &headers);
        change(&mut query);
        holds(&when, route, &query).is_ok()
    };
    for by in [PercentBy::Session, PercentBy::Key, PercentBy::Request] {
        let taken = (0..10_000u64).filter(|n| {
            let (id, request) = (format!("key{n}"), n.to_string());
            let asker = Asker {
                id: &id,
                ..Asker::default()
            };
            let when = When {
                percent: Some(Percent { basis_points: 1000, by }),
                ..When::default()
            };
            let headers = HeaderMap::new();
            let mut query = query("m", &headers);
            (query.asker, query.request) = (Some(asker), &request);
            query.session = (by == PercentBy::Session).then_some(*n);
            let once = holds(&when, "r", &query).is_ok();
            assert_eq!(once, holds(&when, "r", &query).is_ok());
            once
        });
        let taken = taken.count();
        assert!((900..1100).contains(&taken), "{by:?}: {taken}");
    }
    assert!(!share(0, PercentBy::Request, "r", &|_| {}));
    assert!(share(10_000, PercentBy::Request, "r", &|_| {}));
    let session = |n| move |q: &mut Query<'_>| q.session = Some(n);
    let differ = (0..1000).filter(|n| {
        share(5000, PercentBy::Session, "r", &session(*n)) != share(5000, PercentBy::Session, "s", &session(*n))
    });
    assert!(
        (400..600).contains(&differ.count()),
        "two routes do not take the same half"
    );
    assert_eq!(
        share(5000, PercentBy::Session, "r", &|_| {}),
        share(5000, PercentBy::Request, "r", &|_| {}),
        "without session and key, the request"
    );
}

#[test]
fn a_time_of_day_may_span_midnight() {
    use jiff::civil::Weekday;
    let at = |text: &str| UnixMicros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
    let time = |from: u16, to: u16, zone: &str, days: &[Weekday]| TimeOfDay {
        from: from * 60,
        to: to * 60,
        zone: jiff::tz::TimeZone::get(zone).unwrap(),
        days: days.to_vec(),
    };
    let holds_at = |time: TimeOfDay, text: &str| ask(|w| w.time = Some(time), |q| q.at = at(text)).is_ok();
    // 2026-01-30 is a Friday.
    let day = || time(9, 17, "UTC", &[]);
    assert!(holds_at(day(), "2026-01-30T09:00:00Z"));
    assert!(!holds_at(day(), "2026-01-30T17:00:00Z"), "the end is outside");
    assert!(!holds_at(day(), "2026-01-30T08:59:59Z"));
    let friday_night = || time(22, 6, "UTC", &[Weekday::Friday]);
    assert!(holds_at(friday_night(), "2026-01-30T23:00:00Z"));
    assert!(holds_at(friday_night(), "2026-01-31T05:59:00Z"), "it began on Friday");
    assert!(
        !holds_at(friday_night(), "2026-01-30T05:00:00Z"),
        "that began on Thursday"
    );
    assert!(!holds_at(friday_night(), "2026-01-31T23:00:00Z"));
    let shanghai = || time(9, 10, "Asia/Shanghai", &[Weekday::Saturday]);
    assert!(holds_at(shanghai(), "2026-01-31T01:30:00Z"));
    assert!(
        holds_at(time(0, 0, "UTC", &[Weekday::Friday]), "2026-01-30T12:00:00Z"),
        "a whole day"
    );
    assert_eq!(
        ask(|w| w.time = Some(friday_night()), |q| q.at = at("2026-01-31T12:05:00Z")),
        miss(Condition::Time, "22:00 to 06:00 UTC on fri", "sat 12:05")
    );
}
