//! Keys from making to revoking, and what is recorded of it.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate::keys::KeyError;

use crate::support::{Answer, Gateway, TOKEN};

#[tokio::test]
async fn a_key_lives_from_making_to_revoking() {
    let gateway = Gateway::start().await;
    let made = gateway
        .post(
            "/api/v1/keys",
            &json!({ "name": " build robot ", "owner": "team a", "tags": ["critical", " team:a"] }),
        )
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let (id, key) = (
        made["id"].as_str().expect("an id"),
        made["key"].as_str().expect("a key"),
    );
    assert!(
        key.starts_with(&format!("sk-tg-{id}-")),
        "the id is the key's public part"
    );
    assert_eq!(
        (&made["name"], &made["owner"]),
        (&json!("build robot"), &json!("team a"))
    );
    assert_eq!(made["tags"], json!(["critical", "team:a"]));
    assert_eq!(made["created_at"], "2026-01-31T12:00:00.000000Z");
    assert_eq!(made["revoked_at"], Value::Null);
    assert_eq!(made["hint"], format!("sk-tg-{id}-…{}", &key[key.len() - 4..]));
    let owner = gateway
        .keys
        .ring()
        .authenticate(key.as_bytes())
        .expect("the key is good at once");
    assert_eq!(&*owner.key.id.0, id);

    let mut shown = made.clone();
    shown.as_object_mut().expect("an object").remove("key");
    assert_eq!(
        gateway.get("/api/v1/keys").await,
        json!({ "keys": [shown] }),
        "the list shows all but the key"
    );
    assert_eq!(gateway.get(&format!("/api/v1/keys/{id}")).await, shown);

    let revoked = gateway.post(&format!("/api/v1/keys/{id}/revoke"), &json!({})).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text);
    assert_eq!(revoked.json()["revoked_at"], "2026-01-31T12:00:00.000000Z");
    let refused = gateway.keys.ring().authenticate(key.as_bytes());
    assert_eq!(refused.err(), Some(KeyError::Revoked), "refused at once");
    let again = Answer::of(gateway.request(Method::DELETE, &format!("/api/v1/keys/{id}"))).await;
    assert_eq!(
        (again.status.as_u16(), again.json()),
        (200, revoked.json()),
        "revoking twice is no error"
    );

    let secret = &key[key.len() - 32..];
    let audit = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log");
    for text in [gateway.get("/api/v1/keys").await.to_string(), audit] {
        assert!(!text.contains(secret), "the secret was shown once: {text}");
    }
}

#[tokio::test]
async fn a_key_that_is_not_there_is_told_without_saying_back_what_was_sent() {
    let gateway = Gateway::start().await;
    let mistaken = "sk-tg-AbCdEfGhIjKl-canarycanarycanarycanarycanary12";
    for (method, path) in [
        (Method::GET, format!("/api/v1/keys/{mistaken}")),
        (Method::POST, format!("/api/v1/keys/{mistaken}/revoke")),
        (Method::DELETE, format!("/api/v1/keys/{mistaken}")),
        (Method::GET, "/api/v1/keys/canary".to_owned()),
    ] {
        let answer = Answer::of(gateway.request(method, &path)).await;
        assert_eq!(answer.refused(404, &path).0, "not_found");
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    let audit = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log");
    assert!(!audit.contains("canary"), "{audit}");
}

#[tokio::test]
async fn every_write_is_recorded_also_those_refused() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/keys", &json!({ "name": "a" })).await.json();
    gateway.post("/api/v1/keys", &json!({ "name": "" })).await;
    gateway.get("/api/v1/keys").await;
    let id = made["id"].as_str().expect("an id");
    Answer::of(gateway.request(Method::DELETE, &format!("/api/v1/keys/{id}"))).await;
    Answer::of(gateway.request(Method::POST, "/api/v1/reload")).await;

    let lines = gateway.audit_lines();
    let told: Vec<_> = lines
        .iter()
        .map(|line| {
            let path = line["path"].as_str().expect("a path");
            (
                line["method"].as_str().expect("a method"),
                path,
                line["status"].as_u64().expect("a status"),
            )
        })
        .collect();
    let expected = [
        ("POST", "/api/v1/keys", 201),
        ("POST", "/api/v1/keys", 422),
        ("DELETE", "/api/v1/keys/{id}", 200),
        ("POST", "/api/v1/reload", 200),
    ];
    assert_eq!(told, expected, "writes only, in order");
    assert_eq!(
        lines[0]["change"],
        json!({ "target": id, "values": { "name": "a", "owner": null, "tags": [] } })
    );
    assert_eq!(lines[1]["refused"], "invalid_field");
    assert_eq!(lines[2]["change"], json!({ "target": id }));
    for line in &lines {
        assert_eq!(
            (&line["time"], &line["from"]),
            (&json!("2026-01-31T12:00:00.000000Z"), &json!("127.0.0.1"))
        );
        assert_eq!(line["who"].as_str().map(str::len), Some(8), "a fingerprint");
        assert!(!line.to_string().contains(TOKEN), "no secret");
    }
}
