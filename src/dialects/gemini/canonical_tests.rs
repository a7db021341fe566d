//! Two requests that mean the same, made equal: for the home trip of recordings.

use serde_json::{Value, json};

use super::{fields, media, schema};

/// What may differ on the way home, made equal. Written so, each means what it meant:
/// - names in snake_case, settings that say nothing (`null`, `{}`), `role` of instructions and of results;
/// - `parameters` of OpenAPI's kind and `parametersJsonSchema` (`responseSchema` likewise);
/// - the wrapper of a result that is no object;
/// - functions grouped in one entry of `tools` or in several;
/// - `thought` and `includeThoughts` that are false; the choice of functions where there are none;
/// - base64 in either alphabet, empty texts, neighbours of one role as one content or as two.
pub(super) fn canonical(body: &Value) -> Value {
    let mut out = json!({});
    for (name, value) in body.as_object().expect("a body").iter().filter(|(_, v)| !v.is_null()) {
        let name = fields::camel(name);
        let value = match name.as_ref() {
            "model" => continue,
            "contents" => contents(value),
            "systemInstruction" => json!(parts(&value["parts"], value)),
            "tools" => tools(value),
            "generationConfig" => config(value),
            _ => names(value),
        };
        let empty = value.as_object().is_some_and(|map| map.is_empty()) || value == json!([]);
        if !empty {
            out[name.as_ref()] = value;
        }
    }
    let functions = out["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|tool| tool.get("functionDeclarations").is_some());
    if !functions && let Some(config) = out["toolConfig"].as_object_mut() {
        config.shift_remove("functionCallingConfig");
        if config.is_empty() {
            out.as_object_mut().expect("an object").shift_remove("toolConfig");
        }
    }
    out
}

/// Names in camelCase, all the way down.
fn names(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (fields::camel(name).into_owned(), names(value)))
            .collect(),
        Value::Array(list) => list.iter().map(names).collect(),
        Value::String(word) if word == "none" => json!("NONE"),
        other => other.clone(),
    }
}

fn parts(value: &Value, whole: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    if let Value::String(text) = whole {
        return vec![json!({ "text": text })];
    }
    for part in value.as_array().into_iter().flatten() {
        let mut flat = json!({});
        for (name, value) in part.as_object().expect("a part") {
            flat[fields::camel(name).as_ref()] = match fields::camel(name).as_ref() {
                "functionCall" => {
                    let mut call = names(value);
                    call["args"] = value.get("args").cloned().unwrap_or(json!({}));
                    // Ids of others' making are not sent back.
                    call.as_object_mut().expect("a call").shift_remove("id");
                    call
                }
                _ => names(value),
            };
        }
        let part = flat.as_object_mut().expect("a part");
        if part.get("thought") == Some(&json!(false)) {
            part.shift_remove("thought");
        }
        if let Some(data) = part.get_mut("inlineData") {
            data["data"] = media::standard_base64(data["data"].as_str().unwrap_or("").to_owned()).into();
        }
        if let Some(result) = part.get_mut("functionResponse").and_then(Value::as_object_mut) {
            result.shift_remove("id");
            if let Some(response) = result.get_mut("response").and_then(Value::as_object_mut)
                && response.len() == 1
                && let Some(text) = response.values().next().cloned()
                && !response.contains_key("error")
            {
                let text = text.as_str().map_or_else(|| text.to_string(), str::to_owned);
                *result.get_mut("response").expect("there") = match serde_json::from_str(&text) {
                    Ok(object @ Value::Object(_)) => object,
                    _ => json!({ "output": text }),
                };
            }
        }
        let says_something = part.iter().any(|(name, value)| {
            let empty = (name == "text" && value == "") || name == "thought";
            part.len() > 1 || !empty
        });
        if says_something {
            if part.get("text").is_none()
                && part.contains_key("thoughtSignature")
                && part.contains_key("thought")
                && part.len() == 2
            {
                part.insert("text".into(), "".into());
            }
            out.push(flat);
        }
    }
    out
}

fn contents(value: &Value) -> Value {
    let one = [value.clone()];
    let list = value.as_array().map_or(&one[..], Vec::as_slice);
    let mut out: Vec<(String, Vec<Value>)> = Vec::new();
    for content in list {
        let role = if content["role"] == "model" { "model" } else { "user" };
        let parts = parts(&content["parts"], content);
        if parts.is_empty() {
            continue;
        }
        match out.last_mut() {
            Some((last, known)) if last == role => known.extend(parts),
            _ => out.push((role.to_owned(), parts)),
        }
    }
    for (_, parts) in &mut out {
        parts.sort_by_key(|part| part.get("functionResponse").is_none());
    }
    json!(out)
}

fn tools(value: &Value) -> Value {
    let one = [value.clone()];
    let (mut functions, mut others) = (Vec::new(), Vec::new());
    for tool in value.as_array().map_or(&one[..], Vec::as_slice) {
        for (name, value) in tool.as_object().expect("a tool").iter().filter(|(_, v)| !v.is_null()) {
            if fields::camel(name) != "functionDeclarations" {
                let mut other = json!({});
                other[fields::camel(name).as_ref()] = value.clone();
                others.push(other);
                continue;
            }
            for function in value.as_array().into_iter().flatten() {
                let mut flat = json!({});
                for (name, value) in function
                    .as_object()
                    .expect("a function")
                    .iter()
                    .filter(|(_, v)| !v.is_null())
                {
                    match fields::camel(name).as_ref() {
                        "parameters" => flat["parametersJsonSchema"] = schema::to_json_schema(value.clone()),
                        name => flat[name] = value.clone(),
                    }
                }
                functions.push(flat);
            }
        }
    }
    if !functions.is_empty() {
        others.push(json!({ "functionDeclarations": functions }));
    }
    others.sort_by_key(|other| other.get("functionDeclarations").is_some());
    json!(others)
}

fn config(value: &Value) -> Value {
    let mut out = json!({});
    for (name, value) in value
        .as_object()
        .expect("settings")
        .iter()
        .filter(|(_, v)| !v.is_null())
    {
        match fields::camel(name).as_ref() {
            "responseSchema" => out["responseJsonSchema"] = schema::to_json_schema(value.clone()),
            "responseJsonSchema" => out["responseJsonSchema"] = value.clone(),
            "thinkingConfig" => {
                let mut thinking = names(value);
                if thinking["includeThoughts"] == false {
                    thinking
                        .as_object_mut()
                        .expect("settings")
                        .shift_remove("includeThoughts");
                }
                if let Some(level) = thinking["thinkingLevel"].as_str() {
                    thinking["thinkingLevel"] = level.to_uppercase().into();
                }
                let empty = |value: &Value| value.is_null();
                thinking
                    .as_object_mut()
                    .expect("settings")
                    .retain(|_, value| !empty(value));
                if thinking != json!({}) {
                    out["thinkingConfig"] = thinking;
                }
            }
            "stopSequences" if *value == json!([]) => {}
            name => out[name] = names(value),
        }
    }
    out
}
