//! Requests of our own words, read and written.

use serde_json::{Value, json};

use super::*;
use crate::ir::{
    Block, Budget, CacheHint, Content, Effort, Format, LossReport, Media, MediaKind, MediaSource, Message, Opaque,
    Reasoning, Request, Role, Set, Tool, ToolCall, ToolChoice, ToolDefinition, ToolKind, ToolResult,
};

fn read(body: &Value) -> Request {
    let (target, _) = OpenAiResponses.own_target(Operation::Chat, false).expect("it has one");
    let read = OpenAiResponses.decode_request(&target, body.to_string().as_bytes());
    read.unwrap_or_else(|error| panic!("{error}"))
}

fn upstream(model: &str) -> Upstream<'_> {
    Upstream {
        model,
        stream: false,
        ask_usage: false,
    }
}

fn write(request: &Request) -> (Value, LossReport) {
    let mut loss = LossReport::default();
    let body = OpenAiResponses
        .encode_request(request, &upstream("gpt-5.2"), &mut loss)
        .expect("can be said");
    (serde_json::from_slice(&body).expect("JSON"), loss)
}

fn paths(loss: &LossReport) -> Vec<&str> {
    loss.losses().iter().map(|loss| &*loss.path).collect()
}

/// Everything a request can say that is not the same in another form.
fn full() -> Value {
    json!({
        "model": "gpt-5.2",
        "instructions": "Be brief.",
        "input": [
            {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Dev."}]},
            {"type": "additional_tools", "role": "developer", "id": "at_1", "tools": [
                {"type": "function", "name": "late", "parameters": {"type": "object"}, "strict": true},
                {"type": "web_search"}
            ]},
            {"type": "message", "role": "user", "id": "mine", "content": [
                {"type": "input_text", "text": "Look:", "prompt_cache_breakpoint": {"mode": "explicit"}},
                {"type": "input_image", "image_url": "data:image/png;base64,AAAA", "detail": "high"},
                {"type": "input_image", "file_id": "file_1"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,BBBB", "filename": "a.pdf"},
                {"type": "input_file", "file_url": "https://example.com/b.pdf"},
                {"type": "input_sketch", "strokes": 3}
            ]},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "And?"}]},
            {"type": "reasoning", "summary": [
                {"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}
            ], "content": [{"type": "reasoning_text", "text": "Three."}], "encrypted_content": "sealed", "status": "incomplete"},
            {"type": "reasoning", "id": "rs_stored", "summary": []},
            {"type": "message", "role": "assistant", "phase": "commentary", "content": [
                {"type": "output_text", "text": "Searching.", "annotations": [
                    {"type": "file_citation", "file_id": "f", "index": 3, "filename": "x"}
                ]},
                {"type": "refusal", "refusal": "No."}
            ]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Then."}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": null}},
            {"type": "function_call", "id": "other", "call_id": "c1", "name": "f", "namespace": "group", "arguments": "{\"a\":1"},
            {"type": "custom_tool_call", "call_id": "c2", "name": "patch", "input": "*** Begin"},
            {"type": "local_shell_call", "id": "ls", "call_id": "c3", "action": {"type": "exec"}, "status": "completed"},
            {"type": "function_call_output", "call_id": "c1", "name": "f", "output": "done"},
            {"type": "custom_tool_call_output", "call_id": "c2", "output": [
                {"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "https://example.com/i.png"}
            ]},
            {"type": "local_shell_call_output", "call_id": "c3", "output": "ok"},
            {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Mind."}]},
            {"type": "item_reference", "id": "msg_9"},
            {"type": "compaction", "encrypted_content": "packed"}
        ],
        "tools": [
            {"type": "namespace", "name": "group", "description": "A group.", "tools": [
                {"type": "function", "name": "f", "description": "F.", "parameters": {"type": "object"}, "defer_loading": true},
                {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "lark", "definition": "x"}}
            ]},
            {"type": "function", "name": "g", "strict": false},
            {"type": "mcp", "server_label": "s", "server_url": "https://example.com"},
            {"type": "local_shell"}
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]},
        "parallel_tool_calls": false,
        "text": {"format": {"type": "json_schema", "name": "n", "description": "d", "schema": {"type": "object"}, "strict": true}, "verbosity": "low", "tone": "warm"},
        "reasoning": {"effort": "xhigh", "summary": "detailed", "context": "all_turns"},
        "include": ["reasoning.encrypted_content", "message.output_text.logprobs", "file_search_call.results"],
        "max_output_tokens": 15,
        "temperature": 0.3,
        "top_p": 0.9,
        "top_logprobs": 2,
        "user": "u",
        "safety_identifier": "s",
        "metadata": {"k": "v"},
        "service_tier": "scale",
        "prompt_cache_key": "key",
        "store": true,
        "previous_response_id": "resp_1",
        "truncation": "auto",
        "background": true,
        "max_tool_calls": 3,
        "client_metadata": {"a": "b"},
        "stream_options": {"include_obfuscation": true},
        "stream": true
    })
}

#[test]
fn a_full_request_comes_home_unchanged() {
    let mut request = read(&full());
    request.link_tools();
    let mut loss = LossReport::default();
    let to = Upstream {
        stream: true,
        ..upstream("gpt-5.2")
    };
    let body = OpenAiResponses
        .encode_request(&request, &to, &mut loss)
        .expect("can be said");
    let again: Value = serde_json::from_slice(&body).expect("JSON");
    for (key, value) in full().as_object().expect("an object") {
        assert_eq!(&again[key], value, "{key}");
    }
    assert_eq!(
        again.as_object().map(|map| map.len()),
        full().as_object().map(|map| map.len())
    );
    assert!(loss.is_empty(), "{:?}", loss.losses());
}

#[test]
fn the_hub_sees_what_was_said() {
    let request = read(&full());
    let roles: Vec<Role> = request.all_messages().map(|message| message.role).collect();
    use Role::{Assistant, Developer, System, User};
    assert_eq!(
        roles,
        [System, Developer, User, User, Assistant, User, System, Assistant]
    );
    let model = &request.messages[2];
    let kinds: Vec<&str> = model
        .blocks
        .iter()
        .map(|block| match &block.content {
            Content::Reasoning(_) => "reasoning",
            Content::Text(_) => "text",
            Content::Refusal(_) => "refusal",
            Content::ToolCall(_) => "call",
            Content::Native(_) => "native",
            _ => "other",
        })
        .collect();
    let thought = ["reasoning"; 4];
    let said = ["text", "refusal", "text", "native", "call", "call", "native"];
    assert_eq!(kinds, [&thought[..], &said].concat());
    assert_eq!(model.blocks[2].opaque, Some(Opaque("sealed".into())));
    assert_eq!(model.blocks[4].at.as_ref(), "input[6].content[0]");
    let names: Vec<_> = request.tools.iter().map(|tool| tool.at.as_ref()).collect();
    assert_eq!(
        names,
        [
            "tools[0].tools[0]",
            "tools[0].tools[1]",
            "tools[1]",
            "tools[2]",
            "tools[3]",
            "input[1].tools[0]",
            "input[1].tools[1]"
        ]
    );
    assert!(matches!(
        &request.tools[1].kind,
        ToolDefinition::Custom { namespace: Some(group), .. } if group == "group"
    ));
    assert_eq!(
        request.reasoning.effort,
        Some(Set::new(Effort::XHigh, "reasoning.effort"))
    );
    assert_eq!(request.user, Some(Set::new("s".to_owned(), "safety_identifier")));
}

#[test]
fn what_is_wrong_is_named() {
    let (target, _) = OpenAiResponses.own_target(Operation::Chat, false).expect("it has one");
    for (body, path) in [
        (json!({"input": 3}), "input"),
        (json!({"input": [3]}), "input[0]"),
        (json!({"input": [{"role": "critic", "content": "x"}]}), "input[0].role"),
        (
            json!({"input": [{"role": "user", "content": [{"type": "input_text", "text": 1}]}]}),
            "input[0].content[0].text",
        ),
        (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
        (json!({"temperature": "hot"}), "temperature"),
    ] {
        let error = OpenAiResponses
            .decode_request(&target, body.to_string().as_bytes())
            .expect_err("wrong");
        assert_eq!(error.path, path);
    }
}

fn said(role: Role, at: &str, contents: Vec<Content>) -> Message {
    let mut message = Message::new(role, at);
    let block = |(index, content)| Block::new(content, format!("{at}.content[{index}]"));
    message.blocks = contents.into_iter().enumerate().map(block).collect();
    message
}

fn function(name: &str, parameters: Value, strict: Option<bool>) -> Tool {
    Tool {
        kind: ToolDefinition::Function {
            name: name.into(),
            description: None,
            parameters: Some(parameters),
            strict,
            namespace: None,
        },
        cache: None,
        at: format!("tools[{name}]").into(),
        native: Vec::new(),
    }
}

#[test]
fn a_foreign_conversation_is_written_stateless() {
    let mut thought = Block::new(Content::Reasoning("Hm.".into()), "messages[1].content[0]");
    thought.opaque = Some(Opaque("sealed".into()));
    let call = ToolCall {
        id: "c".into(),
        name: "f".into(),
        arguments: String::new(),
        kind: ToolKind::Function,
        namespace: None,
    };
    let result = ToolResult {
        call: "c".into(),
        name: Some("f".into()),
        blocks: vec![Block::text("42", "")],
        is_error: Some(true),
        kind: ToolKind::Function,
    };
    let mut model = said(Role::Assistant, "messages[1]", vec![]);
    model.blocks = vec![
        Block::new(Content::Reasoning("Nobody's.".into()), "messages[1].content[9]"),
        thought,
        Block::text("Let me see.", "messages[1].content[1]"),
        Block::text("Wait.", "messages[1].content[2]"),
        Block::new(Content::ToolCall(call), "messages[1].content[3]"),
    ];
    let mut asked = said(Role::User, "messages[0]", vec![Content::Text("What?".into())]);
    asked.blocks[0].cache = Some(CacheHint {
        ttl: None,
        at: "messages[0].content[0].cache_control".into(),
    });
    let request = Request {
        system: vec![said(Role::System, "system", vec![Content::Text("A".into())])],
        messages: vec![
            asked,
            model,
            said(
                Role::User,
                "messages[2]",
                vec![Content::ToolResult(result), Content::Text("Well?".into())],
            ),
        ],
        ..Request::default()
    };
    let (body, loss) = write(&request);
    assert_eq!(body["instructions"], "A");
    assert_eq!(
        body["input"],
        json!([
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What?"}]},
            {"type": "reasoning", "encrypted_content": "sealed", "summary": [{"type": "summary_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [
                {"type": "output_text", "text": "Let me see."}, {"type": "output_text", "text": "Wait."}
            ]},
            {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "42"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Well?"}]}
        ])
    );
    assert_eq!(
        (&body["store"], &body["include"]),
        (&json!(false), &json!(["reasoning.encrypted_content"]))
    );
    assert_eq!(
        paths(&loss),
        [
            "messages[0].content[0].cache_control",
            "messages[1].content[9]",
            "messages[2].content[0].is_error"
        ]
    );
}

#[test]
fn strictness_is_always_said_for_others() {
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": false});
    let request = Request {
        tools: vec![
            function("a", json!({"type": "object", "properties": {"a": {}}}), None),
            function(
                "b",
                json!({"properties": {"a": {}}, "anyOf": [{"required": ["a"]}]}),
                Some(true),
            ),
            function("c", closed, Some(true)),
        ],
        tool_choice: Some(Set::new(ToolChoice::Tool("b".into()), "tool_choice")),
        ..Request::default()
    };
    let (body, loss) = write(&request);
    let strict: Vec<_> = (0..3).map(|index| body["tools"][index]["strict"].clone()).collect();
    assert_eq!(strict, [json!(false), json!(false), json!(true)]);
    assert_eq!(
        body["tools"][1]["parameters"],
        json!({"properties": {"a": {}}, "type": "object"})
    );
    assert_eq!(body["tool_choice"], json!({"type": "function", "name": "b"}));
    assert_eq!(paths(&loss), ["tools[b].parameters.anyOf", "tools[b].strict"]);
}

#[test]
fn settings_are_carried_or_reported() {
    let mut request = Request {
        user: Some(Set::new("x".repeat(65), "metadata.user_id")),
        service_tier: Some(Set::new("standard_only".into(), "service_tier")),
        format: Some(Set::new(
            Format::JsonSchema {
                name: None,
                description: None,
                schema: json!({"type": "object"}),
                strict: None,
            },
            "output_format",
        )),
        tool_choice: Some(Set::new(ToolChoice::Auto, "tool_choice")),
        ..Request::default()
    };
    request.reasoning.budget = Some(Set::new(Budget::Tokens(2000), "thinking.budget_tokens"));
    request.reasoning.visible = Some(Set::new(true, "thinking"));
    let sampling = &mut request.sampling;
    sampling.max_tokens = Some(Set::new(5, "max_tokens"));
    sampling.temperature = Some(Set::new(1.0, "temperature"));
    sampling.stop = Some(Set::new(vec!["x".into()], "stop"));
    sampling.seed = Some(Set::new(1, "seed"));
    sampling.candidates = Some(Set::new(1, "n"));
    sampling.top_k = Some(Set::new(3, "top_k"));
    let (body, loss) = write(&request);
    assert_eq!(
        body,
        json!({
            "model": "gpt-5.2",
            "input": [],
            "text": {"format": {"type": "json_schema", "name": "answer", "schema": {"type": "object"}}},
            "reasoning": {"effort": "medium", "summary": "auto"},
            "max_output_tokens": 16,
            "temperature": 1,
            "store": false,
            "include": ["reasoning.encrypted_content"]
        })
    );
    assert_eq!(
        paths(&loss),
        [
            "output_format",
            "thinking.budget_tokens",
            "max_tokens",
            "top_k",
            "stop",
            "seed",
            "metadata.user_id",
            "service_tier"
        ]
    );
}

#[test]
fn no_reasoning_is_said_in_words_the_model_knows() {
    let request = Request {
        reasoning: Reasoning {
            enabled: Some(Set::new(false, "thinking")),
            ..Reasoning::default()
        },
        ..Request::default()
    };
    for (model, effort, exact) in [
        ("gpt-5.1", json!("none"), true),
        ("openai/gpt-5-mini", json!("minimal"), false),
        ("gpt-5.1-codex", json!("low"), false),
        ("gpt-5-chat-latest", Value::Null, true),
        ("o4-mini", json!("low"), false),
        ("gpt-4.1", Value::Null, true),
        ("grok-4", json!("none"), true),
    ] {
        let mut loss = LossReport::default();
        let body = OpenAiResponses
            .encode_request(&request, &upstream(model), &mut loss)
            .expect("can be said");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            (&body["reasoning"]["effort"], loss.is_empty()),
            (&effort, exact),
            "{model}"
        );
        assert_eq!(body["include"], Value::Null);
    }
    let own = read(&json!({"model": "gpt-5", "input": "x", "reasoning": {"effort": "none"}}));
    let (body, loss) = write(&own);
    assert_eq!((&body["reasoning"]["effort"], loss.is_empty()), (&json!("none"), true));
}

#[test]
fn what_says_nothing_elsewhere_is_no_loss() {
    let request = read(&json!({
        "model": "m", "background": false, "truncation": "disabled", "stream_options": {"include_obfuscation": false},
        "include": ["reasoning.encrypted_content"],
        "input": [
            {"type": "message", "id": "msg_1", "status": "completed", "role": "assistant", "content": [
                {"type": "output_text", "text": "x", "annotations": [], "logprobs": []}
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "sealed"},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "f", "arguments": "{}", "status": "completed"}
        ]
    }));
    let natives = request.messages[0].blocks.iter().flat_map(|block| &block.native);
    assert_eq!((request.native.len(), natives.count()), (0, 0));
}

fn media(kind: MediaKind, source: MediaSource, mime: Option<&str>) -> Content {
    Content::Media(Media {
        kind,
        source,
        mime: mime.map(str::to_owned),
        name: None,
        detail: None,
    })
}

#[test]
fn media_become_what_the_api_takes() {
    let request = |content| Request {
        messages: vec![said(Role::User, "m", vec![content])],
        ..Request::default()
    };
    let part = |content| write(&request(content)).0["input"][0]["content"][0].clone();
    let inline = || MediaSource::Inline("AAAA".into());
    assert_eq!(
        part(media(MediaKind::Image, inline(), Some("image/jpeg"))),
        json!({"type": "input_image", "image_url": "data:image/jpeg;base64,AAAA"})
    );
    assert_eq!(
        part(media(MediaKind::Document, inline(), Some("application/pdf"))),
        json!({"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "file.pdf"})
    );
    assert_eq!(
        part(media(MediaKind::Document, MediaSource::Text("T".into()), None)),
        json!({"type": "input_file", "file_data": "data:text/plain;base64,VA==", "filename": "file.txt"})
    );
    let audio = request(media(MediaKind::Audio, inline(), Some("audio/wav")));
    let error = OpenAiResponses.encode_request(&audio, &upstream("m"), &mut LossReport::default());
    assert_eq!(error.expect_err("no sound").path, "m.content[0]");
    let shown = Request {
        messages: vec![said(
            Role::Assistant,
            "m",
            vec![media(MediaKind::Image, inline(), None)],
        )],
        ..Request::default()
    };
    let (body, loss) = write(&shown);
    assert_eq!(
        (&body["input"][0]["role"], paths(&loss)),
        (&json!("user"), vec!["m.content[0]"])
    );
}

#[test]
fn a_count_is_asked_with_what_counts() {
    let mut loss = LossReport::default();
    let request = read(&full());
    let body = OpenAiResponses.encode_count_request(&request, &upstream("m"), &mut loss);
    let body: Value = serde_json::from_slice(&body.expect("it counts").expect("can be said")).expect("JSON");
    assert!(body["input"].is_array() && body["tools"].is_array());
    for key in [
        "stream",
        "store",
        "include",
        "temperature",
        "metadata",
        "max_output_tokens",
    ] {
        assert_eq!(body.get(key), None, "{key}");
    }
    assert_eq!(
        OpenAiResponses.encode_count(7).as_deref(),
        Some(&br#"{"object":"response.input_tokens","input_tokens":7}"#[..])
    );
    assert_eq!(OpenAiResponses.decode_count(br#"{"input_tokens":7}"#), Some(Ok(7)));
    assert!(OpenAiResponses.decode_count(b"{}").is_some_and(|count| count.is_err()));
}
