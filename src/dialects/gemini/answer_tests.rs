//! Answers: told in full, and written whole, as server-sent events and as a JSON array.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::*;
use crate::ir::response::fold;
use crate::ir::{
    BlockHead, BlockIndex, Citation, Content, Delta, EmbeddingRequest, EmbeddingResponse, ErrorKind, FinishReason,
    Logprob, LossReport, MediaKind, Response, StreamEvent, Usage,
};

fn told(elements: &[Value]) -> Response {
    fold(DIALECT, |sink| {
        let mut decoder = Gemini.stream_decoder(Operation::Chat);
        for element in elements {
            let data = element.to_string();
            let frame = Frame {
                event: None,
                data: data.as_bytes(),
            };
            decoder.frame(frame, sink).expect("an element");
        }
        decoder.finish(sink);
    })
}

fn parts(parts: Value) -> Value {
    json!({"candidates": [{"content": {"role": "model", "parts": parts}}]})
}

fn at(block: u32) -> BlockIndex {
    BlockIndex { candidate: 0, block }
}

fn to(framing: Framing) -> Answering {
    Answering {
        request_id: "r".into(),
        model: "m".into(),
        framing,
        ..Answering::default()
    }
}

/// Writes events, and returns what the stream says.
fn written(events: &[StreamEvent<'_>], framing: Framing) -> (String, LossReport) {
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let mut encoder = Gemini.stream_encoder(to(framing));
    for event in events {
        encoder.event(event.clone(), &mut out, &mut loss);
    }
    encoder.finish(&mut out, &mut loss);
    (String::from_utf8(out.to_vec()).expect("UTF-8"), loss)
}

fn finish(kind: FinishKind, raw: &str) -> StreamEvent<'static> {
    StreamEvent::Finish {
        candidate: 0,
        reason: FinishReason::new(kind, raw),
    }
}

fn start(block: u32, head: BlockHead<'static>) -> StreamEvent<'static> {
    StreamEvent::BlockStart {
        index: at(block),
        block: head,
    }
}

fn delta(block: u32, delta: Delta<'static>) -> StreamEvent<'static> {
    StreamEvent::Delta {
        index: at(block),
        delta,
    }
}

fn stop(block: u32) -> StreamEvent<'static> {
    StreamEvent::BlockStop { index: at(block) }
}

#[test]
fn tokens_stay_with_what_they_belong_to() {
    let response = told(&[
        parts(json!([{"text": "hm", "thought": true}])),
        parts(json!([{"text": "Hello "}])),
        parts(json!([{"text": "you"}, {"text": "", "thoughtSignature": "dDE="}])),
        parts(json!([{"text": "More"}, {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "dDI="}])),
        json!({"candidates": [{"finishReason": "STOP"}]}),
    ]);
    let blocks: Vec<_> = response.candidates[0]
        .blocks
        .iter()
        .map(|block| (&block.content, block.opaque.as_ref().map(|token| &*token.0)))
        .collect();
    assert_eq!(blocks[0], (&Content::Reasoning("hm".into()), None));
    assert_eq!(blocks[1], (&Content::Text("Hello you".into()), Some("dDE=")));
    assert_eq!(blocks[2], (&Content::Text("More".into()), None));
    assert_eq!(blocks[3].1, Some("dDI="));
}

#[test]
fn arguments_in_pieces_are_put_together() {
    let call = |call: Value| parts(json!([{ "functionCall": call }]));
    let response = told(&[
        call(json!({"name": "f", "args": {"z": true}, "willContinue": true})),
        call(
            json!({"partialArgs": [{"jsonPath": "$.a[0]", "stringValue": "x", "willContinue": true}], "willContinue": true}),
        ),
        call(
            json!({"partialArgs": [{"jsonPath": "$.a[0]", "stringValue": "y"}, {"json_path": "$.n", "numberValue": 1}], "willContinue": true}),
        ),
        call(json!({})),
        json!({"candidates": [{"finishReason": "STOP"}]}),
    ]);
    let Content::ToolCall(call) = &response.candidates[0].blocks[0].content else {
        panic!("a call")
    };
    assert_eq!(call.arguments, r#"{"z":true,"a":["xy"],"n":1}"#);
}

#[test]
fn sources_probabilities_media_and_server_tools_are_told() {
    let response = told(&[
        parts(json!([{"executableCode": {"code": "1"}, "thoughtSignature": "dA=="}])),
        parts(json!([{"inlineData": {"mimeType": "image/png", "data": "YQ=="}}])),
        parts(json!([{"inlineData": {"mimeType": "audio/pcm", "data": "YQ=="}}])),
        parts(json!([{"inlineData": {"mimeType": "audio/pcm", "data": "Yg=="}}])),
        parts(json!([{"text": "Öl is "}])),
        parts(json!([{"text": "oil."}])),
        json!({"candidates": [{"finishReason": "STOP", "avgLogprobs": -0.5,
            "logprobsResult": {"chosenCandidates": [{"token": "Öl", "logProbability": -0.5}], "topCandidates": [{"candidates": [{"token": "Oil", "logProbability": -1}]}]},
            "groundingMetadata": {
                "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}, {"web": {"uri": "https://b"}}],
                "groundingSupports": [{"segment": {"endIndex": 3}, "groundingChunkIndices": [0]}],
            },
        }]}),
    ]);
    let blocks = &response.candidates[0].blocks;
    assert!(
        matches!(&blocks[0].content, Content::Native(n) if n.json == json!({"executableCode": {"code": "1"}, "thoughtSignature": "dA=="}))
    );
    assert!(matches!(&blocks[1].content, Content::Media(media) if media.kind == MediaKind::Image));
    assert!(
        matches!(&blocks[2].content, Content::Media(m) if m.source == crate::ir::MediaSource::Inline("YWI=".into()))
    );
    let cited: Vec<_> = blocks[3]
        .citations
        .iter()
        .map(|c| (c.url.as_ref(), c.title.as_ref(), c.span))
        .collect();
    assert_eq!(
        cited,
        [("https://a", "A", Some((0, 2))), ("https://b", "", None)],
        "spans count characters"
    );
    assert_eq!(blocks[3].logprobs[0].top[0].token, "Oil");
    let natives: Vec<&str> = response.native.iter().map(|native| &*native.key).collect();
    assert_eq!(natives, ["groundingMetadata", "avgLogprobs"]);
}

/// An answer as another dialect tells it.
fn foreign() -> Vec<StreamEvent<'static>> {
    let citation = Citation {
        url: "https://a".into(),
        title: "A".into(),
        span: Some((0, 2)),
        ..Citation::default()
    };
    vec![
        StreamEvent::Start {
            id: "".into(),
            model: "other-1".into(),
        },
        start(0, BlockHead::Reasoning),
        delta(0, Delta::Text("hm".into())),
        delta(0, Delta::Opaque("c2VhbGVk".into())),
        stop(0),
        StreamEvent::Ping,
        start(1, BlockHead::Text),
        delta(1, Delta::Text("Öl\n".into())),
        delta(1, Delta::Citation(citation)),
        delta(
            1,
            Delta::Logprobs(vec![Logprob {
                token: "Öl".into(),
                logprob: -0.5,
                ..Logprob::default()
            }]),
        ),
        stop(1),
        start(2, BlockHead::function("c1", "f")),
        delta(2, Delta::Arguments("{\"a\":\n".into())),
        delta(2, Delta::Arguments("1}".into())),
        stop(2),
        start(3, BlockHead::function("c2", "g")),
        delta(3, Delta::Arguments("{\"cut".into())),
        stop(3),
        start(4, BlockHead::native("web_search_call")),
        stop(4),
        StreamEvent::Usage(Usage {
            input: 5,
            cache_read: 2,
            output: 3,
            reasoning: 4,
            ..Usage::default()
        }),
        finish(FinishKind::ToolCalls, "tool_calls"),
    ]
}

#[test]
fn streams_are_written_in_both_framings() {
    let (sse, loss) = written(&foreign(), Framing::Sse);
    let elements: Vec<Value> = sse
        .split_terminator("\r\n\r\n")
        .map(|frame| serde_json::from_str(frame.strip_prefix("data: ").expect("one field, on one line")).expect("JSON"))
        .collect();
    let (array, _) = written(&foreign(), Framing::JsonArray);
    let array: Vec<Value> = serde_json::from_str(&array).expect("a closed array");
    assert_eq!(array, elements);
    let parts: Vec<&Value> = elements
        .iter()
        .map(|element| &element["candidates"][0]["content"]["parts"][0])
        .collect();
    let want = [
        json!({"text": "hm", "thought": true}),
        json!({"text": "", "thought": true, "thoughtSignature": "c2VhbGVk"}),
        json!({"text": "Öl\n"}),
        json!({"functionCall": {"id": "c1", "name": "f", "args": {"a": 1}}}),
        json!({"functionCall": {"id": "c2", "name": "g", "args": {"raw_arguments": "{\"cut"}}}),
        json!({"text": ""}),
    ];
    assert_eq!(parts, want.iter().collect::<Vec<_>>());
    let finished = elements
        .iter()
        .filter(|element| element["candidates"][0].get("finishReason").is_some())
        .count();
    assert_eq!(finished, 1);
    let last = elements.last().expect("some");
    let grounding = json!({
        "groundingChunks": [{"web": {"uri": "https://a", "title": "A"}}],
        "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 3}, "groundingChunkIndices": [0]}],
    });
    assert_eq!(
        last["candidates"][0]["groundingMetadata"], grounding,
        "spans count bytes"
    );
    assert_eq!(
        last["candidates"][0]["logprobsResult"]["chosenCandidates"][0]["logProbability"],
        -0.5
    );
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    let usage = json!({"promptTokenCount": 7, "candidatesTokenCount": 3, "totalTokenCount": 14, "cachedContentTokenCount": 2, "thoughtsTokenCount": 4});
    assert_eq!(last["usageMetadata"], usage);
    for element in &elements {
        assert_eq!(
            (&element["modelVersion"], &element["responseId"]),
            (&json!("other-1"), &json!("r"))
        );
    }
    let lost: Vec<&str> = loss.losses().iter().map(|loss| loss.path.as_ref()).collect();
    assert_eq!(lost, ["arguments", "web_search_call"]);
}

#[test]
fn whole_answers_mean_what_their_streams_mean() {
    let mut loss = LossReport::default();
    let response = fold(DialectId::new("other"), |sink| {
        foreign().into_iter().for_each(|event| sink.event(event))
    });
    let whole = Gemini.encode_response(&response, &to(Framing::Sse), &mut loss);
    let (sse, _) = written(&foreign(), Framing::Sse);
    let streamed: Vec<Value> = sse
        .split_terminator("\r\n\r\n")
        .map(|frame| serde_json::from_str(&frame["data: ".len()..]).expect("JSON"))
        .collect();
    let once = serde_json::from_slice::<Value>(&whole).expect("JSON");
    assert_eq!(told(&[once]), told(&streamed));
}

#[test]
fn why_an_answer_ended_is_said_in_googles_words() {
    let word = |events: &[StreamEvent<'_>]| {
        let (array, loss) = written(events, Framing::JsonArray);
        let array: Vec<Value> = serde_json::from_str(&array).expect("an array");
        let reason = array.last().expect("some")["candidates"][0]["finishReason"].clone();
        (reason.as_str().expect("a word").to_owned(), loss.is_empty())
    };
    for (kind, raw, want, exact) in [
        (FinishKind::Stop, "end_turn", "STOP", true),
        (FinishKind::Length, "length", "MAX_TOKENS", true),
        (FinishKind::ContentFilter, "content_filter", "SAFETY", true),
        (FinishKind::ContentFilter, "RECITATION", "RECITATION", true),
        (FinishKind::Pause, "pause_turn", "STOP", false),
        (FinishKind::Other, "odd", "OTHER", false),
    ] {
        assert_eq!(word(&[finish(kind, raw)]), (want.to_owned(), exact), "{raw}");
    }
    let refusal = [
        start(0, BlockHead::Refusal),
        delta(0, Delta::Text("No.".into())),
        stop(0),
        finish(FinishKind::Stop, "stop"),
    ];
    assert_eq!(word(&refusal).0, "SAFETY");
    assert_eq!(word(&[]), ("STOP".to_owned(), false), "why was not told");
}

#[test]
fn several_candidates_end_each_for_itself() {
    let events = [
        StreamEvent::BlockStart {
            index: BlockIndex { candidate: 1, block: 0 },
            block: BlockHead::Text,
        },
        start(0, BlockHead::Text),
        StreamEvent::Delta {
            index: BlockIndex { candidate: 1, block: 0 },
            delta: Delta::Text("b".into()),
        },
        delta(0, Delta::Text("a".into())),
        stop(0),
        finish(FinishKind::Length, "length"),
    ];
    let (array, _) = written(&events, Framing::JsonArray);
    let array: Vec<Value> = serde_json::from_str(&array).expect("an array");
    assert_eq!(array[0]["candidates"][0]["index"], 1);
    let ends: Vec<_> = array[2]["candidates"]
        .as_array()
        .expect("both")
        .iter()
        .map(|c| (&c["index"], &c["finishReason"]))
        .collect();
    assert_eq!(ends, [(&json!(0), &json!("MAX_TOKENS")), (&json!(1), &json!("STOP"))]);
}

#[test]
fn a_failed_stream_never_looks_finished() {
    for (framing, events) in [(Framing::Sse, 1), (Framing::JsonArray, 0), (Framing::JsonArray, 1)] {
        let mut encoder = Gemini.stream_encoder(to(framing));
        let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
        if events > 0 {
            for event in [start(0, BlockHead::Text), delta(0, Delta::Text("a".into()))] {
                encoder.event(event, &mut out, &mut loss);
            }
        }
        encoder.fail(&ApiError::new(ErrorKind::Overloaded, "busy"), &mut out);
        let text = String::from_utf8(out.to_vec()).expect("UTF-8");
        assert!(!text.contains("finishReason"));
        if framing == Framing::JsonArray {
            let array: Vec<Value> = serde_json::from_str(&text).expect("a closed array");
            assert_eq!(
                (array.len(), &array[events]["error"]["status"]),
                (events + 1, &json!("UNAVAILABLE"))
            );
        } else {
            assert!(text.ends_with("\r\n\r\n"));
        }
    }
}

#[test]
fn tokens_are_bytes_and_media_are_whole() {
    let events = [
        start(0, BlockHead::Text),
        delta(0, Delta::Opaque("not base64!".into())),
        stop(0),
        start(
            1,
            BlockHead::Media {
                kind: MediaKind::Image,
                mime: "image/png".into(),
                url: "".into(),
            },
        ),
        delta(1, Delta::Data("YQ==".into())),
        delta(1, Delta::Data("Yg==".into())),
        stop(1),
    ];
    let (array, _) = written(&events, Framing::JsonArray);
    let array: Vec<Value> = serde_json::from_str(&array).expect("an array");
    let part = |index: usize| &array[index]["candidates"][0]["content"]["parts"][0];
    assert_eq!(part(0)["thoughtSignature"], "bm90IGJhc2U2NCE=");
    assert_eq!(
        part(1),
        &json!({"inlineData": {"mimeType": "image/png", "data": "YWI="}})
    );
}

#[test]
fn vectors_are_written_as_they_were_asked_for() {
    let response = EmbeddingResponse {
        vectors: vec![vec![0.5, -1.0]],
        ..EmbeddingResponse::default()
    };
    for (method, want) in [
        ("v1beta:embedContent", json!({"embedding": {"values": [0.5, -1.0]}})),
        (
            "v1beta:batchEmbedContents",
            json!({"embeddings": [{"values": [0.5, -1.0]}]}),
        ),
    ] {
        let target = Target {
            method: method.into(),
            ..Gemini.own_target(Operation::Embeddings, false).expect("known").0
        };
        let asked = EmbeddingRequest::default();
        let body = Gemini
            .encode_vectors(&response, &asked, &target, &mut LossReport::default())
            .expect("known");
        assert_eq!(serde_json::from_slice::<Value>(&body).expect("JSON"), want);
        assert_eq!(
            Gemini.decode_vectors(&body).and_then(Result::ok),
            Some(response.clone())
        );
    }
    assert!(Gemini.decode_vectors(b"{}").is_some_and(|read| read.is_err()));
}
