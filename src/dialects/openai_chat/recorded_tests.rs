//! Recorded traffic of real providers (`../shared/wire`, not part of the project: where it is missing the tests say so
//! and pass), through the whole codec: requests there and back, answers told, written and told again.

use std::path::{Path, PathBuf};

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::vendor::Vendor;
use super::*;
use crate::dialects::codec::Upstream;
use crate::ir::response::fold;
use crate::ir::{Accumulator, Content, LossReport, Response};
use crate::sse::{Content as Told, Splitter};

/// Recorded exchanges of this dialect which the provider answered with status 200.
fn cases(wire: &str) -> Vec<Value> {
    let shared = match std::env::var_os("TOLLGATE_SHARED") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
    };
    let folder = shared.join("wire/cases");
    let Ok(files) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no recordings in {} (set TOLLGATE_SHARED)", folder.display());
        return Vec::new();
    };
    let mut cases: Vec<Value> = files
        .map(|file| file.unwrap().path())
        .filter(|file| {
            file.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(wire))
        })
        .map(|file| serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap())
        .filter(|case: &Value| case["wire"] == wire && case["response"]["status"] == 200)
        .collect();
    cases.sort_by_key(|case| case["id"].as_str().unwrap().to_owned());
    assert!(cases.len() > 5, "the folder is there but nearly empty");
    cases
}

fn target() -> Target {
    OpenAiChat.own_target(Operation::Chat, false).expect("chat").0
}

/// A request in the one of its equivalent forms in which it is compared:
///
/// - `null` is absent; numbers are floats; empty content is absent; one text part is its text, texts of instructions are
///   one text; `reasoning` is `reasoning_content`, and no more than once;
/// - settings at their default are absent (`n`, `stream`, `parallel_tool_calls`, `tool_choice` without tools …);
/// - `max_tokens` is `max_completion_tokens`, `random_seed` is `seed`, `any` is `required`;
/// - reasoning which its details repeat is absent; Mistral's ids of calls are cut to nine characters of their own;
/// - the developer is the system, but for OpenAI's models;
/// - an image's address may stand without an object; a hint for the cache of a message is that of its last part;
/// - Perplexity's and others' documents are `file` or `file_url`.
fn canonical(value: &Value) -> Value {
    let mut value = plain(value);
    let body = value.as_object_mut().expect("a request");
    for (from, to) in [("max_completion_tokens", "max_tokens"), ("random_seed", "seed")] {
        if let Some(value) = body.remove(from) {
            body.insert(to.into(), value);
        }
    }
    let has_tools = body.get("tools").is_some_and(|tools| tools != &json!([]));
    let defaults = [
        ("n", json!(1.0)),
        ("stream", json!(false)),
        ("parallel_tool_calls", json!(true)),
        ("store", json!(false)),
        ("tools", json!([])),
        ("modalities", json!(["text"])),
    ];
    for (key, default) in defaults {
        if body.get(key) == Some(&default) {
            body.remove(key);
        }
    }
    if body.get("stream").is_none() {
        body.remove("stream_options");
    }
    if body.get("tool_choice").is_some_and(|choice| choice == "any") {
        body.insert("tool_choice".into(), "required".into());
    }
    if !has_tools {
        body.remove("tool_choice");
        body.remove("parallel_tool_calls");
    }
    let vendor = Vendor::of(body["model"].as_str().expect("a model"));
    for message in body["messages"].as_array_mut().expect("messages") {
        if message["role"] == "developer" && !vendor.is_openai() {
            message["role"] = "system".into();
        }
        if vendor == Vendor::Mistral {
            mistral_ids(message);
        }
        canonical_message(message.as_object_mut().expect("a message"));
    }
    value
}

fn canonical_message(message: &mut Map<String, Value>) {
    let reasoning = ["reasoning_content", "reasoning"].map(|key| message.remove(key));
    let details = message.get(details::KEY).and_then(Value::as_array);
    let texts = details.map(|details| {
        details
            .iter()
            .filter_map(|entry| entry["text"].as_str())
            .collect::<String>()
    });
    let told = reasoning.into_iter().flatten().find(|told| told != "");
    if let Some(told) = told.filter(|told| told.as_str() != texts.as_deref()) {
        message.insert("reasoning_content".into(), told);
    }
    let hint = message.remove("cache_control");
    let parts = match message.remove("content") {
        Some(Value::String(text)) if text.is_empty() => Vec::new(),
        Some(Value::String(text)) => vec![json!({"type": "text", "text": text})],
        Some(Value::Array(parts)) => parts,
        _ => Vec::new(),
    };
    let mut parts: Vec<Value> = parts.into_iter().map(canonical_part).collect();
    let is_instruction = matches!(message["role"].as_str(), Some("system" | "developer"));
    if is_instruction
        && parts
            .iter()
            .all(|part| part.as_object().is_some_and(|part| part.len() == 2))
    {
        let texts: Vec<&str> = parts.iter().filter_map(|part| part["text"].as_str()).collect();
        parts = vec![json!({"type": "text", "text": texts.join("\n\n")})];
    }
    if let (Some(last), Some(hint)) = (parts.last_mut(), hint) {
        last["cache_control"] = hint;
    }
    message.insert("content".into(), parts.into());
    for call in message
        .get_mut("tool_calls")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if call["function"]["arguments"] == "" {
            call["function"]["arguments"] = "{}".into();
        }
    }
    if message.get("annotations") == Some(&json!([])) {
        message.remove("annotations");
    }
    if message["role"] == "tool" {
        message.remove("name");
    }
}

fn mistral_ids(message: &mut Value) {
    let short = |id: &Value| Value::from(encode_messages::call_id(id.as_str().unwrap_or(""), Vendor::Mistral));
    for call in message["tool_calls"].as_array_mut().into_iter().flatten() {
        call["id"] = short(&call["id"]);
    }
    if let Some(id) = message.get_mut("tool_call_id") {
        *id = short(id);
    }
}

fn canonical_part(mut part: Value) -> Value {
    if let Some(url) = part["image_url"].as_str().map(str::to_owned) {
        part["image_url"] = json!({"url": url});
    }
    if let Some(url) = part["document_url"]["url"].as_str().map(str::to_owned) {
        part["document_url"] = url.into();
    }
    part
}

/// Without nulls, with all numbers as floats.
fn plain(value: &Value) -> Value {
    match value {
        Value::Object(map) => map
            .iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), plain(value)))
            .collect(),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Number(number) => json!(number.as_f64()),
        other => other.clone(),
    }
}

/// Removes what a loss names, from a request or its equal.
fn without(value: &mut Value, path: &str) {
    let mut place = &mut *value;
    let steps: Vec<&str> = path.split(['.', '[', ']']).filter(|step| !step.is_empty()).collect();
    let Some((last, parents)) = steps.split_last() else {
        return;
    };
    for step in parents {
        let inner = match step.parse::<usize>() {
            Ok(index) => place.get_mut(index),
            Err(_) => place.get_mut(*step),
        };
        let Some(inner) = inner else { return };
        place = inner;
    }
    if let Some(map) = place.as_object_mut() {
        map.remove(*last);
    }
    // An object of settings which all were said otherwise.
    if let Some((parent, _)) = parents.split_first()
        && parents.len() == 1
        && value[*parent] == json!({})
    {
        value.as_object_mut().expect("a request").remove(*parent);
    }
}

#[test]
fn requests_come_home() {
    let mut wrong = Vec::new();
    for case in cases("openai_chat") {
        let recorded = &case["request"]["body"];
        if !recorded.is_object() {
            continue;
        }
        let id = case["id"].as_str().unwrap();
        let body = serde_json::to_vec(recorded).unwrap();
        let mut request = match OpenAiChat.decode_request(&target(), &body) {
            Ok(request) => request,
            Err(error) => {
                wrong.push(format!("{id}: {error}"));
                continue;
            }
        };
        request.link_tools();
        let to = Upstream {
            model: &request.model,
            stream: request.stream,
            ask_usage: request.include_usage == Some(true),
        };
        let mut loss = LossReport::default();
        let written = OpenAiChat.encode_request(&request, &to, &mut loss).expect(id);
        let written: Value = serde_json::from_slice(&written).unwrap();
        let (mut want, mut got) = (canonical(recorded), canonical(&written));
        for loss in loss.losses() {
            without(&mut want, &loss.path);
            without(&mut got, &loss.path);
            if loss.path.starts_with("reasoning.") || loss.path.contains("thinking") {
                without(&mut got, "reasoning_effort");
            }
        }
        // A word of effort in another vendor's field is the same word.
        let effort = want["reasoning"]["effort"].as_str().map(str::to_owned);
        if let Some(effort) = effort {
            without(&mut want, "reasoning.effort");
            want["reasoning_effort"] = effort.into();
        }
        if want.get("enable_thinking") == Some(&json!(false)) || want["thinking"]["type"] == "disabled" {
            without(&mut want, "enable_thinking");
            without(&mut want, "thinking");
            want["reasoning_effort"] = "none".into();
        }
        if want != got {
            wrong.push(format!("{id}:\n  {}", difference("", &want, &got)));
        }
    }
    assert!(wrong.is_empty(), "{} requests:\n{}", wrong.len(), wrong.join("\n"));
}

/// The first difference of two trees.
fn difference(at: &str, want: &Value, got: &Value) -> String {
    if let (Some(a), Some(b)) = (want.as_object(), got.as_object()) {
        let keys = a.keys().chain(b.keys());
        for key in keys {
            let (x, y) = (a.get(key), b.get(key));
            if x != y {
                let none = Value::Null;
                return difference(&format!("{at}.{key}"), x.unwrap_or(&none), y.unwrap_or(&none));
            }
        }
    }
    if let (Some(a), Some(b)) = (want.as_array(), got.as_array())
        && a.len() == b.len()
        && let Some(place) = a.iter().zip(b).position(|(a, b)| a != b)
    {
        return difference(&format!("{at}[{place}]"), &a[place], &b[place]);
    }
    let short = |value: &Value| value.to_string().chars().take(300).collect::<String>();
    format!("{at}: {} became {}", short(want), short(got))
}

/// What a stream tells, and how it ends.
fn told(text: &str) -> (Response, StreamEnd) {
    let mut decoder = OpenAiChat.stream_decoder(Operation::Chat);
    let mut sink = Accumulator::new(DIALECT);
    let mut splitter = Splitter::new(Framing::Sse, usize::MAX);
    splitter.feed(text.as_bytes(), |block| {
        if let Told::Frame(frame) = block.content {
            decoder.frame(frame, &mut sink).expect("a chunk");
        }
    });
    splitter.finish(|frame| drop(decoder.frame(frame, &mut sink)));
    let end = decoder.finish(&mut sink);
    (sink.into_response(), end)
}

/// A response without what may differ when it is told again: words of finish reasons for the same kind, one hour's cache
/// writes, ids the provider left out, and what has no place in the answers this dialect writes.
fn lasting(mut response: Response, to: &Answering) -> Response {
    if response.id.is_empty() {
        response.id = answer::id("", to);
    }
    if response.model.is_empty() {
        response.model = to.model.clone();
    }
    for candidate in &mut response.candidates {
        let calls = candidate
            .blocks
            .iter()
            .any(|block| matches!(block.content, Content::ToolCall(_)));
        let word = answer::finish_word(candidate.finish.as_ref(), calls, &mut LossReport::default());
        candidate.finish = Some(crate::ir::FinishReason::new(finish_kind(word), word));
        for block in &mut candidate.blocks {
            block.citations.retain(|citation| !citation.url.is_empty());
            if let Content::Media(media) = &mut block.content {
                media.mime.get_or_insert_with(|| "image/png".into());
            }
        }
    }
    response.native.sort_by(|a, b| a.key.cmp(&b.key));
    response
}

#[test]
fn answers_mean_the_same_when_told_again() {
    let to = Answering {
        request_id: "r".into(),
        model: "asked".into(),
        include_usage: true,
        ..Answering::default()
    };
    let (mut streams, mut wholes, mut wrong) = (0, 0, Vec::new());
    for case in cases("openai_chat") {
        let id = case["id"].as_str().unwrap();
        let (response, end) = match case["response"]["sse_text"].as_str() {
            Some(text) if case["stream"] == true => told(text),
            _ => {
                let body = case["response"]["body_text"].as_str().unwrap_or("");
                let mut end = StreamEnd::Failed;
                let response = fold(DIALECT, |sink| {
                    if let Ok(told) = OpenAiChat.decode_response(Operation::Chat, body.as_bytes(), sink) {
                        end = told;
                    }
                });
                (response, end)
            }
        };
        if end != StreamEnd::Complete || response.error.is_some() || response.candidates.is_empty() {
            continue;
        }
        let mut loss = LossReport::default();
        let whole = OpenAiChat.encode_response(&response, &to, &mut loss);
        let again = fold(DIALECT, |sink| {
            OpenAiChat
                .decode_response(Operation::Chat, &whole, sink)
                .map(drop)
                .expect(id);
        });
        let want = lasting(response.clone(), &to);
        let merged = |mut response: Response| {
            // A whole message has one text, one reasoning, and its parts in one order.
            response
                .candidates
                .iter_mut()
                .for_each(|candidate| merge(&mut candidate.blocks));
            response
        };
        if merged(lasting(again.clone(), &to)) != merged(want.clone()) {
            wrong.push(format!(
                "{id} whole:\n  {:?}\n  {:?}",
                merged(want.clone()),
                merged(lasting(again, &to))
            ));
        }
        wholes += 1;
        let mut encoder = OpenAiChat.stream_encoder(to.clone());
        let mut out = BytesMut::new();
        response.replay(&mut |event: crate::ir::StreamEvent<'_>| encoder.event(event, &mut out, &mut loss));
        for native in &response.native {
            let key = answer::FIELDS
                .into_iter()
                .find(|field| *field == &*native.key)
                .expect("ours");
            let json = native.json.to_string().into();
            encoder.event(crate::ir::StreamEvent::Native { key, json }, &mut out, &mut loss);
        }
        encoder.finish(&mut out, &mut loss);
        let text = String::from_utf8(out.to_vec()).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{id}");
        let (again, end) = told(&text);
        assert_eq!(end, StreamEnd::Complete, "{id}");
        if merged(lasting(again.clone(), &to)) != merged(want.clone()) {
            wrong.push(format!(
                "{id} stream:\n  {:?}\n  {:?}",
                merged(want),
                merged(lasting(again, &to))
            ));
        }
        streams += 1;
    }
    eprintln!("{streams} streams, {wholes} whole answers");
    assert!(wrong.is_empty(), "{} answers:\n{}", wrong.len(), wrong.join("\n"));
}

/// Brings blocks into the order of a whole message, and joins texts without tokens.
fn merge(blocks: &mut Vec<crate::ir::Block>) {
    let rank = |block: &crate::ir::Block| match &block.content {
        Content::Reasoning(_) => 0,
        Content::Text(_) => 1,
        Content::Refusal(_) => 2,
        Content::Media(_) => 3,
        Content::ToolCall(_) => 4,
        _ => 5,
    };
    blocks.sort_by_key(rank);
    let mut merged: Vec<crate::ir::Block> = Vec::new();
    for block in blocks.drain(..) {
        match (merged.last_mut(), &block.content) {
            (Some(last), Content::Text(piece)) if matches!(last.content, Content::Text(_)) => {
                if let Content::Text(text) = &mut last.content {
                    text.push_str(piece);
                }
                last.citations.extend(block.citations);
                last.logprobs.extend(block.logprobs);
            }
            (Some(last), Content::Reasoning(piece))
                if last.opaque.is_none() && rank(last) == 0 && block.opaque.is_none() =>
            {
                if let Content::Reasoning(text) = &mut last.content {
                    text.push_str(piece);
                }
            }
            _ => merged.push(block),
        }
    }
    *blocks = merged;
}

#[test]
fn recorded_vectors_come_home() {
    for case in cases("openai_embeddings") {
        let id = case["id"].as_str().unwrap();
        let body = serde_json::to_vec(&case["request"]["body"]).unwrap();
        let target = OpenAiChat
            .own_target(Operation::Embeddings, false)
            .expect("embeddings")
            .0;
        let request = OpenAiChat.decode_embeddings(&target, &body).expect("known").expect(id);
        let to = Upstream {
            model: &request.model,
            stream: false,
            ask_usage: false,
        };
        let mut loss = LossReport::default();
        let written = OpenAiChat
            .encode_embeddings(&request, &to, &mut loss)
            .expect("known")
            .expect(id);
        let written: Value = serde_json::from_slice(&written).unwrap();
        let mut want = plain(&case["request"]["body"]);
        if want["encoding_format"] == "float" {
            want.as_object_mut().unwrap().remove("encoding_format");
        }
        assert_eq!(want, plain(&written), "{id}");
        let answer = case["response"]["body_text"].as_str().unwrap();
        let vectors = OpenAiChat.decode_vectors(answer.as_bytes()).expect("known").expect(id);
        assert!(
            !vectors.vectors.is_empty() && vectors.vectors.iter().all(|vector| !vector.is_empty()),
            "{id}"
        );
        let vectors = crate::ir::EmbeddingResponse {
            model: "any".into(),
            ..vectors
        };
        for base64 in [true, false] {
            let asked = crate::ir::EmbeddingRequest {
                base64,
                ..request.clone()
            };
            let bytes = OpenAiChat
                .encode_vectors(&vectors, &asked, &target, &mut loss)
                .expect("known");
            let again = OpenAiChat.decode_vectors(&bytes).expect("known").expect(id);
            for (a, b) in vectors.vectors.iter().flatten().zip(again.vectors.iter().flatten()) {
                assert!((a - b).abs() < 1e-6, "{id}");
            }
            assert_eq!(again.vectors.len(), vectors.vectors.len(), "{id}");
        }
    }
}
