//! `Idempotency-Key`: what is sent twice is made once.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway};

async fn post(gateway: &Gateway, token: &str, path: &str, word: &str, body: &Value) -> Answer {
    let request = gateway.bare(Method::POST, path).bearer_auth(token);
    Answer::of(request.header("idempotency-key", word).json(body)).await
}

#[tokio::test]
async fn the_same_call_makes_one_thing_and_gets_one_answer() {
    let gateway = Gateway::start().await;
    let owner = gateway.token("owner").await;
    let body = json!({ "name": "a" });
    let first = post(&gateway, &owner, "/api/v1/keys", "word-1", &body).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    let again = post(&gateway, &owner, "/api/v1/keys", "word-1", &body).await;
    assert_eq!(
        (again.status, &again.text),
        (first.status, &first.text),
        "with the key's text"
    );
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["etag"], first.headers["etag"]);
    assert_eq!(again.headers["cache-control"], "no-store");
    assert_eq!(gateway.keys.list().len(), 1);
    let lines = gateway.audit_lines();
    assert_eq!(lines.last().map(|line| &line["replayed"]), Some(&json!(true)));

    for (path, body) in [
        ("/api/v1/keys", json!({ "name": "b" })),
        ("/api/v1/groups", body.clone()),
    ] {
        let other = post(&gateway, &owner, path, "word-1", &body).await;
        assert_eq!(other.refused(422, "another call").0, "idempotency_key_reused");
    }
    let operator = gateway.token("operator").await;
    assert_eq!(
        post(&gateway, &operator, "/api/v1/keys", "word-1", &body).await.status,
        201,
        "another's word"
    );
    assert_eq!(
        post(&gateway, &owner, "/api/v1/keys", "word-2", &body).await.status,
        201
    );
    assert_eq!(gateway.keys.list().len(), 3);

    let id = first.json()["id"].as_str().expect("an id").to_owned();
    let rotate = format!("/api/v1/keys/{id}/rotate");
    let rotated = post(&gateway, &owner, &rotate, "word-3", &json!({})).await;
    assert_eq!(
        post(&gateway, &owner, &rotate, "word-3", &json!({})).await.text,
        rotated.text
    );
    assert_eq!(
        gateway.get(&format!("/api/v1/keys/{id}")).await["secrets"]
            .as_array()
            .map(Vec::len),
        Some(2)
    );
}

#[tokio::test]
async fn calls_at_once_make_one_thing() {
    let gateway = Gateway::start().await;
    let owner = gateway.token("owner").await;
    let body = json!({ "name": "a" });
    let calls = (0..8).map(|_| post(&gateway, &owner, "/api/v1/keys", "word", &body));
    let mut made = Vec::new();
    for answer in join_all(calls).await {
        match answer.status.as_u16() {
            201 => made.push(answer.text),
            409 => assert_eq!(answer.refused(409, "under way").0, "idempotency_key_in_use"),
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert!(!made.is_empty() && made.iter().all(|text| *text == made[0]));
    assert_eq!(gateway.keys.list().len(), 1);
}

/// All of them at once.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut done = Vec::new();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        match waiting.is_empty() {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    done
}

#[tokio::test]
async fn a_refused_call_may_be_corrected_and_an_odd_word_is_refused() {
    let gateway = Gateway::start().await;
    let owner = gateway.token("owner").await;
    let refused = post(&gateway, &owner, "/api/v1/keys", "word", &json!({ "name": "" })).await;
    refused.refused(422, "no name");
    assert_eq!(
        post(&gateway, &owner, "/api/v1/keys", "word", &json!({ "name": "a" }))
            .await
            .status,
        201
    );
    for word in ["", "a b", &"x".repeat(256)] {
        let answer = post(&gateway, &owner, "/api/v1/keys", word, &json!({ "name": "a" })).await;
        assert_eq!(
            answer.refused(400, word),
            ("invalid_header".into(), Some("idempotency-key".into()))
        );
    }
    let viewer = gateway.token("viewer").await;
    let answer = post(&gateway, &viewer, "/api/v1/keys", "word", &json!({ "name": "a" })).await;
    assert_eq!(answer.refused(403, "a viewer").0, "forbidden");
    assert_eq!(gateway.keys.list().len(), 1);
    let large = json!({ "name": "x".repeat(70_000) });
    let answer = post(&gateway, &owner, "/api/v1/keys", "large", &large).await;
    assert_eq!(answer.refused(413, "large").0, "body_too_large");
}
