use serde_json::{Value, json};

use super::*;
use crate::ir::{ErrorKind, StreamEvent};
use crate::translate::Meter;

fn frame(data: &str) -> Frame<'_> {
    Frame {
        event: None,
        data: data.as_bytes(),
    }
}

/// What a meter counts of these frames, and how the stream ended.
fn meter(frames: &[&str]) -> (Meter, StreamEnd) {
    let (mut decoder, mut meter) = (OpenAiChat.stream_decoder(Operation::Chat), Meter::default());
    for data in frames {
        decoder.frame(frame(data), &mut meter).expect("a chunk");
    }
    let end = decoder.finish(&mut meter);
    (meter, end)
}

#[test]
fn paths_are_known_with_their_methods() {
    let headers = http::HeaderMap::new();
    let target = |method: Method, path| {
        OpenAiChat.target(Line {
            method: &method,
            path,
            query: "",
            headers: &headers,
        })
    };
    for path in ["/v1/chat/completions", "/chat/completions", "/v1/gpt/chat/completions"] {
        assert_eq!(
            target(Method::POST, path).map(|t| t.operation),
            Some(Operation::Chat),
            "{path}"
        );
        assert!(target(Method::GET, path).is_none(), "{path}");
        assert_eq!(crate::dialects::allowed(path), Some(Method::POST), "{path}");
    }
    assert_eq!(
        target(Method::POST, "/v1/embeddings").map(|t| t.operation),
        Some(Operation::Embeddings)
    );
    assert_eq!(
        target(Method::GET, "/v1/models").map(|t| t.operation),
        Some(Operation::ListModels)
    );
    let one = target(Method::GET, "/v1/models/acme/m%20x").expect("known");
    assert_eq!(
        (one.operation, one.model.as_deref()),
        (Operation::GetModel, Some("acme/m x"))
    );
    assert_eq!(OpenAiChat.upstream_path(&one, "acme/m x", ""), "/models/acme/m%20x");
    for path in ["/v1/models/", "/v1/modelsx", "/v1/completions", "/", ""] {
        assert!(target(Method::GET, path).is_none(), "{path}");
    }
    assert_eq!(crate::dialects::allowed("/nowhere"), None);
    let chat = target(Method::POST, "/v1/chat/completions").expect("known");
    assert_eq!(
        OpenAiChat.upstream_path(&chat, "m", "api-version=1"),
        "/chat/completions?api-version=1"
    );
}

#[test]
fn accents_of_providers_are_understood() {
    // Mistral: content as parts, with thinking among them.
    let (counted, _) = meter(&[
        r#"{"model":"m","choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"hm"}]},{"type":"text","text":"a"}]}}]}"#,
    ]);
    assert_eq!(counted.content_events, 2);
    // Groq: usage under x_groq. DeepSeek: cache reads beside. Moonshot: usage in the choice.
    for (chunk, want) in [
        (
            r#"{"choices":[],"x_groq":{"usage":{"prompt_tokens":3,"completion_tokens":4}}}"#,
            (3, 0),
        ),
        (
            r#"{"choices":[],"usage":{"prompt_tokens":3,"prompt_cache_hit_tokens":2,"completion_tokens":4}}"#,
            (1, 2),
        ),
        (
            r#"{"choices":[{"index":0,"delta":{},"usage":{"prompt_tokens":3,"completion_tokens":4}}]}"#,
            (3, 0),
        ),
    ] {
        let usage = meter(&[chunk]).0.usage.expect("reported");
        assert_eq!(
            (usage.input, usage.cache_read, usage.output),
            (want.0, want.1, 4),
            "{chunk}"
        );
    }
    // xAI: reasoning beside the completion, as its total says.
    let usage = |reasoning: u32, total: u32| {
        let chunk = format!(
            r#"{{"choices":[],"usage":{{"prompt_tokens":10,"completion_tokens":5,"total_tokens":{total},"completion_tokens_details":{{"reasoning_tokens":{reasoning}}}}}}}"#
        );
        meter(&[&chunk])
            .0
            .usage
            .map(|u| (u.output, u.reasoning, u.output_total()))
    };
    assert_eq!(usage(7, 22), Some((5, 7, 12)), "beside");
    assert_eq!(usage(4, 15), Some((1, 4, 5)), "within");
    assert_eq!(usage(9, 15), Some((0, 5, 5)), "more than there is: cut");
}

#[test]
fn tool_calls_are_told_apart_by_index_and_id() {
    let call = |index: &str, id: &str, name: &str, arguments: &str| {
        format!(
            r#"{{"choices":[{{"index":0,"delta":{{"tool_calls":[{{{index}"id":{id},"function":{{"name":"{name}","arguments":{arguments}}}}}]}}}}]}}"#
        )
    };
    let count = |frames: &[String]| {
        let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
        meter(&frames).0.tool_calls
    };
    let index = |n: u32| format!("\"index\":{n},");
    let pieces = [
        call(&index(0), "\"a\"", "f", "\"\""),
        call(&index(0), "null", "", "\"{}\""),
    ];
    assert_eq!(count(&pieces), 1, "a piece of the same index");
    let two = [
        call(&index(0), "\"a\"", "f", "\"{}\""),
        call(&index(1), "\"\"", "g", "{}"),
    ];
    assert_eq!(count(&two), 2, "another index, an empty id, arguments as an object");
    let same = [
        call(&index(0), "\"a\"", "f", "\"{}\""),
        call(&index(0), "\"b\"", "f", "\"{}\""),
    ];
    assert_eq!(count(&same), 2, "another id under the same index");
    let none = [call("", "\"a\"", "f", "\"{\""), call("", "null", "", "\"}\"")];
    assert_eq!(count(&none), 1, "without an index a piece goes to the last call");
}

#[test]
fn ends_are_told_apart() {
    let text = r#"{"model":"m","choices":[{"index":0,"delta":{"content":"a"}},{"index":1,"delta":{"content":"b"}}]}"#;
    let stop = |n: u32| format!(r#"{{"choices":[{{"index":{n},"delta":{{}},"finish_reason":"stop"}}]}}"#);
    assert_eq!(meter(&[]).1, StreamEnd::Truncated);
    assert_eq!(meter(&[text]).1, StreamEnd::Truncated);
    assert_eq!(
        meter(&[text, &stop(0)]).1,
        StreamEnd::Truncated,
        "one of two candidates is not finished"
    );
    assert_eq!(
        meter(&[text, &stop(1), &stop(0)]).1,
        StreamEnd::Truncated,
        "finished, but neither usage nor [DONE] follows"
    );
    let usage = r#"{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
    assert_eq!(meter(&[text, &stop(1), &stop(0), usage]).1, StreamEnd::Complete);
    assert_eq!(meter(&[text, "[DONE]"]).1, StreamEnd::Complete);
    let (counted, end) = meter(&[text, r#"{"error":{"message":"x","code":429}}"#, "[DONE]"]);
    assert_eq!(
        (end, counted.error.map(|e| e.kind)),
        (StreamEnd::Failed, Some(ErrorKind::RateLimit))
    );
    let mut sink = |_: StreamEvent<'_>| {};
    let mut decoder = OpenAiChat.stream_decoder(Operation::Chat);
    assert!(
        decoder.frame(frame("nonsense"), &mut sink).is_err(),
        "an unread frame is told"
    );
    decoder.frame(frame("[DONE]"), &mut sink).expect("the next may be read");
    assert_eq!(decoder.finish(&mut sink), StreamEnd::Complete);
}

#[test]
fn odd_values_never_panic() {
    for odd in ["[1]", "3", "\"x\"", "{}", "null", "[[]]", "{\"content\":[3]}"] {
        for field in ["logprobs", "stop_reason", "finish_reason"] {
            meter(&[&format!(
                r#"{{"choices":[{{"delta":{{"content":"a"}},"{field}":{odd}}}]}}"#
            )]);
        }
        for field in [
            "annotations",
            "images",
            "audio",
            "reasoning_details",
            "content",
            "tool_calls",
        ] {
            meter(&[&format!(
                r#"{{"choices":[{{"delta":{{"{field}":[{{"type":{odd},"image_url":{odd}}}]}}}}]}}"#
            )]);
            meter(&[&format!(r#"{{"choices":[{{"delta":{{"{field}":{odd}}}}}]}}"#)]);
        }
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":[{{"a":{odd},"b":1}}]}},{{"role":"assistant","reasoning_details":[{odd}],"content":{{}}}}]}}"#
        );
        let target = OpenAiChat.own_target(Operation::Chat, false).expect("chat").0;
        assert!(
            OpenAiChat.decode_request(&target, body.as_bytes()).is_err(),
            "content is an object"
        );
        let request = OpenAiChat.decode_request(&target, body.replace("\"content\":{}", "\"x\":1").as_bytes());
        let to = Upstream {
            model: "m",
            stream: false,
            ask_usage: false,
        };
        let written = OpenAiChat.encode_request(&request.expect("read"), &to, &mut Default::default());
        assert!(written.is_ok(), "{odd}");
    }
}

#[test]
fn only_the_frame_for_usage_is_named_so() {
    let decoder = OpenAiChat.stream_decoder(Operation::Chat);
    let is = |data| decoder.is_usage_only(frame(data));
    assert!(is(r#"{"choices":[],"usage":{"prompt_tokens":1}}"#));
    assert!(is(r#"{"usage":{"prompt_tokens":1}, "choices" : [ ] }"#));
    assert!(!is(r#"{"choices":[],"usage":null}"#), "Azure's first chunk has neither");
    assert!(!is(r#"{"choices":[],"prompt_filter_results":[]}"#));
    assert!(!is(r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#));
    assert!(!is(r#"{"usage":{"prompt_tokens":1}}"#));
    assert!(!is("[DONE]"));
}

#[test]
fn errors_are_written_as_openai_writes_them() {
    let error = ApiError::new(ErrorKind::NotFound, "no such model")
        .code("model_not_found")
        .param("model");
    let body: Value = serde_json::from_slice(&OpenAiChat.encode_error(&error, "r")).expect("JSON");
    let want = json!({"error": {"message": "no such model", "type": "not_found_error", "param": "model", "code": "model_not_found"}});
    assert_eq!(body, want);
    let read = OpenAiChat.decode_error(404, body.to_string().as_bytes());
    assert_eq!(
        (read.kind, read.code, read.param),
        (error.kind, error.code.clone(), error.param.clone())
    );
    let written = OpenAiChat.encode_stream_error(&error, "r", Framing::Sse, false);
    let text = String::from_utf8(written).expect("UTF-8");
    assert_eq!(text, format!("data: {body}\n\n"), "one frame, and no [DONE] after it");
    assert_eq!(
        meter(&[&body.to_string()]).1,
        StreamEnd::Failed,
        "our own error is read as one"
    );
}

#[test]
fn models_are_listed() {
    let entry = ModelEntry {
        id: "a/b".to_owned(),
        owner: "acme".to_owned(),
        created: 7,
    };
    let one = json!({"id": "a/b", "object": "model", "created": 7, "owned_by": "acme"});
    let read = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).expect("JSON");
    assert_eq!(read(OpenAiChat.encode_model(&entry)), one);
    assert_eq!(
        read(OpenAiChat.encode_models(&[entry])),
        json!({"object": "list", "data": [one]})
    );
}

#[test]
fn the_tier_and_pictures_are_metered() {
    let (counted, _) = meter(&[
        r#"{"id":"c","model":"m","service_tier":"flex","choices":[{"index":0,"delta":{"content":"a"}}]}"#,
        r#"{"service_tier":"flex","choices":[{"index":0,"delta":{"images":[{"image_url":{"url":"data:image/png;base64,AAAA"}}]}}]}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":90,"completion_tokens_details":{"image_tokens":80}}}"#,
    ]);
    assert_eq!(counted.service.as_deref(), Some("flex"));
    assert_eq!((counted.images_out, counted.image_tokens), (1, 80));
    let (counted, _) = meter(&[r#"{"id":"c","model":"m","service_tier":null,"choices":[]}"#]);
    assert_eq!(counted.service, None, "null says nothing");
}
