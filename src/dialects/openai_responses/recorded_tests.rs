//! What the recordings say of this dialect, where they are there (`TOLLGATE_SHARED`, or `../shared`): they are not part
//! of the project.

use std::path::PathBuf;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::*;
use crate::ir::response::fold;
use crate::ir::{Content, EventSink, LossReport, Response, StreamEvent};

fn cases() -> Vec<Value> {
    let shared = std::env::var_os("TOLLGATE_SHARED").map(PathBuf::from);
    let shared = shared.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"));
    let folder = shared.join("wire/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no recordings in {} (set TOLLGATE_SHARED)", folder.display());
        return Vec::new();
    };
    let names = entries.flatten().map(|entry| entry.path());
    let read = |path: PathBuf| serde_json::from_slice(&std::fs::read(path).ok()?).ok();
    names
        .filter_map(read)
        .filter(|case: &Value| case["wire"] == DIALECT.as_str() && case["response"]["status"] == 200)
        .collect()
}

fn target() -> Target {
    OpenAiResponses
        .own_target(Operation::Chat, false)
        .expect("it has one")
        .0
}

/// The same request in one form. What counts as the same: `null` and absent; a content that is a string and one text
/// part, for results too; an item with and without `type: message`; ids made by the API, the status `completed` and empty
/// lists of annotations; `12.0` and `12`; the order of `include`; `stream: false` and no tools left out.
fn plain(mut body: Value) -> Value {
    bare(&mut body);
    if let Some(text) = body["input"].as_str().map(str::to_owned) {
        body["input"] = json!([{"role": "user", "content": text}]);
    }
    for item in body["input"].as_array_mut().into_iter().flatten() {
        let role = item["role"].as_str().unwrap_or("").to_owned();
        let kind = item["type"].as_str().unwrap_or("message").to_owned();
        if !matches!(
            kind.as_str(),
            "message" | "reasoning" | "function_call" | "function_call_output" | "custom_tool_call"
        ) {
            continue;
        }
        let map = item.as_object_mut().expect("an object");
        map.entry("type").or_insert("message".into());
        let made = |id: &Value| {
            let id = id.as_str().unwrap_or("");
            ["msg_", "rs_", "fc_", "ctc_"]
                .iter()
                .any(|prefix| id.starts_with(prefix))
        };
        if map.get("id").is_some_and(made) && (kind != "reasoning" || map.contains_key("encrypted_content")) {
            map.remove("id");
        }
        if map.get("status").is_some_and(|status| status == "completed") {
            map.remove("status");
        }
        if let Some(Value::String(text)) = map.get("content").cloned() {
            let kind = if role == "assistant" {
                "output_text"
            } else {
                "input_text"
            };
            map.insert("content".into(), json!([{"type": kind, "text": text}]));
        }
        for part in map
            .get_mut("content")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(part) = part.as_object_mut() {
                part.retain(|key, value| !matches!(key.as_str(), "annotations" | "logprobs") || *value != json!([]));
            }
        }
        if let Some([only]) = map.get("output").and_then(Value::as_array).map(Vec::as_slice)
            && only["type"] == "input_text"
        {
            let text = only["text"].clone();
            map.insert("output".into(), text);
        }
    }
    let map = body.as_object_mut().expect("an object");
    if let Some(Value::Array(include)) = map.get_mut("include") {
        include.sort_by_key(Value::to_string);
    }
    map.retain(|key, value| match key.as_str() {
        "stream" => value != false,
        "tools" | "include" => *value != json!([]),
        "text" | "reasoning" => *value != json!({}),
        _ => true,
    });
    body
}

fn bare(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(bare);
        }
        Value::Array(list) => list.iter_mut().for_each(bare),
        Value::Number(number) if number.as_f64().is_some_and(|n| n.fract() == 0.0 && n.abs() < 1e15) => {
            *value = (number.as_f64().expect("a number") as i64).into();
        }
        _ => {}
    }
}

#[test]
fn recorded_requests_come_home() {
    for case in cases() {
        let body = &case["request"]["body"];
        if !body.is_object() {
            continue;
        }
        let mut request = OpenAiResponses
            .decode_request(&target(), body.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", case["id"]));
        request.link_tools();
        let to = Upstream {
            model: &request.model,
            stream: request.stream,
            ask_usage: false,
        };
        let mut loss = LossReport::default();
        let again = OpenAiResponses
            .encode_request(&request, &to, &mut loss)
            .expect("can be said");
        let again: Value = serde_json::from_slice(&again).expect("JSON");
        assert_eq!(plain(again), plain(body.clone()), "{}", case["id"]);
        assert!(loss.is_empty(), "{}: {:?}", case["id"], loss.losses());
    }
}

fn frames(text: &str) -> Vec<String> {
    let text = text.replace("\r\n", "\n");
    let data = |frame: &str| {
        let lines: Vec<&str> = frame.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        lines.join("\n").trim().to_owned()
    };
    text.split("\n\n").map(data).filter(|data| !data.is_empty()).collect()
}

fn read_stream(text: &str, sink: &mut dyn EventSink) -> StreamEnd {
    let mut decoder = OpenAiResponses.stream_decoder(Operation::Chat);
    for data in frames(text) {
        let frame = Frame {
            event: None,
            data: data.as_bytes(),
        };
        decoder.frame(frame, sink).expect("an event");
    }
    decoder.finish(sink)
}

fn answering() -> Answering {
    Answering {
        request_id: "r1".into(),
        created: 1,
        model: "m".into(),
        ..Answering::default()
    }
}

/// What survives of an answer, as far as both sides can say it: fields that only some Responses have are left out.
fn essence(mut response: Response) -> Response {
    response.native.retain(|native| native.key.as_ref() == "service_tier");
    for candidate in &mut response.candidates {
        if let Some(finish) = &mut candidate.finish {
            finish.raw = "".into();
            // A status that the hub has no word for is written as the nearest (and reported).
            if finish.kind == FinishKind::Other {
                finish.kind = FinishKind::Stop;
            }
        }
        for block in &mut candidate.blocks {
            // A stream leaves out the bytes of tokens.
            for logprob in &mut block.logprobs {
                logprob.bytes = None;
                logprob.top.iter_mut().for_each(|top| top.bytes = None);
            }
            if let Content::ToolCall(call) = &mut block.content
                && call.arguments.is_empty()
            {
                call.arguments = "{}".into();
            }
        }
    }
    if let Some(usage) = &mut response.usage {
        usage.cache_write_5m += std::mem::take(&mut usage.cache_write_1h);
    }
    response
}

/// Writes what is told as a stream, as a whole answer too, and reads both again.
fn again(id: &Value, tell: impl Fn(&mut dyn EventSink)) -> (Response, Response) {
    let mut loss = LossReport::default();
    let mut out = BytesMut::new();
    let mut encoder = OpenAiResponses.stream_encoder(answering());
    tell(&mut |event: StreamEvent<'_>| encoder.event(event, &mut out, &mut loss));
    encoder.finish(&mut out, &mut loss);
    let text = String::from_utf8(out.to_vec()).expect("UTF-8");
    check_stream(id, &text);
    let streamed = fold(DIALECT, |sink| {
        assert_eq!(read_stream(&text, sink), StreamEnd::Complete, "{id}")
    });
    let first = fold(DIALECT, &tell);
    let body = OpenAiResponses.encode_response(&first, &answering(), &mut loss);
    let whole = fold(DIALECT, |sink| {
        OpenAiResponses
            .decode_response(Operation::Chat, &body, sink)
            .expect("a response");
    });
    // The whole answer is the object that the stream ended with.
    let last: Value = serde_json::from_str(frames(&text).last().expect("a frame")).expect("JSON");
    assert_eq!(
        last["response"],
        serde_json::from_slice::<Value>(&body).expect("JSON"),
        "{id}"
    );
    (streamed, whole)
}

/// The grammar: numbers without gaps, names, items begun and done, deltas that add up to what is said to be done.
fn check_stream(id: &Value, text: &str) {
    let events: Vec<Value> = frames(text)
        .iter()
        .map(|data| serde_json::from_str(data).expect("JSON"))
        .collect();
    let mut open: Map<String, Value> = Map::new();
    for (number, event) in events.iter().enumerate() {
        let kind = event["type"].as_str().expect("a type");
        assert_eq!(event["sequence_number"], number, "{id}");
        assert!(
            text.contains(&format!("event: {kind}\ndata: {{\"type\":\"{kind}\"")),
            "{id}"
        );
        let place = event["output_index"].to_string();
        match kind {
            "response.output_item.added" => assert!(open.insert(place, event["item"]["id"].clone()).is_none(), "{id}"),
            "response.output_item.done" => assert_eq!(open.remove(&place), Some(event["item"]["id"].clone()), "{id}"),
            _ if event.get("item_id").is_some() => assert_eq!(open.get(&place), Some(&event["item_id"]), "{id} {kind}"),
            _ => {}
        }
    }
    assert!(open.is_empty(), "{id}");
    assert_eq!(events[0]["type"], "response.created");
}

#[test]
fn recorded_answers_come_home() {
    for case in cases() {
        let response = &case["response"];
        let id = &case["id"];
        let (text, streamed) = match (response["sse_text"].as_str(), response["body_text"].as_str()) {
            (Some(text), _) => (text, true),
            (None, Some(text)) => (text, false),
            _ => continue,
        };
        let tell = |sink: &mut dyn EventSink| {
            if streamed {
                read_stream(text, sink);
            } else {
                let _ = OpenAiResponses.decode_response(Operation::Chat, text.as_bytes(), sink);
            }
        };
        let first = fold(DIALECT, tell);
        if first.error.is_some() || first.candidates.iter().all(|c| c.finish.is_none()) {
            continue;
        }
        let (stream, whole) = again(id, tell);
        let first = essence(first);
        assert_eq!(essence(stream), first, "{id}");
        assert_eq!(essence(whole), first, "{id}");
    }
}

/// The final object of a recorded stream is the whole answer: both tell the same.
#[test]
fn recorded_streams_say_what_their_final_object_says() {
    for case in cases() {
        let Some(text) = case["response"]["sse_text"].as_str() else {
            continue;
        };
        let last = frames(text).iter().rev().find_map(|data| {
            let event: Value = serde_json::from_str(data).ok()?;
            let response = event.get("response")?.clone();
            (response["output"] != json!([]) && event["type"] != "response.failed").then_some(response)
        });
        let Some(last) = last else { continue };
        let stream = fold(DIALECT, |sink| {
            read_stream(text, sink);
        });
        let whole = fold(DIALECT, |sink| {
            let _ = OpenAiResponses.decode_response(Operation::Chat, last.to_string().as_bytes(), sink);
        });
        // The provider seals the same token anew for each event.
        let sealed = |mut response: Response| {
            let blocks = response
                .candidates
                .iter_mut()
                .flat_map(|candidate| &mut candidate.blocks);
            blocks
                .filter_map(|block| block.opaque.as_mut())
                .for_each(|token| token.0 = "sealed".into());
            // Server tools that run at once end in any order, some with the answer only.
            for candidate in &mut response.candidates {
                candidate.blocks.sort_by_key(|block| match &block.content {
                    Content::Native(native) => native.json.to_string(),
                    _ => String::new(),
                });
            }
            essence(response)
        };
        assert_eq!(sealed(stream), sealed(whole), "{}", case["id"]);
    }
}
