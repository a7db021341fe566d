//! Answers of other dialects, written as streams and whole.

use bytes::BytesMut;
use serde_json::{Value, json};

use super::*;
use crate::ir::response::fold;
use crate::ir::{
    BlockHead, BlockIndex, Citation, Delta, ErrorKind, LossReport, MediaKind, StreamEvent, ToolKind, Usage,
};

const OTHER: DialectId = DialectId::new("another");

fn at(block: u32) -> BlockIndex {
    BlockIndex { candidate: 0, block }
}

fn begin(block: u32, head: BlockHead<'static>) -> StreamEvent<'static> {
    StreamEvent::BlockStart {
        index: at(block),
        block: head,
    }
}

fn piece(block: u32, delta: Delta<'static>) -> StreamEvent<'static> {
    StreamEvent::Delta {
        index: at(block),
        delta,
    }
}

fn text(block: u32, text: &'static str) -> StreamEvent<'static> {
    piece(block, Delta::Text(text.into()))
}

fn stop(block: u32) -> StreamEvent<'static> {
    StreamEvent::BlockStop { index: at(block) }
}

fn start() -> StreamEvent<'static> {
    StreamEvent::Start {
        id: "theirs".into(),
        model: "their-model".into(),
    }
}

fn finish(kind: FinishKind) -> StreamEvent<'static> {
    StreamEvent::Finish {
        candidate: 0,
        reason: FinishReason::new(kind, "theirs"),
    }
}

fn answering() -> Answering {
    let echo = json!({
        "object": "response", "temperature": 0.5, "include": ["reasoning.encrypted_content"],
        "tools": [{"type": "function", "name": "f", "parameters": {}}], "reasoning": {"effort": "low"}
    });
    Answering {
        request_id: "r1".into(),
        created: 1_700_000_000,
        model: "asked".into(),
        echo: echo.as_object().cloned().unwrap_or_default(),
        ..Answering::default()
    }
}

/// All events of a stream of these.
fn stream(all: &[StreamEvent<'static>], end: Option<&ApiError>) -> (Vec<Value>, LossReport) {
    let (mut out, mut loss) = (BytesMut::new(), LossReport::default());
    let mut encoder = OpenAiResponses.stream_encoder(answering());
    for event in all {
        encoder.event(event.clone(), &mut out, &mut loss);
    }
    match end {
        None => encoder.finish(&mut out, &mut loss),
        Some(error) => encoder.fail(error, &mut out),
    }
    let text = String::from_utf8(out.to_vec()).expect("UTF-8");
    let events = text
        .strip_suffix("\n\n")
        .expect("whole frames")
        .split("\n\n")
        .map(|frame| {
            let (name, data) = frame.split_once("\ndata: ").expect("two lines");
            let event: Value = serde_json::from_str(data).expect("JSON");
            assert_eq!(name.strip_prefix("event: "), event["type"].as_str());
            event
        });
    let events: Vec<Value> = events.collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    // The whole answer of the same events is the object at the end of the stream.
    if end.is_none() {
        let told = fold(OTHER, |sink| all.iter().cloned().for_each(|event| sink.event(event)));
        let whole = OpenAiResponses.encode_response(&told, &answering(), &mut LossReport::default());
        let whole: Value = serde_json::from_slice(&whole).expect("JSON");
        assert_eq!(events.last().map(|last| &last["response"]), Some(&whole));
    }
    (events, loss)
}

fn names(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|event| event["type"].as_str().expect("a type"))
        .collect()
}

#[test]
fn every_kind_of_block_is_told_in_its_grammar() {
    let call = |kind| BlockHead::ToolCall {
        id: "c".into(),
        name: "f".into(),
        kind,
        namespace: "".into(),
        opaque: "".into(),
    };
    let picture = BlockHead::Media {
        kind: MediaKind::Image,
        mime: "image/webp".into(),
        url: "".into(),
    };
    let cited = Citation {
        url: "https://example.com".into(),
        title: "E".into(),
        ..Citation::default()
    };
    let (events, loss) = stream(
        &[
            start(),
            begin(0, BlockHead::Reasoning),
            text(0, "Hm"),
            text(0, "."),
            piece(0, Delta::Opaque("sea".into())),
            piece(0, Delta::Opaque("led".into())),
            stop(0),
            begin(1, BlockHead::Text),
            text(1, "Hé"),
            piece(1, Delta::Citation(cited)),
            stop(1),
            begin(2, BlockHead::Refusal),
            text(2, "No."),
            stop(2),
            begin(3, call(ToolKind::Function)),
            piece(3, Delta::Arguments("{\"a\"".into())),
            stop(3),
            begin(4, call(ToolKind::Custom)),
            piece(4, Delta::Arguments("raw".into())),
            stop(4),
            begin(5, call(ToolKind::Function)),
            stop(5),
            begin(6, picture),
            piece(6, Delta::Data("AA==".into())),
            piece(6, Delta::Data("AA==".into())),
            stop(6),
            begin(7, BlockHead::native("their_tool")),
            stop(7),
            StreamEvent::Usage(Usage {
                input: 5,
                cache_read: 2,
                cache_write_1h: 1,
                output: 3,
                reasoning: 4,
                ..Usage::default()
            }),
            finish(FinishKind::ToolCalls),
        ],
        None,
    );
    let message = ["response.output_item.added", "response.content_part.added"];
    assert_eq!(
        names(&events),
        [
            &["response.created", "response.in_progress", "response.output_item.added"][..],
            &[
                "response.reasoning_summary_part.added",
                "response.reasoning_summary_text.delta"
            ],
            &[
                "response.reasoning_summary_text.delta",
                "response.reasoning_summary_text.done"
            ],
            &["response.reasoning_summary_part.done", "response.output_item.done"],
            &message,
            &[
                "response.output_text.delta",
                "response.output_text.annotation.added",
                "response.output_text.done"
            ],
            &[
                "response.content_part.done",
                "response.content_part.added",
                "response.refusal.delta"
            ],
            &[
                "response.refusal.done",
                "response.content_part.done",
                "response.output_item.done"
            ],
            &["response.output_item.added", "response.function_call_arguments.delta"],
            &["response.function_call_arguments.done", "response.output_item.done"],
            &["response.output_item.added", "response.custom_tool_call_input.delta"],
            &["response.custom_tool_call_input.done", "response.output_item.done"],
            &["response.output_item.added", "response.function_call_arguments.delta"],
            &["response.function_call_arguments.done", "response.output_item.done"],
            &[
                "response.output_item.added",
                "response.image_generation_call.in_progress"
            ],
            &[
                "response.image_generation_call.completed",
                "response.output_item.done",
                "response.completed"
            ],
        ]
        .concat()
    );
    let response = &events.last().expect("the last")["response"];
    assert_eq!(
        response["output"],
        json!([
            {"id": "rs_r1_0", "type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "sealed"},
            {"id": "msg_r1_1", "type": "message", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "Hé", "logprobs": [], "annotations": [
                    {"type": "url_citation", "start_index": 2, "end_index": 2, "url": "https://example.com", "title": "E"}
                ]},
                {"type": "refusal", "refusal": "No."}
            ]},
            {"id": "fc_r1_2", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{\"a\"", "status": "completed"},
            {"id": "ctc_r1_3", "type": "custom_tool_call", "call_id": "c", "name": "f", "input": "raw", "status": "completed"},
            {"id": "fc_r1_4", "type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"},
            {"id": "ig_r1_5", "type": "image_generation_call", "result": "AAA=", "output_format": "webp", "status": "completed"}
        ])
    );
    assert_eq!(
        response["usage"],
        json!({
            "input_tokens": 8, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
            "output_tokens": 7, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 15
        })
    );
    let lost: Vec<_> = loss.losses().iter().map(|loss| &*loss.path).collect();
    assert_eq!(lost, ["their_tool"]);
}

#[test]
fn a_response_repeats_its_request_and_has_every_field() {
    let (events, _) = stream(&[start(), finish(FinishKind::Stop)], None);
    let response = &events[2]["response"];
    for (field, value) in [
        ("id", json!("theirs")),
        ("object", json!("response")),
        ("created_at", json!(1_700_000_000)),
        ("model", json!("their-model")),
        ("temperature", json!(0.5)),
        ("top_p", json!(1.0)),
        ("instructions", Value::Null),
        ("reasoning", json!({"effort": "low", "summary": null})),
        ("tool_choice", json!("auto")),
        ("usage", Value::Null),
        ("error", Value::Null),
        ("status", json!("completed")),
    ] {
        assert_eq!(response.get(field), Some(&value), "{field}");
    }
    assert_eq!(response["tools"][0]["strict"], true);
    assert_eq!(response.get("include"), None, "a Response has no such field");
}

#[test]
fn ends_are_said() {
    let said = |kind| {
        let (events, loss) = stream(
            &[start(), begin(0, BlockHead::Text), text(0, "x"), stop(0), finish(kind)],
            None,
        );
        let last = events.last().expect("the last").clone();
        let name = last["type"].as_str().unwrap_or("").to_owned();
        let response = &last["response"];
        assert_eq!(response["output"][0]["status"], response["status"]);
        (name, response["incomplete_details"]["reason"].clone(), loss.is_empty())
    };
    let completed = |exact| ("response.completed".to_owned(), Value::Null, exact);
    assert_eq!(said(FinishKind::Stop), completed(true));
    assert_eq!(said(FinishKind::Other), completed(false));
    let incomplete = |reason| ("response.incomplete".to_owned(), json!(reason), true);
    assert_eq!(said(FinishKind::Length), incomplete("max_output_tokens"));
    assert_eq!(said(FinishKind::ContentFilter), incomplete("content_filter"));
}

#[test]
fn a_failed_stream_never_looks_complete() {
    let error = ApiError::new(ErrorKind::RateLimit, "slow down");
    for events in [
        &[][..],
        &[start()],
        &[
            start(),
            begin(0, BlockHead::Text),
            text(0, "Half"),
            finish(FinishKind::Stop),
        ],
    ] {
        let (told, _) = stream(events, Some(&error));
        assert_eq!(
            (&told[0]["type"], told[0]["response"]["status"].as_str()),
            (&json!("response.created"), Some("in_progress"))
        );
        let last = told.last().expect("the last");
        assert_eq!(last["type"], "response.failed");
        assert_eq!(
            last["response"]["error"],
            json!({"code": "rate_limit_exceeded", "message": "slow down"})
        );
        assert!(!told.iter().any(|event| event["type"] == "response.completed"));
    }
    let (told, _) = stream(&[start(), begin(0, BlockHead::Text), text(0, "Half")], Some(&error));
    let item = &told.last().expect("the last")["response"]["output"][0];
    assert_eq!(
        (&item["status"], &item["content"][0]["text"]),
        (&json!("incomplete"), &json!("Half"))
    );
}

#[test]
fn blocks_may_overlap() {
    let (events, _) = stream(
        &[
            start(),
            begin(0, BlockHead::Text),
            text(0, "a"),
            begin(1, BlockHead::function("c1", "f")),
            begin(2, BlockHead::function("c2", "g")),
            piece(2, Delta::Arguments("{\"g\":1}".into())),
            text(0, "b"),
            piece(1, Delta::Arguments("{\"f\":1}".into())),
            stop(0),
            stop(1),
            stop(2),
            finish(FinishKind::ToolCalls),
        ],
        None,
    );
    let output = &events.last().expect("the last")["response"]["output"];
    assert_eq!(output[0]["content"][0]["text"], "ab");
    assert_eq!(
        (&output[1]["arguments"], &output[2]["arguments"]),
        (&json!("{\"f\":1}"), &json!("{\"g\":1}"))
    );
    let done = events
        .iter()
        .filter(|event| event["type"] == "response.output_item.done");
    assert_eq!(done.count(), 3);
}

#[test]
fn a_token_on_a_text_gets_an_item_of_its_own() {
    let (events, loss) = stream(
        &[
            start(),
            begin(0, BlockHead::Text),
            text(0, "x"),
            piece(0, Delta::Opaque("sealed".into())),
            stop(0),
            begin(1, BlockHead::Text),
            text(1, "y"),
            stop(1),
            finish(FinishKind::Stop),
        ],
        None,
    );
    let output = &events.last().expect("the last")["response"]["output"];
    let kinds: Vec<_> = (0..3)
        .map(|index| output[index]["type"].as_str().unwrap_or(""))
        .collect();
    assert_eq!(kinds, ["message", "reasoning", "message"]);
    assert_eq!(
        output[1],
        json!({"id": "rs_r1_1", "type": "reasoning", "summary": [], "encrypted_content": "sealed"})
    );
    assert!(loss.is_empty());
}
