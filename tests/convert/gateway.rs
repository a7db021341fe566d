//! The same proofs through `translate/`, as the gateway converts: names, ids and sealed tokens included; and in all four
//! shapes, a stream or a whole answer from the provider, a stream or a whole answer for the client.

use std::sync::Arc;

use bytes::Bytes;
use tollgate::dialects::{ALL, Dialect};
use tollgate::ir::{Operation, StreamEnd};
use tollgate::sse::Framing;
use tollgate::translate::opaque::Origin;
use tollgate::translate::{AnswerKind, AnswerPlan, AnswerStream, Coding, Conversion};

use crate::answers::{self, Answer};
use crate::meaning::compare;
use crate::report::{Report, short};
use crate::{pipeline, recordings, wellformed};

/// One answer of that provider's model on its way to a client.
pub fn stream(
    answer: &Answer,
    (provider, model): (&str, &str),
    to: &'static dyn Dialect,
    client_stream: bool,
) -> AnswerStream {
    AnswerStream::new(AnswerPlan {
        dialect: answer.dialect,
        operation: Operation::Chat,
        status: 200,
        kind: if answer.stream {
            AnswerKind::Stream(Framing::Sse)
        } else {
            AnswerKind::Whole
        },
        coding: Coding::Identity,
        withhold_usage: false,
        max_kept: 32 << 20,
        conversion: Some(Arc::new(Conversion {
            client: recordings::target(to.id().as_str(), client_stream),
            client_stream,
            origin: Some(Origin::new(answer.dialect.id(), provider, model)),
            names: Arc::default(),
            answering: pipeline::answering(),
            asked: None,
            mask: None,
        })),
    })
}

fn run(
    answer: &Answer,
    body: &[u8],
    to: &'static dyn Dialect,
    client_stream: bool,
) -> (Vec<u8>, StreamEnd, AnswerStream) {
    let mut stream = stream(answer, ("a-provider", "a-model"), to, client_stream);
    let mut out = Vec::new();
    for chunk in body.chunks(1000) {
        out.extend_from_slice(&stream.chunk(Bytes::copy_from_slice(chunk)));
    }
    let (rest, end) = stream.finish();
    out.extend_from_slice(&rest);
    (out, end, stream)
}

#[test]
fn answers_say_the_same_in_every_dialect_and_shape() {
    let mut report = Report::default();
    for answer in answers::all() {
        let Some(before) = answers::complete(&answer) else {
            continue;
        };
        for to in ALL {
            let before = pipeline::prepare(before.clone(), *to);
            for client_stream in [true, false] {
                let shape = |stream| if stream { "stream" } else { "whole" };
                let pair = format!(
                    "{} {} -> {} {}",
                    answer.dialect.id(),
                    shape(answer.stream),
                    to.id(),
                    shape(client_stream)
                );
                let (out, end, _) = run(&answer, answer.body.as_bytes(), *to, client_stream);
                report.check(&pair, end == StreamEnd::Complete, || format!("{}: {end:?}", answer.id));
                let after = if client_stream {
                    let broken = wellformed::stream(to.id().as_str(), &String::from_utf8_lossy(&out));
                    report.check(&pair, broken.is_empty(), || {
                        format!("{}: {}", answer.id, broken.join("; "))
                    });
                    Some(pipeline::fold_stream(*to, &out))
                } else {
                    pipeline::fold_whole(*to, &out)
                };
                let Some((after, end)) = after else {
                    report.check(&pair, false, || format!("{}: unreadable", answer.id));
                    continue;
                };
                report.check(&pair, end == StreamEnd::Complete, || {
                    format!("{}: reads as {end:?}", answer.id)
                });
                let wrong = compare(&before, &after, to.id().as_str() == "anthropic");
                report.check(&pair, wrong.is_empty(), || {
                    format!("{}: {}", answer.id, short(&wrong.join("; ")))
                });
            }
        }
    }
    report.end("answers through the gateway", true);
}

#[test]
fn a_cut_stream_fails_in_every_shape() {
    let mut report = Report::default();
    for answer in answers::all().into_iter().filter(|answer| answer.stream) {
        if answers::complete(&answer).is_none() {
            continue;
        }
        let half = &answer.body.as_bytes()[..answer.body.len() / 2];
        let name = answer.dialect.id();
        if !wellformed::success_marks(name.as_str(), &String::from_utf8_lossy(half)).is_empty() {
            continue;
        }
        for to in ALL {
            for client_stream in [true, false] {
                let pair = format!("{name} -> {}", to.id());
                let (out, end, stream) = run(&answer, half, *to, client_stream);
                report.check(&pair, end != StreamEnd::Complete, || format!("{}: {end:?}", answer.id));
                let marks = wellformed::success_marks(to.id().as_str(), &String::from_utf8_lossy(&out));
                report.check(&pair, marks.is_empty(), || {
                    format!("{}: {}", answer.id, short(&marks.join("; ")))
                });
                // Either the client is told in its stream, or it gets an error instead of an answer.
                let told = if out.is_empty() {
                    stream.failure().is_some()
                } else {
                    client_stream
                };
                report.check(&pair, told, || format!("{}: the client is not told", answer.id));
            }
        }
    }
    report.end("cut streams through the gateway", true);
}
