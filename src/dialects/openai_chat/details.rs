//! `reasoning_details`, the list in which OpenRouter returns reasoning with its provider-bound tokens and takes it back
//! ("Preserving reasoning blocks"): `reasoning.text` and `reasoning.summary` with a `signature`, `reasoning.encrypted`
//! with `data`.
//!
//! A token which came with a known `format` must go back with it, and with its `id`: there the hub's token is the whole
//! entry but its text, as JSON. Otherwise it is the bare signature or data, which never begins with a brace.

use std::borrow::Cow;

use serde_json::{Map, Value, json};

/// The field's name.
pub(super) const KEY: &str = "reasoning_details";
/// The format of entries whose maker is not known: it says nothing.
const UNKNOWN: &str = "unknown";

/// The token of an entry; `secret` is its signature or data.
pub(super) fn token<'s>(kind: &str, secret: &'s str, format: &str, id: &str) -> Cow<'s, str> {
    if format.is_empty() || format == UNKNOWN {
        return Cow::Borrowed(secret);
    }
    let field = if kind == "reasoning.encrypted" {
        "data"
    } else {
        "signature"
    };
    let mut entry = Map::new();
    entry.insert("type".into(), kind.into());
    entry.insert(field.into(), secret.into());
    entry.insert("format".into(), format.into());
    if !id.is_empty() {
        entry.insert("id".into(), id.into());
    }
    Cow::Owned(Value::Object(entry).to_string())
}

/// The entry of a token alone. `signs`: it is the signature of a text told elsewhere.
pub(super) fn token_entry(token: &str, signs: bool) -> Map<String, Value> {
    if token.starts_with('{')
        && let Ok(Value::Object(entry)) = serde_json::from_str(token)
        && entry.contains_key("type")
    {
        return entry;
    }
    match signs {
        true => object(json!({"type": "reasoning.text", "signature": token})),
        false => object(json!({"type": "reasoning.encrypted", "data": token})),
    }
}

/// The entries which say a text and its token; either may be empty.
pub(super) fn entries(text: &str, token: &str) -> Vec<Map<String, Value>> {
    let text_entry = || object(json!({"type": "reasoning.text", "text": text}));
    if token.is_empty() {
        return vec![text_entry()];
    }
    let mut entry = token_entry(token, !text.is_empty());
    if text.is_empty() {
        return vec![entry];
    }
    let field = match entry.get("type").and_then(Value::as_str) {
        // It has no room for a text.
        Some("reasoning.encrypted") => return vec![text_entry(), entry],
        Some("reasoning.summary") => "summary",
        _ => "text",
    };
    entry.insert(field.into(), text.into());
    vec![entry]
}

/// The object that `json!` made.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
