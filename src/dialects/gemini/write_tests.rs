//! Requests written from what other dialects say.

use serde_json::{Value, json};

use super::request_tests::{paths, read, write};
use super::*;
use crate::ir::{
    Block, Budget, CacheHint, Content, Effort, Format, Media, MediaKind, MediaSource, Message, Native, Opaque,
    Reasoning, Request, Role, Set, Tool, ToolCall, ToolChoice, ToolDefinition, ToolKind, ToolResult,
};

fn said(role: Role, text: &str) -> Message {
    Message {
        blocks: vec![Block::text(text, "b")],
        ..Message::new(role, "m")
    }
}

fn call(id: &str, name: &str, arguments: &str) -> Block {
    let call = ToolCall {
        id: id.into(),
        name: name.into(),
        arguments: arguments.into(),
        kind: ToolKind::Function,
        namespace: None,
    };
    Block::new(Content::ToolCall(call), "call")
}

fn result(id: &str, name: &str, text: &str, is_error: Option<bool>) -> Block {
    let result = ToolResult {
        call: id.into(),
        name: Some(name.into()),
        blocks: vec![Block::text(text, "text")],
        is_error,
        kind: ToolKind::Function,
    };
    Block::new(Content::ToolResult(result), "result")
}

#[test]
fn what_others_say_is_written_in_googles_words() {
    let mut late = said(Role::System, "And kind.");
    late.at = "messages[2]".into();
    let mut asked = said(Role::User, "Look.");
    asked.name = Some("ann".into());
    asked.blocks[0].cache = Some(CacheHint {
        ttl: None,
        at: "messages[1].content[0].cache_control".into(),
    });
    asked.blocks.push(Block::new(
        Content::Media(Media {
            kind: MediaKind::Image,
            source: MediaSource::Inline("iVBORw0KGgo=".into()),
            mime: None,
            name: None,
            detail: Some("high".into()),
        }),
        "messages[1].content[1]",
    ));
    let request = Request {
        system: vec![said(Role::Developer, "Be brief.")],
        messages: vec![asked, late, said(Role::Assistant, ""), said(Role::User, "Now.")],
        tools: vec![Tool {
            kind: ToolDefinition::Function {
                name: "f".into(),
                description: Some("F.".into()),
                parameters: Some(json!({"$schema": "x", "type": "object", "additionalProperties": false})),
                strict: Some(true),
                namespace: None,
            },
            cache: None,
            at: "tools[0]".into(),
            native: Vec::new(),
        }],
        tool_choice: Some(Set::new(
            ToolChoice::Allowed {
                required: false,
                names: vec!["f".into()],
            },
            "tool_choice",
        )),
        format: Some(Set::new(
            Format::JsonSchema {
                name: Some("person".into()),
                description: None,
                schema: json!({"type": "object"}),
                strict: Some(true),
            },
            "response_format",
        )),
        sampling: crate::ir::Sampling {
            seed: Some(Set::new(1 << 40 | 7, "seed")),
            ..Default::default()
        },
        user: Some(Set::new("u".into(), "user")),
        parallel_tool_calls: Some(Set::new(false, "parallel_tool_calls")),
        native: vec![Native::field(DialectId::new("other"), "", "odd", json!(1))],
        ..Request::default()
    };
    let (body, loss) = write(&request, "gemini-2.5-flash");
    let want = json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}, {"text": "And kind."}]},
        "contents": [{"role": "user", "parts": [
            {"text": "Look."},
            {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}},
            {"text": "Now."},
        ]}],
        "tools": [{"functionDeclarations": [{
            "name": "f", "description": "F.",
            "parametersJsonSchema": {"$schema": "x", "type": "object", "additionalProperties": false},
        }]}],
        "toolConfig": {"functionCallingConfig": {"mode": "VALIDATED", "allowedFunctionNames": ["f"]}},
        "generationConfig": {
            "seed": 7,
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object", "title": "person"},
        },
    });
    assert_eq!(body, want);
    let lost = [
        "messages[2]",
        "m.name",
        "messages[1].content[0].cache_control",
        "messages[1].content[1]",
        "tools[0].strict",
        "parallel_tool_calls",
        "user",
        "seed",
        "odd",
    ];
    for path in lost {
        assert!(paths(&loss).contains(&path), "{path} in {:?}", paths(&loss));
    }
}

#[test]
fn calls_and_results_meet_without_ids() {
    let turn = |role, blocks| Message {
        blocks,
        ..Message::new(role, "m")
    };
    let messages = vec![
        said(Role::User, "go"),
        turn(
            Role::Assistant,
            vec![
                call("call_0", "f", ""),
                call("x7k2p9qa", "g", "[1]"),
                call("toolu_1", "f", "{\"a\":1}"),
            ],
        ),
        turn(
            Role::User,
            vec![
                Block::text("here", "b"),
                result("toolu_1", "f", "{\"ok\":true}", None),
                result("x7k2p9qa", "g", "bad", Some(true)),
                result("call_0", "f", "plain", Some(false)),
            ],
        ),
    ];
    let request = Request {
        messages,
        ..Request::default()
    };
    let (body, loss) = write(&request, "models/gemini-3-pro-preview");
    let want = json!([
        {"functionCall": {"name": "f", "args": {}}, "thoughtSignature": "skip_thought_signature_validator"},
        {"functionCall": {"id": "x7k2p9qa", "name": "g", "args": {"raw_arguments": "[1]"}}},
        {"functionCall": {"name": "f", "args": {"a": 1}}},
    ]);
    assert_eq!(
        body["contents"][1]["parts"], want,
        "one signature on the first call of a step"
    );
    let want = json!([
        {"functionResponse": {"name": "f", "response": {"output": "plain"}}},
        {"functionResponse": {"id": "x7k2p9qa", "name": "g", "response": {"error": "bad"}}},
        {"functionResponse": {"name": "f", "response": {"ok": true}}},
        {"text": "here"},
    ]);
    assert_eq!(
        body["contents"][2]["parts"], want,
        "results stand first, in the order of their calls"
    );
    assert_eq!(loss.count(crate::ir::LossKind::Synthesized), 1);
    let (body, _) = write(&request, "gemini-2.5-pro");
    assert_eq!(
        body["contents"][1]["parts"][0].get("thoughtSignature"),
        None,
        "only where it is insisted on"
    );
}

#[test]
fn a_token_that_travelled_apart_from_its_text_finds_home() {
    let token = |text: &str| Block {
        opaque: Some(Opaque("dG9r".into())),
        ..Block::new(Content::Reasoning(text.into()), "b")
    };
    let mut answer = said(Role::Assistant, "Hello");
    answer.blocks.push(token(""));
    answer.blocks.push(token("hm"));
    let request = Request {
        messages: vec![said(Role::User, "Hi"), answer],
        ..Request::default()
    };
    let want = json!([
        {"text": "Hello"},
        {"text": "", "thoughtSignature": "dG9r"},
        {"text": "hm", "thought": true, "thoughtSignature": "dG9r"},
    ]);
    assert_eq!(write(&request, "gemini-3-flash").0["contents"][1]["parts"], want);
}

#[test]
fn instructions_alone_get_a_turn() {
    let request = Request {
        system: vec![said(Role::System, "Speak.")],
        ..Request::default()
    };
    let (body, loss) = write(&request, "gemini-x");
    assert_eq!(body["contents"].as_array().map(Vec::len), Some(1));
    assert_eq!(paths(&loss), ["contents"]);
}

#[test]
fn how_hard_to_think_is_said_as_the_model_takes_it() {
    let effort = |effort| Reasoning {
        effort: Some(Set::new(effort, "reasoning_effort")),
        ..Reasoning::default()
    };
    let budget = |tokens| Reasoning {
        budget: Some(Set::new(Budget::Tokens(tokens), "thinking.budget_tokens")),
        ..Reasoning::default()
    };
    let level = |word: &str| json!({"thinkingLevel": word, "includeThoughts": true});
    let tokens = |tokens: i64| json!({"thinkingBudget": tokens, "includeThoughts": true});
    for (reasoning, model, want, exact) in [
        (effort(Effort::Medium), "gemini-3.1-pro-preview", level("MEDIUM"), true),
        (effort(Effort::Medium), "gemini-3-pro-preview", level("HIGH"), false),
        (effort(Effort::Minimal), "google/gemini-3-flash", level("MINIMAL"), true),
        (effort(Effort::Minimal), "gemini-4-pro", level("LOW"), false),
        (effort(Effort::Max), "gemini-3.8-flash", level("HIGH"), false),
        (
            effort(Effort::None),
            "gemini-3-pro",
            json!({"thinkingLevel": "LOW"}),
            false,
        ),
        (
            effort(Effort::None),
            "gemini-2.5-flash",
            json!({"thinkingBudget": 0}),
            true,
        ),
        (
            effort(Effort::None),
            "gemini-2.5-pro",
            json!({"thinkingBudget": 128}),
            false,
        ),
        (effort(Effort::High), "gemini-2.5-flash", tokens(24_576), false),
        (budget(2000), "gemini-3-flash", tokens(2000), true),
        (budget(2000), "gemini-2.5-pro", tokens(2000), true),
        (budget(100), "gemini-2.5-flash-lite", tokens(512), false),
        (effort(Effort::High), "gemini-2.0-flash", Value::Null, false),
        (Reasoning::default(), "gemini-3-flash", Value::Null, true),
    ] {
        let request = Request {
            reasoning: reasoning.clone(),
            ..Request::default()
        };
        let (body, loss) = write(&request, model);
        assert_eq!(
            body["generationConfig"]["thinkingConfig"], want,
            "{model} {reasoning:?}"
        );
        assert_eq!(!loss.has_lost(), exact, "{model} {reasoning:?}");
    }
    // An own client sees thoughts only if it asks for them.
    let own = read(&json!({"generationConfig": {"thinkingConfig": {"thinkingBudget": -1}}}));
    let (body, _) = write(&own, "gemini-2.5-pro");
    assert_eq!(
        body["generationConfig"]["thinkingConfig"],
        json!({"thinkingBudget": -1})
    );
}

#[test]
fn media_of_a_result_stand_beside_it() {
    let mut answer = result("toolu_1", "f", "see", None);
    let Content::ToolResult(inner) = &mut answer.content else {
        panic!("a result")
    };
    let picture = Media {
        kind: MediaKind::Image,
        source: MediaSource::File("file-1".into()),
        mime: Some("image/png".into()),
        name: None,
        detail: None,
    };
    inner
        .blocks
        .push(Block::new(Content::Media(picture), "messages[2].content[0].content[1]"));
    let turn = |role, block| Message {
        blocks: vec![block],
        ..Message::new(role, "m")
    };
    let request = Request {
        messages: vec![
            said(Role::User, "go"),
            turn(Role::Assistant, call("toolu_1", "f", "{}")),
            turn(Role::User, answer),
        ],
        service_tier: Some(Set::new("standard_only".into(), "service_tier")),
        ..Request::default()
    };
    let (body, loss) = write(&request, "gemini-2.5-pro");
    let want = json!([
        {"functionResponse": {"name": "f", "response": {"output": "see"}}},
        {"fileData": {"mimeType": "image/png", "fileUri": "file-1"}},
    ]);
    assert_eq!(body["contents"][2]["parts"], want);
    let place = "messages[2].content[0].content[1]";
    assert_eq!(
        paths(&loss),
        [place, place, "service_tier"],
        "beside the result, and of another provider's files"
    );
}
