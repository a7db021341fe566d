//! Small requests of our own: forms which recordings lack, and what becomes of what other dialects say.

use serde_json::{Value, json};

use super::*;
use crate::dialects::codec::Upstream;
use crate::ir::{
    Block, Budget, CacheHint, Content, Effort, LossKind, LossReport, Media, MediaKind, MediaSource, Message, Native,
    Reasoning, Request, Role, Set, ToolChoice, ToolKind, ToolResult,
};

fn read(body: Value) -> Request {
    let target = OpenAiChat.own_target(Operation::Chat, false).expect("chat").0;
    let body = serde_json::to_vec(&body).expect("JSON");
    OpenAiChat.decode_request(&target, &body).expect("a request")
}

fn write_to(request: &Request, model: &str) -> Result<(Value, LossReport), EncodeError> {
    let to = Upstream {
        model,
        stream: false,
        ask_usage: false,
    };
    let mut loss = LossReport::default();
    let bytes = OpenAiChat.encode_request(request, &to, &mut loss)?;
    Ok((serde_json::from_slice(&bytes).expect("JSON"), loss))
}

fn said(blocks: Vec<Block>, role: Role) -> Request {
    Request {
        messages: vec![Message {
            blocks,
            ..Message::new(role, "m")
        }],
        ..Request::default()
    }
}

fn losses(loss: &LossReport) -> Vec<(LossKind, &str)> {
    loss.losses().iter().map(|loss| (loss.kind, &*loss.path)).collect()
}

#[test]
fn instructions_stand_apart_only_while_they_stand_first() {
    let request = read(json!({"model": "m", "messages": [
        {"role": "system", "content": "a"},
        {"role": "developer", "content": [{"type": "text", "text": "b"}]},
        {"role": "user", "content": "c", "name": "x"},
        {"role": "system", "content": "d"},
    ]}));
    let roles = |messages: &[Message]| messages.iter().map(|m| (m.role, m.text())).collect::<Vec<_>>();
    assert_eq!(
        roles(&request.system),
        [(Role::System, "a".into()), (Role::Developer, "b".into())]
    );
    assert_eq!(
        roles(&request.messages),
        [(Role::User, "c".into()), (Role::System, "d".into())]
    );
    assert_eq!(request.messages[0].name.as_deref(), Some("x"));
    let (body, _) = write_to(&request, "gpt-5").expect("written");
    assert_eq!(body["messages"][1], json!({"role": "developer", "content": "b"}));
    let (body, _) = write_to(&request, "llama").expect("written");
    assert_eq!(body["messages"][1]["role"], "system", "only OpenAI tells them apart");
}

#[test]
fn the_form_before_tools_is_understood() {
    let mut request = read(
        json!({"model": "m", "functions": [{"name": "f", "parameters": {"type": "object"}}],
            "function_call": {"name": "f"}, "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "y"},
        ]}),
    );
    request.link_tools();
    let (body, loss) = write_to(&request, "m").expect("written");
    assert!(loss.is_empty(), "{loss:?}");
    assert_eq!(
        body["tools"],
        json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}])
    );
    assert_eq!(
        body["tool_choice"],
        json!({"type": "function", "function": {"name": "f"}})
    );
    assert_eq!(body["messages"][1]["tool_calls"][0]["id"], "call_0");
    assert_eq!(
        body["messages"][2],
        json!({"role": "tool", "tool_call_id": "call_0", "content": "y"})
    );
}

#[test]
fn what_has_no_field_is_kept_and_put_back() {
    let body = json!({"model": "m", "messages": [
        {"role": "user", "content": [{"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "image_url", "image_url": {"url": "https://a/b.png", "odd": 1}},
            {"type": "hologram", "depth": 3}], "mood": "good"},
        {"role": "assistant", "content": "z", "audio": {"id": "a"},
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}", "odd": 2}}]},
        {"role": "tool", "tool_call_id": "1", "content": "r", "odd": 3},
    ], "tools": [{"type": "function", "function": {"name": "f", "odd": 4}, "odd": 5}, {"type": "web"}],
    "logit_bias": {"5": 1}, "reasoning": {"odd": true},
    "response_format": {"type": "grammar", "grammar": "x"}, "stream_options": {"include_obfuscation": false}, "stream": true});
    let request = read(body.clone());
    let to = Upstream {
        model: "m",
        stream: true,
        ask_usage: false,
    };
    let mut loss = LossReport::default();
    let written = OpenAiChat.encode_request(&request, &to, &mut loss).expect("written");
    let written: Value = serde_json::from_slice(&written).expect("JSON");
    assert_eq!(written, body);
    assert!(loss.is_empty(), "{loss:?}");
}

#[test]
fn what_is_of_another_dialect_is_reported() {
    let foreign = |at: &str| Native::field(DialectId::new("another"), "", at, json!(1));
    let mut request = said(vec![Block::text("x", "m[0]")], Role::User);
    request.native.push(foreign("odd"));
    request.messages[0].native.push(foreign("m.odd"));
    request.messages[0].blocks[0].native.push(foreign("m[0].odd"));
    request.messages[0].blocks[0].cache = Some(CacheHint {
        ttl: Some("1h".into()),
        at: "m[0].cache".into(),
    });
    request.sampling.top_k = Some(Set::new(3, "k"));
    request.metadata = Some(Set::new(serde_json::Map::new(), "labels"));
    request.cache_key = Some(Set::new("x".into(), "key"));
    request.reasoning.summary = Some(Set::new("auto".into(), "summary"));
    let (_, loss) = write_to(&request, "m").expect("written");
    let mut paths = losses(&loss);
    paths.sort_unstable();
    let want = [
        "k",
        "key",
        "labels",
        "m.odd",
        "m[0].cache",
        "m[0].odd",
        "odd",
        "summary",
    ];
    assert_eq!(paths, want.map(|path| (LossKind::Dropped, path)));
    let (body, loss) = write_to(&request, "anthropic/claude-x").expect("written");
    assert_eq!(
        body["messages"][0]["content"][0]["cache_control"],
        json!({"type": "ephemeral", "ttl": "1h"})
    );
    assert!(!losses(&loss).iter().any(|(_, path)| *path == "m[0].cache"));
}

#[test]
fn results_become_messages_and_their_media_the_users() {
    let image = Block::new(
        Content::Media(Media {
            kind: MediaKind::Image,
            source: MediaSource::Inline("QUJD".into()),
            mime: Some("image/png".into()),
            name: None,
            detail: None,
        }),
        "m[0].image",
    );
    let result = ToolResult {
        call: "1".into(),
        name: None,
        blocks: vec![Block::text("r", "m[0].text"), image],
        is_error: Some(true),
        kind: ToolKind::Function,
    };
    let blocks = vec![
        Block::text("said", "m[1]"),
        Block::new(Content::ToolResult(result), "m[0]"),
    ];
    let (body, loss) = write_to(&said(blocks, Role::User), "m").expect("written");
    assert_eq!(
        body["messages"],
        json!([
            {"role": "tool", "tool_call_id": "1", "content": "r"},
            {"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "text", "text": "said"},
            ]},
        ])
    );
    let want = [(LossKind::Approximated, "m[0]"), (LossKind::Approximated, "m[0].image")];
    assert_eq!(losses(&loss), want);
}

#[test]
fn media_which_can_not_be_said_are_refused() {
    let media = |kind, source| {
        let media = Media {
            kind,
            source,
            mime: None,
            name: None,
            detail: None,
        };
        write_to(
            &said(vec![Block::new(Content::Media(media), "m[0]")], Role::User),
            "gpt-4o",
        )
        .map(|(body, _)| body)
    };
    let url = || MediaSource::Url("https://a/b".into());
    for (kind, source) in [
        (MediaKind::Video, url()),
        (MediaKind::Audio, url()),
        (MediaKind::Document, url()),
        (MediaKind::Image, MediaSource::File("f".into())),
    ] {
        assert_eq!(media(kind, source).expect_err("refused").path, "m[0]", "{kind:?}");
    }
    let body = media(MediaKind::Document, MediaSource::File("f".into())).expect("written");
    assert_eq!(
        body["messages"][0]["content"],
        json!([{"type": "file", "file": {"file_id": "f"}}])
    );
    let body = media(MediaKind::Document, MediaSource::Text("words".into())).expect("written");
    assert_eq!(body["messages"][0]["content"], "words");
}

#[test]
fn what_media_lose_is_told() {
    let media = |kind, source, name: Option<&str>, detail: Option<&str>, mime: Option<&str>| {
        let media = Media {
            kind,
            source,
            mime: mime.map(str::to_owned),
            name: name.map(str::to_owned),
            detail: detail.map(str::to_owned),
        };
        let request = said(vec![Block::new(Content::Media(media), "m[0]")], Role::User);
        losses(&write_to(&request, "m").expect("written").1).len()
    };
    let (url, data) = (
        || MediaSource::Url("https://a/b".into()),
        || MediaSource::Inline("QUJD".into()),
    );
    let (image, document) = (MediaKind::Image, MediaKind::Document);
    assert_eq!(media(image, data(), None, Some("low"), Some("image/png")), 0);
    assert_eq!(media(image, data(), Some("n"), None, None), 1, "a picture's name");
    assert_eq!(
        media(image, url(), None, None, Some("image/png")),
        1,
        "the type of what is elsewhere"
    );
    assert_eq!(
        media(document, data(), Some("n"), Some("high"), None),
        1,
        "a file's detail"
    );
}

#[test]
fn media_are_read_in_every_form() {
    let request = read(json!({"model": "m", "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": "data:image/png;base64,QU\nJD"},
        {"type": "image_url", "image_url": {"url": "https://a/b", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "QUJD", "format": "mp3"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
        {"type": "document_url", "document_url": "https://a/c.pdf", "document_name": "c"},
        {"type": "file_url", "file_url": {"url": "QUJD"}},
        {"type": "image_url", "image_url": {"url": "data:text/plain,a%20b"}},
    ]}]}));
    let media: Vec<_> = request.messages[0]
        .blocks
        .iter()
        .map(|block| match &block.content {
            Content::Media(media) => (
                media.kind,
                media.source.clone(),
                media.mime.as_deref(),
                media.name.as_deref(),
            ),
            other => panic!("{other:?}"),
        })
        .collect();
    let inline = |data: &str| MediaSource::Inline(data.into());
    let url = |url: &str| MediaSource::Url(url.into());
    let want = [
        (MediaKind::Image, inline("QUJD"), Some("image/png"), None),
        (MediaKind::Image, url("https://a/b"), None, None),
        (MediaKind::Audio, inline("QUJD"), Some("audio/mpeg"), None),
        (
            MediaKind::Document,
            inline("QUJD"),
            Some("application/pdf"),
            Some("a.pdf"),
        ),
        (MediaKind::Document, url("https://a/c.pdf"), None, Some("c")),
        (MediaKind::Document, inline("QUJD"), None, None),
        (MediaKind::Image, inline("YSBi"), Some("text/plain"), None),
    ];
    assert_eq!(media, want);
}

#[test]
fn reasoning_returns_with_its_tokens() {
    let token = |block: &Block| block.opaque.as_ref().map(|token| token.0.to_string());
    let texts = |message: Value| {
        let request = read(json!({"model": "m", "messages": [message]}));
        let blocks = &request.messages[0].blocks;
        let of = |block: &Block| match &block.content {
            Content::Reasoning(text) => (text.clone(), token(block)),
            other => panic!("{other:?}"),
        };
        (
            blocks.iter().map(of).collect::<Vec<_>>(),
            request.messages[0].native.len(),
        )
    };
    let one = |text: &str, token: Option<&str>| vec![(text.to_owned(), token.map(str::to_owned))];
    // As our own streams bring it, gathered or not, and with the text elsewhere.
    for details in [
        json!([{"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0}]),
        json!([{"type": "reasoning.text", "text": "h", "index": 0}, {"type": "reasoning.text", "text": "m", "index": 0},
            {"type": "reasoning.text", "signature": "s", "format": "unknown", "index": 0}]),
        json!([{"type": "reasoning.text", "signature": "s", "index": 0}]),
    ] {
        let message = json!({"role": "assistant", "reasoning_content": "hm", "reasoning_details": details});
        assert_eq!(texts(message), (one("hm", Some("s")), 0), "{details}");
    }
    let secret = json!({"role": "assistant", "reasoning_details": [{"type": "reasoning.encrypted", "data": "d"}]});
    assert_eq!(texts(secret), (one("", Some("d")), 0));
    let twice = json!({"role": "assistant", "reasoning": "hm", "reasoning_content": "hm"});
    assert_eq!(texts(twice), (one("hm", None), 0));
    // A format the maker told goes back with the token.
    let entry =
        json!({"type": "reasoning.text", "text": "hm", "signature": "s", "format": "anthropic-claude-v1", "index": 0});
    let message = json!({"role": "assistant", "content": "x", "reasoning_details": [entry]});
    let request = read(json!({"model": "anthropic/claude", "messages": [message]}));
    let (body, loss) = write_to(&request, "anthropic/claude").expect("written");
    assert_eq!(body["messages"][0]["reasoning_details"], json!([entry]));
    assert!(loss.is_empty(), "{loss:?}");
}

#[test]
fn reasoning_of_others_is_text_where_it_is_taken() {
    let request = said(
        vec![Block::new(Content::Reasoning("hm".into()), "m[0]")],
        Role::Assistant,
    );
    let (body, _) = write_to(&request, "deepseek-chat").expect("written");
    assert_eq!(body["messages"][0]["reasoning_content"], "hm");
    let (body, _) = write_to(&request, "magistral-small").expect("written");
    assert_eq!(body["messages"][0]["content"][0]["thinking"][0]["text"], "hm");
    let (body, loss) = write_to(&request, "gpt-5").expect("written");
    assert_eq!(body["messages"][0], json!({"role": "assistant", "content": ""}));
    assert_eq!(losses(&loss), [(LossKind::Dropped, "m[0]")]);
}

#[test]
fn settings_of_reasoning_come_to_a_word() {
    let effort = |model: &str, reasoning: Reasoning| {
        let request = Request {
            reasoning,
            ..said(vec![Block::text("x", "")], Role::User)
        };
        let (body, loss) = write_to(&request, model).expect("written");
        let word = body["reasoning_effort"].as_str().map(str::to_owned);
        (
            word.or(body["thinking"]["type"].as_str().map(str::to_owned)),
            losses(&loss).first().map(|loss| loss.0),
        )
    };
    let budget = |tokens| Reasoning {
        budget: Some(Set::new(Budget::Tokens(tokens), "b")),
        ..Reasoning::default()
    };
    let word = |effort| Reasoning {
        effort: Some(Set::new(effort, "e")),
        ..Reasoning::default()
    };
    let some = |word: &str| Some(word.to_owned());
    let near = Some(LossKind::Approximated);
    assert_eq!(effort("m", budget(2000)), (some("medium"), near));
    assert_eq!(effort("m", budget(0)), (some("none"), None));
    assert_eq!(effort("m", word(Effort::High)), (some("high"), None));
    assert_eq!(effort("o3", word(Effort::None)), (some("low"), near));
    assert_eq!(effort("gpt-5-mini", word(Effort::Max)), (some("high"), near));
    assert_eq!(effort("gpt-5.2", word(Effort::XHigh)), (some("xhigh"), None));
    assert_eq!(effort("gpt-4o", word(Effort::High)), (None, Some(LossKind::Dropped)));
    assert_eq!(effort("gpt-4o", word(Effort::None)), (None, None));
    assert_eq!(effort("deepseek-chat", budget(0)), (some("disabled"), None));
}

#[test]
fn vendors_settings_of_reasoning_are_read() {
    let of = |field: &str, value: Value| {
        let request = read(json!({"model": "m", "messages": [], field: value}));
        assert!(request.native.is_empty(), "{field}");
        request.reasoning.wish()
    };
    use crate::ir::Wish;
    assert_eq!(
        of("reasoning_effort", json!("high")),
        (Wish::Effort(Effort::High), "reasoning_effort")
    );
    assert_eq!(
        of("reasoning", json!({"effort": "low"})),
        (Wish::Effort(Effort::Low), "reasoning.effort")
    );
    let tokens = |n| Wish::Budget(Budget::Tokens(n));
    assert_eq!(
        of("reasoning", json!({"max_tokens": 9})),
        (tokens(9), "reasoning.max_tokens")
    );
    assert_eq!(of("thinking_budget", json!(9)), (tokens(9), "thinking_budget"));
    assert_eq!(
        of("thinking", json!({"type": "disabled"})),
        (Wish::Off, "thinking.type")
    );
    assert_eq!(of("enable_thinking", json!(true)), (Wish::On, "enable_thinking"));
}

#[test]
fn choices_among_tools() {
    let tool = |name: &str| json!({"type": "function", "function": {"name": name}});
    let request = |choice: Value| {
        read(json!({"model": "m", "messages": [], "tools": [tool("a"), tool("b")], "tool_choice": choice}))
    };
    let allowed = json!({"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool("b")]}});
    assert_eq!(
        request(allowed.clone()).tool_choice.map(|set| set.value),
        Some(ToolChoice::Allowed {
            required: true,
            names: vec!["b".into()]
        })
    );
    let (body, _) = write_to(&request(allowed.clone()), "gpt-5").expect("written");
    assert_eq!(body["tool_choice"], allowed);
    let (body, _) = write_to(&request(allowed), "m").expect("written");
    assert_eq!(body["tool_choice"], tool("b"), "one that is required is that one");
    let auto = json!({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool("b")]}});
    let (body, loss) = write_to(&request(auto), "m").expect("written");
    assert_eq!(
        (&body["tools"], &body["tool_choice"]),
        (&json!([tool("b")]), &json!("auto"))
    );
    assert_eq!(losses(&loss), [(LossKind::Approximated, "tool_choice")]);
    let without = read(json!({"model": "m", "messages": [], "tool_choice": "required", "parallel_tool_calls": false}));
    let (body, loss) = write_to(&without, "m").expect("written");
    assert!(body.get("tool_choice").is_none() && body.get("parallel_tool_calls").is_none());
    assert_eq!(losses(&loss), [(LossKind::Dropped, "tool_choice")]);
}

#[test]
fn custom_tools_are_read_and_written() {
    let tool = json!({"type": "custom", "custom": {"name": "c", "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "d"}}}});
    let body = json!({"model": "m", "messages": [
        {"role": "assistant", "content": null, "tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "c", "input": "4 + 4"}}]},
    ], "tools": [tool], "tool_choice": {"type": "custom", "custom": {"name": "c"}}});
    let (written, _) = write_to(&read(body.clone()), "m").expect("written");
    assert_eq!(written, body);
}

#[test]
fn limits_go_by_the_name_their_reader_knows() {
    let request = read(json!({"model": "m", "messages": [], "max_tokens": 5, "stop": "x", "temperature": 1.0}));
    let (body, _) = write_to(&request, "gpt-5").expect("written");
    assert_eq!(
        (&body["max_completion_tokens"], body.get("max_tokens")),
        (&json!(5), None)
    );
    let (body, _) = write_to(&request, "llama").expect("written");
    assert_eq!(
        (&body["max_tokens"], &body["stop"], &body["temperature"]),
        (&json!(5), &json!(["x"]), &json!(1))
    );
}

#[test]
fn wrong_requests_are_refused_with_their_path() {
    let target = OpenAiChat.own_target(Operation::Chat, false).expect("chat").0;
    for (body, path) in [
        (json!({"messages": []}), "model"),
        (json!({"model": "m"}), "messages"),
        (
            json!({"model": "m", "messages": [{"role": "king"}]}),
            "messages[0].role",
        ),
        (
            json!({"model": "m", "messages": [{"role": "user", "content": 3}]}),
            "messages[0].content",
        ),
        (
            json!({"model": "m", "messages": [], "temperature": "hot"}),
            "temperature",
        ),
        (json!({"model": "m", "messages": [], "stop": [1]}), "stop[0]"),
    ] {
        let bytes = serde_json::to_vec(&body).expect("JSON");
        let error = OpenAiChat.decode_request(&target, &bytes).expect_err(path);
        assert_eq!(error.path, path);
    }
}
