//! Answers and events that are large, or have no end: what is held of them is bounded, for one and for all.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::bad_providers::{ask, check_failed, healthy};
use crate::support::client::{Connection, PATIENCE, head};
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options};
use crate::support::h2;
use crate::support::provider::{Answer, Step};
use crate::support::{HEAVY, noise, until};
use crate::{ANSWER, CHAT, EVENT, Setting, chat, request, setting, shed};

/// Bytes of a large picture.
const IMAGE: usize = 40_000_000;

/// Such a share of what is held may be out already, or on its way within the gateway and the kernel.
const WRITTEN: usize = 8 << 20;

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
            let (reply, most) = at_most(&setting, ask(gateway, dialect, model, true)).await;
            check_failed("one event", dialect, &reply);
            assert!(reply.text().contains("limits.answer_kept"), "{}", reply.text());
            assert!(reply.body.len() < 4096, "nothing of it goes out");
            assert!(most < before + (96 << 20), "{dialect:?}, {model}: {before} to {most}");
            healthy("one event", &setting).await;
            rows += 2;
        }
    }
    *setting.next.lock() = flood("{\"x\":\"", "application/json", &piece, pieces);
    let most = take(&setting, pieces * piece.len()).await;
    // What is kept of it, what is spare of the events before it, and what the allocator has not yet given back.
    assert!(most < before + (192 << 20), "{before} to {most}");
    gateway.idle().await;
    let rows = gateway.settled_rows(rows + 1).await;
    assert!(rows.iter().all(|row| row["ended"].is_string()));
}

/// What comes of that, and the gateway's memory at its most meanwhile.
async fn at_most<T>(setting: &Setting, task: impl Future<Output = T>) -> (T, u64) {
    let mut most = 0;
    let mut look = tokio::time::interval(Duration::from_millis(5));
    tokio::pin!(task);
    loop {
        tokio::select! {
            done = &mut task => return (done, most.max(setting.gateway.resident())),
            _ = look.tick() => most = most.max(setting.gateway.resident()),
        }
    }
}

async fn nothing_is_kept(gateway: &Gateway) {
    until("all of it is given back", PATIENCE, || async {
        (gateway.metric(KEPT).await == 0.0).then_some(())
    })
    .await;
}

/// An event of the chat dialect with an image of this size.
fn image(length: usize) -> Vec<u8> {
    let mut event = EVENT.replace("\"x\"", "\"IMAGE\"").into_bytes();
    let at = event.windows(5).position(|window| window == b"IMAGE").unwrap();
    event.splice(at..at + 5, noise(length, 7));
    event
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
    let event = image(IMAGE);
    let body = [EVENT.as_bytes(), &event, END.as_bytes()].concat();
    *setting.next.lock() = Answer::chunked("text/event-stream", vec![Step::Send(body.clone().into())]);
    let reply = ask(&setting.gateway, Dialect::Chat, "bad", true).await;
    assert!(reply.status == 200 && reply.complete);
    assert!(reply.body == body, "it passes as it came: {} bytes", reply.body.len());
    let converted = ask(&setting.gateway, Dialect::Messages, "converted", true).await;
    assert!(converted.body.len() > IMAGE, "{}", converted.body.len());
    assert!(converted.text().contains(Dialect::Messages.last_word()));
    let rows = setting.gateway.settled_rows(2).await;
    for row in rows {
        assert_eq!(
            (&row["usage"]["input"], &row["usage"]["output"]),
            (&3.into(), &2.into()),
            "{row}"
        );
    }
    nothing_is_kept(&setting.gateway).await;
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
    let go_on = Arc::new(Notify::new());
    let large = || {
        let steps = vec![
            Step::Send(open.clone()),
            Step::Flood(piece.clone(), 3),
            Step::Until(go_on.clone()),
            Step::Send(close.clone()),
        ];
        Answer::chunked("text/event-stream", steps)
    };
    *setting.next.lock() = large();
    let first = ask(gateway, Dialect::Chat, "bad", true);
    let others = async {
        until("the first is held", PATIENCE, || async {
            (gateway.metric(KEPT).await > f64::from(3 << 20)).then_some(())
        })
        .await;
        *setting.next.lock() = large();
        let refused = ask(gateway, Dialect::Chat, "bad", true).await;
        assert_eq!(refused.status, 200, "it has begun");
        check_failed("no memory for a second", Dialect::Chat, &refused);
        let text = refused.text();
        assert!(
            text.starts_with(EVENT) && text.contains("limits.inflight_answer"),
            "{text}"
        );
        *setting.next.lock() = large();
        let refused = ask(gateway, Dialect::Messages, "converted", true).await;
        check_failed("no memory for one to convert", Dialect::Messages, &refused);
        let text = refused.text();
        assert!(
            text.contains("limits.inflight_answer") && text.contains("text_delta"),
            "{text}"
        );
        // Nothing of it is out, and another provider would not do better.
        *setting.next.lock() = flood("data: {\"x\":\"", "text/event-stream", &piece, 3);
        let refused = ask(gateway, Dialect::Chat, "either", true).await;
        Dialect::Chat.check_refusal("no memory for a third", 503, &refused);
        assert!(refused.header("retry-after").is_some() && refused.text().contains("\"overloaded\""));
        assert_eq!(shed(gateway, "answers").await, 3.0);
        // What passes whole does so: only its end is kept.
        let whole = ANSWER.replacen("GOOD", &String::from_utf8_lossy(&noise(3 << 20, 9)), 1);
        *setting.next.lock() = Answer::json(200, whole.clone());
        let passed = ask(gateway, Dialect::Chat, "bad", false).await;
        assert!(passed.status == 200 && passed.text() == whole);
        go_on.notify_one();
    };
    let (first, ()) = tokio::join!(first, others);
    assert!(first.complete && first.text().ends_with("data: [DONE]\n\n"));
    go_on.notify_one();
    *setting.next.lock() = large();
    let again = ask(gateway, Dialect::Chat, "bad", true).await;
    assert_eq!(again.body, first.body, "it was given back");
    nothing_is_kept(gateway).await;
    let rows = gateway.settled_rows(6).await;
    let refused: Vec<_> = rows.iter().filter(|row| row["error"] == "overloaded").collect();
    assert_eq!(refused.len(), 3, "{rows:?}");
    assert!(refused.iter().all(|row| row["ended"] == "timed_out"), "{refused:?}");
    let known = rows
        .iter()
        .filter(|row| row["usage"]["output"].as_u64().is_some_and(|n| n > 0))
        .count();
    assert_eq!(known, 5, "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_before_an_event_that_is_too_large_goes_out() {
    let setting = setting(Options {
        limits: "answer_kept = \"64KiB\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let piece: Bytes = noise(1 << 20, 3).into();
    // All in one piece: what is whole of it must not be lost with the rest.
    let start = Bytes::from([EVENT.repeat(50).as_bytes(), b"data: {\"x\":\"", &piece].concat());
    for model in ["bad", "converted"] {
        for dialect in [Dialect::Chat, Dialect::Messages, Dialect::Gemini, Dialect::Responses] {
            if (model == "bad") != (dialect == Dialect::Chat) {
                continue;
            }
            let steps = vec![
                Step::Send(EVENT.into()),
                Step::Wait(Duration::from_millis(200)),
                Step::Send(start.clone()),
                Step::Flood(piece.clone(), 3),
            ];
            *setting.next.lock() = Answer::chunked("text/event-stream", steps);
            let reply = ask(gateway, dialect, model, true).await;
            assert_eq!(reply.status, 200, "{dialect:?}");
            check_failed("a later event", dialect, &reply);
            let text = reply.text();
            assert!(text.contains("limits.answer_kept"), "{dialect:?}: {text}");
            if dialect == Dialect::Chat {
                assert!(text.starts_with(&EVENT.repeat(51)), "{text}");
            }
        }
    }
    let rows = gateway.settled_rows(4).await;
    for row in rows {
        assert_eq!(
            (&row["ended"], &row["error"]),
            (&"upstream_broke".into(), &"upstream_event_too_large".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_element_of_an_array_is_bounded_too() {
    const PATH: &str = "/v1beta/models/bad:streamGenerateContent";
    const ELEMENT: &str = "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"x\"}],\"role\":\"model\"}}]}";
    let setting = setting(Options {
        limits: "answer_kept = \"1MiB\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let piece: Bytes = noise(1 << 20, 3).into();
    let body = Dialect::Gemini.body("bad", true);
    *setting.next.lock() = flood("[{\"x\":\"", "application/json", &piece, 3);
    let reply = gateway.post(PATH, &body).await;
    Dialect::Gemini.check_refusal("the first element", 502, &reply);
    *setting.next.lock() = flood(format!("[{ELEMENT}\n,\n{{\"x\":\""), "application/json", &piece, 3);
    let reply = gateway.post(PATH, &body).await;
    assert_eq!((reply.status, reply.complete), (200, true));
    let told = reply.json();
    let told = told.as_array().expect("an array");
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(told[0], serde_json::from_str::<serde_json::Value>(ELEMENT).unwrap());
    Dialect::Gemini.check_error(502, &told[1]);
    gateway.settled_rows(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_client_that_is_gone_no_more_is_held_than_of_others() {
    let setting = setting(Options {
        limits: "answer_kept = \"1MiB\"",
        timeouts: "on_abort = { drain = \"30s\" }",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let steps = vec![
        Step::Send(EVENT.into()),
        Step::Wait(Duration::from_secs(3)),
        Step::Send("data: {\"x\":\"".into()),
        Step::Flood(noise(1 << 20, 3).into(), 2_048),
        Step::Hang,
    ];
    *setting.next.lock() = Answer::chunked("text/event-stream", steps);
    let mut client = Connection::open(gateway.ports.http).await;
    client
        .send(&request(&gateway.key, &Dialect::Chat.body("bad", true)))
        .await;
    client.started(EVENT.len()).await;
    drop(client);
    let began = Instant::now();
    let rows = gateway.settled_rows(1).await;
    assert!(began.elapsed() < Duration::from_secs(15), "it is not read to its end");
    assert_eq!(
        (&rows[0]["ended"], &rows[0]["error"]),
        (&"client_gone".into(), &"client_gone".into())
    );
    gateway.idle().await;
    nothing_is_kept(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_held_until_its_client_has_taken_it() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options::default()).await;
    let gateway = &setting.gateway;
    let event = image(IMAGE);
    let body = [EVENT.as_bytes(), &event, END.as_bytes()].concat();
    *setting.next.lock() = Answer::chunked("text/event-stream", vec![Step::Send(body.clone().into())]);
    let mut client = Connection::open(gateway.ports.http).await;
    client
        .send(&request(&gateway.key, &Dialect::Chat.body("bad", true)))
        .await;
    let held = f64::from(u32::try_from(IMAGE - WRITTEN).unwrap());
    until("it came whole", PATIENCE, || async {
        (gateway.metric(KEPT).await > f64::from(39_000_000)).then_some(())
    })
    .await;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(gateway.metric(KEPT).await > held, "it is not written");
    }
    let reply = client.reply().await;
    assert!(reply.complete && reply.body == body);
    nothing_is_kept(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_event_leaves_nothing_behind_while_its_stream_goes_on() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options::default()).await;
    let gateway = &setting.gateway;
    healthy("at first", &setting).await;
    let before = gateway.resident();
    let event = image(IMAGE);
    // One whose data stands on two lines has to be joined.
    let lines = [
        b"data: {\"x\":1,\ndata: \"y\":\"".as_slice(),
        &noise(IMAGE, 3),
        b"\"}\n\n",
    ]
    .concat();
    let taken = event.len() + lines.len();
    let steps = vec![Step::Send([event, lines].concat().into()), Step::Hang];
    *setting.next.lock() = Answer::chunked("text/event-stream", steps);
    let mut clients = Vec::new();
    for at in 0..8 {
        let mut client = Connection::open(gateway.ports.http).await;
        if at % 2 == 0 {
            client
                .send(&request(&gateway.key, &Dialect::Chat.body("bad", true)))
                .await;
            client.started(taken).await;
        } else {
            let body = Dialect::Messages.body("converted", true);
            let (bearer, length) = (gateway.bearer(), body.len().to_string());
            let headers = [("authorization", bearer.as_str()), ("content-length", length.as_str())];
            client
                .send(&[head("POST", "/v1/messages", &headers), body].concat())
                .await;
            client.started(IMAGE).await;
        }
        clients.push(client);
    }
    nothing_is_kept(gateway).await;
    // Before the streams are given up, as nothing comes any more.
    until("memory is given back", PATIENCE / 3, || async {
        // The allocator keeps some of what it got back until it is asked for more.
        (gateway.resident() < before + (256 << 20)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_it_is_held_too_until_its_client_has_taken_it() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options::default()).await;
    let gateway = &setting.gateway;
    let body = [EVENT.as_bytes(), &image(IMAGE), END.as_bytes()].concat();
    *setting.next.lock() = Answer::chunked("text/event-stream", vec![Step::Send(body.clone().into())]);
    let mut client = h2::Connection::open(gateway.ports.h2c).await;
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = client
        .begin(CHAT, &headers, Dialect::Chat.body("bad", true), true)
        .await;
    assert_eq!(answer.status(), 200);
    until("it came whole", PATIENCE, || async {
        (gateway.metric(KEPT).await > f64::from(39_000_000)).then_some(())
    })
    .await;
    let taken = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(taken == body, "it comes as it is: {} bytes", taken.len());
    nothing_is_kept(gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_to_be_told_again_at_the_end_is_bounded() {
    let setting = setting(Options {
        limits: "answer_kept = \"1MiB\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let small: Bytes = EVENT.replace("\"x\"", &format!("\"{}\"", "x".repeat(1000))).into();
    // Its stream passes as it comes; a Responses client gets all of it again in `response.completed`.
    for (dialect, passes) in [
        (Dialect::Chat, true),
        (Dialect::Messages, true),
        (Dialect::Responses, false),
    ] {
        let steps = vec![Step::Flood(small.clone(), 3000), Step::Send(END.into())];
        *setting.next.lock() = Answer::chunked("text/event-stream", steps);
        let model = if dialect == Dialect::Chat { "bad" } else { "converted" };
        let reply = ask(gateway, dialect, model, true).await;
        assert_eq!(reply.status, 200, "{dialect:?}");
        assert!(reply.body.len() > 1 << 20, "{dialect:?}");
        if passes {
            assert!(reply.body.len() > 3_000_000, "{dialect:?}");
        } else {
            check_failed("more than is kept", dialect, &reply);
            assert!(reply.body.len() < 2 << 20, "it is not told again: {}", reply.body.len());
            assert!(reply.text().contains("limits.answer_kept"));
        }
    }
    let rows = gateway.settled_rows(3).await;
    let broken = rows.iter().filter(|row| row["error"] == "upstream_event_too_large");
    assert_eq!(broken.count(), 1, "{rows:?}");
    nothing_is_kept(gateway).await;
}
