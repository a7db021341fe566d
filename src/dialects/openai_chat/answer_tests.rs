//! Small answers of our own, written and read again.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::*;
use crate::dialects::codec::Upstream;
use crate::ir::response::fold;
use crate::ir::{
    Block, BlockHead, BlockIndex, Candidate, Citation, Content, Delta, FinishKind, FinishReason, Logprob, LossKind,
    LossReport, MediaKind, MediaSource, Opaque, Response, StreamEvent, ToolCall, ToolKind, Usage,
};

fn losses(loss: &LossReport) -> Vec<(LossKind, &str)> {
    loss.losses().iter().map(|loss| (loss.kind, &*loss.path)).collect()
}

fn answering(include_usage: bool) -> Answering {
    Answering {
        request_id: "r1".into(),
        created: 7,
        model: "asked".into(),
        include_usage,
        ..Answering::default()
    }
}

/// An answer with everything in it.
fn answer_of_everything() -> Response {
    let call = ToolCall {
        id: "1".into(),
        name: "f".into(),
        arguments: "{\"a\":1".into(),
        kind: ToolKind::Function,
        namespace: None,
    };
    let mut thought = Block::new(Content::Reasoning("hm".into()), "");
    thought.opaque = Some(Opaque("sig".into()));
    let mut text = Block::text("größer", "");
    text.citations.push(Citation {
        url: "https://a".into(),
        title: "A".into(),
        ..Citation::default()
    });
    text.logprobs.push(Logprob {
        token: "g".into(),
        logprob: -0.5,
        ..Logprob::default()
    });
    Response {
        id: "x".into(),
        model: "m".into(),
        candidates: vec![
            Candidate {
                index: 0,
                blocks: vec![thought, text, Block::new(Content::ToolCall(call), "")],
                finish: Some(FinishReason::new(FinishKind::Stop, "end")),
            },
            Candidate {
                index: 1,
                blocks: vec![Block::new(Content::Refusal("no".into()), "")],
                finish: Some(FinishReason::new(FinishKind::Pause, "pause")),
            },
        ],
        usage: Some(Usage {
            input: 3,
            cache_read: 2,
            output: 1,
            reasoning: 4,
            ..Usage::default()
        }),
        ..Response::default()
    }
}

fn stream(response: &Response, include_usage: bool) -> (Vec<Value>, String) {
    let mut encoder = OpenAiChat.stream_encoder(answering(include_usage));
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    response.replay(&mut |event: StreamEvent<'_>| encoder.event(event, &mut out, &mut loss));
    encoder.finish(&mut out, &mut loss);
    let text = String::from_utf8(out.to_vec()).expect("UTF-8");
    let frames = text
        .split_terminator("\n\n")
        .map(|frame| frame.strip_prefix("data: ").expect("data"));
    let chunks = frames
        .filter(|data| *data != "[DONE]")
        .map(|data| serde_json::from_str(data).expect(data));
    (chunks.collect(), text.clone())
}

#[test]
fn streams_keep_the_grammar() {
    let (chunks, text) = stream(&answer_of_everything(), true);
    assert!(text.ends_with("data: [DONE]\n\n"));
    for chunk in &chunks {
        let head = (&chunk["id"], &chunk["object"], &chunk["created"], &chunk["model"]);
        assert_eq!(
            head,
            (&json!("x"), &json!("chat.completion.chunk"), &json!(7), &json!("m"))
        );
        assert!(chunk.get("usage").is_some(), "told in all or in none: {chunk}");
    }
    assert_eq!(
        chunks[0]["choices"][0]["delta"],
        json!({"role": "assistant", "content": ""})
    );
    let of = |index: u32| {
        chunks
            .iter()
            .flat_map(|chunk| chunk["choices"].as_array().into_iter().flatten())
            .filter(move |c| c["index"] == index)
    };
    for index in [0, 1] {
        assert_eq!(of(index).next().expect("a chunk")["delta"]["role"], "assistant");
        assert_eq!(of(index).filter(|choice| !choice["finish_reason"].is_null()).count(), 1);
    }
    let calls: Vec<&Value> = of(0).filter_map(|choice| choice["delta"].get("tool_calls")).collect();
    let first = json!([{"index": 0, "id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}]);
    assert_eq!(
        calls,
        [&first, &json!([{"index": 0, "function": {"arguments": "{\"a\":1"}}])]
    );
    let last = chunks.last().expect("a chunk");
    assert_eq!(last["choices"], json!([]));
    assert_eq!(
        (&last["usage"]["prompt_tokens"], &last["usage"]["total_tokens"]),
        (&json!(5), &json!(10))
    );
    let (chunks, _) = stream(&answer_of_everything(), false);
    assert!(chunks.iter().all(|chunk| chunk.get("usage").is_none()), "not asked for");
}

#[test]
fn a_whole_answer_and_a_stream_mean_the_same() {
    let response = answer_of_everything();
    let mut loss = LossReport::default();
    let whole = OpenAiChat.encode_response(&response, &answering(true), &mut loss);
    let body: Value = serde_json::from_slice(&whole).expect("JSON");
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls", "it stopped, and wants a tool");
    assert_eq!(choice["message"]["reasoning_content"], "hm");
    let detail = json!({"type": "reasoning.text", "signature": "sig", "text": "hm", "index": 0});
    assert_eq!(choice["message"]["reasoning_details"], json!([detail]));
    let cited = &choice["message"]["annotations"][0]["url_citation"];
    assert_eq!(
        (&cited["start_index"], &cited["end_index"]),
        (&json!(0), &json!(6)),
        "characters, not bytes"
    );
    assert_eq!(body["choices"][1]["message"]["refusal"], "no");
    assert_eq!(losses(&loss), [(LossKind::Approximated, "finish_reason")]);
    let by_whole = fold(DIALECT, |sink| {
        OpenAiChat
            .decode_response(Operation::Chat, &whole, sink)
            .map(drop)
            .expect("an answer");
    });
    let (chunks, _) = stream(&response, true);
    let mut decoder = OpenAiChat.stream_decoder(Operation::Chat);
    let by_stream = fold(DIALECT, |sink| {
        for chunk in &chunks {
            let data = chunk.to_string();
            let frame = Frame {
                event: None,
                data: data.as_bytes(),
            };
            decoder.frame(frame, sink).expect("a chunk");
        }
        decoder.finish(sink);
    });
    assert_eq!(by_whole, by_stream);
    assert_eq!(by_stream.usage, response.usage);
    assert_eq!(by_stream.candidates[0].blocks[0], response.candidates[0].blocks[0]);
}

#[test]
fn a_failed_stream_ends_with_the_error_and_nothing_else() {
    let mut encoder = OpenAiChat.stream_encoder(answering(true));
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let start = StreamEvent::Start {
        id: "".into(),
        model: "".into(),
    };
    encoder.event(start, &mut out, &mut loss);
    let begun = out.len();
    encoder.fail(&ApiError::new(crate::ir::ErrorKind::Overloaded, "busy"), &mut out);
    let text = std::str::from_utf8(&out).expect("UTF-8");
    assert!(
        text.starts_with("data: {\"id\":\"chatcmpl-r1\""),
        "an id of our own: {text}"
    );
    let error: Value = serde_json::from_str(text[begun..].strip_prefix("data: ").expect("data")).expect("JSON");
    assert_eq!(error["error"]["message"], "busy");
    assert!(!text.contains("[DONE]"));
}

#[test]
fn a_whole_answer_is_its_message_and_a_chunk_its_delta() {
    let answer = |delta: &str| {
        format!(
            r#"{{"model":"m","choices":[{{"index":0,"delta":{{"content":"{delta}"}},"message":{{"content":"all"}},"finish_reason":"stop"}}]}}"#
        )
    };
    let text = |told: &Response| told.candidates[0].blocks[0].as_text().map(str::to_owned);
    let whole = fold(DIALECT, |sink| {
        let told = OpenAiChat.decode_response(Operation::Chat, answer("").as_bytes(), sink);
        told.map(drop).expect("an answer");
    });
    assert_eq!(text(&whole).as_deref(), Some("all"));
    let streamed = fold(DIALECT, |sink| {
        let data = answer("l");
        let frame = Frame {
            event: None,
            data: data.as_bytes(),
        };
        let mut decoder = OpenAiChat.stream_decoder(Operation::Chat);
        decoder.frame(frame, sink).expect("a chunk");
        decoder.finish(sink);
    });
    assert_eq!(text(&streamed).as_deref(), Some("l"), "not the message so far");
}

#[test]
fn pictures_and_sound_are_told() {
    let chunk = r#"{"model":"m","choices":[{"index":0,"delta":{"images":[{"type":"image_url","image_url":{"url":"data:image/png;base64,QUJD"}}],"audio":{"data":"QUJD","transcript":"hi"}},"finish_reason":"stop"}]}"#;
    let told = fold(DIALECT, |sink| {
        let mut decoder = OpenAiChat.stream_decoder(Operation::Chat);
        let frame = Frame {
            event: None,
            data: chunk.as_bytes(),
        };
        decoder.frame(frame, sink).expect("a chunk");
        decoder.finish(sink);
    });
    let blocks = &told.candidates[0].blocks;
    let media: Vec<_> = blocks
        .iter()
        .map(|block| match &block.content {
            Content::Media(media) => (media.kind, media.source.clone(), media.name.as_deref()),
            other => panic!("{other:?}"),
        })
        .collect();
    let data = || MediaSource::Inline("QUJD".into());
    assert_eq!(
        media,
        [(MediaKind::Audio, data(), Some("hi")), (MediaKind::Image, data(), None)]
    );
    let whole = OpenAiChat.encode_response(&told, &answering(false), &mut LossReport::default());
    let body: Value = serde_json::from_slice(&whole).expect("JSON");
    let message = &body["choices"][0]["message"];
    assert_eq!(
        (&message["audio"]["transcript"], &message["content"]),
        (&json!("hi"), &Value::Null)
    );
    assert_eq!(message["images"][0]["image_url"]["url"], "data:image/png;base64,QUJD");
}

#[test]
fn a_text_delta_is_the_head_and_the_text() {
    let mut encoder = OpenAiChat.stream_encoder(answering(false));
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let index = BlockIndex { candidate: 0, block: 0 };
    let start = StreamEvent::BlockStart {
        index,
        block: BlockHead::Text,
    };
    encoder.event(start, &mut out, &mut loss);
    out.clear();
    let delta = StreamEvent::Delta {
        index,
        delta: Delta::Text("a\"b".into()),
    };
    encoder.event(delta, &mut out, &mut loss);
    let want = r#"data: {"id":"chatcmpl-r1","object":"chat.completion.chunk","created":7,"model":"asked","choices":[{"index":0,"delta":{"content":"a\"b"},"finish_reason":null}]}"#;
    assert_eq!(std::str::from_utf8(&out), Ok(format!("{want}\n\n").as_str()));
}

#[test]
fn vectors_are_asked_for_and_written_in_the_form_asked() {
    let target = OpenAiChat
        .own_target(Operation::Embeddings, false)
        .expect("embeddings")
        .0;
    let read = |body: Value| {
        let bytes = serde_json::to_vec(&body).expect("JSON");
        OpenAiChat
            .decode_embeddings(&target, &bytes)
            .expect("known")
            .expect("a request")
    };
    let to = Upstream {
        model: "m",
        stream: false,
        ask_usage: false,
    };
    for body in [
        json!({"model": "m", "input": "x"}),
        json!({"model": "m", "input": ["x"], "dimensions": 3, "user": "u"}),
        json!({"model": "m", "input": [1, 2]}),
        json!({"model": "m", "input": [[1, 2], "x"], "encoding_format": "base64", "input_type": "query"}),
    ] {
        let request = read(body.clone());
        let written = OpenAiChat.encode_embeddings(&request, &to, &mut LossReport::default());
        let written: Value = serde_json::from_slice(&written.expect("known").expect("written")).expect("JSON");
        assert_eq!(written, body);
    }
    let response = crate::ir::EmbeddingResponse {
        model: String::new(),
        vectors: vec![vec![0.5, -0.25, f64::from(0.1f32)]],
        usage: None,
    };
    let mut loss = LossReport::default();
    for (form, want) in [
        ("float", json!([0.5, -0.25, 0.1])),
        ("base64", json!("AAAAPwAAgL7NzMw9")),
    ] {
        let asked = read(json!({"model": "m", "input": "x", "encoding_format": form}));
        let bytes = OpenAiChat
            .encode_vectors(&response, &asked, &target, &mut loss)
            .expect("known");
        let body: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert_eq!((&body["data"][0]["embedding"], &body["model"]), (&want, &json!("m")));
        let again = OpenAiChat.decode_vectors(&bytes).expect("known").expect("vectors");
        assert!((again.vectors[0][2] - 0.1).abs() < 1e-7);
    }
    assert_eq!(losses(&loss), [(LossKind::Synthesized, "usage")]);
}
