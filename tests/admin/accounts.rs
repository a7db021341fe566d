//! How accounts stand: what was used, what is held, what is left.

use std::time::Instant;

use serde_json::{Value, json};
use tollgate::limits::{Estimate, Spent};
use tollgate::money::NanoUsd;

use crate::command_line::tollgate;
use crate::support::{Gateway, NOW};

#[tokio::test]
async fn an_account_shows_what_is_used_held_and_left() {
    let gateway = Gateway::start().await;
    let policy = json!({
        "requests_per_minute": 60,
        "concurrent": 4,
        "time_zone": "Asia/Shanghai",
        "budgets": [
            { "window": "day", "requests": 10, "money": "1.5" },
            { "window": "total", "tokens": 5000 },
        ],
    });
    let made = gateway
        .post("/api/v1/keys", &json!({ "name": "a", "policy": policy }))
        .await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let (id, key) = (
        made["id"].as_str().expect("an id"),
        made["key"].as_str().expect("a key"),
    );
    let grant = gateway.keys.ring().authenticate(key.as_bytes()).expect("it is good");
    grant.chain.key().book(
        NOW,
        Spent {
            requests: 3,
            tokens: 1200,
            charge: NanoUsd(250_000_000),
        },
    );
    let admission = grant.chain.enter(NOW, Instant::now()).expect("there is room");
    let estimate = Estimate {
        tokens: 100,
        most_tokens: 300,
        money: NanoUsd(50_000_000),
    };
    let held = admission.reserve(estimate, true, NOW, Instant::now()).expect("it fits");

    let path = format!("/api/v1/keys/{id}");
    let account = gateway.get(&path).await["account"].clone();
    let [day, week, month, total] = account["windows"].as_array().expect("windows").as_slice() else {
        panic!("four windows: {account:#}");
    };
    // The day of Shanghai, which is eight hours ahead.
    assert_eq!(day["from"], "2026-01-30T16:00:00.000000Z");
    assert_eq!(day["until"], "2026-01-31T16:00:00.000000Z");
    assert_eq!(
        (&day["requests"], &day["tokens"], &day["charge"]),
        (&json!(3), &json!(1200), &json!("0.25"))
    );
    assert_eq!(
        day["reserved"],
        json!({ "requests": 1, "tokens": 300, "charge": "0.05" })
    );
    assert_eq!(day["left"], json!({ "requests": 6, "tokens": null, "charge": "1.2" }));
    assert_eq!(week["left"], Value::Null, "no budget for it");
    assert_eq!(month["requests"], 3);
    assert_eq!((&total["from"], &total["until"]), (&Value::Null, &Value::Null));
    assert_eq!(total["left"]["tokens"], 5000 - 1200 - 300);
    assert_eq!((&account["in_flight"], &account["concurrent"]), (&json!(1), &json!(4)));
    assert_eq!(account["minute"]["requests"]["limit"], 60);
    assert_eq!(account["minute"]["requests"]["remaining"], 59);
    assert_eq!(account["minute"]["tokens"], Value::Null);

    let shown = tollgate(&gateway, &format!("keys show {id}")).await;
    assert_eq!(shown.code, Some(0), "{}", shown.err);
    for told in [
        "under way",
        "1 of 4 requests under way",
        "59 of 60 requests left this minute",
        "1.2",
        "3,500",
        "2026-01-31T16:00:00",
    ] {
        assert!(shown.out.contains(told), "{} should tell {told}", shown.out);
    }

    drop(held);
    drop(admission);
    let account = gateway.get(&path).await["account"].clone();
    assert_eq!(account["in_flight"], 0);
    assert_eq!(
        account["windows"][0]["left"]["requests"], 7,
        "what was held is given back"
    );
}

#[tokio::test]
async fn groups_and_keys_without_limits_show_the_same() {
    let gateway = Gateway::start().await;
    let made = gateway.post("/api/v1/groups", &json!({ "id": "team" })).await;
    assert!(made.status.is_success(), "{}", made.text);
    let group = gateway.get("/api/v1/groups/team").await;
    let account = &group["account"];
    assert_eq!(account["windows"].as_array().map(Vec::len), Some(4));
    assert!(
        account["windows"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|window| window["left"].is_null())
    );
    assert_eq!(
        (&account["concurrent"], &account["minute"]["requests"]),
        (&Value::Null, &Value::Null)
    );
    assert!(
        tollgate(&gateway, "groups show team")
            .await
            .out
            .contains("0 requests under way")
    );
}
