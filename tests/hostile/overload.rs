//! Too much to do: what is refused, how, and what goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::json;

use crate::support::client::{self, Connection, Reply};
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options};
use crate::support::provider::{Answer, Step};
use crate::support::{HEAVY, h2, until};
use crate::{ANSWER, CHAT, EVENT, Setting, chat, request, setting, shed};

/// Streams that hang, each on a connection of its own, and have begun.
async fn hang(setting: &Setting, key: &str, model: &str, count: usize) -> Vec<Connection> {
    let body =
        format!("{{\"model\":\"{model}\",\"stream\":true,\"messages\":[{{\"role\":\"user\",\"content\":\"Hi\"}}]}}");
    let mut open = Vec::new();
    for _ in 0..count {
        let before = setting.bad.count();
        let mut connection = Connection::open(setting.gateway.ports.http).await;
        connection.send(&request(key, body.as_bytes())).await;
        until("the provider is asked", client::PATIENCE, || async {
            (setting.bad.count() > before).then_some(())
        })
        .await;
        open.push(connection);
    }
    open
}

fn check_shed(dialect: Dialect, reply: &Reply) {
    dialect.check_refusal("overloaded", 503, reply);
    let seconds: u32 = reply.header("retry-after").expect("Retry-After").parse().unwrap();
    assert!((1..=4).contains(&seconds), "{seconds}");
    if matches!(dialect, Dialect::Chat | Dialect::Responses) {
        assert_eq!(reply.json()["error"]["code"], "overloaded", "{}", reply.text());
    }
}

/// The text of a key with the tag that makes its requests critical.
async fn critical_key(gateway: &Gateway) -> String {
    let wanted = json!({ "name": "vip", "tags": ["critical"] });
    let made = gateway.admin("POST", "/api/v1/keys", Some(wanted)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()["key"].as_str().expect("a key").to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_the_bound_requests_wait_and_are_refused_but_critical_ones_go_on() {
    let setting = setting(Options {
        overload: "concurrent = 10\nqueue = 1\nwait = \"300ms\"\ncritical_share = \"20%\"\nlag = \"off\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let vip = critical_key(gateway).await;
    *setting.next.lock() = Answer::chunked("text/event-stream", vec![Step::Send(EVENT.into()), Step::Hang]);
    let mut held = hang(&setting, &gateway.key, "slow", 8).await;
    assert_eq!(gateway.metric("tollgate_requests_admitted").await, 8.0);

    // In every dialect, with a body of any size; the connection stays where the body is small.
    for dialect in ALL {
        let (path, body) = (dialect.path("good", false), dialect.body("good", false));
        check_shed(dialect, &gateway.post(&path, &body).await);
    }
    let mut connection = Connection::open(gateway.ports.http).await;
    for _ in 0..2 {
        connection.send(&request(&gateway.key, &chat("good"))).await;
        check_shed(Dialect::Chat, &connection.reply().await);
    }
    let mut two = h2::Connection::open(gateway.ports.h2c).await;
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    check_shed(Dialect::Chat, &two.post(CHAT, &headers, chat("good")).await);
    assert!(shed(gateway, "concurrency").await >= 7.0);
    let paths = gateway.post("/p/good/v1/files", b"x").await;
    assert_eq!(paths.status, 503, "{}", paths.text());
    assert_eq!(setting.good.count(), 0, "no provider hears of what is refused");

    // More than the line takes.
    let many = (0..6).map(|_| gateway.post("/p/good/v1/files", b"x"));
    let mut tasks = Vec::new();
    for call in many {
        tasks.push(call);
    }
    let replies = join(tasks).await;
    assert!(replies.iter().all(|reply| reply.status == 503));
    assert!(shed(gateway, "queue_full").await >= 1.0);

    // A key that is critical, and a route that is.
    let other = Connection::open(gateway.ports.http).await;
    let mut other = other;
    other.send(&request(&vip, &chat("good"))).await;
    let reply = other.reply().await;
    assert_eq!((reply.status, reply.text()), (200, ANSWER.to_owned()));
    let more = hang(&setting, &gateway.key, "vital", 2).await;
    assert_eq!(gateway.metric("tollgate_requests_admitted").await, 10.0);
    let reply = gateway.post(CHAT, &chat("vital")).await;
    check_shed(Dialect::Chat, &reply);

    // Saturated; who operates it and who watches it gets answers all the same.
    for path in ["/healthz", "/readyz", "/health"] {
        assert_eq!(client::get(gateway.ports.http, path).await.status, 200, "{path}");
    }
    assert_eq!(gateway.admin("GET", "/api/v1/keys", None).await.status, 200);
    assert_eq!(client::get(gateway.ports.metrics, "/metrics").await.status, 200);

    // Who waits gets the place that becomes free.
    drop(more);
    let waiting = async {
        let mut connection = Connection::open(gateway.ports.http).await;
        loop {
            connection.send(&request(&gateway.key, &chat("good"))).await;
            match connection.try_reply(false).await {
                Some(reply) if reply.status == 200 => return,
                Some(_) => {}
                None => connection = Connection::open(gateway.ports.http).await,
            }
        }
    };
    let free = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        held.pop();
    };
    tokio::time::timeout(client::PATIENCE, async { tokio::join!(waiting, free) })
        .await
        .expect("a place is given on");
    drop(held);
    gateway.idle().await;
    assert_eq!(gateway.metric("tollgate_requests_admitted").await, 0.0);
    assert_eq!(gateway.metric("tollgate_requests_waiting").await, 0.0);
}

async fn join<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<_> = calls.into_iter().map(Box::pin).collect();
    let mut done: Vec<Option<T>> = calls.iter().map(|_| None).collect();
    std::future::poll_fn(move |context| {
        for (call, done) in calls.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = call.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        match done.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(done.iter_mut().filter_map(Option::take).collect()),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_is_late_refuses_a_part_and_recovers() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options {
        overload: "lag = \"5ms\"",
        limits: "requests_per_address = 1000000",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let vip = critical_key(gateway).await;
    let before = gateway.resident();
    let stop = Arc::new(AtomicBool::new(false));
    let (served, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    // A large body makes work for the gateway, not for its clients.
    let body = [
        &chat("good")[..chat("good").len() - 1],
        b",\"metadata\":{\"x\":\"",
        &vec![b'y'; 60_000][..],
        b"\"}}",
    ]
    .concat();
    let bytes: Bytes = request(&gateway.key, &body).into();
    let address = gateway.ports.http;
    let clients: Vec<_> = (0..200)
        .map(|_| {
            let (stop, served, refused, bytes) = (stop.clone(), served.clone(), refused.clone(), bytes.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let mut connection = Connection::open(address).await;
                    while !stop.load(Ordering::Relaxed) {
                        connection.send(&bytes).await;
                        let Some(reply) = connection.try_reply(false).await else {
                            break;
                        };
                        match reply.status {
                            200 => served.fetch_add(1, Ordering::Relaxed),
                            _ => {
                                check_shed(Dialect::Chat, &reply);
                                refused.fetch_add(1, Ordering::Relaxed)
                            }
                        };
                    }
                }
            })
        })
        .collect();
    until("some are refused", client::PATIENCE, || async {
        (refused.load(Ordering::Relaxed) > 100).then_some(())
    })
    .await;
    let at = served.load(Ordering::Relaxed);
    until("others are served meanwhile", client::PATIENCE, || async {
        (served.load(Ordering::Relaxed) > at + 100).then_some(())
    })
    .await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client::get(address, path).await.status, 200, "{path}");
    }
    let mut critical = Connection::open(address).await;
    for _ in 0..30 {
        critical.send(&request(&vip, &chat("good"))).await;
        assert_eq!(critical.reply().await.status, 200, "critical requests go on");
    }
    let begun = Instant::now();
    assert_eq!(gateway.admin("GET", "/api/v1/keys", None).await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(10));
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(shed(gateway, "lag").await > 100.0);
    assert!(
        gateway.resident() < before + (200 << 20),
        "memory is bounded: {} to {}",
        before,
        gateway.resident()
    );
    until("everyone is served again", client::PATIENCE, || async {
        for _ in 0..20 {
            if gateway.post(CHAT, &chat("good")).await.status != 200 {
                return None;
            }
        }
        Some(())
    })
    .await;
    gateway.idle().await;
}
