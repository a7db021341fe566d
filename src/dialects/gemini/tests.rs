use serde_json::{Value, json};

use super::*;
use crate::ir::ErrorKind;
use crate::translate::Meter;

fn meter(elements: &[&str]) -> (Meter, StreamEnd) {
    let (mut decoder, mut meter) = (Gemini.stream_decoder(Operation::Chat), Meter::default());
    for data in elements {
        decoder
            .frame(
                Frame {
                    event: None,
                    data: data.as_bytes(),
                },
                &mut meter,
            )
            .expect("an element");
    }
    let end = decoder.finish(&mut meter);
    (meter, end)
}

fn target(method: Method, path: &str, query: &str) -> Option<Target> {
    let headers = http::HeaderMap::new();
    Gemini.target(Line {
        method: &method,
        path,
        query,
        headers: &headers,
    })
}

#[test]
fn model_and_method_are_read_from_the_path_and_written_again() {
    for (path, model, upstream) in [
        (
            "/v1beta/models/gemini-x:generateContent",
            "gemini-x",
            "/v1beta/models/gemini-x:generateContent",
        ),
        (
            "/v1/models/sandbox/chat:generateContent",
            "sandbox/chat",
            "/v1/models/sandbox/chat:generateContent",
        ),
        (
            "/v1beta/models/models/a:generateContent",
            "a",
            "/v1beta/models/a:generateContent",
        ),
        (
            "/v1beta/models/a:b:generateContent",
            "a:b",
            "/v1beta/models/a:b:generateContent",
        ),
        (
            "/v1beta/models/a%20b%3AgenerateContent",
            "a b",
            "/v1beta/models/a%20b:generateContent",
        ),
        (
            "/v1beta/models/tunedModels/t:generateContent",
            "tunedModels/t",
            "/v1beta/tunedModels/t:generateContent",
        ),
    ] {
        let target = target(Method::POST, path, "").unwrap_or_else(|| panic!("{path} is known"));
        assert_eq!(
            (target.model.as_deref(), target.stream),
            (Some(model), Some(false)),
            "{path}"
        );
        assert_eq!(Gemini.upstream_path(&target, model, ""), upstream);
    }
    let stream = target(Method::POST, "/v1beta/models/g:streamGenerateContent", "alt=sse").expect("known");
    assert_eq!((stream.stream, stream.framing), (Some(true), Framing::Sse));
    assert_eq!(
        Gemini.upstream_path(&stream, "h", "alt=sse"),
        "/v1beta/models/h:streamGenerateContent?alt=sse"
    );
    let array = target(Method::POST, "/v1beta/models/g:streamGenerateContent", "").expect("known");
    assert_eq!(array.framing, Framing::JsonArray);
    let embed = target(Method::POST, "/v1beta/models/g:batchEmbedContents", "").expect("known");
    assert_eq!(embed.operation, Operation::Embeddings);
    let peek = Gemini.peek(&stream, b"{\"contents\":[]}").expect("valid");
    assert_eq!((peek.model.as_str(), peek.model_span, peek.stream), ("g", None, true));
    assert!(
        Gemini.peek(&stream, b"{\"contents\":[}").is_err(),
        "the body is checked all the same"
    );
}

#[test]
fn other_paths_are_not_ours() {
    for path in [
        "/v1beta/models/:generateContent",
        "/v1beta/models/g",
        "/v1beta/models/g:other",
        "/v1beta/models",
        "/v2/models/g:generateContent",
    ] {
        assert!(target(Method::POST, path, "").is_none(), "{path}");
    }
    assert!(target(Method::GET, "/v1/models", "").is_none(), "asked by others too");
    let by_key = target(Method::GET, "/v1/models", "key=x").map(|t| t.operation);
    assert_eq!(
        by_key,
        Some(Operation::ListModels),
        "a key in the query is this dialect's way"
    );
    let list = target(Method::GET, "/v1beta/models", "").expect("known");
    assert_eq!(
        Gemini.upstream_path(&list, "", "pageSize=5"),
        "/v1beta/models?pageSize=5"
    );
    let one = target(Method::GET, "/v1beta/models/g", "").expect("known");
    assert_eq!(
        (one.operation, Gemini.upstream_path(&one, "g", "")),
        (Operation::GetModel, "/v1beta/models/g".to_owned())
    );
}

#[test]
fn usage_adds_up_as_google_counts() {
    let usage = r#"{"usageMetadata":{"promptTokenCount":100,"toolUsePromptTokenCount":10,"cachedContentTokenCount":40,"candidatesTokenCount":5,"thoughtsTokenCount":7,"totalTokenCount":122,"promptTokensDetails":[{"modality":"AUDIO","tokenCount":30},{"modality":"TEXT","tokenCount":70}],"cacheTokensDetails":[{"modality":"AUDIO","tokenCount":10}]}}"#;
    let usage = meter(&[usage, r#"{"usageMetadata":{"candidatesTokenCount":6}}"#])
        .0
        .usage
        .expect("reported");
    assert_eq!(
        (usage.input_total(), usage.cache_read, usage.input_audio, usage.input),
        (110, 40, 20, 50)
    );
    assert_eq!(
        (usage.output, usage.reasoning, usage.output_total()),
        (6, 7, 13),
        "later counts replace earlier ones"
    );
}

#[test]
fn calls_in_pieces_are_one_call_and_turn_stop_into_tool_calls() {
    let part = |call: &str| format!(r#"{{"candidates":[{{"content":{{"parts":[{{"functionCall":{call}}}]}}}}]}}"#);
    let (counted, end) = meter(&[
        &part(r#"{"name":"f","willContinue":true}"#),
        &part(r#"{"partialArgs":[{"jsonPath":"$.a","stringValue":"x"}],"willContinue":true}"#),
        &part("{}"),
        &part(r#"{"name":"g","args":{"b":1}}"#),
        r#"{"candidates":[{"finishReason":"STOP"}]}"#,
    ]);
    assert_eq!((counted.tool_calls, end), (2, StreamEnd::Complete));
    assert_eq!(
        counted.finish.map(|f| (f.kind, f.raw.to_string())),
        Some((FinishKind::ToolCalls, "STOP".to_owned()))
    );
}

#[test]
fn ends_are_told_apart() {
    let text = r#"{"candidates":[{"content":{"parts":[{"text":"a"}]}}]}"#;
    assert_eq!(meter(&[text]).1, StreamEnd::Truncated);
    let (counted, end) = meter(&[r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#]);
    assert_eq!(
        (end, counted.finish.map(|f| f.kind)),
        (StreamEnd::Complete, Some(FinishKind::ContentFilter))
    );
    let (counted, end) = meter(&[
        text,
        r#"{"error":{"code":503,"message":"busy","status":"UNAVAILABLE"}}"#,
    ]);
    assert_eq!(
        (end, counted.error.map(|e| (e.kind, e.status))),
        (StreamEnd::Failed, Some((ErrorKind::Overloaded, 503)))
    );
}

#[test]
fn errors_are_written_as_google_writes_them() {
    let error = ApiError::new(ErrorKind::RateLimit, "slow").retry_after(7);
    let body: Value = serde_json::from_slice(&Gemini.encode_error(&error, "r")).expect("JSON");
    let details = json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"}]);
    let want = json!({"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": details}});
    assert_eq!(body, want);
    assert_eq!(
        Gemini.decode_error(429, body.to_string().as_bytes()).retry_after_secs,
        Some(7)
    );
    let stream =
        |framing, first| String::from_utf8(Gemini.encode_stream_error(&error, "r", framing, first)).expect("UTF-8");
    assert!(
        stream(Framing::Sse, false).starts_with("data: {\"error\":{"),
        "the SDK for Python looks for just that"
    );
    for (sent, first) in [("", true), ("[{}", false)] {
        let whole = format!("{sent}{}", stream(Framing::JsonArray, first));
        let array: Vec<Value> = serde_json::from_str(&whole).expect("the array is closed");
        assert_eq!(array.last(), Some(&body));
    }
}

#[test]
fn the_tier_sound_and_pictures_are_metered() {
    let (counted, _) = meter(&[
        r#"{"candidates":[{"content":{"parts":[{"text":"a"},{"inlineData":{"mimeType":"image/png","data":"AAAA"}}]}}],
           "usageMetadata":{"promptTokenCount":9,"trafficType":"ON_DEMAND_FLEX"}}"#,
        r#"{"usageMetadata":{"promptTokenCount":9,"cachedContentTokenCount":6,"candidatesTokenCount":1300,
           "cacheTokensDetails":[{"modality":"AUDIO","tokenCount":4},{"modality":"TEXT","tokenCount":2}],
           "candidatesTokensDetails":[{"modality":"IMAGE","tokenCount":1290}]}}"#,
    ]);
    assert_eq!(counted.service.as_deref(), Some("flex"));
    assert_eq!(
        (counted.images_out, counted.image_tokens, counted.cached_audio),
        (1, 1290, 4)
    );
    for (said, word) in [
        (r#""serviceTier":"priority""#, "priority"),
        (r#""trafficType":"ON_DEMAND""#, "standard"),
        (r#""trafficType":"PROVISIONED_THROUGHPUT""#, "provisioned"),
    ] {
        let (counted, _) = meter(&[&format!(r#"{{"usageMetadata":{{{said}}}}}"#)]);
        assert_eq!(counted.service.as_deref(), Some(word));
    }
}
