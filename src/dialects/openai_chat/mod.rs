//! OpenAI Chat Completions, and the embeddings and model lists which share its error shape. Most providers speak it,
//! each with an accent: see [`wire`](self) for those we know.

mod answer;
mod data_url;
mod decode_content;
mod decode_messages;
mod decode_parts;
mod decode_reasoning;
mod decode_request;
mod decode_stream;
mod deltas;
mod details;
mod encode;
mod encode_messages;
mod encode_parts;
mod encode_request;
mod encode_stream;
mod instructions;
mod natives;
mod peek;
mod request;
mod request_tools;
mod response;
mod settings;
pub mod tokenizer;
mod vendor;
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
use crate::ir::FinishKind;

/// Its name. Embeddings are of this dialect, whichever of OpenAI's a provider is registered with.
pub(super) const DIALECT: DialectId = DialectId::new("openai_chat");

/// The dialect.
pub struct OpenAiChat;

/// OpenAI's finish reasons, and words of others for the same.
fn finish_kind(reason: &str) -> FinishKind {
    match reason {
        "stop" | "eos" | "end_turn" | "stop_sequence" => FinishKind::Stop,
        "length" | "model_length" | "max_tokens" => FinishKind::Length,
        "tool_calls" | "function_call" | "tool_use" => FinishKind::ToolCalls,
        "content_filter" | "sensitive" => FinishKind::ContentFilter,
        "error" | "network_error" => FinishKind::Error,
        _ => FinishKind::Other,
    }
}

impl Dialect for OpenAiChat {
    fn id(&self) -> DialectId {
        DIALECT
    }

    fn target(&self, line: Line<'_>) -> Option<Target> {
        let path = line.path;
        let (operation, model) = if line.method == Method::POST {
            let operation = match path {
                "/v1/chat/completions" | "/chat/completions" | "/v1/gpt/chat/completions" | "/gpt/chat/completions" => {
                    Operation::Chat
                }
                "/v1/embeddings" | "/embeddings" => Operation::Embeddings,
                _ => return None,
            };
            (operation, None)
        } else if line.method == Method::GET {
            match path.strip_prefix("/v1").unwrap_or(path).strip_prefix("/models")? {
                "" => (Operation::ListModels, None),
                one => (Operation::GetModel, Some(paths::decode(one.strip_prefix('/')?)?)),
            }
        } else {
            return None;
        };
        let stream = (line.method == Method::GET || operation == Operation::Embeddings).then_some(false);
        Some(Target {
            dialect: &OpenAiChat,
            operation,
            model,
            stream,
            framing: Framing::Sse,
            method: Cow::Borrowed(""),
        })
    }

    fn peek(&self, target: &Target, body: &[u8]) -> Result<Peek, PeekError> {
        peek::peek(target.operation, body)
    }

    fn upstream_path(&self, target: &Target, upstream_model: &str, query: &str) -> String {
        let path = match target.operation {
            Operation::Embeddings => "/embeddings".to_owned(),
            Operation::ListModels => "/models".to_owned(),
            Operation::GetModel => format!("/models/{}", paths::encode(upstream_model)),
            _ => "/chat/completions".to_owned(),
        };
        paths::with_query(path, query)
    }

    fn own_target(&self, operation: Operation, stream: bool) -> Option<(Target, &'static str)> {
        matches!(operation, Operation::Chat | Operation::Embeddings).then_some((
            Target {
                dialect: &OpenAiChat,
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

    /// Not `openai-organization` nor `openai-project`: they name the client's account, and the key is ours.
    fn request_headers(&self) -> &'static [&'static str] {
        &["openai-beta"]
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
        format!("data: {}\n\n", openai_error::body(error)).into_bytes()
    }

    fn ping(&self, framing: Framing) -> Option<&'static str> {
        openai_error::ping(framing)
    }

    fn setting(&self, word: &str) -> Option<&'static str> {
        settings::path(word)
    }

    /// xAI's guide "Deferred chat completions": the answer is a `request_id`.
    fn runs_on(&self, body: &[u8]) -> Option<&'static str> {
        spans::asks(body, "deferred").then_some("deferred")
    }

    /// OpenAI's own models are asked by the newer name: those which reason refuse the older one.
    fn output_limit(&self, model: &str) -> Option<&'static str> {
        let is_openai = vendor::Vendor::of(model).is_openai();
        Some(if is_openai {
            "max_completion_tokens"
        } else {
            "max_tokens"
        })
    }

    /// Everyone knows the older name (DeepSeek's and Mistral's references have no other), or refuses it as OpenAI does for models that
    /// reason. The newer one is passed over by those who don't know it (abetlen/llama-cpp-python#1907).
    fn knows_limit(&self, model: &str, name: &str) -> bool {
        self.setting("max_output_tokens") == Some(name) || self.output_limit(model) == Some(name)
    }

    fn same_field(&self, one: &str, other: &str) -> bool {
        settings::same(one, other)
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
