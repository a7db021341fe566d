//! Names of fields: protobuf's JSON takes camelCase and snake_case, also mixed in one object. We read both and write
//! camelCase.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::DIALECT;
use crate::dialects::codec::RequestError;
use crate::dialects::values;
use crate::ir::Native;

/// A field's name in camelCase.
pub(super) fn camel(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' if !out.is_empty() => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A field we have no type for, at `parent` in the client's words. `under` is where it is put back, in our words.
pub(super) fn native(parent: &str, name: &str, under: &str, json: Value) -> Native {
    let mut native = Native::field(DIALECT, parent, name, json);
    native.key = values::field(under, &camel(name).replace('.', DOT)).into();
    native
}

/// Stands for a dot in a field's name, where names are joined by dots.
const DOT: &str = "\0";

/// The name at the end of a native's key.
pub(super) fn name(key: &str) -> String {
    key.rsplit('.').next().unwrap_or(key).replace(DOT, ".")
}

/// Puts a value where a path of camelCase names leads, making the objects on the way.
pub(super) fn put(map: &mut Map<String, Value>, path: &str, json: Value) {
    match path.split_once('.') {
        None => {
            map.insert(name(path), json);
        }
        Some((first, rest)) => {
            let inner = map.entry(first).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, json);
            }
        }
    }
}

/// A number, also one written as a string: protobuf's JSON writes those of 64 bits so.
pub(super) fn numeric(value: Value) -> Value {
    match &value {
        Value::String(text) => match serde_json::from_str(text) {
            Ok(number @ Value::Number(_)) => number,
            _ => value,
        },
        _ => value,
    }
}

/// The elements of a list; a single object is a list of one.
pub(super) fn list_or_one(value: Value, at: &str) -> Result<Vec<Value>, RequestError> {
    match value {
        one @ (Value::Object(_) | Value::String(_)) => Ok(vec![one]),
        other => values::list(other, at),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_with_dots_is_one_name() {
        let dots = ".".repeat(200);
        for (under, expected) in [
            ("", json!({ "a.b": 1, &*dots: 2 })),
            (
                "toolConfig.new",
                json!({ "toolConfig": { "new": { "a.b": 1, &*dots: 2 } } }),
            ),
        ] {
            let mut map = Map::new();
            for (value, name) in [(1, "a.b"), (2, &dots)] {
                let native = native("at", name, under, value.into());
                put(&mut map, &native.key, native.json);
            }
            assert_eq!(Value::Object(map), expected);
        }
    }
}
