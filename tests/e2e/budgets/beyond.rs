//! Work that goes on when its answer is over: keys with limits may not ask for it, and for others its rows say that more may be billed.

use super::*;
use crate::support::provider::{Answer, Provider as Scripted};
use crate::support::until;

const QUEUED: &str = r#"{"id":"resp_1","object":"response","status":"queued","background":true,"model":"priced","output":[],"usage":null}"#;
const BEGUN: &str = concat!(
    "event: response.created\n",
    r#"data: {"type":"response.created","response":{"id":"resp_1","status":"in_progress","model":"priced","output":[],"usage":null}}"#,
    "\n\nevent: response.output_text.delta\n",
    r#"data: {"type":"response.output_text.delta","output_index":0,"content_index":0,"delta":"some"}"#,
    "\n\n",
);

/// A provider that queues everything, or begins a stream of it and no more.
async fn queueing() -> Scripted {
    Scripted::start(|request| {
        let streams = request.body.windows(13).any(|window| window == br#""stream":true"#);
        match streams {
            true => Answer::events([BEGUN]).then(crate::support::provider::Step::Hang),
            false => Answer::json(200, QUEUED),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_with_limits_cannot_ask_for_work_nobody_books() {
    let provider = queueing().await;
    let tokens = limits(Limits {
        tokens_per_minute: Some(1_000_000),
        ..Limits::default()
    });
    let (gateway, keys) = setting_at(provider.address, "", "", &[dollars("1"), tokens]).await;
    provider.forget();
    for key in &keys {
        for (dialect, path, field, value) in [
            (Dialect::Responses, "/v1/responses", "background", "true"),
            // Lax servers take it for the same.
            (Dialect::Responses, "/v1/responses", "background", "\"true\""),
            (Dialect::Responses, "/v1/responses", "backgro\\u0075nd", "true"),
            (Dialect::Chat, "/v1/chat/completions", "deferred", "true"),
        ] {
            let text = format!(r#"{{"model":"priced","{field}":{value},"input":"Hi","messages":[]}}"#);
            let reply = post(&gateway, key, dialect, path, text.as_bytes()).await;
            dialect.check_refusal(field, 400, &reply);
            let error = reply.json()["error"].clone();
            assert_eq!(error["code"], "unsupported_for_budget", "{error}");
            assert!(error["message"].as_str().unwrap().contains("ask without"), "{error}");
        }
    }
    let asked = || provider.received().iter().filter(|one| !one.body.is_empty()).count();
    assert_eq!(asked(), 0, "nothing was sent");
    for (at, value) in ["false", "null"].into_iter().enumerate() {
        let text = format!(r#"{{"model":"priced","background":{value},"input":"Hi"}}"#);
        let reply = post(&gateway, &keys[0], Dialect::Responses, "/v1/responses", text.as_bytes()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        assert_eq!(asked(), at + 1);
    }
    assert_eq!(spent(&gateway, &keys[0]).await.1, tollgate::money::NanoUsd::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_keys_have_rows_that_say_that_more_may_be_billed() {
    let provider = queueing().await;
    let (gateway, keys) = setting_at(provider.address, "", "", &[Policy::default()]).await;
    let whole = br#"{"model":"priced","background":true,"input":"Hi"}"#;
    let reply = post(&gateway, &keys[0], Dialect::Responses, "/v1/responses", whole).await;
    assert_eq!((reply.status, &*reply.text()), (200, QUEUED));
    assert_eq!(reply.header("x-tollgate-cost-usd"), None, "nobody knows");
    let stream = br#"{"model":"priced","background":true,"stream":true,"input":"Hi"}"#;
    let bearer = format!("Bearer {}", keys[0]);
    let length = stream.len().to_string();
    let headers = [("authorization", bearer.as_str()), ("content-length", &length)];
    let mut connection = Connection::open(gateway.ports.http).await;
    let head = client::head("POST", "/v1/responses", &headers);
    connection.send(&[head, stream.to_vec()].concat()).await;
    connection.started(200).await;
    drop(connection);
    let rows = gateway.settled_rows(2).await;
    for ended in ["complete", "client_gone"] {
        let row = rows
            .iter()
            .find(|row| row["ended"] == ended)
            .unwrap_or_else(|| panic!("{rows:?}"));
        assert_eq!(
            (&row["estimated"], &row["maybe_billed"]),
            (&true.into(), &true.into()),
            "{row}"
        );
        let word = if ended == "complete" {
            "unfinished"
        } else {
            "client_gone"
        };
        assert_eq!(row["error"], word, "{row}");
    }
    until(
        "the provider is let go of",
        std::time::Duration::from_secs(20),
        || async { provider.gone().first().map(|_| ()) },
    )
    .await;
}
