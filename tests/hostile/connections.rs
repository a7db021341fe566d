//! Connections: too many of them, idle ones, dripping ones; file descriptors.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::{self, Connection, PATIENCE, head};
use crate::support::gateway::{Gateway, Options};
use crate::support::{HEAVY, until};
use crate::{CHAT, chat, request, setting, shed};

/// Connections that send this and then nothing.
async fn open(gateway: &Gateway, count: usize, bytes: &[u8]) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect(gateway.ports.http).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        all.push(stream);
    }
    all
}

/// Whether the other side closed it; what it sent is dropped.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut piece = [0; 4096];
    loop {
        match tokio::time::timeout(Duration::from_millis(5), stream.read(&mut piece)).await {
            Err(_) => return false,
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
        }
    }
}

async fn closed(all: &mut [TcpStream]) -> usize {
    let mut count = 0;
    for stream in all {
        count += usize::from(is_closed(stream).await);
    }
    count
}

/// A client that keeps its connection, with a request behind it.
async fn client(gateway: &Gateway) -> Connection {
    let mut connection = Connection::open(gateway.ports.http).await;
    assert_eq!(ask(gateway, &mut connection).await, Some(200));
    connection
}

async fn ask(gateway: &Gateway, connection: &mut Connection) -> Option<u16> {
    connection.send(&request(&gateway.key, &chat("good"))).await;
    connection.try_reply(false).await.map(|reply| reply.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_make_room_for_one_another_and_clients_stay() {
    let setting = setting(Options {
        limits: "unauthenticated_connections = 20\nconnections = 60",
        timeouts: "header = \"1m\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let mut friend = client(gateway).await;
    let mut flood = open(gateway, 20, b"GET / HT").await;
    until("they are counted", PATIENCE, || async {
        (gateway.metric("tollgate_connections_unauthenticated").await >= 20.0).then_some(())
    })
    .await;
    // From when on they may be closed for others.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    for _ in 0..10 {
        client(gateway).await;
        assert_eq!(
            ask(gateway, &mut friend).await,
            Some(200),
            "a client's connection stays"
        );
    }
    let gone = closed(&mut flood).await;
    assert!((1..=11).contains(&gone), "the oldest made room: {gone}");
    // Two threads take them in, each in its order.
    assert_eq!(closed(&mut flood[15..]).await, 0, "the oldest first");
    assert!(shed(gateway, "unauthenticated").await >= 1.0);

    // The bound of all: clients' connections are not closed for others.
    drop(flood);
    let mut friends = vec![friend];
    for _ in 0..59 {
        let mut connection = Connection::open(gateway.ports.http).await;
        if ask(gateway, &mut connection).await == Some(200) {
            friends.push(connection);
        }
    }
    let end = Instant::now() + PATIENCE;
    loop {
        let mut connection = Connection::open(gateway.ports.http).await;
        if ask(gateway, &mut connection).await.is_none() {
            break;
        }
        friends.push(connection);
        assert!(
            Instant::now() < end && friends.len() <= 60,
            "there is no room left at some time"
        );
    }
    assert!(friends.len() <= 60, "{}", friends.len());
    assert!(shed(gateway, "connections").await >= 1.0);
    assert_eq!(ask(gateway, &mut friends[0]).await, Some(200), "who is in is served");
    drop(friends);
    until("a place is free", PATIENCE, || async {
        let mut connection = Connection::open(gateway.ports.http).await;
        (ask(gateway, &mut connection).await == Some(200)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_second_header_has_no_more_time_than_the_first() {
    let setting = setting(Options {
        timeouts: "header = \"2s\"\nkeepalive = \"5m\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let mut friend = client(gateway).await;
    let mut stranger = Connection::open(gateway.ports.http).await;
    stranger.send(&head("GET", "/healthz", &[])).await;
    assert_eq!(stranger.reply().await.status, 200);
    let begun = Instant::now();
    stranger.send(b"GET /healthz HTTP/1.1\r\nHost").await;
    assert!(stranger.rest().await.is_empty());
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    tokio::time::sleep(Duration::from_secs(3).saturating_sub(begun.elapsed())).await;
    assert_eq!(ask(gateway, &mut friend).await, Some(200), "a client's may be idle");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptors_do_not_run_out() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options {
        descriptors: Some(400),
        timeouts: "header = \"1m\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    assert!(
        gateway.log().contains("are lowered"),
        "it says that there are few: {}",
        gateway.log()
    );
    let mut friend = client(gateway).await;
    let mut flood = Vec::new();
    for _ in 0..6 {
        flood.extend(open(gateway, 100, b"GET / HT").await);
        assert_eq!(ask(gateway, &mut friend).await, Some(200), "a client is served");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    let begun = Instant::now();
    until("a new client is served", PATIENCE, || async {
        let mut connection = Connection::open(gateway.ports.http).await;
        (ask(gateway, &mut connection).await == Some(200)).then_some(())
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    let descriptors = gateway.descriptors().await;
    assert!(descriptors < 380, "a reserve is left: {descriptors}");
    assert!(!gateway.log().contains("Accept() failed"), "{}", gateway.log());
    assert_eq!(gateway.admin("GET", "/api/v1/keys", None).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_that_drips_is_not_held_beyond_its_time() {
    let _alone = HEAVY.lock().await;
    let count = if std::env::var_os("TOLLGATE_LONG").is_some() {
        2000
    } else {
        300
    };
    let deadline = Duration::from_secs(4);
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let setting = setting(Options {
        timeouts: "header = \"4s\"\nhandshake = \"2s\"",
        limits: "requests_per_address = 100000\nconnections_per_address = 100000",
        tls: Some((made.cert.pem(), made.signing_key.serialize_pem())),
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    // HTTP/1.1, the same where HTTP/2 may come, its preface, its frames, and a TLS handshake.
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = "\0\0\0\x04\0\0\0\0\0";
    let texts: [(std::net::SocketAddr, String); 6] = [
        (
            gateway.ports.http,
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(500)),
        ),
        (
            gateway.ports.h2c,
            format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}", "a".repeat(500)),
        ),
        (gateway.ports.h2c, preface.to_owned()),
        // A header block of 500 bytes, of which one comes at a time.
        (
            gateway.ports.h2c,
            format!("{preface}{settings}\0\x01\x7f\x01\x04\0\0\0\x01{}", "a".repeat(500)),
        ),
        // A ping now and then asks for nothing.
        (
            gateway.ports.h2c,
            format!("{preface}{settings}{}", "\0\0\x08\x06\0\0\0\0\0........".repeat(30)),
        ),
        (
            gateway.ports.tls,
            "\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03".to_owned() + &"a".repeat(500),
        ),
    ];
    let drips: Vec<_> = (0..count)
        .map(|at| {
            let (address, text) = texts[at % texts.len()].clone();
            tokio::spawn(async move {
                let stream = TcpStream::connect(address).await.unwrap();
                let begun = Instant::now();
                let (mut reader, mut writer) = stream.into_split();
                let drip = async {
                    // The first half at once for frames, so that the connection is one of HTTP/2.
                    let bytes = text.as_bytes();
                    let at_once = if text.contains("SM") {
                        bytes.len().min(42) - 1
                    } else {
                        1
                    };
                    if writer.write_all(&bytes[..at_once]).await.is_err() {
                        return;
                    }
                    for byte in &bytes[at_once..] {
                        tokio::time::sleep(Duration::from_millis(250)).await;
                        if writer.write_all(&[*byte]).await.is_err() {
                            return;
                        }
                    }
                    std::future::pending().await
                };
                let end = async {
                    let mut piece = [0; 1024];
                    while reader.read(&mut piece).await.is_ok_and(|read| read > 0) {}
                };
                tokio::select! {
                    () = drip => {}
                    () = end => {}
                }
                (at % 6, begun.elapsed())
            })
        })
        .collect();
    let healthy = async {
        let mut slowest = Duration::ZERO;
        let end = Instant::now() + deadline;
        while Instant::now() < end {
            let begun = Instant::now();
            assert_eq!(gateway.post(CHAT, &chat("good")).await.status, 200);
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        slowest
    };
    let slowest = healthy.await;
    assert!(slowest < Duration::from_secs(3), "healthy requests go on: {slowest:?}");
    for drip in drips {
        let (kind, held) = tokio::time::timeout(PATIENCE, drip)
            .await
            .expect("it is closed")
            .unwrap();
        // One second, and what a busy machine adds.
        assert!(
            held < deadline + Duration::from_secs(4),
            "kind {kind}: held for {held:?}"
        );
    }
    until("none is left", PATIENCE, || async {
        (gateway.metric("tollgate_connections").await <= 2.0).then_some(())
    })
    .await;
    assert_eq!(client::get(gateway.ports.http, "/healthz").await.status, 200);
}
