//! The sandbox provider over the wire: HTTP/1.1 and HTTP/2, all dialects, its faults and its counts.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tollgate::sandbox::{Sandbox, serve};

/// Longest wait for anything here; only a broken test waits that long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Provider {
    base: String,
    sandbox: Arc<Sandbox>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl Provider {
    async fn start() -> Provider {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let base = format!("http://{}", listener.local_addr().expect("an address"));
        let sandbox = Sandbox::new(true);
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let served = sandbox.clone();
        let task = tokio::spawn(async move {
            let stopped = async move {
                let _ = stopped.await;
            };
            serve(listener, served, std::future::pending(), stopped).await
        });
        Provider {
            base,
            sandbox,
            stop: Some(stop),
            task,
        }
    }

    async fn post(&self, client: &Client, path: &str, body: &Value) -> reqwest::Result<Response> {
        let request = client
            .post(format!("{}{path}", self.base))
            .header("content-type", "application/json");
        request.body(body.to_string()).timeout(PATIENCE).send().await
    }

    /// Waits until the counts are as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&tollgate::sandbox::Counts) -> bool) {
        let counted = async {
            while !wanted(&self.sandbox.counts()) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, counted).await;
        assert!(waited.is_ok(), "{what}: {:?}", self.sandbox.counts());
    }
}

fn h1() -> Client {
    Client::builder().http1_only().no_proxy().build().expect("a client")
}

fn h2() -> Client {
    Client::builder()
        .http2_prior_knowledge()
        .no_proxy()
        .build()
        .expect("a client")
}

const DIALECTS: [&str; 4] = ["chat", "responses", "anthropic", "gemini"];

/// A request in each dialect: path and body.
fn ask(dialect: &str, model: &str, stream: bool) -> (String, Value) {
    let messages = json!([{"role": "user", "content": "one two three"}]);
    match dialect {
        "chat" => (
            "/v1/chat/completions".into(),
            json!({"model": model, "messages": messages, "stream": stream}),
        ),
        "responses" => (
            "/v1/responses".into(),
            json!({"model": model, "input": messages, "stream": stream}),
        ),
        "anthropic" => {
            let body = json!({"model": model, "messages": messages, "max_tokens": 100, "stream": stream});
            ("/v1/messages".into(), body)
        }
        _ => {
            let verb = if stream {
                "streamGenerateContent?alt=sse"
            } else {
                "generateContent"
            };
            let body = json!({"contents": [{"role": "user", "parts": [{"text": "one two three"}]}]});
            (format!("/v1beta/models/{model}:{verb}"), body)
        }
    }
}

/// Offers a tool in each dialect.
fn offer(dialect: &str, body: &mut Value) {
    let schema = json!({"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]});
    body["tools"] = match dialect {
        "chat" => json!([{"type": "function", "function": {"name": "weather", "parameters": schema}}]),
        "responses" => json!([{"type": "function", "name": "weather", "parameters": schema}]),
        "anthropic" => json!([{"name": "weather", "input_schema": schema}]),
        _ => json!([{"functionDeclarations": [{"name": "weather", "parametersJsonSchema": schema}]}]),
    };
}

/// The text of a whole answer, and the tokens it reports: in, out.
fn read_whole(dialect: &str, answer: &Value) -> (String, u64, u64) {
    let at = |pointer: &str| answer.pointer(pointer).unwrap_or(&Value::Null).clone();
    let text = match dialect {
        "chat" => at("/choices/0/message/content"),
        "responses" => at("/output/0/content/0/text"),
        "anthropic" => at("/content/0/text"),
        _ => at("/candidates/0/content/parts/0/text"),
    };
    let (input, output) = match dialect {
        "chat" => ("/usage/prompt_tokens", "/usage/completion_tokens"),
        "gemini" => ("/usageMetadata/promptTokenCount", "/usageMetadata/candidatesTokenCount"),
        _ => ("/usage/input_tokens", "/usage/output_tokens"),
    };
    let number = |pointer: &str| at(pointer).as_u64().unwrap_or(u64::MAX);
    (
        text.as_str().unwrap_or_default().to_owned(),
        number(input),
        number(output),
    )
}

/// The data of SSE events, parsed; `[DONE]` as a string.
fn events(stream: &str) -> Vec<Value> {
    let data = stream.lines().filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap_or_else(|_| Value::from(data)))
        .collect()
}

/// The text of a stream.
fn read_stream(dialect: &str, events: &[Value]) -> String {
    let pieces = events.iter().filter_map(|event| match dialect {
        "chat" => event.pointer("/choices/0/delta/content")?.as_str(),
        "responses" if event["type"] == "response.output_text.delta" => event["delta"].as_str(),
        "anthropic" => event.pointer("/delta/text")?.as_str(),
        "gemini" => event.pointer("/candidates/0/content/parts/0/text")?.as_str(),
        _ => None,
    });
    pieces.collect()
}

/// Is that the event with which a complete stream ends?
fn is_last(dialect: &str, event: Option<&Value>) -> bool {
    let event = event.unwrap_or(&Value::Null);
    match dialect {
        "chat" => event == "[DONE]",
        "responses" => event["type"] == "response.completed",
        "anthropic" => event["type"] == "message_stop",
        _ => event.pointer("/candidates/0/finishReason").is_some(),
    }
}

#[tokio::test]
async fn all_dialects_answer_whole_and_streamed_on_both_versions_of_http() {
    let provider = Provider::start().await;
    for (client, version) in [(h1(), reqwest::Version::HTTP_11), (h2(), reqwest::Version::HTTP_2)] {
        for dialect in DIALECTS {
            let (path, body) = ask(dialect, "sandbox/x,tokens=20,prompt=7", false);
            let answer = provider.post(&client, &path, &body).await.expect(dialect);
            assert_eq!(
                (answer.status(), answer.version()),
                (StatusCode::OK, version),
                "{dialect}"
            );
            let answer: Value = answer.json().await.expect("JSON");
            let (whole, input, output) = read_whole(dialect, &answer);
            assert_eq!(
                (whole.split(' ').count(), input, output),
                (20, 7, 20),
                "{dialect}: {answer}"
            );

            let (path, body) = ask(dialect, "sandbox/x,tokens=20,prompt=7,chunk=3", true);
            let answer = provider.post(&client, &path, &body).await.expect(dialect);
            assert_eq!(answer.headers()["content-type"], "text/event-stream; charset=utf-8");
            let events = events(&answer.text().await.expect("a stream"));
            assert_eq!(
                read_stream(dialect, &events),
                whole,
                "{dialect}: the stream says what the whole answer says"
            );
            assert!(is_last(dialect, events.last()), "{dialect}: {:?}", events.last());
        }
    }
    let total = provider.sandbox.counts().total;
    // Chat streams report usage only if asked.
    assert_eq!(
        (total.received, total.completed, total.tokens_in, total.tokens_out),
        (16, 16, 14 * 7, 14 * 20)
    );
}

#[tokio::test]
async fn a_chat_stream_reports_usage_only_if_asked() {
    let (provider, client) = (Provider::start().await, h1());
    for asked in [false, true] {
        let (path, mut body) = ask("chat", "x,reasoning=3", true);
        if asked {
            body["stream_options"] = json!({"include_usage": true});
        }
        let stream = provider
            .post(&client, &path, &body)
            .await
            .expect("sent")
            .text()
            .await
            .expect("read");
        let events = events(&stream);
        let usage: Vec<_> = events.iter().filter(|event| event["usage"].is_object()).collect();
        assert_eq!(usage.len(), usize::from(asked));
        if let Some(usage) = usage.first() {
            assert_eq!(usage["choices"], json!([]), "usage comes in a chunk of its own");
            assert_eq!(usage["usage"]["completion_tokens"], 19);
        }
    }
}

#[tokio::test]
async fn offered_tools_are_called_in_several_pieces_and_their_results_answered() {
    let (provider, client) = (Provider::start().await, h1());
    for dialect in DIALECTS {
        let (path, mut body) = ask(dialect, "x,tools=2", true);
        offer(dialect, &mut body);
        let stream = provider
            .post(&client, &path, &body)
            .await
            .expect("sent")
            .text()
            .await
            .expect("read");
        let (mut pieces, mut calls) = (0, vec![String::new(), String::new()]);
        for event in events(&stream) {
            let (at, piece) = match dialect {
                "chat" => (
                    event.pointer("/choices/0/delta/tool_calls/0/index"),
                    "/choices/0/delta/tool_calls/0/function/arguments",
                ),
                "responses" if event["type"] == "response.function_call_arguments.delta" => {
                    (event.get("output_index"), "/delta")
                }
                "anthropic" => (event.get("index"), "/delta/partial_json"),
                _ => (None, ""),
            };
            if let (Some(at), Some(piece)) = (at.and_then(Value::as_u64), event.pointer(piece).and_then(Value::as_str))
            {
                pieces += usize::from(!piece.is_empty());
                calls[at as usize].push_str(piece);
            }
            if let Some(args) = event.pointer("/candidates/0/content/parts/0/functionCall/args") {
                let free = calls.iter_mut().find(|call| call.is_empty()).expect("two calls");
                free.push_str(&args.to_string());
            }
        }
        assert_eq!(calls, [r#"{"city":"sandbox"}"#; 2], "{dialect}: {stream}");
        assert!(
            pieces >= 4 || dialect == "gemini",
            "{dialect}: arguments come in several deltas"
        );

        let (path, mut body) = ask(dialect, "x", false);
        offer(dialect, &mut body);
        let list = match dialect {
            "responses" => "input",
            "gemini" => "contents",
            _ => "messages",
        };
        body[list].as_array_mut().expect("a list").push(match dialect {
            "chat" => json!({"role": "tool", "tool_call_id": "c", "content": "22 degrees"}),
            "responses" => json!({"type": "function_call_output", "call_id": "c", "output": "22 degrees"}),
            "anthropic" => json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": "22 degrees"}]}),
            _ => json!({"role": "user", "parts": [{"functionResponse": {"name": "weather", "response": {"r": "22 degrees"}}}]}),
        });
        let answer: Value = provider
            .post(&client, &path, &body)
            .await
            .expect("sent")
            .json()
            .await
            .expect("JSON");
        let (text, ..) = read_whole(dialect, &answer);
        assert!(text.contains("22 degrees"), "{dialect}: {answer}");
    }
}

#[tokio::test]
async fn a_stream_with_a_fault_never_ends_with_its_last_event() {
    let provider = Provider::start().await;
    for client in [h1(), h2()] {
        for dialect in DIALECTS {
            for (fault, breaks) in [
                ("cut:4", true),
                ("cut:9999", true),
                ("stop:4", false),
                ("stop:9999", false),
                ("error:4", false),
                ("error:9999", false),
            ] {
                let (path, body) = ask(dialect, &format!("x,fault={fault}"), true);
                let mut answer = provider.post(&client, &path, &body).await.expect("a header");
                assert_eq!(answer.status(), StatusCode::OK);
                let mut stream = Vec::new();
                let broken = loop {
                    match answer.chunk().await {
                        Ok(Some(chunk)) => stream.extend_from_slice(&chunk),
                        Ok(None) => break false,
                        Err(_) => break true,
                    }
                };
                let events = events(&String::from_utf8_lossy(&stream));
                assert_eq!(broken, breaks, "{dialect} {fault}");
                assert!(
                    !is_last(dialect, events.last()),
                    "{dialect} {fault}: {:?}",
                    events.last()
                );
                if fault == "cut:4" || fault == "stop:4" {
                    assert_eq!(
                        events.len(),
                        4,
                        "{dialect} {fault}: what came before the fault is on the wire"
                    );
                }
                if fault.starts_with("error") {
                    let last = events.last().expect("an event").to_string();
                    assert!(last.contains("asked to fail in the stream"), "{dialect}: {last}");
                }
            }
        }
    }
    provider.until("all are over", |counts| counts.open.is_empty()).await;
    let total = provider.sandbox.counts().total;
    assert_eq!(
        (total.received, total.faulted, total.aborted),
        (48, 48, 0),
        "a fault is not the client's abort"
    );
}

#[tokio::test]
async fn whole_answers_break_as_scripted() {
    let provider = Provider::start().await;
    for (client, version) in [(h1(), 1), (h2(), 2)] {
        let body = |fault: &str| ask("chat", &format!("x,fault={fault}"), false);
        let (path, reset) = body("reset");
        assert!(provider.post(&client, &path, &reset).await.is_err(), "reset: no header");
        let (_, cut) = body("cut:1");
        let answer = provider.post(&client, &path, &cut).await.expect("cut: a header");
        assert!(answer.bytes().await.is_err(), "cut: the body breaks");
        let (_, stop) = body("stop:1");
        let answer = provider
            .post(&client, &path, &stop)
            .await
            .expect("stop: a header")
            .bytes()
            .await
            .expect("a body");
        assert!(serde_json::from_slice::<Value>(&answer).is_err(), "stop: half a body");
        let (_, length) = body("length");
        let answer = provider.post(&client, &path, &length).await.expect("length: a header");
        assert!(
            answer.bytes().await.is_err(),
            "length: fewer bytes than announced (HTTP/{version})"
        );
        let (_, error) = body("error:1");
        let answer = provider.post(&client, &path, &error).await.expect("error: a header");
        assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
        let (_, garbage) = body("garbage");
        let answer = provider
            .post(&client, &path, &garbage)
            .await
            .expect("garbage: a header");
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert!(answer.text().await.expect("a body").starts_with("<html>"));
        let (_, drip) = body("drip");
        let mut answer = provider.post(&client, &path, &drip).await.expect("drip: a header");
        let (mut chunks, mut whole) = (0, Vec::new());
        while let Some(chunk) = answer.chunk().await.expect("a body") {
            chunks += 1;
            whole.extend_from_slice(&chunk);
        }
        assert!(serde_json::from_slice::<Value>(&whole).is_ok(), "drip: all of it");
        assert!(
            chunks > whole.len() / 4,
            "drip: {chunks} chunks for {} bytes",
            whole.len()
        );
    }
}

#[tokio::test]
async fn errors_have_the_dialects_shape() {
    let (provider, client) = (Provider::start().await, h1());
    for dialect in DIALECTS {
        for (script, status) in [
            ("status=429,retry=5", 429),
            ("status=529", 529),
            ("status=401", 401),
            ("nonsense=1", 400),
        ] {
            let (path, body) = ask(dialect, &format!("x,{script}"), false);
            let answer = provider.post(&client, &path, &body).await.expect("an answer");
            assert_eq!(answer.status(), status, "{dialect} {script}");
            let retry = answer
                .headers()
                .get("retry-after")
                .map(|v| v.to_str().expect("text").to_owned());
            assert_eq!(
                retry.as_deref(),
                (status == 429).then_some("5"),
                "Retry-After if the script says so"
            );
            let answer: Value = answer.json().await.expect("JSON");
            let message = answer["error"]["message"].as_str().expect("a message");
            assert!(
                status != 400 || message.contains("`nonsense`"),
                "the option is named: {message}"
            );
            let kind = match dialect {
                "gemini" => (answer["error"]["code"] == status).then_some(()),
                "anthropic" => (answer["type"] == "error" && answer["error"]["type"].is_string()).then_some(()),
                _ => answer["error"]
                    .get("param")
                    .and(answer["error"].get("code"))
                    .map(|_| ()),
            };
            assert!(kind.is_some(), "{dialect}: {answer}");
        }
    }
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let (provider, client) = (Provider::start().await, h1());
    for (path, body, status) in [
        ("/v1/chat/completions", "not json", 400),
        ("/v1/chat/completions", r#"{"messages":[]}"#, 400),
        ("/v1/messages", r#"{"model":"x"}"#, 400),
        ("/v1/responses", r#"{"model":"x"}"#, 400),
        ("/v1beta/models/x:generateContent", "{}", 400),
        ("/v1beta/models/x:dance", "{}", 404),
        ("/v1/nowhere", "{}", 404),
    ] {
        let answer = client
            .post(format!("{}{path}", provider.base))
            .body(body)
            .send()
            .await
            .expect("an answer");
        assert_eq!(answer.status(), status, "{path} {body}");
    }
    let answer = client
        .get(format!("{}/v1/messages", provider.base))
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 405);
}

#[tokio::test]
async fn a_client_which_goes_away_is_noticed() {
    let provider = Provider::start().await;
    for (at, client) in [h1(), h2()].into_iter().enumerate() {
        for (script, streamed) in [
            ("tokens=1000,pace=10ms", true),
            ("first=10min", false),
            ("fault=hang", false),
        ] {
            provider.sandbox.reset();
            let (path, body) = ask("anthropic", &format!("gone-{at},{script}"), true);
            if streamed {
                let mut answer = provider.post(&client, &path, &body).await.expect("a header");
                answer.chunk().await.expect("a chunk");
                assert_eq!(provider.sandbox.counts().open.len(), 1);
                drop(answer);
            } else {
                let request = provider.post(&client, &path, &body);
                tokio::select! {
                    _ = request => panic!("{script}: no answer was expected"),
                    () = provider.until("it is open", |c| c.open.iter().any(|open| !open.model.is_empty())) => {}
                }
            }
            provider
                .until("the abort is noticed", |c| c.total.aborted == 1 && c.open.is_empty())
                .await;
            let counts = provider.sandbox.counts();
            assert!(counts.aborts[0].model.starts_with("gone-"), "{:?}", counts.aborts);
            assert_eq!(counts.total.tokens_out, 0, "an aborted answer reports nothing");
        }
    }
}

#[tokio::test]
async fn gemini_streams_are_an_array_or_events_with_crlf() {
    let (provider, client) = (Provider::start().await, h1());
    let (path, body) = ask("gemini", "sandbox%2Fx%2Ctokens%3D5", true);
    let sse = provider
        .post(&client, &path, &body)
        .await
        .expect("sent")
        .text()
        .await
        .expect("read");
    assert!(sse.ends_with("}\r\n\r\n"), "{sse}");
    let path = path.replace("?alt=sse", "");
    let array = provider
        .post(&client, &path, &body)
        .await
        .expect("sent")
        .text()
        .await
        .expect("read");
    let array: Vec<Value> = serde_json::from_str(&array).expect("one JSON array");
    assert_eq!(read_stream("gemini", &array), read_stream("gemini", &events(&sse)));
    assert_eq!(
        array[0]["modelVersion"], "sandbox/x,tokens=5",
        "the name survives the path"
    );
    let (path, body) = ask("gemini", "x,fault=stop:2", true);
    let cut = provider
        .post(&client, &path.replace("?alt=sse", ""), &body)
        .await
        .expect("sent");
    let cut = cut.text().await.expect("read");
    assert!(
        serde_json::from_str::<Value>(&cut).is_err(),
        "an array which stops too early is not closed: {cut}"
    );
}

#[tokio::test]
async fn answers_are_coded_only_if_asked_and_accepted() {
    use std::io::Read;
    let (provider, client) = (Provider::start().await, h1());
    for (coding, stream) in [
        ("gzip", true),
        ("gzip", false),
        ("zstd", true),
        ("zstd", false),
        ("br", true),
        ("br", false),
    ] {
        let (path, body) = ask("chat", &format!("x,coding={coding}"), stream);
        let plain = provider.post(&client, &path, &body).await.expect("sent");
        assert!(
            plain.headers().get("content-encoding").is_none(),
            "not accepted, not coded"
        );
        let request = client
            .post(format!("{}{path}", provider.base))
            .header("accept-encoding", format!("identity, {coding};q=0.5"));
        let coded = request.body(body.to_string()).send().await.expect("sent");
        assert_eq!(coded.headers()["content-encoding"], coding);
        let coded = coded.bytes().await.expect("read");
        let mut text = String::new();
        match coding {
            "gzip" => flate2::read::GzDecoder::new(&coded[..]).read_to_string(&mut text),
            "zstd" => zstd::stream::read::Decoder::new(&coded[..]).and_then(|mut d| d.read_to_string(&mut text)),
            _ => brotli::Decompressor::new(&coded[..], 4096).read_to_string(&mut text),
        }
        .expect("decodes");
        if stream {
            assert!(is_last("chat", events(&text).last()), "{coding}");
        } else {
            assert!(serde_json::from_str::<Value>(&text).is_ok(), "{coding}");
        }
    }
}

#[tokio::test]
async fn requests_are_recorded_as_received() {
    let (provider, client) = (Provider::start().await, h1());
    let (path, body) = ask("chat", "x", false);
    let url = format!("{}{path}?a=%20b", provider.base);
    client
        .post(url)
        .header("Authorization", "Bearer k")
        .body(body.to_string())
        .send()
        .await
        .expect("sent");
    let last: Value = client
        .get(format!("{}/_sandbox/last", provider.base))
        .send()
        .await
        .expect("sent")
        .json()
        .await
        .expect("JSON");
    let request = &last[0];
    assert_eq!(
        (&request["method"], &request["path"]),
        (&json!("POST"), &json!("/v1/chat/completions?a=%20b"))
    );
    assert_eq!(request["body_length"], body.to_string().len());
    let headers = request["headers"].as_array().expect("headers");
    assert!(headers.contains(&json!(["authorization", "Bearer k"])), "{headers:?}");
    let digest = <sha2::Sha256 as sha2::Digest>::digest(body.to_string());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(request["body_sha256"], digest);
    let unrecorded = Sandbox::new(false);
    assert!(unrecorded.last().is_empty());
}

#[tokio::test]
async fn embeddings_counts_and_lists_are_answered() {
    let (provider, client) = (Provider::start().await, h1());
    let post = |path: &'static str, body: Value| {
        let (provider, client) = (&provider, &client);
        async move {
            provider
                .post(client, path, &body)
                .await
                .expect("sent")
                .json::<Value>()
                .await
                .expect("JSON")
        }
    };
    let vectors = post(
        "/v1/embeddings",
        json!({"model": "e", "input": ["a b", "c"], "dimensions": 3}),
    )
    .await;
    assert_eq!(
        (
            vectors["data"].as_array().map(Vec::len),
            &vectors["usage"]["prompt_tokens"]
        ),
        (Some(2), &json!(3))
    );
    assert_eq!(vectors["data"][1]["embedding"].as_array().map(Vec::len), Some(3));
    let content = json!({"parts": [{"text": "a b c"}]});
    let vector = post("/v1beta/models/e:embedContent", json!({"content": content})).await;
    assert_eq!(vector["embedding"]["values"].as_array().map(Vec::len), Some(8));
    let vectors = post(
        "/v1beta/models/e:batchEmbedContents",
        json!({"requests": [{"content": content}, {"content": content}]}),
    )
    .await;
    assert_eq!(vectors["embeddings"].as_array().map(Vec::len), Some(2));
    assert_eq!(
        post("/v1beta/models/e:countTokens", json!({"contents": [content]})).await["totalTokens"],
        3
    );
    let (_, message) = ask("anthropic", "x", false);
    assert_eq!(post("/v1/messages/count_tokens", message).await["input_tokens"], 3);
    for (header, list, id) in [
        ("accept", "data", "id"),
        ("anthropic-version", "data", "display_name"),
        ("x-goog-api-key", "models", "displayName"),
    ] {
        let models = client
            .get(format!("{}/v1/models", provider.base))
            .header(header, "1")
            .send()
            .await
            .expect("sent");
        let models: Value = models.json().await.expect("JSON");
        assert_eq!(models[list][0][id], "small", "{header}: {models}");
    }
}

#[tokio::test]
async fn the_echo_streams_a_body_back() {
    let (provider, client) = (Provider::start().await, h2());
    let sent = vec![7_u8; 3 << 20];
    let answer = client
        .put(format!("{}/v1/any/_sandbox/echo", provider.base))
        .body(sent.clone())
        .send()
        .await
        .expect("sent");
    assert!(answer.bytes().await.expect("read") == sent, "the same bytes come back");
}

#[tokio::test]
async fn stopping_cuts_what_is_in_flight() {
    let mut provider = Provider::start().await;
    let client = h1();
    let (path, body) = ask("chat", "x,tokens=1000,pace=1s", true);
    let mut answer = provider.post(&client, &path, &body).await.expect("a header");
    answer.chunk().await.expect("a chunk");
    provider.stop.take().expect("running").send(()).expect("listening");
    (&mut provider.task).await.expect("joined").expect("served");
    assert!(answer.chunk().await.is_err(), "the stream is cut, not ended");
}

#[tokio::test]
async fn the_router_answers_the_same() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let base = format!("http://{}", listener.local_addr().expect("an address"));
    let router = Sandbox::new(false).router();
    let served = tokio::spawn(async move { axum::serve(listener, router).await });
    let client = h1();
    let (path, body) = ask("anthropic", "x,tokens=3", false);
    let answer = client
        .post(format!("{base}{path}"))
        .body(body.to_string())
        .send()
        .await
        .expect("sent");
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["usage"]["output_tokens"], 3);
    let (path, body) = ask("anthropic", "x,fault=reset", false);
    let answer = client.post(format!("{base}{path}")).body(body.to_string()).send().await;
    assert!(
        answer.is_err(),
        "reset closes the connection before the header here, too"
    );
    served.abort();
}
