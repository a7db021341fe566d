//! Reasoning in the history: `reasoning_content` (DeepSeek), `reasoning` (Groq, Ollama), and `reasoning_details` with its
//! tokens (OpenRouter; our own answers). What is said twice is read once.

use serde_json::{Map, Value};

use super::natives::keep;
use super::{DIALECT, details};
use crate::dialects::values::{element, field};
use crate::ir::{Block, Content, Message, Native, Opaque};

/// A block read from an entry, and what it needs of its neighbours.
struct Entry {
    block: Block,
    index: Option<Value>,
    /// It is the signature of a text which is told elsewhere.
    signs: bool,
}

/// Takes all reasoning out of a message's fields and adds it to its blocks.
pub(super) fn reasoning(message: &mut Message, map: &mut Map<String, Value>, at: &str) {
    let mut told: Option<(String, &str)> = None;
    for key in ["reasoning_content", "reasoning"] {
        match map.shift_remove(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if text.is_empty() => {}
            Some(Value::String(text)) if told.is_none() => told = Some((text, key)),
            Some(Value::String(text)) if told.as_ref().is_some_and(|(first, _)| *first == text) => {}
            Some(other) => message.native.push(Native::field(DIALECT, at, key, other)),
        }
    }
    let mut entries = Vec::new();
    match map.shift_remove(details::KEY) {
        Some(Value::Array(list)) => {
            let at = field(at, details::KEY);
            for (index, value) in list.into_iter().enumerate() {
                entry(&mut entries, value, element(&at, index));
            }
        }
        None | Some(Value::Null) => {}
        Some(other) => message.native.push(Native::field(DIALECT, at, details::KEY, other)),
    }
    let texts: String = entries.iter().map(|entry| text_of(&entry.block)).collect();
    match told {
        Some((text, key)) if texts.is_empty() => {
            let content = Content::Reasoning(text);
            match entries.iter_mut().find(|entry| entry.signs) {
                Some(signature) => signature.block.content = content,
                None => message.blocks.push(Block::new(content, field(at, key))),
            }
        }
        Some((text, key)) if text != texts => message.native.push(Native::field(DIALECT, at, key, text.into())),
        _ => {}
    }
    message.blocks.extend(entries.into_iter().map(|entry| entry.block));
}

fn text_of(block: &Block) -> &str {
    match &block.content {
        Content::Reasoning(text) => text,
        _ => "",
    }
}

/// One entry of `reasoning_details`. Pieces of one text, as a stream brings them, become one block.
fn entry(entries: &mut Vec<Entry>, value: Value, at: String) {
    let word = |key: &str| value[key].as_str().unwrap_or("");
    let kind = word("type");
    let text = if word("text").is_empty() {
        word("summary")
    } else {
        word("text")
    };
    let secret = word(if kind == "reasoning.encrypted" {
        "data"
    } else {
        "signature"
    });
    let known = matches!(kind, "reasoning.text" | "reasoning.summary" | "reasoning.encrypted");
    if !known || text.is_empty() && secret.is_empty() {
        let native = Native {
            dialect: DIALECT,
            at: at.as_str().into(),
            key: details::KEY.into(),
            json: value,
        };
        entries.push(Entry {
            block: Block::new(Content::Native(native), at),
            index: None,
            signs: false,
        });
        return;
    }
    let signs = kind == "reasoning.text" && text.is_empty();
    let index = value.get("index").cloned();
    let mut block = Block::new(Content::Reasoning(text.to_owned()), at.as_str());
    block.opaque = (!secret.is_empty()).then(|| {
        let token = details::token(kind, secret, word("format"), word("id"));
        Opaque(token.into())
    });
    let same_text = |last: &Entry| index.is_some() && last.index == index;
    if let Some(last) = entries
        .last_mut()
        .filter(|last| last.block.opaque.is_none() && !last.signs)
        && (signs || kind == "reasoning.text" && same_text(last))
        && let Content::Reasoning(whole) = &mut last.block.content
    {
        whole.push_str(text);
        last.block.opaque = block.opaque;
        return;
    }
    let whole_entry = block.opaque.as_ref().is_some_and(|token| token.0.starts_with('{'));
    let is_summary = kind == "reasoning.summary";
    if let Value::Object(mut rest) = value {
        // What is said by the block itself, or by its token.
        for key in ["text", "summary", "signature", "data"] {
            rest.shift_remove(key);
        }
        if whole_entry {
            rest.retain(|key, _| !matches!(key.as_str(), "type" | "format" | "id"));
        } else if !is_summary {
            rest.shift_remove("type");
        }
        keep(&mut block.native, &at, rest);
    }
    entries.push(Entry { block, index, signs });
}
