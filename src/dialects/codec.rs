//! What converts: requests read into the hub's form and written from it, answers likewise. One trait per direction; each
//! dialect implements them in files of its own.
//!
//! Decoders are generous: what the hub has no field for becomes a [`Native`](crate::ir::Native). Encoders are strict: they
//! write what their dialect defines, put their own natives back, and report what they can't say.

use bytes::BytesMut;
use serde_json::{Map, Value};

use crate::ir::{
    ApiError, BlockHead, EmbeddingRequest, EmbeddingResponse, LossReport, MediaKind, Request, Response, StreamEvent,
};
use crate::sse::Framing;

use super::{DecodeError, Target};

/// Why a request can't be read. The client's fault (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field `{path}` {why}")]
pub struct RequestError {
    /// Which field.
    pub path: String,
    /// What it must be, to follow the field's name: `must be a string`.
    pub why: String,
}

impl RequestError {
    /// The field at `path` is of the wrong type.
    pub fn must_be(path: impl Into<String>, expected: &str) -> Self {
        RequestError {
            path: path.into(),
            why: format!("must be {expected}"),
        }
    }
}

/// Why a request can't be said in a dialect at all: leaving it out would change what is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` can't be carried over to this provider's API format: {why}")]
pub struct EncodeError {
    /// Which field, in the client's words.
    pub path: String,
    /// Why.
    pub why: &'static str,
}

/// Whom a request is written for.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a> {
    /// The model, as the provider names it.
    pub model: &'a str,
    /// Ask for a stream.
    pub stream: bool,
    /// Ask for usage in the stream, where the dialect must be asked.
    pub ask_usage: bool,
}

/// Which tool-call ids and names a dialect takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// Longest, in bytes.
    pub max: usize,
    /// Characters allowed beside ASCII letters and digits.
    pub also: &'static str,
    /// The first must be a letter or an underscore.
    pub letter_first: bool,
}

impl NameRule {
    /// True if the name may stand as it is.
    pub fn allows(&self, name: &str) -> bool {
        !name.is_empty()
            && name.len() <= self.max
            && name.chars().all(|c| c.is_ascii_alphanumeric() || self.also.contains(c))
            && (!self.letter_first || name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
    }
}

/// Requests of one dialect.
pub trait RequestCodec {
    /// Reads a request for a conversation's next message, or for the count of its tokens.
    fn decode_request(&self, target: &Target, body: &[u8]) -> Result<Request, RequestError>;

    /// Writes one. `request` was linked (`Request::link_tools`), its names and ids follow the rules below, and its opaque
    /// tokens are all of this dialect.
    fn encode_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Result<Vec<u8>, EncodeError>;

    /// Takes out of another dialect's request what the model is known to refuse, and reports it. A request of the dialect's own
    /// goes as it came: its client knows the model.
    fn adapt(&self, _request: &mut Request, _to: &Upstream<'_>, _loss: &mut LossReport) {}

    /// Writes a request for the count of its tokens; `None`: the dialect has no such operation.
    fn encode_count_request(
        &self,
        _request: &Request,
        _to: &Upstream<'_>,
        _loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        None
    }

    /// A request for a count, whose path names the model, may name it inside again. Asked of the dialect's own requests.
    fn count_names_model(&self, _body: &[u8]) -> bool {
        false
    }

    /// Which names of tools it takes.
    fn tool_name_rule(&self) -> NameRule;

    /// Which ids of tool calls it takes.
    fn tool_id_rule(&self) -> NameRule;

    /// It has tools that take free text. Elsewhere they become functions with one text.
    fn has_custom_tools(&self) -> bool {
        false
    }

    /// It groups tools. Elsewhere the group becomes a prefix of the name.
    fn has_tool_namespaces(&self) -> bool {
        false
    }

    /// Its tool calls have a field for provider-bound tokens. Elsewhere such a token rides in the call's id.
    fn has_tool_call_tokens(&self) -> bool {
        false
    }

    /// Reads a request for vectors; `None`: the dialect has no such operation.
    fn decode_embeddings(&self, _target: &Target, _body: &[u8]) -> Option<Result<EmbeddingRequest, RequestError>> {
        None
    }

    /// Writes one; `None`: the dialect has no such operation.
    fn encode_embeddings(
        &self,
        _request: &EmbeddingRequest,
        _to: &Upstream<'_>,
        _loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        None
    }
}

/// What an answer's encoder must know beside the answer.
#[derive(Clone, Debug, Default)]
pub struct Answering {
    /// Our id of the request: ids that the provider left out are made of it.
    pub request_id: String,
    /// When the answer began, in seconds since 1970.
    pub created: i64,
    /// The model asked of the provider, where the answer names none.
    pub model: String,
    /// The model the client asked for.
    pub asked_model: String,
    /// The client wants usage at the end of its stream; only for dialects which must be asked.
    pub include_usage: bool,
    /// What the client's dialect repeats of the request ([`Request::echo`]).
    pub echo: Map<String, Value>,
    /// How the stream is framed.
    pub framing: Framing,
}

/// Answers of one dialect, written for its clients.
pub trait AnswerEncoder {
    /// Writes a whole answer. `response.error` is `None`.
    fn encode_response(&self, response: &Response, to: &Answering, loss: &mut LossReport) -> Vec<u8>;

    /// A writer of one stream.
    fn stream_encoder(&self, to: Answering) -> Box<dyn StreamEncoder>;

    /// It has one open block at a time: interleaved ones are told to its stream encoder one after another.
    fn is_sequential(&self) -> bool {
        false
    }

    /// A stream's end repeats all of the answer, so that its encoder keeps it until then.
    fn repeats_at_end(&self) -> bool {
        false
    }

    /// Its stream encoder keeps such a block until it ends, to tell it in one piece.
    fn keeps(&self, block: &BlockHead<'_>) -> bool {
        matches!(block, BlockHead::Media { kind, .. } if *kind != MediaKind::Audio)
    }

    /// It knows several candidates; elsewhere all but the first are lost.
    fn has_candidates(&self) -> bool {
        false
    }

    /// Reads the answer to a count request: tokens; `None`: the dialect has no such operation.
    fn decode_count(&self, _body: &[u8]) -> Option<Result<u64, DecodeError>> {
        None
    }

    /// Writes the answer to a count request; `None`: the dialect has no such operation.
    fn encode_count(&self, _tokens: u64) -> Option<Vec<u8>> {
        None
    }

    /// Reads vectors; `None`: the dialect has no such operation.
    fn decode_vectors(&self, _body: &[u8]) -> Option<Result<EmbeddingResponse, DecodeError>> {
        None
    }

    /// Writes vectors, in the form the request asked for; `None`: the dialect has no such operation.
    fn encode_vectors(
        &self,
        _response: &EmbeddingResponse,
        _asked: &EmbeddingRequest,
        _target: &Target,
        _loss: &mut LossReport,
    ) -> Option<Vec<u8>> {
        None
    }
}

/// Writes one stream of one dialect: complete frames, in its grammar. Allocates nothing per delta but in `out`.
///
/// Calls come in this order: any number of [`StreamEncoder::event`], then one of [`StreamEncoder::finish`] and
/// [`StreamEncoder::fail`]. Events keep the grammar of [`crate::ir::stream`]; `Error` never comes. Ids of tool calls are
/// never empty.
pub trait StreamEncoder: Send {
    /// Writes what an event says. Usage and finish reasons may come before the last block ends: they are remembered, and
    /// written at the end.
    fn event(&mut self, event: StreamEvent<'_>, out: &mut BytesMut, loss: &mut LossReport);

    /// The answer is complete: writes what ends it. A candidate without a finish reason did end, for no reason told.
    fn finish(&mut self, out: &mut BytesMut, loss: &mut LossReport);

    /// The answer failed or just stopped: writes the error as the dialect ends failed streams, never its mark of success.
    fn fail(&mut self, error: &ApiError, out: &mut BytesMut);

    /// Keeps nothing of what was told: [`StreamEncoder::fail`] follows, and is not to repeat it.
    fn forget(&mut self) {}
}
