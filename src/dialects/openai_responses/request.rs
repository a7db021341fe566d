//! Requests, read: the top-level fields. What stands in `input` is read in `request_items.rs`, tools in `request_tools.rs`.
//!
//! Field names and forms are those of OpenAI's reference (`POST /v1/responses`, `CreateResponse` of its OpenAPI document).
//! Some words are left out without a loss, as they say nothing elsewhere: the ids the API gave its own items (`msg_…`, see
//! [`request_items`]), the status `completed` of an item, and fields that say what would be without them
//! (`background: false`, `truncation: disabled`, `stream_options.include_obfuscation: false`).

use serde_json::{Map, Value, json};

use super::{DIALECT, OpenAiResponses, encode_request, object, request_items, request_tools};
use crate::dialects::values::{boolean, count, element, field, fields, number, object as as_object, string, strings};
use crate::dialects::*;
use crate::ir::{Block, Effort, EmbeddingRequest, LossReport, Message, Native, Reasoning, Request, Role, Set};

/// The entry of `include` that asks for tokens of reasoning.
pub(super) const ENCRYPTED: &str = "reasoning.encrypted_content";
/// The entry of `include` that asks for log probabilities.
pub(super) const LOGPROBS: &str = "message.output_text.logprobs";

/// Names of tools: letters, digits, `_` and `-` (`FunctionToolParam.name`). The schema takes 128 characters, providers of
/// the format 64.
const NAMES: NameRule = NameRule {
    max: 64,
    also: "_-",
    letter_first: false,
};

impl RequestCodec for OpenAiResponses {
    fn decode_request(&self, target: &Target, body: &[u8]) -> Result<Request, RequestError> {
        let mut request = decode(body)?;
        request.stream &= target.operation == Operation::Chat;
        Ok(request)
    }

    fn encode_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Result<Vec<u8>, EncodeError> {
        let body = encode_request::body(request, to, loss)?;
        Ok(write::document(&body))
    }

    fn encode_count_request(
        &self,
        request: &Request,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        let body = encode_request::count_body(request, to, loss);
        Some(body.map(|body| write::document(&body)))
    }

    /// Providers of this dialect take the embeddings of OpenAI Chat. Clients have a path of their own for them, which that
    /// dialect reads.
    fn encode_embeddings(
        &self,
        request: &EmbeddingRequest,
        to: &Upstream<'_>,
        loss: &mut LossReport,
    ) -> Option<Result<Vec<u8>, EncodeError>> {
        Some(openai_embeddings::encode_request(request, to, loss))
    }

    fn adapt(&self, request: &mut Request, to: &Upstream<'_>, loss: &mut LossReport) {
        openai_models::adapt(request, to.model, loss);
    }

    fn tool_name_rule(&self) -> NameRule {
        NAMES
    }

    fn tool_id_rule(&self) -> NameRule {
        NAMES
    }

    fn has_custom_tools(&self) -> bool {
        true
    }

    fn has_tool_namespaces(&self) -> bool {
        true
    }
}

fn decode(body: &[u8]) -> Result<Request, RequestError> {
    let map = values::body(body)?;
    let mut request = Request {
        echo: object::echo(&map),
        ..Request::default()
    };
    let (mut instructions, mut input) = (None, None);
    for (key, value) in fields(map) {
        let at = key.as_str();
        match at {
            "model" => request.model = string(value, at)?,
            "stream" => request.stream = boolean(&value, at)?,
            "instructions" if value.is_string() => {
                let mut message = Message::new(Role::System, at);
                message.blocks.push(Block::text(string(value, at)?, at));
                instructions = Some(message);
            }
            "input" => input = Some(value),
            "tools" => request_tools::tools(value, at, &mut request.tools)?,
            "tool_choice" => request.tool_choice = Some(Set::new(request_tools::choice(value)?, "tool_choice")),
            "parallel_tool_calls" => {
                request.parallel_tool_calls = Some(Set::new(boolean(&value, at)?, "parallel_tool_calls"));
            }
            "text" => text(value, &mut request)?,
            "reasoning" => reasoning(value, &mut request.reasoning, &mut request.native)?,
            "include" => include(value, &mut request)?,
            "max_output_tokens" => {
                request.sampling.max_tokens = Some(Set::new(count(&value, at)?, "max_output_tokens"));
            }
            "temperature" => request.sampling.temperature = Some(Set::new(number(&value, at)?, "temperature")),
            "top_p" => request.sampling.top_p = Some(Set::new(number(&value, at)?, "top_p")),
            "top_logprobs" => request.sampling.top_logprobs = Some(Set::new(count(&value, at)?, "top_logprobs")),
            // The newer of two names for one thing wins; the other stays what it is.
            "safety_identifier" => {
                if let Some(old) = request.user.replace(Set::new(string(value, at)?, "safety_identifier")) {
                    request
                        .native
                        .push(Native::field(DIALECT, "", old.at, old.value.into()));
                }
            }
            "user" if request.user.is_none() => request.user = Some(Set::new(string(value, at)?, "user")),
            "metadata" => request.metadata = Some(Set::new(as_object(value, at)?, "metadata")),
            "service_tier" => request.service_tier = Some(Set::new(string(value, at)?, "service_tier")),
            "prompt_cache_key" => request.cache_key = Some(Set::new(string(value, at)?, "prompt_cache_key")),
            "store" => request.store = Some(Set::new(boolean(&value, at)?, "store")),
            "background" if value == false => {}
            "truncation" if value == "disabled" => {}
            "stream_options" if value == json!({"include_obfuscation": false}) => {}
            "previous_response_id" | "conversation" | "prompt" => {
                request.bound = Some(at.into());
                request.native.push(Native::field(DIALECT, "", at, value));
            }
            _ => request.native.push(Native::field(DIALECT, "", at, value)),
        }
    }
    if let Some(input) = input {
        request_items::input(input, &mut request)?;
    }
    if let Some(instructions) = instructions {
        request.system.insert(0, instructions);
    }
    Ok(request)
}

fn text(value: Value, request: &mut Request) -> Result<(), RequestError> {
    for (key, value) in fields(as_object(value, "text")?) {
        match key.as_str() {
            "format" => request.format = Some(Set::new(request_tools::format(value)?, "text.format")),
            "verbosity" => request.verbosity = Some(Set::new(string(value, "text.verbosity")?, "text.verbosity")),
            key => request.native.push(Native::field(DIALECT, "text", key, value)),
        }
    }
    Ok(())
}

fn reasoning(value: Value, reasoning: &mut Reasoning, natives: &mut Vec<Native>) -> Result<(), RequestError> {
    for (key, value) in fields(as_object(value, "reasoning")?) {
        let effort = || value.as_str().and_then(Effort::parse);
        match key.as_str() {
            "effort" if effort().is_some() => {
                reasoning.effort = effort().map(|effort| Set::new(effort, "reasoning.effort"));
            }
            "summary" => {
                let summary = string(value, "reasoning.summary")?;
                reasoning.visible = Some(Set::new(true, "reasoning.summary"));
                reasoning.summary = Some(Set::new(summary, "reasoning.summary"));
            }
            key => natives.push(Native::field(DIALECT, "reasoning", key, value)),
        }
    }
    Ok(())
}

/// The wish for tokens of reasoning is no loss anywhere: they are always told, if there are any (the echo keeps it).
fn include(value: Value, request: &mut Request) -> Result<(), RequestError> {
    let mut others = Vec::new();
    for entry in strings(value, "include")? {
        match entry.as_str() {
            ENCRYPTED => {}
            LOGPROBS => request.sampling.logprobs = Some(Set::new(true, "include")),
            _ => others.push(Value::from(entry)),
        }
    }
    if !others.is_empty() {
        request
            .native
            .push(Native::field(DIALECT, "", "include", others.into()));
    }
    Ok(())
}

/// An object, and its path.
pub(super) type Located = (String, Map<String, Value>);

/// The list at `at`, each element an object.
pub(super) fn objects(value: Value, at: &str) -> Result<Vec<Located>, RequestError> {
    let object = |(index, value)| {
        let at = element(at, index);
        let map = as_object(value, &at)?;
        Ok((at, map))
    };
    values::list(value, at)?.into_iter().enumerate().map(object).collect()
}

/// The string field of that name, taken out of `map`; an error if there is none.
pub(super) fn required(map: &mut Map<String, Value>, at: &str, name: &str) -> Result<String, RequestError> {
    string(map.shift_remove(name).unwrap_or_default(), &field(at, name))
}
