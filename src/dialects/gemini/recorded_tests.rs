//! Every recording of this dialect, where the recordings are: read, written again, and told again.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::canonical_tests::canonical;
use super::*;
use crate::ir::response::fold;
use crate::ir::{EventSink, LossReport, Request, Response, StreamEvent};
use crate::sse::Splitter;

fn cases() -> Vec<Value> {
    let shared = std::env::var("TOLLGATE_SHARED").unwrap_or_else(|_| "../shared".into());
    let folder = std::path::Path::new(&shared).join("wire/cases");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        eprintln!("SKIPPED: no recordings in {}", folder.display());
        return Vec::new();
    };
    let named = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("gemini");
    let mut paths: Vec<_> = entries.flatten().filter(named).map(|entry| entry.path()).collect();
    paths.sort();
    let read = |path| {
        std::fs::read(path)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
    };
    paths.into_iter().filter_map(read).collect()
}

fn id(case: &Value) -> &str {
    case["id"].as_str().unwrap_or("?")
}

/// Where the request went.
fn asked(case: &Value) -> Option<Target> {
    let path = case["request"]["path"].as_str()?;
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let at = path.find("/models/")?;
    // Recorded at Vertex AI: the same method elsewhere.
    let path = format!("/v1beta{}", &path[at..]);
    let headers = http::HeaderMap::new();
    Gemini.target(Line {
        method: &Method::POST,
        path: &path,
        query,
        headers: &headers,
    })
}

/// Requests of recordings that went well.
fn requests() -> Vec<(Value, Target, Request)> {
    let mut read = Vec::new();
    for case in cases() {
        if case["response"]["status"] != 200 || !case["request"]["body"].is_object() {
            continue;
        }
        let Some(target) = asked(&case) else { continue };
        if !matches!(target.operation, Operation::Chat | Operation::CountTokens) {
            continue;
        }
        let body = case["request"]["body"].to_string();
        match Gemini.decode_request(&target, body.as_bytes()) {
            Ok(request) => read.push((case, target, request)),
            Err(error) => panic!("{}: {error}", id(&case)),
        }
    }
    read
}

fn upstream(model: &str) -> Upstream<'_> {
    Upstream {
        model,
        stream: false,
        ask_usage: false,
    }
}

#[test]
fn requests_come_home_as_they_went() {
    for (case, target, mut request) in requests() {
        request.link_tools();
        let mut loss = LossReport::default();
        let model = request.model.clone();
        let body = Gemini
            .encode_request(&request, &upstream(&model), &mut loss)
            .expect("an own request");
        let home: Value = serde_json::from_slice(&body).expect("JSON");
        let mut sent = case["request"]["body"].clone();
        if target.operation == Operation::CountTokens
            && let Some(inner) = sent.get("generateContentRequest")
        {
            sent = inner.clone();
        }
        let (want, mut have) = (canonical(&sent), canonical(&home));
        if thinking::insists_on_signatures(&model) && want != have {
            strip_synthesized(&mut have);
        }
        assert_eq!(have, want, "{}", id(&case));
        for loss in loss.losses() {
            assert!(loss.why.starts_with("a call must carry"), "{}: {loss:?}", id(&case));
        }
    }
}

fn strip_synthesized(body: &mut Value) {
    match body {
        Value::Object(map) => {
            map.retain(|_, value| value != "skip_thought_signature_validator");
            map.values_mut().for_each(strip_synthesized);
        }
        Value::Array(list) => list.iter_mut().for_each(strip_synthesized),
        _ => {}
    }
}

fn tell(case: &Value, framing: Framing, bytes: &[u8], sink: &mut dyn EventSink) -> StreamEnd {
    let mut decoder = Gemini.stream_decoder(Operation::Chat);
    let mut splitter = Splitter::new(framing, 1 << 24);
    splitter.feed(bytes, |block| {
        if let crate::sse::Content::Frame(frame) = block.content {
            let read = decoder.frame(frame, sink);
            assert!(read.is_ok(), "{}: {read:?}", id(case));
        }
    });
    let mut last = Vec::new();
    splitter.finish(|frame| last.push(frame.data.to_vec()));
    for data in last {
        decoder
            .frame(
                Frame {
                    event: None,
                    data: &data,
                },
                sink,
            )
            .expect("a frame");
    }
    decoder.finish(sink)
}

fn answer(case: &Value, sink: &mut dyn EventSink) -> Option<StreamEnd> {
    if case["response"]["status"] != 200 || case["wire"] != "gemini" {
        return None;
    }
    match case["response"]["sse_text"].as_str() {
        Some(text) => Some(tell(case, Framing::Sse, text.as_bytes(), sink)),
        None => {
            let text = case["response"]["body_text"].as_str()?;
            Some(
                Gemini
                    .decode_response(Operation::Chat, text.as_bytes(), sink)
                    .expect("an answer"),
            )
        }
    }
}

fn to(framing: Framing) -> Answering {
    Answering {
        request_id: "r".into(),
        model: "m".into(),
        framing,
        ..Answering::default()
    }
}

#[test]
fn answers_told_again_are_the_same_answers() {
    for case in cases() {
        let mut grammar = crate::ir::grammar::Grammar::default();
        let first = fold(DIALECT, |sink| {
            answer(&case, &mut |event: StreamEvent<'_>| {
                grammar.event(event.clone());
                sink.event(event);
            });
        });
        assert_eq!(grammar.end(), Vec::<&str>::new(), "{}", id(&case));
        if first == Response::default() || first.candidates.is_empty() {
            continue;
        }
        let mut loss = LossReport::default();
        // Whole.
        let whole = Gemini.encode_response(&first, &to(Framing::Sse), &mut loss);
        let again = fold(DIALECT, |sink| {
            Gemini
                .decode_response(Operation::Chat, &whole, sink)
                .expect("our own answer");
        });
        assert_eq!(same(again), same(first.clone()), "{}", id(&case));
        // Streamed, in both framings.
        for framing in [Framing::Sse, Framing::JsonArray] {
            let (mut out, mut encoder) = (BytesMut::new(), Gemini.stream_encoder(to(framing)));
            answer(&case, &mut |event: StreamEvent<'_>| {
                encoder.event(event, &mut out, &mut loss)
            });
            encoder.finish(&mut out, &mut loss);
            let again = fold(DIALECT, |sink| {
                assert_eq!(tell(&case, framing, &out, sink), StreamEnd::Complete, "{}", id(&case));
            });
            assert_eq!(same(again), same(first.clone()), "{} {framing:?}", id(&case));
        }
        let unexpected = loss.losses().iter().find(|loss| loss.path != "finishReason");
        assert_eq!(unexpected, None, "{}", id(&case));
    }
}

/// What is made up, or told in another order, made equal.
fn same(mut response: Response) -> Response {
    if response.id.is_empty() {
        response.id = "r".into();
    }
    if response.model.is_empty() {
        response.model = "m".into();
    }
    response.native.sort_by(|a, b| a.key.cmp(&b.key));
    for candidate in &mut response.candidates {
        if candidate.finish.is_none() {
            candidate.finish = Some(crate::ir::FinishReason::new(FinishKind::Stop, "STOP"));
        }
        for block in &mut candidate.blocks {
            // White space between the arguments.
            if let crate::ir::Content::ToolCall(call) = &mut block.content
                && let Ok(arguments) = serde_json::from_str::<Value>(&call.arguments)
            {
                call.arguments = arguments.to_string();
            }
        }
        // Blocks with nothing in them (a sound without bytes, a text without letters) are not written.
        candidate.blocks.retain(
            |block| !matches!(&block.content, crate::ir::Content::Text(t) if t.is_empty() && block.opaque.is_none()),
        );
    }
    response
}

#[test]
fn vectors_and_counts_are_read() {
    for case in cases() {
        let Some(target) = asked(&case).filter(|_| case["response"]["status"] == 200) else {
            continue;
        };
        let text = case["response"]["body_text"].as_str().unwrap_or("").as_bytes();
        match target.operation {
            Operation::CountTokens => {
                assert!(matches!(Gemini.decode_count(text), Some(Ok(1..))), "{}", id(&case));
            }
            Operation::Embeddings => {
                let body = case["request"]["body"].to_string();
                let request = Gemini
                    .decode_embeddings(&target, body.as_bytes())
                    .expect("known")
                    .expect("read");
                let answer = Gemini.decode_vectors(text).expect("known").expect("read");
                assert_eq!(request.inputs.len(), answer.vectors.len(), "{}", id(&case));
                let mut loss = LossReport::default();
                let model = request.model.clone();
                let home = Gemini
                    .encode_embeddings(&request, &upstream(&model), &mut loss)
                    .expect("known")
                    .expect("written");
                let home: Value = serde_json::from_slice(&home).expect("JSON");
                let sent = &case["request"]["body"];
                let texts = |body: &Value| -> Vec<Value> {
                    let list = body["requests"]
                        .as_array()
                        .cloned()
                        .unwrap_or_else(|| vec![body.clone()]);
                    list.into_iter()
                        .map(|one| json!([one["content"]["parts"], one["outputDimensionality"], one["taskType"]]))
                        .collect()
                };
                assert_eq!(texts(&home), texts(sent), "{}", id(&case));
            }
            _ => {}
        }
    }
}
