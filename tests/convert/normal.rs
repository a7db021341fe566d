//! What counts as the same request. Each rule is one equivalence a provider has, or a field which the route decides.

use serde_json::{Map, Value, json};

use crate::normal_gemini;

/// A request in its normal form.
///
/// In every dialect:
/// - `null` is as good as nothing;
/// - whole numbers may be written as floats (`1.0` is `1`);
/// - a text of JSON (a call's arguments) means what it says, however it is spaced;
/// - a content that is a text is one text part.
pub fn request(dialect: &str, body: &Value) -> Value {
    let mut body = plain(body);
    match dialect {
        "openai_chat" => chat(&mut body),
        "openai_responses" => responses(&mut body),
        "anthropic" => anthropic(&mut body),
        _ => normal_gemini::request(&mut body),
    }
    body
}

fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), plain(value)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(plain).collect()),
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            _ => value.clone(),
        },
        Value::String(text) if text.starts_with('{') => match serde_json::from_str::<Value>(text) {
            Ok(inner) => json!({"a text of JSON": inner}),
            Err(_) => value.clone(),
        },
        _ => value.clone(),
    }
}

pub fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("just made one")
}

pub fn each<'v>(value: &'v mut Value, key: &str) -> impl Iterator<Item = &'v mut Value> {
    value.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten()
}

/// A text as the list of its one part.
fn parts(value: &mut Value, key: &str, kind: &str) {
    if let Some(content) = value.get_mut(key)
        && content.is_string()
    {
        *content = json!([{"type": kind, "text": content.take()}]);
    }
}

/// Leaves out a field that says what goes without saying.
pub fn default(value: &mut Value, key: &str, means: &Value) {
    if value.get(key) == Some(means) {
        object(value).shift_remove(key);
    }
}

/// - `max_tokens` is the old name of `max_completion_tokens`, functions that of tools;
/// - a lone stop sequence is a list of one; a picture's address may stand without its object;
/// - `any` is one vendor's word for `required`;
/// - `n: 1`, no tools, the format of text, the modality of text, an empty text beside something else go without saying;
/// - a refusal may stand as a part or beside the content;
/// - usage in the stream is asked for as the operation says;
/// - vendors have several words for reasoning, of which a model takes one; who knows no developer hears the system;
/// - a message's cache hint is its last part's;
/// - ids of calls are any, as long as they meet (one vendor takes only its own kind).
fn chat(body: &mut Value) {
    let mut calls = 0;
    let mut ids: Vec<Value> = Vec::new();
    for message in each(body, "messages") {
        // An empty list of calls is none.
        default(message, "tool_calls", &json!([]));
        default(message, "annotations", &json!([]));
        let map = object(message);
        if let Some(call) = map.shift_remove("function_call") {
            map.insert(
                "tool_calls".into(),
                json!([{"id": format!("call_{calls}"), "type": "function", "function": call}]),
            );
        }
        if map.get("role") == Some(&json!("function")) {
            map.insert("role".into(), "tool".into());
            map.insert("tool_call_id".into(), format!("call_{calls}").into());
            map.shift_remove("name");
            calls += 1;
        }
        for word in ["reasoning", "reasoning_content", "reasoning_details"] {
            map.shift_remove(word);
        }
        parts(message, "content", "text");
        let mut refusal = None;
        if let Some(content) = message.get_mut("content").and_then(Value::as_array_mut) {
            for part in content.iter_mut() {
                if part["type"] == "image_url" && part["image_url"].is_string() {
                    part["image_url"] = json!({"url": part["image_url"].take()});
                }
            }
            content.retain(|part| part.get("text") != Some(&json!("")));
            content.retain_mut(|part| {
                part.get_mut("refusal")
                    .map(|text| refusal = Some(text.take()))
                    .is_none()
            });
        }
        if let Some(refusal) = refusal {
            object(message).insert("refusal".into(), refusal);
        }
        if message["role"] == "developer" {
            message["role"] = "system".into();
        }
        if let Some(hint) = object(message).shift_remove("cache_control")
            && let Some(last) = message
                .get_mut("content")
                .and_then(Value::as_array_mut)
                .and_then(|parts| parts.last_mut())
        {
            object(last).insert("cache_control".into(), hint);
        }
        let mut number = |id: &mut Value| {
            let known = ids.iter().position(|known| known == id);
            let place = known.unwrap_or_else(|| {
                ids.push(id.clone());
                ids.len() - 1
            });
            *id = place.into();
        };
        each(message, "tool_calls")
            .filter_map(|call| call.get_mut("id"))
            .for_each(&mut number);
        message.get_mut("tool_call_id").into_iter().for_each(number);
        default(message, "content", &json!([]));
    }
    let map = object(body);
    if let Some(functions) = map.shift_remove("functions") {
        let tool = |function: &Value| json!({"type": "function", "function": function});
        map.insert(
            "tools".into(),
            functions.as_array().into_iter().flatten().map(tool).collect(),
        );
    }
    if let Some(choice) = map.shift_remove("function_call") {
        let named = choice.is_object();
        map.insert(
            "tool_choice".into(),
            if named {
                json!({"type": "function", "function": choice})
            } else {
                choice
            },
        );
    }
    if let Some(max) = map.shift_remove("max_tokens") {
        map.entry("max_completion_tokens").or_insert(max);
    }
    if let Some(stop) = map.get_mut("stop")
        && stop.is_string()
    {
        *stop = json!([stop.take()]);
    }
    if let Some(options) = map.get_mut("stream_options") {
        object(options).shift_remove("include_usage");
    }
    for word in REASONING {
        map.shift_remove(*word);
    }
    default(body, "stream_options", &json!({}));
    default(body, "stream", &json!(false));
    default(body, "n", &json!(1));
    default(body, "response_format", &json!({"type": "text"}));
    default(body, "modalities", &json!(["text"]));
    default(body, "tools", &json!([]));
    if body["tool_choice"] == "any" {
        body["tool_choice"] = "required".into();
    }
    // The schema of an answer must have a name; we give this one.
    if let Some(schema) = body.pointer_mut("/response_format/json_schema") {
        default(schema, "name", &json!("response"));
    }
}

/// Vendors' words for how hard to think.
const REASONING: &[&str] = &[
    "reasoning",
    "reasoning_effort",
    "thinking",
    "enable_thinking",
    "thinking_budget",
    "include_reasoning",
];

/// - `input` as a text is one message of the user;
/// - a message needs no `type`;
/// - texts of messages are parts: of input, or of output where the assistant speaks;
/// - `status` of what was completed goes without saying, and ids which the API made for items it does not keep;
/// - obfuscation is padding, which says nothing;
/// - `include` is a set, and may be empty like `tools`.
fn responses(body: &mut Value) {
    if let Some(input) = body.get_mut("input")
        && input.is_string()
    {
        *input = json!([{"role": "user", "content": input.take()}]);
    }
    for item in each(body, "input") {
        default(item, "status", &json!("completed"));
        let made = |id: &str| {
            ["rs_", "fc_", "msg_", "ctc_"]
                .iter()
                .any(|prefix| id.starts_with(prefix))
        };
        if item["id"].as_str().is_some_and(made) {
            object(item).shift_remove("id");
        }
        if item.get("role").is_some() && item.get("type").is_none_or(|kind| kind == "message") {
            default(item, "type", &json!("message"));
            let kind = if item["role"] == "assistant" {
                "output_text"
            } else {
                "input_text"
            };
            parts(item, "content", kind);
            for part in each(item, "content") {
                default(part, "annotations", &json!([]));
                default(part, "logprobs", &json!([]));
            }
        }
        if matches!(
            item["type"].as_str(),
            Some("function_call_output" | "custom_tool_call_output")
        ) {
            parts(item, "output", "input_text");
        }
    }
    if let Some(include) = body.get_mut("include").and_then(Value::as_array_mut) {
        include.sort_by_key(Value::to_string);
    }
    default(body, "include", &json!([]));
    default(body, "stream_options", &json!({"include_obfuscation": false}));
    default(body, "tools", &json!([]));
    default(body, "stream", &json!(false));
}

/// - `tool` is a tool of the client's, also if it says that it is `custom`;
/// - `is_error: false`, `strict: false` and an empty result go without saying;
/// - `output_format` is the beta's name of `output_config.format`.
fn anthropic(body: &mut Value) {
    parts(body, "system", "text");
    for message in each(body, "messages") {
        parts(message, "content", "text");
        for block in each(message, "content") {
            if block["type"] == "tool_result" {
                parts(block, "content", "text");
                default(block, "content", &json!([]));
            }
            if block["type"] == "document" {
                parts(&mut block["source"], "content", "text");
            }
        }
    }
    for tool in each(body, "tools") {
        default(tool, "type", &json!("custom"));
        default(tool, "strict", &json!(false));
    }
    if let Some(format) = object(body).shift_remove("output_format") {
        let config = object(body).entry("output_config").or_insert_with(|| json!({}));
        object(config).insert("format".into(), format);
    }
    default(body, "stream", &json!(false));
}
