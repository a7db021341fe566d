//! What requests cost: limits put into them, unknown prices, the header, who goes away.

use tollgate::keys::Policy;
use tollgate::limits::{Budget, Limits, Window};

use super::*;
use crate::support::dialect::{Dialect, record};
use crate::support::provider::{Answer, Provider as Scripted};

/// The model in a path of Gemini's.
fn model_of(target: &str) -> &str {
    target
        .rsplit('/')
        .next()
        .and_then(|last| last.split(':').next())
        .unwrap_or("")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_of_keys_with_budgets_have_a_length() {
    let tokens = budget(Budget {
        window: Window::Day,
        requests: None,
        tokens: Some(1_000_000),
        money: None,
    });
    let model = "[[model]]\nname = \"known*\"\noutput = 777\n";
    let mut recorded = Vec::new();
    for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Gemini] {
        recorded.push((dialect, record(dialect, "m", false).await));
    }
    let answers = recorded.clone();
    let provider = Scripted::start(move |request| {
        let of = answers
            .iter()
            .find(|(dialect, _)| request.target == dialect.path(model_of(&request.target), false));
        Answer::json(200, of.map_or(answers[0].1.clone(), |(_, answer)| answer.clone()))
    })
    .await;
    let policies = [tokens, Policy::default()];
    let (gateway, keys) = setting_at(provider.address, model, "assumed_output = 999", &policies).await;
    let last_body = || serde_json::from_slice::<Value>(&provider.last().body).unwrap();
    for (dialect, path) in [
        (Dialect::Chat, "/max_tokens"),
        (Dialect::Responses, "/max_output_tokens"),
        (Dialect::Gemini, "/generationConfig/maxOutputTokens"),
    ] {
        for (model, want) in [("known", 777), ("other", 999)] {
            assert_eq!(ask(&gateway, &keys[0], dialect, model).await.status, 200);
            let body = last_body();
            assert_eq!(
                body.pointer(path).and_then(Value::as_u64),
                Some(want),
                "{dialect:?} {body}"
            );
        }
        assert_eq!(ask(&gateway, &keys[1], dialect, "known").await.status, 200);
        assert_eq!(
            provider.last().body,
            dialect.body("known", false),
            "other keys' bodies stay as they are"
        );
    }
    // The client's own stays, under a name that the model's provider knows.
    let mine = br#"{"model":"known","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}"#;
    let newer = br#"{"model":"known","max_completion_tokens":5,"messages":[{"role":"user","content":"Hi"}]}"#;
    let renamed = br#"{"model":"known","messages":[{"role":"user","content":"Hi"}],"max_tokens":5}"#;
    for (key, body, want) in [
        (&keys[0], &mine[..], &mine[..]),
        (&keys[0], newer, renamed),
        (&keys[1], newer, newer),
    ] {
        let reply = post(&gateway, key, Dialect::Chat, "/v1/chat/completions", body).await;
        assert_eq!(reply.status, 200);
        let sent = provider.last().body.clone();
        assert_eq!(std::str::from_utf8(&sent), std::str::from_utf8(want));
    }
    // OpenAI's own models refuse the older name.
    assert_eq!(ask(&gateway, &keys[0], Dialect::Chat, "gpt-5-mini").await.status, 200);
    assert_eq!(last_body()["max_completion_tokens"], 999);
    let odd = br#"{"model":"known","max_tokens":-1,"messages":[{"role":"user","content":"Hi"}]}"#;
    let reply = post(&gateway, &keys[0], Dialect::Chat, "/v1/chat/completions", odd).await;
    assert_eq!(reply.status, 400, "no limit at all to some: {}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_price_is_refused_or_capped() {
    let route =
        "[[route]]\nname = \"capped\"\nmodel = \"capped*\"\ntargets = [{ provider = \"p\" }]\nunknown_price = 0.05\n";
    let policies = [dollars("0.12"), Policy::default(), dollars("0.12")];
    let (gateway, provider, keys) = setting(route, "", &policies).await;
    let reply = ask(&gateway, &keys[0], Dialect::Chat, "nobody-knows").await;
    Dialect::Chat.check_refusal("unknown price", 403, &reply);
    assert_eq!(reply.json()["error"]["code"], "unknown_price");
    for (path, code) in [
        ("/p/p/v1/images/variations", "unknown_price"),
        ("/p/p/v1/chat/completions", "not_counted"),
        ("/p/p/chat/completions", "not_counted"),
    ] {
        let reply = post(&gateway, &keys[0], Dialect::Chat, path, b"{}").await;
        assert_eq!(
            (reply.status, reply.json()["error"]["code"].as_str()),
            (403, Some(code)),
            "{path}"
        );
    }
    assert!(provider.sandbox.last().is_empty());
    let reply = ask(&gateway, &keys[1], Dialect::Chat, "nobody-knows").await;
    assert_eq!(
        (reply.status, reply.header("x-tollgate-cost-usd")),
        (200, None),
        "nobody's budget"
    );
    for left in ["0.05", "0.1"] {
        let reply = ask(&gateway, &keys[0], Dialect::Chat, "capped").await;
        assert_eq!(
            (reply.status, reply.header("x-tollgate-cost-usd")),
            (200, Some("0.05")),
            "{}",
            reply.text()
        );
        gateway.idle().await;
        assert_eq!(spent(&gateway, &keys[0]).await.0.to_string(), left);
    }
    let reply = ask(&gateway, &keys[0], Dialect::Chat, "capped").await;
    assert_eq!(reply.status, 429, "0.02 is left");
    let lines = lines(&gateway, 3).await;
    assert!(lines.iter().all(|line| line["cost_usd"].is_null()), "{lines:?}");
    assert_eq!(
        ask(&gateway, &keys[2], Dialect::Chat, "capped,status=500").await.status,
        500
    );
    gateway.idle().await;
    assert_eq!(spent(&gateway, &keys[2]).await.0.0, 0, "an error costs nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_request_cost_is_the_same_everywhere() {
    let marked_up = Policy {
        markup: Some("1.5".parse().unwrap()),
        ..dollars("1")
    };
    let (gateway, _provider, keys) = setting("", "", &[marked_up]).await;
    let model = "priced,prompt=1000,tokens=500";
    let mut count = 0;
    for dialect in crate::support::dialect::ALL {
        let reply = ask(&gateway, &keys[0], dialect, model).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        // 1000 of 1 dollar and 500 of 2 dollars a million, and half of it again.
        assert_eq!(reply.header("x-tollgate-cost-usd"), Some("0.003"), "{dialect:?}");
        count += 1;
        gateway.idle().await;
        assert_eq!(spent(&gateway, &keys[0]).await.0.0, count * 3_000_000);
        let all = lines(&gateway, count as usize).await;
        let line = &all[count as usize - 1];
        assert_eq!(
            (line["cost_usd"].as_str(), line["charge_usd"].as_str()),
            (Some("0.002"), Some("0.003"))
        );
        assert!(line["estimated"].is_null());
    }
    let reply = ask(&gateway, &keys[0], Dialect::Chat, "priced,status=400").await;
    assert_eq!((reply.status, reply.header("x-tollgate-cost-usd")), (400, None));
    gateway.idle().await;
    assert_eq!(
        spent(&gateway, &keys[0]).await.0.0,
        count * 3_000_000,
        "a refusal of the provider's costs nothing"
    );
    let page = gateway.metrics().await;
    let counted = page
        .lines()
        .filter(|line| line.starts_with("tollgate_charge_nanousd_total"));
    let sum: f64 = counted
        .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
        .sum();
    assert_eq!(sum as u64, count * 3_000_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_pays_for_what_came() {
    let (gateway, _provider, keys) = setting("", "", &[dollars("1"), dollars("1")]).await;
    let model = "priced,tokens=100000,pace=5ms";
    for (key, dialect) in keys.iter().zip([Dialect::Chat, Dialect::Messages]) {
        let mut connection = begin(&gateway, key, dialect, model, true).await;
        connection.started(2000).await;
        drop(connection);
        gateway.idle().await;
        let (used, reserved) = spent(&gateway, key).await;
        // A few words of the answer at two nano-dollars each thousand … and of the prompt.
        assert!(used.0 > 2000 && used.0 < 100_000_000, "{dialect:?}: {used}");
        assert_eq!(reserved.0, 0);
    }
    let lines = lines(&gateway, 2).await;
    for line in lines {
        assert_eq!(
            (line["ended"].as_str(), line["estimated"].as_bool()),
            (Some("client_gone"), Some(true)),
            "{line}"
        );
        assert_eq!(line["cost_usd"], line["charge_usd"]);
        assert!(line["output_tokens"].as_u64() > Some(0), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_route_with_a_queue_lets_wait() {
    let route =
        "[[route]]\nname = \"patient\"\nmodel = \"patient*\"\ntargets = [{ provider = \"p\" }]\nqueue = \"30s\"\n";
    let one = limits(Limits {
        concurrent: Some(1),
        ..Limits::default()
    });
    let (gateway, _provider, keys) = setting(route, "", &[one]).await;
    let both = tokio::join!(
        ask(&gateway, &keys[0], Dialect::Chat, "patient,first=300ms"),
        ask(&gateway, &keys[0], Dialect::Chat, "patient,first=300ms")
    );
    assert_eq!(
        (both.0.status, both.1.status),
        (200, 200),
        "{} {}",
        both.0.text(),
        both.1.text()
    );
    let both = tokio::join!(
        ask(&gateway, &keys[0], Dialect::Chat, "hasty,first=500ms"),
        ask(&gateway, &keys[0], Dialect::Chat, "hasty,first=500ms")
    );
    let mut statuses = [both.0.status, both.1.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 429]);
}

/// A provider's web search reads the prompt again and again, and nobody says how often: what is reserved is `limits.tool_turns`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_turns_of_tools_are_reserved_as_is_set() {
    let model = "[[model]]\nname = \"*priced*\"\ncontext = 1000\noutput = 100\n";
    let body =
        br#"{"model":"sandbox/priced,tokens=5","max_output_tokens":10,"input":"Hi","tools":[{"type":"web_search"}]}"#;
    // A turn is 1,000 tokens: a tenth of a cent.
    for (limits, want) in [("", 429), ("tool_turns = 2", 200)] {
        let (gateway, _provider, keys) = setting(model, limits, &[dollars("0.005")]).await;
        let reply = post(&gateway, &keys[0], Dialect::Responses, "/v1/responses", body).await;
        assert_eq!(reply.status, want, "{limits}: {}", reply.text());
    }
}
