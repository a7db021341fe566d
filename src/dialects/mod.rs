//! The wire formats. One folder each; adding one touches its folder and [`ALL`].
//!
//! A dialect is a language: paths, field names, event names, error shapes. Where a provider lives and how it wants its
//! key is not here but in `rules/*.toml`.

pub mod anthropic;
pub mod codec;
pub mod gemini;
pub mod json;
pub mod openai_chat;
mod openai_embeddings;
mod openai_error;
mod openai_models;
pub mod openai_responses;
pub mod reset;
pub mod settings;
pub mod spans;

mod blocks;
mod cursor;
mod error_words;
mod errors;
mod instructions;
mod loose;
mod outline;
mod paths;
mod read;
mod tokenizer;
mod values;
mod write;

#[cfg(test)]
mod edits_recorded_tests;
#[cfg(test)]
mod instructions_tests;

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use http::Method;

use crate::ir::{ApiError, DialectId, EventSink, Operation, StreamEnd};
use crate::sse::{Frame, Framing};

pub use tokenizer::{Tokenizer, tokenizer};

pub use codec::{AnswerEncoder, Answering, EncodeError, NameRule, RequestCodec, RequestError, StreamEncoder, Upstream};

/// Every dialect there is. The order is the order in which paths are tried: those which know a shared path
/// (`GET /v1/models`) by a header of their own come before the one which takes it without.
pub static ALL: &[&dyn Dialect] = &[
    &gemini::Gemini,
    &anthropic::Anthropic,
    &openai_responses::OpenAiResponses,
    &openai_chat::OpenAiChat,
];

/// What the request line and a few headers say about the asker; enough to tell dialects apart.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path, percent-encoded as it came, without the query.
    pub path: &'a str,
    /// The query, without `?`, as it came.
    pub query: &'a str,
    /// The headers. `GET /v1/models` is asked in three dialects, which only these tell apart.
    pub headers: &'a http::HeaderMap,
}

/// A request recognised: which language, and what is asked.
#[derive(Clone)]
pub struct Target {
    /// The client's dialect.
    pub dialect: &'static dyn Dialect,
    /// What is asked.
    pub operation: Operation,
    /// The model named in the path, decoded (Gemini, `GET /v1/models/{id}`); `None` where it is in the body.
    pub model: Option<String>,
    /// Whether a stream was asked for by the path; `None` where the body says it.
    pub stream: Option<bool>,
    /// How a stream would be framed.
    pub framing: Framing,
    /// What the dialect needs again to write the upstream path, in its own words (Gemini: API version and method,
    /// `v1beta:streamGenerateContent`); empty where the operation says it all.
    pub method: Cow<'static, str>,
}

/// What routing needs of a request body, read without building the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peek {
    /// The model asked for.
    pub model: String,
    /// Where the model's JSON string stands in the body, quotes included; `None` where the path names it.
    pub model_span: Option<Range<usize>>,
    /// A stream is asked for.
    pub stream: bool,
    /// The edit of the body which makes the provider report usage in its stream, where the dialect must be asked for it
    /// and the client did not. If it is applied, the frame which [`StreamDecoder::is_usage_only`] names is to be
    /// withheld from the client.
    pub ask_usage: Option<Splice>,
    /// What stands beside that.
    pub outline: Outline,
}

/// What else routing needs of a body, found in the same pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// `provider`, where it is a text: the provider asked for. (An object there is OpenRouter's, and stays.)
    pub provider: Option<String>,
    /// `models`: further wishes, in order. Without a `model` beside them the first is [`Peek::model`], and not in here.
    pub models: Vec<String>,
    /// The edits that take both out of the body: they are for us. (Without a `model`, they put the first of `models` there.)
    /// Where there are any, the body has to be edited and peeked again, since all spans move; the second peek finds neither.
    pub ours: Vec<Splice>,
    /// `prompt_cache_key`, or what the dialect has like it: names the conversation.
    pub cache_key: Option<String>,
    /// Working on it twice would do harm (a job is begun, a stored conversation grows): it is repeated only where nobody can have
    /// begun to work on it.
    pub once: bool,
    /// Where instructions and tools stand, in order. (OpenAI Chat's instructions stand in the conversation.)
    pub preamble: Vec<Range<usize>>,
    /// Where the conversation stands, brackets or quotes included.
    pub prompt: Option<Range<usize>>,
}

/// One edit of a body: the bytes of `at` are replaced by `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// Where; empty to insert.
    pub at: Range<usize>,
    /// What.
    pub with: Bytes,
}

/// Why a body can't be read. All are the client's fault (400).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeekError {
    /// Not JSON, or not one object; where in the body, and what the parser said.
    #[error("the body is not a JSON object: {why} at byte {at}")]
    NotJson {
        /// Byte offset.
        at: usize,
        /// The parser's words, without any of the body's text.
        why: String,
    },
    /// No `model`.
    #[error("the field `model` is missing")]
    MissingModel,
    /// A field stands twice.
    #[error("the field `{0}` stands twice")]
    Duplicate(&'static str),
    /// A field has the wrong type.
    #[error("the field `{field}` must be {expected}")]
    WrongType {
        /// Which.
        field: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
}

impl PeekError {
    /// `model` is no name of 1 to [`MAX_MODEL_NAME`] bytes.
    pub(crate) const MODEL: PeekError = PeekError::WrongType {
        field: "model",
        expected: "a string of 1 to 256 bytes",
    };
}

/// A text may stand for a model: it is not blank, nor longer than [`MAX_MODEL_NAME`].
fn is_model_name(text: &str) -> bool {
    text.len() <= MAX_MODEL_NAME && !text.trim().is_empty()
}

/// Longest name of a model, in bytes: names come from clients and are kept (lanes, ledger, metrics).
pub const MAX_MODEL_NAME: usize = 256;

/// Deepest nesting of a request body (HARDENING H3; serde_json's own limit is the same).
pub const MAX_DEPTH: usize = 128;

/// Why bytes of a provider can't be read as its dialect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not {dialect}: {why}")]
pub struct DecodeError {
    /// Which dialect was expected.
    pub dialect: DialectId,
    /// What is wrong, without any of the text.
    pub why: String,
}

/// How a dialect's providers take their key, unless the provider's rules say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthScheme {
    /// `Authorization: Bearer KEY`.
    Bearer,
    /// `KEY` in a header of its own (lower-case name).
    Header(&'static str),
}

/// A model for [`Dialect::encode_models`].
#[derive(Clone, Debug)]
pub struct ModelEntry {
    /// The name a client asks for.
    pub id: String,
    /// Who offers it: a provider's name, or `tollgate` for a route's name.
    pub owner: String,
    /// When the rules naming it were loaded, in seconds since 1970.
    pub created: i64,
}

/// Names (lower case) of headers in which clients are told of limits per minute: the limit, what remains of it, until when all of it
/// is there again.
#[derive(Clone, Copy, Debug)]
pub struct LimitHeaders {
    /// Of requests.
    pub requests: [&'static str; 3],
    /// Of tokens.
    pub tokens: [&'static str; 3],
    /// The last is a time (RFC 3339), not a duration.
    pub absolute: bool,
}

impl LimitHeaders {
    /// As most write them (OpenAI, "Rate limits: headers"), with durations as `6m0s`.
    pub const COMMON: LimitHeaders = LimitHeaders {
        requests: [
            "x-ratelimit-limit-requests",
            "x-ratelimit-remaining-requests",
            "x-ratelimit-reset-requests",
        ],
        tokens: [
            "x-ratelimit-limit-tokens",
            "x-ratelimit-remaining-tokens",
            "x-ratelimit-reset-tokens",
        ],
        absolute: false,
    };
}

/// One wire format. Stateless; registered in [`ALL`].
pub trait Dialect: RequestCodec + AnswerEncoder + Send + Sync + 'static {
    /// Its name.
    fn id(&self) -> DialectId;

    /// Does this request line belong to me, and what is asked? Total: any path gives an answer.
    fn target(&self, line: Line<'_>) -> Option<Target>;

    /// Reads what routing needs, and checks that the whole body is one well-formed JSON object.
    fn peek(&self, target: &Target, body: &[u8]) -> Result<Peek, PeekError>;

    /// The path (and query) for a provider of this dialect, to follow its base URL: `/chat/completions`,
    /// `/v1/messages?beta=true` ...; `query` is the client's, already rid of any key.
    fn upstream_path(&self, target: &Target, upstream_model: &str, query: &str) -> String;

    /// What its own client would ask of a provider, and with which query: for requests converted from other dialects.
    /// Streams are SSE. `None`: the dialect has no such operation.
    fn own_target(&self, operation: Operation, stream: bool) -> Option<(Target, &'static str)>;

    /// Headers (lower-case name, value) its providers insist on, for requests converted from other dialects.
    fn own_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// How its providers take their key.
    fn auth(&self) -> AuthScheme;

    /// Request headers (lower case) that belong to the dialect and are passed on (`anthropic-version` ...).
    fn request_headers(&self) -> &'static [&'static str];

    /// The header (lower case) under which its clients look for the request id, beside `x-request-id`.
    fn request_id_header(&self) -> Option<&'static str> {
        None
    }

    /// A reader of one stream.
    fn stream_decoder(&self, operation: Operation) -> Box<dyn StreamDecoder>;

    /// Tells a whole answer (status below 300) in events, those a stream of the same exchange would tell.
    fn decode_response(
        &self,
        operation: Operation,
        body: &[u8],
        sink: &mut dyn EventSink,
    ) -> Result<StreamEnd, DecodeError>;

    /// Reads an error answer. Total: a proxy's HTML is an answer too.
    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError;

    /// Writes an error body (JSON).
    fn encode_error(&self, error: &ApiError, request_id: &str) -> Vec<u8>;

    /// Writes an error into a stream which has begun, at a frame border, ending the stream as the dialect ends failed
    /// ones: never with its mark of success. `first` says that no element went out yet (a JSON array must be opened).
    fn encode_stream_error(&self, error: &ApiError, request_id: &str, framing: Framing, first: bool) -> Vec<u8>;

    /// What keeps a silent stream alive, at a frame border; `None`: the dialect has nothing that its clients pass over.
    fn ping(&self, _framing: Framing) -> Option<&'static str> {
        None
    }

    /// Headers in which its clients are told what is left of their limits per minute.
    fn limit_headers(&self) -> &'static LimitHeaders {
        &LimitHeaders::COMMON
    }

    /// Headers (lower case) in which its clients name their session, the surest first.
    fn session_headers(&self) -> &'static [&'static str] {
        &[]
    }

    /// Where a setting of the gateway's own word stands in its bodies, as a dotted path: `max_output_tokens`,
    /// `temperature` ...; `None`: it has no such setting. See [`settings`].
    fn setting(&self, _word: &str) -> Option<&'static str> {
        None
    }

    /// Where the limit of the answer stands for a model, as a dotted path of its own, for a body that has none: the newer models of one
    /// provider refuse the name which others know.
    fn output_limit(&self, _model: &str) -> Option<&'static str> {
        self.setting("max_output_tokens")
    }

    /// The field by which a conversation's body asks for work that goes on when its answer is over: what that uses is told elsewhere,
    /// and closing the connection does not end it. `None`: it does not ask for such.
    fn runs_on(&self, _body: &[u8]) -> Option<&'static str> {
        None
    }

    /// The provider of a model takes this name of the limit of the answer, or refuses the body for it; false: it may pass over it as over
    /// any field it does not know. `name`: one of the field's names ([`Dialect::same_field`]).
    fn knows_limit(&self, _model: &str, _name: &str) -> bool {
        true
    }

    /// True if both are names of one field in its bodies: the same word, or an older and a newer one for the same thing.
    fn same_field(&self, one: &str, other: &str) -> bool {
        one == other
    }

    /// The edits of a conversation's body that put texts before and after its instructions (the system prompt), with everything
    /// else as it was. Texts join the instructions there are; the body was peeked. None where the body has no conversation, or
    /// instructions of no form that the dialect knows. Not idempotent: each time they are put anew.
    fn add_instructions(&self, _body: &[u8], _before: Option<&str>, _after: Option<&str>) -> Vec<Splice> {
        Vec::new()
    }

    /// Writes the list of models, or one of them.
    fn encode_models(&self, models: &[ModelEntry]) -> Vec<u8>;

    /// Writes one model.
    fn encode_model(&self, model: &ModelEntry) -> Vec<u8>;
}

/// Reads one stream of one dialect, frame by frame. Never panics, whatever the bytes.
pub trait StreamDecoder: Send {
    /// Tells one frame in events. An error means: this frame is not of the dialect; the next may be.
    fn frame(&mut self, frame: Frame<'_>, sink: &mut dyn EventSink) -> Result<(), DecodeError>;

    /// Is this the frame which only reports usage, sent because the provider was asked for it? Says so of any frame,
    /// read or not.
    fn is_usage_only(&self, _frame: Frame<'_>) -> bool {
        false
    }

    /// The stream is over: how did it end? Closes what is open.
    fn finish(&mut self, sink: &mut dyn EventSink) -> StreamEnd;
}

/// The dialect of that name, as rules write it.
pub fn by_name(name: &str) -> Option<&'static dyn Dialect> {
    ALL.iter().copied().find(|d| d.id().as_str() == name)
}

/// The dialect of that id. Ids are made by the dialects, so that there always is one.
pub fn get(id: DialectId) -> &'static dyn Dialect {
    ALL.iter().copied().find(|d| d.id() == id).unwrap_or(ALL[0])
}

/// A provider which speaks this dialect can be asked for it: the dialect says it in words of its own, or tokens are to be counted,
/// which are estimated where nobody counts them.
pub fn knows(id: DialectId, operation: Operation) -> bool {
    operation == Operation::CountTokens || get(id).own_target(operation, false).is_some()
}

/// Recognises a request line; `None`: no dialect knows the path with this method (see [`allowed`]).
pub fn find(line: Line<'_>) -> Option<Target> {
    ALL.iter().find_map(|d| d.target(line))
}

/// The method a path is known with, for `405` and its `allow` header; `None`: no dialect knows the path.
pub fn allowed(path: &str) -> Option<Method> {
    let headers = http::HeaderMap::new();
    [Method::POST, Method::GET].into_iter().find(|method| {
        find(Line {
            method,
            path,
            query: "",
            headers: &headers,
        })
        .is_some()
    })
}

/// True if some dialect knows the path, with whatever method.
pub fn knows_path(path: &str) -> bool {
    allowed(path).is_some()
}
