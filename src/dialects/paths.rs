//! Paths: what dialects share in reading and writing them.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What must be encoded in a model's name within a path. `/`, `:` and `@` stand in names (`ft:gpt:acme`,
/// `publishers/x/models/y`) and providers read them as they are.
const IN_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b']')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A model's name as it is written into a path.
pub(super) fn encode(model: &str) -> String {
    utf8_percent_encode(model, IN_PATH).to_string()
}

/// A model's name read from a path; `None` if it is empty or not UTF-8.
pub(super) fn decode(name: &str) -> Option<String> {
    let name = percent_decode_str(name).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

/// A path with the client's query.
pub(super) fn with_query(path: String, query: &str) -> String {
    if query.is_empty() { path } else { path + "?" + query }
}

/// True if the query has a field of that name and value.
pub(super) fn query_has(query: &str, name: &str, value: Option<&str>) -> bool {
    query.split('&').any(|pair| {
        let (key, given) = pair.split_once('=').unwrap_or((pair, ""));
        key == name && value.is_none_or(|value| given == value)
    })
}
