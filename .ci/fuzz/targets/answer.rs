//! One answer of a provider, whatever it is: what goes out is what came in (all of it if the answer is complete), and what
//! is metered does not depend on how it was cut.

use bytes::Bytes;
use tollgate::dialects;
use tollgate::ir::{Operation, StreamEnd};
use tollgate::sse::Framing;
use tollgate::translate::{AnswerKind, AnswerPlan, AnswerStream, Coding};

use crate::cut;

/// Larger than any input.
const MAX_KEPT: usize = 1 << 20;

fn pass<'a>(
    dialect: &str,
    kind: AnswerKind,
    status: u16,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Vec<u8>, StreamEnd, String) {
    let mut answer = AnswerStream::new(AnswerPlan {
        dialect: dialects::by_name(dialect).expect("a dialect"),
        operation: Operation::Chat,
        status,
        kind,
        coding: Coding::Identity,
        withhold_usage: false,
        max_kept: MAX_KEPT,
        conversion: None,
    });
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&answer.chunk(Bytes::copy_from_slice(chunk)));
    }
    let (rest, end) = answer.finish();
    out.extend_from_slice(&rest);
    assert_eq!(answer.finish(), (Bytes::new(), end), "the end is told once");
    (out, end, format!("{:?}", answer.meter()))
}

/// The check, for one dialect.
pub fn check(dialect: &str, input: &[u8]) {
    let (cuts, body) = cut::cuts(input);
    let kinds = [
        (AnswerKind::Stream(Framing::Sse), 200),
        (AnswerKind::Stream(Framing::JsonArray), 200),
        (AnswerKind::Whole, 200),
        (AnswerKind::Error, 429),
    ];
    for (kind, status) in kinds {
        let (out, end, meter) = pass(dialect, kind, status, std::iter::once(body));
        assert!(body.starts_with(&out), "nothing goes out that did not come in");
        assert!(
            end != StreamEnd::Complete || out == body,
            "a complete answer goes out whole"
        );
        let (cut, cut_end, cut_meter) = pass(dialect, kind, status, cut::pieces(body, cuts));
        assert_eq!(
            (end, &meter),
            (cut_end, &cut_meter),
            "the meter does not depend on how an answer is cut"
        );
        assert_eq!(out, cut, "nor does what goes out");
    }
}
