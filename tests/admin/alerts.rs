//! Alerts as the admin API shows and tests them. Delivery itself is tested in the room, and from outside in tests/e2e.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway};

#[tokio::test]
async fn viewers_look_and_operators_test() {
    let gateway = Gateway::start().await;
    let view = gateway.get("/api/v1/alerts").await;
    assert_eq!(view, json!({ "active": [], "beyond": 0, "webhooks": [] }));
    for (role, status) in [("viewer", 403), ("operator", 200)] {
        let token = gateway.token(role).await;
        let looked = gateway.bare(Method::GET, "/api/v1/alerts").bearer_auth(&token);
        assert_eq!(Answer::of(looked).await.status, 200);
        let test = gateway.bare(Method::POST, "/api/v1/alerts/test").bearer_auth(&token);
        let answer = Answer::of(test.json(&json!({}))).await;
        assert_eq!(answer.status, status, "{role}: {}", answer.text);
        if status == 200 {
            assert_eq!(answer.json(), json!({ "results": [] }));
        }
    }
    let lines = gateway.audit_lines();
    let tests: Vec<&Value> = lines
        .iter()
        .filter(|line| line["path"] == "/api/v1/alerts/test")
        .collect();
    assert_eq!(tests.len(), 2, "{lines:#?}");
    assert_eq!((&tests[0]["status"], &tests[1]["status"]), (&json!(403), &json!(200)));
}

#[tokio::test]
async fn what_is_no_webhook_is_not_tested() {
    let gateway = Gateway::start().await;
    let unknown = gateway
        .post("/api/v1/alerts/test", &json!({ "webhook": "nobody" }))
        .await;
    assert_eq!(unknown.status, 404, "{}", unknown.text);
    let odd = gateway.post("/api/v1/alerts/test", &json!({ "webhok": "ops" })).await;
    assert_eq!(odd.status, 422, "{}", odd.text);
}
