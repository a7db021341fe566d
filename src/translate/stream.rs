//! One answer on its way to the client: bytes out as they came in, a decoder reading along.
//!
//! A stream goes out in whole frames, so that an error can be written after any of them. A chunk that ends at a border,
//! which is the usual case, goes out as it is, without a copy.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::dialects::{Dialect, StreamDecoder};
use crate::ir::{ApiError, LossReport, Operation, StreamEnd};
use crate::sse::{Block, Content, Frame, Framing, Splitter};

use super::Meter;
use super::convert::{self, Both, Conversion, Converter};
use super::convert_frames::ConvertFrames;
use super::inflate::{self, Inflate, Stop};
use super::kept::Kept;

/// Most bytes of an error answer that are kept to be read.
pub const MAX_ERROR: usize = 64 << 10;

/// What the answer's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerKind {
    /// A stream of frames.
    Stream(Framing),
    /// One JSON document.
    Whole,
    /// An error answer (status 400 and above), read to its end for the record.
    Error,
    /// Something we don't read (audio, files); only counted.
    Opaque,
}

/// The answer's content coding, for the tap; the client gets the bytes as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coding {
    /// As it is.
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// zlib (RFC 9110 calls it deflate).
    Deflate,
    /// brotli (RFC 7932).
    Brotli,
    /// zstd (RFC 8878).
    Zstd,
    /// One we can't read: the tap stays blind.
    Unknown,
}

/// What an [`AnswerStream`] must know.
pub struct AnswerPlan {
    /// Whose words the answer speaks.
    pub dialect: &'static dyn Dialect,
    /// What was asked.
    pub operation: Operation,
    /// HTTP status of the answer.
    pub status: u16,
    /// What the body is.
    pub kind: AnswerKind,
    /// Its coding.
    pub coding: Coding,
    /// Withhold the usage-only frame: we asked for it, not the client. Only with [`Coding::Identity`].
    pub withhold_usage: bool,
    /// Most bytes kept of one frame or one whole answer for the tap, and for conversion.
    pub max_kept: usize,
    /// The client gets the answer in another form; `None`: as it came.
    pub conversion: Option<Arc<Conversion>>,
}

/// One answer on its way. Synchronous: Pingora's body filter is.
pub struct AnswerStream {
    plan: AnswerPlan,
    meter: Meter,
    body: Body,
    /// Frames go out whole ([`Body::Frames`]).
    aligned: bool,
    /// A frame is larger than is kept: what comes is not passed on any more.
    too_large: bool,
    /// Something went out.
    sent: bool,
    /// A stream in a coding can't be read any more.
    blind: bool,
    end: Option<StreamEnd>,
    /// What the client is to be told instead of this answer.
    failure: Option<ApiError>,
    /// What conversion lost of the answer, once it is over.
    loss: LossReport,
}

/// How the body is read.
enum Body {
    /// Frames, forwarded whole.
    Frames(Frames),
    /// Frames in a coding: they are read but can't be told apart in what is forwarded.
    Coded(Frames, Option<Inflate>, Option<Stop>),
    /// A document, kept to be read at its end.
    Kept(Kept),
    /// Frames, converted one by one.
    Convert(Box<ConvertFrames>),
    /// A document, converted at its end.
    ConvertKept(Kept, Box<Converter>),
    /// Not read.
    Opaque,
}

struct Frames {
    splitter: Splitter,
    decoder: Box<dyn StreamDecoder>,
    withhold_usage: bool,
    /// A withheld frame ended with the CR of a CRLF: its LF is to be withheld too.
    drop_lf: bool,
    /// A frame was seen.
    any: bool,
}

impl AnswerStream {
    /// Starts at the first byte of the body.
    pub fn new(plan: AnswerPlan) -> Self {
        let body = match plan.kind {
            _ if plan.conversion.is_some() => Body::converting(&plan),
            AnswerKind::Opaque => Body::Opaque,
            AnswerKind::Whole => Body::Kept(Kept::new(plan.max_kept)),
            AnswerKind::Error => Body::Kept(Kept::new(plan.max_kept.min(MAX_ERROR))),
            AnswerKind::Stream(framing) => {
                let frames = Frames {
                    splitter: Splitter::new(framing, plan.max_kept),
                    decoder: plan.dialect.stream_decoder(plan.operation),
                    withhold_usage: plan.withhold_usage,
                    drop_lf: false,
                    any: false,
                };
                match plan.coding {
                    Coding::Identity => Body::Frames(frames),
                    Coding::Unknown => Body::Opaque,
                    coding => Body::Coded(frames, Inflate::new(coding, inflate::MAX_PER_CHUNK), None),
                }
            }
        };
        let aligned = matches!(body, Body::Frames(_));
        AnswerStream {
            plan,
            meter: Meter::default(),
            body,
            aligned,
            too_large: false,
            sent: false,
            blind: false,
            end: None,
            failure: None,
            loss: LossReport::default(),
        }
    }

    /// Takes a chunk as it came and returns what goes to the client now: whole frames of a stream (an unfinished one is
    /// held back until it is whole), the chunk itself otherwise. After [`AnswerStream::finish`], and once it
    /// [is too large](AnswerStream::is_too_large), chunks are no longer read nor sent.
    pub fn chunk(&mut self, chunk: Bytes) -> Bytes {
        if self.end.is_some() || self.too_large {
            return Bytes::new();
        }
        let out = match &mut self.body {
            Body::Frames(frames) => frames.chunk(chunk, &mut self.meter),
            Body::Coded(frames, inflate, stop) => {
                if let Some(decoder) = inflate {
                    match decoder.push(&chunk) {
                        Ok(plain) => frames.read(&plain, &mut self.meter),
                        Err(why) => {
                            // The tap goes blind; what it has counted stands.
                            *inflate = None;
                            *stop = Some(why);
                            self.blind = true;
                            self.meter.unread_frames += 1;
                        }
                    }
                }
                chunk
            }
            Body::Kept(kept) => {
                kept.keep(&chunk);
                chunk
            }
            Body::Convert(frames) => {
                let out = frames.chunk(&chunk, &mut self.meter);
                if self.failure.is_none() {
                    self.failure = frames.converter().failed().cloned();
                }
                out
            }
            Body::ConvertKept(kept, _) => {
                kept.keep(&chunk);
                Bytes::new()
            }
            Body::Opaque => chunk,
        };
        self.sent |= !out.is_empty();
        self.too_large |= self.is_oversized();
        out
    }

    /// The body is over: what is held back (only if it is worth sending), and how the answer ended.
    /// Idempotent: later calls return nothing and the same end.
    ///
    /// What can't be read (an unknown coding, a document larger than is kept) counts as complete: the transport is then
    /// the only judge.
    pub fn finish(&mut self) -> (Bytes, StreamEnd) {
        if let Some(end) = self.end {
            return (Bytes::new(), end);
        }
        let (rest, end) = match std::mem::replace(&mut self.body, Body::Opaque) {
            Body::Opaque => (Bytes::new(), StreamEnd::Complete),
            Body::Frames(frames) => frames.finish(&self.plan, &mut self.meter),
            Body::Coded(frames, _, stop) => {
                let (_, end) = frames.finish(&self.plan, &mut self.meter);
                let blind = stop == Some(Stop::TooLarge) && end == StreamEnd::Truncated;
                (Bytes::new(), if blind { StreamEnd::Complete } else { end })
            }
            Body::Kept(kept) => (Bytes::new(), kept.finish(&self.plan, &mut self.meter)),
            Body::Convert(frames) => {
                let (converter, end) = frames.finish(&self.plan, &mut self.meter);
                self.converted(converter, end)
            }
            Body::ConvertKept(kept, converter) => self.finish_document(kept, *converter),
        };
        self.sent |= !rest.is_empty();
        self.end = Some(end);
        (rest, end)
    }

    fn converted(&mut self, mut converter: Converter, end: StreamEnd) -> (Bytes, StreamEnd) {
        // As far as the client is concerned it is over.
        let unfinished = end == StreamEnd::Unfinished;
        let finished = converter.finish(if unfinished { StreamEnd::Complete } else { end });
        self.loss.merge(converter.loss().clone());
        match finished {
            Ok((told, StreamEnd::Complete)) if unfinished => (told, end),
            Ok(told) => told,
            Err(error) => {
                self.failure = Some(error);
                let end = if end == StreamEnd::Complete {
                    StreamEnd::Failed
                } else {
                    end
                };
                (Bytes::new(), end)
            }
        }
    }

    /// The end of a document which is converted: an answer, or an error.
    fn finish_document(&mut self, mut kept: Kept, mut converter: Converter) -> (Bytes, StreamEnd) {
        let body = kept.body(self.plan.coding);
        let Some(conversion) = &self.plan.conversion else {
            return (Bytes::new(), StreamEnd::Failed);
        };
        let client = conversion.client.dialect;
        if self.plan.kind == AnswerKind::Error {
            let error = self
                .plan
                .dialect
                .decode_error(self.plan.status, body.as_deref().unwrap_or(b""));
            let told = client.encode_error(&error, &conversion.answering.request_id);
            self.meter.error = Some(error);
            return (told.into(), StreamEnd::Failed);
        }
        let Some(body) = body else {
            kept.unread(&self.plan, &mut self.meter);
            converter.spoil(
                "the provider's answer is larger than the gateway converts, or in a coding it can't read",
                "upstream_answer_unreadable",
            );
            return self.converted(converter, StreamEnd::Failed);
        };
        if self.plan.operation != Operation::Chat {
            let mut loss = LossReport::default();
            let told = convert::document(conversion, self.plan.dialect, &body, &mut self.meter, &mut loss);
            self.loss.merge(loss);
            return match told {
                Ok(told) => (told.into(), StreamEnd::Complete),
                Err(error) => {
                    self.failure = Some(error);
                    (Bytes::new(), StreamEnd::Failed)
                }
            };
        }
        let mut both = Both {
            meter: &mut self.meter,
            converter: &mut converter,
        };
        let end = match self.plan.dialect.decode_response(self.plan.operation, &body, &mut both) {
            Ok(end) => end,
            Err(_) => {
                self.meter.unread_frames += 1;
                converter.spoil("the provider's answer can't be read", "upstream_answer_unreadable");
                StreamEnd::Failed
            }
        };
        self.converted(converter, end)
    }

    /// The client gets the answer in another form.
    pub fn is_converted(&self) -> bool {
        self.plan.conversion.is_some()
    }

    /// What the client is to be told instead of this answer, of which nothing went out.
    pub fn failure(&self) -> Option<&ApiError> {
        self.failure.as_ref()
    }

    /// What conversion lost of the answer; complete once it is over.
    pub fn loss(&self) -> &LossReport {
        match &self.body {
            Body::Convert(frames) => frames.converter().loss(),
            _ => &self.loss,
        }
    }

    /// Ends a converted stream with an error; `None`: it is none, or it is over, or nothing of it went out.
    pub fn fail(&mut self, error: &ApiError) -> Option<Bytes> {
        let Body::Convert(frames) = &mut self.body else {
            return None;
        };
        if !frames.converter().has_sent() {
            return None;
        }
        let told = frames.fail(error);
        self.loss.merge(frames.converter().loss().clone());
        self.body = Body::Opaque;
        self.end = Some(StreamEnd::Failed);
        Some(told)
    }

    /// Bytes held in memory, of an unfinished frame or of the whole answer so far.
    pub fn kept(&self) -> usize {
        match &self.body {
            Body::Frames(frames) | Body::Coded(frames, ..) => frames.splitter.held(),
            Body::Kept(kept) | Body::ConvertKept(kept, _) => kept.length(),
            Body::Convert(frames) => frames.kept(),
            Body::Opaque => 0,
        }
    }

    /// Keeps no more of it, as if what is kept had become larger than [`AnswerPlan::max_kept`]. False: then it can't be passed on.
    pub fn let_go(&mut self) -> bool {
        match &mut self.body {
            Body::Frames(frames) => {
                frames.splitter.let_go();
                self.too_large |= frames.splitter.is_oversized();
                return !self.too_large;
            }
            Body::Coded(frames, ..) => frames.splitter.let_go(),
            Body::Kept(kept) => kept.let_go(),
            Body::Convert(frames) => {
                frames.let_go();
                // What ends in the next chunk is not whole.
                self.too_large = true;
                return false;
            }
            Body::ConvertKept(kept, _) => {
                kept.let_go();
                return false;
            }
            Body::Opaque => {}
        }
        true
    }

    fn is_oversized(&self) -> bool {
        match &self.body {
            Body::Frames(frames) => frames.splitter.is_oversized(),
            Body::Convert(frames) => frames.is_oversized(),
            _ => false,
        }
    }

    /// Keeps what it keeps in no more memory than that takes. False: it already does.
    pub fn shrink(&mut self) -> bool {
        match &mut self.body {
            Body::Frames(frames) | Body::Coded(frames, ..) => frames.splitter.shrink(),
            Body::Convert(frames) => frames.shrink(),
            Body::Kept(_) | Body::ConvertKept(..) | Body::Opaque => false,
        }
    }

    /// True once a stream has a frame larger than is kept, or of what is to be converted in one piece more came than that. What came before
    /// went out; a frame does not, as nothing could be said to the client in the middle of it.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// True if what was sent so far ends at a frame border, so that an error can be written after it. Also true while
    /// nothing was sent at all.
    pub fn at_border(&self) -> bool {
        self.aligned || !self.sent
    }

    /// True if the dialect's error can be written after what was sent: only into streams without a coding, at a border.
    /// Of any other answer which has begun, only the connection can tell that it failed. True also after
    /// [`AnswerStream::finish`], for an end which is not complete.
    pub fn can_append_error(&self) -> bool {
        self.aligned
    }

    /// True if something that is no event of the answer may be written now: its frames go out whole, and it is not over.
    pub fn may_ping(&self) -> bool {
        matches!(self.body, Body::Frames(_) | Body::Convert(_)) && self.end.is_none()
    }

    /// True until a frame went out.
    pub fn is_first(&self) -> bool {
        !self.sent
    }

    /// It has, or may have, more than was counted: it can't be read, is not read before its end, or was too large.
    pub fn is_unread(&self) -> bool {
        match self.plan.kind {
            AnswerKind::Opaque => true,
            AnswerKind::Error => false,
            _ if self.plan.coding == Coding::Unknown => true,
            AnswerKind::Stream(_) => self.blind,
            // Its usage is read at its end, also where the rest was too large.
            AnswerKind::Whole => self.meter.usage.is_none() && (self.end.is_none() || self.meter.unread_frames > 0),
        }
    }

    /// What was counted so far.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// Keeps the text of the answer for a tokenizer, in case its provider does not tell what it used. At its beginning.
    pub fn keep_text(&mut self) {
        self.meter.written.keep_text();
    }

    /// The plan it follows.
    pub fn plan(&self) -> &AnswerPlan {
        &self.plan
    }
}

impl Body {
    fn converting(plan: &AnswerPlan) -> Self {
        let Some(conversion) = &plan.conversion else {
            return Body::Opaque;
        };
        let converter = Converter::new(conversion.clone(), plan.dialect.id());
        match plan.kind {
            AnswerKind::Stream(framing) if plan.operation == Operation::Chat => {
                Body::Convert(Box::new(ConvertFrames::new(plan, framing, converter)))
            }
            AnswerKind::Error => Body::ConvertKept(Kept::new(plan.max_kept.min(MAX_ERROR)), Box::new(converter)),
            _ => Body::ConvertKept(Kept::new(plan.max_kept), Box::new(converter)),
        }
    }
}

impl Frames {
    /// Reads one frame. Returns whether it is to be withheld.
    fn frame(
        decoder: &mut dyn StreamDecoder,
        content: Content<'_>,
        withhold_usage: bool,
        any: &mut bool,
        meter: &mut Meter,
    ) -> bool {
        let frame = match content {
            Content::Frame(frame) => frame,
            Content::Nothing => return false,
            Content::Oversized => {
                meter.unread_frames += 1;
                return false;
            }
        };
        *any = true;
        if decoder.frame(frame, meter).is_err() {
            meter.unread_frames += 1;
        }
        withhold_usage && decoder.is_usage_only(frame)
    }

    /// Reads a chunk without forwarding it.
    fn read(&mut self, chunk: &[u8], meter: &mut Meter) {
        let Frames {
            splitter, decoder, any, ..
        } = self;
        splitter.feed(chunk, |block| {
            Frames::frame(&mut **decoder, block.content, false, any, meter);
        });
    }

    /// Reads a chunk and returns what goes out.
    fn chunk(&mut self, chunk: Bytes, meter: &mut Meter) -> Bytes {
        let Frames {
            splitter,
            decoder,
            withhold_usage,
            drop_lf,
            any,
        } = self;
        // What goes out is `head`, then `chunk[from..to]`. `head` stays empty unless bytes came earlier or something
        // is left out.
        let mut head = BytesMut::new();
        let (mut from, mut to) = (0, 0);
        let lf_pending = std::mem::take(drop_lf);
        splitter.feed(&chunk, |block: Block<'_>| {
            let lonely_lf = lf_pending && (block.start, block.end) == (0, 1) && block.content == Content::Nothing;
            let usage = Frames::frame(&mut **decoder, block.content, *withhold_usage, any, meter);
            if lonely_lf || usage {
                head.extend_from_slice(&chunk[from..block.start]);
                from = block.end;
                *drop_lf = usage && block.end == chunk.len() && chunk.ends_with(b"\r");
            } else if !block.carried.is_empty() {
                head.reserve(block.carried.len() + chunk.len());
                head.extend_from_slice(block.carried);
            }
            to = block.end;
        });
        if head.is_empty() {
            return if (from, to) == (0, chunk.len()) {
                chunk
            } else {
                chunk.slice(from..to)
            };
        }
        head.extend_from_slice(&chunk[from..to]);
        head.freeze()
    }

    /// The end of the body: what is held back goes out if the answer is complete with it.
    fn finish(mut self, plan: &AnswerPlan, meter: &mut Meter) -> (Bytes, StreamEnd) {
        let rest = Bytes::copy_from_slice(self.splitter.rest());
        let Frames {
            splitter, decoder, any, ..
        } = &mut self;
        let mut withheld = false;
        splitter.finish(|frame: Frame<'_>| {
            withheld = Frames::frame(&mut **decoder, Content::Frame(frame), plan.withhold_usage, any, meter);
        });
        let mut end = decoder.finish(meter);
        if !*any && !rest.is_empty() {
            // Not a stream after all: some send a document, mostly an error, under a stream's content type.
            let told = plan.dialect.decode_response(plan.operation, &rest, meter);
            end = told.unwrap_or(StreamEnd::Truncated);
        }
        if end == StreamEnd::Complete && !splitter.may_end() {
            end = StreamEnd::Truncated;
        }
        let whole = matches!(end, StreamEnd::Complete | StreamEnd::Unfinished);
        let send = whole && !withheld;
        (if send { rest } else { Bytes::new() }, end)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
pub(crate) mod tests;
