//! Groups: what they are given, and that it holds for their keys.

use reqwest::Method;
use serde_json::{Value, json};
use tollgate::clock::UnixMicros;
use tollgate::keys::Denied;

use crate::support::{Answer, Gateway, NOW};

#[tokio::test]
async fn a_group_lives_from_making_to_deleting() {
    let gateway = Gateway::start().await;
    let wanted = json!({ "id": "team.A_1", "description": "for tests", "policy": { "concurrent": 3 } });
    let made = gateway.post("/api/v1/groups", &wanted).await;
    assert_eq!(
        (made.status.as_u16(), &made.headers["etag"]),
        (201, &"\"1\"".parse().expect("a value"))
    );
    let made = made.json();
    assert_eq!(
        (&made["description"], &made["policy"]["concurrent"], &made["deleted_at"]),
        (&json!("for tests"), &json!(3), &Value::Null)
    );
    let path = "/api/v1/groups/team.A_1";
    assert_eq!(gateway.get(path).await, made);
    assert_eq!(
        gateway.get("/api/v1/groups").await,
        json!({ "groups": [made], "next": null })
    );
    let twice = gateway.post("/api/v1/groups", &wanted).await;
    assert_eq!(twice.refused(409, "twice"), ("exists".into(), Some("id".into())));

    let key = gateway
        .post("/api/v1/keys", &json!({ "name": "a", "group": "team.A_1" }))
        .await
        .json();
    let grant = || {
        let text = key["key"].as_str().expect("a key");
        gateway.keys.ring().authenticate(text.as_bytes()).expect("it is good")
    };
    let body = json!({ "description": null, "policy": { "models": ["small"], "concurrent": null } });
    let changed = Answer::of(
        gateway
            .request(Method::PATCH, path)
            .header("if-match", "\"1\"")
            .json(&body),
    )
    .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let changed = changed.json();
    assert_eq!(
        (
            &changed["description"],
            &changed["version"],
            &changed["policy"]["concurrent"]
        ),
        (&json!(""), &json!(2), &Value::Null)
    );
    assert!(grant().may_ask("small") && !grant().may_ask("large"), "at once");
    let stale = Answer::of(
        gateway
            .request(Method::PATCH, path)
            .header("if-match", "\"1\"")
            .json(&body),
    )
    .await;
    assert_eq!(stale.refused(412, "stale").0, "changed");

    let deleted = Answer::of(gateway.request(Method::DELETE, path)).await;
    assert_eq!(deleted.json()["deleted_at"], "2026-01-31T12:00:00.000000Z");
    assert_eq!(grant().check(None, UnixMicros(NOW.0)), Err(Denied::GroupDeleted));
    let again = Answer::of(gateway.request(Method::DELETE, path)).await;
    assert_eq!(
        (again.status.as_u16(), again.json()),
        (200, deleted.json()),
        "twice is no error"
    );
    let changed = Answer::of(gateway.request(Method::PATCH, path).json(&body)).await;
    assert_eq!(changed.refused(409, "deleted").0, "deleted");
    let member = gateway
        .post("/api/v1/keys", &json!({ "name": "b", "group": "team.A_1" }))
        .await;
    assert_eq!(member.refused(422, "into a deleted group").1.as_deref(), Some("group"));
    assert_eq!(
        gateway
            .post("/api/v1/groups", &wanted)
            .await
            .refused(409, "its name is taken")
            .0,
        "exists"
    );
    let lines = gateway.audit_lines();
    assert_eq!(lines[0]["change"]["values"], wanted);
    assert_eq!(lines[0]["change"]["target"], "team.A_1");
}

#[tokio::test]
async fn what_a_group_cannot_be_given_is_named() {
    let gateway = Gateway::start().await;
    for (body, field) in [
        (json!({}), "id"),
        (json!({ "id": "" }), "id"),
        (json!({ "id": "a b" }), "id"),
        (json!({ "id": ".." }), "id"),
        (json!({ "id": "x".repeat(65) }), "id"),
        (json!({ "id": "a", "description": "x".repeat(501) }), "description"),
        (
            json!({ "id": "a", "policy": { "providers": ["A"] } }),
            "policy.providers",
        ),
        (json!({ "id": "a", "name": "b" }), "name"),
    ] {
        let answer = gateway.post("/api/v1/groups", &body).await;
        assert_eq!(
            answer.refused(422, &body.to_string()).1.as_deref(),
            Some(field),
            "{body}"
        );
    }
    for path in ["/api/v1/groups/nobody", "/api/v1/groups/%ff"] {
        let answer = Answer::of(gateway.request(Method::GET, path)).await;
        assert_eq!(answer.refused(404, path).0, "not_found");
    }
}

#[tokio::test]
async fn pages_of_groups_hold_each_once() {
    let gateway = Gateway::start().await;
    for id in ["b", "a", "d", "c", "e"] {
        gateway.post("/api/v1/groups", &json!({ "id": id })).await;
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/groups?limit=2".to_owned();
    loop {
        let page = gateway.get(&path).await;
        let groups = page["groups"].as_array().expect("groups");
        names.extend(
            groups
                .iter()
                .map(|group| group["id"].as_str().expect("a name").to_owned()),
        );
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/groups?limit=2&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "b", "c", "d", "e"]);
}
