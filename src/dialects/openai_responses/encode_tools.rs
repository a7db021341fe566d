//! Tools, the choice among them, and the form of the answer, written.

use serde_json::{Map, Value, json};

use super::DIALECT;
use super::encode_items::item_of;
use crate::ir::{Format, LossReport, Native, Set, Tool, ToolChoice, ToolDefinition};

/// What the schema of a function's arguments can't have at its top (its error `invalid_function_parameters`: "schema must have type 'object'
/// and not have 'oneOf'/'anyOf'/'allOf'/'enum'/'not' at the top level").
const NOT_AT_THE_TOP: [&str; 5] = ["oneOf", "anyOf", "allOf", "enum", "not"];

/// The list `tools`, without those which stood in items of the input.
pub(super) fn tools(tools: &[Tool], own: bool, loss: &mut LossReport) -> Vec<Value> {
    let listed = tools.iter().filter(|tool| !own || item_of(&tool.at).is_none());
    list(listed, own, loss)
}

/// Puts the items which carry tools back to where they stood.
pub(super) fn put_additional(tools: &[Tool], own: bool, items: &mut Vec<Value>, loss: &mut LossReport) {
    let mut rest: Vec<&Tool> = tools.iter().filter(|tool| own && item_of(&tool.at).is_some()).collect();
    while let Some(item) = rest.first().and_then(|tool| item_of(&tool.at)) {
        let (mut here, others): (Vec<_>, Vec<_>) = rest.iter().partition(|tool| item_of(&tool.at) == Some(item));
        rest = others;
        let list = list(here.drain(..), own, loss);
        let mut carrier = json!({"type": "additional_tools", "role": "developer", "tools": list});
        let fields = tools.iter().flat_map(|tool| &tool.native);
        for native in fields.filter(|native| is_field_of(native, item)) {
            carrier[native.key.as_ref()] = native.json.clone();
        }
        let place = item.trim_start_matches("input[").trim_end_matches(']').parse();
        items.insert(place.unwrap_or(usize::MAX).min(items.len()), carrier);
    }
}

/// True if the native is a field of the node at that path.
pub(super) fn is_field_of(native: &Native, node: &str) -> bool {
    let parent = native.at.strip_suffix(native.key.as_ref());
    parent.and_then(|parent| parent.strip_suffix('.')) == Some(node)
}

/// Tools of one group which follow each other are written as that group.
fn list<'t>(tools: impl Iterator<Item = &'t Tool>, own: bool, loss: &mut LossReport) -> Vec<Value> {
    let mut list: Vec<Value> = Vec::new();
    for tool in tools {
        let Some(written) = write(tool, own, loss) else {
            continue;
        };
        let (ToolDefinition::Function { namespace, .. } | ToolDefinition::Custom { namespace, .. }) = &tool.kind else {
            list.push(written);
            continue;
        };
        let Some(group) = namespace else {
            list.push(written);
            continue;
        };
        let same = |last: &&mut Value| last["type"] == "namespace" && last["name"] == group.as_str();
        if let Some(last) = list.last_mut().filter(same) {
            if let Some(inner) = last["tools"].as_array_mut() {
                inner.push(written);
            }
            continue;
        }
        let mut node = json!({"type": "namespace", "name": group, "description": ""});
        // What the group says of itself is with its first tool.
        let outer = tool.at.rsplit_once(".tools[").map_or("", |(outer, _)| outer);
        for native in tool.native.iter().filter(|native| is_field_of(native, outer)) {
            node[native.key.as_ref()] = native.json.clone();
        }
        node["tools"] = vec![written].into();
        list.push(node);
    }
    list
}

fn write(tool: &Tool, own: bool, loss: &mut LossReport) -> Option<Value> {
    if let Some(cache) = &tool.cache {
        loss.dropped(cache.at.to_string(), "prompts are cached without being asked");
    }
    let mut map = Map::new();
    let describe = |map: &mut Map<String, Value>, description: &Option<String>| {
        if let Some(description) = description {
            map.insert("description".into(), description.as_str().into());
        }
    };
    match &tool.kind {
        ToolDefinition::Function {
            name,
            description,
            parameters,
            strict,
            ..
        } => {
            map.insert("type".into(), "function".into());
            map.insert("name".into(), name.as_str().into());
            describe(&mut map, description);
            let parameters = match parameters {
                parameters if own => parameters.clone(),
                Some(schema) => Some(arguments_schema(schema, &tool.at, loss)),
                None => Some(json!({"type": "object", "properties": {}})),
            };
            let strict = match strict {
                Some(true) if !own && !parameters.as_ref().is_some_and(is_strict) => {
                    loss.approximated(
                        format!("{}.strict", tool.at),
                        "the schema is not one that can be kept strictly",
                    );
                    Some(false)
                }
                // Elsewhere the default is not to be strict; here it is.
                None if !own => Some(false),
                strict => *strict,
            };
            if let Some(parameters) = parameters {
                map.insert("parameters".into(), parameters);
            }
            if let Some(strict) = strict {
                map.insert("strict".into(), strict.into());
            }
        }
        ToolDefinition::Custom {
            name,
            description,
            format,
            ..
        } => {
            map.insert("type".into(), "custom".into());
            map.insert("name".into(), name.as_str().into());
            describe(&mut map, description);
            if let Some(format) = format {
                map.insert("format".into(), custom_format(format));
            }
        }
        ToolDefinition::Native(native) if native.dialect == DIALECT => return Some(native.json.clone()),
        ToolDefinition::Native(native) => {
            loss.dropped(native.at.to_string(), "a tool of one provider only");
            return None;
        }
    }
    Native::settle(&tool.native, DIALECT, loss, |native| {
        if is_field_of(native, &tool.at) {
            map.insert(native.key.to_string(), native.json.clone());
        }
    });
    Some(Value::Object(map))
}

/// Chat holds a grammar one level deeper than this API does.
fn custom_format(format: &Value) -> Value {
    match (format["type"].as_str(), &format["grammar"]) {
        (Some("grammar"), Value::Object(grammar)) => {
            let mut flat = grammar.clone();
            flat.insert("type".into(), "grammar".into());
            Value::Object(flat)
        }
        _ => format.clone(),
    }
}

/// A schema as the API takes it for arguments: of an object, with nothing but that at its top.
fn arguments_schema(schema: &Value, at: &str, loss: &mut LossReport) -> Value {
    let mut schema = schema.clone();
    let Value::Object(map) = &mut schema else {
        return json!({"type": "object", "properties": {}});
    };
    for key in NOT_AT_THE_TOP {
        if map.shift_remove(key).is_some() {
            loss.approximated(
                format!("{at}.parameters.{key}"),
                "a schema of arguments can't have it at its top there",
            );
        }
    }
    if map.get("type").and_then(Value::as_str) != Some("object") {
        map.insert("type".into(), "object".into());
    }
    map.entry("properties").or_insert_with(|| json!({}));
    schema
}

/// True if every object in the schema names all its properties as required and allows no others: what strict schemas
/// must do (OpenAI's guide "Structured model outputs").
fn is_strict(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => {
            let closed = || {
                let none = Map::new();
                let properties = map.get("properties").and_then(Value::as_object).unwrap_or(&none);
                let required = map.get("required").and_then(Value::as_array);
                let names = |name: &String| required.is_some_and(|list| list.iter().any(|entry| entry == name));
                map.get("additionalProperties") == Some(&Value::Bool(false)) && properties.keys().all(names)
            };
            let is_object = map.get("type").is_some_and(|kind| kind == "object");
            (!is_object || closed()) && map.values().all(is_strict)
        }
        Value::Array(list) => list.iter().all(is_strict),
        _ => true,
    }
}

/// `tool_choice`; `None` where it can't be said.
pub(super) fn choice(choice: &Set<ToolChoice>, tools: &[Tool], loss: &mut LossReport) -> Option<Value> {
    let named = |name: &String| {
        let custom = |tool: &Tool| matches!(&tool.kind, ToolDefinition::Custom { name: of, .. } if of == name);
        let kind = if tools.iter().any(custom) { "custom" } else { "function" };
        json!({"type": kind, "name": name})
    };
    Some(match &choice.value {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::Tool(name) => named(name),
        ToolChoice::Allowed { required, names } => {
            let mode = if *required { "required" } else { "auto" };
            json!({"type": "allowed_tools", "mode": mode, "tools": names.iter().map(named).collect::<Vec<_>>()})
        }
        ToolChoice::Native(native) if native.dialect == DIALECT => native.json.clone(),
        ToolChoice::Native(native) => {
            loss.dropped(native.at.to_string(), "a choice of one provider only");
            return None;
        }
    })
}

/// `text.format`; `None` where it can't be said.
pub(super) fn format(format: &Set<Format>, own: bool, loss: &mut LossReport) -> Option<Value> {
    Some(match &format.value {
        Format::Text => json!({"type": "text"}),
        Format::JsonObject => json!({"type": "json_object"}),
        Format::JsonSchema {
            name,
            description,
            schema,
            strict,
        } => {
            let mut map = Map::new();
            map.insert("type".into(), "json_schema".into());
            if name.is_none() {
                loss.synthesized(format.at, "a schema must have a name there");
            }
            map.insert("name".into(), name.as_deref().unwrap_or("answer").into());
            if let Some(description) = description {
                map.insert("description".into(), description.as_str().into());
            }
            map.insert("schema".into(), schema.clone());
            let strict = match strict {
                Some(true) if !own && !is_strict(schema) => {
                    loss.approximated(format.at, "the schema is not one that can be kept strictly");
                    Some(false)
                }
                strict => *strict,
            };
            if let Some(strict) = strict {
                map.insert("strict".into(), strict.into());
            }
            Value::Object(map)
        }
        Format::Native(native) if native.dialect == DIALECT => native.json.clone(),
        Format::Native(native) => {
            loss.dropped(native.at.to_string(), "a format of one provider only");
            return None;
        }
    })
}
