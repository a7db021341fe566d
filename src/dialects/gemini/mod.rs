//! Gemini generateContent. The model and the method are in the path; a stream is an SSE stream with `alt=sse`, a JSON
//! array without.

mod decode_stream;
mod embeddings;
mod encode;
mod encode_stream;
mod error;
mod fields;
mod finish_word;
mod grounding;
mod instructions;
mod media;
mod partial_args;
mod places;
mod request;
mod request_config;
mod request_contents;
mod request_tools;
mod response;
mod schema;
mod settings;
mod thinking;
mod usage;
mod wire;
mod write_contents;
mod write_embeddings;
mod write_parts;
mod write_request;
mod write_tools;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod canonical_tests;
#[cfg(test)]
mod recorded_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod write_tests;

use http::Method;

use super::*;
use crate::ir::FinishKind;

const DIALECT: DialectId = DialectId::new("gemini");

/// The API versions clients ask for, as they stand in paths. The newest comes first: it is asked where a request names
/// none.
const VERSIONS: [&str; 2] = ["v1beta", "v1"];

/// The methods that are targets: name in the path, what is asked, whether it streams.
const METHODS: [(&str, Operation, bool); 5] = [
    ("generateContent", Operation::Chat, false),
    ("streamGenerateContent", Operation::Chat, true),
    ("countTokens", Operation::CountTokens, false),
    ("embedContent", Operation::Embeddings, false),
    ("batchEmbedContents", Operation::Embeddings, false),
];

/// The dialect.
pub struct Gemini;

/// A cache lives with one model of one account: requests that name it must go where it is.
const PLACES: outline::Places = outline::Places {
    cache_key: &json::place::CACHED_CONTENT,
    preamble: &[
        json::place::SYSTEM_INSTRUCTION[0],
        json::place::SYSTEM_INSTRUCTION[1],
        json::place::TOOLS,
    ],
    prompt: &[json::place::CONTENTS],
};

/// Gemini's finish reasons (reference of `Candidate.FinishReason`).
fn finish_kind(reason: &str) -> FinishKind {
    match reason {
        "STOP" => FinishKind::Stop,
        "MAX_TOKENS" => FinishKind::Length,
        "SAFETY"
        | "RECITATION"
        | "PROHIBITED_CONTENT"
        | "BLOCKLIST"
        | "SPII"
        | "LANGUAGE"
        | "IMAGE_SAFETY"
        | "IMAGE_PROHIBITED_CONTENT"
        | "IMAGE_RECITATION" => FinishKind::ContentFilter,
        "MALFORMED_FUNCTION_CALL"
        | "OTHER"
        | "UNEXPECTED_TOOL_CALL"
        | "NO_IMAGE"
        | "IMAGE_OTHER"
        | "TOO_MANY_TOOL_CALLS"
        | "MISSING_THOUGHT_SIGNATURE"
        | "MALFORMED_RESPONSE" => FinishKind::Error,
        _ => FinishKind::Other,
    }
}

/// The resource in a path: tuned models have a collection of their own, all others are `models/...`.
fn resource(model: &str) -> String {
    let name = model.strip_prefix("models/").unwrap_or(model);
    let collection = if name.starts_with("tunedModels/") {
        ""
    } else {
        "models/"
    };
    format!("{collection}{}", paths::encode(name))
}

/// A model's name as bodies write it: `models/...`, not encoded.
fn full_name(model: &str) -> String {
    let name = model.strip_prefix("models/").unwrap_or(model);
    let collection = if name.starts_with("tunedModels/") {
        ""
    } else {
        "models/"
    };
    format!("{collection}{name}")
}

/// A model's name in a path, without the `models/` that some clients put before it again.
fn model_name(encoded: &str) -> Option<String> {
    let name = paths::decode(encoded)?;
    let name = name.strip_prefix("models/").unwrap_or(&name);
    (!name.is_empty()).then(|| name.to_owned())
}

/// `GET /v1/models` is asked in three dialects: this one's clients send their key or name in a header of their own, or
/// the key in the query.
fn speaks_it(line: &Line<'_>) -> bool {
    line.headers.contains_key("x-goog-api-key")
        || line.headers.contains_key("x-goog-api-client")
        || paths::query_has(line.query, "key", None)
}

impl Dialect for Gemini {
    fn id(&self) -> DialectId {
        DIALECT
    }

    fn target(&self, line: Line<'_>) -> Option<Target> {
        let (version, rest) = VERSIONS.iter().find_map(|version| {
            Some((
                *version,
                line.path
                    .strip_prefix('/')?
                    .strip_prefix(version)?
                    .strip_prefix("/models")?,
            ))
        })?;
        let framing = match paths::query_has(line.query, "alt", Some("sse")) {
            true => Framing::Sse,
            false => Framing::JsonArray,
        };
        let target = |operation, model, stream, method| Target {
            dialect: &Gemini,
            operation,
            model,
            stream: Some(stream),
            framing,
            method: Cow::Owned(format!("{version}:{method}")),
        };
        if line.method == Method::POST {
            // The name may hold slashes and colons: the method follows the last one.
            let rest = rest.strip_prefix('/')?;
            let (model, method) = match rest.rsplit_once(':') {
                Some((model, method)) => (model, method),
                None => {
                    let at = rest.rfind("%3A").or_else(|| rest.rfind("%3a"))?;
                    (&rest[..at], &rest[at + 3..])
                }
            };
            let (name, operation, stream) = METHODS.into_iter().find(|(name, ..)| *name == method)?;
            return Some(target(operation, Some(model_name(model)?), stream, name));
        }
        if line.method != Method::GET || (version == "v1" && !speaks_it(&line)) {
            return None;
        }
        match rest {
            "" => Some(target(Operation::ListModels, None, false, "")),
            one => Some(target(
                Operation::GetModel,
                Some(model_name(one.strip_prefix('/')?)?),
                false,
                "",
            )),
        }
    }

    /// The body names no model; if it says `stream`, that has no meaning here.
    fn peek(&self, target: &Target, body: &[u8]) -> Result<Peek, PeekError> {
        let fields = json::fields(body, &json::WATCHED)?;
        let mut outline = outline::wishes(body, &fields, false)?;
        PLACES.read(&mut outline, body, &fields);
        let model = target.model.clone().ok_or(PeekError::MissingModel)?;
        if !is_model_name(&model) {
            return Err(PeekError::MODEL);
        }
        Ok(Peek {
            model,
            model_span: None,
            stream: target.stream == Some(true),
            ask_usage: None,
            outline,
        })
    }

    fn upstream_path(&self, target: &Target, upstream_model: &str, query: &str) -> String {
        let (version, method) = target.method.split_once(':').unwrap_or((VERSIONS[0], &target.method));
        let path = match (target.operation, method) {
            (Operation::ListModels, _) => format!("/{version}/models"),
            (_, "") => format!("/{version}/{}", resource(upstream_model)),
            (_, method) => format!("/{version}/{}:{method}", resource(upstream_model)),
        };
        paths::with_query(path, query)
    }

    fn own_target(&self, operation: Operation, stream: bool) -> Option<(Target, &'static str)> {
        let (method, query) = match operation {
            Operation::Chat if stream => ("v1beta:streamGenerateContent", "alt=sse"),
            Operation::Chat => ("v1beta:generateContent", ""),
            Operation::CountTokens => ("v1beta:countTokens", ""),
            Operation::Embeddings => ("v1beta:batchEmbedContents", ""),
            _ => return None,
        };
        let target = Target {
            dialect: &Gemini,
            operation,
            model: None,
            stream: Some(stream),
            framing: Framing::Sse,
            method: Cow::Borrowed(method),
        };
        Some((target, query))
    }

    fn auth(&self) -> AuthScheme {
        AuthScheme::Header("x-goog-api-key")
    }

    /// Not `x-goog-user-project`: it names the client's account. `x-goog-api-client` only tells the SDK's version.
    fn request_headers(&self) -> &'static [&'static str] {
        &[]
    }

    fn stream_decoder(&self, _operation: Operation) -> Box<dyn StreamDecoder> {
        Box::new(decode_stream::Decoder::default())
    }

    fn decode_response(
        &self,
        operation: Operation,
        body: &[u8],
        sink: &mut dyn EventSink,
    ) -> Result<StreamEnd, DecodeError> {
        response::decode(operation, body, sink)
    }

    fn decode_error(&self, status: u16, body: &[u8]) -> ApiError {
        errors::answer(status, body)
    }

    fn encode_error(&self, error: &ApiError, _request_id: &str) -> Vec<u8> {
        error::body(error).to_string().into_bytes()
    }

    fn encode_stream_error(&self, error: &ApiError, _request_id: &str, framing: Framing, first: bool) -> Vec<u8> {
        let body = error::body(error);
        match (framing, first) {
            // Line ends as Gemini's own.
            (Framing::Sse, _) => format!("data: {body}\r\n\r\n"),
            (Framing::JsonArray, true) => format!("[{body}]\n"),
            (Framing::JsonArray, false) => format!(",\r\n{body}]\n"),
        }
        .into_bytes()
    }

    fn setting(&self, word: &str) -> Option<&'static str> {
        settings::path(word)
    }

    /// Protobuf's JSON takes camelCase and snake_case.
    fn same_field(&self, one: &str, other: &str) -> bool {
        one == other || fields::camel(one) == fields::camel(other)
    }

    fn add_instructions(&self, body: &[u8], before: Option<&str>, after: Option<&str>) -> Vec<Splice> {
        instructions::add(body, before, after)
    }

    fn encode_models(&self, models: &[ModelEntry]) -> Vec<u8> {
        response::models(models).to_string().into_bytes()
    }

    fn encode_model(&self, model: &ModelEntry) -> Vec<u8> {
        response::model(model).to_string().into_bytes()
    }
}
