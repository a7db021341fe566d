//! Tools, the choice among them, and the form of the answer, read.

use serde_json::{Map, Value};

use super::DIALECT;
use super::request::{objects, required};
use crate::dialects::RequestError;
use crate::dialects::values::{boolean, field, fields, object, string};
use crate::ir::{Format, Native, Tool, ToolChoice, ToolDefinition};

/// The tools of a list at `at`: that of the request, or of an item of the input which carries tools.
pub(super) fn tools(value: Value, at: &str, tools: &mut Vec<Tool>) -> Result<(), RequestError> {
    for (at, map) in objects(value, at)? {
        tool(map, at, None, tools)?;
    }
    Ok(())
}

fn tool(
    mut map: Map<String, Value>,
    at: String,
    namespace: Option<&str>,
    tools: &mut Vec<Tool>,
) -> Result<(), RequestError> {
    let kind = map.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
    let mut native = Vec::new();
    let definition = match kind.as_str() {
        "function" => {
            let name = required(&mut map, &at, "name")?;
            let (mut description, mut parameters, mut strict) = (None, None, None);
            for (key, value) in fields(map) {
                match key.as_str() {
                    "type" => {}
                    "description" => description = Some(string(value, &field(&at, "description"))?),
                    "parameters" => parameters = Some(Value::Object(object(value, &field(&at, "parameters"))?)),
                    "strict" => strict = Some(boolean(&value, &field(&at, "strict"))?),
                    key => native.push(Native::field(DIALECT, &at, key, value)),
                }
            }
            ToolDefinition::Function {
                name,
                description,
                parameters,
                strict,
                namespace: namespace.map(str::to_owned),
            }
        }
        "custom" => {
            let name = required(&mut map, &at, "name")?;
            let (mut description, mut format) = (None, None);
            for (key, value) in fields(map) {
                match key.as_str() {
                    "type" => {}
                    "description" => description = Some(string(value, &field(&at, "description"))?),
                    "format" => format = Some(value),
                    key => native.push(Native::field(DIALECT, &at, key, value)),
                }
            }
            ToolDefinition::Custom {
                name,
                description,
                format,
                namespace: namespace.map(str::to_owned),
            }
        }
        "namespace" if namespace.is_none() && map.get("tools").is_some_and(|list| list != &Value::Array(vec![])) => {
            return group(map, &at, tools);
        }
        kind => ToolDefinition::Native(Native {
            dialect: DIALECT,
            at: at.as_str().into(),
            key: kind.into(),
            json: Value::Object(map),
        }),
    };
    tools.push(Tool {
        kind: definition,
        cache: None,
        at: at.into(),
        native,
    });
    Ok(())
}

/// A namespace: its tools are on offer one by one, and what it says of itself is kept with the first of them.
fn group(mut map: Map<String, Value>, at: &str, tools: &mut Vec<Tool>) -> Result<(), RequestError> {
    let name = required(&mut map, at, "name")?;
    let inner = map.shift_remove("tools").unwrap_or_default();
    let first = tools.len();
    for (at, map) in objects(inner, &field(at, "tools"))? {
        tool(map, at, Some(&name), tools)?;
    }
    if let Some(first) = tools.get_mut(first) {
        let own = fields(map).filter(|(key, _)| key != "type");
        first
            .native
            .extend(own.map(|(key, value)| Native::field(DIALECT, at, &key, value)));
    }
    Ok(())
}

/// `tool_choice`.
pub(super) fn choice(value: Value) -> Result<ToolChoice, RequestError> {
    const AT: &str = "tool_choice";
    let native = |value| ToolChoice::Native(Native::field(DIALECT, "", AT, value));
    let map = match value {
        Value::String(word) => {
            return Ok(match word.as_str() {
                "auto" => ToolChoice::Auto,
                "none" => ToolChoice::None,
                "required" => ToolChoice::Required,
                _ => native(Value::String(word)),
            });
        }
        value => object(value, AT)?,
    };
    Ok(match map.get("type").and_then(Value::as_str) {
        Some("function" | "custom") if map.len() == 2 => match map.get("name") {
            Some(Value::String(name)) => ToolChoice::Tool(name.clone()),
            _ => native(Value::Object(map)),
        },
        Some("allowed_tools") => match allowed(&map) {
            Some(choice) => choice,
            None => native(Value::Object(map)),
        },
        _ => native(Value::Object(map)),
    })
}

/// Some of the client's own tools; `None` where anything else is among them.
fn allowed(map: &Map<String, Value>) -> Option<ToolChoice> {
    let required = match map.get("mode")?.as_str()? {
        "auto" => false,
        "required" => true,
        _ => return None,
    };
    let name = |tool: &Value| match tool["type"].as_str() {
        Some("function" | "custom") if tool.as_object().is_some_and(|tool| tool.len() == 2) => {
            tool["name"].as_str().map(str::to_owned)
        }
        _ => None,
    };
    let names = map.get("tools")?.as_array()?.iter().map(name).collect::<Option<_>>()?;
    (map.len() == 3).then_some(ToolChoice::Allowed { required, names })
}

/// `text.format`.
pub(super) fn format(value: Value) -> Result<Format, RequestError> {
    const AT: &str = "text.format";
    let mut map = object(value, AT)?;
    Ok(match map.get("type").and_then(Value::as_str) {
        Some("text") if map.len() == 1 => Format::Text,
        Some("json_object") if map.len() == 1 => Format::JsonObject,
        // Some clients leave the type out; the schema says it.
        Some("json_schema") | None if map.get("schema").is_some_and(Value::is_object) => {
            let mut text = |name| {
                map.shift_remove(name)
                    .filter(|value| !value.is_null())
                    .map(|v| string(v, &field(AT, name)))
                    .transpose()
            };
            let (name, description) = (text("name")?, text("description")?);
            let schema = map.shift_remove("schema").unwrap_or_default();
            let strict = map.get("strict").filter(|value| !value.is_null());
            let strict = strict.map(|value| boolean(value, "text.format.strict")).transpose()?;
            Format::JsonSchema {
                name,
                description,
                schema,
                strict,
            }
        }
        _ => Format::Native(Native::field(DIALECT, "text", "format", Value::Object(map))),
    })
}
