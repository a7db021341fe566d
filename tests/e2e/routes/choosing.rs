//! Which of a route's targets is asked: weights, strategies, fallbacks, what is required, tags of credentials.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use serde_json::{Value, json};

use super::{SLOWLY, World, asking, member, plain, seat, taken_by, with};
use crate::support::client;
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::provider::{Answer, Received};
use crate::support::until;

/// A route with these targets: lines of TOML.
fn to(name: &str, targets: &[&str], more: &str) -> String {
    let targets: Vec<String> = targets.iter().map(|target| format!("{{ {target} }}")).collect();
    format!(
        "[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\ntargets = [{}]\n{more}\n",
        targets.join(", ")
    )
}

fn at(provider: &str) -> String {
    format!("provider = \"{provider}\"")
}

fn counted(pairs: &[(&str, usize)]) -> HashMap<String, usize> {
    pairs.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
}

async fn ask(world: &World, model: &str, times: usize) {
    for turn in 0..times {
        let dialect = ALL[turn % 4];
        let reply = world.ask(dialect, model, turn % 3 == 0).await;
        assert_eq!(reply.status, 200, "{model}: {}", reply.text());
    }
}

async fn credential(world: &World, provider: &str, name: &str, what: &str) {
    let path = format!("/api/v1/credentials/{provider}/{name}/{what}");
    let reply = world.gateway.admin("POST", &path, None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_and_turns_are_exact() {
    let all = [
        "provider = \"a\", weight = 3",
        "provider = \"b\"",
        "provider = \"c\", weight = 0",
    ];
    let more = "[[route]]\nname = \"seats\"\nmodel = \"seats\"\ntargets = [{ provider = \"d\" }]\n\
                [[route]]\nname = \"turns\"\nmodel = \"turns\"\nstrategy = \"round_robin\"\ntargets = [{ provider = \"d\" }]\n";
    let rules = to("weighted", &all, "") + &to("round", &all[..2], "strategy = \"round_robin\"") + more;
    let members = vec![
        member("a"),
        member("b"),
        member("c"),
        member("d").credentials(&[("one", "weight = 4"), ("two", "weight = 1"), ("none", "weight = 0")]),
    ];
    let world = World::start(members, &rules).await;
    ask(&world, "weighted", 80).await;
    assert_eq!(world.calls(), counted(&[("a", 60), ("b", 20)]));
    ask(&world, "round", 30).await;
    assert_eq!(world.calls(), counted(&[("a", 15), ("b", 15)]), "whatever they weigh");
    for (model, shares) in [("seats", [40, 10, 0]), ("turns", [25, 25, 0])] {
        ask(&world, model, 50).await;
        let mut counts = [0; 3];
        for request in world.provider.received() {
            let (_, name) = seat(&request);
            counts[["one", "two", "none"].iter().position(|known| *known == name).unwrap()] += 1;
        }
        world.provider.forget();
        assert_eq!(counts, shares, "credentials, {model}");
    }
    // What weighs nothing is for when all others are unusable.
    credential(&world, "a", "main", "disable").await;
    ask(&world, "weighted", 10).await;
    assert_eq!(world.calls(), counted(&[("b", 10)]));
    credential(&world, "b", "main", "disable").await;
    ask(&world, "weighted", 10).await;
    assert_eq!(world.calls(), counted(&[("c", 10)]));
    credential(&world, "a", "main", "enable").await;
    ask(&world, "weighted", 10).await;
    assert_eq!(world.calls(), counted(&[("a", 10)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fallbacks_are_asked_in_their_order() {
    let fallback = "fallback = [{ provider = \"c\", model = \"other\" }, { provider = \"d\" }]";
    let rules = to("x", &[&at("a"), &at("b")], fallback);
    let off = "cooldown = \"off\"";
    let members = ["a", "b", "c", "d"].map(|name| member(name).more(off));
    let world = World::start(members.into(), &rules).await;
    ask(&world, "x", 20).await;
    assert_eq!(
        world.calls(),
        counted(&[("a", 10), ("b", 10)]),
        "not as long as all is well"
    );
    world.say("a", Answer::json(500, "{}"));
    ask(&world, "x", 20).await;
    assert_eq!(world.calls().get("c"), None, "nor while a target is left");
    world.say("b", Answer::json(503, "{}"));
    for dialect in ALL {
        world.provider.forget();
        let reply = world.ask(dialect, "x", false).await;
        assert_eq!(taken_by(&reply), "other", "{dialect:?}: {}", reply.text());
        assert_eq!(reply.header("x-tollgate-attempts"), Some("3"));
        assert_eq!(reply.header("x-tollgate-provider"), Some("c"));
    }
    world.say("c", Answer::json(500, "{}"));
    let reply = world.ask(Dialect::Chat, "x", false).await;
    assert_eq!((reply.status, reply.header("x-tollgate-provider")), (200, Some("d")));
    world.gateway.idle().await;
    let rows = world.gateway.rows().await;
    let mut rows: Vec<_> = rows
        .iter()
        .filter(|row| row["request"] == *reply.header("x-request-id").unwrap())
        .collect();
    rows.sort_by_key(|row| row["attempt"].as_u64());
    let tried: Vec<&str> = rows.iter().map(|row| row["provider"].as_str().unwrap()).collect();
    assert_eq!(tried[2..], ["c", "d"], "{tried:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn least_used_keeps_away_from_who_is_busy() {
    let rules = to("x", &[&at("a"), &at("b"), &at("c")], "strategy = \"least_used\"")
        + &to("seats", &[&at("d")], "strategy = \"least_used\"");
    let members = vec![
        member("a"),
        member("b"),
        member("c"),
        member("d").credentials(&[("one", ""), ("two", "")]),
    ];
    let world = World::start(members, &rules).await;
    let slow = |model: &str| {
        let (address, bearer) = (world.gateway.ports.http, world.gateway.bearer());
        let body = asking(Dialect::Chat, model, SLOWLY).to_string();
        tokio::spawn(async move {
            let headers = [("authorization", bearer.as_str())];
            client::send(address, "POST", "/v1/chat/completions", &headers, body.as_bytes()).await
        })
    };
    let patience = Duration::from_secs(30);
    let arrived = async |count: usize| {
        until("they arrive", patience, || async {
            (world.provider.received().len() == count).then_some(())
        })
        .await;
    };
    // A seat is free a moment after the end of its answer.
    let under_way = async |count: f64| {
        until("the others are over", patience, || async {
            (world.gateway.metric("tollgate_requests_in_flight").await == count).then_some(())
        })
        .await;
    };
    let ask_one = async |model: &str, busy: f64| {
        ask(&world, model, 1).await;
        under_way(busy).await;
    };
    // Two are busy: the third gets all the rest.
    let mut busy = Vec::new();
    for count in 1..=2 {
        busy.push(slow("x"));
        arrived(count).await;
    }
    let taken: BTreeSet<String> = world.calls().into_keys().collect();
    assert_eq!(taken.len(), 2);
    for _ in 0..9 {
        ask_one("x", 2.0).await;
    }
    let calls = world.calls();
    assert_eq!(calls.values().collect::<Vec<_>>(), [&9], "{calls:?}");
    assert!(taken.is_disjoint(&calls.into_keys().collect()));
    busy.drain(..).for_each(|task| task.abort());
    under_way(0.0).await;
    // Six at once are two for each.
    world.provider.forget();
    for count in 1..=6 {
        busy.push(slow("x"));
        arrived(count).await;
    }
    assert_eq!(world.calls(), counted(&[("a", 2), ("b", 2), ("c", 2)]));
    busy.drain(..).for_each(|task| task.abort());
    under_way(0.0).await;
    // Credentials too.
    world.provider.forget();
    let busy = slow("seats");
    arrived(1).await;
    let (_, first) = world.seat();
    for _ in 0..5 {
        ask_one("seats", 1.0).await;
        assert_ne!(world.seat().1, first);
    }
    busy.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cheapest_for_this_request() {
    let price = |provider: &str, input: &str, output: &str| {
        format!("[[price]]\nname = \"*\"\nprovider = \"{provider}\"\ninput = {input}\noutput = {output}\n")
    };
    let rules = to(
        "x",
        &[&at("unknown"), &at("talks"), &at("reads")],
        "strategy = \"cheapest\"\naffinity = \"off\"",
    ) + &price("reads", "0.1", "10")
        + &price("talks", "1", "0.5");
    let members = ["unknown", "reads", "talks"].map(|name| member(name).more("cooldown = \"off\""));
    let world = World::start(members.into(), &rules).await;
    let limit = |dialect: Dialect, n: u64| match dialect {
        Dialect::Chat | Dialect::Messages => json!({"max_tokens": n}),
        Dialect::Responses => json!({"max_output_tokens": n}),
        Dialect::Gemini => json!({"generationConfig": {"maxOutputTokens": n}}),
    };
    let long = "word ".repeat(3000);
    for dialect in ALL {
        for (text, output, provider) in [
            ("Hi", 2000, "talks"),
            (long.as_str(), 10, "reads"),
            (long.as_str(), 2000, "talks"),
        ] {
            let body = with(asking(dialect, "x", text), limit(dialect, output));
            let reply = world.send(&dialect.path("x", false), &[], &body).await;
            assert_eq!(
                reply.header("x-tollgate-provider"),
                Some(provider),
                "{dialect:?}, {output}"
            );
        }
    }
    // Who fails is followed by the next cheapest; who has no price comes last.
    world.say("talks", Answer::json(500, "{}"));
    world.say("reads", Answer::json(500, "{}"));
    world.provider.forget();
    ask(&world, "x", 1).await;
    let order: Vec<String> = world
        .provider
        .received()
        .iter()
        .map(|request| super::place(request).0)
        .collect();
    assert_eq!(order, ["talks", "reads", "unknown"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_fast_one_is_preferred() {
    let (a, b, seats) = (at("fast"), at("slow"), at("two"));
    let mut rules = String::new();
    for strategy in ["least_latency", "adaptive"] {
        let lines = format!("strategy = \"{strategy}\"");
        rules += &to(strategy, &[&b, &a], &lines);
        rules += &to(&format!("seats-{strategy}"), &[&seats], &lines);
    }
    let members = vec![
        member("fast"),
        member("slow"),
        member("two").credentials(&[("slow", ""), ("fast", "")]),
    ];
    let world = World::start(members, &rules).await;
    let whole = record(Dialect::Chat, "sandbox/chat,tokens=5", false).await;
    let late = Answer::json(200, whole).after(Duration::from_millis(400));
    world.say("slow", late.clone());
    world.say("two/slow", late);
    for strategy in ["least_latency", "adaptive"] {
        for model in [strategy.to_owned(), format!("seats-{strategy}")] {
            for _ in 0..40 {
                let reply = world.ask(Dialect::Chat, &model, false).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
            let received = world.provider.received();
            let is_fast = |request: &&Received| {
                let (provider, credential) = seat(request);
                provider == "fast" || credential == "fast"
            };
            let fast = received.iter().filter(is_fast).count();
            world.provider.forget();
            assert!(fast >= 36, "{model}: {fast} of 40");
        }
    }
}

const MODELS: &str = r#"
[[model]]
name = "blind"
context = 1000
output = 100
can = []
[[model]]
name = "seeing"
context = 10000
can = ["vision"]
[[model]]
name = "handy"
can = ["tools", "structured"]
[[model]]
name = "large"
context = 100000
can = ["documents"]
[[model]]
name = "large"
provider = "q"
context = 500
can = ["tools"]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_which_cannot_take_it_are_passed_over() {
    let target = |provider: &str, model: &str| format!("provider = \"{provider}\", model = \"{model}\"");
    let (blind, seeing, handy) = (target("p", "blind"), target("p", "seeing"), target("p", "handy"));
    let (large, small, unknown) = (target("p", "large"), target("q", "large"), target("p", "unheard of"));
    let known = [&*blind, &*seeing, &*handy, &*large, &*small];
    let require = "strategy = \"round_robin\"\naffinity = \"off\"\nrequire = [\"vision\", \"tools\", \"context\", \"documents\", \"structured\"]";
    let mut rules = MODELS.to_owned() + &to("known", &known, require);
    rules += &to("unknown", &[&blind, &unknown], require);
    rules += &to("fallen", &[&blind], &format!("{require}\nfallback = [{{ {seeing} }}]"));
    rules += &to("any", &[&blind], "");
    let world = World::start(vec![member("p"), member("q")], &rules).await;
    let image = json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]);
    let pdf =
        json!([{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}]);
    let message = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let tools = json!({"tools": [{"name": "f", "input_schema": {"type": "object"}}]});
    let schema = json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object", "properties": {}, "additionalProperties": false}}}});
    let long = message(json!("word ".repeat(12000)));
    let cases = [
        (json!({}), &["blind", "seeing", "handy", "large", "q/large"][..]),
        (message(image.clone()), &["seeing"]),
        (tools.clone(), &["handy", "q/large"]),
        (message(pdf), &["large"]),
        (schema, &["handy"]),
        (long.clone(), &["handy", "large"]),
        (with(tools.clone(), long), &["handy"]),
        // More of an answer than the model gives; more than prompt and answer together may have.
        (json!({"max_tokens": 400}), &["seeing", "handy", "large", "q/large"]),
        (json!({"max_tokens": 50000}), &["handy", "large"]),
    ];
    for (more, want) in cases {
        let body = with(plain(Dialect::Messages, "known"), more.clone());
        let (mut seen, mut told) = (BTreeSet::new(), String::new());
        for _ in 0..10 {
            let reply = world.send("/v1/messages", &[], &body).await;
            let provider = reply.header("x-tollgate-provider").unwrap_or_default().to_owned();
            told = reply.text();
            seen.insert(taken_by(&reply).replacen("large", if provider == "q" { "q/large" } else { "large" }, 1));
        }
        let (want, what) = (want.iter().map(|name| (*name).to_owned()).collect(), more.to_string());
        assert_eq!(seen, want, "{:.300}: {told:.300}", what);
    }
    // Nothing fits.
    let hopeless = with(tools, message(image.clone()));
    world.provider.forget();
    let reply = world
        .send("/v1/messages", &[], &with(plain(Dialect::Messages, "known"), hopeless))
        .await;
    Dialect::Messages.check_refusal("nobody can", 400, &reply);
    let text = reply.text();
    for part in ["known", "seeing", "tools", "handy", "images"] {
        assert!(text.contains(part), "it says who can't take what: {text}");
    }
    assert_eq!(world.provider.count(), 0);
    // Of whom nothing is known everything is believed; fallbacks are looked at likewise; who requires nothing gets all.
    for (model, want) in [("unknown", "unheard of"), ("fallen", "seeing"), ("any", "blind")] {
        let body = with(plain(Dialect::Messages, model), message(image.clone()));
        assert_eq!(world.taken("/v1/messages", &[], &body).await, want, "{model}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn targets_pick_credentials_by_tags() {
    let tagged = |tags: &str| format!("provider = \"t\", tags = [{tags}]");
    let rules = to("eu", &[&tagged("\"eu\"")], "")
        + &to("both", &[&tagged("\"eu\", \"batch\"")], "")
        + &to(
            "first",
            &[&tagged("\"batch\"")],
            "fallback = [{ provider = \"t\", tags = [\"us\"] }]",
        )
        + &to("any", &[&at("t")], "");
    let credentials = [
        ("eu1", "tags = [\"eu\"]"),
        ("eu2", "tags = [\"eu\", \"batch\"]"),
        ("us", "tags = [\"us\"]"),
    ];
    let world = World::start(vec![member("t").credentials(&credentials)], &rules).await;
    let seats = async |model: &str, times| {
        let mut seen = BTreeSet::new();
        for turn in 0..times {
            let reply = world.ask(ALL[turn % 4], model, false).await;
            if reply.status != 200 {
                seen.insert(reply.status.to_string());
                continue;
            }
            seen.insert(world.seat().1);
        }
        seen.into_iter().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seats("eu", 8).await, "eu1 eu2");
    assert_eq!(seats("both", 8).await, "eu2");
    assert_eq!(seats("first", 8).await, "eu2");
    assert_eq!(seats("any", 9).await, "eu1 eu2 us");
    credential(&world, "t", "eu2", "disable").await;
    assert_eq!(seats("eu", 4).await, "eu1");
    assert_eq!(seats("first", 4).await, "us", "the fallback has another tag");
    world.provider.forget();
    assert_eq!(seats("both", 4).await, "502", "no other is asked instead");
    assert_eq!(world.provider.count(), 0);
}
