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
        json!({ "keys": [shown], "next": null }),
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
    assert_eq!(lines[0]["change"], json!({ "target": id, "values": { "name": "a" } }));
    assert_eq!(lines[1]["refused"], "invalid_field");
    assert_eq!(lines[2]["change"], json!({ "target": id }));
    for line in &lines {
        assert_eq!(
            (&line["time"], &line["from"]),
            (&json!("2026-01-31T12:00:00.000000Z"), &json!("127.0.0.1"))
        );
        assert_eq!(line["who"].as_str().map(str::len), Some(8), "a fingerprint");
        assert_eq!(line["role"], "owner");
        assert!(!line.to_string().contains(TOKEN), "no secret");
    }
}

const POLICY: &str = r#"{
    "disabled": false, "models": ["small*", "large"], "routes": ["a route"], "providers": ["paid"],
    "networks": ["10.0.0.0/8", "2001:db8::/32"], "requests_per_minute": 0, "tokens_per_minute": 100000, "concurrent": 4,
    "budgets": [{ "window": "month", "money": "12.5" }, { "window": "total", "requests": 7, "tokens": 9 }],
    "time_zone": "Asia/Shanghai", "markup": "1.25"
}"#;

#[tokio::test]
async fn all_fields_are_kept_and_changed_one_by_one() {
    let gateway = Gateway::start().await;
    let policy: Value = serde_json::from_str(POLICY).expect("JSON");
    let wanted = json!({ "name": "a", "expires_at": "2030-01-31T14:00:00+02:00", "policy": policy });
    let answer = gateway.post("/api/v1/keys", &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.headers["etag"], "\"1\"");
    let made = answer.json();
    assert_eq!(made["policy"], policy);
    assert_eq!(
        (&made["expires_at"], &made["state"], &made["version"]),
        (&json!("2030-01-31T12:00:00.000000Z"), &json!("active"), &json!(1))
    );
    let windows: Vec<_> = made["account"]["windows"].as_array().expect("windows").iter().collect();
    assert_eq!(
        windows.iter().map(|window| &window["window"]).collect::<Vec<_>>(),
        ["day", "week", "month", "total"]
    );
    assert_eq!(windows[0]["charge"], "0");

    let path = format!("/api/v1/keys/{}", made["id"].as_str().expect("an id"));
    let patch = async |body: Value, version: Option<&str>| {
        let mut request = gateway.request(Method::PATCH, &path).json(&body);
        if let Some(version) = version {
            request = request.header("if-match", version);
        }
        Answer::of(request).await
    };
    let changed = patch(
        json!({ "owner": "team", "policy": { "models": null, "concurrent": 9 } }),
        Some("\"1\""),
    )
    .await;
    assert_eq!(
        (changed.status.as_u16(), &changed.headers["etag"]),
        (200, &"\"2\"".parse().expect("a value"))
    );
    let mut expected = policy.clone();
    expected["models"] = json!([]);
    expected["concurrent"] = json!(9);
    let changed = changed.json();
    assert_eq!((&changed["policy"], &changed["owner"]), (&expected, &json!("team")));
    assert_eq!(changed["name"], "a");

    let stale = patch(json!({ "owner": null }), Some("\"1\"")).await;
    assert_eq!(stale.refused(412, "stale").0, "changed");
    for odd in ["1", "W/\"1\"", "\"x\"", "*"] {
        assert_eq!(patch(json!({}), Some(odd)).await.refused(400, odd).0, "invalid_header");
    }
    let same = patch(json!({}), None).await;
    assert_eq!(same.json()["version"], 2, "nothing was changed");
    let cleared = patch(
        json!({ "owner": null, "expires_at": null, "policy": null, "tags": null }),
        None,
    )
    .await
    .json();
    assert_eq!(
        (&cleared["owner"], &cleared["expires_at"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(cleared["policy"]["budgets"], json!([]));
    let line = gateway.audit_lines().pop().expect("a line");
    let values = json!({ "owner": null, "expires_at": null, "policy": null, "tags": null });
    assert_eq!((&line["method"], &line["change"]["values"]), (&json!("PATCH"), &values));
}

#[tokio::test]
async fn what_a_key_cannot_be_given_is_named() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/keys", &json!({ "name": "a" })).await.json();
    let path = format!("/api/v1/keys/{}", made["id"].as_str().expect("an id"));
    let many: Vec<String> = (0..65).map(|at| format!("m{at}")).collect();
    for (body, field) in [
        (json!({ "name": null }), "name"),
        (json!({ "id": "x" }), "id"),
        (json!({ "revoked_at": null }), "revoked_at"),
        (json!({ "group": "nobody" }), "group"),
        (json!({ "expires_at": "30d" }), "expires_at"),
        (json!({ "policy": { "colour": 1 } }), "policy.colour"),
        (json!({ "policy": { "models": many } }), "policy.models"),
        (json!({ "policy": { "models": ["[a"] } }), "policy.models"),
        (
            json!({ "policy": { "networks": ["10.0.0.0/8", "x"] } }),
            "policy.networks[1]",
        ),
        (
            json!({ "policy": { "budgets": [{ "window": "day" }] } }),
            "policy.budgets",
        ),
        (
            json!({ "policy": { "budgets": [{ "window": "day", "money": 1.5 }] } }),
            "policy.budgets[0].money",
        ),
        (
            json!({ "policy": { "budgets": [{ "window": "day", "money": "1e3" }] } }),
            "policy.budgets[0].money",
        ),
        (json!({ "policy": { "time_zone": "Mars/Olympus" } }), "policy.time_zone"),
        (json!({ "policy": { "markup": "-1" } }), "policy.markup"),
        (json!({ "policy": { "concurrent": -1 } }), "policy.concurrent"),
    ] {
        let told = body.to_string();
        let answer = Answer::of(gateway.request(Method::PATCH, &path).json(&body)).await;
        assert_eq!(
            answer.refused(422, &told),
            ("invalid_field".into(), Some(field.into())),
            "{told}"
        );
    }
    assert_eq!(gateway.get(&path).await["version"], 1, "none of them changed it");
}

#[tokio::test]
async fn pages_and_filters() {
    let gateway = Gateway::start().await;
    gateway.post("/api/v1/groups", &json!({ "id": "team" })).await;
    for at in 0..7 {
        let mut wanted = json!({ "name": format!("key {at}"), "tags": [format!("t{}", at % 2)] });
        if at < 3 {
            wanted["group"] = json!("team");
            wanted["owner"] = json!("someone");
        }
        assert_eq!(gateway.post("/api/v1/keys", &wanted).await.status, 201);
    }
    let mut names = Vec::new();
    let mut path = "/api/v1/keys?limit=3".to_owned();
    loop {
        let page = gateway.get(&path).await;
        let keys = page["keys"].as_array().expect("keys").clone();
        names.extend(keys.iter().map(|key| key["name"].clone()));
        match page["next"].as_str() {
            Some(next) => path = format!("/api/v1/keys?limit=3&cursor={next}"),
            None => break,
        }
    }
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, (0..7).map(|at| json!(format!("key {at}"))).collect::<Vec<_>>());
    let count = async |query: &str| {
        let page = gateway.get(&format!("/api/v1/keys?{query}")).await;
        page["keys"].as_array().expect("keys").len()
    };
    assert_eq!(count("group=team").await, 3);
    assert_eq!(count("owner=someone&tag=t0").await, 2);
    assert_eq!(count("state=active").await, 7);
    Answer::of(gateway.request(Method::DELETE, "/api/v1/groups/team")).await;
    assert_eq!(count("state=group_deleted").await, 3);
    assert_eq!(count("state=revoked").await, 0);
    for (query, field) in [
        ("state=good", "state"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("name=a", "name"),
    ] {
        let answer = Answer::of(gateway.request(Method::GET, &format!("/api/v1/keys?{query}"))).await;
        assert_eq!(answer.refused(400, query).1.as_deref(), Some(field));
    }
}

#[tokio::test]
async fn a_rotation_shows_the_new_secret_once() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/keys", &json!({ "name": "a" })).await.json();
    let (id, first) = (
        made["id"].as_str().expect("an id"),
        made["key"].as_str().expect("a key"),
    );
    let path = format!("/api/v1/keys/{id}/rotate");
    let rotated = gateway.post(&path, &json!({ "overlap": "1h" })).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text);
    let rotated = rotated.json();
    let second = rotated["key"].as_str().expect("a key");
    assert!(second.starts_with(&format!("sk-tg-{id}-")) && second != first);
    assert_eq!(rotated["secrets"][0]["until"], Value::Null);
    assert_eq!(rotated["secrets"][1]["until"], "2026-01-31T13:00:00.000000Z");
    for key in [first, second] {
        assert!(gateway.keys.ring().authenticate(key.as_bytes()).is_ok());
    }
    for (body, field) in [
        (json!({ "overlap": "91d" }), "overlap"),
        (json!({ "overlap": "soon" }), "overlap"),
        (json!({ "over": "1h" }), "over"),
    ] {
        let answer = gateway.post(&path, &body).await;
        assert_eq!(answer.refused(422, "rotate").1.as_deref(), Some(field));
    }
    gateway.post(&path, &json!({})).await;
    gateway.post(&path, &json!({})).await;
    assert_eq!(
        gateway.post(&path, &json!({})).await.refused(409, "many").0,
        "many_secrets"
    );
    let replaced = gateway.post(&path, &json!({ "overlap": "0s" })).await;
    assert_eq!(replaced.status, 201, "{}", replaced.text);
    assert_eq!(
        gateway.keys.ring().authenticate(second.as_bytes()).err(),
        Some(KeyError::Unknown),
        "the oldest are forgotten"
    );
    gateway.post(&format!("/api/v1/keys/{id}/revoke"), &json!({})).await;
    assert_eq!(
        gateway.post(&path, &json!({})).await.refused(409, "revoked").0,
        "revoked"
    );
    let audit = std::fs::read_to_string(gateway.folder.path().join("audit.jsonl")).expect("the audit log");
    assert!(!audit.contains(&second[second.len() - 32..]));
}

#[tokio::test]
async fn keys_of_another_system_are_taken_over_by_their_hash() {
    let gateway = Gateway::start().await;
    // Of nobody.
    let digits = "c38e9c9d6ba2c6aa4fd3a8c56dd1ab4a65b4b81dcc8b4aabd4ac9a5a6e47a1c1";
    let theirs = "sk-theirs-0123456789";
    let real: String = {
        use sha2::{Digest, Sha256};
        Sha256::digest(theirs)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let wanted = json!({
        "keys": [{ "sha256": real, "hint": "sk-t…89" }, { "sha256": digits, "hint": "x", "name": "other" }],
        "owner": "them", "policy": { "models": ["small"] }
    });
    let answer = gateway.post("/api/v1/keys/import", &wanted).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let imported = answer.json();
    assert_eq!(
        (
            &imported["keys"][0]["hint"],
            &imported["keys"][0]["name"],
            &imported["keys"][1]["name"]
        ),
        (&json!("sk-t…89"), &json!("sk-t…89"), &json!("other"))
    );
    let grant = gateway.keys.ring().authenticate(theirs.as_bytes()).expect("it is good");
    assert!(grant.may_ask("small") && !grant.may_ask("large"));
    let again = gateway.post("/api/v1/keys/import", &wanted).await.json();
    assert_eq!(
        (
            again["keys"].as_array().map(Vec::len),
            again["known"].as_array().map(Vec::len)
        ),
        (Some(0), Some(2))
    );
    for (body, field) in [
        (json!({ "keys": [] }), "keys"),
        (json!({ "keys": [{ "sha256": "ab", "hint": "x" }] }), "keys[0].sha256"),
        (json!({ "keys": [{ "sha256": digits, "hint": " " }] }), "hint"),
        (
            json!({ "keys": [{ "sha256": digits, "hint": "x", "text": "canary" }] }),
            "keys[0].text",
        ),
        (
            json!({ "keys": [{ "sha256": digits, "hint": "x" }], "group": "nobody" }),
            "group",
        ),
    ] {
        let answer = gateway.post("/api/v1/keys/import", &body).await;
        assert_eq!(answer.refused(422, &body.to_string()).1.as_deref(), Some(field));
    }
}
