//! One request, in another dialect.

use crate::dialects::{Dialect, EncodeError, RequestError, Target, Tokenizer, Upstream};
use crate::ir::{DialectId, EmbeddingRequest, LossReport, Operation, Request};

use serde_json::{Map, Value};

use super::estimate;
use super::names::{self, ToolNames};
use super::opaque::{self, Origin};

/// A request as the client's dialect read it.
#[derive(Clone, Debug)]
pub enum Decoded {
    /// A conversation: to be continued, or to be counted.
    Chat(Box<Request>),
    /// Texts to be turned into vectors.
    Embeddings(Box<EmbeddingRequest>),
}

impl Decoded {
    /// The conversation, if it is one.
    pub fn chat(&self) -> Option<&Request> {
        match self {
            Decoded::Chat(request) => Some(request),
            Decoded::Embeddings(_) => None,
        }
    }

    /// Its tokens by its model's tokenizer.
    pub fn counted(&self, tokenizer: &dyn Tokenizer) -> u64 {
        match self {
            Decoded::Chat(request) => estimate::counted_prompt(request, tokenizer),
            Decoded::Embeddings(request) => estimate::counted_embeddings(request, tokenizer),
        }
    }
}

/// Reads a request in the client's dialect.
pub fn decode(target: &Target, body: &[u8]) -> Result<Decoded, RequestError> {
    if target.operation == Operation::Embeddings {
        let none = || RequestError {
            path: "body".into(),
            why: "asks for vectors, which this API format does not know".into(),
        };
        let read = target.dialect.decode_embeddings(target, body).ok_or_else(none)?;
        return read.map(|request| Decoded::Embeddings(Box::new(request)));
    }
    let mut request = target.dialect.decode_request(target, body)?;
    request.link_tools();
    Ok(Decoded::Chat(Box::new(request)))
}

/// Who gets a request.
pub struct Recipient<'a> {
    /// The dialect spoken there.
    pub dialect: &'static dyn Dialect,
    /// The provider's name in the rules.
    pub provider: &'a str,
    /// The model and how to ask it.
    pub upstream: Upstream<'a>,
}

/// A request, ready for a provider.
pub struct Converted {
    /// The body.
    pub body: Vec<u8>,
    /// What could not be said.
    pub loss: LossReport,
    /// Who makes the answer's tokens.
    pub origin: Origin,
    /// Tools whose names changed.
    pub names: ToolNames,
    /// What the answer depends on.
    pub asked: Asked,
}

/// What of a request its answer depends on.
#[derive(Debug, Default)]
pub struct Asked {
    /// Usage is wanted at the end of the stream.
    pub include_usage: bool,
    /// What the client's dialect repeats of it.
    pub echo: Map<String, Value>,
    /// The request for vectors, if it is one.
    pub embeddings: Option<Box<EmbeddingRequest>>,
}

/// Writes a request for a provider. An error: it can't be said there at all.
pub fn encode(
    decoded: Decoded,
    from: DialectId,
    operation: Operation,
    to: &Recipient<'_>,
) -> Result<Converted, EncodeError> {
    let mut loss = LossReport::default();
    let origin = Origin::new(to.dialect.id(), to.provider, to.upstream.model);
    let request = match decoded {
        Decoded::Embeddings(request) => {
            let written = to.dialect.encode_embeddings(&request, &to.upstream, &mut loss);
            return Ok(Converted {
                origin,
                body: written.ok_or_else(|| not_offered("vectors for texts"))??,
                loss,
                names: ToolNames::default(),
                asked: Asked {
                    embeddings: Some(request),
                    ..Asked::default()
                },
            });
        }
        Decoded::Chat(request) => request,
    };
    let mut request = *request;
    if from != to.dialect.id()
        && let Some(at) = &request.bound
    {
        return Err(EncodeError {
            path: at.to_string(),
            why: "it stands for content that only its own provider has",
        });
    }
    opaque::settle(&mut request, from, &origin, &mut loss);
    if from != to.dialect.id() {
        to.dialect.adapt(&mut request, &to.upstream, &mut loss);
    }
    let names = names::adapt(&mut request, to.dialect, &mut loss);
    let body = if operation == Operation::CountTokens {
        to.dialect
            .encode_count_request(&request, &to.upstream, &mut loss)
            .ok_or_else(|| not_offered("counts of tokens"))??
    } else {
        to.dialect.encode_request(&request, &to.upstream, &mut loss)?
    };
    let asked = Asked {
        include_usage: request.include_usage == Some(true),
        echo: request.echo,
        embeddings: None,
    };
    Ok(Converted {
        origin,
        body,
        loss,
        names,
        asked,
    })
}

fn not_offered(what: &'static str) -> EncodeError {
    EncodeError {
        path: what.to_owned(),
        why: "its dialect does not know them",
    }
}
