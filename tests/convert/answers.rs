//! Identity of answers: an answer of dialect A, written for a client of dialect B and read by B's own decoder, says the
//! same; as a stream and as a whole. A stream obeys its dialect's grammar and does not depend on how the input was cut.

use tollgate::dialects::{ALL, Dialect};
use tollgate::ir::response::Response;
use tollgate::ir::{FinishKind, LossReport, StreamEnd};

use crate::meaning::compare;
use crate::report::{Report, short};
use crate::{fixtures, pipeline, recordings, wellformed};

/// An answer to be converted: ours or recorded.
pub struct Answer {
    pub id: String,
    pub dialect: &'static dyn Dialect,
    pub stream: bool,
    pub body: String,
}

/// All answers there are.
pub fn all() -> Vec<Answer> {
    let recorded = recordings::answered().into_iter().map(|case| Answer {
        dialect: case.dialect(),
        stream: case.stream,
        body: case.body().to_owned(),
        id: case.id,
    });
    fixtures::answers().into_iter().chain(recorded).collect()
}

/// The answer folded; `None` where it can't be read, failed, or is not complete: others prove what then happens.
pub fn complete(answer: &Answer) -> Option<Response> {
    let (response, end) = if answer.stream {
        pipeline::fold_stream(answer.dialect, answer.body.as_bytes())
    } else {
        pipeline::fold_whole(answer.dialect, answer.body.as_bytes())?
    };
    let failed = |finish: &tollgate::ir::FinishReason| finish.kind == FinishKind::Error;
    let broken = response.error.is_some()
        || response
            .candidates
            .iter()
            .any(|c| c.finish.as_ref().is_some_and(failed));
    (end == StreamEnd::Complete && !broken).then_some(response)
}

fn pair(from: &dyn Dialect, to: &dyn Dialect) -> String {
    format!("{} -> {}", from.id(), to.id())
}

/// Anthropic's answers always report usage.
fn always_usage(dialect: &dyn Dialect) -> bool {
    dialect.id().as_str() == "anthropic"
}

#[test]
fn streams_say_the_same_in_every_dialect() {
    let mut report = Report::default();
    for answer in all().into_iter().filter(|answer| answer.stream) {
        let Some(before) = complete(&answer) else { continue };
        for to in ALL {
            let pair = pair(answer.dialect, *to);
            let bytes = answer.body.as_bytes();
            let (encoding, _) = pipeline::convert_stream(answer.dialect, *to, std::iter::once(bytes));
            let written = String::from_utf8(encoding.out.to_vec()).expect("UTF-8");
            let broken = wellformed::stream(to.id().as_str(), &written);
            report.check(&format!("{pair}, grammar"), broken.is_empty(), || {
                format!("{}: {}", answer.id, broken.join("; "))
            });
            let (after, end) = pipeline::fold_stream(*to, written.as_bytes());
            report.check(&pair, end == StreamEnd::Complete, || {
                format!("{}: the end is {end:?}", answer.id)
            });
            let wrong = compare(&pipeline::prepare(before.clone(), *to), &after, always_usage(*to));
            report.check(&pair, wrong.is_empty(), || {
                format!("{}: {}", answer.id, short(&wrong.join("; ")))
            });
        }
    }
    report.end("streams say the same", true);
}

#[test]
fn whole_answers_say_the_same_in_every_dialect() {
    let mut report = Report::default();
    for answer in all() {
        let Some(before) = complete(&answer) else { continue };
        for to in ALL {
            let pair = pair(answer.dialect, *to);
            let prepared = pipeline::prepare(before.clone(), *to);
            let mut loss = LossReport::default();
            let written = to.encode_response(&prepared, &pipeline::answering(), &mut loss);
            let Some((after, end)) = pipeline::fold_whole(*to, &written) else {
                report.check(&pair, false, || {
                    format!(
                        "{}: unreadable: {}",
                        answer.id,
                        short(&String::from_utf8_lossy(&written))
                    )
                });
                continue;
            };
            report.check(&pair, end == StreamEnd::Complete, || {
                format!("{}: the end is {end:?}", answer.id)
            });
            let wrong = compare(&prepared, &after, always_usage(*to));
            report.check(&pair, wrong.is_empty(), || {
                format!("{}: {}", answer.id, short(&wrong.join("; ")))
            });
        }
    }
    report.end("whole answers say the same", true);
}

#[test]
fn a_stream_and_a_whole_answer_of_the_same_events_mean_the_same() {
    let mut report = Report::default();
    for answer in all() {
        let Some(before) = complete(&answer) else { continue };
        for to in ALL {
            let prepared = pipeline::prepare(before.clone(), *to);
            let mut loss = LossReport::default();
            let whole = to.encode_response(&prepared, &pipeline::answering(), &mut loss);
            let mut encoding = pipeline::Encoding::new(*to);
            before.replay(&mut encoding);
            encoding.end(StreamEnd::Complete);
            let (streamed, _) = pipeline::fold_stream(*to, &encoding.out);
            let Some((whole, _)) = pipeline::fold_whole(*to, &whole) else {
                continue;
            };
            let wrong = compare(&whole, &streamed, false);
            report.check(&pair(answer.dialect, *to), wrong.is_empty(), || {
                format!("{}: whole -> stream: {}", answer.id, short(&wrong.join("; ")))
            });
        }
    }
    report.end("stream and whole", true);
}

#[test]
fn what_is_written_does_not_depend_on_chunks() {
    let mut report = Report::default();
    for answer in all().into_iter().filter(|answer| answer.stream) {
        let bytes = answer.body.as_bytes();
        for to in ALL {
            let (whole, end) = pipeline::convert_stream(answer.dialect, *to, std::iter::once(bytes));
            for size in [1, 7, 1000] {
                let (cut, cut_end) = pipeline::convert_stream(answer.dialect, *to, bytes.chunks(size));
                report.check(
                    &pair(answer.dialect, *to),
                    cut.out == whole.out && cut_end == end && cut.loss == whole.loss,
                    || format!("{}: chunks of {size}", answer.id),
                );
            }
        }
    }
    report.end("chunks", true);
}
