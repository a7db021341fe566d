//! What routes and targets change in a body, and how their providers are asked.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Lines, World, dialect_of, json_of, member, plain, taken_by, with};
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::provider::{Answer, Step};

/// A body with odd spacing, a field of nobody's, an escape and a long number, and what stands in it as settings: temperature 1,
/// `top_p` 0.9, no limit, `stop`.
fn odd(dialect: Dialect) -> String {
    let own = r#""x_own": [1 , 2.50, 12345678901234567890123]"#;
    match dialect {
        Dialect::Chat => format!(
            r#"{{ "temperature" : 1 , {own},"model":"m","stop":["END"],"top_p" :0.9, "messages":[{{"role":"user","content":"Hi \u00e9"}}] }}"#
        ),
        Dialect::Responses => {
            format!(r#"{{ "temperature" : 1 , {own},"model":"m","user":"u","top_p" :0.9, "input":"Hi \u00e9" }}"#)
        }
        Dialect::Messages => format!(
            r#"{{ "temperature" : 1 , {own},"model":"m","stop_sequences":["END"],"top_p" :0.9, "messages":[{{"role":"user","content":"Hi \u00e9"}}] }}"#
        ),
        Dialect::Gemini => format!(
            r#"{{ {own}, "generationConfig" : {{ "temperature" : 1 ,"stopSequences":["END"],"topP" :0.9 }},"contents":[{{"role":"user","parts":[{{"text":"Hi \u00e9"}}]}}] }}"#
        ),
    }
}

async fn send(world: &World, dialect: Dialect, model: &str, body: &str) -> String {
    let body = body.replace("\"m\"", &format!("\"{model}\""));
    let reply = world.gateway.post(&dialect.path(model, false), body.as_bytes()).await;
    assert_eq!(reply.status, 200, "{dialect:?}, {model}: {}", reply.text());
    let body = String::from_utf8(world.provider.last().body).unwrap();
    body.replace(&format!("\"{model}\""), "\"m\"")
}

/// The value of a setting.
fn setting(dialect: Dialect, body: &Value, name: &str) -> Value {
    let config = match dialect {
        Dialect::Gemini => &body["generationConfig"],
        _ => body,
    };
    let names: &[&str] = match (name, dialect) {
        ("limit", Dialect::Chat) => &["max_tokens", "max_completion_tokens"],
        ("limit", Dialect::Responses) => &["max_output_tokens"],
        ("limit", Dialect::Messages) => &["max_tokens"],
        ("limit", Dialect::Gemini) => &["maxOutputTokens"],
        ("top_p", Dialect::Gemini) => &["topP"],
        ("stop", Dialect::Messages) => &["stop_sequences"],
        ("stop", Dialect::Gemini) => &["stopSequences"],
        ("stop", Dialect::Responses) => &["user"],
        (name, _) => return config[name].clone(),
    };
    let all: Vec<&Value> = names
        .iter()
        .map(|name| &config[name])
        .filter(|v| !v.is_null())
        .collect();
    assert!(all.len() <= 1, "one setting, said once: {body}");
    all.first().map_or(Value::Null, |value| (*value).clone())
}

const ROUTES: &str = r#"
[[route]]
name = "set"
model = "set"
targets = [{ provider = "p" }]
set = { temperature = 0.25 }

[[route]]
name = "nothing"
model = "nothing"
targets = [{ provider = "p" }]
default = { temperature = 0.25, top_p = 0.25 }
remove = ["service_tier", "x_other.deep"]

[[route]]
name = "all"
model = "all"
targets = [{ provider = "p", set = { top_p = 0.5 }, default = { presence_penalty = 0.5 } }]
set = { temperature = 0.25, x_new = { a = 1 } }
default = { max_output_tokens = 77 }
remove = ["stop", "user", "x_own"]

[[route]]
name = "limit"
model = "limit"
targets = [{ provider = "p" }]
set = { max_output_tokens = 50 }

[[route]]
name = "paths"
model = "paths"
targets = [{ provider = "p" }]
set = { x_a.b.c = true, x_d = { e = 1 }, "x_own" = "gone" }

[[route]]
name = "two"
model = "two"
targets = [{ provider = "bad", set = { temperature = 0.125 } }]
fallback = [{ provider = "p", remove = "temperature" }]
set = { temperature = 0.5, top_p = 0.5 }
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fields_are_set_given_a_default_and_removed() {
    let world = World::start(vec![member("p"), member("bad").more("cooldown = \"off\"")], ROUTES).await;
    world.say("bad", Answer::json(500, "{}"));
    for dialect in ALL {
        let odd = odd(dialect);
        // Only what is named changes, byte for byte.
        let body = send(&world, dialect, "set", &odd).await;
        assert_eq!(
            body,
            odd.replace("\"temperature\" : 1 ", "\"temperature\" : 0.25 "),
            "{dialect:?}"
        );
        let body = send(&world, dialect, "nothing", &odd).await;
        assert_eq!(body, odd, "{dialect:?}: nothing to change");

        let text = send(&world, dialect, "all", &odd).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        assert!(text.contains(r"Hi \u00e9"), "{dialect:?}: {text}");
        assert_eq!(setting(dialect, &body, "temperature"), 0.25, "{dialect:?}: {body}");
        assert_eq!(
            setting(dialect, &body, "top_p"),
            0.5,
            "{dialect:?}: the target's own: {body}"
        );
        assert_eq!(setting(dialect, &body, "limit"), 77, "{dialect:?}: {body}");
        assert_eq!(body["x_new"], json!({"a": 1}), "{dialect:?}");
        assert_eq!(setting(dialect, &body, "stop"), Value::Null, "{dialect:?}: {body}");
        assert!(body.get("x_own").is_none(), "{dialect:?}: {body}");
        let penalty = match dialect {
            Dialect::Chat => json!(0.5),
            // These don't have it: it is left out.
            _ => Value::Null,
        };
        assert_eq!(
            body.get("presence_penalty").unwrap_or(&Value::Null),
            &penalty,
            "{dialect:?}"
        );
        if dialect == Dialect::Gemini {
            assert_eq!(body["generationConfig"]["presencePenalty"], 0.5);
        }

        let text = send(&world, dialect, "paths", &odd).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(body["x_a"], json!({"b": {"c": true}}), "{dialect:?}: {body}");
        assert_eq!(
            (&body["x_d"], &body["x_own"]),
            (&json!({"e": 1}), &json!("gone")),
            "{dialect:?}"
        );

        let text = send(&world, dialect, "two", &odd).await;
        let body: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            setting(dialect, &body, "temperature"),
            Value::Null,
            "{dialect:?}: {body}"
        );
        assert_eq!(setting(dialect, &body, "top_p"), 0.5, "{dialect:?}: the route's");
        let all = world.provider.received();
        let first = json_of(&all[all.len() - 2]);
        assert_eq!(
            setting(dialect, &first, "temperature"),
            0.125,
            "{dialect:?}: the first one's own"
        );
    }
    // Both names of the limit are one: what the client says is replaced, not doubled.
    for name in ["max_tokens", "max_completion_tokens"] {
        let body = with(plain(Dialect::Chat, "limit"), json!({name: 9000}));
        world.send("/v1/chat/completions", &[], &body).await;
        let sent = json_of(&world.provider.last());
        assert_eq!(setting(Dialect::Chat, &sent, "limit"), 50, "{sent}");
    }
    // Something else stands where the rule expects an object.
    for dialect in ALL {
        world.provider.forget();
        let body = with(plain(dialect, "paths"), json!({"x_a": [1]}));
        let reply = world.send(&dialect.path("paths", false), &[], &body).await;
        dialect.check_refusal("an edit that fails", 400, &reply);
        assert!(reply.text().contains("x_a"), "{}", reply.text());
        assert_eq!(world.provider.count(), 0);
    }
}

/// Providers which speak one dialect each, and a route to each of them, named as they are.
fn one_each(more: &str) -> (Vec<super::Member>, String) {
    let names = ["c", "r", "a", "g"];
    let members = ALL
        .iter()
        .zip(names)
        .map(|(dialect, name)| member(name).speaks(&[*dialect]));
    let route = |name| {
        format!("[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\ntargets = [{{ provider = \"{name}\" }}]\n{more}\n")
    };
    (members.collect(), names.map(route).concat())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateways_words_reach_a_provider_of_another_format() {
    let (members, rules) = one_each(
        "set = { max_output_tokens = 77, temperature = 0.25, x_own = { a = 1 } }\ndefault = { top_p = 0.5 }\nremove = [\"stop\", \"user\"]",
    );
    let world = World::start(members, &rules).await;
    for client in ALL {
        for (upstream, name) in ALL.into_iter().zip(["c", "r", "a", "g"]) {
            let what = format!("{client:?} to {upstream:?}");
            for said in [false, true] {
                let mut body = plain(client, name);
                if said {
                    let more: Value =
                        serde_json::from_str(&odd(client).replace("\"m\"", &format!("\"{name}\""))).unwrap();
                    body = with(more, json!({}));
                    body.as_object_mut().unwrap().remove("x_own");
                }
                let reply = world.send(&client.path(name, false), &[], &body).await;
                assert_eq!(reply.status, 200, "{what}: {}", reply.text());
                let request = world.provider.last();
                assert_eq!(dialect_of(&request), upstream, "{what}");
                let sent = json_of(&request);
                assert_eq!(setting(upstream, &sent, "limit"), 77, "{what}: {sent}");
                assert_eq!(setting(upstream, &sent, "temperature"), 0.25, "{what}: {sent}");
                let top_p = if said { 0.9 } else { 0.5 };
                assert_eq!(setting(upstream, &sent, "top_p"), top_p, "{what}: {sent}");
                assert_eq!(setting(upstream, &sent, "stop"), Value::Null, "{what}: {sent}");
                assert_eq!(sent["x_own"], json!({"a": 1}), "{what}: {sent}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn losses_are_told_or_refused() {
    let (members, mut rules) = one_each("");
    rules +=
        "[[route]]\nname = \"strict\"\nmodel = \"strict\"\ntargets = [{ provider = \"a\" }]\non_loss = \"reject\"\n";
    let world = World::start(members, &rules).await;
    let lossy = |model| {
        with(
            plain(Dialect::Chat, model),
            json!({"logit_bias": {"50256": -100}, "max_tokens": 5}),
        )
    };
    let reply = world.send("/v1/chat/completions", &[], &lossy("a")).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(
        reply
            .header("x-tollgate-loss")
            .is_some_and(|loss| loss.contains("logit_bias")),
        "{:?}",
        reply.headers
    );
    world.provider.forget();
    let reply = world.send("/v1/chat/completions", &[], &lossy("strict")).await;
    Dialect::Chat.check_refusal("a loss", 400, &reply);
    let error = reply.json()["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&json!("conversion_loss"), &json!("logit_bias")),
        "{error}"
    );
    assert_eq!(world.provider.count(), 0, "before the provider is called");
    let body = with(plain(Dialect::Chat, "strict"), json!({"max_tokens": 5}));
    assert_eq!(
        world.taken("/v1/chat/completions", &[], &body).await,
        "strict",
        "nothing is lost"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn providers_are_asked_for_streams_as_the_route_says() {
    let mut rules = String::new();
    for mode in ["always", "never", "as_asked"] {
        rules += &format!(
            "[[route]]\nname = \"{mode}\"\nmodel = \"{mode}\"\ntargets = [{{ provider = \"p\" }}]\nupstream_stream = \"{mode}\"\n"
        );
    }
    let world = World::start(vec![member("p")], &rules).await;
    for dialect in ALL {
        for stream in [false, true] {
            for mode in ["always", "never", "as_asked"] {
                let what = format!("{dialect:?}, {mode}, stream {stream}");
                let reply = world.ask(dialect, mode, stream).await;
                assert_eq!((reply.status, reply.complete), (200, true), "{what}: {}", reply.text());
                let kind = if stream {
                    "text/event-stream"
                } else {
                    "application/json"
                };
                assert_eq!(reply.header("content-type"), Some(kind), "{what}");
                assert!(
                    !stream || reply.text().contains(dialect.last_word()),
                    "{what}: {}",
                    reply.text()
                );
                let request = world.provider.last();
                let asked = request.target.contains(":streamGenerate") || json_of(&request)["stream"] == true;
                let want = match mode {
                    "always" => true,
                    "never" => false,
                    _ => stream,
                };
                assert_eq!(asked, want, "{what}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn times_and_attempts_of_a_route() {
    let mut rules = String::new();
    for (name, lines) in [
        ("first", "timeouts = { first_byte = \"250ms\" }"),
        ("idle", "timeouts = { idle = \"250ms\" }"),
        ("total", "timeouts = { total = \"500ms\" }"),
        ("patient", ""),
        ("two", "attempts = 2"),
        ("four", "attempts = 4"),
        ("one", "attempts = 1"),
    ] {
        let others: Vec<String> = ["p", "q", "r", "s"].map(|p| format!("{{ provider = \"{p}\" }}")).into();
        let attempts = if lines.starts_with("attempts") {
            ""
        } else {
            "attempts = 1"
        };
        rules += &format!(
            "[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\ntargets = [{}]\n{attempts}\n{lines}\n",
            if attempts.is_empty() {
                others.join(", ")
            } else {
                others[0].clone()
            }
        );
    }
    // The route's own times go before the provider's, and those before the configuration's.
    let slow = member("p").more("cooldown = \"off\"\ntimeouts = { first_byte = \"20s\", idle = \"20s\" }");
    let members = vec![
        slow,
        member("q").more("cooldown = \"off\""),
        member("r").more("cooldown = \"off\""),
        member("s").more("cooldown = \"off\""),
    ];
    let lines = Lines {
        timeouts: "first_byte = \"50ms\"\nfirst_byte_whole = \"50ms\"\nidle = \"50ms\"",
        ..Lines::default()
    };
    let world = World::start_with(lines, members, &rules).await;
    for dialect in [Dialect::Messages, Dialect::Responses] {
        let whole = record(dialect, "sandbox/chat,tokens=20", true).await;
        let half = whole.len() * 2 / 3;
        let late = Duration::from_millis(1000);
        world.say("p", Answer::events([whole.clone()]).after(late));
        let reply = world.ask(dialect, "first", true).await;
        dialect.check_refusal("no first byte in time", 504, &reply);
        assert_eq!(
            taken_by(&world.ask(dialect, "patient", true).await),
            "patient",
            "{dialect:?}"
        );
        assert_eq!(taken_by(&world.ask(dialect, "idle", true).await), "idle", "{dialect:?}");

        let paused = || {
            vec![
                Step::Send(whole.slice(..half)),
                Step::Wait(late),
                Step::Send(whole.slice(half..)),
            ]
        };
        world.say("p", Answer::chunked("text/event-stream", paused()));
        for name in ["idle", "total"] {
            let reply = world.ask(dialect, name, true).await;
            assert_eq!(reply.status, 200, "{dialect:?}");
            dialect.check_broken_stream(name, &reply);
        }
        for name in ["first", "patient"] {
            let reply = world.ask(dialect, name, true).await;
            assert!(
                reply.text().contains(dialect.last_word()),
                "{dialect:?}, {name}: {}",
                reply.text()
            );
        }
    }
    for name in ["p", "q", "r", "s"] {
        world.say(name, Answer::json(500, "{\"error\":{\"message\":\"no\"}}"));
    }
    let began = Instant::now();
    for (name, count) in [("one", 1), ("two", 2), ("four", 4)] {
        world.provider.forget();
        let reply = world.ask(Dialect::Chat, name, false).await;
        assert_eq!(reply.status, 500, "{name}");
        assert_eq!(
            reply.header("x-tollgate-attempts"),
            Some(count.to_string().as_str()),
            "{name}"
        );
        assert_eq!(world.provider.count(), count, "{name}");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
    world.gateway.idle().await;
    let rows = world.gateway.rows().await;
    assert_eq!(
        rows.iter().filter(|row| row["route"] == "four").count(),
        4,
        "each has its row"
    );
}
