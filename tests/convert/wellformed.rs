//! The grammar of each dialect's streams: what `sdk_check.py`'s `wellformed()` asks, and what the providers' references
//! say beyond it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Events of a stream as a client reads it: (event, data). WHATWG HTML, section 9.2.
pub fn events(text: &str) -> Vec<(Option<String>, String)> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut out = Vec::new();
    let (mut event, mut data): (Option<String>, Vec<&str>) = (None, Vec::new());
    for line in text.split('\n').chain([""]) {
        if line.is_empty() {
            if !data.is_empty() {
                out.push((event.take(), data.join("\n")));
            }
            event = None;
            data.clear();
        } else if !line.starts_with(':') {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event = Some(value.to_owned()),
                "data" => data.push(value),
                _ => {}
            }
        }
    }
    out
}

/// What is broken in a complete stream of that dialect.
pub fn stream(dialect: &str, text: &str) -> Vec<String> {
    let events = events(text);
    if events.is_empty() {
        return vec!["no events".to_owned()];
    }
    let mut bad = BTreeSet::new();
    if !text.ends_with("\n\n") && !text.ends_with("\r\n\r\n") {
        bad.insert("the last event is not ended by a blank line".to_owned());
    }
    let parsed: Vec<Value> = events
        .iter()
        .map(|(_, data)| serde_json::from_str(data).unwrap_or(Value::Null))
        .collect();
    match dialect {
        "openai_chat" => chat(&events, &parsed, &mut bad),
        "openai_responses" => responses(&events, &parsed, &mut bad),
        "anthropic" => anthropic(&events, &parsed, &mut bad),
        _ => gemini(&parsed, &mut bad),
    }
    bad.into_iter().collect()
}

type Bad = BTreeSet<String>;
type Events = [(Option<String>, String)];

fn rule(bad: &mut Bad, kept: bool, rule: &str) {
    if !kept {
        bad.insert(rule.to_owned());
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn chat(events: &Events, parsed: &[Value], bad: &mut Bad) {
    let done = events.iter().filter(|(_, data)| data.trim() == "[DONE]").count();
    rule(
        bad,
        events.last().is_some_and(|(_, data)| data.trim() == "[DONE]"),
        "no [DONE] at the end",
    );
    rule(bad, done == 1, "[DONE] not once");
    rule(
        bad,
        events.iter().all(|(event, _)| event.is_none()),
        "an event has a name",
    );
    let chunks: Vec<&Value> = parsed.iter().filter(|chunk| chunk.is_object()).collect();
    rule(bad, chunks.len() + done == parsed.len(), "a data line is not JSON");
    let ids: BTreeSet<_> = chunks.iter().map(|chunk| chunk["id"].to_string()).collect();
    rule(
        bad,
        ids.len() == 1 && !ids.contains("\"\"") && !ids.contains("null"),
        "chunk id missing or changes",
    );
    for chunk in &chunks {
        rule(
            bad,
            chunk["object"] == "chat.completion.chunk",
            "object is not chat.completion.chunk",
        );
        rule(bad, chunk["created"].is_i64(), "created missing");
        rule(bad, chunk["model"].is_string(), "model missing");
        rule(bad, chunk["choices"].is_array(), "choices missing");
    }
    let choices: Vec<&Value> = chunks.iter().flat_map(|chunk| list(&chunk["choices"])).collect();
    let mut finished = BTreeSet::new();
    let mut begun = BTreeSet::new();
    let mut calls = BTreeSet::new();
    for choice in choices {
        let index = choice["index"].as_u64();
        rule(bad, index.is_some(), "a choice without index");
        if begun.insert(index) {
            rule(bad, choice["delta"]["role"] == "assistant", "first delta has no role");
        }
        rule(
            bad,
            !finished.contains(&index),
            "a choice goes on after its finish_reason",
        );
        if choice["finish_reason"].is_string() {
            finished.insert(index);
        }
        let mut last = None;
        for call in list(&choice["delta"]["tool_calls"]) {
            let number = call["index"].as_u64();
            rule(bad, number.is_some(), "tool_call delta without index");
            rule(
                bad,
                number > last || last.is_none(),
                "tool_call indices fall in one chunk",
            );
            last = number;
            if calls.insert((index, number)) {
                let named = ["function", "custom"]
                    .iter()
                    .any(|kind| call[kind]["name"].as_str().is_some_and(|n| !n.is_empty()));
                let has_id = call["id"].as_str().is_some_and(|id| !id.is_empty());
                rule(bad, named && has_id, "first tool_call delta lacks id or name");
                rule(bad, call["type"].is_string(), "first tool_call delta lacks its type");
            }
        }
    }
    rule(bad, finished == begun, "a choice has no finish_reason");
    // With include_usage each chunk but the last has `usage: null` or none, and the last has no choices.
    let usages: Vec<usize> = (0..chunks.len()).filter(|i| chunks[*i]["usage"].is_object()).collect();
    rule(
        bad,
        usages.iter().all(|i| i + 1 == chunks.len()),
        "usage before the last chunk",
    );
}

fn anthropic(events: &Events, parsed: &[Value], bad: &mut Bad) {
    let kinds: Vec<&str> = parsed
        .iter()
        .map(|event| event["type"].as_str().unwrap_or(""))
        .collect();
    let named = events
        .iter()
        .zip(&kinds)
        .all(|((event, _), kind)| event.as_deref() == Some(kind));
    rule(bad, named, "event: name differs from data.type");
    let order: Vec<&str> = kinds.iter().copied().filter(|kind| *kind != "ping").collect();
    rule(
        bad,
        order.first() == Some(&"message_start"),
        "first event is not message_start",
    );
    rule(
        bad,
        order.last() == Some(&"message_stop"),
        "last event is not message_stop",
    );
    for once in ["message_start", "message_stop", "message_delta"] {
        let count = order.iter().filter(|kind| **kind == once).count();
        rule(bad, count == 1, &format!("{once} not once"));
    }
    let (mut open, mut next) = (None, 0);
    for event in parsed {
        let index = event["index"].as_u64();
        match event["type"].as_str().unwrap_or("") {
            "content_block_start" => {
                rule(bad, open.is_none(), "block opened inside a block");
                rule(bad, index == Some(next), "block index jumps");
                let block = &event["content_block"];
                let whole = match block["type"].as_str().unwrap_or("") {
                    "text" => block["text"].is_string(),
                    "thinking" => block["thinking"].is_string(),
                    "redacted_thinking" => block["data"].is_string(),
                    "tool_use" => block["input"].is_object() && block["id"].is_string() && block["name"].is_string(),
                    kind => !kind.is_empty(),
                };
                rule(bad, whole, "a content_block lacks a field");
                open = index;
                next += 1;
            }
            "content_block_delta" => {
                rule(bad, open.is_some() && index == open, "delta outside its block");
                rule(bad, event["delta"]["type"].is_string(), "a delta without type");
            }
            "content_block_stop" => {
                rule(bad, open.is_some() && index == open, "stop for a block not open");
                open = None;
            }
            "message_delta" => {
                rule(bad, open.is_none(), "message_delta while a block is open");
                rule(bad, event["delta"]["stop_reason"].is_string(), "no stop_reason");
                rule(
                    bad,
                    event["usage"]["output_tokens"].is_u64(),
                    "message_delta lacks usage.output_tokens",
                );
            }
            "message_start" => {
                let message = &event["message"];
                rule(
                    bad,
                    message["usage"]["input_tokens"].is_u64(),
                    "message_start lacks usage.input_tokens",
                );
                rule(
                    bad,
                    message["usage"]["output_tokens"].is_u64(),
                    "message_start lacks usage.output_tokens",
                );
                rule(
                    bad,
                    message["role"] == "assistant" && message["type"] == "message",
                    "message_start lacks role or type",
                );
                rule(
                    bad,
                    message["content"] == serde_json::json!([]),
                    "message_start has content",
                );
                rule(
                    bad,
                    message["id"].as_str().is_some_and(|id| !id.is_empty()),
                    "message_start lacks its id",
                );
            }
            "message_stop" | "ping" => {}
            _ => rule(bad, false, "an unknown event"),
        }
    }
}

fn responses(events: &Events, parsed: &[Value], bad: &mut Bad) {
    let kinds: Vec<&str> = parsed
        .iter()
        .map(|event| event["type"].as_str().unwrap_or(""))
        .collect();
    let named = events
        .iter()
        .zip(&kinds)
        .all(|((event, _), kind)| event.as_deref() == Some(kind));
    rule(bad, named, "event: name missing or differs from data.type");
    rule(
        bad,
        kinds.first() == Some(&"response.created"),
        "first event is not response.created",
    );
    rule(
        bad,
        kinds.get(1) == Some(&"response.in_progress"),
        "second event is not response.in_progress",
    );
    let ends = ["response.completed", "response.incomplete", "response.failed"];
    rule(
        bad,
        kinds.last().is_some_and(|last| ends.contains(last)),
        "the last event ends nothing",
    );
    rule(
        bad,
        kinds.iter().filter(|kind| ends.contains(kind)).count() == 1,
        "it ends not once",
    );
    for (number, event) in (0u64..).zip(parsed) {
        rule(
            bad,
            event["sequence_number"] == number,
            "sequence_number missing or not rising by one from 0",
        );
    }
    let mut added: BTreeMap<u64, &Value> = BTreeMap::new();
    let mut done: BTreeMap<u64, &Value> = BTreeMap::new();
    let mut texts: BTreeMap<(u64, String), String> = BTreeMap::new();
    for (kind, event) in kinds.iter().zip(parsed) {
        let Some(index) = event["output_index"].as_u64() else {
            continue;
        };
        match *kind {
            "response.output_item.added" => {
                rule(bad, index == added.len() as u64, "output_index jumps");
                rule(
                    bad,
                    added.insert(index, &event["item"]["id"]).is_none(),
                    "an item added twice",
                );
            }
            "response.output_item.done" => {
                rule(bad, added.contains_key(&index), "item done without added");
                rule(
                    bad,
                    added.get(&index).is_none_or(|id| *id == &event["item"]["id"]),
                    "an item's id changes",
                );
                rule(bad, done.insert(index, &event["item"]).is_none(), "an item done twice");
            }
            _ => {
                rule(bad, added.contains_key(&index), "an event before output_item.added");
                rule(bad, !done.contains_key(&index), "an event after output_item.done");
                let same = added.get(&index).is_none_or(|id| *id == &event["item_id"]);
                rule(bad, same, "item_id differs from the item's");
            }
        }
        let part = format!("{}{}", event["content_index"], event["summary_index"]);
        if let Some(name) = kind.strip_suffix(".delta") {
            let text = texts.entry((index, format!("{name}{part}"))).or_default();
            text.push_str(event["delta"].as_str().unwrap_or(""));
        } else if let Some(name) = kind.strip_suffix(".done")
            && let Some(whole) = ["text", "arguments", "input", "refusal"]
                .iter()
                .find_map(|field| event[field].as_str())
        {
            let text = texts.remove(&(index, format!("{name}{part}"))).unwrap_or_default();
            rule(bad, text == whole, "a done event differs from its deltas");
        }
    }
    rule(bad, texts.is_empty(), "deltas without their done event");
    rule(bad, added.len() == done.len(), "items added but never done");
    let response = &parsed.last().unwrap_or(&Value::Null)["response"];
    let output = list(&response["output"]);
    rule(
        bad,
        output.len() == added.len(),
        "the final output has other items than the stream",
    );
    rule(
        bad,
        output.iter().eq(done.values().copied()),
        "the final output differs from the items done",
    );
    rule(
        bad,
        response["object"] == "response" && response["status"].is_string(),
        "the final object is not complete",
    );
    let id = &parsed.first().unwrap_or(&Value::Null)["response"]["id"];
    rule(
        bad,
        id.is_string() && *id == response["id"],
        "the response's id changes",
    );
    for item in output {
        rule(
            bad,
            item["id"].is_string() && item["type"].is_string(),
            "an item lacks id or type",
        );
    }
}

fn gemini(parsed: &[Value], bad: &mut Bad) {
    rule(
        bad,
        parsed.iter().all(Value::is_object),
        "a data line is not a JSON object",
    );
    let finish = |element: &Value| {
        list(&element["candidates"])
            .iter()
            .any(|c| c["finishReason"].is_string())
    };
    let blocked = parsed
        .iter()
        .any(|element| element["promptFeedback"]["blockReason"].is_string());
    rule(
        bad,
        blocked || parsed.last().is_some_and(finish) || parsed.iter().any(finish),
        "no finishReason",
    );
    let mut finished = BTreeSet::new();
    for candidate in parsed.iter().flat_map(|element| list(&element["candidates"])) {
        let index = candidate["index"].as_u64().unwrap_or(0);
        rule(
            bad,
            !finished.contains(&index),
            "a candidate goes on after its finishReason",
        );
        if candidate["finishReason"].is_string() {
            finished.insert(index);
        }
        for part in list(&candidate["content"]["parts"]) {
            rule(
                bad,
                part["functionCall"].is_null() || part["functionCall"]["name"].is_string(),
                "a call without name",
            );
        }
    }
}

/// Marks of success in a stream which failed: there must be none.
pub fn success_marks(dialect: &str, text: &str) -> Vec<String> {
    let mut marks = Vec::new();
    for (_, data) in events(text) {
        let value: Value = serde_json::from_str(&data).unwrap_or(Value::Null);
        let kind = value["type"].as_str().unwrap_or("");
        match dialect {
            "openai_chat" => {
                let finished = list(&value["choices"])
                    .iter()
                    .any(|choice| choice["finish_reason"].is_string());
                if data.trim() == "[DONE]" || finished {
                    marks.push(data);
                }
            }
            "anthropic" if ["message_stop", "message_delta"].contains(&kind) => marks.push(data),
            "openai_responses" if ["response.completed", "response.incomplete"].contains(&kind) => marks.push(data),
            "gemini" if list(&value["candidates"]).iter().any(|c| c["finishReason"].is_string()) => marks.push(data),
            _ => {}
        }
    }
    marks
}
