//! `tollgate route explain` names the route and the place where the gateway then sends the very same request.

use std::fs;

use serde_json::{Value, json};

use super::{Lines, World, asking, member, plain, with};
use crate::support::client;
use crate::support::dialect::{ALL, Dialect};

const ROUTES: &str = r#"
[alias]
"nick" = "plain"
"there" = "q/as it stands"

[[price]]
name = "*"
provider = "p"
input = 5
output = 1
[[price]]
name = "*"
provider = "q"
input = 1
output = 5

[[model]]
name = "blind"
context = 2000
can = []
[[model]]
name = "able"
can = ["vision", "tools"]

[[route]]
name = "counted"
model = "*"
when = { operation = "count_tokens" }
targets = [{ provider = "p", model = "counted" }]

[[route]]
name = "long vectors"
model = "vectors"
when = { operation = "embeddings", prompt_tokens_from = 500 }
targets = [{ provider = "p", model = "long vectors" }]

[[route]]
name = "vectors"
model = "vectors"
targets = [{ provider = "q", model = "vectors" }]

[[route]]
name = "team"
model = ["auto", "team-*"]
when = { tag = ["eu", "critical"], owner = "team/*" }
targets = [{ provider = "q", model = "of the team" }]

[[route]]
name = "named key"
model = "auto"
when = { key = "batch *" }
targets = [{ provider = "q", model = "of the key" }]

[[route]]
name = "office"
model = "auto"
when = { client = ["203.0.113.0/24"] }
targets = [{ provider = "q", model = "of the office" }]

[[route]]
name = "header"
model = "auto"
when = { header = { x-team = "research-*" } }
targets = [{ provider = "q", model = "of research" }]

[[route]]
name = "pictures"
model = "auto"
when = { media = ["image"] }
targets = [{ provider = "p", model = "blind" }]
fallback = [{ provider = "q", model = "able" }]
require = ["vision"]

[[route]]
name = "tools"
model = "auto"
when = { tools = true }
targets = [{ provider = "p", model = "blind", weight = 9 }, { provider = "p", model = "able" }]
require = ["tools"]

[[route]]
name = "structured"
model = "auto"
when = { structured = true, dialect = ["openai_chat", "gemini"] }
targets = [{ provider = "p", model = "structured" }]

[[route]]
name = "code"
model = "auto"
when = { text = '(?i)```|\bcompile\b' }
targets = [{ provider = "p", model = "code" }]

[[route]]
name = "long"
model = "auto"
when = { prompt_tokens_from = 1000 }
targets = [{ provider = "p", model = "blind" }, { provider = "q", model = "able", weight = 0 }]
require = "context"

[[route]]
name = "short answers"
model = "auto"
when = { output_tokens_below = 20 }
targets = [{ provider = "q", model = "short" }]

[[route]]
name = "streams"
model = "auto"
when = { stream = true, dialect = "anthropic" }
targets = [{ provider = "p", model = "streamed" }]

[[route]]
name = "auto"
model = "auto"
targets = [{ provider = "p", model = "first" }, { provider = "q", model = "second" }]

[[route]]
name = "cheapest"
model = "cheap"
strategy = "cheapest"
affinity = "off"
targets = [{ provider = "p" }, { provider = "q" }]

[[route]]
name = "half of sessions"
model = "share"
when = { percent = 50 }
targets = [{ provider = "p", model = "in" }]

[[route]]
name = "the other half"
model = "share"
targets = [{ provider = "p", model = "out" }]

[[route]]
name = "half of keys"
model = "keys"
when = { percent = 50, percent_by = "key" }
targets = [{ provider = "p", model = "in" }]

[[route]]
name = "other keys"
model = "keys"
targets = [{ provider = "p", model = "out" }]

[[route]]
name = "night"
model = "night"
when = { time = { from = "22:00", to = "06:00", zone = "Asia/Shanghai" } }
targets = [{ provider = "p", model = "moon" }]

[[route]]
name = "never"
model = "blind"
targets = [{ provider = "p" }]
when = { tools = false }
require = ["vision"]

[[route]]
name = "plain"
model = "plain"
targets = [{ provider = "p" }]

[[route]]
name = "renamed"
model = "renamed"
targets = [{ provider = "q", model = "theirs" }]
"#;

/// A request, and what explains it beyond its file.
struct Case {
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Value,
    /// Its client key: arguments of `explain`, and the key.
    key: Option<(Vec<String>, String)>,
    /// The client's address.
    client: Option<&'static str>,
}

fn case(path: &str, body: Value) -> Case {
    Case {
        path: path.to_owned(),
        headers: Vec::new(),
        body,
        key: None,
        client: None,
    }
}

fn of(dialect: Dialect, model: &str, more: Value) -> Case {
    case(&dialect.path(model, false), with(plain(dialect, model), more))
}

/// What was told of a request.
#[derive(Debug, PartialEq)]
struct Told {
    route: String,
    provider: String,
    model: String,
}

/// Asks the command.
async fn explained(world: &World, case: &Case, more: &[&str]) -> (i32, Value) {
    let mut file = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
        case.path
    );
    for (name, value) in &case.headers {
        file += &format!("{name}: {value}\r\n");
    }
    file += &format!("\r\n{}", case.body);
    fs::write(world.gateway.path("request.http"), file).unwrap();
    let mut arguments = vec!["route", "explain", "request.http", "--json"];
    if let Some((key, _)) = &case.key {
        arguments.extend(key.iter().map(String::as_str));
    }
    if let Some(address) = case.client {
        arguments.extend(["--client", address]);
    }
    arguments.extend(more);
    let (code, out, err) = world.gateway.cli(&arguments).await;
    (
        code,
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")),
    )
}

/// What an explanation says comes first.
fn first(explanation: &Value) -> Option<Told> {
    let order = explanation["order"].as_array().unwrap();
    let attempt = order.first()?;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = explanation["names"]
        .as_array()
        .unwrap()
        .iter()
        .find(|name| name["refused"].is_null())?;
    let routes = name["routes"].as_array().unwrap();
    let taken = routes.iter().find(|route| route["taken"] == true);
    Some(Told {
        route: taken.map_or(String::new(), |route| text(&route["route"])),
        provider: text(&attempt["provider"]),
        model: text(&attempt["model"]),
    })
}

/// Asks the gateway: what it did; `None` with the status if it refused.
async fn happens(world: &World, case: &Case) -> Result<Told, u16> {
    let key = case.key.as_ref().map_or(&world.gateway.key, |(_, key)| key);
    let bearer = format!("Bearer {key}");
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    headers.extend(case.headers.iter().map(|(name, value)| (*name, value.as_str())));
    headers.extend(case.client.map(|address| ("x-forwarded-for", address)));
    let body = case.body.to_string();
    let reply = client::send(world.gateway.ports.http, "POST", &case.path, &headers, body.as_bytes()).await;
    if reply.status != 200 {
        return Err(reply.status);
    }
    world.gateway.idle().await;
    let rows = world.gateway.rows().await;
    let row = rows
        .iter()
        .find(|row| row["request"] == reply.header("x-request-id").unwrap())
        .unwrap();
    let header = |name| reply.header(name).unwrap_or_default().to_owned();
    let told = Told {
        route: row["route"].as_str().unwrap().to_owned(),
        provider: header("x-tollgate-provider"),
        model: header("x-tollgate-model"),
    };
    assert_eq!(
        (&row["provider"], &row["upstream_model"]),
        (&json!(told.provider), &json!(told.model)),
        "{row}"
    );
    Ok(told)
}

async fn world() -> World {
    let lines = Lines {
        top: "trusted_proxies = [\"127.0.0.1\"]\n",
        ..Lines::default()
    };
    World::start_with(lines, vec![member("p"), member("q")], ROUTES).await
}

fn picture(dialect: Dialect) -> Value {
    let url = "data:image/png;base64,AAAA";
    match dialect {
        Dialect::Chat => {
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]})
        }
        Dialect::Responses => {
            json!({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]})
        }
        Dialect::Messages => json!({"messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}]}]}),
        Dialect::Gemini => {
            json!({"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": "AAAA"}}]}]})
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_agrees_with_what_happens() {
    let world = world().await;
    let arguments = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<String>>();
    let (_, team) = world.key("team key", Some("team/a"), &["eu"]).await;
    let (_, batch) = world.key("batch 9", None, &[]).await;
    let (id, anybody) = world.key("anybody", Some("x"), &["eu"]).await;
    let team = (
        arguments(&["--key", "team key", "--owner", "team/a", "--tag", "eu"]),
        team,
    );
    let batch = (arguments(&["--key", "batch 9"]), batch);
    let anybody = (arguments(&["--key", &id, "--owner", "x", "--tag", "eu"]), anybody);
    let long = "word ".repeat(1500);

    let mut cases = Vec::new();
    for dialect in ALL {
        cases.push((of(dialect, "plain", json!({})), "plain"));
        cases.push((of(dialect, "nick", json!({})), "plain"));
        cases.push((of(dialect, "there", json!({})), ""));
        cases.push((of(dialect, "q/x/y", json!({})), ""));
        cases.push((of(dialect, "plain", json!({"provider": "q"})), ""));
        cases.push((
            of(dialect, "nowhere", json!({"models": ["renamed", "plain"]})),
            "renamed",
        ));
        cases.push((of(dialect, "auto", picture(dialect)), "pictures"));
        cases.push((
            case(
                &dialect.path("auto", false),
                asking(dialect, "auto", "Please compile it"),
            ),
            "code",
        ));
        cases.push((
            case(&dialect.path("auto", false), asking(dialect, "auto", &long)),
            "long",
        ));
        cases.push((
            case(&dialect.path("cheap", false), asking(dialect, "cheap", "Hi")),
            "cheapest",
        ));
        cases.push((
            case(&dialect.path("cheap", false), asking(dialect, "cheap", &long.repeat(4))),
            "cheapest",
        ));
    }
    let schema = json!({"type": "object", "properties": {}});
    let tools = json!({"tools": [{"name": "f", "input_schema": schema}]});
    cases.push((of(Dialect::Messages, "auto", tools), "tools"));
    cases.push((
        of(
            Dialect::Chat,
            "auto",
            json!({"response_format": {"type": "json_object"}}),
        ),
        "structured",
    ));
    cases.push((
        of(
            Dialect::Responses,
            "auto",
            json!({"text": {"format": {"type": "json_object"}}}),
        ),
        "auto",
    ));
    cases.push((
        of(Dialect::Messages, "auto", json!({"max_tokens": 19})),
        "short answers",
    ));
    cases.push((of(Dialect::Messages, "auto", json!({"stream": true})), "streams"));
    cases.push((
        case("/v1/messages/count_tokens", plain(Dialect::Messages, "plain")),
        "counted",
    ));
    cases.push((
        case("/v1beta/models/x:countTokens", plain(Dialect::Gemini, "x")),
        "counted",
    ));
    cases.push((
        case("/v1/embeddings", json!({"model": "vectors", "input": "x"})),
        "vectors",
    ));
    cases.push((
        case("/v1/embeddings", json!({"model": "vectors", "input": long})),
        "long vectors",
    ));
    let keyed = |case: Case, key: &(Vec<String>, String)| Case {
        key: Some(key.clone()),
        ..case
    };
    cases.push((keyed(of(Dialect::Messages, "auto", json!({})), &team), "team"));
    cases.push((keyed(of(Dialect::Chat, "team-7", json!({})), &team), "team"));
    cases.push((keyed(of(Dialect::Gemini, "auto", json!({})), &batch), "named key"));
    cases.push((keyed(of(Dialect::Gemini, "auto", json!({})), &anybody), "auto"));
    let from = |address| Case {
        client: Some(address),
        ..of(Dialect::Responses, "auto", json!({}))
    };
    cases.push((from("203.0.113.77"), "office"));
    cases.push((from("198.51.100.1"), "auto"));
    let headed = |dialect: Dialect, model: &str, name: &'static str, value: &str| Case {
        headers: vec![(name, value.to_owned())],
        ..of(dialect, model, json!({}))
    };
    cases.push((headed(Dialect::Chat, "auto", "x-team", "research-1"), "header"));
    cases.push((headed(Dialect::Chat, "auto", "x-team", "sales"), "auto"));
    for session in 0..8 {
        // One of the two, by name: the same one.
        cases.push((
            headed(Dialect::Chat, "share", "x-session-id", &format!("s{session}")),
            "half",
        ));
        cases.push((
            headed(
                Dialect::Messages,
                "share",
                "x-claude-code-session-id",
                &format!("s{session}"),
            ),
            "half",
        ));
    }
    let beginning = json!({"system": long.repeat(4)});
    cases.push((keyed(of(Dialect::Messages, "share", beginning), &anybody), "half"));
    cases.push((
        keyed(of(Dialect::Chat, "share", json!({"prompt_cache_key": "k"})), &anybody),
        "half",
    ));
    cases.push((keyed(of(Dialect::Chat, "keys", json!({})), &anybody), "keys"));

    let mut sides = std::collections::BTreeSet::new();
    for (case, route) in &cases {
        let what = format!("{} {:?} {:.200}", case.path, case.headers, case.body.to_string());
        // Conversations and sessions are of a key: who asks has to be said.
        let mut case = Case {
            path: case.path.clone(),
            headers: case.headers.clone(),
            body: case.body.clone(),
            key: case.key.clone(),
            client: case.client,
        };
        if *route == "half" {
            case.key = Some(anybody.clone());
        }
        let (code, explanation) = explained(&world, &case, &[]).await;
        assert_eq!(
            (code, &explanation["refused"]),
            (0, &Value::Null),
            "{what}: {explanation}"
        );
        let said = first(&explanation).unwrap_or_else(|| panic!("{what}: {explanation}"));
        let did = happens(&world, &case)
            .await
            .unwrap_or_else(|status| panic!("{what}: {status}"));
        if *route == "auto" {
            // Two that weigh the same: any of the first tier.
            let tier = explanation["names"][0]["targets"].as_array().unwrap();
            let listed = |target: &Value| target["provider"] == did.provider && target["model"] == did.model;
            assert!(
                tier.iter().filter(|target| target["tier"] == "target").any(listed),
                "{what}: {explanation}"
            );
            assert_eq!((said.route.as_str(), did.route.as_str()), ("auto", "auto"), "{what}");
            continue;
        }
        assert_eq!(said, did, "{what}: {explanation}");
        match *route {
            "half" | "keys" => drop(sides.insert(did.route)),
            route => assert_eq!(did.route, route, "{what}"),
        }
    }
    assert!(
        sides.contains("half of sessions") && sides.contains("the other half"),
        "{sides:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_nowhere_is_refused_by_both() {
    let world = world().await;
    for dialect in ALL {
        for (more, model, status) in [
            (json!({}), "nowhere", 404),
            (json!({"models": ["nothing", "none"]}), "nowhere", 404),
            (json!({"provider": "nobody"}), "plain", 404),
            (picture(dialect), "blind", 400),
        ] {
            let case = of(dialect, model, more);
            let (code, explanation) = explained(&world, &case, &[]).await;
            assert_eq!(code, 1, "{dialect:?}, {model}: {explanation}");
            assert!(
                explanation["refused"].is_string() && first(&explanation).is_none(),
                "{explanation}"
            );
            assert_eq!(
                happens(&world, &case).await,
                Err(status),
                "{dialect:?}, {model}: {explanation}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_says_why_and_knows_other_times() {
    let world = world().await;
    let night = of(Dialect::Chat, "night", json!({}));
    for (at, code) in [
        ("2026-03-01T15:00:00Z", 0),
        ("2026-03-01T21:59:59Z", 0),
        ("2026-03-01T22:00:00Z", 1),
        ("2026-03-01T13:59:59Z", 1),
        ("2026-03-01T14:00:00Z", 0),
    ] {
        let (told, explanation) = explained(&world, &night, &["--at", at]).await;
        assert_eq!(told, code, "{at}: {explanation}");
    }
    let (_, explanation) = explained(&world, &of(Dialect::Chat, "auto", json!({"max_tokens": 5})), &[]).await;
    let routes = explanation["names"][0]["routes"].as_array().unwrap();
    let misses: Vec<&str> = routes
        .iter()
        .filter_map(|route| route["miss"]["condition"].as_str())
        .collect();
    assert_eq!(
        misses,
        [
            "operation",
            "owner",
            "key",
            "client",
            "header",
            "media",
            "tools",
            "structured",
            "text",
            "prompt_tokens"
        ],
        "{explanation}"
    );
    // A body alone, and text for people.
    fs::write(
        world.gateway.path("body.json"),
        plain(Dialect::Messages, "plain").to_string(),
    )
    .unwrap();
    let arguments = ["route", "explain", "body.json", "--path", "/v1/messages"];
    let (code, out, err) = world.gateway.cli(&arguments).await;
    assert_eq!(code, 0, "{err}");
    for part in ["anthropic", "\"plain\": taken", "weighted"] {
        assert!(out.contains(part), "{part}: {out}");
    }
    assert_eq!(world.provider.count(), 0, "nobody is asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_keys_policy_rules_out_is_told() {
    let world = world().await;
    let cli = async |arguments: &[&str]| {
        let (code, out, err) = world.gateway.cli(arguments).await;
        assert_eq!(code, 0, "{err}");
        out
    };
    cli(&["groups", "create", "team", "--routes", "renamed"]).await;
    let key = async |more: &[&str]| {
        let made = cli(&[&["keys", "create", "--json", "--name", "limited"], more].concat()).await;
        let made: Value = serde_json::from_str(&made).unwrap();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (vec!["--key".to_owned(), text("id")], text("key"))
    };
    let at_q = key(&["--providers", "q", "--group", "team"]).await;
    let named = key(&["--models", "renamed,nick"]).await;
    let disabled = key(&["--disabled"]).await;
    let limited = key(&["--rpm", "0", "--budget", "day:requests=0"]).await;
    for (key, model, why) in [
        (&at_q, "renamed", None),
        (
            &at_q,
            "plain",
            Some(
                "\"p\" is not in the list of providers of the key; \"plain\" is not in the list of routes of its group team",
            ),
        ),
        (
            &at_q,
            "q/x",
            Some("what is past all routes is not in the list of routes of its group team"),
        ),
        (&named, "renamed", None),
        (
            &named,
            "plain",
            Some("\"plain\" is not in the list of models of the key"),
        ),
        (
            &named,
            "nick",
            Some("\"plain\" is not in the list of models of the key"),
        ),
        (&disabled, "plain", Some("the key is disabled")),
    ] {
        let mut case = of(Dialect::Chat, model, json!({}));
        case.key = Some(key.clone());
        let (code, explanation) = explained(&world, &case, &[]).await;
        let text = explanation.to_string().replace("\\\"", "\"");
        let did = happens(&world, &case).await;
        match why {
            None => {
                assert_eq!(code, 0, "{text}");
                assert_eq!(first(&explanation), did.ok(), "{text}");
            }
            Some(why) => {
                assert_eq!((code, did), (1, Err(403)), "{text}");
                assert!(text.contains(why), "{why}: {text}");
            }
        }
    }
    // Limits are nobody's business here: neither asked nor used.
    let mut case = of(Dialect::Chat, "plain", json!({}));
    case.key = Some(limited);
    assert_eq!(explained(&world, &case, &[]).await.0, 0);
    assert_eq!(happens(&world, &case).await, Err(429));
    // Who is nobody's key may be a name.
    let (code, out, err) = world
        .gateway
        .cli(&["route", "explain", "request.http", "--key", "AbCdEfGhIjKl"])
        .await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(err.contains("left out"), "{err}");
}
