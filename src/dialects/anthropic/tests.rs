use serde_json::{Value, json};

use super::*;
use crate::ir::{ErrorKind, Usage};
use crate::translate::Meter;

fn meter(events: &[&str]) -> (Meter, StreamEnd) {
    let (mut decoder, mut meter) = (Anthropic.stream_decoder(Operation::Chat), Meter::default());
    for data in events {
        decoder
            .frame(
                Frame {
                    event: None,
                    data: data.as_bytes(),
                },
                &mut meter,
            )
            .expect("an event");
    }
    let end = decoder.finish(&mut meter);
    (meter, end)
}

const START: &str = r#"{"type":"message_start","message":{"id":"m1","model":"c","usage":{"input_tokens":10,"cache_read_input_tokens":20,"cache_creation_input_tokens":30,"cache_creation":{"ephemeral_5m_input_tokens":10,"ephemeral_1h_input_tokens":20},"output_tokens":1}}}"#;

#[test]
fn usage_is_merged_field_by_field() {
    let delta = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":50,"input_tokens":null,"output_tokens_details":{"thinking_tokens":40}}}"#;
    let (counted, end) = meter(&[START, delta, r#"{"type":"message_stop"}"#]);
    let want = Usage {
        input: 10,
        cache_read: 20,
        cache_write_5m: 10,
        cache_write_1h: 20,
        output: 10,
        reasoning: 40,
        ..Usage::default()
    };
    assert_eq!((counted.usage, end), (Some(want), StreamEnd::Complete));
    // Some report nothing at the start and all at the end.
    let zero = r#"{"type":"message_start","message":{"usage":{"input_tokens":0,"output_tokens":0}}}"#;
    let delta = r#"{"type":"message_delta","delta":{},"usage":{"input_tokens":7,"output_tokens":3}}"#;
    let usage = meter(&[zero, delta]).0.usage.expect("reported");
    assert_eq!((usage.input, usage.output), (7, 3));
}

#[test]
fn blocks_are_counted_and_unknown_ones_do_no_harm() {
    let (counted, end) = meter(&[
        START,
        r#"{"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":""}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"hm"}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"s"}}"#,
        r#"{"type":"content_block_stop","index":0}"#,
        r#"{"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":""}}"#,
        r#"{"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
        r#"{"type":"content_block_start","index":2,"content_block":{"type":"server_tool_use","name":"web_search"}}"#,
        r#"{"type":"something_new","index":3}"#,
        r#"{"type":"ping"}"#,
    ]);
    assert_eq!((counted.tool_calls, end), (1, StreamEnd::Truncated));
    assert_eq!(
        counted.content_events, 5,
        "thinking, signature, a call, its arguments, a server's tool"
    );
}

#[test]
fn an_error_event_fails_the_stream() {
    let (counted, end) = meter(&[
        START,
        r#"{"type":"error","error":{"type":"overloaded_error","message":"busy"}}"#,
    ]);
    assert_eq!(
        (end, counted.error.map(|e| e.kind)),
        (StreamEnd::Failed, Some(ErrorKind::Overloaded))
    );
}

#[test]
fn paths_are_known_and_the_model_list_by_its_header() {
    let mut headers = http::HeaderMap::new();
    let find = |method: Method, path: &str, headers: &http::HeaderMap| {
        crate::dialects::find(Line {
            method: &method,
            path,
            query: "beta=true",
            headers,
        })
    };
    for path in ["/v1/messages", "/anthropic/v1/messages", "/v1/anthropic/messages"] {
        let target = find(Method::POST, path, &headers).expect("known");
        assert_eq!(
            (target.dialect.id(), target.operation),
            (DIALECT, Operation::Chat),
            "{path}"
        );
        assert_eq!(
            Anthropic.upstream_path(&target, "m", "beta=true"),
            "/v1/messages?beta=true"
        );
        let path = format!("{path}/count_tokens");
        let count = find(Method::POST, &path, &headers).expect("known");
        assert_eq!(count.operation, Operation::CountTokens, "{path}");
        assert_eq!(Anthropic.upstream_path(&count, "m", ""), "/v1/messages/count_tokens");
    }
    let dialect = |headers: &http::HeaderMap| find(Method::GET, "/v1/models", headers).map(|t| t.dialect.id().as_str());
    assert_eq!(dialect(&headers), Some("openai_chat"));
    headers.insert("anthropic-version", http::HeaderValue::from_static("2023-06-01"));
    assert_eq!(dialect(&headers), Some("anthropic"));
    headers.insert("x-goog-api-client", http::HeaderValue::from_static("x"));
    assert_eq!(dialect(&headers), Some("gemini"));
}

#[test]
fn errors_and_models_are_written_as_anthropic_writes_them() {
    let error = ApiError::new(ErrorKind::Overloaded, "busy").status(529);
    let body: Value = serde_json::from_slice(&Anthropic.encode_error(&error, "req")).expect("JSON");
    let want = json!({"type": "error", "error": {"type": "overloaded_error", "message": "busy"}, "request_id": "req"});
    assert_eq!(body, want);
    let frame = String::from_utf8(Anthropic.encode_stream_error(&error, "req", Framing::Sse, false)).expect("UTF-8");
    assert_eq!(frame, format!("event: error\ndata: {body}\n\n"));
    let entry = ModelEntry {
        id: "claude-x".to_owned(),
        owner: "acme".to_owned(),
        created: 1_700_000_000,
    };
    let list: Value = serde_json::from_slice(&Anthropic.encode_models(&[entry])).expect("JSON");
    let one =
        json!({"type": "model", "id": "claude-x", "display_name": "claude-x", "created_at": "2023-11-14T22:13:20Z"});
    assert_eq!(
        list,
        json!({"data": [one], "has_more": false, "first_id": "claude-x", "last_id": "claude-x"})
    );
}

#[test]
fn the_tier_is_metered() {
    let start = |usage: &str| {
        let event = format!(
            r#"{{"type":"message_start","message":{{"id":"m","model":"c","usage":{{"input_tokens":1,{usage}}}}}}}"#
        );
        meter(&[&event]).0.service
    };
    assert_eq!(start(r#""service_tier":"batch""#).as_deref(), Some("batch"));
    assert_eq!(
        start(r#""service_tier":"standard","speed":"fast""#).as_deref(),
        Some("fast")
    );
    assert_eq!(
        start(r#""service_tier":"priority","speed":"standard""#).as_deref(),
        Some("priority")
    );
    assert_eq!(start(r#""service_tier":null"#), None);
}
