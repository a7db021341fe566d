//! Rules and state: shown without secrets, reloaded all or nothing.

use reqwest::Method;
use serde_json::json;

use crate::support::{Answer, Gateway, NOW, PROVIDER_KEY, TOKEN, good_rules, key_file, write_rules};

#[tokio::test]
async fn the_status_tells_what_is_active_and_why_not() {
    let gateway = Gateway::start().await;
    let status = gateway.get("/api/v1/status").await;
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["uptime_seconds"], 3600);
    assert_eq!(status["started_at"], "2026-01-31T11:00:00.000000Z");
    assert_eq!(status["rules"]["last_reload"]["ok"], true);
    let provider = &status["providers"][0];
    assert_eq!((&provider["name"], &provider["active"]), (&json!("paid"), &json!(true)));
    let [main, spare] = &provider["credentials"].as_array().expect("a list")[..] else {
        panic!("{provider}")
    };
    assert_eq!(
        (&main["name"], &main["active"], &main["weight"]),
        (&json!("main"), &json!(true), &json!(3))
    );
    assert_eq!(spare["active"], false);
    let why = spare["inactive"].as_str().expect("a reason");
    assert!(why.contains("TOLLGATE_TEST_VARIABLE_WHICH_IS_NOT_SET"), "{why}");
}

#[tokio::test]
async fn routes_and_providers_are_shown() {
    let gateway = Gateway::start().await;
    let routes = gateway.get("/api/v1/routes").await;
    let route = &routes["routes"][0];
    assert_eq!(route["models"], json!(["small", "small-*"]));
    assert_eq!(
        route["targets"],
        json!([{
            "provider": "paid", "model": "small-1", "weight": 2, "active": true, "tags": [],
            "edits": { "set": [], "default": [], "remove": [] },
        }])
    );
    for (field, value) in [
        ("when", json!(null)),
        ("fallback", json!([])),
        ("fallback_on", json!([])),
        ("strategy", json!("weighted")),
        ("attempts", json!(null)),
        ("require", json!([])),
        ("affinity", json!("auto")),
        ("instructions", json!({ "before_chars": null, "after_chars": null })),
        ("on_loss", json!("report")),
        ("upstream_stream", json!("as_asked")),
        ("queue_ms", json!(0)),
        ("unknown_price", json!(null)),
    ] {
        assert_eq!(route[field], value, "{field}");
    }
    let providers = gateway.get("/api/v1/providers").await;
    let provider = &providers["providers"][0];
    assert!(
        provider["bases"][0]["url"]
            .as_str()
            .is_some_and(|url| url.starts_with("https://paid.example/v1"))
    );
    assert_eq!(provider["headers"], json!(["x-title"]), "names, no values");
    assert_eq!(provider["timeouts"]["connect_ms"], 3000);
    assert_eq!(provider["strategy"], "weighted");
    assert_eq!(
        provider["health"],
        json!({ "every_seconds": 300, "path": null, "model": null, "places": [] })
    );
    assert_eq!(provider["peers"], json!([]), "nothing is known before the first check");
    let direct = json!({ "proxy": null, "bind": null, "own_ca": false, "client_certificate": false });
    assert_eq!(provider["egress"], direct);
}

#[tokio::test]
async fn a_reload_is_all_or_nothing() {
    let gateway = Gateway::start().await;
    let before = gateway.get("/api/v1/status").await["rules"]["digest"].clone();
    let good = good_rules(&key_file(gateway.folder.path()));

    write_rules(
        gateway.folder.path(),
        &format!("{good}\n[provider.broken]\ndialectz = 1\n"),
    );
    let answer = Answer::of(gateway.request(Method::POST, "/api/v1/reload")).await;
    assert_eq!(answer.refused(409, "broken rules").0, "rules_refused");
    let problem = &answer.json()["error"]["problems"][0];
    assert!(
        problem["file"].as_str().is_some_and(|file| file.ends_with("10.toml")),
        "{problem}"
    );
    assert!(problem["line"].as_u64().is_some_and(|line| line > 0), "{problem}");
    let status = gateway.get("/api/v1/status").await;
    assert_eq!(status["rules"]["digest"], before, "the last good rules stay");
    assert_eq!(status["rules"]["last_reload"]["ok"], false);
    assert_ne!(status["rules"]["last_reload"]["problems"], json!([]));

    write_rules(gateway.folder.path(), &good.replace("\"a route\"", "\"another\""));
    let answer = Answer::of(gateway.request(Method::POST, "/api/v1/reload")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_ne!(answer.json()["digest"], before);
    assert_eq!(gateway.get("/api/v1/routes").await["routes"][0]["name"], "another");
    assert_eq!(gateway.get("/api/v1/status").await["rules"]["last_reload"]["ok"], true);
}

#[tokio::test]
async fn no_answer_holds_a_secret() {
    let gateway = Gateway::start().await;
    gateway.enter(0, |_, _| {});
    write_rules(
        gateway.folder.path(),
        &format!("[provider.x]\nkey = \"{PROVIDER_KEY}\"\n"),
    );
    let reload = Answer::of(gateway.request(Method::POST, "/api/v1/reload")).await;
    let mut texts = vec![reload.text];
    for path in [
        "/api/v1/keys",
        "/api/v1/status",
        "/api/v1/providers",
        "/api/v1/credentials",
        "/api/v1/routes",
        "/api/v1/usage/report",
        "/api/v1/usage/rows",
        "/api/v1/usage/export",
        "/api/v1/openapi.json",
        "/api/v1/nothing",
    ] {
        texts.push(Answer::of(gateway.request(Method::GET, path)).await.text);
    }
    texts.push(std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log"));
    for text in texts {
        for secret in [PROVIDER_KEY, TOKEN, "canary"] {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert_eq!(NOW.seconds() % 3600, 0);
}

#[tokio::test]
async fn prices_queues_and_unknown_prices_are_shown() {
    let gateway = Gateway::start().await;
    let path = "/api/v1/prices?provider=paid&model=small-1";
    let unknown = gateway.get(path).await;
    assert_eq!(unknown["rates"], json!(null), "unknown is not free");
    let rules = good_rules(&key_file(gateway.folder.path()));
    let rules = rules.replace(
        "name = \"a route\"",
        "name = \"a route\"\nqueue = \"5s\"\nunknown_price = 0.5",
    );
    let price = "[[price]]\nprovider = \"paid\"\nname = \"small-1\"\ninput = 2.5\noutput = 10\n";
    write_rules(gateway.folder.path(), &format!("{rules}\n{price}"));
    let answer = Answer::of(gateway.request(Method::POST, "/api/v1/reload")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let route = gateway.get("/api/v1/routes").await["routes"][0].clone();
    assert_eq!(
        (&route["queue_ms"], &route["unknown_price"]),
        (&json!(5000), &json!("0.5"))
    );
    let price = gateway.get(path).await;
    let rate = |class: &str| {
        let rates = price["rates"].as_array().expect("rates");
        rates.iter().find(|rate| rate["class"] == class).expect("a rate")["usd"].clone()
    };
    assert_eq!((rate("input"), rate("output")), (json!("2.5"), json!("10")));
    let missing = Answer::of(gateway.request(Method::GET, "/api/v1/prices?provider=paid")).await;
    let told = missing.refused(400, "no model");
    assert_eq!(told, ("invalid_query".into(), Some("model".into())));
}
