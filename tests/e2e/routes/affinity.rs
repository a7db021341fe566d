//! Conversations stay where they began, so that the provider's prompt cache hits, and move only when they must.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{World, asking, member, plain, with};
use crate::support::dialect::{ALL, Dialect};
use crate::support::noise;

const ROUTES: &str = r#"
[[route]]
name = "auto"
model = "auto"
targets = [{ provider = "a" }, { provider = "b" }]

[[route]]
name = "session"
model = "session"
affinity = "session"
targets = [{ provider = "a" }, { provider = "b" }]

[[route]]
name = "off"
model = "off"
affinity = "off"
targets = [{ provider = "a" }, { provider = "b" }]

[[route]]
name = "models"
model = "models"
targets = [{ provider = "a", model = "m1" }, { provider = "a", model = "m2" }]
"#;

/// Two providers with two credentials each: four seats.
async fn world() -> World {
    let two = |name| member(name).credentials(&[("one", ""), ("two", "")]);
    World::start(vec![two("a"), two("b")], ROUTES).await
}

/// The seats that so many requests get, in order.
async fn seats(
    world: &World,
    dialect: Dialect,
    model: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for turn in 0..8 {
        let path = dialect.path(model, false);
        let reply = world.send(&path, headers, body).await;
        assert_eq!(reply.status, 200, "turn {turn}: {}", reply.text());
        let (provider, credential) = world.seat();
        seen.insert(format!("{provider}/{credential}"));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_and_others_spread() {
    let world = world().await;
    for dialect in ALL {
        for model in ["auto", "session"] {
            let mut all = BTreeSet::new();
            for session in 0..12 {
                let name = format!("{dialect:?}-{session}");
                let seen = seats(
                    &world,
                    dialect,
                    model,
                    &[("x-session-id", &name)],
                    &plain(dialect, model),
                )
                .await;
                assert_eq!(seen.len(), 1, "{dialect:?}, {model}, {name}: {seen:?}");
                all.extend(seen);
            }
            assert_eq!(all.len(), 4, "{dialect:?}, {model}: sessions spread: {all:?}");
            let seen = seats(&world, dialect, model, &[], &plain(dialect, model)).await;
            assert_eq!(seen.len(), 4, "{dialect:?}, {model}: who has none spreads: {seen:?}");
        }
        let seen = seats(&world, dialect, "off", &[("x-session-id", "s")], &plain(dialect, "off")).await;
        assert_eq!(seen.len(), 4, "{dialect:?}: affinity is off: {seen:?}");
    }
    let kept = world.gateway.metric("tollgate_affinity_total{result=\"stayed\"}").await;
    assert!(kept >= 600.0, "{kept}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_name_their_sessions_in_their_ways() {
    let world = world().await;
    let id = "0f9c1de2-7c1f-4f4e-9d9f-1b2c3d4e5f60";
    let user = format!("user_0a1b_account__session_{id}");
    let headers: [(Dialect, &str); 9] = [
        (Dialect::Messages, "x-claude-code-session-id"),
        (Dialect::Responses, "session_id"),
        (Dialect::Responses, "session-id"),
        (Dialect::Responses, "conversation_id"),
        (Dialect::Responses, "thread_id"),
        (Dialect::Chat, "x-session-affinity"),
        (Dialect::Chat, "x-conversation-id"),
        (Dialect::Gemini, "x-session-id"),
        (Dialect::Chat, "X-Session-Id"),
    ];
    for (dialect, header) in headers {
        for other in ["1", "2", "3"] {
            let value = format!("{id}-{other}");
            let seen = seats(
                &world,
                dialect,
                "session",
                &[(header, &value)],
                &plain(dialect, "session"),
            )
            .await;
            assert_eq!(seen.len(), 1, "{dialect:?}, {header}: {seen:?}");
        }
    }
    for (dialect, more) in [
        (Dialect::Chat, json!({"prompt_cache_key": id})),
        (Dialect::Responses, json!({"prompt_cache_key": id})),
        (Dialect::Messages, json!({"metadata": {"user_id": user}})),
        (Dialect::Gemini, json!({"cachedContent": "cachedContents/a"})),
    ] {
        let body = with(plain(dialect, "session"), more);
        let seen = seats(&world, dialect, "session", &[], &body).await;
        assert_eq!(seen.len(), 1, "{body}: {seen:?}");
    }
    // What is no session's name.
    for (dialect, headers, more) in [
        (Dialect::Chat, vec![("x-claude-code-session-id", id)], json!({})),
        (Dialect::Messages, vec![], json!({"metadata": {"user_id": "user-17"}})),
        (
            Dialect::Chat,
            vec![("x-session-id", " ")],
            json!({"prompt_cache_key": ""}),
        ),
    ] {
        let body = with(plain(dialect, "session"), more);
        let seen = seats(&world, dialect, "session", &headers, &body).await;
        assert_eq!(seen.len(), 4, "{body}: {seen:?}");
    }
}

/// A conversation of so many turns after a long beginning.
fn growing(dialect: Dialect, model: &str, beginning: &str, turns: usize) -> Value {
    let said = |turn: usize| {
        (
            if turn.is_multiple_of(2) { "user" } else { "assistant" },
            format!("This is turn {turn} of ours, not short."),
        )
    };
    let messages: Vec<Value> = (0..=2 * turns)
        .map(said)
        .map(|(role, text)| match dialect {
            Dialect::Gemini if role == "assistant" => json!({"role": "model", "parts": [{"text": text}]}),
            Dialect::Gemini => json!({"role": role, "parts": [{"text": text}]}),
            _ => json!({"role": role, "content": text}),
        })
        .collect();
    match dialect {
        Dialect::Chat => {
            let mut all = vec![json!({"role": "system", "content": beginning})];
            all.extend(messages);
            json!({"model": model, "messages": all})
        }
        Dialect::Responses => json!({"model": model, "instructions": beginning, "input": messages}),
        Dialect::Messages => json!({"model": model, "max_tokens": 9, "system": beginning, "messages": messages}),
        Dialect::Gemini => json!({"systemInstruction": {"parts": [{"text": beginning}]}, "contents": messages}),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_beginning_names_a_conversation() {
    let world = world().await;
    for dialect in ALL {
        let mut all = BTreeSet::new();
        for conversation in 0..10 {
            let beginning = String::from_utf8(noise(6000, 77 + conversation)).unwrap();
            let mut seen = BTreeSet::new();
            for turns in 0..6 {
                let body = growing(dialect, "auto", &beginning, turns);
                seen.extend(seats_once(&world, dialect, "auto", &body).await);
            }
            assert_eq!(seen.len(), 1, "{dialect:?}: it grows, and stays: {seen:?}");
            all.extend(seen);
        }
        assert_eq!(all.len(), 4, "{dialect:?}: others go elsewhere: {all:?}");
        for (model, length) in [("session", 6000), ("auto", 1000), ("off", 6000)] {
            let beginning = String::from_utf8(noise(length, 3)).unwrap();
            let mut seen = BTreeSet::new();
            for turns in 0..8 {
                let body = growing(dialect, model, &beginning, turns);
                seen.extend(seats_once(&world, dialect, model, &body).await);
            }
            assert_eq!(seen.len(), 4, "{dialect:?}, {model}, {length} bytes: {seen:?}");
        }
    }
}

async fn seats_once(world: &World, dialect: Dialect, model: &str, body: &Value) -> Vec<String> {
    let reply = world.send(&dialect.path(model, false), &[], body).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let (provider, credential) = world.seat();
    vec![format!("{provider}/{credential}")]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_moves_when_its_credential_is_taken_out_and_stays_there() {
    let world = world().await;
    for dialect in ALL {
        let session = format!("moving-{dialect:?}");
        let headers = [("x-session-id", session.as_str())];
        let body = plain(dialect, "auto");
        let first = seats(&world, dialect, "auto", &headers, &body)
            .await
            .pop_first()
            .unwrap();
        let set = async |what: &str| {
            let path = format!("/api/v1/credentials/{first}/{what}");
            let reply = world.gateway.admin("POST", &path, None).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
        };
        set("disable").await;
        let second = seats(&world, dialect, "auto", &headers, &body).await;
        assert_eq!(second.len(), 1, "{dialect:?}: it moved once: {second:?}");
        assert!(!second.contains(&first), "{dialect:?}");
        set("enable").await;
        assert_eq!(
            seats(&world, dialect, "auto", &headers, &body).await,
            second,
            "{dialect:?}: and stays"
        );
    }
    // A reload forgets nothing.
    let headers = [("x-session-id", "reloaded")];
    let body = asking(Dialect::Chat, "auto", "Hi");
    let before = seats(&world, Dialect::Chat, "auto", &headers, &body).await;
    world.reload(&format!("{ROUTES}\n[alias]\nx = \"auto\"\n")).await;
    assert_eq!(seats(&world, Dialect::Chat, "auto", &headers, &body).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_stays_too_and_keys_have_sessions_of_their_own() {
    let world = world().await;
    let mut all = BTreeSet::new();
    for session in 0..12 {
        let name = format!("session-{session}");
        let mut seen = BTreeSet::new();
        for _ in 0..5 {
            seen.insert(world.chat("models", &[("x-session-id", &name)]).await);
        }
        assert_eq!(seen.len(), 1, "{name}: {seen:?}");
        all.extend(seen);
    }
    assert_eq!(all.len(), 2, "{all:?}");
    // The same name said by many keys is as many conversations.
    let mut all = BTreeSet::new();
    for n in 0..10 {
        let (_, key) = world.key(&format!("key {n}"), None, &[]).await;
        let bearer = format!("Bearer {key}");
        let headers = [("authorization", bearer.as_str()), ("x-session-id", "the same")];
        let body = Dialect::Chat.body("auto", false);
        let http = world.gateway.ports.http;
        let mut seen = BTreeSet::new();
        for _ in 0..4 {
            let reply = crate::support::client::send(http, "POST", "/v1/chat/completions", &headers, &body).await;
            assert_eq!(reply.status, 200, "{}", reply.text());
            seen.insert(world.seat());
        }
        assert_eq!(seen.len(), 1, "{seen:?}");
        all.extend(seen);
    }
    assert!(all.len() > 1, "{all:?}");
}
