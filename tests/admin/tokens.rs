//! Tokens and roles: who may do what, and that it is recorded.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Gateway, TOKEN};

#[tokio::test]
async fn each_role_goes_as_far_as_it_should() {
    let gateway = Gateway::start().await;
    let tokens = [
        ("viewer", gateway.token("viewer").await),
        ("operator", gateway.token("operator").await),
        ("owner", gateway.token("owner").await),
    ];
    let made = gateway.post("/api/v1/keys", &json!({ "name": "a" })).await.json();
    let key = format!("/api/v1/keys/{}", made["id"].as_str().expect("an id"));
    for (method, path, needed) in [
        (Method::GET, "/api/v1/keys", 0),
        (Method::GET, "/api/v1/status", 0),
        (Method::GET, "/api/v1/usage/report", 0),
        (Method::GET, key.as_str(), 0),
        (Method::POST, "/api/v1/keys", 1),
        (Method::PATCH, key.as_str(), 1),
        (Method::POST, "/api/v1/groups", 1),
        (Method::POST, "/api/v1/reload", 1),
        (Method::POST, "/api/v1/credentials/paid/main/disable", 1),
        (Method::GET, "/api/v1/tokens", 2),
        (Method::POST, "/api/v1/tokens", 2),
        (Method::GET, "/api/v1/audit", 2),
        (Method::GET, "/api/v1/audit/verify", 2),
    ] {
        for (rank, (role, token)) in tokens.iter().enumerate() {
            let told = format!("{role}: {method} {path}");
            let mut request = gateway.bare(method.clone(), path).bearer_auth(token);
            if method != Method::GET {
                request = request.json(&json!({}));
            }
            let answer = Answer::of(request).await;
            if rank < needed {
                assert_eq!(answer.refused(403, &told).0, "forbidden", "{told}");
                let line = gateway.audit_lines().pop().expect("a line");
                assert_eq!(
                    (&line["role"], &line["status"], &line["refused"]),
                    (&json!(role), &json!(403), &json!("forbidden")),
                    "{told}"
                );
            } else {
                assert!(answer.status != 403 && answer.status != 401, "{told}: {}", answer.text);
            }
        }
    }
}

#[tokio::test]
async fn a_token_lives_from_making_to_revoking() {
    let gateway = Gateway::start().await;
    let wanted = json!({ "name": " robot ", "role": "operator", "expires_at": "2026-02-01T00:00:00Z" });
    let made = gateway.post("/api/v1/tokens", &wanted).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let mut made = made.json();
    let token = made
        .as_object_mut()
        .and_then(|made| made.remove("token"))
        .expect("a token");
    let token = token.as_str().expect("a text").to_owned();
    let id = made["id"].as_str().expect("an id").to_owned();
    assert!(token.starts_with(&format!("tg-admin-{id}-")));
    assert_eq!((&made["name"], &made["role"]), (&json!("robot"), &json!("operator")));
    let list = gateway.get("/api/v1/tokens").await;
    assert_eq!(list["tokens"], json!([made]), "the list shows all but the token");
    assert_eq!(list["file"].as_str().map(str::len), Some(8));

    let answer = Answer::of(
        gateway
            .bare(Method::POST, "/api/v1/keys")
            .bearer_auth(&token)
            .json(&json!({ "name": "a" })),
    )
    .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let line = gateway.audit_lines().pop().expect("a line");
    assert_eq!(
        (&line["who"], &line["role"]),
        (&json!(id), &json!("operator")),
        "the log says who it was"
    );

    let path = format!("/api/v1/tokens/{id}/revoke");
    let revoked = gateway.post(&path, &json!({})).await;
    assert_eq!(revoked.json()["revoked_at"], "2026-01-31T12:00:00.000000Z");
    assert_eq!(
        gateway.post(&path, &json!({})).await.json(),
        revoked.json(),
        "twice is no error"
    );
    let answer = Answer::of(gateway.bare(Method::GET, "/api/v1/keys").bearer_auth(&token)).await;
    assert_eq!(answer.refused(401, "revoked").0, "unauthorized");
    for wrong in [
        "tg-admin-AAAAAAAAAAAA-canarycanarycanarycanarycanary12",
        "tg-admin-",
        &token[..token.len() - 1],
        &format!("{token}x"),
    ] {
        let answer = Answer::of(gateway.bare(Method::GET, "/api/v1/keys").bearer_auth(wrong)).await;
        answer.refused(401, wrong);
    }
    let answer = gateway.post("/api/v1/tokens/canary/revoke", &json!({})).await;
    assert_eq!(answer.refused(404, "no id").0, "not_found");
    assert!(!answer.text.contains("canary"));
    let audit = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log");
    assert!(!audit.contains(&token[token.len() - 32..]) && !audit.contains(TOKEN) && !audit.contains("canary"));
}

#[tokio::test]
async fn what_a_token_cannot_be_given_is_named() {
    let gateway = Gateway::start().await;
    for (body, field) in [
        (json!({ "name": "a" }), "role"),
        (json!({ "name": "a", "role": "root" }), "role"),
        (json!({ "name": "", "role": "viewer" }), "name"),
        (
            json!({ "name": "a", "role": "viewer", "expires_at": "tomorrow" }),
            "expires_at",
        ),
        (json!({ "name": "a", "role": "viewer", "token": "x" }), "token"),
    ] {
        let answer = gateway.post("/api/v1/tokens", &body).await;
        assert_eq!(
            answer.refused(422, &body.to_string()).1.as_deref(),
            Some(field),
            "{body}"
        );
    }
}

#[tokio::test]
async fn the_audit_log_is_read_page_by_page_and_checked() {
    let gateway = Gateway::start().await;
    for at in 0..5 {
        gateway
            .post("/api/v1/keys", &json!({ "name": format!("key {at}") }))
            .await;
    }
    let page = gateway.get("/api/v1/audit?limit=2").await;
    let name = |line: &Value| line["change"]["values"]["name"].clone();
    let names: Vec<Value> = page["lines"].as_array().expect("lines").iter().map(name).collect();
    assert_eq!(names, [json!("key 4"), json!("key 3")], "newest first");
    let next = page["next"].as_str().expect("more");
    let page = gateway.get(&format!("/api/v1/audit?limit=3&cursor={next}")).await;
    assert_eq!(
        (page["lines"].as_array().map(Vec::len), &page["next"]),
        (Some(3), &Value::Null)
    );
    let check = gateway.get("/api/v1/audit/verify").await;
    assert_eq!(
        check,
        json!({ "whole": true, "lines": 5, "broken_at": null, "continues": null })
    );
    let file = gateway.folder.path().join("audit.jsonl");
    let text = std::fs::read_to_string(&file).expect("the audit log");
    let cut: String = text.split_inclusive('\n').take(4).collect();
    std::fs::write(&file, cut).expect("written");
    assert_eq!(
        gateway.get("/api/v1/audit/verify").await["whole"],
        false,
        "its end was cut off"
    );
    std::fs::write(&file, text.replace("key 1", "key 9")).expect("written");
    assert_eq!(gateway.get("/api/v1/audit/verify").await["broken_at"], 3);
}

#[tokio::test]
async fn what_can_not_be_entered_in_the_audit_log_is_not_done() {
    let gateway = Gateway::start().await;
    let key = gateway.post("/api/v1/keys", &json!({ "name": "before" })).await.json();
    let path = format!("/api/v1/keys/{}", key["id"].as_str().expect("an id"));
    // In the way of the file that is written first, as a full disk would be.
    let in_the_way = gateway.folder.path().join("audit.head.new");
    std::fs::create_dir(&in_the_way).expect("a folder");
    let before = gateway.get("/api/v1/keys").await;
    let refused = gateway.post("/api/v1/keys", &json!({ "name": "unseen" })).await;
    assert_eq!(refused.refused(503, "audit_unwritable").1, None, "{}", refused.text);
    assert!(refused.text.contains("nothing was changed"), "{}", refused.text);
    let patched = Answer::of(
        gateway
            .request(Method::PATCH, &path)
            .json(&json!({ "state": "disabled" })),
    )
    .await;
    patched.refused(503, "PATCH");
    assert_eq!(gateway.get("/api/v1/keys").await, before, "nothing was changed");
    std::fs::remove_dir(&in_the_way).expect("out of the way");
    let made = gateway.post("/api/v1/keys", &json!({ "name": "seen" })).await;
    assert_eq!(made.status, 201);
    let names: Vec<Value> = gateway
        .audit_lines()
        .iter()
        .map(|line| line["change"]["values"]["name"].clone())
        .collect();
    assert_eq!(names, [json!("before"), json!("seen")]);
    assert_eq!(gateway.get("/api/v1/audit/verify").await["whole"], true);
}

#[tokio::test]
async fn an_audit_log_that_was_emptied_or_deleted_is_found() {
    let gateway = Gateway::start().await;
    let make = async || gateway.post("/api/v1/keys", &json!({ "name": "a" })).await;
    let file = gateway.folder.path().join("audit.jsonl");
    for take in [&|| std::fs::write(&file, "").expect("emptied") as (), &|| {
        std::fs::remove_file(&file).expect("deleted")
    }] as [&dyn Fn(); 2]
    {
        make().await;
        take();
        assert_eq!(gateway.get("/api/v1/audit/verify").await["whole"], false);
        make().await;
        let check = gateway.get("/api/v1/audit/verify").await;
        assert_eq!((&check["whole"], &check["lines"]), (&json!(false), &json!(1)));
        assert!(
            check["continues"].is_string() && check["continued"].is_null(),
            "{check}"
        );
    }
    let moved = gateway.folder.path().join("audit.jsonl.1");
    std::fs::rename(&file, &moved).expect("moved");
    make().await;
    let check = gateway.get("/api/v1/audit/verify").await;
    assert_eq!(
        (&check["whole"], &check["continued"]),
        (&json!(true), &json!("audit.jsonl.1"))
    );
}
