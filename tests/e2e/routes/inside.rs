//! Conditions on what stands inside a request, in all four dialects.

use serde_json::{Value, json};

use super::{World, asking, member, plain, route, with};
use crate::support::dialect::{ALL, Dialect};

/// Where a request goes.
async fn taken(world: &World, dialect: Dialect, model: &str, body: &Value) -> String {
    world.taken(&dialect.path(model, false), &[], body).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_prompt_and_answer() {
    let rules = [
        route("short", "\"p\"", "prompt_tokens_below = 50"),
        route("middle", "\"p\"", "prompt_tokens_from = 50, prompt_tokens_below = 1000"),
        route("long", "\"p\"", "prompt_tokens_from = 1000"),
        route("few", "\"o\"", "output_tokens_below = 100"),
        route("some", "\"o\"", "output_tokens_from = 100, output_tokens_below = 200"),
        route("many", "\"o\"", "output_tokens_from = 200"),
        route("unsaid", "\"*\"", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    for dialect in ALL {
        for (words, want) in [(3, "short"), (300, "middle"), (3000, "long")] {
            let body = asking(dialect, "p", &"word ".repeat(words));
            assert_eq!(
                taken(&world, dialect, "p", &body).await,
                want,
                "{dialect:?}, {words} words"
            );
        }
        let limit = |n: u64| match dialect {
            Dialect::Chat | Dialect::Messages => json!({"max_tokens": n}),
            Dialect::Responses => json!({"max_output_tokens": n}),
            Dialect::Gemini => json!({"generationConfig": {"maxOutputTokens": n}}),
        };
        for (n, want) in [(99, "few"), (100, "some"), (199, "some"), (200, "many")] {
            let body = with(plain(dialect, "o"), limit(n));
            assert_eq!(taken(&world, dialect, "o", &body).await, want, "{dialect:?}, {n}");
        }
        let mut body = plain(dialect, "o");
        if dialect == Dialect::Messages {
            body.as_object_mut().unwrap().remove("max_tokens");
        }
        assert_eq!(
            taken(&world, dialect, "o", &body).await,
            "unsaid",
            "{dialect:?}: no limit"
        );
    }
    // What counts, and what is turned into vectors, is as long as a prompt.
    let long = "word ".repeat(3000);
    for (path, body) in [
        ("/v1/messages/count_tokens", asking(Dialect::Messages, "p", &long)),
        ("/v1/embeddings", json!({"model": "p", "input": [long, "x"]})),
        (
            "/v1beta/models/p:embedContent",
            json!({"content": {"parts": [{"text": long}]}}),
        ),
    ] {
        assert_eq!(world.taken(path, &[], &body).await, "long", "{path}");
    }
    let body = json!({"model": "p", "input": "x"});
    assert_eq!(world.taken("/v1/embeddings", &[], &body).await, "short");
    // The newer name of the same limit.
    let body = with(plain(Dialect::Chat, "o"), json!({"max_completion_tokens": 150}));
    assert_eq!(taken(&world, Dialect::Chat, "o", &body).await, "some");
}

fn tools(dialect: Dialect) -> Value {
    let schema = json!({"type": "object", "properties": {}});
    match dialect {
        Dialect::Chat => json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}]}),
        Dialect::Responses => json!({"tools": [{"type": "function", "name": "f", "parameters": schema}]}),
        Dialect::Messages => json!({"tools": [{"name": "f", "input_schema": schema}]}),
        Dialect::Gemini => json!({"tools": [{"functionDeclarations": [{"name": "f"}]}]}),
    }
}

/// Ways in which a dialect asks for structured output; the last does not.
fn formats(dialect: Dialect) -> Vec<(Value, bool)> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    match dialect {
        Dialect::Chat => vec![
            (json!({"response_format": {"type": "json_object"}}), true),
            (
                json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}}),
                true,
            ),
            (json!({"response_format": {"type": "text"}}), false),
        ],
        Dialect::Responses => vec![
            (json!({"text": {"format": {"type": "json_object"}}}), true),
            (
                json!({"text": {"format": {"type": "json_schema", "name": "n", "schema": schema}}}),
                true,
            ),
            (json!({"text": {"format": {"type": "text"}}}), false),
        ],
        Dialect::Messages => vec![
            (
                json!({"output_config": {"format": {"type": "json_schema", "schema": schema}}}),
                true,
            ),
            (json!({"output_config": {"effort": "low"}}), false),
        ],
        Dialect::Gemini => vec![
            (
                json!({"generationConfig": {"responseMimeType": "application/json"}}),
                true,
            ),
            (
                json!({"generationConfig": {"responseMimeType": "application/json", "responseSchema": schema}}),
                true,
            ),
            (json!({"generationConfig": {"responseMimeType": "text/plain"}}), false),
        ],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_and_structured_output() {
    let rules = [
        route("tools", "\"t\"", "tools = true"),
        route("no-tools", "\"t\"", "tools = false"),
        route("structured", "\"s\"", "structured = true"),
        route("free", "\"s\"", "structured = false"),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    for dialect in ALL {
        let body = plain(dialect, "t");
        assert_eq!(taken(&world, dialect, "t", &body).await, "no-tools", "{dialect:?}");
        let empty = with(body.clone(), json!({"tools": []}));
        assert_eq!(taken(&world, dialect, "t", &empty).await, "no-tools", "{dialect:?}");
        let body = with(body, tools(dialect));
        assert_eq!(taken(&world, dialect, "t", &body).await, "tools", "{dialect:?}");
        let body = plain(dialect, "s");
        assert_eq!(taken(&world, dialect, "s", &body).await, "free", "{dialect:?}");
        for (format, structured) in formats(dialect) {
            let body = with(body.clone(), format.clone());
            let want = if structured { "structured" } else { "free" };
            assert_eq!(taken(&world, dialect, "s", &body).await, want, "{dialect:?}: {format}");
        }
    }
}

/// A part of a message which carries a medium, and its kind. What a dialect has no form for is missing.
fn parts(dialect: Dialect) -> Vec<(&'static str, Value)> {
    let url = |kind: &str| format!("data:{kind};base64,AAAA");
    match dialect {
        Dialect::Chat => vec![
            (
                "image",
                json!({"type": "image_url", "image_url": {"url": url("image/png")}}),
            ),
            (
                "image",
                json!({"type": "image_url", "image_url": {"url": "https://example.com/a.jpg"}}),
            ),
            (
                "document",
                json!({"type": "file", "file": {"filename": "a.pdf", "file_data": url("application/pdf")}}),
            ),
            (
                "audio",
                json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
            ),
            (
                "video",
                json!({"type": "video_url", "video_url": {"url": "https://example.com/a.mp4"}}),
            ),
        ],
        Dialect::Responses => vec![
            ("image", json!({"type": "input_image", "image_url": url("image/png")})),
            ("image", json!({"type": "input_image", "file_id": "file-1"})),
            (
                "document",
                json!({"type": "input_file", "filename": "a.pdf", "file_data": url("application/pdf")}),
            ),
            (
                "audio",
                json!({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}),
            ),
        ],
        Dialect::Messages => vec![
            (
                "image",
                json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}),
            ),
            (
                "image",
                json!({"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}),
            ),
            (
                "document",
                json!({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}),
            ),
            (
                "image",
                json!({"type": "tool_result", "tool_use_id": "t", "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}),
            ),
        ],
        Dialect::Gemini => vec![
            (
                "image",
                json!({"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
            ),
            (
                "image",
                json!({"inline_data": {"mime_type": "image/png", "data": "AAAA"}}),
            ),
            (
                "document",
                json!({"inlineData": {"mimeType": "application/pdf", "data": "AAAA"}}),
            ),
            (
                "audio",
                json!({"inlineData": {"mimeType": "audio/wav", "data": "AAAA"}}),
            ),
            (
                "video",
                json!({"fileData": {"mimeType": "video/mp4", "fileUri": "https://example.com/a.mp4"}}),
            ),
        ],
    }
}

/// A conversation: turns of (role, content), the content a text or parts in the dialect's form.
fn conversation(dialect: Dialect, model: &str, turns: &[(&str, Value)]) -> Value {
    let messages: Vec<Value> = turns
        .iter()
        .map(|(role, content)| match dialect {
            Dialect::Gemini => {
                let role = if *role == "assistant" { "model" } else { role };
                let parts = if content.is_array() {
                    content.clone()
                } else {
                    json!([{"text": content}])
                };
                json!({"role": role, "parts": parts})
            }
            _ if *role == "as it is" => content.clone(),
            _ => json!({"role": role, "content": content}),
        })
        .collect();
    match dialect {
        Dialect::Chat => json!({"model": model, "messages": messages}),
        Dialect::Responses => json!({"model": model, "input": messages}),
        Dialect::Messages => json!({"model": model, "max_tokens": 9, "messages": messages}),
        Dialect::Gemini => json!({"contents": messages}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn media() {
    let rules = [
        route("image", "\"k\"", "media = [\"image\"]"),
        route("document", "\"k\"", "media = \"document\""),
        route("audio-video", "\"k\"", "media = [\"audio\", \"video\"]"),
        route("none", "\"k\"", "media = false"),
        route("without", "\"n\"", "media = false"),
        route("any", "\"n\"", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    for dialect in ALL {
        let body = plain(dialect, "k");
        assert_eq!(taken(&world, dialect, "k", &body).await, "none", "{dialect:?}");
        assert_eq!(
            taken(&world, dialect, "n", &plain(dialect, "n")).await,
            "without",
            "{dialect:?}"
        );
        for (kind, part) in parts(dialect) {
            let want = if kind == "audio" || kind == "video" {
                "audio-video"
            } else {
                kind
            };
            // Also where it stands in an earlier turn.
            for turns in [
                vec![("user", json!([part]))],
                vec![
                    ("user", json!([part])),
                    ("assistant", json!("I see")),
                    ("user", json!("and?")),
                ],
            ] {
                let body = conversation(dialect, "k", &turns);
                assert_eq!(taken(&world, dialect, "k", &body).await, want, "{dialect:?}: {body}");
                let body = conversation(dialect, "n", &turns);
                assert_eq!(taken(&world, dialect, "n", &body).await, "any", "{dialect:?}: {body}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_text_of_the_user() {
    let rules = [
        route("code", "\"*\"", "text = '(?i)```|\\bcompile\\b'"),
        route("rest", "\"*\"", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    let result = |dialect: Dialect| match dialect {
        Dialect::Chat => vec![
            (
                "as it is",
                json!({"role": "assistant", "content": null, "tool_calls": [
                    {"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}),
            ),
            (
                "as it is",
                json!({"role": "tool", "tool_call_id": "t", "content": "compile"}),
            ),
        ],
        Dialect::Responses => vec![
            (
                "as it is",
                json!({"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"}),
            ),
            (
                "as it is",
                json!({"type": "function_call_output", "call_id": "t", "output": "compile"}),
            ),
        ],
        Dialect::Messages => vec![
            (
                "assistant",
                json!([{"type": "tool_use", "id": "t", "name": "f", "input": {}}]),
            ),
            (
                "user",
                json!([{"type": "tool_result", "tool_use_id": "t", "content": "compile"}]),
            ),
        ],
        Dialect::Gemini => vec![
            ("model", json!([{"functionCall": {"name": "f", "args": {}}}])),
            (
                "user",
                json!([{"functionResponse": {"name": "f", "response": {"output": "compile"}}}]),
            ),
        ],
    };
    let parts = |dialect: Dialect| match dialect {
        Dialect::Chat | Dialect::Messages => {
            json!([{"type": "text", "text": "please"}, {"type": "text", "text": "compile"}])
        }
        Dialect::Responses => {
            json!([{"type": "input_text", "text": "please"}, {"type": "input_text", "text": "compile"}])
        }
        Dialect::Gemini => json!([{"text": "please"}, {"text": "compile"}]),
    };
    for dialect in ALL {
        let said = |text: &str| ("user", json!(text));
        let answered = ("assistant", json!("compile"));
        let mut with_result = vec![said("go on")];
        with_result.extend(result(dialect));
        let mut before_result = vec![said("Compile it")];
        before_result.extend(result(dialect));
        for (what, turns, want) in [
            ("said", vec![said("Please COMPILE it")], "code"),
            ("a fence", vec![said("```rust\nfn x() {}\n```")], "code"),
            ("of several parts", vec![("user", parts(dialect))], "code"),
            ("not said", vec![said("recompiled")], "rest"),
            (
                "earlier",
                vec![said("compile"), ("assistant", json!("done")), said("thanks")],
                "rest",
            ),
            (
                "not by the user",
                vec![said("hello"), answered.clone(), said("thanks")],
                "rest",
            ),
            ("at last", vec![said("hello"), answered, said("compile this")], "code"),
            ("what a tool gave back", with_result, "rest"),
            ("said before a tool gave back", before_result, "code"),
        ] {
            let body = conversation(dialect, "m", &turns);
            assert_eq!(
                taken(&world, dialect, "m", &body).await,
                want,
                "{dialect:?}, {what}: {body}"
            );
        }
        let instructions = match dialect {
            Dialect::Chat => {
                json!({"messages": [{"role": "system", "content": "compile"}, {"role": "user", "content": "x"}]})
            }
            Dialect::Responses => json!({"instructions": "compile"}),
            Dialect::Messages => json!({"system": "compile"}),
            Dialect::Gemini => json!({"systemInstruction": {"parts": [{"text": "compile"}]}}),
        };
        let body = with(plain(dialect, "m"), instructions);
        assert_eq!(
            taken(&world, dialect, "m", &body).await,
            "rest",
            "{dialect:?}: instructions"
        );
    }
}
