//! Anthropic Messages.

mod answer;
mod cite;
mod decode_content;
mod decode_native;
mod decode_request;
mod decode_stream;
mod decode_tools;
mod encode;
mod encode_blocks;
mod encode_cache;
mod encode_content;
mod encode_media;
mod encode_reasoning;
mod encode_request;
mod encode_stream;
mod encode_tools;
mod error;
mod limits;
mod models;
mod request;
mod response;
mod schema;
mod session;
mod token;
mod wire;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod models_tests;
#[cfg(test)]
mod recorded_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;

use http::Method;

use super::*;
use crate::ir::FinishKind;

const DIALECT: DialectId = DialectId::new("anthropic");

/// The dialect.
pub struct Anthropic;

const PLACES: outline::Places = outline::Places {
    cache_key: &[],
    preamble: &[json::place::SYSTEM, json::place::TOOLS],
    prompt: &[json::place::MESSAGES],
};

/// Anthropic's stop reasons.
fn finish_kind(reason: &str) -> FinishKind {
    match reason {
        "end_turn" | "stop_sequence" => FinishKind::Stop,
        "max_tokens" | "model_context_window_exceeded" => FinishKind::Length,
        "tool_use" => FinishKind::ToolCalls,
        "refusal" => FinishKind::ContentFilter,
        "pause_turn" | "compaction" => FinishKind::Pause,
        _ => FinishKind::Other,
    }
}

impl Dialect for Anthropic {
    fn id(&self) -> DialectId {
        DIALECT
    }

    fn target(&self, line: Line<'_>) -> Option<Target> {
        let (operation, model) = if line.method == Method::POST {
            let operation = match line.path {
                "/v1/messages" | "/anthropic/v1/messages" | "/v1/anthropic/messages" => Operation::Chat,
                "/v1/messages/count_tokens"
                | "/anthropic/v1/messages/count_tokens"
                | "/v1/anthropic/messages/count_tokens" => Operation::CountTokens,
                _ => return None,
            };
            (operation, None)
        } else if line.method == Method::GET {
            // The plain path is asked in three dialects; every client of this one names its version.
            let rest = match line.path.strip_prefix("/anthropic") {
                Some(rest) => rest,
                None if line.headers.contains_key("anthropic-version") => line.path,
                None => return None,
            };
            match rest.strip_prefix("/v1/models")? {
                "" => (Operation::ListModels, None),
                one => (Operation::GetModel, Some(paths::decode(one.strip_prefix('/')?)?)),
            }
        } else {
            return None;
        };
        let stream = (operation != Operation::Chat).then_some(false);
        Some(Target {
            dialect: &Anthropic,
            operation,
            model,
            stream,
            framing: Framing::Sse,
            method: Cow::Borrowed(""),
        })
    }

    fn peek(&self, target: &Target, body: &[u8]) -> Result<Peek, PeekError> {
        let (mut peek, fields) = json::peek(body)?;
        PLACES.read(&mut peek.outline, body, &fields);
        peek.outline.cache_key = fields.values[json::place::METADATA]
            .as_ref()
            .and_then(|at| session::of_metadata(body, at));
        peek.stream &= target.operation == Operation::Chat;
        Ok(peek)
    }

    fn upstream_path(&self, target: &Target, upstream_model: &str, query: &str) -> String {
        let path = match target.operation {
            Operation::CountTokens => "/v1/messages/count_tokens".to_owned(),
            Operation::ListModels => "/v1/models".to_owned(),
            Operation::GetModel => format!("/v1/models/{}", paths::encode(upstream_model)),
            _ => "/v1/messages".to_owned(),
        };
        paths::with_query(path, query)
    }

    fn own_target(&self, operation: Operation, stream: bool) -> Option<(Target, &'static str)> {
        matches!(operation, Operation::Chat | Operation::CountTokens).then_some((
            Target {
                dialect: &Anthropic,
                operation,
                model: None,
                stream: Some(stream),
                framing: Framing::Sse,
                method: Cow::Borrowed(""),
            },
            "",
        ))
    }

    /// The version Anthropic's reference asks for.
    fn own_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
    }

    fn auth(&self) -> AuthScheme {
        AuthScheme::Header("x-api-key")
    }

    fn request_headers(&self) -> &'static [&'static str] {
        &["anthropic-version", "anthropic-beta"]
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("request-id")
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

    fn encode_error(&self, error: &ApiError, request_id: &str) -> Vec<u8> {
        error::body(error, request_id).to_string().into_bytes()
    }

    fn encode_stream_error(&self, error: &ApiError, request_id: &str, _framing: Framing, _first: bool) -> Vec<u8> {
        format!("event: error\ndata: {}\n\n", error::body(error, request_id)).into_bytes()
    }

    /// Anthropic's own: "Event streams may also include any number of `ping` events".
    fn ping(&self, framing: Framing) -> Option<&'static str> {
        (framing == Framing::Sse).then_some("event: ping\ndata: {\"type\": \"ping\"}\n\n")
    }

    /// Claude Code (its gateway protocol: "x-claude-code-session-id"); helpers share their session's.
    fn session_headers(&self) -> &'static [&'static str] {
        &["x-claude-code-session-id"]
    }

    /// Anthropic's reference of "Create a Message".
    /// "Rate limits: response headers".
    fn limit_headers(&self) -> &'static LimitHeaders {
        &LimitHeaders {
            requests: [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
                "anthropic-ratelimit-requests-reset",
            ],
            tokens: [
                "anthropic-ratelimit-tokens-limit",
                "anthropic-ratelimit-tokens-remaining",
                "anthropic-ratelimit-tokens-reset",
            ],
            absolute: true,
        }
    }

    fn setting(&self, word: &str) -> Option<&'static str> {
        Some(match word {
            "max_output_tokens" => "max_tokens",
            "temperature" => "temperature",
            "top_p" => "top_p",
            "top_k" => "top_k",
            "stop" => "stop_sequences",
            "reasoning_effort" => "output_config.effort",
            "service_tier" => "service_tier",
            "user" => "metadata.user_id",
            _ => return None,
        })
    }

    /// `system`: a text, or a list of text blocks. A block put after the others lies behind the client's cache breakpoints there,
    /// and before those of its messages.
    fn add_instructions(&self, body: &[u8], before: Option<&str>, after: Option<&str>) -> Vec<Splice> {
        let Some(texts) = instructions::Texts::new(before, after) else {
            return Vec::new();
        };
        match spans::value_of(body, 0, "system") {
            Some(at) if body[at.start] == b'"' => texts.join(&at),
            Some(at) if body[at.start] == b'[' => {
                texts.around(body, &at, "", |text| format!(r#"{{"type":"text","text":{text}}}"#))
            }
            Some(at) if body[at.start] == b'n' => vec![instructions::splice(at, texts.json())],
            Some(_) => Vec::new(),
            None => vec![instructions::put_first(
                body,
                0,
                format!(r#""system":{}"#, texts.json()),
            )],
        }
    }

    fn encode_models(&self, models: &[ModelEntry]) -> Vec<u8> {
        response::models(models).to_string().into_bytes()
    }

    fn encode_model(&self, model: &ModelEntry) -> Vec<u8> {
        response::model(model).to_string().into_bytes()
    }
}
