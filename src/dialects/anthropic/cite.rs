//! What texts refer to: this dialect's citations and the hub's.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::ir::Citation;

/// A citation as it stands on the wire.
pub(super) fn read(json: &Value) -> Citation<'static> {
    let text = |key: &str| Cow::Owned(json.get(key).and_then(Value::as_str).unwrap_or("").to_owned());
    let title = if json.get("title").is_some_and(Value::is_string) {
        "title"
    } else {
        "document_title"
    };
    Citation {
        url: text("url"),
        title: text(title),
        text: text("cited_text"),
        span: None,
        json: Cow::Owned(json.to_string()),
    }
}

/// The citation as this dialect writes it, if it is one of its own.
fn own(citation: &Citation<'_>) -> Option<Value> {
    let json: Value = serde_json::from_str(&citation.json).ok()?;
    let kind = json.get("type")?.as_str()?;
    (kind.ends_with("_location") && json.get("cited_text").is_some()).then_some(json)
}

/// For a client's answer. Addresses become web search results; what has none, and is not of this dialect, is nothing
/// here.
pub(super) fn answer(citation: &Citation<'_>) -> Option<Value> {
    own(citation).or_else(|| {
        (!citation.url.is_empty()).then(|| {
            json!({
                "type": "web_search_result_location",
                "cited_text": citation.text,
                // The provider's token for the place cited: there is none.
                "encrypted_index": "",
                "title": citation.title,
                "url": citation.url,
            })
        })
    })
}

/// For the provider: only what it made itself, with its token.
pub(super) fn request(citation: &Citation<'_>) -> Option<Value> {
    own(citation).filter(|json| json.get("encrypted_index").is_none_or(|index| index != ""))
}
