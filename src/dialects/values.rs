//! Reading requests out of JSON trees: typed values, with the path of what is wrong. `null` reads as absent, as it does at
//! every provider.

use serde_json::{Map, Value};

use super::codec::RequestError;

/// The body as an object.
pub(super) fn body(bytes: &[u8]) -> Result<Map<String, Value>, RequestError> {
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(RequestError {
            path: "body".into(),
            why: "is not a JSON object".into(),
        }),
    }
}

/// The path of a field.
pub(super) fn field(parent: &str, name: &str) -> String {
    if parent.is_empty() {
        name.to_owned()
    } else {
        format!("{parent}.{name}")
    }
}

/// The path of an element.
pub(super) fn element(parent: &str, index: usize) -> String {
    format!("{parent}[{index}]")
}

pub(super) fn string(value: Value, at: &str) -> Result<String, RequestError> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(RequestError::must_be(at, "a string")),
    }
}

pub(super) fn boolean(value: &Value, at: &str) -> Result<bool, RequestError> {
    value.as_bool().ok_or_else(|| RequestError::must_be(at, "a boolean"))
}

pub(super) fn number(value: &Value, at: &str) -> Result<f64, RequestError> {
    value.as_f64().ok_or_else(|| RequestError::must_be(at, "a number"))
}

/// A whole number, also one written as `12.0`.
pub(super) fn whole(value: &Value, at: &str) -> Result<i64, RequestError> {
    let from_float = || {
        let float = value.as_f64()?;
        (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
    };
    value
        .as_i64()
        .or_else(from_float)
        .ok_or_else(|| RequestError::must_be(at, "a whole number"))
}

/// A whole number which is not negative.
pub(super) fn count(value: &Value, at: &str) -> Result<u64, RequestError> {
    whole(value, at)?
        .try_into()
        .map_err(|_| RequestError::must_be(at, "a whole number which is not negative"))
}

pub(super) fn list(value: Value, at: &str) -> Result<Vec<Value>, RequestError> {
    match value {
        Value::Array(list) => Ok(list),
        _ => Err(RequestError::must_be(at, "a list")),
    }
}

pub(super) fn object(value: Value, at: &str) -> Result<Map<String, Value>, RequestError> {
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(RequestError::must_be(at, "an object")),
    }
}

pub(super) fn strings(value: Value, at: &str) -> Result<Vec<String>, RequestError> {
    list(value, at)?
        .into_iter()
        .enumerate()
        .map(|(index, value)| string(value, &element(at, index)))
        .collect()
}

/// The fields of an object which are not `null`.
pub(super) fn fields(map: Map<String, Value>) -> impl Iterator<Item = (String, Value)> {
    map.into_iter().filter(|(_, value)| !value.is_null())
}
