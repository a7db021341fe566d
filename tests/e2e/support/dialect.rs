//! What clients of the four dialects say, and how an error looks to them.

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tollgate::sandbox::{self, Sandbox};

use super::client::{self, Reply};

/// A dialect, as its clients know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    Chat,
    Responses,
    Messages,
    Gemini,
}

/// All of them.
pub const ALL: [Dialect; 4] = [Dialect::Chat, Dialect::Responses, Dialect::Messages, Dialect::Gemini];

impl Dialect {
    pub fn path(self, model: &str, stream: bool) -> String {
        match self {
            Dialect::Chat => "/v1/chat/completions".into(),
            Dialect::Responses => "/v1/responses".into(),
            Dialect::Messages => "/v1/messages".into(),
            Dialect::Gemini if stream => format!("/v1beta/models/{model}:streamGenerateContent?alt=sse"),
            Dialect::Gemini => format!("/v1beta/models/{model}:generateContent"),
        }
    }

    /// A request, with the model's place in the middle and room for odd spacing.
    pub fn body(self, model: &str, stream: bool) -> Vec<u8> {
        let streams = match (self, stream) {
            // Asked for usage here, so that the gateway has no reason to ask itself and withhold it.
            (Dialect::Chat, true) => ", \"stream\" : true, \"stream_options\":{\"include_usage\":true}",
            (_, true) => ", \"stream\" : true",
            _ => "",
        };
        match self {
            Dialect::Chat => format!("{{ \"messages\":[{{\"role\":\"user\",\"content\":\"Hi \\u00e9 \u{1f600}\"}}] ,\n \"model\" : \"{model}\"{streams} }}"),
            Dialect::Responses => format!("{{\"input\":\"Hi there\",  \"model\":\"{model}\"{streams}}}"),
            Dialect::Messages => format!("{{\"max_tokens\":64,\"model\":\"{model}\"{streams},\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}"),
            Dialect::Gemini => "{\"contents\":[{\"role\":\"user\",\"parts\":[{\"text\":\"Hi\"}]}]}".to_owned(),
        }
        .into_bytes()
    }

    /// The header in which its SDKs send the key.
    pub fn key_header(self, key: &str) -> (&'static str, String) {
        match self {
            Dialect::Chat | Dialect::Responses => ("authorization", format!("Bearer {key}")),
            Dialect::Messages => ("x-api-key", key.to_owned()),
            Dialect::Gemini => ("x-goog-api-key", key.to_owned()),
        }
    }

    /// The header in which its provider is given ours.
    pub fn provider_key_header(self) -> &'static str {
        match self {
            Dialect::Chat | Dialect::Responses => "authorization",
            Dialect::Messages => "x-api-key",
            Dialect::Gemini => "x-goog-api-key",
        }
    }

    /// What only a stream that ended well holds. (The chat dialect's `[DONE]` follows; some providers leave it out.)
    pub fn last_word(self) -> &'static str {
        match self {
            Dialect::Chat => "\"finish_reason\":\"stop\"",
            Dialect::Responses => "response.completed",
            Dialect::Messages => "message_stop",
            Dialect::Gemini => "finishReason",
        }
    }

    /// Fails unless `error` is an error body of this dialect.
    pub fn check_error(self, status: u16, error: &Value) {
        let shaped = match self {
            Dialect::Chat | Dialect::Responses => {
                error["error"]["message"].is_string()
                    && error["error"]["type"].is_string()
                    && error["error"].get("code").is_some()
            }
            Dialect::Messages => {
                error["type"] == "error" && error["error"]["type"].is_string() && error["error"]["message"].is_string()
            }
            Dialect::Gemini => {
                error["error"]["code"] == json!(status)
                    && error["error"]["status"].is_string()
                    && error["error"]["message"].is_string()
            }
        };
        assert!(shaped, "{self:?}: not its shape of an error: {error}");
    }

    /// Fails unless `reply` is an error of this status in this dialect.
    pub fn check_refusal(self, what: &str, status: u16, reply: &Reply) {
        assert_eq!(reply.status, status, "{what}, {self:?}: {}", reply.text());
        assert_eq!(
            reply.header("content-type"),
            Some("application/json"),
            "{what}, {self:?}"
        );
        assert!(reply.complete, "{what}, {self:?}: the answer comes whole");
        assert!(reply.header("x-request-id").is_some(), "{what}, {self:?}: it has an id");
        self.check_error(status, &reply.json());
    }

    /// The last event of a stream, as JSON. (The chat dialect's `[DONE]` is no JSON: null.)
    pub fn last_event(self, body: &[u8]) -> Value {
        let text = String::from_utf8_lossy(body);
        let data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data:")).collect();
        serde_json::from_str(data.last().expect("an event").trim()).unwrap_or(Value::Null)
    }

    /// Fails unless a broken stream's last event is an error, and nothing of it looks like a good end.
    pub fn check_broken_stream(self, what: &str, reply: &Reply) {
        let text = reply.text();
        assert!(
            !text.contains(self.last_word()) && !text.contains("[DONE]"),
            "{what}, {self:?}: a broken stream must not look complete: {text}"
        );
        let last = self.last_event(&reply.body);
        let error = match self {
            Dialect::Chat | Dialect::Gemini => last["error"]["message"].is_string(),
            Dialect::Responses => last["type"] == "error" || last["type"] == "response.failed",
            Dialect::Messages => last["type"] == "error" && last["error"]["message"].is_string(),
        };
        assert!(error, "{what}, {self:?}: the last event tells the error: {text}");
    }
}

/// What the sandbox provider answers, asked without a gateway: recordings for the scripted provider.
pub async fn record(dialect: Dialect, model: &str, stream: bool) -> Bytes {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (_keep, stop) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(sandbox::serve(
        listener,
        Sandbox::new(false),
        std::future::pending(),
        async {
            let _ = stop.await;
        },
    ));
    let reply = client::send(
        address,
        "POST",
        &dialect.path(model, stream),
        &[("content-type", "application/json")],
        &dialect.body(model, stream),
    )
    .await;
    server.abort();
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.body.into()
}

/// `body` cut into pieces of these sizes, in turn.
pub fn cut(body: &Bytes, sizes: &[usize]) -> Vec<Bytes> {
    let (mut rest, mut pieces, mut turn) = (body.clone(), Vec::new(), 0);
    while !rest.is_empty() {
        pieces.push(rest.split_to(sizes[turn % sizes.len()].min(rest.len())));
        turn += 1;
    }
    pieces
}
