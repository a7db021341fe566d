//! The examples in `rules/20-routes.toml` do what they say, once their `#` is taken out.

use serde_json::{Value, json};

use super::{World, asking, member, plain, taken_by, with};
use crate::support::client;
use crate::support::dialect::{ALL, Dialect};
use crate::support::provider::Answer;

/// The examples, as who takes out their `#` has them.
fn examples() -> String {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("rules/20-routes.toml");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, text) = text.split_once("# Examples.").expect("examples");
    let lines = text
        .lines()
        .take_while(|line| line.starts_with('#') || line.is_empty() || line.starts_with(" Take"));
    let code = lines.filter_map(|line| line.strip_prefix("#   "));
    code.map(|line| format!("{line}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_do_what_they_say() {
    let rules = examples();
    assert!(rules.matches("[[route]]").count() >= 8, "{rules}");
    let off = "cooldown = \"off\"";
    let names = ["openai", "anthropic", "gemini", "deepseek", "siliconflow"];
    // One of them is chosen by the price; the shipped table has it.
    let prices = "[[price]]\nname = \"gpt-4.1-mini\"\ninput = 0.4\noutput = 1.6\n[[price]]\nname = \"gemini-2.5-flash-lite\"\ninput = 0.1\noutput = 0.4\n";
    let world = World::start(
        names.map(|name| member(name).more(off)).into(),
        &format!("{rules}\n{prices}"),
    )
    .await;

    let mut shares = [0, 0];
    for turn in 0..40 {
        let name = if turn % 2 == 0 { "fast" } else { "gpt-3.5-turbo" };
        let reply = world.ask(ALL[turn % 4], name, false).await;
        match taken_by(&reply).as_str() {
            "deepseek-flash" => shares[0] += 1,
            "deepseek-ai/DeepSeek-V4-Flash" => shares[1] += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(shares, [30, 10], "three quarters, and the other name counts with it");

    // At night in Beijing there is one more route, and a twentieth of conversations is tried elsewhere: by their names,
    // which are found here.
    let mut trials = 0;
    for session in 0..400 {
        let name = format!("session {session}");
        trials += usize::from(world.chat("auto", &[("x-session-id", &name)]).await == "gpt-6-luna");
    }
    // Deviation: 4.4.
    assert!((2..=44).contains(&trials), "5 % of 400: {trials}");
    let mut untried = None;
    for session in 0..400 {
        let name = format!("session {session}");
        if world.chat("auto", &[("x-session-id", &name)]).await != "gpt-6-luna" {
            untried = Some(name);
            break;
        }
    }
    let session = untried.unwrap();
    let headers = [("x-session-id", session.as_str())];
    let send = async |body: Value| world.taken("/v1/chat/completions", &headers, &body).await;
    let chat = |text: &str| asking(Dialect::Chat, "auto", text);

    let image = json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]);
    let picture = json!({"messages": [{"role": "user", "content": image}]});
    assert_eq!(send(with(chat(""), picture)).await, "gemini-3.5-flash");
    for text in [
        "```\nfn main() {}\n```",
        "Please Refactor this",
        "what does this stack trace say",
    ] {
        assert_eq!(send(chat(text)).await, "gpt-5.3-codex", "{text}");
    }
    let too_long =
        json!({"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}});
    world.say("openai", Answer::json(400, too_long.to_string()));
    assert_eq!(
        world
            .send("/v1/chat/completions", &headers, &chat("compile it"))
            .await
            .status,
        400
    );
    let asked = world
        .provider
        .received()
        .iter()
        .rev()
        .take(2)
        .map(super::json_of)
        .collect::<Vec<_>>();
    assert_eq!(
        [&asked[1]["model"], &asked[0]["model"]],
        ["gpt-5.3-codex", "gpt-5.5"],
        "what is too long goes on"
    );
    world.all_well();

    let short = send(chat("What is the capital of France?")).await;
    let sent = super::json_of(&world.provider.last());
    if short != "deepseek-v4-pro" {
        assert_eq!(short, "gemini-2.5-flash-lite", "the cheapest");
        assert_eq!(world.seat().0, "gemini");
        assert!(
            sent.to_string().contains("Answer in three sentences at most."),
            "{sent}"
        );
        assert!(sent.to_string().contains("1000"), "{sent}");
        let long = send(chat(&"word ".repeat(4000))).await;
        assert_eq!(long, "claude-sonnet-5", "all the rest");
    }

    // Traffic which must not fail.
    let (_, key) = world.key("critical", None, &["critical"]).await;
    let bearer = format!("Bearer {key}");
    for broken in [vec![], vec!["openai"], vec!["openai", "anthropic"]] {
        world.all_well();
        for name in &broken {
            world.say(name, Answer::json(500, "{}"));
        }
        for _ in 0..4 {
            let headers = [("authorization", bearer.as_str())];
            let body = plain(Dialect::Messages, "auto").to_string();
            let reply = client::send(
                world.gateway.ports.http,
                "POST",
                "/v1/messages",
                &headers,
                body.as_bytes(),
            )
            .await;
            let taken = taken_by(&reply);
            let want: &[&str] = match broken.len() {
                0 => &["gpt-5.5", "claude-sonnet-5"],
                1 => &["claude-sonnet-5"],
                _ => &["gemini-3.1-pro-preview"],
            };
            assert!(want.contains(&taken.as_str()), "{broken:?}: {taken}");
        }
    }
}
