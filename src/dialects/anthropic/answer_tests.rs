//! Answers of other dialects, as the hub has them, written for this one's clients, whole and streamed.

use std::borrow::Cow;

use bytes::BytesMut;
use serde_json::{Value, json};

use super::*;
use crate::ir::grammar::Grammar;
use crate::ir::response::fold;
use crate::ir::{BlockHead, BlockIndex, Citation, Delta, ErrorKind, FinishReason, LossReport, StreamEvent, Usage};

type Events = Vec<StreamEvent<'static>>;

fn at(block: u32) -> BlockIndex {
    BlockIndex { candidate: 0, block }
}

/// A block of these pieces.
fn block(number: u32, head: BlockHead<'static>, pieces: Vec<Delta<'static>>) -> Events {
    let index = at(number);
    let mut events = vec![StreamEvent::BlockStart { index, block: head }];
    events.extend(pieces.into_iter().map(|delta| StreamEvent::Delta { index, delta }));
    events.push(StreamEvent::BlockStop { index });
    events
}

fn text(text: &'static str) -> Delta<'static> {
    Delta::Text(Cow::Borrowed(text))
}

fn opaque(token: &'static str) -> Delta<'static> {
    Delta::Opaque(Cow::Borrowed(token))
}

fn start() -> Events {
    vec![StreamEvent::Start {
        id: "".into(),
        model: "".into(),
    }]
}

fn finish(kind: FinishKind, raw: &str) -> Events {
    vec![StreamEvent::Finish {
        candidate: 0,
        reason: FinishReason::new(kind, raw),
    }]
}

fn to() -> Answering {
    Answering {
        request_id: "r1".into(),
        model: "asked".into(),
        ..Answering::default()
    }
}

/// The stream's frames, and what was lost.
fn streamed(events: &Events) -> (Vec<Value>, LossReport) {
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let mut encoder = Anthropic.stream_encoder(to());
    for event in events {
        encoder.event(event.clone(), &mut out, &mut loss);
    }
    encoder.finish(&mut out, &mut loss);
    (frames(&out), loss)
}

fn frames(out: &[u8]) -> Vec<Value> {
    let out = std::str::from_utf8(out).expect("UTF-8");
    let frames = out.strip_suffix("\n\n").expect("whole frames").split("\n\n");
    let frames = frames.map(|frame| {
        let (name, data) = frame.split_once("\ndata: ").expect("a name and data");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str());
        data
    });
    frames.collect()
}

fn whole(events: &Events) -> (Value, LossReport) {
    let mut loss = LossReport::default();
    let folded = fold(DIALECT, |sink| {
        events.iter().for_each(|event| sink.event(event.clone()))
    });
    let body = Anthropic.encode_response(&folded, &to(), &mut loss);
    (serde_json::from_slice(&body).expect("JSON"), loss)
}

/// The blocks of a stream, put together as its clients do; indices are checked.
fn content(frames: &[Value]) -> Vec<Value> {
    let mut blocks: Vec<Value> = Vec::new();
    let mut input = String::new();
    for frame in frames {
        let index = frame["index"].as_u64();
        match frame["type"].as_str().expect("a type") {
            "content_block_start" => {
                assert_eq!(index, Some(blocks.len() as u64));
                blocks.push(frame["content_block"].clone());
            }
            "content_block_delta" => {
                assert_eq!(index, Some(blocks.len() as u64 - 1));
                let (delta, block) = (&frame["delta"], blocks.last_mut().expect("a block"));
                for key in ["text", "thinking", "signature"] {
                    if let Some(piece) = delta[key].as_str() {
                        block[key] = format!("{}{piece}", block[key].as_str().unwrap_or("")).into();
                    }
                }
                input.push_str(delta["partial_json"].as_str().unwrap_or(""));
                if let Some(citation) = delta.get("citation") {
                    block["citations"] = json!([citation]);
                }
            }
            "content_block_stop" if !input.is_empty() => {
                let block = blocks.last_mut().expect("a block");
                block["input"] = serde_json::from_str(&std::mem::take(&mut input)).expect("JSON");
            }
            _ => {}
        }
    }
    blocks
}

#[test]
fn a_stream_and_a_whole_answer_say_the_same() {
    let cited = Citation {
        url: "https://e.org".into(),
        title: "E".into(),
        ..Citation::default()
    };
    let call = BlockHead::function("c1", "f");
    let server = BlockHead::Native {
        kind: "server_tool_use".into(),
        json: r#"{"type":"server_tool_use","id":"s","name":"web_search","input":{"query":"q"}}"#.into(),
    };
    let events: Events = [
        start(),
        block(
            0,
            BlockHead::Reasoning,
            vec![text("let me "), text("see"), opaque("sig")],
        ),
        block(1, BlockHead::Reasoning, vec![opaque("sealed")]),
        block(2, BlockHead::Reasoning, vec![opaque("thinking_unseen_withheld")]),
        block(3, BlockHead::Text, vec![]),
        block(
            4,
            BlockHead::Text,
            vec![text("so"), Delta::Citation(cited), opaque("of-the-text")],
        ),
        block(5, server, vec![]),
        block(
            6,
            call,
            vec![Delta::Arguments("{\"a\"".into()), Delta::Arguments(":1}".into())],
        ),
        vec![StreamEvent::Usage(Usage {
            input: 5,
            cache_read: 6,
            cache_write_5m: 1,
            cache_write_1h: 2,
            input_audio: 3,
            output: 10,
            reasoning: 4,
            output_audio: 0,
            ..Usage::default()
        })],
        finish(FinishKind::Stop, "STOP"),
    ]
    .concat();
    let (frames, stream_loss) = streamed(&events);
    let (body, whole_loss) = whole(&events);
    let want = json!([
        {"type": "thinking", "thinking": "let me see", "signature": "sig"},
        {"type": "redacted_thinking", "data": "sealed"},
        {"type": "thinking", "thinking": "", "signature": "withheld"},
        {"type": "text", "text": "so", "citations": [{"type": "web_search_result_location", "cited_text": "",
            "encrypted_index": "", "title": "E", "url": "https://e.org"}]},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
        {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}},
    ]);
    assert_eq!(body["content"], want);
    assert_eq!(Value::Array(content(&frames)), want);
    let usage = json!({
        "input_tokens": 8, "cache_creation_input_tokens": 3, "cache_read_input_tokens": 6,
        "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2},
        "output_tokens": 14, "output_tokens_details": {"thinking_tokens": 4},
    });
    assert_eq!(
        (&body["usage"], &body["stop_reason"], &body["id"]),
        (&usage, &json!("tool_use"), &json!("msg_r1"))
    );
    let end = &frames[frames.len() - 2..];
    assert_eq!(
        end[0],
        json!({"type": "message_delta", "usage": usage,
        "delta": {"stop_reason": "tool_use", "stop_sequence": null}})
    );
    assert_eq!(end[1], json!({"type": "message_stop"}));
    assert_eq!(frames[0]["message"]["model"], "asked");
    assert_eq!(frames[0]["message"]["usage"]["input_tokens"], 0);
    for loss in [stream_loss, whole_loss] {
        let told: Vec<_> = loss.losses().iter().map(|loss| (&*loss.path, loss.why)).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].0.starts_with("content["),
            "only reasoning has a token: {told:?}"
        );
    }
}

#[test]
fn an_answer_without_blocks_is_complete() {
    let (frames, _) = streamed(&Events::new());
    let types: Vec<_> = frames
        .iter()
        .map(|frame| frame["type"].as_str().expect("a type"))
        .collect();
    assert_eq!(types, ["message_start", "message_delta", "message_stop"]);
    let (body, _) = whole(&Events::new());
    assert_eq!(
        (&body["content"], &body["stop_reason"]),
        (&json!([]), &json!("end_turn"))
    );
}

#[test]
fn reasons_are_said_in_the_words_of_this_dialect() {
    let reason = |kind, raw: &str, blocks: Events| {
        let events = [start(), blocks, finish(kind, raw)].concat();
        let (body, loss) = whole(&events);
        let frames = streamed(&events).0;
        assert_eq!(frames[frames.len() - 2]["delta"]["stop_reason"], body["stop_reason"]);
        (
            body["stop_reason"].as_str().expect("a word").to_owned(),
            loss.is_empty(),
        )
    };
    let call = || block(0, BlockHead::function("1", "f"), vec![]);
    for (kind, raw, blocks, want, lossless) in [
        (FinishKind::Stop, "stop", vec![], "end_turn", true),
        (FinishKind::Stop, "stop", call(), "tool_use", true),
        (FinishKind::ToolCalls, "tool_calls", vec![], "end_turn", true),
        (FinishKind::Length, "length", call(), "max_tokens", true),
        (
            FinishKind::Length,
            "model_context_window_exceeded",
            vec![],
            "model_context_window_exceeded",
            true,
        ),
        (FinishKind::ContentFilter, "SAFETY", vec![], "refusal", true),
        (
            FinishKind::Stop,
            "stop",
            block(0, BlockHead::Refusal, vec![text("no")]),
            "refusal",
            true,
        ),
        (FinishKind::Other, "odd", vec![], "end_turn", false),
    ] {
        assert_eq!(reason(kind, raw, blocks), (want.to_owned(), lossless), "{raw}");
    }
    let events = vec![StreamEvent::Finish {
        candidate: 0,
        reason: FinishReason {
            sequence: Some("END".into()),
            ..FinishReason::new(FinishKind::Stop, "stop")
        },
    }];
    let body = whole(&events).0;
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("stop_sequence"), &json!("END"))
    );
}

#[test]
fn what_can_not_be_said_is_left_out_alike() {
    let foreign = BlockHead::Native {
        kind: "web_search_call".into(),
        json: r#"{"type":"web_search_call","id":"w"}"#.into(),
    };
    let picture = BlockHead::Media {
        kind: crate::ir::MediaKind::Image,
        mime: "image/png".into(),
        url: "".into(),
    };
    let events: Events = [
        start(),
        block(0, foreign, vec![]),
        block(1, picture, vec![Delta::Data("AAAA".into())]),
        block(2, BlockHead::Text, vec![text("x"), Delta::Logprobs(Vec::new())]),
    ]
    .concat();
    let (frames, loss) = streamed(&events);
    assert_eq!(content(&frames), [json!({"type": "text", "text": "x"})]);
    assert_eq!(loss.losses().len(), 3);
    let cut = [
        start(),
        block(0, BlockHead::function("1", "f"), vec![Delta::Arguments("{\"a".into())]),
    ]
    .concat();
    let (body, loss) = whole(&cut);
    assert_eq!(body["content"][0]["input"], json!({"raw_arguments": "{\"a"}));
    assert!(loss.has_lost());
}

#[test]
fn a_failed_stream_ends_with_an_error_and_without_its_mark() {
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let mut encoder = Anthropic.stream_encoder(to());
    for event in start() {
        encoder.event(event, &mut out, &mut loss);
    }
    encoder.event(StreamEvent::Ping, &mut out, &mut loss);
    encoder.fail(&ApiError::new(ErrorKind::Overloaded, "busy"), &mut out);
    let types: Vec<Value> = frames(&out).iter().map(|frame| frame["type"].clone()).collect();
    assert_eq!(types, ["message_start", "ping", "error"]);
}

#[test]
fn a_tool_of_the_provider_is_told_whole_however_it_came() {
    let pieces = [
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"server_tool_use","id":"s","name":"n","input":{}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{\"q\":"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"1}"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"compaction","content":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"compaction_delta","content":"all of it"}}"#,
    ];
    let streamed = fold(DIALECT, |sink| {
        let mut decoder = Anthropic.stream_decoder(Operation::Chat);
        for data in pieces {
            let frame = Frame {
                event: None,
                data: data.as_bytes(),
            };
            decoder.frame(frame, sink).expect("an event");
        }
        decoder.finish(sink);
    });
    let body = json!({"content": [
        {"type": "server_tool_use", "id": "s", "name": "n", "input": {"q": 1}},
        {"type": "compaction", "content": "all of it"},
    ]});
    let whole = fold(DIALECT, |sink| {
        let end = Anthropic.decode_response(Operation::Chat, body.to_string().as_bytes(), sink);
        assert_eq!(end, Ok(StreamEnd::Complete));
    });
    assert_eq!(streamed, whole);
}

#[test]
fn a_number_that_comes_twice_is_two_blocks() {
    let pieces = [
        r#"{"type":"message_start","message":{}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"a"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"container_upload","file_id":"f"}}"#,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":"b"}}"#,
        r#"{"type":"content_block_stop","index":7}"#,
        r#"{"type":"content_block_delta","index":7,"delta":{"type":"text_delta","text":"c"}}"#,
    ];
    let (mut grammar, mut decoder) = (Grammar::default(), Anthropic.stream_decoder(Operation::Chat));
    for data in pieces {
        let frame = Frame {
            event: None,
            data: data.as_bytes(),
        };
        decoder.frame(frame, &mut grammar).expect("an event");
    }
    decoder.finish(&mut grammar);
    assert_eq!(grammar.end(), Vec::<&str>::new());
}
