//! What a key may not do, told in each dialect.

use serde_json::json;
use tollgate::keys::Policy;
use tollgate::limits::{Budget, Limits, Window};

use super::*;
use crate::support::dialect::{ALL, Dialect};

/// The word of a dialect for the class of an error.
fn kind(dialect: Dialect, reply: &Reply) -> String {
    let error = reply.json()["error"].clone();
    let word = match dialect {
        Dialect::Gemini => &error["status"],
        _ => &error["type"],
    };
    word.as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_may_not_do_is_refused_in_its_dialect() {
    let policies = [
        Policy {
            disabled: true,
            ..Policy::default()
        },
        Policy {
            networks: vec!["192.0.2.0/24".parse().unwrap()],
            ..Policy::default()
        },
        Policy {
            models: vec!["allowed*".into()],
            ..Policy::default()
        },
        Policy {
            providers: vec!["elsewhere".into()],
            ..Policy::default()
        },
        Policy {
            routes: vec!["all".into()],
            ..Policy::default()
        },
    ];
    let alias = "[alias]\n\"allowed-by-another-name\" = \"secret-model\"\n";
    let (gateway, provider, keys) = setting(alias, "", &policies).await;
    let model = "priced,tokens=1";
    for dialect in ALL {
        let told = [
            (0, "key_disabled", "is disabled"),
            (1, "address_not_allowed", "from this address"),
            (2, "model_not_allowed", "priced"),
            (3, "not_allowed", "may not use"),
        ];
        for (at, code, word) in told {
            let reply = ask(&gateway, &keys[at], dialect, model).await;
            dialect.check_refusal(code, 403, &reply);
            assert!(reply.text().contains(word), "{code}: {}", reply.text());
            if matches!(dialect, Dialect::Chat | Dialect::Responses) {
                assert_eq!(reply.json()["error"]["code"], code);
            }
        }
        let reply = ask(&gateway, &keys[4], dialect, model).await;
        assert_eq!(reply.status, 200, "the route is allowed: {}", reply.text());
    }
    provider.sandbox.reset();
    // What an alias makes of an allowed name is not allowed; past the routes nothing is, to who has a list of them.
    let reply = ask(&gateway, &keys[2], Dialect::Chat, "allowed-by-another-name").await;
    assert_eq!(reply.status, 403, "{}", reply.text());
    assert!(!reply.text().contains("secret-model"), "no name but the client's");
    let reply = ask(&gateway, &keys[4], Dialect::Chat, "p/priced").await;
    assert_eq!(reply.json()["error"]["code"], "not_allowed");
    for (at, code) in [(2, "not_allowed"), (3, "not_allowed"), (4, "not_allowed")] {
        let reply = post(&gateway, &keys[at], Dialect::Chat, "/p/p/v1/chat/completions", b"{}").await;
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].clone()),
            (403, json!(code))
        );
    }
    assert!(provider.sandbox.last().is_empty(), "none of it reached the provider");
    let bearer = format!("Bearer {}", keys[2]);
    let list = client::send(
        gateway.ports.http,
        "GET",
        "/v1/models",
        &[("authorization", &bearer)],
        b"",
    )
    .await;
    assert!(!list.text().contains("secret"), "{}", list.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_told_in_each_dialect_and_say_whether_waiting_helps() {
    let per_minute = limits(Limits {
        requests_per_minute: Some(1),
        tokens_per_minute: Some(1_000_000),
        ..Limits::default()
    });
    let used_up = dollars("0");
    let small = dollars("0.000001");
    let one_request = budget(Budget {
        window: Window::Day,
        requests: Some(1),
        tokens: None,
        money: None,
    });
    let mut policies = Vec::new();
    for _ in ALL {
        policies.extend([per_minute.clone(), used_up.clone(), small.clone(), one_request.clone()]);
    }
    let (gateway, provider, keys) = setting("", "", &policies).await;
    let model = "priced,tokens=1";
    for (index, dialect) in ALL.into_iter().enumerate() {
        let keys = &keys[index * 4..][..4];
        let (rate, quota) = match dialect {
            Dialect::Messages => ("rate_limit_error", "rate_limit_error"),
            Dialect::Gemini => ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED"),
            _ => ("rate_limit_error", "insufficient_quota"),
        };
        let first = ask(&gateway, &keys[0], dialect, model).await;
        assert_eq!(first.status, 200, "{}", first.text());
        let names = match dialect {
            Dialect::Messages => [
                "anthropic-ratelimit-requests-limit",
                "anthropic-ratelimit-requests-remaining",
            ],
            _ => ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests"],
        };
        assert_eq!(
            names.map(|name| first.header(name)),
            [Some("1"), Some("0")],
            "{:?}",
            first.headers
        );
        let tokens = match dialect {
            Dialect::Messages => "anthropic-ratelimit-tokens-remaining",
            _ => "x-ratelimit-remaining-tokens",
        };
        assert!(first.header(tokens).is_some(), "{:?}", first.headers);
        let reply = ask(&gateway, &keys[0], dialect, model).await;
        dialect.check_refusal("requests per minute", 429, &reply);
        assert_eq!(kind(dialect, &reply), rate);
        assert_eq!(
            names.map(|name| reply.header(name)),
            [Some("1"), Some("0")],
            "refusals bear them too"
        );
        let wait: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait), "{wait}");
        assert_eq!(reply.header("x-should-retry"), None, "waiting helps");

        let (unlimited, _) = (ask(&gateway, &keys[3], dialect, model).await, ());
        assert_eq!(unlimited.status, 200);
        assert_eq!(
            unlimited.header("x-ratelimit-limit-requests"),
            None,
            "no limit, no header"
        );
        for (at, what) in [(1, "used up"), (2, "may need"), (3, "used up")] {
            let reply = ask(&gateway, &keys[at], dialect, model).await;
            dialect.check_refusal(what, 429, &reply);
            assert!(reply.text().contains(what), "{what}: {}", reply.text());
            assert_eq!(kind(dialect, &reply), quota, "{what}");
            assert_eq!(reply.header("x-should-retry"), Some("false"), "{what}");
        }
    }
    assert_eq!(provider.sandbox.last().len(), 8, "what was refused reached nobody");
}
