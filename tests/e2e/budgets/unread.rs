//! Answers whose usage does not come: too large to be kept, or cut before it was told.

use std::time::Duration;

use bytes::Bytes;
use tollgate::money::NanoUsd;

use super::*;
use crate::support::provider::{Answer, Provider as Scripted, Step};

/// Of 300,000 bytes; with usage behind the text or before it.
fn large(usage_last: bool) -> String {
    let usage = r#""usage":{"prompt_tokens":9,"completion_tokens":700,"total_tokens":709}"#;
    let text = "word ".repeat(60_000);
    let choices = format!(
        r#""choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}]"#
    );
    match usage_last {
        true => format!(r#"{{"id":"c","model":"m",{choices},{usage}}}"#),
        false => format!(r#"{{"id":"c",{usage},"model":"m",{choices}}}"#),
    }
}

const LIMITED: &[u8] = br#"{"model":"priced","max_tokens":1000,"messages":[{"role":"user","content":"Hi"}]}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_larger_than_is_kept_is_charged() {
    for usage_last in [true, false] {
        let provider = Scripted::start(move |_| Answer::json(200, large(usage_last))).await;
        let (gateway, keys) = setting_at(provider.address, "", "answer_kept = \"64KiB\"", &[dollars("1")]).await;
        let reply = post(&gateway, &keys[0], Dialect::Chat, "/v1/chat/completions", LIMITED).await;
        assert_eq!((reply.status, reply.text().len()), (200, large(usage_last).len()));
        let row = gateway.settled_rows(1).await.remove(0);
        let line = lines(&gateway, 1).await.remove(0);
        let output = line["output_tokens"].as_u64().unwrap();
        if usage_last {
            assert_eq!((&line["input_tokens"], output), (&9.into(), 700), "{line}");
        } else {
            assert_eq!(output, 1000, "not more than its limit: {line}");
        }
        assert_eq!(row["estimated"], !usage_last, "{row}");
        let used = line["input_tokens"].as_u64().unwrap() * 1000 + output * 2000;
        assert_eq!(spent(&gateway, &keys[0]).await.0.0, used, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_too_large_to_be_converted_is_not_charged_but_has_its_cost() {
    for usage_last in [true, false] {
        let provider = Scripted::start(move |_| Answer::json(200, large(usage_last))).await;
        let rule = format!(
            "[provider.c]\ndialects = {{ openai_chat = \"http://{}/v1\" }}\nhealth = \"off\"\n[[provider.c.credential]]\nname = \"main\"\n\
             key = \"env:E2E_PROVIDER_KEY\"\n[[route]]\nname = \"r\"\nmodel = \"priced\"\ntargets = [{{ provider = \"c\" }}]\nattempts = 1\n",
            provider.address
        );
        let (gateway, keys) = setting_at(provider.address, &rule, "answer_kept = \"64KiB\"", &[dollars("1")]).await;
        let body = br#"{"model":"priced","max_tokens":1000,"messages":[{"role":"user","content":"Hi"}]}"#;
        let reply = post(&gateway, &keys[0], Dialect::Messages, "/v1/messages", body).await;
        assert!(reply.status >= 500, "{}", reply.text());
        let row = gateway.settled_rows(1).await.remove(0);
        let cost: NanoUsd = row["cost_usd"].as_str().unwrap().parse().unwrap();
        if usage_last {
            assert_eq!(cost.0, 9 * 1000 + 700 * 2000, "{row}");
        } else {
            assert!(cost.0 > 1000 * 2000, "{row}");
        }
        assert_eq!(spent(&gateway, &keys[0]).await, (NanoUsd::ZERO, NanoUsd::ZERO), "{row}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_that_its_client_leaves_is_charged() {
    let text = "word ".repeat(600_000);
    let part = Bytes::from(format!(r#"{{"choices":[{{"index":0,"message":{{"content":"{text}"#));
    let rest = Bytes::from_static(
        br#""},"finish_reason":"stop"}],"usage":{"prompt_tokens":9,"completion_tokens":700,"total_tokens":709}}"#,
    );
    for ends in [true, false] {
        let (part, rest) = (part.clone(), rest.clone());
        let provider = Scripted::start(move |_| {
            let wait = Step::Wait(Duration::from_millis(300));
            let more = if ends { Step::Send(rest.clone()) } else { Step::Hang };
            Answer::chunked("application/json", vec![Step::Send(part.clone()), wait, more])
        })
        .await;
        let (gateway, keys) = setting_at(provider.address, "", "", &[dollars("1")]).await;
        let bearer = format!("Bearer {}", keys[0]);
        let length = LIMITED.len().to_string();
        let headers = [("authorization", bearer.as_str()), ("content-length", &length)];
        let mut connection = Connection::open(gateway.ports.http).await;
        let head = client::head("POST", "/v1/chat/completions", &headers);
        connection.send(&[head, LIMITED.to_vec()].concat()).await;
        connection.started(1000).await;
        drop(connection);
        let line = lines(&gateway, 1).await.remove(0);
        assert_eq!(line["ended"], "client_gone", "{line}");
        let output = line["output_tokens"].as_u64().unwrap();
        let estimated = line["estimated"].as_bool().unwrap_or(false);
        let want = if ends { (700, false) } else { (1000, true) };
        assert_eq!((output, estimated), want, "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_before_usage_is_told_hides_nothing() {
    let text = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"hi\"}}]}\n\n";
    let end = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":5000,\"total_tokens\":5009}}\n\ndata: [DONE]\n\n";
    let provider = Scripted::start(move |_| {
        Answer::events([[text, end].concat()])
            .then(Step::Wait(Duration::from_millis(500)))
            .then(Step::Send(usage.into()))
    })
    .await;
    let (gateway, keys) = setting_at(provider.address, "", "", &[dollars("1")]).await;
    let mut connection = begin(&gateway, &keys[0], Dialect::Chat, "priced", true).await;
    connection.started(100).await;
    drop(connection);
    let line = lines(&gateway, 1).await.remove(0);
    assert_eq!(
        (&line["ended"], &line["output_tokens"]),
        (&"client_gone".into(), &5000.into()),
        "{line}"
    );
    assert_eq!(
        spent(&gateway, &keys[0]).await,
        (NanoUsd(9 * 1000 + 5000 * 2000), NanoUsd::ZERO)
    );
}

/// As many bytes came as the header promised, and the end of the HTTP/2 stream only then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn usage_counts_where_the_end_comes_behind_the_last_byte() {
    let text = "word ".repeat(400_000);
    let body = Bytes::from(format!(
        r#"{{"id":"c","model":"m","choices":[{{"index":0,"message":{{"role":"assistant","content":"{text}"}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":9,"completion_tokens":700,"total_tokens":709}}}}"#
    ));
    let whole = body.clone();
    let provider = Scripted::start(move |_| {
        let late = Step::Wait(Duration::from_millis(500));
        let answer = Answer::json(200, body.clone()).header("content-length", &body.len().to_string());
        answer.then(late)
    })
    .await;
    let rule = provider_rules("c", provider.address, "http = \"2\"")
        + "[[route]]\nname = \"r\"\nmodel = \"priced\"\ntargets = [{ provider = \"c\" }]\n";
    let (gateway, keys) = setting_at(provider.address, &rule, "", &[dollars("1")]).await;
    let reply = post(&gateway, &keys[0], Dialect::Chat, "/v1/chat/completions", LIMITED).await;
    assert!(reply.status == 200 && reply.body == whole, "{}", reply.body.len());
    let row = gateway.settled_rows(1).await.remove(0);
    assert_eq!(row["estimated"], false, "{row}");
    assert_eq!(spent(&gateway, &keys[0]).await.0.0, 9 * 1000 + 700 * 2000, "{row}");
}
