//! Slow and hostile peers, and too many of them: one file per kind.

#![allow(
    unreachable_pub,
    dead_code,
    missing_docs,
    reason = "a test binary: its support is used by some tests only"
)]

mod bad_providers;
mod connections;
mod frames;
mod http2;
mod large_answers;
mod overload;
#[path = "../egress/pki.rs"]
mod pki;
mod slow_clients;
mod smuggling;
#[path = "../e2e/support/mod.rs"]
mod support;

use std::sync::Arc;

use parking_lot::Mutex;

use support::client::head;
use support::gateway::{Gateway, Options, provider_rules};
use support::provider::{Answer, Provider};

/// A good answer in the chat dialect.
pub const ANSWER: &str = "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\
    \"message\":{\"role\":\"assistant\",\"content\":\"GOOD\"},\"finish_reason\":\"stop\"}],\
    \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}";

/// An event of a stream in the chat dialect.
pub const EVENT: &str = "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\
    \"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";

/// The path of a chat.
pub const CHAT: &str = "/v1/chat/completions";

/// A chat request for this model.
pub fn chat(model: &str) -> Vec<u8> {
    format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}").into_bytes()
}

/// The header of a request with this key, whose body has this length.
pub fn head_of(key: &str, path: &str, length: usize) -> Vec<u8> {
    let (bearer, length) = (format!("Bearer {key}"), length.to_string());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
    ];
    head("POST", path, &headers)
}

/// A whole chat request, after which the connection stays.
pub fn request(key: &str, body: &[u8]) -> Vec<u8> {
    [head_of(key, CHAT, body.len()), body.to_vec()].concat()
}

/// How much was refused for this reason, of what is refused for want of room.
pub async fn shed(gateway: &Gateway, reason: &str) -> f64 {
    gateway
        .metric(&format!("tollgate_shed_total{{reason=\"{reason}\"}}"))
        .await
}

/// A good provider (models `good*`), one whose answers are scripted (all other models), and a gateway before both.
pub struct Setting {
    pub gateway: Gateway,
    pub good: Provider,
    pub bad: Provider,
    pub next: Arc<Mutex<Answer>>,
}

/// All of them, started.
pub async fn setting(options: Options) -> Setting {
    let good = Provider::start(|_| Answer::json(200, ANSWER)).await;
    let next = Arc::new(Mutex::new(Answer::json(200, ANSWER)));
    let script = next.clone();
    let bad = Provider::start(move |_| script.lock().clone()).await;
    let gateway = Gateway::start(Options {
        rules: rules(&good, &bad),
        ..options
    })
    .await;
    Setting {
        gateway,
        good,
        bad,
        next,
    }
}

fn rules(good: &Provider, bad: &Provider) -> Vec<(&'static str, String)> {
    vec![
        ("10.toml", provider_rules("good", good.address, "cooldown = \"off\"")),
        ("11.toml", provider_rules("bad", bad.address, "cooldown = \"off\"")),
        (
            "12.toml",
            format!(
                "[provider.narrow]\ndialects = {{ openai_chat = \"http://{}/v1\" }}\nauth = \"none\"\nhealth = \"off\"\ncooldown = \"off\"\n",
                bad.address
            ),
        ),
        (
            "20.toml",
            "[[route]]\nname = \"converted\"\nmodel = \"converted\"\ntargets = [{ provider = \"narrow\" }]\n\
             [[route]]\nname = \"good\"\nmodel = \"good*\"\ntargets = [{ provider = \"good\" }]\n\
             [[route]]\nname = \"either\"\nmodel = \"either\"\ntargets = [{ provider = \"bad\" }]\nfallback = [{ provider = \"good\" }]\n\
             [[route]]\nname = \"vital\"\nmodel = \"vital\"\ncritical = true\ntargets = [{ provider = \"bad\" }]\n\
             [[route]]\nname = \"bad\"\nmodel = \"*\"\ntargets = [{ provider = \"bad\" }]\n"
                .into(),
        ),
    ]
}
