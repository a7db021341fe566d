//! Conditions on what stands outside of the prompt: name, dialect, operation, stream, key, header, address, share, time.

use std::collections::HashSet;
use std::net::SocketAddr;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use serde_json::json;
use tokio::net::TcpSocket;

use super::{Lines, World, member, plain, route, taken_by, word};
use crate::support::client::{Connection, head};
use crate::support::dialect::{ALL, Dialect};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_globs_and_lists_and_the_first_match_wins() {
    let rules = [
        route("exact", "\"m\"", ""),
        route("glob", "\"g-*\"", ""),
        route("one", "\"q?\"", ""),
        route("some", "\"s[ab]\"", ""),
        route("list", "[\"l1\", \"l2-*\", \"l{3,4}\"]", ""),
        route("later", "[\"g-later\", \"m*\"]", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    for (model, taken) in [
        ("m", "exact"),
        ("g-", "glob"),
        ("g-a/b:c", "glob"),
        ("g-later", "glob"),
        ("q1", "one"),
        ("sb", "some"),
        ("l1", "list"),
        ("l2-x", "list"),
        ("l4", "list"),
        ("mm", "later"),
        ("M", "404"),
        ("q12", "404"),
        ("q", "404"),
        ("sc", "404"),
        ("l5", "404"),
        ("xg-", "404"),
        ("glob", "404"),
    ] {
        for dialect in ALL {
            let reply = world.ask(dialect, model, false).await;
            assert_eq!(taken_by(&reply), taken, "{model}, {dialect:?}");
            if taken == "404" {
                dialect.check_refusal(model, 404, &reply);
                assert!(reply.text().contains(model), "it names the model: {}", reply.text());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dialect_operation_and_stream() {
    let mut rules = String::new();
    for dialect in ALL {
        rules += &route(
            &format!("of-{}", word(dialect)),
            "\"d\"",
            &format!("dialect = \"{}\"", word(dialect)),
        );
    }
    rules += &route("openais", "\"d2\"", "dialect = [\"openai_chat\", \"openai_responses\"]");
    rules += &route("others", "\"d2\"", "");
    rules += &route("counting", "\"o\"", "operation = \"count_tokens\"");
    rules += &route("embedding", "\"o\"", "operation = [\"embeddings\"]");
    rules += &route("chatting", "\"o\"", "operation = \"chat\"");
    rules += &route("streamed", "\"s\"", "stream = true");
    rules += &route("whole", "\"s\"", "stream = false");
    let world = World::start(vec![member("p")], &rules).await;
    for dialect in ALL {
        for stream in [false, true] {
            let taken = async |model| taken_by(&world.ask(dialect, model, stream).await);
            assert_eq!(taken("d").await, format!("of-{}", word(dialect)));
            let openai = matches!(dialect, Dialect::Chat | Dialect::Responses);
            assert_eq!(
                taken("d2").await,
                if openai { "openais" } else { "others" },
                "{dialect:?}"
            );
            assert_eq!(taken("o").await, "chatting", "{dialect:?}");
            assert_eq!(
                taken("s").await,
                if stream { "streamed" } else { "whole" },
                "{dialect:?}"
            );
        }
    }
    let contents = plain(Dialect::Gemini, "o");
    for (path, body, taken) in [
        ("/v1/messages/count_tokens", plain(Dialect::Messages, "o"), "counting"),
        ("/v1/responses/input_tokens", plain(Dialect::Responses, "o"), "counting"),
        ("/v1beta/models/o:countTokens", contents.clone(), "counting"),
        ("/v1/embeddings", json!({"model": "o", "input": "x"}), "embedding"),
        (
            "/v1beta/models/o:embedContent",
            json!({"content": {"parts": [{"text": "x"}]}}),
            "embedding",
        ),
        // The others have no such thing as tokens that are counted and streamed.
        ("/v1/messages/count_tokens", plain(Dialect::Messages, "s"), "whole"),
        (
            "/v1/messages/count_tokens",
            plain(Dialect::Messages, "d"),
            "of-anthropic",
        ),
        ("/v1beta/models/d:countTokens", contents, "of-gemini"),
    ] {
        assert_eq!(world.taken(path, &[], &body).await, taken, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks() {
    let world = World::start(vec![member("p")], &route("rest", "\"*\"", "")).await;
    let (id, by_id) = world.key("by id", None, &[]).await;
    let (_, by_name) = world.key("batch 7", None, &["slow"]).await;
    let (_, owned) = world.key("someone's", Some("team/research"), &[]).await;
    let (_, tagged) = world.key("tagged", Some("team/sales"), &["eu", "critical"]).await;
    let (_, nobody) = world.key("nobody", None, &[]).await;
    let rules = [
        route("id", "\"*\"", &format!("key = \"{id}\"")),
        route("name", "\"*\"", "key = [\"none such\", \"batch *\"]"),
        route("owner", "\"*\"", "owner = \"team/res*\""),
        // Both must hold.
        route("never", "\"*\"", "owner = \"team/*\", tag = \"slow\""),
        route("tag", "\"*\"", "tag = [\"us\", \"critical\"]"),
        route("rest", "\"*\"", ""),
    ];
    world.reload(&rules.concat()).await;
    for (key, taken) in [
        (&by_id, "id"),
        (&by_name, "name"),
        (&owned, "owner"),
        (&tagged, "tag"),
        (&nobody, "rest"),
        (&world.gateway.key, "rest"),
    ] {
        for dialect in ALL {
            let (header, value) = dialect.key_header(key);
            let headers = [(header, value.as_str()), ("content-type", "application/json")];
            let body = dialect.body("m", false);
            let path = dialect.path("m", false);
            let reply = crate::support::client::send(world.gateway.ports.http, "POST", &path, &headers, &body).await;
            assert_eq!(taken_by(&reply), taken, "{dialect:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers() {
    let rules = [
        route(
            "both",
            "\"*\"",
            "header = { x-team = \"research-*\", X-Stage = [\"dev\", \"test\"] }",
        ),
        route("agent", "\"*\"", "header = { user-agent = \"*Claude*\" }"),
        route("rest", "\"*\"", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    for (headers, taken) in [
        (&[("x-team", "research-7"), ("x-stage", "dev")][..], "both"),
        (&[("X-Team", "research-"), ("X-STAGE", "test")], "both"),
        (
            &[("x-team", "sales"), ("x-team", "research-1"), ("x-stage", "dev")],
            "both",
        ),
        (&[("x-team", "research-7")], "rest"),
        (&[("x-team", "research-7"), ("x-stage", "prod")], "rest"),
        (&[("x-team", "Research-7"), ("x-stage", "dev")], "rest"),
        (&[("x-stage", "dev")], "rest"),
        (&[("user-agent", "a Claude b")], "agent"),
        (&[], "rest"),
    ] {
        assert_eq!(world.chat("m", headers).await, taken, "{headers:?}");
    }
}

/// Asks from this address of the loopback.
async fn from(world: &World, address: &str, headers: &[(&str, &str)]) -> String {
    let socket = TcpSocket::new_v4().unwrap();
    socket
        .bind(format!("{address}:0").parse::<SocketAddr>().unwrap())
        .unwrap();
    let stream = socket.connect(world.gateway.ports.http).await.unwrap();
    let body = Dialect::Chat.body("m", false);
    let (bearer, length) = (world.gateway.bearer(), body.len().to_string());
    let mut all = vec![("authorization", bearer.as_str()), ("content-length", length.as_str())];
    all.extend_from_slice(headers);
    let mut connection = Connection::over(stream);
    let mut bytes = head("POST", "/v1/chat/completions", &all);
    bytes.extend_from_slice(&body);
    connection.send(&bytes).await;
    taken_by(&connection.reply().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clients_network_and_nobody_forges_it() {
    let rules = [
        route("office", "\"*\"", "client = [\"203.0.113.0/24\", \"2001:db8:1::/48\"]"),
        route("inside", "\"*\"", "client = [\"10.0.0.0/8\"]"),
        route("here", "\"*\"", "client = [\"127.0.0.9\"]"),
        route("proxies", "\"*\"", "client = [\"127.0.0.2/31\"]"),
        route("rest", "\"*\"", ""),
    ];
    let top = "trusted_proxies = [\"127.0.0.2\", \"10.9.0.0/16\"]\n\
               client_address = [{ header = \"cf-connecting-ip\", from = [\"127.0.0.3\"] }]\n";
    let lines = Lines {
        top,
        ..Lines::default()
    };
    let world = World::start_with(lines, vec![member("p")], &rules.concat()).await;
    let forwarded = |value: &'static str| vec![("x-forwarded-for", value)];
    let named = |value: &'static str| vec![("cf-connecting-ip", value)];
    for (address, headers, taken) in [
        // Nobody in between.
        ("127.0.0.9", vec![], "here"),
        ("127.0.0.1", vec![], "rest"),
        // A trusted proxy: the right-most hop which is not one counts.
        ("127.0.0.2", forwarded("203.0.113.5"), "office"),
        ("127.0.0.2", forwarded("10.1.2.3"), "inside"),
        ("127.0.0.2", forwarded("2001:db8:1::7"), "office"),
        ("127.0.0.2", forwarded("203.0.113.5, 198.51.100.1"), "rest"),
        ("127.0.0.2", forwarded("198.51.100.1, 203.0.113.5, 10.9.1.1"), "office"),
        (
            "127.0.0.2",
            vec![("x-forwarded-for", "10.1.2.3"), ("x-forwarded-for", "203.0.113.5")],
            "office",
        ),
        ("127.0.0.2", forwarded("203.0.113.5, nonsense"), "rest"),
        ("127.0.0.2", vec![], "proxies"),
        // Another header of this proxy is nothing to us.
        ("127.0.0.2", named("203.0.113.5"), "proxies"),
        // A proxy which names its client in a header of its own; X-Forwarded-For of it is not believed.
        ("127.0.0.3", named("203.0.113.5"), "office"),
        ("127.0.0.3", named("2001:db8:1::7"), "office"),
        (
            "127.0.0.3",
            vec![("cf-connecting-ip", "203.0.113.5"), ("x-forwarded-for", "10.1.2.3")],
            "office",
        ),
        (
            "127.0.0.3",
            vec![("cf-connecting-ip", "203.0.113.5"), ("cf-connecting-ip", "10.1.1.1")],
            "rest",
        ),
        ("127.0.0.3", named("nonsense"), "rest"),
        ("127.0.0.3", forwarded("203.0.113.5"), "proxies"),
        // Anybody else.
        ("127.0.0.9", forwarded("203.0.113.5"), "here"),
        ("127.0.0.9", named("203.0.113.5"), "here"),
        (
            "127.0.0.1",
            vec![("cf-connecting-ip", "10.1.1.1"), ("x-forwarded-for", "10.1.1.1")],
            "rest",
        ),
        (
            "127.0.0.1",
            vec![("x-real-ip", "10.1.1.1"), ("forwarded", "for=10.1.1.1")],
            "rest",
        ),
    ] {
        assert_eq!(from(&world, address, &headers).await, taken, "{address} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_percentage_is_about_right_and_sticks() {
    let rules = [
        route("third", "\"s\"", "percent = 30"),
        route("tenth", "\"k\"", "percent = 12.5, percent_by = \"key\""),
        route("half", "\"r\"", "percent = 50, percent_by = \"request\""),
        route("all", "\"a\"", "percent = 100"),
        route("rest", "\"*\"", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    // Deviation of a share of 30 % of 1,000: 14.5; five of them.
    let mut inside = HashSet::new();
    for session in 0..1000 {
        let name = format!("session-{session}");
        if world.chat("s", &[("x-session-id", &name)]).await == "third" {
            inside.insert(name);
        }
    }
    assert!((228..=372).contains(&inside.len()), "30 % of 1,000: {}", inside.len());
    for session in (0..1000).step_by(7) {
        let name = format!("session-{session}");
        let again = world.chat("s", &[("x-session-id", &name)]).await == "third";
        assert_eq!(again, inside.contains(&name), "{name} stays on its side");
    }
    // Claude Code names its session otherwise, the chat dialect in the body.
    for (path, headers, body) in [
        (
            "/v1/messages",
            vec![("x-claude-code-session-id", "c")],
            plain(Dialect::Messages, "s"),
        ),
        (
            "/v1/chat/completions",
            vec![],
            super::with(plain(Dialect::Chat, "s"), json!({"prompt_cache_key": "c"})),
        ),
    ] {
        let mut seen = HashSet::new();
        for _ in 0..10 {
            seen.insert(world.taken(path, &headers, &body).await);
        }
        assert_eq!(seen.len(), 1, "{path}");
    }
    // Without a session a key stays on one side; by key, sessions say nothing.
    for model in ["s", "k"] {
        let mut seen = HashSet::new();
        for session in 0..40 {
            let name = format!("session-{session}");
            let headers = [("x-session-id", name.as_str())];
            let headers = if model == "k" { &headers[..] } else { &[] };
            seen.insert(world.chat(model, headers).await);
        }
        assert_eq!(seen.len(), 1, "{model}");
    }
    let mut half = 0;
    for _ in 0..400 {
        half += usize::from(world.chat("r", &[]).await == "half");
        assert_eq!(world.chat("a", &[]).await, "all");
    }
    // Deviation: 10.
    assert!((150..=250).contains(&half), "50 % of 400: {half}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_of_day() {
    // A window of some hours around now, so that the test may take its time.
    let hours = |zone: &TimeZone, from: i64, to: i64| {
        let at = |hours: i64| (Timestamp::now() + hours.hours()).to_zoned(zone.clone());
        let (from, to) = (at(from), at(to));
        let day = from.weekday().to_monday_zero_offset() as usize;
        (
            format!(
                "from = \"{}\", to = \"{}\"",
                from.strftime("%H:%M"),
                to.strftime("%H:%M")
            ),
            ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][day],
        )
    };
    let there = TimeZone::get("Asia/Kathmandu").unwrap();
    let (now, day) = hours(&TimeZone::UTC, -2, 2);
    let (other, _) = hours(&TimeZone::UTC, 3, 20);
    let (now_there, _) = hours(&there, -2, 2);
    let (other_there, _) = hours(&there, 3, 20);
    let all = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
    let others: Vec<String> = all.iter().filter(|d| **d != day).map(|d| format!("\"{d}\"")).collect();
    let rules = [
        route("utc", "\"a\"", &format!("time = {{ {now} }}")),
        route("not-utc", "\"b\"", &format!("time = {{ {other} }}")),
        route(
            "there",
            "\"c\"",
            &format!("time = {{ {now_there}, zone = \"Asia/Kathmandu\" }}"),
        ),
        route(
            "not-there",
            "\"d\"",
            &format!("time = {{ {other_there}, zone = \"Asia/Kathmandu\" }}"),
        ),
        route("today", "\"e\"", &format!("time = {{ {now}, days = [\"{day}\"] }}")),
        route(
            "another-day",
            "\"f\"",
            &format!("time = {{ {now}, days = [{}] }}", others.join(", ")),
        ),
        route("rest", "\"*\"", ""),
    ];
    let world = World::start(vec![member("p")], &rules.concat()).await;
    for (model, taken) in [
        ("a", "utc"),
        ("b", "rest"),
        ("c", "there"),
        ("d", "rest"),
        ("e", "today"),
        ("f", "rest"),
    ] {
        assert_eq!(world.chat(model, &[]).await, taken, "{model}: {}", rules.concat());
    }
}
