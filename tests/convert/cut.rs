//! A stream which just stops is never told as a finished one.

use tollgate::dialects::ALL;
use tollgate::ir::StreamEnd;

use crate::report::{Report, short};
use crate::{answers, pipeline, wellformed};

#[test]
fn a_cut_stream_looks_complete_to_nobody() {
    let mut report = Report::default();
    for answer in answers::all().into_iter().filter(|answer| answer.stream) {
        if answers::complete(&answer).is_none() {
            continue;
        }
        let bytes = answer.body.as_bytes();
        // Half of it: amid an event, and at the end of one.
        let half = bytes.len() / 2;
        let border = answer.body.as_bytes()[..half]
            .windows(2)
            .rposition(|window| window == b"\n\n" || window == b"\n\r");
        for cut in [Some(half), border.map(|at| at + 2)].into_iter().flatten() {
            let half = &bytes[..cut];
            // A wire may say why it ended before it has told everything (Gemini in each event): then it may look complete.
            if !wellformed::success_marks(answer.dialect.id().as_str(), &String::from_utf8_lossy(half)).is_empty() {
                continue;
            }
            for to in ALL {
                let (encoding, end) = pipeline::convert_stream(answer.dialect, *to, std::iter::once(half));
                let pair = format!("{} -> {}", answer.dialect.id(), to.id());
                report.check(&pair, end != StreamEnd::Complete, || {
                    format!("{}: cut at {cut}: {end:?}", answer.id)
                });
                let written = String::from_utf8_lossy(&encoding.out).into_owned();
                let marks = wellformed::success_marks(to.id().as_str(), &written);
                report.check(&pair, marks.is_empty(), || {
                    format!("{}: cut at {cut}: {}", answer.id, short(&marks.join("; ")))
                });
                report.check(&pair, !written.is_empty(), || {
                    format!("{}: cut at {cut}: nothing is told", answer.id)
                });
                let (_, read) = pipeline::fold_stream(*to, &encoding.out);
                report.check(&pair, read != StreamEnd::Complete, || {
                    format!("{}: cut at {cut}: reads as complete", answer.id)
                });
            }
        }
    }
    report.end("cut streams", true);
}
