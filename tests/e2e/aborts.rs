//! Clients which go away, at any moment: nothing of them stays, and their providers are let go at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use crate::support::client::{self, Connection};
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, rules_for};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::{HEAVY, Random, h2, noise, until};

/// How many clients go away.
const ABORTS: usize = 2000;
/// How many at once.
const AT_ONCE: usize = 32;

/// One client, up to its sudden end; when that was.
async fn give_up(gateway: &Gateway, number: usize, multiplexed: &h2::Connection) -> (Instant, String) {
    let mut random = Random(number as u64 * 0x9E37_79B9 + 1);
    let dialect = ALL[number % 4];
    let (id, bearer) = (format!("abort-{number}"), gateway.bearer());
    let mut headers = vec![
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("x-request-id", id.as_str()),
    ];
    let place = random.below(5);
    let model = if place == 2 { "slow" } else { "stream" };
    let mut body = dialect.body(model, true);
    // Some in one piece, some in many.
    let padding = noise([0, 3000, 200_000][random.below(3) as usize], number as u64);
    body.splice(1..1, [&b"\"pad\":\""[..], &padding[..], &b"\","[..]].concat());
    let length = body.len().to_string();
    if place == 4 {
        let mut sender = multiplexed.sender.clone();
        let mut request = http::Request::post(format!("http://gateway.test{}", dialect.path(model, true)));
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        let answer = sender.send_request(request.body(http_body_util::Full::new(Bytes::from(body))).unwrap());
        // Dropped while it waits, or with the answer begun: either resets the stream.
        let kept = tokio::time::timeout(Duration::from_millis(random.below(60)), answer).await;
        let gone = Instant::now();
        drop(kept);
        return (gone, id);
    }
    headers.push(("content-length", &length));
    let mut connection = Connection::open(gateway.ports.http).await;
    connection
        .send(&client::head("POST", &dialect.path(model, true), &headers))
        .await;
    match place {
        0 => connection.send(&body[..random.below(body.len() as u64) as usize]).await,
        1 => connection.send(&body).await,
        2 => {
            connection.send(&body).await;
            tokio::time::sleep(Duration::from_millis(random.below(40))).await;
        }
        _ => {
            connection.send(&body).await;
            connection.started(1 + random.below(2000) as usize).await;
        }
    }
    let gone = Instant::now();
    drop(connection);
    (gone, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_clients_go_away_and_nothing_stays() {
    let _heavy = HEAVY.lock().await;
    let mut recordings = Vec::new();
    for dialect in ALL {
        recordings.push((dialect, record(dialect, "sandbox/x,tokens=30", true).await));
    }
    let provider = Provider::start(move |request| {
        let slow = request.target.contains("/slow:")
            || request
                .body
                .windows(12)
                .any(|window| window == b"el\":\"slow\"" || window == b"el\" : \"slow\"");
        let dialect = match request.target.as_str() {
            target if target.starts_with("/v1beta") => Dialect::Gemini,
            target if target.ends_with("/messages") => Dialect::Messages,
            target if target.ends_with("/responses") => Dialect::Responses,
            _ => Dialect::Chat,
        };
        if slow {
            return Answer::raw(vec![Step::Hang]);
        }
        let whole = &recordings.iter().find(|(of, _)| *of == dialect).unwrap().1;
        // Up to its middle, then silence: whoever waits for more goes away from an open stream.
        Answer::events([whole.slice(..whole.len() / 2)]).then(Step::Hang)
    })
    .await;
    let gateway = Arc::new(
        Gateway::start(Options {
            rules: rules_for(provider.address),
            limits: "requests_per_address = 100000",
            ..Options::default()
        })
        .await,
    );
    let multiplexed = Arc::new(h2::Connection::open(gateway.ports.h2c).await);

    let done = Arc::new(Mutex::new(Vec::with_capacity(ABORTS)));
    let next = Arc::new(AtomicUsize::new(0));
    // A first tenth warms it up: pools, buffers and the allocator's arenas are no leak.
    let mut before = (0, 0);
    for goal in [ABORTS / 10, ABORTS] {
        let mut clients = JoinSet::new();
        for _ in 0..AT_ONCE {
            let (gateway, multiplexed, done, next) = (gateway.clone(), multiplexed.clone(), done.clone(), next.clone());
            clients.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= goal {
                        next.fetch_min(goal, Ordering::Relaxed);
                        break;
                    }
                    let gone = give_up(&gateway, number, &multiplexed).await;
                    done.lock().push(gone);
                }
            });
        }
        clients.join_all().await;
        gateway.idle().await;
        until(
            "every provider's connection is closed or idle",
            Duration::from_secs(10),
            || async { (gateway.metric("tollgate_connections").await <= 1.0).then_some(()) },
        )
        .await;
        if goal != ABORTS {
            before = (gateway.resident(), gateway.descriptors().await);
        }
    }
    let (resident, descriptors) = (gateway.resident(), gateway.descriptors().await);
    let done = done.lock().clone();
    assert_eq!(done.len(), ABORTS);

    // When was the provider let go of, after the client was gone?
    let gone: std::collections::HashMap<String, Instant> =
        provider.gone().into_iter().map(|gone| (gone.id, gone.at)).collect();
    let mut waits: Vec<Duration> = done
        .iter()
        .filter_map(|(at, id)| gone.get(id).map(|seen| seen.saturating_duration_since(*at)))
        .collect();
    waits.sort();
    assert!(
        waits.len() > ABORTS / 3,
        "most of them had reached the provider: {}",
        waits.len()
    );
    let at = |part: usize| waits[(waits.len() - 1) * part / 100];
    println!(
        "{} upstream connections closed after the client was gone: p50 {:?}, p90 {:?}, p99 {:?}, max {:?}",
        waits.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
    println!(
        "resident {} -> {} KiB, descriptors {} -> {descriptors}",
        before.0 / 1024,
        resident / 1024,
        before.1
    );
    assert!(at(100) < Duration::from_secs(1), "the provider is let go of at once");
    assert!(
        (descriptors - before.1).abs() <= 5,
        "descriptors: {} before, {descriptors} after",
        before.1
    );
    assert!(
        resident < before.0 + (30 << 20),
        "memory: {} KiB before, {} after",
        before.0 / 1024,
        resident / 1024
    );

    let rows = gateway.rows().await;
    let mut ids: Vec<&str> = rows.iter().map(|row| row["request"].as_str().unwrap()).collect();
    ids.sort_unstable();
    let all = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), all, "one row an attempt");
    for row in &rows {
        assert_eq!(row["ended"], "client_gone", "{row}");
    }
    // (Checks of the provider's health have no id.)
    for id in gone.keys().filter(|id| !id.is_empty()) {
        assert!(
            ids.binary_search(&id.as_str()).is_ok(),
            "{id} reached the provider and has a row"
        );
    }
    // It serves on.
    let reply = client::get(gateway.ports.http, "/readyz").await;
    assert_eq!(reply.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_frees_its_provider_at_once() {
    let _heavy = HEAVY.lock().await;
    let whole = record(Dialect::Chat, "sandbox/x,tokens=30", true).await;
    let half = whole.slice(..whole.len() / 2);
    let provider = Provider::start(move |request| {
        let waits = request.body.windows(4).any(|window| window == b"slow");
        if waits {
            Answer::raw(vec![Step::Hang])
        } else {
            Answer::events([half.clone()]).then(Step::Hang)
        }
    })
    .await;
    let gateway = Gateway::start(Options {
        rules: rules_for(provider.address),
        ..Options::default()
    })
    .await;
    let bearer = gateway.bearer();
    let multiplexed = h2::Connection::open(gateway.ports.h2c).await;
    for (what, model, http2) in [
        ("waiting", "slow", false),
        ("in a stream", "m", false),
        ("waiting, HTTP/2", "slow", true),
        ("in a stream, HTTP/2", "m", true),
    ] {
        let mut waits = Vec::new();
        for number in 0..50usize {
            provider.forget();
            let (id, body) = (format!("gone-{number}"), Dialect::Chat.body(model, true));
            let length = body.len().to_string();
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
                ("x-request-id", &id),
            ];
            let at;
            if http2 {
                let mut sender = multiplexed.sender.clone();
                let mut request = http::Request::post("http://gateway.test/v1/chat/completions");
                for (name, value) in &headers {
                    request = request.header(*name, *value);
                }
                let mut answer =
                    Box::pin(sender.send_request(request.body(http_body_util::Full::new(Bytes::from(body))).unwrap()));
                if model == "slow" {
                    tokio::select! {
                        _ = &mut answer => panic!("nothing is answered"),
                        () = reached(&provider) => {}
                    }
                    at = Instant::now();
                    drop(answer);
                } else {
                    let answer = answer.await.unwrap();
                    at = Instant::now();
                    drop(answer);
                }
            } else {
                let mut connection = Connection::open(gateway.ports.http).await;
                let head = client::head(
                    "POST",
                    "/v1/chat/completions",
                    &[&headers[..], &[("content-length", length.as_str())]].concat(),
                );
                connection.send(&[head, body].concat()).await;
                if model == "slow" {
                    reached(&provider).await
                } else {
                    connection.started(100).await
                }
                at = Instant::now();
                drop(connection);
            }
            let gone = until("the provider is let go of", Duration::from_secs(5), || async {
                provider.gone().first().cloned()
            })
            .await;
            assert_eq!(gone.id, id);
            waits.push(gone.at.saturating_duration_since(at));
        }
        waits.sort();
        println!(
            "{what}: the provider is let go of after p50 {:?}, p90 {:?}, max {:?}",
            waits[24], waits[44], waits[49]
        );
        assert!(waits[49] < Duration::from_secs(1), "{what}: at once: {waits:?}");
    }
    gateway.idle().await;
}

/// Waits until the provider has a whole request.
async fn reached(provider: &Provider) {
    while provider.received().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
