//! Arguments which are streamed value by value (Vertex AI's `partialArgs`): each has a JSON path, and strings come in
//! pieces.

use serde_json::{Map, Value};

use super::wire::PartialArg;

/// Longest array that is made for a path, and deepest path: what is beyond is not kept.
const MAX_INDEX: usize = 10_000;
const MAX_DEPTH: usize = 64;

/// One step of a path.
#[derive(Debug, PartialEq)]
enum Step<'p> {
    Key(&'p str),
    Index(usize),
}

/// Sets a value in the arguments; a piece of a string is appended to what is there.
pub(super) fn set(root: &mut Value, piece: &PartialArg<'_>) {
    let Some(steps) = steps(piece.path.as_str()) else {
        return;
    };
    let mut place = root;
    for step in steps {
        let next = match step {
            Step::Key(key) => {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                place.as_object_mut().map(|map| map.entry(key).or_insert(Value::Null))
            }
            Step::Index(index) => {
                if !place.is_array() {
                    *place = Value::Array(Vec::new());
                }
                place.as_array_mut().and_then(|list| {
                    if list.len() <= index {
                        list.resize(index + 1, Value::Null);
                    }
                    list.get_mut(index)
                })
            }
        };
        let Some(next) = next else { return };
        place = next;
    }
    let plain = piece
        .number
        .or(piece.boolean)
        .and_then(|raw| serde_json::from_str(raw).ok());
    match (place, piece.string.0.as_deref(), plain) {
        (Value::String(text), Some(more), _) => text.push_str(more),
        (place, Some(text), _) => *place = Value::String(text.to_owned()),
        (place, None, Some(value)) => *place = value,
        // `nullValue`, or the end of a string said without text.
        (_, None, None) => {}
    }
}

/// The steps of `$.a.b[0]['c']`; `None`: not a path, or too far.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut rest = path.strip_prefix('$').unwrap_or(path);
    let mut steps = Vec::new();
    while !rest.is_empty() && steps.len() < MAX_DEPTH {
        let step = if let Some(inner) = rest.strip_prefix("['").or_else(|| rest.strip_prefix("[\"")) {
            let quote = if rest.as_bytes()[1] == b'\'' { "']" } else { "\"]" };
            let (key, after) = inner.split_once(quote)?;
            rest = after;
            Step::Key(key)
        } else if let Some(inner) = rest.strip_prefix('[') {
            let (index, after) = inner.split_once(']')?;
            rest = after;
            Step::Index(index.parse().ok().filter(|index| *index <= MAX_INDEX)?)
        } else {
            let inner = rest.strip_prefix('.').unwrap_or(rest);
            let end = inner.find(['.', '[']).unwrap_or(inner.len());
            let (key, after) = inner.split_at(end);
            if key.is_empty() {
                return None;
            }
            rest = after;
            Step::Key(key)
        };
        steps.push(step);
    }
    (rest.is_empty() && !steps.is_empty()).then_some(steps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::dialects::loose::Str;

    fn piece(path: &'static str, text: &'static str) -> PartialArg<'static> {
        PartialArg {
            path: Str(Some(path.into())),
            string: Str(Some(text.into())),
            ..PartialArg::default()
        }
    }

    #[test]
    fn values_find_their_places_and_strings_grow() {
        let mut root = json!({"kept": 1});
        set(&mut root, &piece("$.a.b[1]", "x"));
        set(&mut root, &piece("$.a.b[1]", "y"));
        set(&mut root, &piece("$['it''s']", "never"));
        set(&mut root, &piece("$[\"a.b\"]", "z"));
        let number = PartialArg {
            path: Str(Some("$.n".into())),
            number: Some("12.50"),
            ..PartialArg::default()
        };
        set(&mut root, &number);
        for wrong in ["", "$", "$.", "$[x]", "$[99999999]", "$['a"] {
            set(&mut root, &piece(wrong, "never"));
        }
        let want = json!({"kept": 1, "a": {"b": [null, "xy"]}, "it''s": "never", "a.b": "z", "n": 12.5});
        assert_eq!(root, want);
    }
}
