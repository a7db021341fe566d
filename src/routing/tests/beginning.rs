//! A conversation is known by its beginning, in each format, from its first turn to its last.

use std::collections::HashMap;
use std::ops::Range;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::dialects::Outline;
use crate::routing::affinity::by_beginning;

/// Where top-level fields stand, as peek finds them.
fn outline(body: &str, preamble: &[&str], prompt: &str) -> Outline {
    let fields: HashMap<&str, &RawValue> = serde_json::from_str(body).unwrap();
    let span = |name: &str| -> Option<Range<usize>> {
        let text = fields.get(name)?.get();
        let at = text.as_ptr() as usize - body.as_ptr() as usize;
        Some(at..at + text.len())
    };
    Outline {
        preamble: preamble.iter().filter_map(|name| span(name)).collect(),
        prompt: span(prompt),
        ..Outline::default()
    }
}

fn long(what: &str) -> String {
    format!("{what}: {}", "the quick brown fox jumps over it. ".repeat(70))
}

/// One turn in each format: name, body, fields of the preamble, field of the prompt. `marks`: marks for caches move with the turns.
fn turns(user: &str, count: usize) -> Vec<(&'static str, String, Vec<&'static str>, &'static str)> {
    let mark = |at: usize| (at + 1 == count).then(|| json!({ "type": "ephemeral" }));
    let said = |at: usize| match at {
        0 => long(user),
        at => format!("and then, as the next of many questions: {at}"),
    };
    let answer = |at: usize| format!("an answer of the model which is quite long: {at}");
    let (mut chat, mut messages, mut contents, mut input) = (
        vec![json!({ "role": "system", "content": long("instructions") })],
        Vec::<Value>::new(),
        Vec::<Value>::new(),
        Vec::<Value>::new(),
    );
    for at in 0..count {
        chat.push(json!({ "role": "user", "content": said(at) }));
        let mut block = json!({ "type": "text", "text": said(at) });
        if let Some(mark) = mark(at) {
            block["cache_control"] = mark;
        }
        messages.push(json!({ "role": "user", "content": [block] }));
        // The first content may leave its role out.
        contents.push(match at {
            0 => json!({ "parts": [{ "text": said(at) }] }),
            _ => json!({ "role": "user", "parts": [{ "text": said(at) }] }),
        });
        input.push(
            json!({ "type": "message", "role": "user", "content": [{ "type": "input_text", "text": said(at) }] }),
        );
        if at + 1 < count {
            chat.push(json!({ "role": "assistant", "content": answer(at) }));
            messages.push(json!({ "role": "assistant", "content": [{ "type": "text", "text": answer(at) }] }));
            contents.push(json!({ "role": "model", "parts": [{ "text": answer(at) }] }));
            input.push(json!({ "type": "reasoning", "id": "rs_0123456789012345678901234567", "summary": [] }));
            input.push(json!({ "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": answer(at) }] }));
        }
    }
    let tools = json!([{ "name": "f", "description": long("a tool") }]);
    let mut system = json!([{ "type": "text", "text": long("instructions") }]);
    if count == 1 {
        system[0]["cache_control"] = json!({ "type": "ephemeral", "ttl": "1h" });
    }
    vec![
        (
            "chat",
            json!({ "model": "m", "messages": chat, "tools": tools }).to_string(),
            vec!["tools"],
            "messages",
        ),
        (
            "messages",
            json!({ "model": "m", "max_tokens": count, "system": system, "tools": tools, "messages": messages })
                .to_string(),
            vec!["system", "tools"],
            "messages",
        ),
        (
            "contents",
            json!({ "systemInstruction": { "parts": [{ "text": long("instructions") }] }, "contents": contents })
                .to_string(),
            vec!["systemInstruction", "tools"],
            "contents",
        ),
        (
            "input",
            json!({ "model": "m", "instructions": long("instructions"), "input": input, "stream": true }).to_string(),
            vec!["instructions", "tools"],
            "input",
        ),
    ]
}

fn hash(turn: &(&str, String, Vec<&str>, &str), key: &str) -> Option<u64> {
    let outline = outline(&turn.1, &turn.2, turn.3);
    by_beginning(&outline, turn.1.as_bytes(), key).map(|session| session.id)
}

#[test]
fn a_growing_conversation_stays_the_same_in_every_format() {
    let first = turns("one", 1);
    for (n, turn) in first.iter().enumerate() {
        let known = hash(turn, "key").unwrap_or_else(|| panic!("{}: not known", turn.0));
        for count in 2..6 {
            assert_eq!(
                hash(&turns("one", count)[n], "key"),
                Some(known),
                "{} turn {count}",
                turn.0
            );
        }
        assert_ne!(
            hash(&turns("two", 1)[n], "key"),
            Some(known),
            "{}: another user's words",
            turn.0
        );
        assert_ne!(hash(turn, "other"), Some(known), "{}: another key", turn.0);
    }
}

#[test]
fn short_beginnings_are_not_known() {
    let body = json!({ "messages": [{ "role": "user", "content": "x".repeat(4000) }] }).to_string();
    assert_eq!(hash(&("chat", body, vec![], "messages"), "key"), None);
    let body = json!({ "messages": [{ "role": "user", "content": "x".repeat(4096) }] }).to_string();
    assert!(hash(&("chat", body, vec![], "messages"), "key").is_some());
    let words: Vec<String> = (0..1000).map(|n| format!("short {n}")).collect();
    let body = json!({ "messages": [{ "role": "user", "content": words }] }).to_string();
    assert_eq!(
        hash(&("chat", body, vec![], "messages"), "key"),
        None,
        "many short texts are no long one"
    );
    assert_eq!(hash(&("chat", "{}".into(), vec!["system"], "messages"), "key"), None);
}

#[test]
fn a_plain_text_prompt_is_the_users() {
    let text = long("one").repeat(2);
    let plain = json!({ "input": text.clone() }).to_string();
    let items =
        json!({ "input": [{ "role": "user", "content": text }, { "role": "assistant", "content": long("answer") }] });
    let known = hash(&("input", plain, vec![], "input"), "key");
    assert!(known.is_some());
    assert_eq!(hash(&("input", items.to_string(), vec![], "input"), "key"), known);
}

#[test]
fn endless_beginnings_are_looked_at_within_bounds() {
    let body = |end: &str| {
        let parts: Vec<Value> = (0..40_000)
            .map(|n| json!({ "n": n, "text": long("x")[..30] }))
            .collect();
        json!({ "system": parts, "messages": [{ "role": "user", "content": long(end) }] }).to_string()
    };
    let hash = |end: &str| hash(&("messages", body(end), vec!["system"], "messages"), "key");
    assert!(hash("a").is_some());
    assert_eq!(hash("a"), hash("b"), "by then conversations have parted");
}

#[test]
fn escapes_and_odd_white_space_are_no_ends() {
    let text = format!("{} \\\" [ ] {{ }} , : {}", long("a"), long("b"));
    for (before, after) in [("", ""), (" \n", "\t ")] {
        let body = format!(
            "{{\"messages\":{before}[{before}{{{before}\"content\"{before}:{before}\"{text}\"{after},{before}\"role\"{before}:{before}\"user\"{after}}}{after},{before}{{\"role\":\"user\",\"content\":\"{}\"}}]{after}}}",
            long("later")
        );
        let (one, _) = body.rsplit_once(",").unwrap();
        let (one, _) = one.rsplit_once(",").unwrap();
        let known = hash(&("chat", body.clone(), vec![], "messages"), "key");
        assert!(known.is_some());
        let first = format!("{one}]}}");
        assert_eq!(hash(&("chat", first, vec![], "messages"), "key"), known);
    }
}

proptest::proptest! {
    /// Peek says that bodies are well-formed; should it err, nothing here panics.
    #[test]
    fn any_bytes_are_survived(body in "[\\[\\]{}\",:a\\\\ ]{0,200}", from in 0usize..100, to in 0usize..220) {
        let outline = Outline {
            preamble: vec![from..to.max(from), to..from],
            prompt: Some(from / 2..to.max(from)),
            ..Outline::default()
        };
        let _ = by_beginning(&outline, body.as_bytes(), "key");
        let whole = Outline { prompt: Some(0..body.len()), ..Outline::default() };
        let _ = by_beginning(&whole, body.as_bytes(), "key");
    }
}
