//! Requests from other dialects, as the hub has them, written for this one; and what of ours must come home.

use serde_json::{Value, json};

use super::*;
use crate::ir::{
    Block, Budget, CacheHint, Content, Effort, Format, Loss, LossReport, Media, MediaKind, MediaSource, Message,
    Native, Opaque, Request, Role, Set, Tool, ToolCall, ToolChoice, ToolDefinition, ToolKind, ToolResult,
};

fn says(role: Role, text: &str) -> Message {
    Message {
        blocks: vec![Block::text(text, "m")],
        ..Message::new(role, "m")
    }
}

fn holds(role: Role, contents: Vec<Content>) -> Message {
    let blocks = contents.into_iter().enumerate();
    Message {
        blocks: blocks
            .map(|(i, content)| Block::new(content, format!("m[{i}]")))
            .collect(),
        ..Message::new(role, "m")
    }
}

fn call(id: &str, arguments: &str) -> Content {
    Content::ToolCall(ToolCall {
        id: id.into(),
        name: "f".into(),
        arguments: arguments.into(),
        kind: ToolKind::Function,
        namespace: None,
    })
}

fn result(id: &str, blocks: Vec<Block>) -> Content {
    Content::ToolResult(ToolResult {
        call: id.into(),
        name: None,
        blocks,
        is_error: None,
        kind: ToolKind::Function,
    })
}

fn tool(parameters: Value) -> Tool {
    Tool {
        kind: ToolDefinition::Function {
            name: "f".into(),
            description: None,
            parameters: Some(parameters),
            strict: None,
            namespace: None,
        },
        cache: None,
        at: "tools[0]".into(),
        native: Vec::new(),
    }
}

fn chat(messages: Vec<Message>) -> Request {
    Request {
        messages,
        ..Request::default()
    }
}

fn write(request: &Request, model: &str) -> (Value, Vec<Loss>) {
    let mut loss = LossReport::default();
    let to = Upstream {
        model,
        stream: false,
        ask_usage: false,
    };
    let body = Anthropic
        .encode_request(request, &to, &mut loss)
        .expect("it can be said");
    (serde_json::from_slice(&body).expect("JSON"), loss.losses().to_vec())
}

fn paths(losses: &[Loss]) -> Vec<&str> {
    losses.iter().map(|loss| &*loss.path).collect()
}

fn read(body: &Value) -> Request {
    let target = Anthropic.own_target(Operation::Chat, false).expect("chat").0;
    Anthropic
        .decode_request(&target, body.to_string().as_bytes())
        .expect("a request")
}

#[test]
fn turns_alternate_and_results_come_first() {
    let request = chat(vec![
        says(Role::User, "a"),
        says(Role::User, "b"),
        holds(Role::Assistant, vec![call("1", ""), call("2", "{\"x\":")]),
        holds(Role::User, vec![result("1", vec![Block::text("one", "m")])]),
        holds(Role::User, vec![Content::Text("and?".into()), result("2", Vec::new())]),
        says(Role::Assistant, ""),
        says(Role::Assistant, "then \n"),
    ]);
    let (body, losses) = write(&request, "some-model");
    let want = json!([
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "1", "name": "f", "input": {}},
            {"type": "tool_use", "id": "2", "name": "f", "input": {"raw_arguments": "{\"x\":"}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "1", "content": "one"},
            {"type": "tool_result", "tool_use_id": "2"},
            {"type": "text", "text": "and?"},
        ]},
        {"role": "assistant", "content": "then"},
    ]);
    assert_eq!(body["messages"], want);
    assert_eq!(paths(&losses), ["max_tokens", "m[1]", "m"]);
    assert_eq!(body["max_tokens"], 8192);
}

#[test]
fn instructions_stand_before_the_conversation_unless_the_model_takes_them_within() {
    let mut request = chat(vec![
        says(Role::User, "hi"),
        says(Role::Developer, "late"),
        says(Role::Assistant, "yes"),
    ]);
    request.system = vec![says(Role::System, "early")];
    let (old, losses) = write(&request, "claude-sonnet-4-5");
    assert_eq!(
        old["system"],
        json!([{"type": "text", "text": "early"}, {"type": "text", "text": "late"}])
    );
    assert!(paths(&losses).contains(&"m"));
    let (new, losses) = write(&request, "claude-opus-5");
    assert_eq!(
        (&new["system"], &new["messages"][1]),
        (&json!("early"), &json!({"role": "system", "content": "late"}))
    );
    assert_eq!(paths(&losses), ["max_tokens"]);
    request.messages.clear();
    let (alone, losses) = write(&request, "claude-sonnet-4-5");
    assert_eq!(alone["messages"][0]["role"], "user");
    assert_eq!(paths(&losses), ["max_tokens", "messages"]);
}

#[test]
fn thinking_is_said_as_each_generation_takes_it() {
    let mut request = chat(vec![says(Role::User, "hi")]);
    request.reasoning.effort = Some(Set::new(Effort::High, "reasoning_effort"));
    request.sampling.max_tokens = Some(Set::new(4000, "max_tokens"));
    request.sampling.temperature = Some(Set::new(0.5, "temperature"));
    let (body, losses) = write(&request, "claude-sonnet-4-5");
    assert_eq!(body["thinking"], json!({"type": "enabled", "budget_tokens": 3000}));
    assert_eq!(body.get("temperature"), None, "refused when the model thinks");
    assert_eq!(paths(&losses), ["reasoning_effort", "reasoning_effort", "temperature"]);
    let (body, losses) = write(&request, "claude-opus-4-6");
    assert_eq!(
        (&body["thinking"], &body["output_config"]),
        (&json!({"type": "adaptive"}), &json!({"effort": "high"}))
    );
    assert_eq!(paths(&losses), ["temperature"]);
    request.reasoning.effort = Some(Set::new(Effort::XHigh, "reasoning_effort"));
    assert_eq!(write(&request, "claude-opus-4-6").0["output_config"]["effort"], "high");
    assert_eq!(write(&request, "claude-sonnet-5").0["output_config"]["effort"], "xhigh");
    request.reasoning.effort = Some(Set::new(Effort::None, "reasoning_effort"));
    assert_eq!(
        write(&request, "claude-sonnet-4-5").0.get("thinking"),
        None,
        "it is off unless asked for"
    );
    assert_eq!(
        write(&request, "claude-opus-5").0["thinking"],
        json!({"type": "disabled"})
    );
    assert_eq!(
        write(&request, "claude-sonnet-5-5").0["thinking"],
        json!({"type": "between_tools"})
    );
    let (body, losses) = write(&request, "claude-opus-5-5");
    assert_eq!(
        (body.get("thinking"), &body["output_config"]),
        (None, &json!({"effort": "low"}))
    );
    assert!(paths(&losses).contains(&"reasoning_effort"));
}

#[test]
fn a_budget_fits_or_is_left_out() {
    let mut request = chat(vec![says(Role::User, "hi")]);
    request.reasoning.budget = Some(Set::new(Budget::Tokens(100), "budget"));
    request.sampling.max_tokens = Some(Set::new(1025, "max_tokens"));
    assert_eq!(write(&request, "claude-sonnet-4").0["thinking"]["budget_tokens"], 1024);
    request.sampling.max_tokens = Some(Set::new(1024, "max_tokens"));
    let (body, losses) = write(&request, "claude-sonnet-4");
    assert_eq!((body.get("thinking"), paths(&losses)), (None, vec!["budget"]));
    let (body, losses) = write(&request, "claude-haiku-5-5");
    assert_eq!(body["thinking"], json!({"type": "adaptive"}));
    assert_eq!(
        (&body["output_config"]["effort"], paths(&losses)),
        (&json!("low"), vec!["budget"])
    );
    // Calls that came without reasoning of the model's own can't be gone on with.
    request.sampling.max_tokens = Some(Set::new(9000, "max_tokens"));
    request.messages.push(holds(Role::Assistant, vec![call("1", "{}")]));
    request.messages.push(holds(Role::User, vec![result("1", Vec::new())]));
    assert_eq!(write(&request, "claude-sonnet-4").0.get("thinking"), None);
    let mut thought = Block::new(Content::Reasoning("hm".into()), "m");
    thought.opaque = Some(Opaque("sig".into()));
    request.messages[1].blocks.insert(0, thought);
    let (body, _) = write(&request, "claude-sonnet-4");
    assert_eq!(body["thinking"]["budget_tokens"], 1024);
    let want = json!({"type": "thinking", "thinking": "hm", "signature": "sig"});
    assert_eq!(body["messages"][1]["content"][0], want);
}

#[test]
fn sampling_keeps_to_what_the_model_takes() {
    let mut request = chat(vec![says(Role::User, "hi")]);
    request.sampling.max_tokens = Some(Set::new(10, "max_tokens"));
    request.sampling.temperature = Some(Set::new(1.5, "temperature"));
    request.sampling.top_p = Some(Set::new(0.5, "top_p"));
    request.sampling.stop = Some(Set::new(vec!["\n".into(), "END".into()], "stop"));
    request.sampling.seed = Some(Set::new(1, "seed"));
    request.sampling.frequency_penalty = Some(Set::new(0.0, "frequency_penalty"));
    let (body, losses) = write(&request, "some-model");
    assert_eq!((&body["temperature"], &body["top_p"]), (&json!(1.0), &json!(0.5)));
    assert_eq!(body["stop_sequences"], json!(["END"]));
    assert_eq!(paths(&losses), ["temperature", "stop[0]", "seed"]);
    let (body, losses) = write(&request, "claude-haiku-4-5-20251001");
    assert_eq!((body.get("top_p"), paths(&losses).contains(&"top_p")), (None, true));
    request.sampling.temperature = Some(Set::new(1.0, "temperature"));
    let (body, losses) = write(&request, "claude-opus-4-8");
    assert_eq!((body.get("temperature"), body.get("top_p")), (None, None));
    assert!(!paths(&losses).contains(&"temperature"), "it is the default");
    request.sampling.max_tokens = Some(Set::new(1_000_000, "max_tokens"));
    assert_eq!(write(&request, "anthropic/claude-opus-4.5").0["max_tokens"], 64_000);
}

#[test]
fn tools_are_chosen_as_far_as_the_model_lets_itself_be_told() {
    let mut request = chat(vec![says(Role::User, "hi")]);
    request.tool_choice = Some(Set::new(ToolChoice::Required, "tool_choice"));
    request.parallel_tool_calls = Some(Set::new(false, "parallel_tool_calls"));
    let (body, losses) = write(&request, "m");
    assert_eq!(body.get("tool_choice"), None, "refused without tools");
    assert_eq!(paths(&losses), ["max_tokens", "tool_choice", "parallel_tool_calls"]);
    request.tools = vec![tool(json!({"type": "object"}))];
    let (body, _) = write(&request, "m");
    assert_eq!(
        body["tool_choice"],
        json!({"type": "any", "disable_parallel_tool_use": true})
    );
    assert_eq!(write(&request, "claude-fable-5").0["tool_choice"]["type"], "auto");
    request.tool_choice = None;
    assert_eq!(
        write(&request, "m").0["tool_choice"],
        json!({"type": "auto", "disable_parallel_tool_use": true})
    );
}

#[test]
fn schemas_of_tools_are_one_object() {
    let mut request = chat(vec![says(Role::User, "hi")]);
    let mut input = |schema: Value| {
        request.tools = vec![tool(schema)];
        let (body, losses) = write(&request, "m");
        (body["tools"][0]["input_schema"].clone(), losses.len() > 1)
    };
    let (schema, lost) = input(json!({"properties": {"a": {"type": "string"}}}));
    assert_eq!(
        (schema, lost),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            false
        )
    );
    let (schema, lost) = input(json!({"type": "string"}));
    assert_eq!(schema["properties"]["value"], json!({"type": "string"}));
    assert!(lost);
    let (schema, lost) = input(json!({"anyOf": [
        {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}, "required": ["a", "b"]},
        {"$ref": "#/$defs/other"},
    ], "$defs": {"other": {"type": "object", "properties": {"a": {"type": "number"}}, "required": ["a"]}}}));
    assert!(lost);
    assert_eq!(schema["type"], "object");
    assert_eq!(
        schema["properties"]["a"],
        json!({"anyOf": [{"type": "string"}, {"type": "number"}]})
    );
    assert_eq!((&schema["required"], schema.get("anyOf")), (&json!(["a"]), None));
    let (schema, lost) = input(json!({"$ref": "#/$defs/it", "$defs": {"it": {"type": "object", "required": ["x"]}}}));
    assert_eq!((&schema["required"], lost), (&json!(["x"]), false));
}

#[test]
fn a_schema_of_the_answer_is_one_that_can_be_enforced() {
    let mut request = chat(vec![says(Role::User, "hi")]);
    let mut form = |schema: Value, model: &str| {
        request.format = Some(Set::new(
            Format::JsonSchema {
                name: Some("it".into()),
                description: None,
                schema,
                strict: Some(true),
            },
            "response_format",
        ));
        let (body, losses) = write(&request, model);
        (body["output_config"]["format"]["schema"].clone(), losses.len() > 1)
    };
    let strict = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "additionalProperties": false});
    let (schema, lost) = form(strict.clone(), "m");
    assert_eq!((&schema["title"], lost), (&json!("it"), false));
    let loose = json!({"type": "object", "properties": {"n": {"type": "integer", "minimum": 3, "description": "N"}}});
    let (schema, lost) = form(loose, "m");
    assert_eq!((&schema["additionalProperties"], lost), (&json!(false), true));
    assert_eq!(
        schema["properties"]["n"],
        json!({"type": "integer", "description": "N\n\n{minimum: 3}"})
    );
    assert_eq!(form(strict, "claude-3-haiku-20240307"), (Value::Null, true));
}

#[test]
fn media_are_what_the_api_takes() {
    let media = |kind, source, mime: Option<&str>| {
        let media = Media {
            kind,
            source,
            mime: mime.map(str::to_owned),
            name: None,
            detail: None,
        };
        let request = chat(vec![holds(Role::User, vec![Content::Media(media)])]);
        let mut loss = LossReport::default();
        let to = Upstream {
            model: "m",
            stream: false,
            ask_usage: false,
        };
        let body: Value = serde_json::from_slice(&Anthropic.encode_request(&request, &to, &mut loss).ok()?).ok()?;
        Some(body["messages"][0]["content"][0].clone())
    };
    let inline = |data: &str| MediaSource::Inline(data.to_owned());
    let png = media(MediaKind::Image, inline("iVBORw0K"), None).expect("an image");
    assert_eq!(
        png["source"],
        json!({"type": "base64", "media_type": "image/png", "data": "iVBORw0K"})
    );
    let jpg = media(MediaKind::Image, inline("AAAA"), Some("image/jpg")).expect("an image");
    assert_eq!(jpg["source"]["media_type"], "image/jpeg");
    let note = media(MediaKind::Document, inline("aGk="), Some("text/markdown")).expect("a document");
    assert_eq!(
        note["source"],
        json!({"type": "text", "media_type": "text/plain", "data": "hi"})
    );
    let url = media(MediaKind::Image, MediaSource::Url("https://e.org/x".into()), None).expect("an image");
    assert_eq!(
        url,
        json!({"type": "image", "source": {"type": "url", "url": "https://e.org/x"}})
    );
    for (kind, source) in [
        (MediaKind::Audio, inline("AAAA")),
        (MediaKind::Video, MediaSource::Url("https://e.org/v".into())),
        (MediaKind::Image, MediaSource::Url("gs://bucket/x".into())),
        (MediaKind::Document, inline("/////w==")),
    ] {
        assert_eq!(media(kind, source, None), None, "{kind:?}");
    }
}

#[test]
fn four_cache_hints_stay_the_first_and_the_last() {
    let mut request = chat((0..6).map(|_| says(Role::User, "x")).collect());
    for (i, message) in request.messages.iter_mut().enumerate() {
        message.blocks[0].cache = Some(CacheHint {
            ttl: (i == 5).then(|| "1h".into()),
            at: format!("hint{i}").into(),
        });
    }
    let (body, losses) = write(&request, "m");
    let blocks = body["messages"][0]["content"].as_array().expect("blocks").iter();
    let kept: Vec<bool> = blocks.map(|block| block.get("cache_control").is_some()).collect();
    assert_eq!(kept, [true, false, false, true, true, true]);
    assert_eq!(
        paths(&losses)[1..],
        ["hint1", "hint2", "hint5"],
        "the last may not be longer than those before"
    );
}

#[test]
fn foreign_things_are_reported() {
    let foreign = Native::field(DialectId::new("other"), "m[0]", "odd", json!(1));
    let mut request = chat(vec![holds(
        Role::User,
        vec![
            Content::Native(foreign.clone()),
            Content::Text("x".into()),
            Content::Reasoning("hm".into()),
        ],
    )]);
    request.native.push(foreign);
    request.messages[0].name = Some("Ann".into());
    let (body, losses) = write(&request, "m");
    assert_eq!(body["messages"], json!([{"role": "user", "content": "x"}]));
    assert_eq!(paths(&losses), ["max_tokens", "m.name", "m[0].odd", "m[2]"]);
}

#[test]
fn what_has_no_field_in_the_hub_comes_home() {
    let body = json!({
        "model": "claude-opus-5",
        "max_tokens": 100,
        "system": [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [
            {"name": "f", "input_schema": {"type": "object"}, "defer_loading": true, "cache_control": {"type": "ephemeral"}},
            {"type": "web_search_20250305", "name": "web_search", "max_uses": 2},
        ],
        "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
        "messages": [
            {"role": "user", "content": [
                {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "inner"}]},
                 "title": "T", "context": "C", "citations": {"enabled": true}},
                {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
                {"type": "search_result", "source": "s", "title": "t", "content": []},
            ]},
            {"role": "system", "content": "now", "clear_at": "never"},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "", "signature": "withheld"},
                {"type": "redacted_thinking", "data": "hidden"},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "q"}},
                {"type": "text", "text": "so", "citations": [{"type": "char_location", "cited_text": "in", "document_index": 0,
                    "document_title": "T", "start_char_index": 0, "end_char_index": 2}]},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1.5}, "caller": {"type": "direct"}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": false, "content": [
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                    {"type": "tool_reference", "tool_name": "g"},
                ], "cache_control": {"type": "ephemeral"}},
            ]},
        ],
        "thinking": {"type": "adaptive", "display": "summarized", "block_binding": {}},
        "output_config": {"effort": "low", "task_budget": {"type": "tokens", "total": 5}},
        "metadata": {"user_id": "u"},
        "service_tier": "standard_only",
        "stop_sequences": ["x"],
        "context_management": {"edits": []},
        "mcp_servers": [],
        "container": "c",
    });
    let mut changed = body.clone();
    // An hour after five minutes would be refused.
    changed["system"][0]["cache_control"] = json!({"type": "ephemeral"});
    let (written, losses) = write(&read(&body), "claude-opus-5");
    assert_eq!(written, changed);
    assert_eq!(paths(&losses), ["system[0].cache_control"]);
}

#[test]
fn a_count_has_neither_limit_nor_sampling() {
    let request = read(&json!({"model": "m", "messages": [{"role": "user", "content": "hi"}], "temperature": 0.5}));
    let to = Upstream {
        model: "m",
        stream: true,
        ask_usage: false,
    };
    let mut loss = LossReport::default();
    let body = Anthropic
        .encode_count_request(&request, &to, &mut loss)
        .expect("it counts")
        .expect("it can be said");
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(
        body,
        json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]})
    );
    assert!(loss.is_empty());
    assert_eq!(Anthropic.decode_count(br#"{"input_tokens":7}"#), Some(Ok(7)));
    assert_eq!(
        Anthropic.encode_count(7).as_deref(),
        Some(&br#"{"input_tokens":7}"#[..])
    );
    assert!(Anthropic.decode_count(b"<html>").is_some_and(|count| count.is_err()));
}

#[test]
fn wrong_types_are_named_by_their_path() {
    let target = Anthropic.own_target(Operation::Chat, false).expect("chat").0;
    let path = |body: Value| {
        Anthropic
            .decode_request(&target, body.to_string().as_bytes())
            .expect_err("wrong")
            .path
    };
    assert_eq!(path(json!({"messages": [{"role": "tool"}]})), "messages[0].role");
    assert_eq!(
        path(json!({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]})),
        "messages[0].content[0].text"
    );
    assert_eq!(path(json!({"messages": [], "max_tokens": "many"})), "max_tokens");
    assert_eq!(path(json!({"max_tokens": 1})), "messages");
}
