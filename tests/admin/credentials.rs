//! Credentials of providers: how they stand, and what becomes of verifying, disabling and enabling them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::command_line::tollgate;
use axum::http::{HeaderMap, StatusCode};
use pingora::services::background::BackgroundService;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::watch;
use tollgate::clock::Clock;

use crate::support::{Answer, Gateway, NOW, PROVIDER_KEY, TOKEN, write_rules};

/// A key that the provider does not know; it says it back.
const DEAD_KEY: &str = "sk-canary-dead-key-31c9";

/// A provider with one good key.
async fn provider() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let models = async |headers: HeaderMap| {
        let key = headers
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let key = key.trim_start_matches("Bearer ").to_owned();
        match key == PROVIDER_KEY {
            true => (StatusCode::OK, axum::Json(json!({ "object": "list", "data": [] }))),
            false => {
                let message = format!("Incorrect API key provided: {key}.");
                let error = json!({ "error": { "code": "invalid_api_key", "message": message } });
                (StatusCode::UNAUTHORIZED, axum::Json(error))
            }
        }
    };
    let router = axum::Router::new().route("/v1/models", axum::routing::get(models));
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// A gateway whose provider has a good key, a dead one and one that is not set; another provider is a dead port.
async fn gateway() -> (Gateway, SocketAddr) {
    let gateway = Gateway::start().await;
    let address = provider().await;
    let file = |name: &str| gateway.folder.path().join(name).display().to_string();
    std::fs::write(file("dead.key"), DEAD_KEY).expect("a file");
    let credential = |provider: &str, name: &str, key: &str| {
        format!("[[provider.{provider}.credential]]\nname = \"{name}\"\nkey = \"{key}\"\n")
    };
    let rules = format!(
        "[provider.near]\ndialects = {{ openai_chat = \"http://{address}/v1\" }}\n{}{}{}\
         [provider.gone]\ndialects = {{ openai_chat = \"http://127.0.0.1:1/v1\" }}\n{}",
        credential("near", "good", &format!("file:{}", file("paid.key"))),
        credential("near", "dead", &format!("file:{}", file("dead.key"))),
        credential("near", "unset", "env:TOLLGATE_TEST_VARIABLE_WHICH_IS_NOT_SET"),
        credential("gone", "good", &format!("file:{}", file("paid.key"))),
    );
    write_rules(gateway.folder.path(), &rules);
    let answer = Answer::of(gateway.request(Method::POST, "/api/v1/reload")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    (gateway, address)
}

async fn post(gateway: &Gateway, path: &str) -> Answer {
    Answer::of(gateway.request(Method::POST, &format!("/api/v1/credentials/{path}"))).await
}

#[tokio::test]
async fn verifying_tells_good_keys_from_dead_ones_and_no_key_is_told() {
    let (gateway, _) = gateway().await;
    let before = gateway.get("/api/v1/credentials?provider=near").await;
    let [good, dead, unset] = &before["credentials"].as_array().expect("a list")[..] else {
        panic!("{before}")
    };
    for (one, name, standing) in [
        (good, "good", "ready"),
        (dead, "dead", "ready"),
        (unset, "unset", "inactive"),
    ] {
        assert_eq!(
            (&one["name"], &one["state"]["standing"]),
            (&json!(name), &json!(standing))
        );
        assert_eq!(
            one["last_check"],
            Value::Null,
            "nothing is known before the first check"
        );
    }
    assert!(
        unset["inactive"]
            .as_str()
            .is_some_and(|why| why.contains("TOLLGATE_TEST_VARIABLE"))
    );

    for (path, good, result, status) in [
        ("near/good", json!(true), "ok", json!(200)),
        ("near/dead", json!(false), "unauthorised", json!(401)),
        ("gone/good", json!(null), "connect", json!(null)),
    ] {
        let answer = post(&gateway, &format!("{path}/verify")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        let verified = answer.json();
        assert_eq!(
            (&verified["good"], &verified["check"]["result"]),
            (&good, &json!(result)),
            "{verified}"
        );
        assert_eq!(verified["check"]["status"], status);
        assert_eq!(verified["check"]["at"], "2026-01-31T12:00:00.000000Z");
    }
    let after = gateway.get("/api/v1/credentials").await;
    let dead = &after["credentials"][1];
    assert_eq!(dead["last_check"]["words"], "Incorrect API key provided: ***.");

    let answer = post(&gateway, "near/unset/verify").await;
    assert_eq!(answer.refused(409, "no key").0, "inactive");
    for action in ["verify", "disable", "enable"] {
        for path in ["near/canary", "canary/good", "near/%ff"] {
            let answer = post(&gateway, &format!("{path}/{action}")).await;
            assert_eq!(answer.refused(404, path).0, "not_found");
            assert!(!answer.text.contains("canary"), "what was sent is not said back");
        }
    }
    let changes: Vec<Value> = gateway
        .audit_lines()
        .iter()
        .map(|line| line["change"].clone())
        .collect();
    assert!(
        changes.contains(&json!({ "target": "near/dead", "values": { "result": "unauthorised" } })),
        "{changes:?}"
    );
    let metrics = tollgate::observe::metrics::page().expect("the metrics");
    assert!(
        metrics.contains("tollgate_health_up{credential=\"dead\",provider=\"near\"} 0"),
        "{metrics}"
    );
    let audit = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log");
    for text in [after.to_string(), audit, metrics] {
        assert!(!text.contains("canary"), "{text}");
    }
}

#[tokio::test]
async fn disabling_and_enabling_are_recorded_and_may_be_repeated() {
    let (gateway, _) = gateway().await;
    for action in ["disable", "disable", "enable", "enable"] {
        let answer = post(&gateway, &format!("near/good/{action}")).await;
        assert_eq!(answer.status, 200, "{action}: {}", answer.text);
        assert_eq!(
            (&answer.json()["provider"], &answer.json()["name"]),
            (&json!("near"), &json!("good"))
        );
    }
    let answer = post(&gateway, "near/unset/disable").await;
    assert_eq!(answer.refused(409, "no key").0, "inactive");
    let answer = Answer::of(
        gateway
            .request(Method::POST, "/api/v1/credentials/near/good/disable")
            .body("x=1"),
    )
    .await;
    answer.refused(415, "a form where no body is expected");
    let lines = gateway.audit_lines();
    let last = &lines[1..5];
    assert!(
        last.iter()
            .all(|line| line["change"] == json!({ "target": "near/good" })),
        "{last:?}"
    );
    assert_eq!(last[0]["path"], "/api/v1/credentials/{provider}/{name}/disable");
    assert_eq!(lines.last().expect("a line")["refused"], "unsupported_media_type");
    assert!(lines.iter().all(|line| !line.to_string().contains(TOKEN)));
}

#[tokio::test]
async fn what_the_service_finds_of_addresses_is_shown() {
    let (gateway, address) = gateway().await;
    let folder = gateway.folder.path().join("rules");
    let (mut rules, _) = tollgate::rules::compile(&folder, &Clock::manual(NOW)).expect("the rules are good");
    // Only what nobody else holds can be changed.
    rules.by_name.clear();
    for provider in &mut rules.providers {
        Arc::get_mut(provider).expect("nobody else").health.every = Some(Duration::from_millis(500));
    }
    rules.by_name = rules
        .providers
        .iter()
        .map(|one| (one.name.clone(), one.clone()))
        .collect();
    gateway.fleet.replace(Arc::new(rules));
    let (stop, stopped) = watch::channel(false);
    let checks = gateway.checks.clone();
    let service = tokio::spawn(async move { checks.start(stopped).await });
    let found = async {
        loop {
            let list = gateway.get("/api/v1/providers").await;
            let peers = list["providers"]
                .as_array()
                .expect("a list")
                .iter()
                .map(|one| one["peers"][0].clone());
            let peers: Vec<Value> = peers.collect();
            if peers.iter().all(|peer| !peer.is_null()) {
                return (list, peers);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (list, peers) = tokio::time::timeout(Duration::from_secs(30), found)
        .await
        .expect("checked");
    stop.send_replace(true);
    service.await.expect("it stops");
    assert_eq!(
        (&peers[0]["address"], &peers[0]["up"]),
        (&json!(address.to_string()), &json!(true)),
        "{list}"
    );
    assert_eq!(peers[0]["last_check"]["result"], "ok");
    assert_eq!(
        (&peers[1]["address"], &peers[1]["up"]),
        (&json!("127.0.0.1:1"), &json!(false))
    );
    assert_eq!(peers[1]["last_check"]["result"], "connect");
    let place = &list["providers"][1]["health"]["places"][0];
    assert_eq!(
        (&place["place"], &place["resolves"]),
        (&json!("http://127.0.0.1:1"), &json!(true))
    );
}

#[tokio::test]
async fn the_command_line_lists_verifies_and_disables() {
    let (gateway, _) = gateway().await;
    let listed = tollgate(&gateway, "credentials list").await;
    assert_eq!(listed.code, Some(0), "{}", listed.err);
    for told in ["PROVIDER", "near", "gone", "inactive", "ready"] {
        assert!(listed.out.contains(told), "{told} in {}", listed.out);
    }
    let all = tollgate(&gateway, "credentials verify --provider near").await;
    assert_eq!(all.code, Some(1), "a key is dead: {}", all.err);
    let lines: Vec<&str> = all.out.lines().collect();
    assert_eq!(lines.len(), 3, "one without a key is not verified: {}", all.out);
    assert!(lines[1].contains("good") && lines[1].contains("yes"), "{}", all.out);
    assert!(
        lines[2].contains("unauthorised") && lines[2].contains("***"),
        "{}",
        all.out
    );
    assert!(!all.out.contains("canary") && !all.err.contains("canary"));

    let one = tollgate(&gateway, "credentials verify near/good --json").await;
    assert_eq!(one.code, Some(0), "{}", one.err);
    let one: Value = serde_json::from_str(&one.out).expect("JSON");
    assert_eq!(one["verified"][0]["good"], true);

    let disabled = tollgate(&gateway, "credentials disable dead --json").await;
    assert_eq!(disabled.code, Some(0), "{}", disabled.err);
    let disabled: Value = serde_json::from_str(&disabled.out).expect("JSON");
    assert_eq!(disabled["name"], "dead");
    assert_eq!(
        tollgate(&gateway, "credentials enable dead --provider near").await.code,
        Some(0)
    );

    let two = tollgate(&gateway, "credentials disable good").await;
    assert_eq!(two.code, Some(1));
    assert!(two.err.contains("PROVIDER/good"), "{}", two.err);
    let none = tollgate(&gateway, "credentials verify nobody").await;
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("no such credential"), "{}", none.err);
    let none = tollgate(&gateway, "credentials list --provider nobody").await;
    assert_eq!(none.code, Some(1), "{}", none.err);
}
