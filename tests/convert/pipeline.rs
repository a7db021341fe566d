//! What stands between two codecs, in small: `translate/` does the same for the gateway, with seals, names and ids. Kept
//! apart from it on purpose, so that a proof about codecs does not depend on it.

use bytes::BytesMut;
use tollgate::dialects::{Answering, Dialect, StreamEncoder};
use tollgate::ir::response::{Accumulator, Response, fold};
use tollgate::ir::sequence::Sequencer;
use tollgate::ir::{
    ApiError, BlockHead, Content, Delta, ErrorKind, EventSink, FinishKind, LossReport, Operation, StreamEnd,
    StreamEvent,
};
use tollgate::sse::{Content as Framed, Framing, Splitter};

/// Larger than any recorded frame.
const MAX_KEPT: usize = 32 << 20;

/// Tells a stream, cut into chunks, to a sink. The number of frames nobody could read, and how it ended.
pub fn tell<'a>(
    dialect: &dyn Dialect,
    chunks: impl Iterator<Item = &'a [u8]>,
    sink: &mut dyn EventSink,
) -> (usize, StreamEnd) {
    let mut decoder = dialect.stream_decoder(Operation::Chat);
    let mut splitter = Splitter::new(Framing::Sse, MAX_KEPT);
    let mut unread = 0;
    for chunk in chunks {
        splitter.feed(chunk, |block| {
            if let Framed::Frame(frame) = block.content {
                unread += usize::from(decoder.frame(frame, sink).is_err());
            }
        });
    }
    splitter.finish(|frame| unread += usize::from(decoder.frame(frame, sink).is_err()));
    let end = decoder.finish(sink);
    (unread, end)
}

/// A stream folded.
pub fn fold_stream(dialect: &dyn Dialect, body: &[u8]) -> (Response, StreamEnd) {
    let mut folder = Accumulator::new(dialect.id());
    let (_, end) = tell(dialect, std::iter::once(body), &mut folder);
    (folder.into_response(), end)
}

/// A whole answer folded; `None`: it can't be read.
pub fn fold_whole(dialect: &dyn Dialect, body: &[u8]) -> Option<(Response, StreamEnd)> {
    let mut end = None;
    let response = fold(dialect.id(), |sink| {
        end = dialect.decode_response(Operation::Chat, body, sink).ok();
    });
    Some((response, end?))
}

/// What an encoder is told of the request it answers.
pub fn answering() -> Answering {
    Answering {
        request_id: "0199aa00-0000-7000-8000-000000000001".to_owned(),
        created: 1_700_000_000,
        model: "the-model".to_owned(),
        include_usage: true,
        ..Answering::default()
    }
}

/// The error of a stream which failed or just stopped.
pub fn failure() -> ApiError {
    ApiError::new(ErrorKind::Api, "the provider's stream ended early").status(502)
}

/// Events on their way into an encoder of the client's dialect.
pub struct Encoding {
    encoder: Box<dyn StreamEncoder>,
    sequencer: Option<Sequencer>,
    candidates: bool,
    calls: usize,
    failed: bool,
    /// What was written.
    pub out: BytesMut,
    /// What was lost.
    pub loss: LossReport,
}

impl Encoding {
    pub fn new(dialect: &dyn Dialect) -> Self {
        Encoding {
            encoder: dialect.stream_encoder(answering()),
            sequencer: dialect.is_sequential().then(Sequencer::default),
            candidates: dialect.has_candidates(),
            calls: 0,
            failed: false,
            out: BytesMut::new(),
            loss: LossReport::default(),
        }
    }

    /// An error came in the stream.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// The stream is over.
    pub fn end(&mut self, end: StreamEnd) {
        if end == StreamEnd::Complete && !self.failed {
            self.encoder.finish(&mut self.out, &mut self.loss);
        } else {
            self.encoder.fail(&failure(), &mut self.out);
        }
    }
}

/// Seals a token: any text becomes one of the characters tokens may have.
fn sealed(token: &str) -> String {
    let keep = |c: char| {
        if c.is_ascii_alphanumeric() || "+/_=-".contains(c) {
            c
        } else {
            '_'
        }
    };
    token.chars().map(keep).collect()
}

impl EventSink for Encoding {
    fn event(&mut self, event: StreamEvent<'_>) {
        let candidate = match &event {
            StreamEvent::BlockStart { index, .. }
            | StreamEvent::Delta { index, .. }
            | StreamEvent::BlockStop { index } => index.candidate,
            StreamEvent::Finish { candidate, .. } => *candidate,
            _ => 0,
        };
        if self.failed || candidate != 0 && !self.candidates {
            return;
        }
        let event = match event {
            StreamEvent::Error(_) => {
                self.failed = true;
                return;
            }
            StreamEvent::Finish { reason, .. } if reason.kind == FinishKind::Error => {
                self.failed = true;
                return;
            }
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
            } => {
                let number = self.calls;
                self.calls += 1;
                StreamEvent::BlockStart {
                    index,
                    block: BlockHead::ToolCall {
                        id: if id.is_empty() {
                            format!("call_{number}").into()
                        } else {
                            id
                        },
                        name,
                        kind,
                        namespace,
                        opaque: sealed(&opaque).into(),
                    },
                }
            }
            StreamEvent::Delta {
                index,
                delta: Delta::Opaque(token),
            } => StreamEvent::Delta {
                index,
                delta: Delta::Opaque(sealed(&token).into()),
            },
            event => event,
        };
        let Encoding {
            encoder,
            sequencer,
            out,
            loss,
            ..
        } = self;
        let mut write = |event: StreamEvent<'_>| encoder.event(event, out, loss);
        match sequencer {
            Some(sequencer) => sequencer.event(event, &mut write),
            None => write(event),
        }
    }
}

/// A stream converted, cut into those chunks.
pub fn convert_stream<'a>(
    from: &dyn Dialect,
    to: &dyn Dialect,
    chunks: impl Iterator<Item = &'a [u8]>,
) -> (Encoding, StreamEnd) {
    let mut encoding = Encoding::new(to);
    let (_, end) = tell(from, chunks, &mut encoding);
    encoding.end(end);
    (encoding, end)
}

/// An answer as `translate/` hands it to an encoder: ids for its tool calls, only what the dialect has.
pub fn prepare(mut response: Response, to: &dyn Dialect) -> Response {
    if !to.has_candidates() {
        response.candidates.retain(|candidate| candidate.index == 0);
    }
    let blocks = response.candidates.iter_mut().flat_map(|c| &mut c.blocks);
    let mut calls = 0;
    for block in blocks {
        if let Some(token) = &mut block.opaque {
            token.0 = sealed(&token.0).into();
        }
        if let Content::ToolCall(call) = &mut block.content {
            if call.id.is_empty() {
                call.id = format!("call_{calls}");
            }
            calls += 1;
        }
    }
    response
}
