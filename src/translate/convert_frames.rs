//! A provider's stream on its way into another form, frame by frame.

use bytes::Bytes;

use crate::dialects::StreamDecoder;
use crate::ir::{ApiError, StreamEnd};
use crate::sse::{Content, Frame, Framing, Splitter};

use super::Meter;
use super::convert::{Both, Converter};
use super::inflate::{self, Inflate};
use super::stream::{AnswerPlan, Coding};

/// One stream, converted as it comes.
pub(super) struct ConvertFrames {
    splitter: Splitter,
    decoder: Box<dyn StreamDecoder>,
    inflate: Option<Inflate>,
    converter: Converter,
    /// Most bytes kept.
    most: usize,
    /// Frames seen.
    any: bool,
}

impl ConvertFrames {
    /// Starts at the first byte of a stream framed like that.
    pub(super) fn new(plan: &AnswerPlan, framing: Framing, converter: Converter) -> Self {
        ConvertFrames {
            splitter: Splitter::new(framing, plan.max_kept),
            decoder: plan.dialect.stream_decoder(plan.operation),
            inflate: match plan.coding {
                Coding::Identity => None,
                coding => Inflate::new(coding, inflate::MAX_PER_CHUNK),
            },
            converter,
            most: plan.max_kept,
            any: false,
        }
    }

    /// What converts.
    pub(super) fn converter(&self) -> &Converter {
        &self.converter
    }

    /// More came than is kept: of a frame, or of what has to be told in one piece.
    pub(super) fn is_oversized(&self) -> bool {
        self.splitter.is_oversized() || self.converter.kept() > self.most
    }

    /// Bytes kept: of an unfinished frame, and about those of what has to be told in one piece.
    pub(super) fn kept(&self) -> usize {
        self.splitter.held() + self.converter.kept()
    }

    /// Keeps no more of an unfinished frame.
    pub(super) fn let_go(&mut self) {
        self.splitter.let_go();
    }

    /// Keeps an unfinished frame in no more memory than it takes. False: it already does.
    pub(super) fn shrink(&mut self) -> bool {
        self.splitter.shrink()
    }

    /// Ends the client's stream with an error.
    pub(super) fn fail(&mut self, error: &ApiError) -> Bytes {
        self.converter.fail(error)
    }

    /// Reads a chunk and returns what goes out.
    pub(super) fn chunk(&mut self, chunk: &[u8], meter: &mut Meter) -> Bytes {
        match &mut self.inflate {
            None => self.read(chunk, meter),
            Some(inflate) => match inflate.push(chunk) {
                Ok(plain) => self.read(&plain, meter),
                Err(_) => self.unreadable(),
            },
        }
        self.converter.take()
    }

    fn unreadable(&mut self) {
        self.converter.spoil(
            "the provider's stream holds something that can't be read",
            "upstream_answer_unreadable",
        );
    }

    fn read(&mut self, chunk: &[u8], meter: &mut Meter) {
        let ConvertFrames {
            splitter,
            decoder,
            converter,
            any,
            ..
        } = self;
        let mut unread = 0;
        splitter.feed(chunk, |block| match block.content {
            Content::Frame(frame) => {
                *any = true;
                let mut both = Both { meter, converter };
                unread += u64::from(decoder.frame(frame, &mut both).is_err());
            }
            Content::Nothing => {}
            Content::Oversized => unread += 1,
        });
        if unread > 0 {
            meter.unread_frames += unread;
            self.unreadable();
        }
    }

    /// The body is over. Its last frame may lack the blank line.
    pub(super) fn finish(self, plan: &AnswerPlan, meter: &mut Meter) -> (Converter, StreamEnd) {
        let ConvertFrames {
            mut splitter,
            mut decoder,
            mut converter,
            mut any,
            ..
        } = self;
        let rest = Bytes::copy_from_slice(splitter.rest());
        let converter_ref = &mut converter;
        splitter.finish(|frame: Frame<'_>| {
            let mut both = Both {
                meter,
                converter: converter_ref,
            };
            // A frame that was cut is no frame; the end tells.
            any |= decoder.frame(frame, &mut both).is_ok();
        });
        let mut both = Both {
            meter,
            converter: &mut converter,
        };
        let mut end = decoder.finish(&mut both);
        if !any && !rest.is_empty() {
            // Not a stream after all: a document under a stream's content type.
            end = plan
                .dialect
                .decode_response(plan.operation, &rest, &mut both)
                .unwrap_or(StreamEnd::Truncated);
        }
        if end == StreamEnd::Complete && !splitter.may_end() {
            end = StreamEnd::Truncated;
        }
        (converter, end)
    }
}
