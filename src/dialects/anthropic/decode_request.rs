//! Requests, read: the settings. Messages are read in `decode_content.rs`, tools in `decode_tools.rs`.

use serde_json::{Map, Value};

use super::{DIALECT, decode_content as content, decode_tools as tools};
use crate::dialects::codec::RequestError;
use crate::dialects::values::{body, boolean, count, fields, list, number, object, string, strings};
use crate::ir::{Budget, Effort, Format, Message, Native, Request, Role, Set};

/// Reads a request for a message, or for the count of its tokens.
pub(super) fn request(bytes: &[u8]) -> Result<Request, RequestError> {
    let mut request = Request::default();
    let body = body(bytes)?;
    if !body.contains_key("messages") {
        return Err(RequestError::must_be("messages", "a list of messages"));
    }
    for (key, value) in fields(body) {
        field(&mut request, &key, value)?;
    }
    // Instructions at the head of the conversation are instructions before it.
    let leading = request
        .messages
        .iter()
        .take_while(|message| message.role == Role::System);
    let leading = leading.count();
    request.system.extend(request.messages.drain(..leading));
    Ok(request)
}

fn field(request: &mut Request, key: &str, value: Value) -> Result<(), RequestError> {
    let sampling = &mut request.sampling;
    match key {
        "model" => request.model = string(value, key)?,
        "stream" => request.stream = boolean(&value, key)?,
        "system" => request.system.insert(0, content::system(value)?),
        "messages" => request.messages = messages(value)?,
        "tools" => {
            for (index, tool) in list(value, key)?.into_iter().enumerate() {
                request.tools.push(tools::tool(tool, &format!("tools[{index}]"))?);
            }
        }
        "tool_choice" => tools::choice(request, object(value, key)?)?,
        "max_tokens" => sampling.max_tokens = Some(Set::new(count(&value, key)?, "max_tokens")),
        "temperature" => sampling.temperature = Some(Set::new(number(&value, key)?, "temperature")),
        "top_p" => sampling.top_p = Some(Set::new(number(&value, key)?, "top_p")),
        "top_k" => sampling.top_k = Some(Set::new(count(&value, key)?, "top_k")),
        "stop_sequences" => sampling.stop = Some(Set::new(strings(value, key)?, "stop_sequences")),
        "thinking" => thinking(request, object(value, key)?)?,
        "output_config" => output_config(request, object(value, key)?)?,
        // The name it had in beta.
        "output_format" => format(request, value, "output_format"),
        "metadata" => metadata(request, object(value, key)?)?,
        "service_tier" => {
            let tier = string(value, key)?;
            let tier = if tier == "standard_only" {
                "default".to_owned()
            } else {
                tier
            };
            request.service_tier = Some(Set::new(tier, "service_tier"));
        }
        _ => request.native.push(Native::field(DIALECT, "", key, value)),
    }
    Ok(())
}

fn messages(value: Value) -> Result<Vec<Message>, RequestError> {
    let messages = list(value, "messages")?.into_iter().enumerate();
    messages
        .map(|(index, message)| content::message(message, &format!("messages[{index}]")))
        .collect()
}

/// How the model is to think. The type `between_tools` is nearest to no thinking, and is kept beside.
fn thinking(request: &mut Request, mut map: Map<String, Value>) -> Result<(), RequestError> {
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    let on = match kind.as_str() {
        "enabled" | "adaptive" => true,
        "disabled" | "between_tools" => false,
        _ => {
            request
                .native
                .push(Native::field(DIALECT, "", "thinking", Value::Object(map)));
            return Ok(());
        }
    };
    if kind != "between_tools" {
        map.shift_remove("type");
    }
    let reasoning = &mut request.reasoning;
    reasoning.enabled = Some(Set::new(on, "thinking.type"));
    for (key, value) in fields(map) {
        match (key.as_str(), value.as_str()) {
            ("budget_tokens", _) if kind == "enabled" => {
                let tokens = count(&value, "thinking.budget_tokens")?;
                reasoning.budget = Some(Set::new(Budget::Tokens(tokens), "thinking.budget_tokens"));
            }
            ("display", Some(display @ ("summarized" | "omitted"))) => {
                reasoning.visible = Some(Set::new(display == "summarized", "thinking.display"));
            }
            _ => request.native.push(Native::field(DIALECT, "thinking", &key, value)),
        }
    }
    Ok(())
}

fn output_config(request: &mut Request, map: Map<String, Value>) -> Result<(), RequestError> {
    for (key, value) in fields(map) {
        match key.as_str() {
            "format" => format(request, value, "output_config.format"),
            "effort" => match value.as_str().and_then(Effort::parse) {
                Some(effort) => request.reasoning.effort = Some(Set::new(effort, "output_config.effort")),
                None => request
                    .native
                    .push(Native::field(DIALECT, "output_config", &key, value)),
            },
            _ => request
                .native
                .push(Native::field(DIALECT, "output_config", &key, value)),
        }
    }
    Ok(())
}

fn format(request: &mut Request, value: Value, at: &'static str) {
    let form = match &value {
        Value::Object(map) if map.len() == 2 && map.get("type").is_some_and(|kind| kind == "json_schema") => {
            map.get("schema").map(|schema| Format::JsonSchema {
                name: None,
                description: None,
                schema: schema.clone(),
                strict: None,
            })
        }
        _ => None,
    };
    let form = form.unwrap_or_else(|| Format::Native(Native::field(DIALECT, "", at, value)));
    request.format = Some(Set::new(form, at));
}

fn metadata(request: &mut Request, map: Map<String, Value>) -> Result<(), RequestError> {
    for (key, value) in fields(map) {
        match key.as_str() {
            "user_id" => request.user = Some(Set::new(string(value, "metadata.user_id")?, "metadata.user_id")),
            _ => request.native.push(Native::field(DIALECT, "metadata", &key, value)),
        }
    }
    Ok(())
}
