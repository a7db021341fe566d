//! Fields only this dialect knows: kept with their path when a request is read, put back there when it is written.

use serde_json::{Map, Value};

use super::DIALECT;
use crate::ir::{LossReport, Native};

/// Keeps what is left of an object at `at`.
pub(super) fn keep(natives: &mut Vec<Native>, at: &str, rest: Map<String, Value>) {
    let known = rest.into_iter().filter(|(_, value)| !value.is_null());
    natives.extend(known.map(|(key, value)| Native::field(DIALECT, at, &key, value)));
}

/// Puts our own natives of the node at `at` back into its object; reports the others.
pub(super) fn restore(object: &mut Map<String, Value>, at: &str, natives: &[Native], loss: &mut LossReport) {
    Native::settle(natives, DIALECT, loss, |native| put(object, at, native));
}

fn put(object: &mut Map<String, Value>, at: &str, native: &Native) {
    let inside = native.at.strip_prefix(at).unwrap_or(&native.at);
    let parents = inside.strip_suffix(&*native.key).unwrap_or("");
    let mut place = object;
    for parent in parents.split('.').filter(|parent| !parent.is_empty()) {
        let inner = place.entry(parent).or_insert_with(|| Value::Object(Map::new()));
        match inner {
            Value::Object(inner) => place = inner,
            _ => return,
        }
    }
    place.insert(native.key.to_string(), native.json.clone());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_return_to_where_they_stood() {
        let natives = [
            Native::field(DIALECT, "messages[0]", "x", json!(1)),
            Native::field(DIALECT, "messages[0].function.deep", "y.z", json!(2)),
        ];
        let mut object = Map::new();
        let mut loss = LossReport::default();
        restore(&mut object, "messages[0]", &natives, &mut loss);
        assert_eq!(Value::Object(object), json!({"x": 1, "function": {"deep": {"y.z": 2}}}));
        assert!(loss.is_empty());
    }
}
