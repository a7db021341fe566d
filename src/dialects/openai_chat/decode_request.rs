//! Requests read: the settings. Messages, parts and tools have files of their own.
//!
//! Sources: OpenAI's reference "Create chat completion"; for other vendors' fields: OpenRouter ("Reasoning tokens"),
//! DeepSeek and Z.ai (`thinking`), Alibaba (`enable_thinking`, `thinking_budget`), Mistral (`random_seed`).

use serde_json::{Map, Value};

use super::natives::keep;
use super::{DIALECT, decode_messages, request_tools};
use crate::dialects::RequestError;
use crate::dialects::values::{body, boolean, count, fields, list, number, object, string, strings, whole};
use crate::ir::{Budget, Effort, Format, Native, Reasoning, Request, Set};

/// Sets what was not set yet; otherwise gives the value back, to be kept as it stood.
fn first<T>(slot: &mut Option<Set<T>>, value: T, at: &'static str) -> bool {
    let free = slot.is_none();
    if free {
        *slot = Some(Set::new(value, at));
    }
    free
}

/// Reads a request.
pub(super) fn decode(bytes: &[u8]) -> Result<Request, RequestError> {
    let mut request = Request {
        include_usage: Some(false),
        ..Request::default()
    };
    let (mut model, mut messages) = (None, None);
    for (key, value) in fields(body(bytes)?) {
        match key.as_str() {
            "model" => model = Some(string(value, "model")?),
            "messages" => messages = Some(list(value, "messages")?),
            "stream" => request.stream = boolean(&value, "stream")?,
            "stream_options" => stream_options(&mut request, object(value, "stream_options")?)?,
            "tools" => request_tools::tools(&mut request, list(value, "tools")?)?,
            "functions" => request_tools::functions(&mut request, list(value, "functions")?)?,
            "tool_choice" | "function_call" => request_tools::choice(&mut request, &key, value)?,
            "parallel_tool_calls" => {
                let at = "parallel_tool_calls";
                request.parallel_tool_calls = Some(Set::new(boolean(&value, at)?, at));
            }
            "response_format" => {
                let at = "response_format";
                let format = response_format(&mut request.native, object(value, at)?)?;
                request.format = Some(Set::new(format, at));
            }
            "metadata" => request.metadata = Some(Set::new(object(value, "metadata")?, "metadata")),
            "service_tier" => request.service_tier = Some(Set::new(string(value, "service_tier")?, "service_tier")),
            "prompt_cache_key" => {
                let at = "prompt_cache_key";
                request.cache_key = Some(Set::new(string(value, at)?, at));
            }
            "store" => request.store = Some(Set::new(boolean(&value, "store")?, "store")),
            "verbosity" => request.verbosity = Some(Set::new(string(value, "verbosity")?, "verbosity")),
            "modalities" => {
                let words = strings(value, "modalities")?
                    .iter()
                    .map(|word| word.to_lowercase())
                    .collect();
                request.modalities = Some(Set::new(words, "modalities"));
            }
            _ => {
                let value = sampling(&mut request, &key, value)?;
                let value = match value {
                    Some(value) => reasoning(&mut request, &key, value)?,
                    None => None,
                };
                let value = value.and_then(|value| user(&mut request, &key, value));
                request
                    .native
                    .extend(value.map(|json| Native::field(DIALECT, "", &key, json)));
            }
        }
    }
    request.model = model.ok_or_else(|| RequestError::must_be("model", "a string"))?;
    let messages = messages.ok_or_else(|| RequestError::must_be("messages", "a list"))?;
    decode_messages::messages(&mut request, messages)?;
    Ok(request)
}

fn stream_options(request: &mut Request, options: Map<String, Value>) -> Result<(), RequestError> {
    let mut rest = Map::new();
    for (key, value) in fields(options) {
        match key.as_str() {
            "include_usage" => request.include_usage = Some(boolean(&value, "stream_options.include_usage")?),
            _ => {
                rest.insert(key, value);
            }
        }
    }
    keep(&mut request.native, "stream_options", rest);
    Ok(())
}

/// Sampling and limits; gives back what is none of it.
fn sampling(request: &mut Request, key: &str, value: Value) -> Result<Option<Value>, RequestError> {
    let s = &mut request.sampling;
    match key {
        "max_completion_tokens" => {
            let at = "max_completion_tokens";
            let set = Set::new(count(&value, at)?, at);
            // The newer field wins.
            if let Some(older) = s.max_tokens.replace(set) {
                request
                    .native
                    .push(Native::field(DIALECT, "", older.at, older.value.into()));
            }
        }
        "max_tokens" => {
            let limit = count(&value, "max_tokens")?;
            if !first(&mut s.max_tokens, limit, "max_tokens") {
                return Ok(Some(value));
            }
        }
        "temperature" => s.temperature = Some(Set::new(number(&value, "temperature")?, "temperature")),
        "top_p" => s.top_p = Some(Set::new(number(&value, "top_p")?, "top_p")),
        "top_k" => match value.as_u64() {
            Some(top_k) => s.top_k = Some(Set::new(top_k, "top_k")),
            // Some write -1 for all.
            None => return Ok(Some(value)),
        },
        "stop" => {
            let words = match value {
                Value::String(word) => vec![word],
                other => strings(other, "stop")?,
            };
            s.stop = Some(Set::new(words, "stop"));
        }
        "seed" | "random_seed" => {
            let at = if key == "seed" { "seed" } else { "random_seed" };
            if !first(&mut s.seed, whole(&value, at)?, at) {
                return Ok(Some(value));
            }
        }
        "frequency_penalty" => {
            let at = "frequency_penalty";
            s.frequency_penalty = Some(Set::new(number(&value, at)?, at));
        }
        "presence_penalty" => {
            let at = "presence_penalty";
            s.presence_penalty = Some(Set::new(number(&value, at)?, at));
        }
        "n" => s.candidates = Some(Set::new(count(&value, "n")?, "n")),
        "logprobs" => match value {
            Value::Bool(wanted) => s.logprobs = Some(Set::new(wanted, "logprobs")),
            // Their number, in the form before chat.
            other => return Ok(Some(other)),
        },
        "top_logprobs" => s.top_logprobs = Some(Set::new(count(&value, "top_logprobs")?, "top_logprobs")),
        _ => return Ok(Some(value)),
    }
    Ok(None)
}

/// Who the end user is. `safety_identifier` replaces `user` at OpenAI; where both stand, the second is kept as it is.
fn user(request: &mut Request, key: &str, value: Value) -> Option<Value> {
    let at = match key {
        "user" => "user",
        "safety_identifier" => "safety_identifier",
        _ => return Some(value),
    };
    match value {
        Value::String(word) if request.user.is_none() => {
            request.user = Some(Set::new(word, at));
            None
        }
        other => Some(other),
    }
}

/// Settings of reasoning, as several vendors write them; gives back what is none of it, or was said before.
fn reasoning(request: &mut Request, key: &str, value: Value) -> Result<Option<Value>, RequestError> {
    let r = &mut request.reasoning;
    let free = match (key, &value) {
        ("reasoning_effort", Value::String(word)) => effort(r, word, "reasoning_effort"),
        ("enable_thinking", Value::Bool(on)) => first(&mut r.enabled, *on, "enable_thinking"),
        ("thinking_budget", Value::Number(_)) => budget(r, &value, "thinking_budget"),
        ("include_reasoning", Value::Bool(on)) => first(&mut r.visible, *on, "include_reasoning"),
        ("reasoning", Value::Object(_)) => {
            let rest = reasoning_object(r, object(value, "reasoning")?);
            keep(&mut request.native, "reasoning", rest);
            return Ok(None);
        }
        ("thinking", Value::Object(_)) => {
            let rest = thinking_object(r, object(value, "thinking")?);
            keep(&mut request.native, "thinking", rest);
            return Ok(None);
        }
        _ => false,
    };
    Ok((!free).then_some(value))
}

fn effort(reasoning: &mut Reasoning, word: &str, at: &'static str) -> bool {
    Effort::parse(word).is_some_and(|effort| first(&mut reasoning.effort, effort, at))
}

fn budget(reasoning: &mut Reasoning, value: &Value, at: &'static str) -> bool {
    let tokens = value.as_u64().map(Budget::Tokens);
    tokens.is_some_and(|budget| first(&mut reasoning.budget, budget, at))
}

/// OpenRouter's `reasoning`; gives back what stays as it is.
fn reasoning_object(reasoning: &mut Reasoning, map: Map<String, Value>) -> Map<String, Value> {
    let taken = |(key, value): &(String, Value), r: &mut Reasoning| match (key.as_str(), value) {
        ("effort", Value::String(word)) => effort(r, word, "reasoning.effort"),
        ("max_tokens", value) => budget(r, value, "reasoning.max_tokens"),
        ("enabled", Value::Bool(on)) => first(&mut r.enabled, *on, "reasoning.enabled"),
        ("exclude", Value::Bool(hidden)) => first(&mut r.visible, !hidden, "reasoning.exclude"),
        ("summary", Value::String(kind)) => first(&mut r.summary, kind.clone(), "reasoning.summary"),
        _ => false,
    };
    fields(map).filter(|field| !taken(field, reasoning)).collect()
}

/// `thinking` of DeepSeek, Z.ai and Moonshot, after Anthropic's; gives back what stays as it is.
fn thinking_object(reasoning: &mut Reasoning, map: Map<String, Value>) -> Map<String, Value> {
    let taken = |(key, value): &(String, Value), r: &mut Reasoning| match (key.as_str(), value.as_str()) {
        ("type", Some("enabled")) => first(&mut r.enabled, true, "thinking.type"),
        ("type", Some("disabled")) => first(&mut r.enabled, false, "thinking.type"),
        ("type", Some("auto" | "adaptive")) => first(&mut r.budget, Budget::Dynamic, "thinking.type"),
        ("budget_tokens", None) => budget(r, value, "thinking.budget_tokens"),
        _ => false,
    };
    fields(map).filter(|field| !taken(field, reasoning)).collect()
}

fn response_format(natives: &mut Vec<Native>, mut map: Map<String, Value>) -> Result<Format, RequestError> {
    let at = "response_format";
    let kind = map.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let format = match kind.as_str() {
        "text" => Format::Text,
        "json_object" => Format::JsonObject,
        "json_schema"
            if map
                .get("json_schema")
                .is_some_and(|schema| schema["schema"].is_object()) =>
        {
            let at = "response_format.json_schema";
            let mut inner = object(map.shift_remove("json_schema").unwrap_or_default(), at)?;
            let mut text = |key: &str| match inner.shift_remove(key) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => string(value, &format!("{at}.{key}")).map(Some),
            };
            let (name, description) = (text("name")?, text("description")?);
            let schema = inner.shift_remove("schema").unwrap_or_default();
            let strict = inner.shift_remove("strict").and_then(|strict| strict.as_bool());
            keep(natives, at, inner);
            Format::JsonSchema {
                name,
                description,
                schema,
                strict,
            }
        }
        _ => return Ok(Format::Native(Native::field(DIALECT, "", at, Value::Object(map)))),
    };
    map.shift_remove("type");
    keep(natives, at, map);
    Ok(format)
}
