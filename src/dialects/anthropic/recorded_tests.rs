//! The codec on recorded traffic, where it is there (`TOLLGATE_SHARED`, or `../shared` beside the project): skipped
//! loudly where it is not.

use std::fs;
use std::path::PathBuf;

use bytes::BytesMut;
use serde_json::{Map, Value, json};

use super::*;
use crate::ir::response::fold;
use crate::ir::{Block, Content, EventSink, LossReport, Response, StreamEvent, grammar::Grammar};
use crate::sse::{self, Splitter};

struct Case {
    id: String,
    json: Value,
}

fn cases() -> Vec<Case> {
    let shared = std::env::var("TOLLGATE_SHARED").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let folder = shared.join("wire/cases");
    let Ok(index) = fs::read(folder.join("index.json")) else {
        eprintln!("SKIPPED: no recorded traffic in {}", folder.display());
        return Vec::new();
    };
    let index: Value = serde_json::from_slice(&index).expect("an index");
    let entries = index.as_array().expect("a list").iter();
    entries
        .filter(|entry| entry["wire"].as_str().is_some_and(|wire| wire.starts_with("anthropic")))
        .map(|entry| {
            let id = entry["id"].as_str().expect("an id").to_owned();
            let json = fs::read(folder.join(format!("{id}.json"))).expect("a case");
            let json = serde_json::from_slice(&json).expect("JSON");
            Case { id, json }
        })
        .collect()
}

fn target() -> Target {
    Anthropic.own_target(Operation::Chat, false).expect("chat").0
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

/// What two requests may differ in and still be the same.
fn normal(value: &Value) -> Value {
    match value {
        Value::Number(_) => json!(number(value)),
        Value::Array(list) => list.iter().map(normal).collect(),
        Value::Object(map) => {
            let mut normal: Map<String, Value> = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key.clone(), self::normal(value)))
                .collect();
            // A text alone is a list of one text; empty texts and no content are the same.
            for key in ["content", "system"] {
                if let Some(Value::String(text)) = normal.get(key)
                    && (key == "system" || !map.contains_key("source"))
                {
                    normal.insert(key.into(), json!([{"type": "text", "text": text}]));
                }
                if let Some(Value::Array(blocks)) = normal.get_mut(key) {
                    blocks.retain(|block| {
                        block["type"] != "text" || block["text"].as_str().is_none_or(|t| !t.trim().is_empty())
                    });
                    if blocks.is_empty() && map.get("type").is_some_and(|kind| kind == "tool_result") {
                        normal.shift_remove(key);
                    }
                }
            }
            if normal.get("type").is_some_and(|kind| kind == "text") && normal.get("citations") == Some(&json!([])) {
                normal.shift_remove("citations");
            }
            // The format's name in beta.
            if let Some(format) = normal.shift_remove("output_format") {
                let config = normal.entry("output_config").or_insert_with(|| json!({}));
                config["format"] = format;
            }
            for (key, default) in [
                ("stream", json!(false)),
                ("type", json!("custom")),
                ("strict", json!(false)),
            ] {
                if normal.get(key) == Some(&default) {
                    normal.shift_remove(key);
                }
            }
            Value::Object(normal)
        }
        other => other.clone(),
    }
}

#[test]
fn recorded_requests_come_home() {
    let mut odd = Vec::new();
    for case in cases() {
        let (status, body) = (&case.json["response"]["status"], &case.json["request"]["body"]);
        if *status != 200 || !body.is_object() {
            continue;
        }
        let count = case.json["wire"] == "anthropic_count_tokens";
        let request = Anthropic
            .decode_request(&target(), body.to_string().as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", case.id));
        let mut loss = LossReport::default();
        let to = Upstream {
            model: &request.model,
            stream: request.stream,
            ask_usage: false,
        };
        let written = if count {
            Anthropic
                .encode_count_request(&request, &to, &mut loss)
                .expect("it counts")
        } else {
            Anthropic.encode_request(&request, &to, &mut loss)
        };
        let written = written.unwrap_or_else(|error| panic!("{}: {error}", case.id));
        let written: Value = serde_json::from_slice(&written).expect("JSON");
        let (was, is) = (normal(body), normal(&written));
        let kept = loss
            .losses()
            .iter()
            .filter(|loss| !(count && loss.path == "max_tokens"))
            .count();
        if was != is || kept > 0 {
            odd.push(format!("{}: {:?}\n  was {was}\n  is  {is}", case.id, loss.losses()));
        }
    }
    assert!(odd.is_empty(), "{}", odd.join("\n"));
}

fn decoded(case: &Case) -> Option<Response> {
    let response = &case.json["response"];
    if response["status"] != 200 || case.json["wire"] != "anthropic" {
        return None;
    }
    let mut broken = Grammar::default();
    let folded = match response["sse_text"].as_str() {
        Some(text) if !text.is_empty() => fold(DIALECT, |sink| {
            let end = stream(text.as_bytes(), &mut |event| {
                broken.event(event.clone());
                sink.event(event);
            });
            assert_eq!(end, StreamEnd::Complete, "{}", case.id);
        }),
        _ => {
            let body = response["body_text"].as_str().expect("a body");
            fold(DIALECT, |sink| {
                let end = Anthropic.decode_response(Operation::Chat, body.as_bytes(), &mut |event: StreamEvent<'_>| {
                    broken.event(event.clone());
                    sink.event(event);
                });
                assert_eq!(end, Ok(StreamEnd::Complete), "{}", case.id);
            })
        }
    };
    assert_eq!(broken.end(), Vec::<&str>::new(), "{}", case.id);
    Some(folded)
}

fn stream(bytes: &[u8], sink: &mut dyn FnMut(StreamEvent<'_>)) -> StreamEnd {
    let mut splitter = Splitter::new(Framing::Sse, 1 << 24);
    let mut decoder = Anthropic.stream_decoder(Operation::Chat);
    let mut sink = |event: StreamEvent<'_>| sink(event);
    splitter.feed(bytes, |block| {
        if let sse::Content::Frame(frame) = block.content {
            decoder.frame(frame, &mut sink).expect("an event");
        }
    });
    decoder.finish(&mut sink)
}

/// Arguments as JSON, whatever their white space; texts that are empty are none.
fn comparable(mut response: Response) -> Response {
    for candidate in &mut response.candidates {
        let silent = |block: &Block| matches!(&block.content, Content::Text(text) if text.is_empty());
        candidate.blocks.retain(|block| !silent(block));
        for block in &mut candidate.blocks {
            if let Content::ToolCall(call) = &mut block.content {
                let parsed: Value = serde_json::from_str(&call.arguments).unwrap_or(json!({}));
                call.arguments = parsed.to_string();
            }
        }
    }
    response.native.sort_by(|a, b| a.key.cmp(&b.key));
    response
}

#[test]
fn recorded_answers_are_told_again() {
    let mut seen = 0;
    for case in cases() {
        let Some(answer) = decoded(&case) else { continue };
        seen += 1;
        let mut loss = LossReport::default();
        let whole = Anthropic.encode_response(&answer, &Answering::default(), &mut loss);
        let again = fold(DIALECT, |sink| {
            let end = Anthropic.decode_response(Operation::Chat, &whole, sink);
            assert_eq!(end, Ok(StreamEnd::Complete), "{}", case.id);
        });
        assert_eq!(comparable(again), comparable(answer.clone()), "{}", case.id);

        let (mut out, mut encoder) = (BytesMut::new(), Anthropic.stream_encoder(Answering::default()));
        answer.replay(&mut |event: StreamEvent<'_>| encoder.event(event, &mut out, &mut loss));
        for native in &answer.native {
            let known = [
                "usage.service_tier",
                "usage.inference_geo",
                "usage.server_tool_use",
                "usage.iterations",
                "stop_details",
                "container",
                "context_management",
            ];
            let key = known
                .into_iter()
                .find(|key| *key == &*native.key)
                .expect("a field we tell");
            let json = native.json.to_string().into();
            encoder.event(StreamEvent::Native { key, json }, &mut out, &mut loss);
        }
        encoder.finish(&mut out, &mut loss);
        let again = fold(DIALECT, |sink| {
            let end = stream(&out, &mut |event| sink.event(event));
            assert_eq!(end, StreamEnd::Complete, "{}", case.id);
        });
        let mut want = comparable(answer);
        for block in want.candidates.iter_mut().flat_map(|candidate| &mut candidate.blocks) {
            // Comes too late for a stream.
            block.native.clear();
        }
        assert_eq!(comparable(again), want, "{}", case.id);
        assert!(loss.is_empty(), "{}: {loss:?}", case.id);
    }
    eprintln!("{seen} recorded answers");
}
