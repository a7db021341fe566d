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
mod overload;
#[path = "../egress/pki.rs"]
mod pki;
mod slow_clients;
mod smuggling;
#[path = "../e2e/support/mod.rs"]
mod support;

use std::sync::Arc;

use parking_lot::Mutex;

use support::gateway::{Gateway, Options, provider_rules};
use support::provider::{Answer, Provider};

/// A good answer in the chat dialect.
pub const ANSWER: &str = "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\
    \"message\":{\"role\":\"assistant\",\"content\":\"GOOD\"},\"finish_reason\":\"stop\"}],\
    \"usage\":{\"prompt_tokens\":1,\"completion_tokens\":1,\"total_tokens\":2}}";

/// The path of a chat.
pub const CHAT: &str = "/v1/chat/completions";

/// A chat request for this model.
pub fn chat(model: &str) -> Vec<u8> {
    format!("{{\"model\":\"{model}\",\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}").into_bytes()
}

/// A good provider (models `good*`), one whose answers are scripted (all other models), and a gateway before both.
pub struct Setting {
    pub gateway: Gateway,
    pub good: Provider,
    pub bad: Provider,
    pub next: Arc<Mutex<Answer>>,
}

/// `more`: lines of the scripted provider.
pub async fn setting(options: Options, more: &str) -> Setting {
    let good = Provider::start(|_| Answer::json(200, ANSWER)).await;
    let next = Arc::new(Mutex::new(Answer::json(200, ANSWER)));
    let script = next.clone();
    let bad = Provider::start(move |_| script.lock().clone()).await;
    let gateway = Gateway::start(Options {
        rules: rules(&good, &bad, more),
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

pub fn rules(good: &Provider, bad: &Provider, more: &str) -> Vec<(&'static str, String)> {
    vec![
        ("10.toml", provider_rules("good", good.address, "cooldown = \"off\"")),
        (
            "11.toml",
            provider_rules("bad", bad.address, &format!("cooldown = \"off\"\n{more}")),
        ),
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
             [[route]]\nname = \"vital\"\nmodel = \"vital\"\ncritical = true\ntargets = [{ provider = \"bad\" }]\n\
             [[route]]\nname = \"bad\"\nmodel = \"*\"\ntargets = [{ provider = \"bad\" }]\n"
                .into(),
        ),
    ]
}
