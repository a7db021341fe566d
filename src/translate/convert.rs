//! An answer on its way into another dialect: events in, the client's bytes out.

use std::borrow::Cow;
use std::mem;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::dialects::{Answering, Dialect, StreamEncoder, Target};
use crate::ir::response::Accumulator;
use crate::ir::sequence::Sequencer;
use crate::ir::{
    ApiError, BlockHead, BlockIndex, Delta, DialectId, EmbeddingRequest, ErrorKind, EventSink, FinishKind, LossReport,
    Operation, Response, StreamEnd, StreamEvent, ToolKind,
};

use super::Meter;
use super::keep::Keep;
use super::names::{self, ToolNames};
use super::opaque::Origin;

/// Hides our credentials in what a provider says.
pub type Mask = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What the conversion of one answer must know.
pub struct Conversion {
    /// What the client asked, in its dialect.
    pub client: Target,
    /// The client wants a stream.
    pub client_stream: bool,
    /// Who answers; `None`: the dialect is the client's own, and tokens need no seal.
    pub origin: Option<Origin>,
    /// Tools by the names the provider knows.
    pub names: Arc<ToolNames>,
    /// What the encoder must know.
    pub answering: Answering,
    /// The request for vectors: they are written in the form it asked for.
    pub asked: Option<Box<EmbeddingRequest>>,
    /// Masks what the client must not see in errors.
    pub mask: Option<Mask>,
}

/// The end of a failed answer repeats it up to so many bytes.
const REPEATED: usize = 1 << 20;

/// A larger buffer is not used again.
const MOST_REUSED: usize = 64 * 1024;

/// Converts one answer.
pub(super) struct Converter {
    plan: Arc<Conversion>,
    stage: Stage,
    /// Calls that got an id from us.
    ids_made: u32,
    /// Arguments of free-text tools, until their block ends.
    free_text: Vec<(BlockIndex, String)>,
    /// Tokens, until their block ends.
    tokens: Vec<(BlockIndex, String)>,
    /// The reasoning before the next tool call, where that call is to carry it.
    thought: Option<Thought>,
    /// Something of the answer itself was told: what was written may go out.
    begun: bool,
    /// Something went out.
    sent: bool,
    error: Option<ApiError>,
    /// The error was written into the stream.
    told: bool,
    keep: Keep,
}

/// Reasoning, gathered for the call after it.
struct Thought {
    index: BlockIndex,
    text: String,
    /// Empty until its block ended.
    token: String,
}

/// Where events end up.
struct Stage {
    sequencer: Option<Sequencer>,
    form: Form,
    out: BytesMut,
    loss: LossReport,
}

enum Form {
    Stream(Box<dyn StreamEncoder>),
    Whole(Box<Accumulator>),
}

impl Stage {
    fn tell(&mut self, event: StreamEvent<'_>) {
        let Stage {
            sequencer,
            form,
            out,
            loss,
        } = self;
        match (form, sequencer) {
            (Form::Whole(accumulator), _) => accumulator.event(event),
            (Form::Stream(encoder), None) => encoder.event(event, out, loss),
            (Form::Stream(encoder), Some(sequencer)) => {
                sequencer.event(event, &mut |event: StreamEvent<'_>| encoder.event(event, out, loss));
            }
        }
    }
}

impl Converter {
    /// Starts before the first event; `from` is the dialect of the decoder.
    pub(super) fn new(plan: Arc<Conversion>, from: DialectId) -> Self {
        let dialect = plan.client.dialect;
        let form = if plan.client_stream {
            Form::Stream(dialect.stream_encoder(plan.answering.clone()))
        } else {
            Form::Whole(Box::new(Accumulator::new(from)))
        };
        let keep = Keep::new(dialect, !plan.client_stream);
        Converter {
            stage: Stage {
                sequencer: (plan.client_stream && dialect.is_sequential()).then(Sequencer::default),
                form,
                out: BytesMut::new(),
                loss: LossReport::default(),
            },
            plan,
            ids_made: 0,
            free_text: Vec::new(),
            tokens: Vec::new(),
            thought: None,
            begun: false,
            sent: false,
            error: None,
            told: false,
            keep,
        }
    }

    /// About how many bytes of the answer are kept.
    pub(super) fn kept(&self) -> usize {
        let texts = self.free_text.iter().chain(&self.tokens).map(|(_, text)| text.len());
        let thought = self.thought.as_ref().map_or(0, |thought| thought.text.len());
        self.keep.bytes() + texts.sum::<usize>() + thought
    }

    /// Tells the error as the client's stream tells one.
    fn tell_error(&mut self, error: &ApiError) {
        let large = self.kept() > REPEATED;
        let Stage { form, out, .. } = &mut self.stage;
        if let (Form::Stream(encoder), false) = (form, self.told) {
            if large {
                encoder.forget();
            }
            encoder.fail(error, out);
        }
        self.told = true;
    }

    /// What may go to the client now. Nothing does before the answer itself has begun: an error that comes first becomes a proper
    /// error answer.
    pub(super) fn take(&mut self) -> Bytes {
        if let Some(error) = self.error.clone() {
            if !self.sent {
                return Bytes::new();
            }
            // At once: the provider may go on, or stay silent, for long.
            self.tell_error(&error);
        }
        if !self.begun || self.stage.out.is_empty() {
            return Bytes::new();
        }
        self.sent = true;
        let out = &mut self.stage.out;
        // Split off, the rest of the buffer would keep all of it in memory.
        let large = out.capacity() > MOST_REUSED;
        if large { mem::take(out) } else { out.split() }.freeze()
    }

    /// Something went out.
    pub(super) fn has_sent(&self) -> bool {
        self.sent
    }

    /// The error the client is to be told instead of this answer, of which nothing went out.
    pub(super) fn failed(&self) -> Option<&ApiError> {
        self.error.as_ref().filter(|_| !self.sent)
    }

    /// What could not be said so far.
    pub(super) fn loss(&self) -> &LossReport {
        &self.stage.loss
    }

    /// The provider's answer can't be trusted to be complete: `why` is told to the client.
    pub(super) fn spoil(&mut self, why: &str, code: &str) {
        if self.error.is_none() {
            self.error = Some(ApiError::new(ErrorKind::Api, why).status(502).code(code));
        }
    }

    /// The answer is over. Returns its last bytes and how it ended, or the error the client is to be told instead of an answer, if
    /// nothing went out yet.
    pub(super) fn finish(&mut self, end: StreamEnd) -> Result<(Bytes, StreamEnd), ApiError> {
        if self.stage.sequencer.as_ref().is_some_and(Sequencer::overflowed) {
            self.spoil(
                "the provider's answer interleaves more than the gateway can hold back",
                "upstream_answer_too_large",
            );
        }
        if self.error.is_none() && end == StreamEnd::Complete {
            self.begun = true;
            let Stage { form, out, loss, .. } = &mut self.stage;
            match form {
                Form::Stream(encoder) => encoder.finish(out, loss),
                Form::Whole(_) => self.write_whole(),
            }
            return Ok((self.take(), StreamEnd::Complete));
        }
        self.spoil(
            "the provider's answer stopped before its end",
            "upstream_stream_truncated",
        );
        if let Some(error) = self.failed() {
            return Err(error.clone());
        }
        let end = if end == StreamEnd::Truncated && !self.told {
            StreamEnd::Truncated
        } else {
            StreamEnd::Failed
        };
        Ok((self.take(), end))
    }

    /// Ends a stream that has begun with an error.
    pub(super) fn fail(&mut self, error: &ApiError) -> Bytes {
        self.tell_error(error);
        self.begun = true;
        self.take()
    }

    fn write_whole(&mut self) {
        let from = DialectId::new("");
        let Form::Whole(accumulator) = &mut self.stage.form else {
            return;
        };
        let response = mem::replace(&mut **accumulator, Accumulator::new(from)).into_response();
        let body = self.encode(&response);
        self.stage.out.extend_from_slice(&body);
    }

    fn encode(&mut self, response: &Response) -> Vec<u8> {
        let dialect = self.plan.client.dialect;
        dialect.encode_response(response, &self.plan.answering, &mut self.stage.loss)
    }

    fn masked(&self, mut error: ApiError) -> ApiError {
        let texts = [Some(&mut error.message), error.code.as_mut(), error.param.as_mut()];
        if let Some(mask) = &self.plan.mask {
            for text in texts.into_iter().flatten() {
                if let Some(masked) = mask(text) {
                    *text = masked;
                }
            }
        }
        error
    }

    /// One candidate only, where the client's dialect knows no others.
    fn is_lost(&mut self, candidate: u32) -> bool {
        let lost = candidate > 0 && !self.plan.client.dialect.has_candidates();
        if lost {
            self.stage
                .loss
                .dropped("candidates", "the client's dialect has one answer: the first is told");
        }
        lost
    }

    fn tool_call(&mut self, index: BlockIndex, head: BlockHead<'_>) {
        let carries = self.plan.origin.is_some() && self.plan.client.dialect.has_tool_call_tokens();
        if carries && matches!(head, BlockHead::Reasoning) {
            self.thought = Some(Thought {
                index,
                text: String::new(),
                token: String::new(),
            });
        }
        let BlockHead::ToolCall {
            mut id,
            mut name,
            mut kind,
            mut namespace,
            mut opaque,
        } = head
        else {
            return self.stage.tell(StreamEvent::BlockStart { index, block: head });
        };
        if id.is_empty() {
            id = Cow::Owned(format!(
                "call_{}_{}",
                short(&self.plan.answering.request_id),
                self.ids_made
            ));
            self.ids_made += 1;
        }
        if let Some(origin) = self.plan.origin.as_ref().filter(|_| !opaque.is_empty()) {
            if self.plan.client.dialect.has_tool_call_tokens() {
                opaque = Cow::Owned(origin.seal(&opaque));
            } else {
                id = Cow::Owned(origin.seal_into_id(&id, &opaque));
                opaque = Cow::Borrowed("");
            }
        }
        let thought = self.thought.take().filter(|thought| !thought.token.is_empty());
        if let (Some(origin), Some(thought), true) = (&self.plan.origin, thought, opaque.is_empty()) {
            opaque = Cow::Owned(origin.seal_reasoning(&thought.text, &thought.token));
        }
        let names = self.plan.names.clone();
        if let Some(own) = names.own(&name) {
            name = Cow::Borrowed(&own.name);
            namespace = Cow::Borrowed(&own.namespace);
            if own.kind == ToolKind::Custom && kind != ToolKind::Custom {
                kind = ToolKind::Custom;
                self.free_text.push((index, String::new()));
            }
        }
        self.stage.tell(StreamEvent::BlockStart {
            index,
            block: BlockHead::ToolCall {
                id,
                name,
                kind,
                namespace,
                opaque,
            },
        });
    }

    fn delta(&mut self, index: BlockIndex, delta: Delta<'_>) {
        match &delta {
            Delta::Text(piece) if self.thought.is_some() => {
                if let Some(thought) = self.thought.as_mut().filter(|thought| thought.index == index) {
                    thought.text.push_str(piece);
                }
            }
            Delta::Arguments(piece) if !self.free_text.is_empty() => {
                if let Some((_, text)) = self.free_text.iter_mut().find(|(of, _)| *of == index) {
                    text.push_str(piece);
                    return;
                }
            }
            Delta::Opaque(piece) if self.plan.origin.is_some() => {
                match self.tokens.iter_mut().find(|(of, _)| *of == index) {
                    Some((_, token)) => token.push_str(piece),
                    None => self.tokens.push((index, piece.clone().into_owned())),
                }
                return;
            }
            _ => {}
        }
        self.stage.tell(StreamEvent::Delta { index, delta });
    }

    fn stop(&mut self, index: BlockIndex) {
        if let Some(place) = self.free_text.iter().position(|(of, _)| *of == index) {
            let (_, arguments) = self.free_text.remove(place);
            let text = names::free_text(&arguments).unwrap_or(arguments);
            self.stage.tell(StreamEvent::Delta {
                index,
                delta: Delta::Arguments(Cow::Owned(text)),
            });
        }
        if let Some(place) = self.tokens.iter().position(|(of, _)| *of == index) {
            let (_, token) = self.tokens.remove(place);
            if let Some(thought) = self.thought.as_mut().filter(|thought| thought.index == index) {
                thought.token.clone_from(&token);
            }
            let sealed = self
                .plan
                .origin
                .as_ref()
                .map_or(token.clone(), |origin| origin.seal(&token));
            self.stage.tell(StreamEvent::Delta {
                index,
                delta: Delta::Opaque(Cow::Owned(sealed)),
            });
        }
        self.stage.tell(StreamEvent::BlockStop { index });
    }
}

impl EventSink for Converter {
    fn event(&mut self, event: StreamEvent<'_>) {
        if self.error.is_some() {
            return;
        }
        if let StreamEvent::BlockStart { index, .. }
        | StreamEvent::Delta { index, .. }
        | StreamEvent::BlockStop { index } = &event
            && self.is_lost(index.candidate)
        {
            return;
        }
        self.keep.count(&event);
        match event {
            StreamEvent::Error(error) => self.error = Some(self.masked(error)),
            StreamEvent::BlockStart { index, block } => {
                self.begun = true;
                self.tool_call(index, block);
            }
            StreamEvent::Delta { index, delta } => self.delta(index, delta),
            StreamEvent::BlockStop { index } => self.stop(index),
            StreamEvent::Finish { candidate, reason } => {
                if reason.kind == FinishKind::Error && candidate == 0 {
                    let message = format!("the provider ended the answer with `{}`", reason.raw);
                    let error = ApiError::new(ErrorKind::Api, message).status(502);
                    self.error = Some(self.masked(error.code("upstream_answer_failed")));
                } else if !self.is_lost(candidate) {
                    self.begun = true;
                    self.stage.tell(StreamEvent::Finish { candidate, reason });
                }
            }
            // What is billed is for the meter: clients are told the tier by the natives that say so.
            StreamEvent::Terms(_) => {}
            event @ (StreamEvent::Start { .. }
            | StreamEvent::Usage(_)
            | StreamEvent::Ping
            | StreamEvent::Native { .. }) => self.stage.tell(event),
        }
    }
}

/// Letters and digits of a request id, enough to tell calls of different answers apart.
fn short(request_id: &str) -> String {
    let all: Vec<char> = request_id.chars().filter(char::is_ascii_alphanumeric).collect();
    all[all.len().saturating_sub(16)..].iter().collect()
}

/// A whole answer that is no conversation: vectors, or a count of tokens. `Err`: it can't be read.
pub(super) fn document(
    plan: &Conversion,
    from: &'static dyn Dialect,
    body: &[u8],
    meter: &mut Meter,
    loss: &mut LossReport,
) -> Result<Vec<u8>, ApiError> {
    let unreadable = || {
        ApiError::new(ErrorKind::Api, "the provider's answer can't be read")
            .status(502)
            .code("upstream_answer_unreadable")
    };
    let dialect = plan.client.dialect;
    if plan.client.operation == Operation::CountTokens {
        let tokens = from.decode_count(body).and_then(Result::ok).ok_or_else(unreadable)?;
        return dialect.encode_count(tokens).ok_or_else(unreadable);
    }
    let vectors = from.decode_vectors(body).and_then(Result::ok).ok_or_else(unreadable)?;
    meter.usage = vectors.usage;
    meter.content_events += u64::from(!vectors.vectors.is_empty());
    let Some(asked) = plan.asked.as_deref() else {
        return Err(unreadable());
    };
    let written = dialect.encode_vectors(&vectors, asked, &plan.client, loss);
    written.ok_or_else(unreadable)
}

/// Tells a meter and a converter.
pub(super) struct Both<'a> {
    pub(super) meter: &'a mut Meter,
    pub(super) converter: &'a mut Converter,
}

impl EventSink for Both<'_> {
    fn event(&mut self, event: StreamEvent<'_>) {
        self.meter.observe(&event);
        self.converter.event(event);
    }
}
