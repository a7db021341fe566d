//! Bodies of clients: what peek accepts is one JSON object, and its edits leave it one.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use serde_json::Value;
use tollgate::dialects::{self, Line, Splice};
use tollgate::translate::splice;

const PATHS: [&str; 6] = [
    "/v1/chat/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1beta/models/a:streamGenerateContent",
];

fuzz_target!(|input: &[u8]| {
    for path in PATHS {
        let headers = HeaderMap::new();
        let line = Line {
            method: &Method::POST,
            path,
            query: "",
            headers: &headers,
        };
        let target = dialects::find(line).expect("a known path");
        let Ok(peek) = target.dialect.peek(&target, input) else {
            continue;
        };
        let _: IgnoredAny = serde_json::from_slice(input).expect("what was accepted is JSON");
        std::str::from_utf8(input).expect("in UTF-8");
        assert!(input.trim_ascii_start().starts_with(b"{"), "and an object");
        for at in peek.outline.preamble.iter().chain(&peek.outline.prompt) {
            let _: IgnoredAny = serde_json::from_slice(&input[at.clone()]).expect("a part of it is JSON");
        }
        if !peek.outline.ours.is_empty() {
            let rest = splice::apply(&Bytes::copy_from_slice(input), peek.outline.ours.clone());
            let again = target
                .dialect
                .peek(&target, &rest)
                .expect("without what is for us it is a body still");
            assert_eq!(again.model, peek.model, "for the same model");
            assert_eq!(
                (again.outline.provider, again.outline.models),
                (None, Vec::new()),
                "and for nobody else"
            );
            assert!(again.outline.ours.is_empty(), "and nothing in it is for us");
        }
        let mut edits: Vec<Splice> = peek.ask_usage.clone().into_iter().collect();
        if let Some(at) = peek.model_span.clone() {
            edits.push(Splice {
                at,
                with: Bytes::from_static(b"\"other\""),
            });
        }
        let asks = peek.ask_usage.is_some();
        let edited = splice::apply(&Bytes::copy_from_slice(input), edits);
        let _: IgnoredAny = serde_json::from_slice(&edited).expect("an edited body is JSON");
        // The grammar has more than `Value` takes: lone surrogates in escapes, numbers larger than any float.
        let Ok(before) = serde_json::from_slice::<Value>(input) else {
            continue;
        };
        if peek.model_span.is_some() {
            assert_eq!(before["model"], peek.model, "the model is the body's");
        }
        let mut after: Value = serde_json::from_slice(&edited).expect("and has the same values");
        if peek.model_span.is_some() {
            assert_eq!(after["model"], "other", "the model was replaced");
            after["model"] = before["model"].clone();
        }
        if asks {
            assert_eq!(after["stream_options"]["include_usage"], true, "usage was asked for");
        } else {
            assert_eq!(before, after, "nothing else was changed");
        }
    }
});
