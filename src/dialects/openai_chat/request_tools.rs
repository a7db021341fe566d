//! The tools of a request and how they may be used, read and written (OpenAI's reference: `tools`, `tool_choice`, and
//! the older `functions`, `function_call`).

use serde_json::{Map, Value, json};

use super::natives::{keep, restore};
use super::vendor::Vendor;
use super::{DIALECT, decode_parts};
use crate::dialects::RequestError;
use crate::dialects::values::{element, field, object, string};
use crate::ir::{LossReport, Native, Request, Set, Tool, ToolChoice, ToolDefinition};

/// Reads `tools`.
pub(super) fn tools(request: &mut Request, list: Vec<Value>) -> Result<(), RequestError> {
    for (index, value) in list.into_iter().enumerate() {
        let at = element("tools", index);
        request.tools.push(tool(object(value, &at)?, at)?);
    }
    Ok(())
}

/// Reads `functions`, the form before tools.
pub(super) fn functions(request: &mut Request, list: Vec<Value>) -> Result<(), RequestError> {
    for (index, value) in list.into_iter().enumerate() {
        let at = element("functions", index);
        let mut natives = Vec::new();
        let kind = function(&mut natives, object(value, &at)?, &at)?;
        request.tools.push(Tool {
            kind,
            cache: None,
            at: at.into(),
            native: natives,
        });
    }
    Ok(())
}

fn tool(mut map: Map<String, Value>, at: String) -> Result<Tool, RequestError> {
    let mut natives = Vec::new();
    let kind = match map.get("type").and_then(Value::as_str) {
        Some("function") | None if map.get("function").is_some_and(Value::is_object) => {
            let at = field(&at, "function");
            let inner = map.shift_remove("function").unwrap_or_default();
            function(&mut natives, object(inner, &at)?, &at)?
        }
        Some("custom") if map.get("custom").is_some_and(Value::is_object) => {
            let at = field(&at, "custom");
            let mut inner = object(map.shift_remove("custom").unwrap_or_default(), &at)?;
            let kind = ToolDefinition::Custom {
                name: string(inner.shift_remove("name").unwrap_or_default(), &field(&at, "name"))?,
                description: text(&mut inner, "description", &at)?,
                format: inner.shift_remove("format").map(flat_grammar),
                namespace: None,
            };
            keep(&mut natives, &at, inner);
            kind
        }
        kind => {
            let key = kind.unwrap_or("tool").into();
            let native = Native {
                dialect: DIALECT,
                at: at.as_str().into(),
                key,
                json: Value::Object(map),
            };
            return Ok(Tool {
                kind: ToolDefinition::Native(native),
                cache: None,
                at: at.into(),
                native: natives,
            });
        }
    };
    map.shift_remove("type");
    let cache = decode_parts::cache(&mut map, &at);
    keep(&mut natives, &at, map);
    Ok(Tool {
        kind,
        cache,
        at: at.into(),
        native: natives,
    })
}

fn function(natives: &mut Vec<Native>, mut map: Map<String, Value>, at: &str) -> Result<ToolDefinition, RequestError> {
    let kind = ToolDefinition::Function {
        name: string(map.shift_remove("name").unwrap_or_default(), &field(at, "name"))?,
        description: text(&mut map, "description", at)?,
        parameters: map.shift_remove("parameters").filter(|schema| !schema.is_null()),
        strict: map.shift_remove("strict").and_then(|strict| strict.as_bool()),
        namespace: None,
    };
    keep(natives, at, map);
    Ok(kind)
}

fn text(map: &mut Map<String, Value>, key: &str, at: &str) -> Result<Option<String>, RequestError> {
    match map.shift_remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => string(value, &field(at, key)).map(Some),
    }
}

/// A custom tool's grammar as the hub has it: `{type, syntax, definition}`. Here the last two stand in an object of
/// their own.
fn flat_grammar(mut format: Value) -> Value {
    if let Some(map) = format.as_object_mut()
        && let Some(Value::Object(grammar)) = map.shift_remove("grammar")
    {
        map.extend(grammar);
    }
    format
}

fn nested_grammar(format: &Value) -> Value {
    match format.as_object() {
        Some(map) if map.get("type").is_some_and(|kind| kind == "grammar") && !map.contains_key("grammar") => {
            let mut grammar = map.clone();
            grammar.shift_remove("type");
            json!({"type": "grammar", "grammar": grammar})
        }
        _ => format.clone(),
    }
}

/// Reads `tool_choice` or `function_call`.
pub(super) fn choice(request: &mut Request, key: &str, value: Value) -> Result<(), RequestError> {
    let at = if key == "tool_choice" {
        "tool_choice"
    } else {
        "function_call"
    };
    if request.tool_choice.is_some() {
        // The older form beside the newer one.
        request.native.push(Native::field(DIALECT, "", at, value));
        return Ok(());
    }
    let name = |value: &Value| value["name"].as_str().map(str::to_owned);
    let choice = match &value {
        Value::String(word) => match word.as_str() {
            "auto" => Some(ToolChoice::Auto),
            "none" => Some(ToolChoice::None),
            // The second is Mistral's.
            "required" | "any" => Some(ToolChoice::Required),
            _ => None,
        },
        Value::Object(map) => match map.get("type").and_then(Value::as_str) {
            Some("function") => name(&value["function"]).map(ToolChoice::Tool),
            Some("custom") => name(&value["custom"]).map(ToolChoice::Tool),
            Some("allowed_tools") => allowed(&value["allowed_tools"]),
            None if at == "function_call" => name(&value).map(ToolChoice::Tool),
            None => name(&value["function"]).map(ToolChoice::Tool),
            Some(_) => None,
        },
        _ => return Err(RequestError::must_be(at, "a string or an object")),
    };
    let choice = choice.unwrap_or_else(|| ToolChoice::Native(Native::field(DIALECT, "", at, value)));
    request.tool_choice = Some(Set::new(choice, at));
    Ok(())
}

fn allowed(value: &Value) -> Option<ToolChoice> {
    let names = value["tools"].as_array()?.iter().map(|tool| {
        let named = [&tool["function"]["name"], &tool["custom"]["name"], &tool["name"]];
        named.into_iter().find_map(Value::as_str).map(str::to_owned)
    });
    Some(ToolChoice::Allowed {
        required: value["mode"] == "required",
        names: names.collect::<Option<_>>()?,
    })
}

/// Writes the tools and how they may be used.
pub(super) fn encode(body: &mut Map<String, Value>, request: &Request, vendor: Vendor, loss: &mut LossReport) {
    let mut tools: Vec<(&str, Value)> = Vec::new();
    for tool in &request.tools {
        let written = match &tool.kind {
            ToolDefinition::Function {
                name,
                description,
                parameters,
                strict,
                ..
            } => {
                let mut inner = json!({"name": name});
                set(&mut inner, "description", description);
                set(&mut inner, "parameters", parameters);
                set(&mut inner, "strict", strict);
                Some((name.as_str(), json!({"type": "function", "function": inner})))
            }
            ToolDefinition::Custom {
                name,
                description,
                format,
                ..
            } => {
                let mut inner = json!({"name": name});
                set(&mut inner, "description", description);
                set(&mut inner, "format", &format.as_ref().map(nested_grammar));
                Some((name.as_str(), json!({"type": "custom", "custom": inner})))
            }
            ToolDefinition::Native(native) => {
                let mut own = None;
                Native::settle([native], DIALECT, loss, |native| own = Some(("", native.json.clone())));
                own
            }
        };
        let Some((name, mut written)) = written else {
            continue;
        };
        let at = match tool.at.starts_with("functions[") {
            // Its fields stood where those of `function` stand now.
            true => tool.at.to_string(),
            false => String::new(),
        };
        if let Some(map) = written.as_object_mut() {
            match map.get_mut("function").and_then(Value::as_object_mut) {
                Some(inner) if !at.is_empty() => restore(inner, &at, &tool.native, loss),
                _ => restore(map, &tool.at, &tool.native, loss),
            }
            decode_parts::write_cache(map, tool.cache.as_ref(), vendor, loss);
        }
        tools.push((name, written));
    }
    let choice = encode_choice(request, vendor, &mut tools, loss);
    let any = !tools.is_empty();
    if any {
        let tools: Vec<Value> = tools.into_iter().map(|(_, tool)| tool).collect();
        body.insert("tools".into(), tools.into());
    }
    if let Some(choice) = choice {
        body.insert("tool_choice".into(), choice);
    }
    match &request.parallel_tool_calls {
        // Providers refuse the field where there are no tools; and true is the default.
        Some(set) if any && !set.value => {
            body.insert("parallel_tool_calls".into(), false.into());
        }
        _ => {}
    }
}

fn set<T: serde::Serialize>(object: &mut Value, key: &str, value: &Option<T>) {
    if let Some(value) = value {
        object[key] = json!(value);
    }
}

fn encode_choice(
    request: &Request,
    vendor: Vendor,
    tools: &mut Vec<(&str, Value)>,
    loss: &mut LossReport,
) -> Option<Value> {
    let set = request.tool_choice.as_ref()?;
    if tools.is_empty() {
        // Providers refuse a choice among nothing.
        if !matches!(set.value, ToolChoice::Auto | ToolChoice::None) {
            loss.dropped(set.at, "there are no tools to choose from");
        }
        return None;
    }
    let is_custom = |name: &str| {
        let named = |tool: &Tool| matches!(&tool.kind, ToolDefinition::Custom { name: n, .. } if n == name);
        request.tools.iter().any(named)
    };
    let by_name = |name: &str| match is_custom(name) {
        true => json!({"type": "custom", "custom": {"name": name}}),
        false => json!({"type": "function", "function": {"name": name}}),
    };
    Some(match &set.value {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        // Mistral had `any` before; it takes both now.
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => by_name(name),
        ToolChoice::Allowed { required, names } => {
            let mode = if *required { "required" } else { "auto" };
            let is_allowed = |name: &str| names.iter().any(|allowed| allowed == name);
            if tools.iter().all(|(name, _)| is_allowed(name)) {
                return Some(mode.into());
            }
            if vendor.is_openai() {
                let tools: Vec<Value> = names.iter().map(|name| by_name(name)).collect();
                return Some(json!({"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}));
            }
            if let ([name], true) = (names.as_slice(), *required) {
                return Some(by_name(name));
            }
            loss.approximated(
                set.at,
                "only the allowed tools are offered, as the provider can't be told to keep to them",
            );
            tools.retain(|(name, _)| name.is_empty() || is_allowed(name));
            mode.into()
        }
        ToolChoice::Native(native) => {
            let mut own = None;
            Native::settle([native], DIALECT, loss, |native| own = Some(native.json.clone()));
            return own;
        }
    })
}
