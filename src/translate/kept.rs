//! Documents (whole answers, error answers): they flow as they come, and a copy is read at their end; of larger ones only what their
//! end tells of usage.

use bytes::Bytes;
use serde::de::IgnoredAny;

use super::inflate;
use super::stream::{AnswerKind, AnswerPlan, Coding};
use super::tail::Tail;
use super::tap::Meter;
use crate::ir::StreamEnd;

/// Chunks below this size are copied together: a kept chunk costs more than its bytes.
const SMALL: usize = 4096;

/// A whole answer, or an error's, on its way.
#[derive(Default)]
pub(super) struct Kept {
    chunks: Vec<Bytes>,
    /// Small chunks after those.
    small: Vec<u8>,
    length: usize,
    max: usize,
    /// There was more than is kept: only its end is.
    over: Option<Tail>,
}

impl Kept {
    /// Nothing kept yet; at most `max` bytes will be.
    pub(super) fn new(max: usize) -> Self {
        Kept { max, ..Kept::default() }
    }

    /// Keeps a chunk, or lets go of all but the end once there are too many bytes.
    pub(super) fn keep(&mut self, chunk: &Bytes) {
        if let Some(tail) = &mut self.over {
            return tail.add(chunk);
        }
        if self.length + chunk.len() > self.max {
            self.let_go();
            return self.keep(chunk);
        }
        self.length += chunk.len();
        if chunk.len() < SMALL && self.length > chunk.len() {
            self.small.extend_from_slice(chunk);
            return;
        }
        self.gather();
        self.chunks.push(chunk.clone());
    }

    /// Bytes kept.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Lets go of all but the end, as if there were too many bytes.
    pub(super) fn let_go(&mut self) {
        self.gather();
        self.length = 0;
        let tail = self.over.get_or_insert_default();
        for kept in std::mem::take(&mut self.chunks) {
            tail.add(&kept);
        }
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(std::mem::take(&mut self.small).into());
        }
    }

    /// The body is over: all of it, decoded; `None`: it is larger than what is kept, or in a coding we can't read.
    pub(super) fn body(&mut self, coding: Coding) -> Option<Bytes> {
        self.gather();
        match (coding, self.over.is_some()) {
            (_, true) => None,
            (Coding::Unknown, _) => None,
            (Coding::Identity, _) => Some(match &self.chunks[..] {
                [one] => one.clone(),
                many => many.concat().into(),
            }),
            (coding, _) => match inflate::whole(coding, &self.chunks, self.max) {
                Ok(body) => Some(body.into()),
                Err(_) => None,
            },
        }
    }

    /// The body is over, and can't be read: tells what its end says of usage.
    pub(super) fn unread(&self, plan: &AnswerPlan, meter: &mut Meter) {
        meter.unread_frames += 1;
        let tail = self.over.as_ref().filter(|_| plan.coding == Coding::Identity);
        let Some(object) = tail.and_then(Tail::object) else {
            return;
        };
        let mut end = Meter::default();
        if plan.dialect.decode_response(plan.operation, &object, &mut end).is_ok() && end.usage.is_some() {
            meter.usage = end.usage;
            meter.service = end.service;
            meter.cached_audio = end.cached_audio;
            meter.image_tokens = end.image_tokens;
            // Nobody counted them.
            meter.images_out = u32::from(end.image_tokens > 0);
        }
    }

    /// The body is over: reads it.
    pub(super) fn finish(mut self, plan: &AnswerPlan, meter: &mut Meter) -> StreamEnd {
        let body = self.body(plan.coding);
        if plan.kind == AnswerKind::Error {
            meter.error = Some(plan.dialect.decode_error(plan.status, body.as_deref().unwrap_or(b"")));
            return StreamEnd::Failed;
        }
        let Some(body) = body else {
            self.unread(plan, meter);
            return StreamEnd::Complete;
        };
        match plan.dialect.decode_response(plan.operation, &body, meter) {
            Ok(end) => end,
            Err(_) => {
                meter.unread_frames += 1;
                // Cut, or not of the dialect at all?
                let cut = serde_json::from_slice::<IgnoredAny>(&body).is_err_and(|error| error.is_eof());
                if cut { StreamEnd::Truncated } else { StreamEnd::Complete }
            }
        }
    }
}
