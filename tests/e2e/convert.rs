//! Any client, any provider: requests, answers, streams and errors in the other's dialect; what can't be carried is told.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::client::Reply;
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY};
use crate::support::provider::{Answer, Provider, Received, Step};
use crate::support::until;

/// What every answer of these providers says.
const SAID: &str = "pong \u{e9} \u{1f600}";

fn name(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "openai_chat",
        Dialect::Responses => "openai_responses",
        Dialect::Messages => "anthropic",
        Dialect::Gemini => "gemini",
    }
}

/// A whole answer of a provider.
fn whole(dialect: Dialect) -> Value {
    match dialect {
        Dialect::Chat => json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": SAID}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}}),
        Dialect::Responses => {
            json!({"id": "r1", "object": "response", "created_at": 1, "model": "m", "status": "completed",
            "output": [{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": SAID, "annotations": []}]}],
            "usage": {"input_tokens": 11, "output_tokens": 5, "total_tokens": 16}})
        }
        Dialect::Messages => json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
            "content": [{"type": "text", "text": SAID}], "stop_reason": "end_turn", "stop_sequence": null,
            "usage": {"input_tokens": 11, "output_tokens": 5}}),
        Dialect::Gemini => json!({"candidates": [{"index": 0, "finishReason": "STOP",
            "content": {"role": "model", "parts": [{"text": SAID}]}}],
            "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 5, "totalTokenCount": 16}, "modelVersion": "m"}),
    }
}

fn frame(value: &Value) -> String {
    match value["type"].as_str() {
        Some(kind) => format!("event: {kind}\ndata: {value}\n\n"),
        None => format!("data: {value}\n\n"),
    }
}

/// The same answer as a stream, in frames; the last one tells that it is complete.
fn frames(dialect: Dialect) -> Vec<String> {
    let (first, second) = SAID.split_at(5);
    let values = match dialect {
        Dialect::Chat => {
            let chunk = |delta: Value, finish: Value| {
                json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            };
            let usage = json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [],
                "usage": {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}});
            vec![
                chunk(json!({"role": "assistant", "content": first}), Value::Null),
                chunk(json!({"content": second}), Value::Null),
                chunk(json!({}), json!("stop")),
                usage,
            ]
        }
        Dialect::Responses => vec![
            json!({"type": "response.created", "sequence_number": 0, "response": {"id": "r1", "model": "m", "status": "in_progress", "output": []}}),
            json!({"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": {"type": "message", "id": "msg_1", "role": "assistant", "content": []}}),
            json!({"type": "response.output_text.delta", "sequence_number": 2, "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": first}),
            json!({"type": "response.output_text.delta", "sequence_number": 3, "output_index": 0, "content_index": 0, "item_id": "msg_1", "delta": second}),
            json!({"type": "response.output_item.done", "sequence_number": 4, "output_index": 0, "item": whole(dialect)["output"][0]}),
            json!({"type": "response.completed", "sequence_number": 5, "response": whole(dialect)}),
        ],
        Dialect::Messages => vec![
            json!({"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": null, "usage": {"input_tokens": 11, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": first}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": second}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 5}}),
            json!({"type": "message_stop"}),
        ],
        Dialect::Gemini => {
            let element = |text: &str| json!({"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}], "modelVersion": "m"});
            let mut last = whole(dialect);
            last["candidates"][0]["content"]["parts"] = json!([{"text": ""}]);
            vec![element(first), element(second), last]
        }
    };
    let mut frames: Vec<String> = values.iter().map(frame).collect();
    if dialect == Dialect::Chat {
        frames.push("data: [DONE]\n\n".into());
    }
    frames
}

fn asks_stream(request: &Received) -> bool {
    request.target.contains(":streamGenerateContent")
        || serde_json::from_slice::<Value>(&request.body).is_ok_and(|body| body["stream"] == true)
}

type Script = Box<dyn Fn(&Received, Dialect) -> Answer + Send + Sync>;

fn usual() -> Script {
    Box::new(|request, dialect| {
        if asks_stream(request) {
            Answer::events(frames(dialect))
        } else {
            Answer::json(200, whole(dialect).to_string())
        }
    })
}

/// A gateway with one provider for each dialect. Models `to-X`, `strict-X`, `streamed-X`, `whole-X` go to the provider of dialect X.
async fn setting(script: Script) -> (Gateway, Provider, Arc<Mutex<Script>>) {
    let script = Arc::new(Mutex::new(script));
    let current = script.clone();
    let provider = Provider::start(move |request| {
        let dialect = ALL
            .into_iter()
            .find(|dialect| request.target.starts_with(&format!("/{}/", name(*dialect))))
            .unwrap_or_else(|| panic!("a provider was asked at {}", request.target));
        current.lock()(request, dialect)
    })
    .await;
    let mut rules = String::new();
    for dialect in ALL {
        let x = name(dialect);
        let base = format!("http://{}/{x}", provider.address);
        rules += &format!(
            "[provider.{x}]\ndialects = {{ {x} = \"{base}\" }}\nhealth = \"off\"\n[[provider.{x}.credential]]\nname = \"main\"\nkey = \"env:E2E_PROVIDER_KEY\"\n"
        );
        for (kind, more) in [
            ("to", ""),
            ("strict", "on_loss = \"reject\""),
            ("streamed", "upstream_stream = \"always\""),
            ("whole", "upstream_stream = \"never\""),
        ] {
            rules += &format!(
                "[[route]]\nname = \"{kind} {x}\"\nmodel = \"{kind}-{x}\"\ntargets = [{{ provider = \"{x}\", model = \"m\" }}]\n{more}\n"
            );
        }
    }
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        timeouts: "idle = \"2s\"",
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    (gateway, provider, script)
}

async fn ask(gateway: &Gateway, client: Dialect, model: &str, stream: bool) -> Reply {
    gateway
        .post(&client.path(model, stream), &client.body(model, stream))
        .await
}

/// The text an answer says, whole or streamed.
fn text_of(client: Dialect, stream: bool, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body).into_owned();
    let documents: Vec<Value> = if stream {
        text.lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .filter_map(|data| serde_json::from_str(data.trim()).ok())
            .collect()
    } else {
        vec![serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))]
    };
    let of = |value: &Value| value.as_str().unwrap_or("").to_owned();
    let parts = |value: &Value, key: &str| -> String {
        let list = value.as_array().into_iter().flatten();
        list.map(|part| part[key].as_str().unwrap_or("")).collect()
    };
    documents
        .iter()
        .map(|document| match (client, stream) {
            (Dialect::Chat, true) => of(&document["choices"][0]["delta"]["content"]),
            (Dialect::Chat, false) => of(&document["choices"][0]["message"]["content"]),
            (Dialect::Responses, true) if document["type"] == "response.output_text.delta" => of(&document["delta"]),
            (Dialect::Responses, false) => parts(&document["output"][0]["content"], "text"),
            (Dialect::Messages, true) => of(&document["delta"]["text"]),
            (Dialect::Messages, false) => parts(&document["content"], "text"),
            (Dialect::Gemini, _) => parts(&document["candidates"][0]["content"]["parts"], "text"),
            _ => String::new(),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_pairs_say_the_same_whole_and_streamed() {
    let (gateway, provider, _script) = setting(usual()).await;
    let mut calls = 0;
    for client in ALL {
        for upstream in ALL {
            for kind in ["to", "streamed", "whole"] {
                for stream in [false, true] {
                    let what = format!("{client:?} to {upstream:?}, {kind}, stream {stream}");
                    let model = format!("{kind}-{}", name(upstream));
                    let reply = ask(&gateway, client, &model, stream).await;
                    calls += 1;
                    assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                    assert!(reply.complete, "{what}: it ends as its framing says");
                    assert_eq!(text_of(client, stream, &reply.body), SAID, "{what}: {}", reply.text());
                    let content_type = if stream {
                        "text/event-stream"
                    } else {
                        "application/json"
                    };
                    assert_eq!(reply.header("content-type"), Some(content_type), "{what}");
                    if stream {
                        assert!(reply.text().contains(client.last_word()), "{what}: {}", reply.text());
                    }
                    let asked = provider.received().last().cloned().expect("asked");
                    let as_asked = match kind {
                        "to" => stream,
                        kind => kind == "streamed",
                    };
                    assert_eq!(asks_stream(&asked), as_asked, "{what}: how the provider is asked");
                    assert_eq!(
                        asked
                            .header(upstream.provider_key_header())
                            .map(|key| key.contains(PROVIDER_KEY)),
                        Some(true),
                        "{what}: with our key, where its dialect has it"
                    );
                }
            }
        }
    }
    let rows = gateway.settled_rows(calls).await;
    for row in rows {
        assert_eq!(row["ended"], "complete", "{row}");
        assert_eq!(
            (&row["usage"]["input"], &row["usage"]["output"]),
            (&json!(11), &json!(5)),
            "{row}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_told_in_the_clients_dialect_without_our_key() {
    let (gateway, _provider, script) = setting(usual()).await;
    for upstream in ALL {
        for (status, body) in [
            (
                429u16,
                format!("{{\"error\":{{\"message\":\"slow down, {PROVIDER_KEY}\",\"type\":\"rate_limit_error\"}}}}"),
            ),
            (
                529,
                "{\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}".into(),
            ),
            (
                400,
                "{\"error\":{\"code\":400,\"message\":\"no such thing\",\"status\":\"INVALID_ARGUMENT\"}}".into(),
            ),
            (502, "<html><body>Bad Gateway</body></html>".into()),
        ] {
            let answer = Answer::json(status, body.clone()).header("retry-after", "7");
            *script.lock() = Box::new(move |_, _| answer.clone());
            for client in ALL.into_iter().filter(|client| *client != upstream) {
                for stream in [false, true] {
                    let reply = ask(&gateway, client, &format!("to-{}", name(upstream)), stream).await;
                    let what = format!("{client:?} to {upstream:?}: {status}");
                    client.check_refusal(&what, status, &reply);
                    assert_eq!(reply.header("retry-after"), Some("7"), "{what}");
                    assert!(!reply.text().contains(PROVIDER_KEY), "{what}: {}", reply.text());
                    assert!(!reply.text().contains("<html"), "{what}: {}", reply.text());
                    if status == 429 {
                        assert!(reply.text().contains("slow down"), "{what}: {}", reply.text());
                    }
                }
            }
        }
        let retry = "{\"error\":{\"code\":429,\"message\":\"quota\",\"status\":\"RESOURCE_EXHAUSTED\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":\"3s\"}]}}";
        *script.lock() = Box::new(move |_, _| Answer::json(429, retry));
        let client = if upstream == Dialect::Messages {
            Dialect::Chat
        } else {
            Dialect::Messages
        };
        let reply = ask(&gateway, client, &format!("to-{}", name(upstream)), false).await;
        assert_eq!(reply.header("retry-after"), Some("3"), "told in the error's body only");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_begins_with_an_error_is_an_error() {
    let (gateway, _provider, script) = setting(usual()).await;
    let first = |dialect: Dialect| {
        match dialect {
        Dialect::Chat | Dialect::Gemini => format!("data: {{\"error\":{{\"message\":\"overloaded {PROVIDER_KEY}\",\"code\":503}}}}\n\n"),
        Dialect::Responses => "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"overloaded\"}\n\n".into(),
        Dialect::Messages => "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"overloaded\"}}\n\n".into(),
    }
    };
    *script.lock() = Box::new(move |_, dialect| Answer::events([first(dialect)]));
    for upstream in ALL {
        for client in ALL.into_iter().filter(|client| *client != upstream) {
            let reply = ask(&gateway, client, &format!("to-{}", name(upstream)), true).await;
            let what = format!("{client:?} to {upstream:?}");
            assert!(reply.status >= 500, "{what}: {} {}", reply.status, reply.text());
            client.check_error(reply.status, &reply.json());
            assert!(reply.text().contains("overloaded"), "{what}: {}", reply.text());
            assert!(!reply.text().contains(PROVIDER_KEY), "{what}: {}", reply.text());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_stream_never_looks_complete() {
    let (gateway, _provider, script) = setting(usual()).await;
    for way in [
        "ends",
        "is cut",
        "hangs",
        "reports an error",
        "reports an error and hangs",
    ] {
        *script.lock() = Box::new(move |_, dialect| {
            let all = frames(dialect);
            let keep = if dialect == Dialect::Gemini { 2 } else { all.len() - 3 };
            let mut steps: Vec<Step> = all[..keep.max(2)]
                .iter()
                .map(|frame| Step::Send(frame.clone().into()))
                .collect();
            match way {
                "is cut" => steps.push(Step::Cut),
                "hangs" => steps.push(Step::Hang),
                "reports an error" => steps.push(Step::Send("data: {\"error\":{\"message\":\"it broke\"}}\n\n".into())),
                "reports an error and hangs" => {
                    steps.push(Step::Send("data: {\"error\":{\"message\":\"it broke\"}}\n\n".into()));
                    steps.push(Step::Hang);
                }
                _ => {}
            }
            Answer::chunked("text/event-stream", steps)
        });
        for upstream in ALL {
            for client in ALL.into_iter().filter(|client| *client != upstream) {
                let what = format!("{client:?} to {upstream:?}: the stream {way}");
                let streamed = ask(&gateway, client, &format!("to-{}", name(upstream)), true).await;
                if streamed.status == 200 {
                    client.check_broken_stream(&what, &streamed);
                } else {
                    client.check_error(streamed.status, &streamed.json());
                }
                if way.starts_with("reports") {
                    assert!(
                        streamed.text().contains("it broke"),
                        "{what}, and it is told at once: {}",
                        streamed.text()
                    );
                }
                if way.ends_with("hangs") {
                    continue;
                }
                let whole = ask(&gateway, client, &format!("streamed-{}", name(upstream)), false).await;
                assert!(
                    whole.status >= 500,
                    "{what}, and is asked for whole: {} {}",
                    whole.status,
                    whole.text()
                );
                client.check_error(whole.status, &whole.json());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_are_told_or_refused_before_any_provider_is_called() {
    let (gateway, provider, _script) = setting(usual()).await;
    let body = |model: &str| {
        format!("{{\"model\":\"{model}\",\"seed\":7,\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}")
    };
    let told = gateway
        .post("/v1/chat/completions", body("to-anthropic").as_bytes())
        .await;
    assert_eq!(told.status, 200, "{}", told.text());
    assert_eq!(
        told.header("x-tollgate-loss"),
        Some("dropped=1; synthesized=1; first=seed")
    );
    gateway.idle().await;
    let lost = gateway
        .metric("tollgate_conversion_losses_total{from=\"openai_chat\",kind=\"dropped\",to=\"anthropic\"}")
        .await;
    assert!((lost - 1.0).abs() < f64::EPSILON, "{lost}");
    until("the loss is logged", Duration::from_secs(5), async || {
        let log = std::fs::read_to_string(gateway.path("data/logs/access.log")).unwrap_or_default();
        log.contains("dropped=1; synthesized=1; first=seed").then_some(())
    })
    .await;

    let calls = provider.received().len();
    let refused = gateway
        .post("/v1/chat/completions", body("strict-anthropic").as_bytes())
        .await;
    Dialect::Chat.check_refusal("on_loss = reject", 400, &refused);
    assert_eq!(refused.json()["error"]["code"], "conversion_loss");
    assert_eq!(
        refused.json()["error"]["param"],
        "seed",
        "the first field that would be lost"
    );
    assert!(refused.text().contains("`seed`"), "{}", refused.text());
    assert_eq!(provider.received().len(), calls, "no provider was called");
    let same = gateway
        .post("/v1/chat/completions", body("strict-openai_chat").as_bytes())
        .await;
    assert_eq!(
        (same.status, same.header("x-tollgate-loss")),
        (200, None),
        "the same dialect loses nothing"
    );

    let audio = "{\"model\":\"to-anthropic\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":{\"data\":\"AAAA\",\"format\":\"wav\"}}]}]}";
    let refused = gateway.post("/v1/chat/completions", audio.as_bytes()).await;
    Dialect::Chat.check_refusal("content the provider can't take", 400, &refused);
    assert_eq!(refused.json()["error"]["code"], "unsupported_by_provider");
    let bound = "{\"model\":\"to-anthropic\",\"previous_response_id\":\"resp_1\",\"input\":\"and now?\"}";
    let refused = gateway.post("/v1/responses", bound.as_bytes()).await;
    Dialect::Responses.check_refusal("history that only its provider has", 400, &refused);
    assert_eq!(refused.json()["error"]["param"], "previous_response_id");
    let unreadable = "{\"model\":\"to-anthropic\",\"messages\":7}";
    let refused = gateway.post("/v1/chat/completions", unreadable.as_bytes()).await;
    Dialect::Chat.check_refusal("a field of the wrong type", 400, &refused);
    assert_eq!(
        provider.received().len(),
        calls + 1,
        "no provider was called but by the good one"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_of_a_provider_return_to_it_through_any_client_and_to_nobody_else() {
    let thinking = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "tool_use",
        "content": [{"type": "thinking", "thinking": "hm", "signature": "SIGNED+/="}, {"type": "redacted_thinking", "data": "HIDDEN+/="},
            {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": "sky"}}],
        "usage": {"input_tokens": 11, "output_tokens": 5}});
    let signed = json!({"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
        {"functionCall": {"name": "look", "args": {"at": "sky"}}, "thoughtSignature": "U0lHTkVE"}]}}],
        "usageMetadata": {"promptTokenCount": 11, "candidatesTokenCount": 5, "totalTokenCount": 16}});
    let (gateway, provider, script) = setting(usual()).await;
    let tools = json!([{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {"at": {"type": "string"}}}}}]);
    for (upstream, answer, secrets) in [
        (Dialect::Messages, thinking, &["SIGNED+/=", "HIDDEN+/="][..]),
        (Dialect::Gemini, signed, &["U0lHTkVE"][..]),
    ] {
        *script.lock() = Box::new(move |_, dialect| {
            let answer = if dialect == upstream {
                answer.clone()
            } else {
                whole(dialect)
            };
            Answer::json(200, answer.to_string())
        });
        let model = format!("to-{}", name(upstream));
        let first = json!({"model": model, "tools": tools, "messages": [{"role": "user", "content": "look"}]});
        let reply = gateway.post("/v1/chat/completions", first.to_string().as_bytes()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert!(
            secrets.iter().all(|secret| !reply.text().contains(secret)),
            "sealed: {}",
            reply.text()
        );
        let message = reply.json()["choices"][0]["message"].clone();
        let id = message["tool_calls"][0]["id"].clone();
        assert!(id.is_string(), "{message}");
        let history = json!([{"role": "user", "content": "look"}, message, {"role": "tool", "tool_call_id": id, "content": "blue"}]);
        let next = |model: &str| json!({"model": model, "tools": tools, "messages": history}).to_string();

        let home = gateway.post("/v1/chat/completions", next(&model).as_bytes()).await;
        assert_eq!(home.status, 200, "{}", home.text());
        let sent = provider.received().last().cloned().expect("asked");
        let sent = String::from_utf8_lossy(&sent.body).into_owned();
        for secret in secrets {
            assert!(sent.contains(secret), "{upstream:?} gets its own back: {sent}");
        }
        assert!(!sent.contains("dG9sbGdhdGUx"), "opened: {sent}");

        for other in ALL.into_iter().filter(|other| *other != upstream) {
            let reply = gateway
                .post("/v1/chat/completions", next(&format!("to-{}", name(other))).as_bytes())
                .await;
            assert_eq!(reply.status, 200, "{other:?}: {}", reply.text());
            let sent = provider.received().last().cloned().expect("asked");
            let sent = String::from_utf8_lossy(&sent.body).into_owned();
            assert!(
                !sent.contains("dG9sbGdhdGUx"),
                "{other:?} gets no foreign token: {sent}"
            );
            assert!(secrets.iter().all(|secret| !sent.contains(secret)), "{other:?}: {sent}");
            let loss = reply.header("x-tollgate-loss").unwrap_or_default();
            assert!(loss.contains("dropped="), "{other:?} reports it: {loss}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_counted_or_estimated_and_vectors_cross() {
    let (gateway, provider, script) = setting(usual()).await;
    let counted = |dialect: Dialect| match dialect {
        Dialect::Responses => json!({"object": "response.input_tokens", "input_tokens": 42}),
        Dialect::Messages => json!({"input_tokens": 42}),
        _ => json!({"totalTokens": 42}),
    };
    *script.lock() = Box::new(move |_, dialect| Answer::json(200, counted(dialect).to_string()));
    /// Path, body for a model, field of the answer.
    type Ask = (&'static str, fn(&str) -> String, &'static str);
    let asks: [Ask; 3] = [
        (
            "/v1/messages/count_tokens",
            |m| format!("{{\"model\":\"{m}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hello there\"}}]}}"),
            "input_tokens",
        ),
        (
            "/v1/responses/input_tokens",
            |m| format!("{{\"model\":\"{m}\",\"input\":\"Hello there\"}}"),
            "input_tokens",
        ),
        (
            "gemini",
            |_| "{\"contents\":[{\"parts\":[{\"text\":\"Hello there\"}]}]}".into(),
            "totalTokens",
        ),
    ];
    for (path, body, field) in &asks {
        for upstream in ALL {
            let model = format!("to-{}", name(upstream));
            let path = if *path == "gemini" {
                format!("/v1beta/models/{model}:countTokens")
            } else {
                (*path).to_owned()
            };
            let calls = provider.received().len();
            let reply = gateway.post(&path, body(&model).as_bytes()).await;
            assert_eq!(reply.status, 200, "{path} to {upstream:?}: {}", reply.text());
            let count = reply.json()[field].as_u64().expect("a count");
            if upstream == Dialect::Chat {
                assert_eq!(provider.received().len(), calls, "nobody counts there");
                assert_eq!(reply.header("x-tollgate-estimated"), Some("tokens"));
                assert!((2..20).contains(&count), "{count}");
            } else {
                assert_eq!(
                    (count, reply.header("x-tollgate-estimated")),
                    (42, None),
                    "{path} to {upstream:?}"
                );
            }
        }
    }
    *script.lock() = Box::new(|_, _| Answer::json(404, "{\"error\":{\"message\":\"no such path\"}}"));
    let reply = gateway
        .post("/v1/messages/count_tokens", asks[0].1("to-anthropic").as_bytes())
        .await;
    assert_eq!(
        (reply.status, reply.header("x-tollgate-estimated")),
        (200, Some("tokens")),
        "{}",
        reply.text()
    );

    *script.lock() = Box::new(|request, dialect| {
        let vector = json!([0.5, -0.25]);
        let batch = request.target.contains("batchEmbedContents");
        Answer::json(200, match dialect {
            Dialect::Gemini if batch => json!({"embeddings": [{"values": vector}, {"values": vector}]}),
            Dialect::Gemini => json!({"embedding": {"values": vector}}),
            _ => json!({"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": vector}, {"object": "embedding", "index": 1, "embedding": vector}],
                "usage": {"prompt_tokens": 4, "total_tokens": 4}}),
        }.to_string())
    });
    let open = "{\"model\":\"to-gemini\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"float\"}";
    let reply = gateway.post("/v1/embeddings", open.as_bytes()).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        reply.json()["data"][1]["embedding"],
        json!([0.5, -0.25]),
        "{}",
        reply.text()
    );
    let open = "{\"model\":\"to-gemini\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}";
    let reply = gateway.post("/v1/embeddings", open.as_bytes()).await;
    assert_eq!(reply.json()["data"][0]["embedding"], "AAAAPwAAgL4=", "{}", reply.text());
    let batch = "{\"requests\":[{\"model\":\"models/x\",\"content\":{\"parts\":[{\"text\":\"a\"}]}},{\"model\":\"models/x\",\"content\":{\"parts\":[{\"text\":\"b\"}]}}]}";
    let reply = gateway
        .post("/v1beta/models/to-openai_chat:batchEmbedContents", batch.as_bytes())
        .await;
    assert_eq!(
        reply.json()["embeddings"][1]["values"],
        json!([0.5, -0.25]),
        "{}",
        reply.text()
    );
    let reply = gateway
        .post("/v1beta/models/to-gemini:batchEmbedContents", batch.as_bytes())
        .await;
    assert_eq!(
        reply.json()["embeddings"][0]["values"],
        json!([0.5, -0.25]),
        "{}",
        reply.text()
    );
    let sent: Value = serde_json::from_slice(&provider.last().body).expect("JSON");
    assert_eq!(sent["requests"][1]["model"], "models/m", "renamed inside too: {sent}");
    let nobody = gateway
        .post("/v1/embeddings", b"{\"model\":\"to-anthropic\",\"input\":\"a\"}")
        .await;
    assert_eq!(
        (nobody.status, nobody.json()["error"]["code"].as_str()),
        (400, Some("unsupported_operation"))
    );
}
