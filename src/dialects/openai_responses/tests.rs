use serde_json::Value;

use super::*;
use crate::ir::{ErrorKind, StreamEvent};
use crate::translate::Meter;

/// What a meter counts of these events, all pieces of arguments, and how the stream ended.
fn meter(events: &[&str]) -> (Meter, String, StreamEnd) {
    let mut decoder = OpenAiResponses.stream_decoder(Operation::Chat);
    let (mut meter, mut arguments) = (Meter::default(), String::new());
    let mut sink = |event: StreamEvent<'_>| {
        if let StreamEvent::Delta {
            delta: crate::ir::Delta::Arguments(piece),
            ..
        } = &event
        {
            arguments.push_str(piece);
        }
        meter.event(event);
    };
    for data in events {
        decoder
            .frame(
                Frame {
                    event: None,
                    data: data.as_bytes(),
                },
                &mut sink,
            )
            .expect("an event");
    }
    let end = decoder.finish(&mut sink);
    (meter, arguments, end)
}

const ADDED: &str = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","call_id":"c","name":"f","arguments":""}}"#;
const DELTA: &str = r#"{"type":"response.function_call_arguments.delta","output_index":0,"delta":"{\"a\":1}"}"#;
const DONE: &str = r#"{"type":"response.function_call_arguments.done","output_index":0,"arguments":"{\"a\":1}"}"#;
const ITEM: &str = r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"function_call","call_id":"c","name":"f","arguments":"{\"a\":1}"}}"#;
const EMPTY: &str = r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#;
const FULL: &str = r#"{"type":"response.completed","response":{"status":"completed","output":[{"type":"function_call","call_id":"c","name":"f","arguments":"{\"a\":1}"}]}}"#;

#[test]
fn arguments_are_told_once_wherever_they_come_from() {
    for events in [
        &[ADDED, DELTA, DONE, ITEM, FULL][..],
        &[ADDED, DELTA, DONE, ITEM, EMPTY],
        &[ADDED, DONE, ITEM, FULL],
        &[ADDED, ITEM, EMPTY],
        &[ITEM, FULL],
        &[FULL],
    ] {
        let (counted, arguments, end) = meter(events);
        assert_eq!(
            (counted.tool_calls, arguments.as_str(), end),
            (1, "{\"a\":1}", StreamEnd::Complete),
            "{events:?}"
        );
        assert_eq!(counted.finish.map(|f| f.kind), Some(FinishKind::ToolCalls));
    }
}

#[test]
fn ends_are_told_apart() {
    assert_eq!(meter(&[ADDED, ITEM]).2, StreamEnd::Truncated);
    let incomplete = r#"{"type":"response.incomplete","response":{"status":"incomplete","incomplete_details":{"reason":"max_output_tokens"},"usage":{"input_tokens":5,"output_tokens":4,"output_tokens_details":{"reasoning_tokens":3}}}}"#;
    let (counted, _, end) = meter(&[incomplete]);
    assert_eq!(
        (end, counted.finish.map(|f| f.kind)),
        (StreamEnd::Complete, Some(FinishKind::Length))
    );
    assert_eq!(counted.usage.map(|u| (u.input, u.output, u.reasoning)), Some((5, 1, 3)));
    let failed = r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"rate_limit_exceeded","message":"slow"}}}"#;
    let (counted, _, end) = meter(&[failed]);
    assert_eq!(
        (end, counted.error.map(|e| e.kind)),
        (StreamEnd::Failed, Some(ErrorKind::RateLimit))
    );
    let error = r#"{"type":"error","code":"server_error","message":"boom","param":null,"sequence_number":3}"#;
    let (counted, _, end) = meter(&[error]);
    assert_eq!(
        (end, counted.error.map(|e| e.message)),
        (StreamEnd::Failed, Some("boom".to_owned()))
    );
}

#[test]
fn paths_are_known() {
    let headers = http::HeaderMap::new();
    let target = |method: Method, path| {
        OpenAiResponses.target(Line {
            method: &method,
            path,
            query: "",
            headers: &headers,
        })
    };
    for path in ["/v1/responses", "/responses", "/backend-api/codex/responses"] {
        let target = target(Method::POST, path).expect("known");
        assert_eq!(target.operation, Operation::Chat, "{path}");
        assert_eq!(OpenAiResponses.upstream_path(&target, "m", ""), "/responses");
    }
    let count = target(Method::POST, "/v1/responses/input_tokens").expect("known");
    assert_eq!(
        OpenAiResponses.upstream_path(&count, "m", ""),
        "/responses/input_tokens"
    );
    let body = br#"{"model":"m","stream":true}"#;
    assert_eq!(
        OpenAiResponses.peek(&count, body).map(|p| p.stream),
        Ok(false),
        "a count is never a stream"
    );
    assert!(target(Method::GET, "/v1/responses/r_1").is_none());
    assert!(target(Method::POST, "/v1/responses/compact").is_none());
}

#[test]
fn an_error_in_a_stream_is_in_both_forms() {
    let error = ApiError::new(ErrorKind::Overloaded, "busy");
    let text = String::from_utf8(OpenAiResponses.encode_stream_error(&error, "r", Framing::Sse, false)).expect("UTF-8");
    let data = text
        .strip_prefix("event: error\ndata: ")
        .and_then(|t| t.strip_suffix("\n\n"))
        .expect("one frame");
    let event: Value = serde_json::from_str(data).expect("JSON");
    assert_eq!(
        (&event["type"], &event["message"]),
        (&Value::from("error"), &Value::from("busy")),
        "as in the reference"
    );
    assert_eq!(event["error"]["message"], "busy", "as the SDK for Python wants it");
    assert!(event["sequence_number"].is_u64());
    assert_eq!(meter(&[data]).2, StreamEnd::Failed, "our own error is read as one");
}

#[test]
fn an_answer_whose_beginning_was_lost_still_begins() {
    let item = r#"{"item":{"type":"reasoning","summary":[{"type":"summary_text","text":"so"}]}}"#;
    let delta = r#"{"type":"response.output_text.delta","delta":"a"}"#;
    for (event, data) in [(Some("response.output_item.done"), item), (None, delta)] {
        let mut grammar = crate::ir::grammar::Grammar::default();
        let mut decoder = OpenAiResponses.stream_decoder(Operation::Chat);
        let read = decoder.frame(
            Frame {
                event,
                data: data.as_bytes(),
            },
            &mut grammar,
        );
        assert_eq!(read, Ok(()));
        decoder.finish(&mut grammar);
        assert_eq!(grammar.end(), Vec::<&str>::new(), "{data}");
    }
}

#[test]
fn what_begins_a_job_or_grows_a_conversation_is_asked_once() {
    let once = |path: &str, more: &str| {
        let headers = http::HeaderMap::new();
        let line = Line {
            method: &Method::POST,
            path,
            query: "",
            headers: &headers,
        };
        let target = find(line).expect("a known path");
        let body = format!(r#"{{"model":"m","input":"x"{more}}}"#);
        let peek = target.dialect.peek(&target, body.as_bytes());
        peek.expect("a good body").outline.once
    };
    for (more, expected) in [
        ("", false),
        (r#","background":true"#, true),
        (r#","background" : true "#, true),
        (r#","b\u0061ckground":true"#, true),
        (r#","background":false"#, false),
        (r#","background":null"#, false),
        (r#","background":"true""#, false),
        (r#","conversation":"conv_1""#, true),
        (r#","conversation":{"id":"conv_1"}"#, true),
        (r#","conversation":null"#, false),
        (r#","background":false,"conversation":"conv_1""#, true),
        (r#","metadata":{"background":true,"conversation":"x"}"#, false),
        (r#","previous_response_id":"resp_1","store":true"#, false),
    ] {
        assert_eq!(once("/v1/responses", more), expected, "{more}");
        assert!(!once("/v1/responses/input_tokens", more), "counting changes nothing");
        assert!(!once("/v1/chat/completions", more), "it means nothing there");
    }
}

#[test]
fn the_tier_and_pictures_are_metered() {
    let (counted, ..) = meter(&[
        r#"{"type":"response.created","response":{"id":"r","model":"m","service_tier":"auto"}}"#,
        r#"{"type":"response.output_item.done","output_index":0,"item":{"type":"image_generation_call","result":"AAAA"}}"#,
        r#"{"type":"response.completed","response":{"status":"completed","output":[],"service_tier":"priority"}}"#,
    ]);
    assert_eq!((counted.service.as_deref(), counted.images_out), (Some("priority"), 1));
}
