//! Secrets and added credentials: they go in, are used, and never come out.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Answer, Gateway};

/// In every secret of this file.
const CANARY: &str = "canary-of-secrets";

async fn put(gateway: &Gateway, name: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/secrets/{name}");
    Answer::of(gateway.request(Method::PUT, &path).json(body)).await
}

async fn delete(gateway: &Gateway, path: &str) -> Answer {
    Answer::of(gateway.request(Method::DELETE, path)).await
}

/// The key with which the credential is used now.
fn key(gateway: &Gateway, provider: &str, name: &str) -> Option<String> {
    let rules = gateway.fleet.load().rules().clone();
    let credentials = &rules.provider(provider)?.credentials;
    let credential = credentials.iter().find(|one| *one.name == *name)?;
    credential.secret.as_ref().map(|secret| secret.expose().to_owned())
}

#[tokio::test]
async fn a_secret_is_used_at_once_and_never_shown() {
    let gateway = Gateway::start().await;
    let rules = gateway.folder.path().join("rules");
    let more = "[[credential]]\nprovider = \"paid\"\nname = \"stored\"\nkey = \"store:mine\"\n";
    std::fs::write(rules.join("50-more.toml"), more).expect("a file");
    assert_eq!(gateway.post("/api/v1/reload", &json!({})).await.status, 200);
    assert_eq!(key(&gateway, "paid", "stored"), None, "there is no such secret yet");
    let first = format!("{CANARY}-1");
    let made = put(&gateway, "mine", &json!({ "secret": first })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.json()["used_by"], json!(["paid/stored"]));
    assert_eq!(
        key(&gateway, "paid", "stored"),
        Some(first.clone()),
        "at once, without a change of a file"
    );
    assert!(!gateway.fleet.load().masker().mask(&first).contains(CANARY));
    let pinned = gateway.fleet.load();
    // Half-written rules on the disk are no obstacle.
    std::fs::write(rules.join("60-half.toml"), "[[").expect("a file");
    let second = format!("{CANARY}-2");
    let changed = put(&gateway, "mine", &json!({ "secret": second })).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_ne!(changed.json()["fingerprint"], made.json()["fingerprint"]);
    assert_eq!(key(&gateway, "paid", "stored"), Some(second));
    std::fs::remove_file(rules.join("60-half.toml")).expect("gone");
    let kept = pinned.rules().provider("paid").expect("it").credentials.clone();
    let kept = kept
        .iter()
        .filter_map(|one| one.secret.clone())
        .any(|secret| secret.expose() == first);
    assert!(kept, "requests under way keep theirs");
    // One nobody uses is hidden all the same.
    put(&gateway, "spare", &json!({ "secret": format!("{CANARY}-spare") })).await;
    assert_eq!(
        gateway.fleet.load().masker().mask(&format!("a {CANARY}-spare")),
        "a ***"
    );
    let list = Answer::of(gateway.request(Method::GET, "/api/v1/secrets")).await;
    assert!(!list.text.contains(CANARY), "{}", list.text);
    let list = list.json();
    let names: Vec<_> = list["secrets"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["mine", "spare"]);
    let refused = delete(&gateway, "/api/v1/secrets/mine").await;
    assert_eq!(
        (refused.status, refused.json()["error"]["code"].as_str()),
        (StatusCode::CONFLICT, Some("in_use"))
    );
    assert_eq!(delete(&gateway, "/api/v1/secrets/spare").await.status, 200);
    assert_eq!(delete(&gateway, "/api/v1/secrets/mine?force=true").await.status, 200);
    assert_eq!(key(&gateway, "paid", "stored"), None);
    assert_eq!(delete(&gateway, "/api/v1/secrets/mine").await.status, 404);
    for line in gateway.audit_lines() {
        assert!(!line.to_string().contains(CANARY), "{line}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_without_a_word_of_what_was_sent() {
    let gateway = Gateway::start().await;
    for body in [
        json!({ "secret": 5 }),
        json!({ "secret": [CANARY] }),
        json!({ "secret": { CANARY: CANARY } }),
        json!({ CANARY: "x" }),
        json!({ "secret": "x", CANARY: CANARY }),
        json!({ "secret": format!("{CANARY}\n") }),
        json!({ "secret": "" }),
        json!(CANARY),
        json!([CANARY]),
        json!({}),
    ] {
        let answer = put(&gateway, "mine", &body).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{body}: {}",
            answer.text
        );
        assert!(!answer.text.contains("canary"), "{}", answer.text);
    }
    for body in [
        json!({ "provider": CANARY, "name": "x", "secret": "good-secret" }),
        json!({ "provider": "paid", "name": CANARY.to_uppercase(), "secret": "good-secret" }),
        json!({ "provider": "paid", "name": "x", "secret": "good-secret", "weight": CANARY }),
        json!({ "provider": "paid", "name": "x", "secret": "good-secret", "tags": CANARY }),
        json!({ "provider": "paid", "name": "x", "secret": "good-secret", "limits": { CANARY: 1 } }),
        json!({ "provider": "paid", "name": "x", "secret": "good-secret", "limits": { "concurrent": CANARY } }),
    ] {
        let answer = gateway.post("/api/v1/credentials", &body).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{body}: {}",
            answer.text
        );
        assert!(!answer.text.to_lowercase().contains("canary"), "{}", answer.text);
    }
    for name in ["sk-canary", "CANARY", ".canary", "0123456789abcdef0123456789abcdef"] {
        let answer = put(&gateway, name, &json!({ "secret": "good-secret" })).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{name}: {}",
            answer.text
        );
        assert!(!answer.text.to_lowercase().contains("canary"), "{}", answer.text);
        assert_eq!(delete(&gateway, &format!("/api/v1/secrets/{name}")).await.status, 404);
    }
    assert_eq!(
        gateway.get("/api/v1/secrets").await["secrets"],
        json!([]),
        "nothing was kept"
    );
}

#[tokio::test]
async fn a_credential_is_added_and_removed_with_its_key() {
    let gateway = Gateway::start().await;
    let file = gateway.folder.path().join("rules/credentials-added.toml");
    let secret = format!("{CANARY}-added");
    let body = json!({
        "provider": "paid", "name": "second", "secret": secret, "weight": 3, "tags": ["gold"],
        "limits": { "requests_per_minute": 60 },
    });
    let made = gateway.post("/api/v1/credentials", &body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert!(!made.text.contains(CANARY));
    let status = made.json();
    assert_eq!((&status["weight"], &status["tags"]), (&json!(3), &json!(["gold"])));
    assert_eq!(status["limits"]["requests_per_minute"], 60);
    assert_eq!(key(&gateway, "paid", "second"), Some(secret));
    let text = std::fs::read_to_string(&file).expect("the file");
    assert!(text.contains("store:paid.second") && !text.contains(CANARY), "{text}");
    let again = gateway.post("/api/v1/credentials", &body).await;
    assert_eq!(
        (again.status, again.json()["error"]["code"].as_str()),
        (StatusCode::CONFLICT, Some("name_taken"))
    );
    // Rules which would not be good: nothing changes, and no secret stays behind.
    let bad = json!({ "provider": "paid", "name": "third", "secret": "good-secret", "weight": 5000 });
    let refused = gateway.post("/api/v1/credentials", &bad).await;
    assert_eq!(refused.json()["error"]["code"], "rules_refused", "{}", refused.text);
    assert_eq!(std::fs::read_to_string(&file).expect("the file"), text);
    let list = gateway.get("/api/v1/secrets").await;
    assert_eq!(list["secrets"].as_array().map(Vec::len), Some(1), "{list}");
    // What stands in a user's file is the user's.
    let theirs = delete(&gateway, "/api/v1/credentials/paid/main").await;
    assert_eq!(theirs.json()["error"]["code"], "not_added_here", "{}", theirs.text);
    let gone = delete(&gateway, "/api/v1/credentials/paid/second").await;
    assert_eq!(gone.status, 200, "{}", gone.text);
    assert_eq!(key(&gateway, "paid", "second"), None);
    assert_eq!(gateway.get("/api/v1/secrets").await["secrets"], json!([]));
    assert_eq!(delete(&gateway, "/api/v1/credentials/paid/second").await.status, 404);
}
