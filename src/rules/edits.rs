//! What a route changes in a request: fields of its body (`set`, `default`, `remove`) and its instructions (`system`).

use std::collections::HashSet;

use crate::config::fields::Fields;
use crate::config::value::Value;
use crate::dialects::settings::{self, MAX_SEGMENTS, PathError};

/// Most fields in one of `set`, `default` and `remove`.
const MAX_FIELDS: usize = 64;
/// Longest path of a field, in bytes.
const MAX_PATH: usize = 256;
/// Longest text added to the instructions, in bytes.
const MAX_TEXT: usize = 64 << 10;

/// Changes of a JSON body: dotted paths (`generationConfig.temperature`) or one of the gateway's own words
/// (`max_output_tokens`), which each dialect knows by its own name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Edits {
    /// Set, whatever the client says.
    pub set: Vec<(Box<str>, serde_json::Value)>,
    /// Set where the client says nothing.
    pub default: Vec<(Box<str>, serde_json::Value)>,
    /// Removed.
    pub remove: Vec<Box<str>>,
}

impl Edits {
    /// Nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.default.is_empty() && self.remove.is_empty()
    }
}

/// Texts added to a request's instructions (the system prompt).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Instructions {
    /// Before the client's.
    pub before: Option<Box<str>>,
    /// After them.
    pub after: Option<Box<str>>,
}

impl Instructions {
    /// Nothing is added.
    pub fn is_empty(&self) -> bool {
        self.before.is_none() && self.after.is_none()
    }
}

/// Reads `set`, `default` and `remove` of a route or a target.
///
/// A dotted key is the path of one field; what stands in braces replaces the field as a whole.
pub(super) fn edits(fields: &mut Fields<'_>) -> Edits {
    let mut seen = HashSet::new();
    let mut values = |name| {
        let Some(value) = fields.get(name) else {
            return Vec::new();
        };
        let mut found = Vec::new();
        if let Some(table) = value.table() {
            flatten(table, "", &mut found);
        }
        if found.len() > MAX_FIELDS {
            value.problem(format!("there may be {MAX_FIELDS} fields at most"));
        }
        let found = found.into_iter().take(MAX_FIELDS);
        found
            .filter_map(|(path, value)| {
                let json = value.json().map_err(|why| value.problem(why)).ok();
                Some((path_of(&path, &value, &mut seen)?, json?))
            })
            .collect()
    };
    let (set, default) = (values("set"), values("default"));
    let Some(value) = fields.get("remove") else {
        return Edits {
            set,
            default,
            remove: Vec::new(),
        };
    };
    let all = value.one_or_list();
    if all.len() > MAX_FIELDS {
        value.problem(format!("there may be {MAX_FIELDS} fields at most"));
    }
    let all = all.into_iter().take(MAX_FIELDS);
    let remove = all.filter_map(|value| path_of(value.string()?, &value, &mut seen));
    Edits {
        set,
        default,
        remove: remove.collect(),
    }
}

/// Every field of a table, those under dotted keys by their path.
fn flatten<'a>(table: Fields<'a>, prefix: &str, found: &mut Vec<(String, Value<'a>)>) {
    for (name, value) in table.entries() {
        let path = format!("{prefix}{name}");
        if found.len() > MAX_FIELDS || path.len() > MAX_PATH {
            found.push((path, value));
            return;
        }
        match value.is_dotted().then(|| value.table()).flatten() {
            Some(inner) => flatten(inner, &format!("{path}."), found),
            None => found.push((path, value)),
        }
    }
}

/// A path, checked as it is when a body is changed by it: each stands in one of the three only.
fn path_of(path: &str, value: &Value<'_>, seen: &mut HashSet<String>) -> Option<Box<str>> {
    let shape =
        format!("a field's path has 1 to {MAX_SEGMENTS} names with a point between two, and {MAX_PATH} bytes at most");
    let wrong = match settings::check(path) {
        _ if path.len() > MAX_PATH || path.contains(char::is_control) => shape,
        Err(PathError::Fixed(_)) if path == "model" => "a target's own model = \"NAME\" does this".to_owned(),
        Err(PathError::Fixed(_)) if path == "stream" => {
            "the route's upstream_stream = \"always\" or \"never\" does this".to_owned()
        }
        Err(why @ PathError::Fixed(_)) => why.to_string(),
        Err(why @ PathError::Malformed(_)) if path.contains('\\') => why.to_string(),
        Err(PathError::Malformed(_) | PathError::TooLong(_)) => shape,
        Ok(()) if !seen.insert(path.to_owned()) => {
            "this field is set, has a default or is removed already; keep one of them".to_owned()
        }
        Ok(()) => return Some(path.into()),
    };
    value.problem(wrong);
    None
}

/// Reads `system = { before, after }`.
pub(super) fn instructions(mut fields: Fields<'_>) -> Instructions {
    let mut text = |name| {
        let value = fields.get(name)?;
        let text = value.string()?;
        if text.trim().is_empty() || text.len() > MAX_TEXT {
            value.problem(format!(
                "it is a text of {} KiB at most; or leave it out",
                MAX_TEXT >> 10
            ));
            return None;
        }
        Some(text.into())
    };
    let instructions = Instructions {
        before: text("before"),
        after: text("after"),
    };
    fields.finish();
    instructions
}
