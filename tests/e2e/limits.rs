//! Bounds: who drips, floods or does not read gets no more than its share.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::client::{self, Connection};
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, rules_for};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::{HEAVY, h2, until};

const CHAT: &str = "/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_drips_is_cut_off() {
    let provider = Provider::start(|_| Answer::json(200, "{}")).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        timeouts: "header = \"1s\"\nkeepalive = \"1s\"",
        ..Options::default()
    })
    .await;
    for address in [gateway.ports.http, gateway.ports.h2c] {
        for start in ["", "POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nx-slow: "] {
            let began = Instant::now();
            let mut connection = Connection::open(address).await;
            connection.send(start.as_bytes()).await;
            let drip = async {
                if start.is_empty() {
                    // Nothing at all.
                    connection.rest().await;
                    return;
                }
                loop {
                    connection.send(b"a").await;
                    if let Ok(false) = tokio::time::timeout(Duration::from_millis(100), connection.fill()).await {
                        return;
                    }
                }
            };
            tokio::time::timeout(Duration::from_secs(6), drip)
                .await
                .expect("a header that drips must not be held open");
            assert!(began.elapsed() >= Duration::from_millis(900), "not before its time");
        }
    }
    // A second request on the connection has no more time than that to begin.
    let mut connection = Connection::open(gateway.ports.http).await;
    connection.send(&client::head("GET", "/healthz", &[])).await;
    assert_eq!(connection.reply().await.status, 200);
    tokio::time::timeout(Duration::from_secs(6), connection.rest())
        .await
        .expect("an idle connection is closed");
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_drips_is_refused() {
    let provider = Provider::start(|_| Answer::json(200, "{}")).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        timeouts: "body_read = \"500ms\"\nbody = \"1500ms\"",
        ..Options::default()
    })
    .await;
    let bearer = gateway.bearer();
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("content-length", "1000"),
    ];
    // Silent after its first bytes.
    let mut connection = Connection::open(gateway.ports.http).await;
    connection
        .send(&[client::head("POST", CHAT, &headers), b"{\"model".to_vec()].concat())
        .await;
    let reply = connection.reply().await;
    Dialect::Chat.check_refusal("silence", 408, &reply);
    // A byte now and then: within the time between two reads, beyond the time for all.
    let mut connection = Connection::open(gateway.ports.http).await;
    connection.send(&client::head("POST", CHAT, &headers)).await;
    let status = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            connection.send(b" ").await;
            if let Ok(Some((status, _))) = tokio::time::timeout(Duration::from_millis(200), connection.head()).await {
                return status;
            }
        }
    });
    assert_eq!(status.await.expect("a body that drips is not waited for"), 408);
    assert_eq!(provider.count(), 0);
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_one_address_are_counted() {
    let gateway = Gateway::start(Options {
        limits: "connections_per_address = 10",
        ..Options::default()
    })
    .await;
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut connection = Connection::open(gateway.ports.http).await;
        connection.send(&client::head("GET", "/healthz", &[])).await;
        // The probe at the start may still be counted for a moment.
        if let Some(reply) = connection.try_reply(false).await {
            assert_eq!(reply.status, 200);
            held.push(connection);
        }
    }
    assert!(held.len() >= 9, "up to the limit they are served: {}", held.len());
    let mut refused = 0;
    for _ in 0..5 {
        let mut connection = Connection::open(gateway.ports.http).await;
        connection.send(&client::head("GET", "/healthz", &[])).await;
        match connection.try_reply(false).await {
            None => refused += 1,
            Some(_) => held.push(connection),
        }
    }
    assert!(refused >= 4, "beyond it they are closed: {refused}");
    drop(held);
    until("given back, they may come again", Duration::from_secs(5), || async {
        client::try_get(gateway.ports.http, "/healthz").await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_is_refused() {
    let gateway = Gateway::start(Options {
        limits: "requests_per_address = 50",
        ..Options::default()
    })
    .await;
    let mut connection = h2::Connection::open(gateway.ports.h2c).await;
    let mut refused = None;
    for _ in 0..500 {
        let reply = connection
            .post(CHAT, &[("content-type", "application/json")], b"{}".to_vec())
            .await;
        if reply.status == 429 {
            refused = Some(reply);
            break;
        }
        assert_eq!(reply.status, 401);
    }
    let refused = refused.expect("a flood is refused");
    assert_eq!(refused.header("retry-after"), Some("1"));
    Dialect::Chat.check_error(429, &refused.json());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_costs_little_and_is_cut_off() {
    let _heavy = HEAVY.lock().await;
    let event = Bytes::from(format!(
        "data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{}\"}}}}]}}\n\n",
        "x".repeat(16_000)
    ));
    let whole = 200 << 20;
    let times = whole / event.len();
    let provider =
        Provider::start(move |_| Answer::chunked("text/event-stream", vec![Step::Flood(event.clone(), times)])).await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        timeouts: "write_stall = \"2s\"",
        ..Options::default()
    })
    .await;
    let body = Dialect::Chat.body("m", true);
    let (bearer, length) = (gateway.bearer(), body.len().to_string());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let before = gateway.resident();

    let mut connection = Connection::open(gateway.ports.http).await;
    connection
        .send(
            &[
                client::head(
                    "POST",
                    CHAT,
                    &[&headers[..], &[("content-length", length.as_str())]].concat(),
                ),
                body.clone(),
            ]
            .concat(),
        )
        .await;
    let mut multiplexed = h2::Connection::open(gateway.ports.h2c).await;
    let answer = multiplexed.begin(CHAT, &headers, body, true).await;
    assert_eq!(answer.status(), 200);
    // Neither reads on. Both are cut off, and meanwhile memory stays where it was.
    let mut most = 0;
    until("both are cut off", Duration::from_secs(20), || {
        most = most.max(gateway.resident());
        let gone = provider.gone().len();
        async move { (gone == 2).then_some(()) }
    })
    .await;
    println!(
        "resident {} KiB, at most {} KiB; the provider got rid of {} KiB of twice {}",
        before >> 10,
        most >> 10,
        provider.flooded() >> 10,
        whole >> 10
    );
    assert!(
        most < before + (24 << 20),
        "{} KiB before, {} at most",
        before >> 10,
        most >> 10
    );
    assert!(
        provider.flooded() < 40 << 20,
        "the provider is not read further than the client reads"
    );
    for row in gateway.settled_rows(2).await {
        assert_ne!(row["ended"], "complete", "{row}");
    }
    drop((connection, answer));
    gateway.idle().await;
}

/// The tests are started with the system's limit, mostly 1,024: each connection is a file.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn as_many_files_as_the_system_allows_may_be_open() {
    let gateway = Gateway::start(Options::default()).await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let [soft, hard] = [0, 1].map(|at| line.split_whitespace().nth(at).unwrap());
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    assert!(number(soft) >= number(hard).min(1 << 20), "{line}");
}
