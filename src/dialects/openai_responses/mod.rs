//! OpenAI Responses. Stored responses (`GET /v1/responses/{id}` and the like) are no targets: they go through the raw
//! passthrough.

mod decode_items;
mod decode_stream;
mod encode;
mod encode_items;
mod encode_media;
mod encode_request;
mod encode_stream;
mod encode_tools;
mod error;
mod events;
mod object;
mod output;
mod request;
mod request_items;
mod request_parts;
mod request_tools;
mod response;
mod wire;

#[cfg(test)]
mod answer_tests;
#[cfg(test)]
mod recorded_tests;
#[cfg(test)]
mod request_tests;
#[cfg(test)]
mod tests;

use http::Method;

use super::*;
use crate::ir::{FinishKind, FinishReason};

const DIALECT: DialectId = DialectId::new("openai_responses");

/// The dialect.
pub struct OpenAiResponses;

const PLACES: outline::Places = outline::Places {
    cache_key: &[json::place::CACHE_KEY],
    preamble: &[json::place::INSTRUCTIONS, json::place::TOOLS],
    prompt: &[json::place::INPUT],
};

/// Why a response of that status ended; `None` while it goes on. Tool calls have no status of their own.
fn finish_reason(status: &str, incomplete: &str, tool_calls: bool) -> Option<FinishReason> {
    let (kind, raw) = match status {
        "completed" | "done" if tool_calls => (FinishKind::ToolCalls, status),
        "completed" | "done" => (FinishKind::Stop, status),
        "incomplete" if incomplete == "content_filter" => (FinishKind::ContentFilter, incomplete),
        "incomplete" if incomplete.is_empty() => (FinishKind::Length, status),
        "incomplete" => (FinishKind::Length, incomplete),
        "failed" => (FinishKind::Error, status),
        "queued" | "in_progress" | "" => return None,
        _ => (FinishKind::Other, status),
    };
    Some(FinishReason::new(kind, raw))
}

/// Answering it changes something at the provider beside what it costs: `background` begins a job which runs on without us, and
/// the items of a turn are added to its `conversation` (OpenAI's reference of "Create a model response").
fn leaves_traces(body: &[u8], fields: &json::Watched) -> bool {
    let value = |place: usize| Some(&body[fields.values[place].clone()?]);
    value(json::place::BACKGROUND) == Some(b"true")
        || value(json::place::CONVERSATION).is_some_and(|conversation| conversation != b"null")
}

impl Dialect for OpenAiResponses {
    fn id(&self) -> DialectId {
        DIALECT
    }

    fn target(&self, line: Line<'_>) -> Option<Target> {
        if line.method != Method::POST {
            return None;
        }
        let operation = match line.path {
            "/v1/responses" | "/responses" | "/backend-api/codex/responses" => Operation::Chat,
            "/v1/responses/input_tokens" | "/responses/input_tokens" => Operation::CountTokens,
            _ => return None,
        };
        let stream = (operation == Operation::CountTokens).then_some(false);
        Some(Target {
            dialect: &OpenAiResponses,
            operation,
            model: None,
            stream,
            framing: Framing::Sse,
            method: Cow::Borrowed(""),
        })
    }

    fn peek(&self, target: &Target, body: &[u8]) -> Result<Peek, PeekError> {
        let (mut peek, fields) = json::peek(body)?;
        PLACES.read(&mut peek.outline, body, &fields);
        peek.stream &= target.operation == Operation::Chat;
        peek.outline.once = target.operation == Operation::Chat && leaves_traces(body, &fields);
        Ok(peek)
    }

    fn upstream_path(&self, target: &Target, upstream_model: &str, query: &str) -> String {
        let path = match target.operation {
            Operation::CountTokens => "/responses/input_tokens".to_owned(),
            Operation::Embeddings => "/embeddings".to_owned(),
            Operation::ListModels => "/models".to_owned(),
            Operation::GetModel => format!("/models/{}", paths::encode(upstream_model)),
            _ => "/responses".to_owned(),
        };
        paths::with_query(path, query)
    }

    fn own_target(&self, operation: Operation, stream: bool) -> Option<(Target, &'static str)> {
        matches!(
            operation,
            Operation::Chat | Operation::CountTokens | Operation::Embeddings
        )
        .then_some((
            Target {
                dialect: &OpenAiResponses,
                operation,
                model: None,
                stream: Some(stream),
                framing: Framing::Sse,
                method: Cow::Borrowed(""),
            },
            "",
        ))
    }

    fn auth(&self) -> AuthScheme {
        AuthScheme::Bearer
    }

    /// Not `openai-organization` nor `openai-project`: they name the client's account, and the key is ours. Codex says with the
    /// second one that tools stand in the input (`additional_tools`).
    fn request_headers(&self) -> &'static [&'static str] {
        &["openai-beta", "x-openai-internal-codex-responses-lite"]
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
        openai_error::body(error).to_string().into_bytes()
    }

    fn encode_stream_error(&self, error: &ApiError, _request_id: &str, _framing: Framing, _first: bool) -> Vec<u8> {
        format!("event: error\ndata: {}\n\n", error::event(error)).into_bytes()
    }

    fn ping(&self, framing: Framing) -> Option<&'static str> {
        openai_error::ping(framing)
    }

    /// Codex: with hyphens since 0.131 or so, with underscores before (Lingtai-AI/lingtai-kernel#435, Wei-Shaw/sub2api#2787),
    /// `conversation_id` in the oldest. A session may have several threads (its helpers); it is the session that is to stay
    /// together.
    fn session_headers(&self) -> &'static [&'static str] {
        &["session-id", "session_id", "conversation_id", "thread-id", "thread_id"]
    }

    /// OpenAI's reference of "Create a model response".
    fn setting(&self, word: &str) -> Option<&'static str> {
        Some(match word {
            "max_output_tokens" => "max_output_tokens",
            "temperature" => "temperature",
            "top_p" => "top_p",
            "reasoning_effort" => "reasoning.effort",
            "verbosity" => "text.verbosity",
            "parallel_tool_calls" => "parallel_tool_calls",
            "service_tier" => "service_tier",
            "user" => "user",
            "cache_key" => "prompt_cache_key",
            "stream_options" => "stream_options",
            _ => return None,
        })
    }

    /// OpenAI's guide "Background mode": the answer is `queued`, or a stream whose end changes nothing.
    fn runs_on(&self, body: &[u8]) -> Option<&'static str> {
        spans::asks(body, "background").then_some("background")
    }

    /// `instructions`, a text. (Messages of the system within `input` come after it, and stay.)
    fn add_instructions(&self, body: &[u8], before: Option<&str>, after: Option<&str>) -> Vec<Splice> {
        let Some(texts) = instructions::Texts::new(before, after) else {
            return Vec::new();
        };
        match spans::value_of(body, 0, "instructions") {
            Some(at) if body[at.start] == b'"' => texts.join(&at),
            Some(at) if body[at.start] == b'n' => vec![instructions::splice(at, texts.json())],
            Some(_) => Vec::new(),
            None => vec![instructions::put_first(
                body,
                0,
                format!(r#""instructions":{}"#, texts.json()),
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
