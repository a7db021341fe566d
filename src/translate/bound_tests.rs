use bytes::Bytes;
use http::{HeaderMap, Method};
use serde_json::json;

use super::*;
use crate::dialects::{Line, by_name, find};
use crate::translate::request;

fn read(path: &str, body: &serde_json::Value) -> (Option<Prompt>, Prompt) {
    let headers = HeaderMap::new();
    let target = find(Line {
        method: &Method::POST,
        path,
        query: "",
        headers: &headers,
    })
    .unwrap();
    let text = body.to_string();
    let decoded = request::decode(&target, text.as_bytes()).unwrap();
    (by_bytes(text.as_bytes()), of(&decoded, text.len()))
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn plain_text_is_bounded_by_its_bytes() {
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "How are you, my dear model?"}]});
    let (quick, slow) = read(CHAT, &body);
    let quick = quick.unwrap();
    assert_eq!(quick.most, body.to_string().len() as u64);
    assert!(!slow.open && slow.most == quick.most && slow.expected < slow.most);
    let long = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(BY_BYTES)}]});
    assert_eq!(by_bytes(long.to_string().as_bytes()), None);
}

#[test]
fn what_stands_for_more_than_its_bytes_is_read() {
    let user = |parts| json!({"model": "m", "messages": [{"role": "user", "content": parts}]});
    let picture = |url: &str| user(json!([{"type": "image_url", "image_url": {"url": url}}]));
    for url in ["https://a.example/x.png", "data:image/png;base64,iVBORw0KGgo="] {
        let (quick, slow) = read(CHAT, &picture(url));
        assert_eq!(quick, None, "{url}");
        assert!(
            slow.most >= 50_000 && slow.most < 51_000 && !slow.open,
            "{url}: {slow:?}"
        );
    }
    let inline = "A".repeat(400_000);
    let (_, slow) = read(CHAT, &picture(&format!("data:image/png;base64,{inline}")));
    assert!(slow.most < 51_000, "base64 is no text: {slow:?}");
    let file = user(json!([{"type": "file", "file": {"file_id": "file-1"}}]));
    let (quick, slow) = read(CHAT, &file);
    assert!(quick.is_none() && slow.open);
    let stored = json!({"model": "m", "input": "Hi", "previous_response_id": "resp_1"});
    let (quick, slow) = read("/v1/responses", &stored);
    assert!(quick.is_none() && slow.open);
    let search = json!({"model": "m", "input": "Hi", "tools": [{"type": "web_search"}]});
    let (quick, slow) = read("/v1/responses", &search);
    assert!(quick.is_none() && slow.open);
    let cached = json!({"contents": [{"parts": [{"text": "Hi"}]}], "cachedContent": "cachedContents/1"});
    let (quick, slow) = read("/v1beta/models/m:generateContent", &cached);
    assert!(quick.is_none() && slow.open);
}

#[test]
fn names_hidden_by_escapes_are_read_too() {
    for body in [
        r#"{"model":"m","messages":[{"role":"user","content":[{"type":"\u0069mage_url","\u0069mage_url":{"url":"https:\/\/x"}}]}]}"#,
        r#"{"model":"m","previous_response\u005fid":"r","input":"Hi"}"#,
    ] {
        assert_eq!(by_bytes(body.as_bytes()), None, "{body}");
    }
}

#[test]
fn limits_are_found_under_each_name() {
    let cases = [
        ("openai_chat", r#"{"max_tokens":5}"#, Said::Number(5)),
        (
            "openai_chat",
            r#"{"max_completion_tokens":7,"max_tokens":5}"#,
            Said::Number(7),
        ),
        ("openai_chat", r#"{"max_tokens":null}"#, Said::Nothing),
        ("openai_chat", r#"{"max_tokens":-1}"#, Said::Odd),
        ("openai_chat", r#"{"max_tokens":1.5}"#, Said::Odd),
        ("openai_chat", r#"{"max_tokens":100.0}"#, Said::Number(100)),
        ("anthropic", r#"{"max_tokens":64}"#, Said::Number(64)),
        ("openai_responses", r#"{"max_output_tokens":9}"#, Said::Number(9)),
        (
            "gemini",
            r#"{"generationConfig":{"maxOutputTokens":"12"}}"#,
            Said::Number(12),
        ),
        (
            "gemini",
            r#"{"generation_config":{"max_output_tokens":12}}"#,
            Said::Number(12),
        ),
        (
            "gemini",
            r#"{"generation_config":{"max_output_tokens":12},"generationConfig":{"maxOutputTokens":13}}"#,
            Said::Number(13),
        ),
        ("gemini", r#"{"contents":[]}"#, Said::Nothing),
    ];
    for (dialect, body, want) in cases {
        let dialect = by_name(dialect).unwrap();
        let body = Bytes::from(body);
        assert_eq!(number(&body, dialect, "max_output_tokens"), want, "{body:?}");
    }
    let chat = by_name("openai_chat").unwrap();
    assert_eq!(number(br#"{"n":3}"#, chat, "n"), Said::Number(3));
    assert_eq!(number(br#"{"n":3}"#, by_name("anthropic").unwrap(), "n"), Said::Nothing);
}
