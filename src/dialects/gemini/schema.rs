//! Google's `Schema` (a subset of OpenAPI 3.0, as protobuf's JSON writes it) read as JSON Schema 2020-12: reference of
//! `Schema`. The other way is not needed: `parametersJsonSchema` and `responseJsonSchema` take JSON Schema as it is.

use serde_json::{Map, Value, json};

use super::fields::{camel, numeric};

/// Rewrites a `Schema`. What is no `Schema` of Google's stays as it is.
pub(super) fn to_json_schema(schema: Value) -> Value {
    let Value::Object(fields) = schema else { return schema };
    let mut out = Map::new();
    let mut nullable = false;
    for (name, value) in fields {
        if value.is_null() && name != "default" && name != "example" {
            continue;
        }
        let key = camel(&name);
        match key.as_ref() {
            "type" => {
                if let Some(types) = types(value) {
                    out.insert("type".into(), types);
                }
            }
            "nullable" => nullable = value == Value::Bool(true),
            "properties" | "defs" | "$defs" | "definitions" => {
                let name = if key == "defs" { "$defs" } else { key.as_ref() };
                out.insert(name.into(), each(value));
            }
            "items" | "additionalProperties" | "not" => {
                out.insert(key.into_owned(), to_json_schema(value));
            }
            "anyOf" | "oneOf" | "allOf" | "prefixItems" => {
                let list = match value {
                    Value::Array(list) => Value::Array(list.into_iter().map(to_json_schema).collect()),
                    other => other,
                };
                out.insert(key.into_owned(), list);
            }
            "minItems" | "maxItems" | "minProperties" | "maxProperties" | "minLength" | "maxLength" | "minimum"
            | "maximum" => {
                out.insert(key.into_owned(), numeric(value));
            }
            "ref" | "$ref" => {
                out.insert("$ref".into(), value);
            }
            "example" => {
                out.insert("examples".into(), Value::Array(vec![value]));
            }
            "format" | "title" | "description" | "default" | "enum" | "required" | "pattern" | "propertyOrdering" => {
                out.insert(key.into_owned(), value);
            }
            // JSON Schema that stands where a `Schema` should.
            _ => {
                out.insert(name, value);
            }
        }
    }
    if nullable {
        allow_null(&mut out);
    }
    Value::Object(out)
}

fn each(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(name, schema)| (name, to_json_schema(schema)))
            .collect(),
        other => other,
    }
}

/// `STRING` is `string`; lists of types are JSON Schema already, but for their case. `None`: no type.
fn types(value: Value) -> Option<Value> {
    match value {
        Value::String(name) => {
            let name = name.to_ascii_lowercase();
            (name != "type_unspecified").then_some(Value::String(name))
        }
        Value::Array(list) => Some(Value::Array(list.into_iter().filter_map(types).collect())),
        other => Some(other),
    }
}

fn allow_null(schema: &mut Map<String, Value>) {
    if let Some(Value::Array(values)) = schema.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    if let Some(Value::Array(any)) = schema.get_mut("anyOf") {
        any.push(json!({"type": "null"}));
    }
    let refers = schema.contains_key("$ref");
    match schema.get_mut("type") {
        Some(Value::String(name)) if name != "null" => {
            let both = json!([name, "null"]);
            schema.insert("type".into(), both);
        }
        Some(Value::Array(names)) if !names.iter().any(|name| name == "null") => names.push("null".into()),
        Some(_) => {}
        None if refers => {
            let reference = std::mem::take(schema);
            schema.insert("anyOf".into(), json!([reference, {"type": "null"}]));
        }
        None => {}
    }
}
