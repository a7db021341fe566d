//! What counts as the same request of Gemini (see `normal.rs`).

use serde_json::{Map, Value, json};

use crate::normal::{default, each, object};

/// - names are camelCase; protobuf's JSON also takes snake_case;
/// - a content without role is the user's;
/// - a lone content, part or tool is a list of one;
/// - types of schemas are the same in upper and lower case;
/// - numbers of schemas may be written as texts (int64), `nullable` as a type;
/// - a schema in Google's form is the same in JSON Schema's, in the field of that;
/// - a function's answer of one field is that field, as text;
/// - no settings, no arguments, `thought: false`, an empty text go without saying; words are upper case;
/// - an id of a call which another API made may be left out on both sides.
pub fn request(body: &mut Value) {
    *body = camel(body, false);
    default(body, "generationConfig", &json!({}));
    for word in [
        "/generationConfig/thinkingConfig/thinkingLevel",
        "/toolConfig/functionCallingConfig/mode",
    ] {
        if let Some(Value::String(word)) = body.pointer_mut(word) {
            *word = word.to_uppercase();
        }
    }
    if let Some(instruction) = body.get_mut("systemInstruction") {
        each(instruction, "parts").for_each(|part| default(part, "thought", &json!(false)));
    }
    for content in each(body, "contents") {
        if let Some(parts) = content.get_mut("parts").and_then(Value::as_array_mut) {
            parts.retain(|part| *part != json!({"text": ""}));
        }
        for part in each(content, "parts") {
            default(part, "thought", &json!(false));
            if part["thought"] == true {
                default(part, "text", &json!(""));
            }
            for kind in ["functionCall", "functionResponse"] {
                let foreign = part[kind]["id"].as_str().is_some_and(|id| id.starts_with("call_"));
                if foreign {
                    object(&mut part[kind]).shift_remove("id");
                }
            }
            if let Some(call) = part.get_mut("functionCall") {
                default(call, "args", &json!({}));
            }
            if let Some(response) = part.pointer_mut("/functionResponse/response")
                && let Value::Object(map) = response
                && map.len() == 1
                && let Some(only) = map.values_mut().next()
            {
                *response = only.take();
                if !response.is_string() && !response.is_object() {
                    *response = response.to_string().into();
                }
            }
        }
    }
    for tool in each(body, "tools") {
        for function in each(tool, "functionDeclarations") {
            as_json_schema(function, "parameters", "parametersJsonSchema");
            as_json_schema(function, "response", "responseJsonSchema");
        }
    }
    if let Some(config) = body.get_mut("generationConfig") {
        as_json_schema(config, "responseSchema", "responseJsonSchema");
    }
    let map = object(body);
    if let Some(instruction) = map.get_mut("systemInstruction") {
        if instruction.is_string() {
            *instruction = json!({"parts": [{"text": instruction.take()}]});
        }
        object(instruction).shift_remove("role");
    }
    // The path names the model.
    map.shift_remove("model");
    for content in each(body, "contents") {
        object(content).entry("role").or_insert_with(|| "user".into());
    }
}

fn as_json_schema(node: &mut Value, googles: &str, jsons: &str) {
    let map = object(node);
    let schema = map.shift_remove(googles).or_else(|| map.shift_remove(jsons));
    if let Some(schema) = schema {
        map.insert(jsons.into(), json_schema(&schema));
    }
}

fn json_schema(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => {
            let mut out = Map::new();
            for (key, value) in map {
                let number = |text: &str| text.parse::<i64>().map(Value::from).ok();
                if key == "example" {
                    out.insert("examples".into(), json!([value]));
                    continue;
                }
                let value = match (key.as_str(), value) {
                    ("nullable" | "propertyOrdering", _) => continue,
                    ("type", Value::String(kind)) => Value::String(kind.to_lowercase()),
                    ("type", Value::Array(kinds)) => {
                        let mut kinds = kinds.iter().filter(|kind| **kind != "null");
                        kinds.next().cloned().unwrap_or_default()
                    }
                    ("enum", Value::Array(words)) => words.iter().filter(|word| !word.is_null()).cloned().collect(),
                    (key, Value::String(text)) if key.starts_with("min") || key.starts_with("max") => {
                        number(text).unwrap_or_else(|| value.clone())
                    }
                    _ => json_schema(value),
                };
                let key = match key.as_str() {
                    "defs" => "$defs",
                    "ref" => "$ref",
                    key => key,
                };
                out.insert(key.to_owned(), value);
            }
            Value::Object(out)
        }
        Value::Array(list) => Value::Array(list.iter().map(json_schema).collect()),
        Value::String(text) => Value::String(text.replace("#/defs/", "#/$defs/")),
        _ => schema.clone(),
    }
}

/// Fields whose keys are the client's own words.
const OPEN: &[&str] = &[
    "args",
    "response",
    "parametersJsonSchema",
    "responseJsonSchema",
    "labels",
    "customConfigs",
];

fn camel(value: &Value, open: bool) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| {
                    let name = if open { key.clone() } else { camel_name(key) };
                    // A declaration's response is a schema, a function's is the client's own.
                    let inner = open || OPEN.contains(&name.as_str());
                    let value = match value {
                        Value::String(kind) if name == "type" => Value::String(kind.to_uppercase()),
                        _ if name == "properties" => names_kept(value, open),
                        _ => camel(value, inner),
                    };
                    (name, value)
                })
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(|value| camel(value, open)).collect()),
        _ => value.clone(),
    }
}

/// Properties of a schema: their names stay, what they are is a schema again.
fn names_kept(value: &Value, open: bool) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.iter()
                .map(|(key, value)| (key.clone(), camel(value, open)))
                .collect(),
        ),
        _ => value.clone(),
    }
}

fn camel_name(name: &str) -> String {
    let mut out = String::new();
    let mut up = false;
    for c in name.chars() {
        if c == '_' && !out.is_empty() {
            up = true;
        } else if std::mem::take(&mut up) {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}
