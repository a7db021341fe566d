//! JSON Schemas as the API takes them.
//!
//! Of tools: one object at the top, without `anyOf`, `oneOf` or `allOf` beside it (the API's error says so; its documents
//! do not). Of answers, and of strict tools: Anthropic's page on structured outputs: `additionalProperties: false` on each
//! object, no bounds of numbers, lengths or counts beyond `minItems` of 0 or 1, no `oneOf`.

use serde_json::{Map, Value, json};

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 64;

/// Keywords which can't be enforced. Anthropic's own clients move them into the description.
const BOUNDS: [&str; 15] = [
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "maxItems",
    "uniqueItems",
    "contains",
    "minProperties",
    "maxProperties",
    "patternProperties",
    "propertyNames",
    "not",
];

/// Formats of strings that can be enforced.
const FORMATS: [&str; 9] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
];

/// The schema of a tool's arguments, and whether its meaning changed.
pub(super) fn input(schema: Option<&Value>) -> (Value, bool) {
    let empty = || json!({"type": "object", "properties": {}});
    let map = match schema {
        None | Some(Value::Null | Value::Bool(true)) => return (empty(), false),
        Some(Value::Object(map)) => map,
        Some(_) => return (empty(), true),
    };
    let mut map = resolved(map.clone());
    let mut changed = false;
    for key in ["allOf", "anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = map.shift_remove(key) {
            changed = true;
            merge(&mut map, branches, key == "allOf");
        }
    }
    match map.get("type") {
        Some(Value::String(kind)) if kind == "object" => {}
        Some(Value::Array(kinds)) if kinds.iter().any(|kind| kind == "object") => {
            changed = true;
            map.insert("type".into(), "object".into());
        }
        Some(_) => {
            // Arguments are an object: what is none becomes a field of one.
            let wrapped = json!({"type": "object", "properties": {"value": Value::Object(map)}, "required": ["value"]});
            return (wrapped, true);
        }
        None => {
            let mut typed = Map::new();
            typed.insert("type".into(), "object".into());
            typed.extend(map);
            map = typed;
        }
    }
    (Value::Object(map), changed)
}

/// The definition a top-level `$ref` names, in its place.
fn resolved(mut map: Map<String, Value>) -> Map<String, Value> {
    let target = map
        .get("$ref")
        .and_then(Value::as_str)
        .and_then(|path| path.strip_prefix("#/"));
    let found = target.and_then(|path| {
        let (group, name) = path.split_once('/')?;
        map.get(group)?.get(name)?.as_object().cloned()
    });
    if let Some(found) = found {
        map.shift_remove("$ref");
        for (key, value) in found {
            map.entry(key).or_insert(value);
        }
    }
    map
}

/// Takes alternatives at the top into one object: all their properties; required is what all of them require (each of
/// them, where all hold at once).
fn merge(map: &mut Map<String, Value>, branches: Vec<Value>, all_hold: bool) {
    let mut required: Option<Vec<Value>> = None;
    for branch in branches {
        let Value::Object(branch) = branch else { continue };
        let mut branch = match branch.get("$ref") {
            Some(_) => {
                let mut with = branch;
                for group in ["$defs", "definitions"] {
                    if let Some(definitions) = map.get(group) {
                        with.insert(group.into(), definitions.clone());
                    }
                }
                resolved(with)
            }
            None => branch,
        };
        let names = match branch.shift_remove("required") {
            Some(Value::Array(names)) => names,
            _ => Vec::new(),
        };
        required = Some(match required {
            None => names,
            Some(mut before) if all_hold => {
                before.extend(names);
                before
            }
            Some(before) => before.into_iter().filter(|name| names.contains(name)).collect(),
        });
        if let Some(Value::Object(properties)) = branch.shift_remove("properties") {
            let all = map.entry("properties").or_insert_with(|| Value::Object(Map::new()));
            for (name, schema) in properties {
                property(all, name, schema);
            }
        }
        map.entry("description")
            .or_insert_with(|| branch.shift_remove("description").unwrap_or_default());
    }
    if map.get("description").is_some_and(Value::is_null) {
        map.shift_remove("description");
    }
    let both = map.entry("required").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(both) = both {
        for name in required.unwrap_or_default() {
            if !both.contains(&name) {
                both.push(name);
            }
        }
        if both.is_empty() {
            map.shift_remove("required");
        }
    }
}

fn property(all: &mut Value, name: String, schema: Value) {
    let Value::Object(all) = all else { return };
    match all.get_mut(&name) {
        None => drop(all.insert(name, schema)),
        Some(before) if *before == schema => {}
        Some(before) => match before.get_mut("anyOf") {
            Some(Value::Array(alternatives)) => alternatives.push(schema),
            _ => *before = json!({"anyOf": [before.take(), schema]}),
        },
    }
}

/// A strict schema: nothing would have to be changed to enforce it.
pub(super) fn is_strict(schema: &Value) -> bool {
    !enforceable(&mut schema.clone(), 0)
}

/// The schema of an answer, and whether its meaning changed. Its name becomes its title.
pub(super) fn output(schema: &Value, name: Option<&str>, description: Option<&str>) -> (Value, bool) {
    let mut schema = schema.clone();
    let changed = enforceable(&mut schema, 0);
    if let Value::Object(map) = &mut schema {
        for (key, text) in [("title", name), ("description", description)] {
            if let Some(text) = text.filter(|_| !map.contains_key(key)) {
                map.insert(key.into(), text.into());
            }
        }
    }
    (schema, changed)
}

/// Makes a schema one that can be enforced; true if something had to be changed.
fn enforceable(schema: &mut Value, depth: usize) -> bool {
    let Value::Object(map) = schema else { return false };
    if depth > MAX_DEPTH {
        return false;
    }
    let mut changed = false;
    let mut notes = Vec::new();
    for key in BOUNDS {
        if let Some(value) = map.shift_remove(key) {
            notes.push(format!("{key}: {value}"));
        }
    }
    if map
        .get("minItems")
        .is_some_and(|items| items.as_u64().is_none_or(|items| items > 1))
    {
        notes.extend(map.shift_remove("minItems").map(|items| format!("minItems: {items}")));
    }
    let format = map.get("format").and_then(Value::as_str);
    if format.is_some_and(|format| !FORMATS.contains(&format) && format != "uuid") {
        notes.extend(map.shift_remove("format").map(|format| format!("format: {format}")));
    }
    if !notes.is_empty() {
        changed = true;
        let notes = format!("{{{}}}", notes.join(", "));
        let description = match map.get("description").and_then(Value::as_str) {
            Some(description) => format!("{description}\n\n{notes}"),
            None => notes,
        };
        map.insert("description".into(), description.into());
    }
    if let Some(alternatives) = map.shift_remove("oneOf") {
        changed = true;
        map.entry("anyOf").or_insert(alternatives);
    }
    let is_object = map.get("type").is_some_and(|kind| kind == "object") || map.contains_key("properties");
    if is_object && map.get("additionalProperties") != Some(&Value::Bool(false)) {
        changed = true;
        map.insert("additionalProperties".into(), false.into());
    }
    for (key, inner) in map.iter_mut() {
        match (key.as_str(), inner) {
            ("properties" | "$defs" | "definitions", Value::Object(named)) => {
                for inner in named.values_mut() {
                    changed |= enforceable(inner, depth + 1);
                }
            }
            ("anyOf" | "allOf" | "prefixItems", Value::Array(list)) => {
                for inner in list {
                    changed |= enforceable(inner, depth + 1);
                }
            }
            ("items", inner) => changed |= enforceable(inner, depth + 1),
            _ => {}
        }
    }
    changed
}
