//! Requests, read: tools, and which are to be called.

use serde_json::{Map, Value};

use super::{DIALECT, decode_content};
use crate::dialects::codec::RequestError;
use crate::dialects::values::{boolean, field, fields, object, string};
use crate::ir::{Native, Request, Set, Tool, ToolChoice, ToolDefinition};

/// A tool. Those of the client's have no type, or `custom`; all others are the provider's (`web_search_20250305` ...).
pub(super) fn tool(value: Value, at: &str) -> Result<Tool, RequestError> {
    let mut map = object(value, at)?;
    let mut native = Vec::new();
    let cache = decode_content::cache(&mut map, at, &mut native);
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("custom");
    if kind != "custom" {
        let definition = Native {
            dialect: DIALECT,
            at: at.into(),
            key: kind.into(),
            json: Value::Object(map),
        };
        return Ok(Tool {
            kind: ToolDefinition::Native(definition),
            cache,
            at: at.into(),
            native,
        });
    }
    let (mut name, mut description, mut parameters, mut strict) = (String::new(), None, None, None);
    for (key, value) in fields(map) {
        match key.as_str() {
            "type" => {}
            "name" => name = string(value, &field(at, "name"))?,
            "description" => description = Some(string(value, &field(at, "description"))?),
            "input_schema" => parameters = Some(value),
            "strict" => strict = Some(boolean(&value, &field(at, "strict"))?),
            _ => native.push(Native::field(DIALECT, at, &key, value)),
        }
    }
    Ok(Tool {
        kind: ToolDefinition::Function {
            name,
            description,
            parameters,
            strict,
            namespace: None,
        },
        cache,
        at: at.into(),
        native,
    })
}

/// `tool_choice`, which also says whether several may be called at once.
pub(super) fn choice(request: &mut Request, mut map: Map<String, Value>) -> Result<(), RequestError> {
    const DISABLE: &str = "tool_choice.disable_parallel_tool_use";
    if let Some(value) = map
        .shift_remove("disable_parallel_tool_use")
        .filter(|value| !value.is_null())
    {
        request.parallel_tool_calls = Some(Set::new(!boolean(&value, DISABLE)?, DISABLE));
    }
    let word = |key: &str| map.get(key).and_then(Value::as_str);
    let choice = match (word("type"), word("name"), map.len()) {
        (Some("auto"), None, 1) => ToolChoice::Auto,
        (Some("none"), None, 1) => ToolChoice::None,
        (Some("any"), None, 1) => ToolChoice::Required,
        (Some("tool"), Some(name), 2) => ToolChoice::Tool(name.to_owned()),
        _ => ToolChoice::Native(Native::field(DIALECT, "", "tool_choice", Value::Object(map))),
    };
    request.tool_choice = Some(Set::new(choice, "tool_choice"));
    Ok(())
}
