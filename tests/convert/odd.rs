//! Odd documents: whatever stands in the place of a field, a request is read and written or refused, an answer is read and
//! written, and nothing panics.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use tollgate::dialects::ALL;
use tollgate::ir::{FinishKind, LossReport, StreamEnd};

use crate::conservation::{self, Way};
use crate::{fixtures, leaves, pipeline, wellformed};

/// What may stand in the place of a field.
fn odd() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!({})),
        Just(json!("")),
        Just(json!("\u{0}\n\"é𝄞")),
        Just(json!("{\"a\":")),
        Just(json!(0)),
        Just(json!(-1)),
        Just(json!(1e300)),
        Just(json!(u64::MAX)),
        Just(json!(0.5)),
        Just(json!(true)),
        Just(json!(["x", 1, null, {"type": "text"}, [[]]])),
        Just(json!({"type": "text", "text": 1, "role": "user", "name": {}})),
    ]
}

fn runner(cases: u32) -> TestRunner {
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(cases);
    TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    })
}

/// All places of a document: leaves, and what they stand in.
fn places(document: &Value) -> Vec<String> {
    let mut places: Vec<String> = leaves::mark(&mut document.clone())
        .into_iter()
        .map(|leaf| leaf.path)
        .collect();
    for leaf in places.clone() {
        for (at, _) in leaf.match_indices(['.', '[']) {
            places.push(leaf[..at].to_owned());
        }
    }
    places.sort();
    places.dedup();
    places
}

/// Each change is a choice of a place and what is put there.
type Changes = Vec<(prop::sample::Index, Value)>;

fn changed(document: &Value, changes: &Changes) -> Value {
    let mut document = document.clone();
    for (place, value) in changes {
        let places = places(&document);
        if !places.is_empty() {
            document = leaves::replaced(&document, place.get(&places).as_str(), value);
        }
    }
    document
}

#[test]
fn odd_requests_are_written_or_refused() {
    let all = fixtures::requests();
    let input = (
        any::<prop::sample::Index>(),
        0..ALL.len(),
        prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4),
    );
    let result = runner(1500).run(&input, |(which, to, changes)| {
        let fixture = which.get(&all);
        let body = changed(&fixture.body, &changes);
        let model = fixtures::model(ALL[to].id().as_str());
        for way in [Way::Gateway, Way::Codecs] {
            if let Ok(Ok(converted)) = conservation::convert(way, fixture.dialect, ALL[to], model, &body) {
                let written: Value = serde_json::from_str(&converted.written)
                    .map_err(|error| TestCaseError::fail(format!("{error}: {}", converted.written)))?;
                prop_assert!(written.is_object());
            }
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}

#[test]
fn odd_answers_are_written() {
    let all: Vec<_> = fixtures::answers()
        .into_iter()
        .filter(|answer| !answer.stream)
        .collect();
    let input = (
        any::<prop::sample::Index>(),
        prop::collection::vec((any::<prop::sample::Index>(), odd()), 1..4),
    );
    let result = runner(1000).run(&input, |(which, changes)| {
        let answer = which.get(&all);
        let body: Value = serde_json::from_str(&answer.body).expect("a fixture is JSON");
        let body = changed(&body, &changes).to_string();
        let Some((response, end)) = pipeline::fold_whole(answer.dialect, body.as_bytes()) else {
            return Ok(());
        };
        let failed = |candidate: &tollgate::ir::Candidate| {
            candidate
                .finish
                .as_ref()
                .is_some_and(|finish| finish.kind == FinishKind::Error)
        };
        if end != StreamEnd::Complete || response.error.is_some() || response.candidates.iter().any(failed) {
            return Ok(());
        }
        for to in ALL {
            let mut encoding = pipeline::Encoding::new(*to);
            response.replay(&mut encoding);
            encoding.end(end);
            let stream = String::from_utf8(encoding.out.to_vec()).expect("UTF-8");
            let mut broken = wellformed::stream(to.id().as_str(), &stream);
            broken.retain(|rule| !rule.contains("lacks id or name"));
            prop_assert!(broken.is_empty(), "{} to {}: {broken:?}\n{stream}", answer.id, to.id());
            let response = pipeline::prepare(response.clone(), *to);
            let written = to.encode_response(&response, &pipeline::answering(), &mut LossReport::default());
            let written: Result<Value, _> = serde_json::from_slice(&written);
            prop_assert!(
                written.is_ok_and(|written| written.is_object()),
                "{} to {}",
                answer.id,
                to.id()
            );
        }
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
