//! The grammar of events holds for every decoder, on every stream and on damaged ones; and what encoders write of a damaged
//! stream which ended well obeys the client's grammar.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use tollgate::dialects::{ALL, Dialect};
use tollgate::ir::grammar::Grammar;
use tollgate::ir::{EventSink, Operation, StreamEnd, StreamEvent};

use crate::report::Report;
use crate::{answers, fixtures, pipeline, wellformed};

/// Tells events to two sinks.
struct Both<'a>(&'a mut dyn EventSink, &'a mut dyn EventSink);

impl EventSink for Both<'_> {
    fn event(&mut self, event: StreamEvent<'_>) {
        self.0.event(event.clone());
        self.1.event(event);
    }
}

#[test]
fn events_obey_the_grammar() {
    let mut report = Report::default();
    for answer in answers::all() {
        let mut grammar = Grammar::default();
        if answer.stream {
            pipeline::tell(answer.dialect, std::iter::once(answer.body.as_bytes()), &mut grammar);
        } else {
            let read = answer
                .dialect
                .decode_response(Operation::Chat, answer.body.as_bytes(), &mut grammar);
            report.check(answer.dialect.id().as_str(), read.is_ok(), || {
                format!("{}: {read:?}", answer.id)
            });
        }
        let broken = grammar.end();
        report.check(answer.dialect.id().as_str(), broken.is_empty(), || {
            format!("{}: {broken:?}", answer.id)
        });
    }
    report.end("grammar of events", true);
}

/// What happens to a stream on its way.
#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Duplicate(usize),
    Drop(usize),
    Swap(usize, usize),
    Flip(usize, u8),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        any::<usize>().prop_map(Damage::Duplicate),
        any::<usize>().prop_map(Damage::Drop),
        any::<(usize, usize)>().prop_map(|(a, b)| Damage::Swap(a, b)),
        any::<(usize, u8)>().prop_map(|(at, with)| Damage::Flip(at, with)),
    ]
}

/// The frames of a stream, each with its end.
fn frames(body: &str) -> Vec<Vec<u8>> {
    let end = if body.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    body.split_inclusive(end)
        .map(|frame| frame.as_bytes().to_vec())
        .collect()
}

fn damaged(body: &str, damages: &[Damage]) -> Vec<u8> {
    let mut frames = frames(body);
    for damage in damages {
        let count = frames.len();
        if count == 0 {
            break;
        }
        match *damage {
            Damage::Cut(at) => frames.truncate(at % (count + 1)),
            Damage::Duplicate(at) => frames.insert(at % count, frames[at % count].clone()),
            Damage::Drop(at) => {
                frames.remove(at % count);
            }
            Damage::Swap(a, b) => frames.swap(a % count, b % count),
            Damage::Flip(at, with) => {
                let frame = &mut frames[at % count];
                let place = (at / count) % frame.len();
                frame[place] = with;
            }
        }
    }
    frames.concat()
}

/// Any damage: events keep the grammar, nothing panics, and a stream that is told as complete is well-formed.
fn survives(from: &dyn Dialect, bytes: &[u8]) -> Result<(), TestCaseError> {
    let mut grammar = Grammar::default();
    pipeline::tell(from, std::iter::once(bytes), &mut grammar);
    let broken = grammar.end();
    prop_assert!(broken.is_empty(), "events of {}: {broken:?}", from.id());
    for to in ALL {
        let mut encoding = pipeline::Encoding::new(*to);
        let mut grammar = Grammar::default();
        let (_, end) = pipeline::tell(from, std::iter::once(bytes), &mut Both(&mut encoding, &mut grammar));
        encoding.end(end);
        if end == StreamEnd::Complete && !encoding.failed() {
            let written = String::from_utf8(encoding.out.to_vec()).expect("UTF-8");
            let mut broken = wellformed::stream(to.id().as_str(), &written);
            // A name that was lost on the way can't be made up.
            broken.retain(|rule| !rule.contains("lacks id or name"));
            prop_assert!(broken.is_empty(), "{} -> {}: {broken:?}\n{written}", from.id(), to.id());
        }
    }
    Ok(())
}

#[test]
fn damaged_streams_are_survived() {
    let streams: Vec<_> = fixtures::answers().into_iter().filter(|answer| answer.stream).collect();
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(400);
    let mut runner = TestRunner::new(Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    });
    let input = (any::<prop::sample::Index>(), prop::collection::vec(damage(), 0..4));
    let result = runner.run(&input, |(stream, damages)| {
        let answer = stream.get(&streams);
        let bytes = damaged(&answer.body, &damages);
        survives(answer.dialect, &bytes).map_err(|error| {
            TestCaseError::fail(format!("{}: {error}\n{}", answer.id, String::from_utf8_lossy(&bytes)))
        })
    });
    if let Err(error) = result {
        panic!("{error}");
    }
}
