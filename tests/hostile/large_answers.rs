//! Answers and events that are large, or have no end: what is held of them is bounded, for one and for all.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::bad_providers::{ask, check_failed, healthy};
use crate::support::client::{PATIENCE, head};
use crate::support::dialect::Dialect;
use crate::support::gateway::Options;
use crate::support::provider::{Answer, Step};
use crate::support::{HEAVY, noise, until};
use crate::{ANSWER, CHAT, EVENT, Setting, chat, setting};

const KEPT: &str = "tollgate_answers_kept_bytes";
const END: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5}}\n\n\
    data: [DONE]\n\n";

/// These bytes as often as said, after these, as a stream.
fn flood(start: impl Into<Bytes>, kind: &str, piece: &Bytes, pieces: usize) -> Answer {
    Answer::chunked(kind, vec![Step::Send(start.into()), Step::Flood(piece.clone(), pieces)])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_of_a_gigabyte_leaves_memory_flat() {
    let _alone = HEAVY.lock().await;
    let long = std::env::var_os("TOLLGATE_LONG").is_some();
    let pieces = if long { 16_384 } else { 2_048 };
    let setting = setting(Options {
        timeouts: "total = \"5m\"\ntotal_whole = \"5m\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    healthy("at first", &setting).await;
    let before = gateway.resident();
    let piece: Bytes = noise(64 * 1024, 5).into();
    let mut rows = 0;
    for dialect in [Dialect::Chat, Dialect::Messages, Dialect::Gemini, Dialect::Responses] {
        for model in ["bad", "converted"] {
            *setting.next.lock() = flood("data: {\"x\":\"", "text/event-stream", &piece, pieces);
            let reply = ask(gateway, dialect, model, true).await;
            check_failed("one event", dialect, &reply);
            assert!(reply.text().contains("limits.answer_kept"), "{}", reply.text());
            assert!(reply.body.len() < 4096, "nothing of it goes out");
            let now = gateway.resident();
            assert!(now < before + (96 << 20), "{dialect:?}, {model}: {before} to {now}");
            healthy("one event", &setting).await;
            rows += 2;
        }
    }
    *setting.next.lock() = flood("{\"x\":\"", "application/json", &piece, pieces);
    let most = take(&setting, pieces * piece.len()).await;
    assert!(most < before + (128 << 20), "{before} to {most}");
    gateway.idle().await;
    let rows = gateway.settled_rows(rows + 1).await;
    assert!(rows.iter().all(|row| row["ended"].is_string()));
}

/// Takes an answer that passes whole, while others are served; the gateway's memory, at its most.
async fn take(setting: &Setting, least: usize) -> u64 {
    let gateway = &setting.gateway;
    let body = chat("bad");
    let (bearer, length) = (gateway.bearer(), body.len().to_string());
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("content-length", length.as_str()),
        ("connection", "close"),
    ];
    let mut client = TcpStream::connect(gateway.ports.http).await.unwrap();
    client
        .write_all(&[head("POST", CHAT, &headers), body].concat())
        .await
        .unwrap();
    let (mut buffer, mut taken, mut most, mut slowest) = (vec![0; 1 << 20], 0, 0, Duration::ZERO);
    let mut looked = Instant::now();
    loop {
        let read = tokio::time::timeout(PATIENCE, client.read(&mut buffer))
            .await
            .expect("it goes on");
        let Ok(read @ 1..) = read else { break };
        taken += read;
        if looked.elapsed() > Duration::from_millis(200) {
            most = most.max(gateway.resident());
            let begun = Instant::now();
            healthy("beside a large answer", setting).await;
            slowest = slowest.max(begun.elapsed());
            looked = Instant::now();
        }
    }
    assert!(taken > least, "it passes whole: {taken}");
    assert!(slowest < Duration::from_secs(5), "others waited {slowest:?}");
    most.max(gateway.resident())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_of_forty_megabytes_is_one_event_and_metered() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options::default()).await;
    let image = noise(40_000_000, 7);
    let mut event = EVENT.replace("\"x\"", "\"IMAGE\"").into_bytes();
    let at = event.windows(5).position(|window| window == b"IMAGE").unwrap();
    event.splice(at..at + 5, image.iter().copied());
    let body = [EVENT.as_bytes(), &event, END.as_bytes()].concat();
    *setting.next.lock() = Answer::chunked("text/event-stream", vec![Step::Send(body.clone().into())]);
    let reply = ask(&setting.gateway, Dialect::Chat, "bad", true).await;
    assert!(reply.status == 200 && reply.complete);
    assert!(reply.body == body, "it passes as it came: {} bytes", reply.body.len());
    let converted = ask(&setting.gateway, Dialect::Messages, "converted", true).await;
    assert!(converted.body.len() > image.len(), "{}", converted.body.len());
    assert!(converted.text().contains(Dialect::Messages.last_word()));
    let rows = setting.gateway.settled_rows(2).await;
    for row in rows {
        assert_eq!(
            (&row["usage"]["input"], &row["usage"]["output"]),
            (&3.into(), &2.into()),
            "{row}"
        );
    }
    assert_eq!(setting.gateway.metric(KEPT).await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_provider_answers_where_the_first_event_is_too_large() {
    let setting = setting(Options {
        limits: "answer_kept = \"1MiB\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    *setting.next.lock() = flood("data: {\"x\":\"", "text/event-stream", &noise(1 << 20, 3).into(), 3);
    let reply = ask(gateway, Dialect::Chat, "either", true).await;
    assert!(reply.status == 200 && reply.text().contains("GOOD"), "{}", reply.text());
    let rows = gateway.settled_rows(2).await;
    let of = |provider: &str| rows.iter().find(|row| row["provider"] == provider).unwrap();
    assert_eq!(of("good")["ended"], "complete");
    assert_ne!(of("bad")["ended"], "complete");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_events_share_what_may_be_held() {
    let setting = setting(Options {
        limits: "answer_kept = \"4MiB\"\ninflight_answer = \"4MiB\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let piece: Bytes = noise(1 << 20, 3).into();
    let open = Bytes::from([EVENT.as_bytes(), b"data: {\"x\":\""].concat());
    let close = Bytes::from(["\"}\n\n", END].concat());
    let large = |wait: Duration| {
        let steps = vec![
            Step::Send(open.clone()),
            Step::Flood(piece.clone(), 3),
            Step::Wait(wait),
            Step::Send(close.clone()),
        ];
        Answer::chunked("text/event-stream", steps)
    };
    *setting.next.lock() = large(Duration::from_secs(3));
    let first = ask(gateway, Dialect::Chat, "bad", true);
    let others = async {
        until("the first is held", PATIENCE, || async {
            (gateway.metric(KEPT).await > f64::from(3 << 20)).then_some(())
        })
        .await;
        *setting.next.lock() = large(Duration::ZERO);
        let refused = ask(gateway, Dialect::Chat, "bad", true).await;
        check_failed("no memory for a second", Dialect::Chat, &refused);
        assert!(refused.text().contains("limits.inflight_answer"), "{}", refused.text());
        // What passes whole does so: only its end is kept.
        let whole = ANSWER.replacen("GOOD", &String::from_utf8_lossy(&noise(3 << 20, 9)), 1);
        *setting.next.lock() = Answer::json(200, whole.clone());
        let passed = ask(gateway, Dialect::Chat, "bad", false).await;
        assert!(passed.status == 200 && passed.text() == whole);
    };
    let (first, ()) = tokio::join!(first, others);
    assert!(first.complete && first.text().ends_with("data: [DONE]\n\n"));
    *setting.next.lock() = large(Duration::ZERO);
    let again = ask(gateway, Dialect::Chat, "bad", true).await;
    assert_eq!(again.body, first.body, "it was given back");
    until("all of it is given back", PATIENCE, || async {
        (gateway.metric(KEPT).await == 0.0).then_some(())
    })
    .await;
    let rows = gateway.settled_rows(4).await;
    let known = rows
        .iter()
        .filter(|row| row["usage"]["output"].as_u64().is_some_and(|n| n > 0))
        .count();
    assert_eq!(known, 4, "{rows:?}");
}
