//! Streams of providers, converted: the first byte says from which dialect, the next how the stream is cut. Events keep
//! their grammar, what is written is UTF-8 and does not depend on how the stream was cut.
#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use tollgate::dialects::{ALL, Answering, Dialect};
use tollgate::ir::grammar::Grammar;
use tollgate::ir::response::{Accumulator, Response};
use tollgate::ir::sequence::Sequencer;
use tollgate::ir::{ApiError, BlockHead, ErrorKind, EventSink, LossReport, Operation, StreamEnd, StreamEvent};
use tollgate::sse::{Content, Framing, Splitter};

mod cut;

/// Larger than any input.
const MAX_KEPT: usize = 1 << 20;

fn tell<'a>(from: &dyn Dialect, chunks: impl Iterator<Item = &'a [u8]>, sink: &mut dyn EventSink) -> StreamEnd {
    let mut decoder = from.stream_decoder(Operation::Chat);
    let mut splitter = Splitter::new(Framing::Sse, MAX_KEPT);
    for chunk in chunks {
        splitter.feed(chunk, |block| {
            if let Content::Frame(frame) = block.content {
                // What can't be read is passed over.
                let _ = decoder.frame(frame, sink);
            }
        });
    }
    decoder.finish(sink)
}

/// An event as encoders get it: no errors, one candidate where there is but one, an id for each call.
fn prepared<'e>(event: StreamEvent<'e>, to: &dyn Dialect) -> Option<StreamEvent<'e>> {
    let candidate = match &event {
        StreamEvent::BlockStart { index, .. } | StreamEvent::Delta { index, .. } | StreamEvent::BlockStop { index } => {
            index.candidate
        }
        StreamEvent::Finish { candidate, .. } => *candidate,
        _ => 0,
    };
    if candidate != 0 && !to.has_candidates() {
        return None;
    }
    match event {
        StreamEvent::Error(_) => None,
        StreamEvent::BlockStart {
            index,
            block:
                BlockHead::ToolCall {
                    id,
                    name,
                    kind,
                    namespace,
                    opaque,
                },
        } => Some(StreamEvent::BlockStart {
            index,
            block: BlockHead::ToolCall {
                id: if id.is_empty() { "call".into() } else { id },
                name,
                kind,
                namespace,
                opaque,
            },
        }),
        event => Some(event),
    }
}

fn answering() -> Answering {
    Answering {
        request_id: "r".to_owned(),
        include_usage: true,
        ..Answering::default()
    }
}

fn convert<'a>(from: &dyn Dialect, to: &dyn Dialect, chunks: impl Iterator<Item = &'a [u8]>) -> (BytesMut, StreamEnd) {
    let mut encoder = to.stream_encoder(answering());
    let mut sequencer = to.is_sequential().then(Sequencer::default);
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let end = tell(from, chunks, &mut |event: StreamEvent<'_>| {
        let Some(event) = prepared(event, to) else { return };
        let mut write = |event: StreamEvent<'_>| encoder.event(event, &mut out, &mut loss);
        match &mut sequencer {
            Some(sequencer) => sequencer.event(event, &mut write),
            None => write(event),
        }
    });
    if end == StreamEnd::Complete {
        encoder.finish(&mut out, &mut loss);
    } else {
        encoder.fail(&ApiError::new(ErrorKind::Api, "it ended"), &mut out);
    }
    (out, end)
}

/// A whole answer of the same events is JSON in every dialect.
fn whole(mut response: Response) {
    response.error = None;
    for to in ALL {
        let mut response = response.clone();
        if !to.has_candidates() {
            response.candidates.retain(|candidate| candidate.index == 0);
        }
        let written = to.encode_response(&response, &answering(), &mut LossReport::default());
        let read: Result<serde_json::Value, _> = serde_json::from_slice(&written);
        assert!(read.is_ok(), "what is written is JSON");
    }
}

fuzz_target!(|input: &[u8]| {
    let [which, input @ ..] = input else { return };
    let from = ALL[usize::from(*which) % ALL.len()];
    let (cuts, body) = cut::cuts(input);
    let mut grammar = Grammar::default();
    tell(from, std::iter::once(body), &mut grammar);
    assert_eq!(grammar.end(), Vec::<&str>::new(), "events keep their grammar");
    let mut folder = Accumulator::new(from.id());
    tell(from, std::iter::once(body), &mut folder);
    whole(folder.into_response());
    for to in ALL {
        let (out, end) = convert(from, *to, std::iter::once(body));
        assert!(std::str::from_utf8(&out).is_ok(), "UTF-8 is written");
        let (cut, cut_end) = convert(from, *to, cut::pieces(body, cuts));
        assert_eq!((out, end), (cut, cut_end), "whatever the cuts");
    }
});
