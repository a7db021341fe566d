use serde_json::{Value, json};

use super::*;
use crate::dialects::{Dialect, by_name};
use crate::ir::{Message, Operation};

fn survey(name: &str, body: Value) -> Survey {
    let dialect: &dyn Dialect = by_name(name).expect("a dialect");
    let target = dialect.own_target(Operation::Chat, false).expect("chat").0;
    let request = dialect.decode_request(&target, body.to_string().as_bytes());
    Survey::of(&request.expect("a request"), 7)
}

const PNG: &str = "data:image/png;base64,iVBORw0KGgo=";

#[test]
fn every_dialect_says_the_same() {
    let want = Survey {
        prompt_tokens: 7,
        output_tokens: Some(50),
        tools: true,
        media: vec![MediaKind::Image],
        structured: true,
        reasoning: true,
        last_text: "first\nsecond".into(),
    };
    let schema = json!({"type": "object", "properties": {}, "additionalProperties": false});
    let chat = json!({
        "model": "m", "max_completion_tokens": 50, "reasoning_effort": "low",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}],
        "response_format": {"type": "json_object"},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "first"}, {"type": "image_url", "image_url": {"url": PNG}},
                {"type": "text", "text": "second"},
            ]},
            {"role": "assistant", "content": "yes", "tool_calls": [
                {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            ]},
            {"role": "tool", "tool_call_id": "1", "content": "not the user's"},
        ],
    });
    assert_eq!(survey("openai_chat", chat), want);
    let responses = json!({
        "model": "m", "max_output_tokens": 50, "reasoning": {"effort": "high"},
        "tools": [{"type": "function", "name": "f", "parameters": schema}],
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema}},
        "input": [
            {"role": "user", "content": [
                {"type": "input_text", "text": "first"}, {"type": "input_image", "image_url": PNG},
                {"type": "input_text", "text": "second"},
            ]},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "not the user's"},
        ],
    });
    assert_eq!(survey("openai_responses", responses), want);
    let anthropic = json!({
        "model": "m", "max_tokens": 50, "thinking": {"type": "enabled", "budget_tokens": 1024},
        "tools": [{"name": "f", "input_schema": schema}],
        "output_config": {"format": {"type": "json_schema", "schema": schema}},
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "first"}, {"type": "text", "text": "second"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": [
                {"type": "text", "text": "not the user's"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
            ]}]},
        ],
    });
    assert_eq!(
        survey("anthropic", anthropic),
        want,
        "media within a tool's result count"
    );
    let gemini = json!({
        "generationConfig": {
            "maxOutputTokens": 50, "thinkingConfig": {"thinkingBudget": 100},
            "responseMimeType": "application/json", "responseSchema": schema,
        },
        "tools": [{"functionDeclarations": [{"name": "f"}]}],
        "contents": [
            {"role": "user", "parts": [
                {"text": "first"}, {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}, {"text": "second"},
            ]},
            {"role": "model", "parts": [{"functionCall": {"name": "f", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": "not the user's"}}}]},
        ],
    });
    assert_eq!(survey("gemini", gemini), want);
}

#[test]
fn a_plain_request_asks_for_nothing() {
    let plain = survey(
        "openai_chat",
        json!({"model": "m", "messages": [
            {"role": "system", "content": "not the user's"}, {"role": "assistant", "content": "nor this"},
        ]}),
    );
    let nothing = Survey {
        prompt_tokens: 7,
        ..Survey::default()
    };
    assert_eq!(plain, nothing);
    let said = json!({
        "model": "m", "reasoning_effort": "none", "response_format": {"type": "text"},
        "messages": [{"role": "user", "content": "hi"}, {"role": "user", "content": " "}],
    });
    let said = survey("openai_chat", said);
    assert!(!said.reasoning && !said.structured);
    assert_eq!(said.last_text, "hi", "an empty message says nothing");
}

#[test]
fn of_a_long_text_the_end_is_seen() {
    let of = |texts: &[String]| {
        let mut message = Message::new(Role::User, "");
        message.blocks = texts.iter().map(|text| Block::text(text.as_str(), "")).collect();
        let request = Request {
            messages: vec![message],
            ..Request::default()
        };
        Survey::of(&request, 0).last_text
    };
    let exact = "é".repeat(MAX_LAST_TEXT / 2);
    assert_eq!(of(std::slice::from_ref(&exact)), exact);
    let long = of(&[format!("x{exact}")]);
    assert_eq!(long, exact);
    let long = of(&[format!("é{exact}z")]);
    assert!(long.len() <= MAX_LAST_TEXT && long.ends_with("éz") && long.len() > MAX_LAST_TEXT - 3);
    let two = of(&["lost".into(), exact.clone(), "end".into()]);
    assert!(two.len() <= MAX_LAST_TEXT && two.ends_with("é\nend") && !two.contains("lost"));
    assert_eq!(of(&["a".into(), "b".into()]), "a\nb");
    assert_eq!(of(&["a".into(), exact.clone()]), exact);
}
