//! Clients that send or take slowly, or half of them is gone.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::frames::{DATA, END_HEADERS, Frame, Frames, HEADERS, RST_STREAM, block, frame};
use crate::support::client::{Connection, PATIENCE};
use crate::support::gateway::{Gateway, Options};
use crate::support::provider::{Answer, Step};
use crate::support::until;
use crate::{ANSWER, CHAT, EVENT, chat, head_of, request, setting};

/// Sends a byte now and then until an answer comes; what it was and when.
async fn drip(gateway: &Gateway, path: &str, length: usize, every: Duration, at_once: usize) -> (u16, Duration) {
    let stream = TcpStream::connect(gateway.ports.http).await.unwrap();
    let begun = Instant::now();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(&head_of(&gateway.key, path, length)).await.unwrap();
    writer.write_all(&vec![b' '; at_once]).await.unwrap();
    let drip = async {
        loop {
            tokio::time::sleep(every).await;
            if writer.write_all(b" ").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let answer = async {
        let mut piece = [0; 1024];
        let read = reader.read(&mut piece).await.unwrap_or(0);
        let text = String::from_utf8_lossy(&piece[..read]).into_owned();
        text.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
    };
    let status = tokio::select! {
        () = drip => 0,
        status = tokio::time::timeout(PATIENCE, answer) => status.expect("an answer"),
    };
    (status, begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_must_come_within_its_times_and_at_a_pace() {
    let setting = setting(Options {
        timeouts: "body_read = \"1500ms\"\nbody = \"5s\"",
        limits: "body_pace = \"100KiB\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let wait = Duration::from_millis(100);
    let (silent, drips, large) = tokio::join!(
        drip(gateway, CHAT, 500, Duration::from_secs(100), 0),
        drip(gateway, CHAT, 500, wait, 0),
        // It holds two megabytes of the room for bodies.
        drip(gateway, CHAT, 2 << 20, wait, 50_000),
    );
    assert_eq!((silent.0, drips.0, large.0), (408, 408, 408));
    assert!((1.4..4.5).contains(&silent.1.as_secs_f64()), "{:?}", silent.1);
    assert!(drips.1 >= Duration::from_millis(4900), "{:?}", drips.1);
    assert!(large.1 < drips.1, "a large one sooner: {:?}", large.1);

    // HTTP/2, where Pingora has no such times.
    let bearer = gateway.bearer();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", CHAT),
        ("authorization", &bearer),
        ("content-type", "application/json"),
    ];
    for silent in [true, false] {
        let begun = Instant::now();
        let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
        frames.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        let ended = loop {
            if !silent {
                frames.send(&frame(DATA, 0, 1, b" ")).await;
            }
            let wait = if silent { PATIENCE } else { Duration::from_millis(100) };
            let answer = frames
                .until(wait, |frame| frame.stream == 1 && frame.kind == HEADERS)
                .await;
            if answer.is_some() || frames.closed || begun.elapsed() > PATIENCE {
                break begun.elapsed();
            }
        };
        let least = if silent { 1.4 } else { 4.9 };
        assert!(
            (least..least + 6.0).contains(&ended.as_secs_f64()),
            "silent: {silent}, {ended:?}"
        );
    }
    assert_eq!((setting.good.count(), setting.bad.count()), (0, 0));
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_streams_through_does_not_hang_for_ever() {
    let setting = setting(Options {
        timeouts: "body_read = \"1s\"\nbody = \"4s\"\nfirst_byte_whole = \"3s\"\nidle = \"3s\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    for every in [Duration::from_secs(100), Duration::from_millis(200)] {
        let (status, after) = drip(gateway, "/p/good/v1/files", 500, every, 10).await;
        assert!(
            status != 200 && after < Duration::from_secs(30),
            "{status} after {after:?}, a byte each {every:?}"
        );
    }
    let bearer = gateway.bearer();
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", "/p/good/v1/files"),
        ("authorization", &bearer),
    ];
    for drips in [false, true] {
        let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
        frames.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        let begun = Instant::now();
        let ended = loop {
            frames.send(&frame(DATA, 0, 1, b"some")).await;
            let wait = if drips { Duration::from_millis(100) } else { PATIENCE };
            let over = |frame: &Frame| frame.stream == 1 && (frame.kind == RST_STREAM || frame.kind == HEADERS);
            if frames.until(wait, over).await.is_some() || frames.closed || begun.elapsed() > PATIENCE {
                break begun.elapsed();
            }
        };
        assert!(ended < Duration::from_secs(30), "drips: {drips}, {ended:?}");
        assert_ne!(frames.status(1), Some(200));
    }
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_of_an_answer_is_left_and_its_row_settled() {
    let setting = setting(Options {
        timeouts: "write_stall = \"1s\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let before = gateway.resident();
    let stream = b"{\"model\":\"bad\",\"stream\":true,\"messages\":[]}".to_vec();
    let whole = format!("{}{ANSWER}", " ".repeat(30 << 20));
    let answers = [
        (
            stream,
            Answer::chunked(
                "text/event-stream",
                vec![Step::Flood(EVENT.repeat(100).into(), 100_000)],
            ),
        ),
        (chat("bad"), Answer::json(200, whole.clone())),
    ];
    let mut sockets = Vec::new();
    for (at, (body, answer)) in answers.into_iter().enumerate() {
        *setting.next.lock() = answer;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut socket = socket.connect(gateway.ports.http).await.unwrap();
        socket.write_all(&request(&gateway.key, &body)).await.unwrap();
        let rows = gateway.settled_rows(at + 1).await;
        assert_eq!(rows.len(), at + 1);
        sockets.push(socket);
    }
    gateway.idle().await;
    assert!(
        gateway.resident() < before + (128 << 20),
        "little is held for who does not read: {} to {}",
        before,
        gateway.resident()
    );
    // Who reads slowly, but reads, gets all of it.
    *setting.next.lock() = Answer::json(200, whole.clone());
    let mut connection = Connection::open(gateway.ports.http).await;
    connection.send(&request(&gateway.key, &chat("bad"))).await;
    connection.head().await.unwrap();
    let mut read = 0;
    while read < whole.len() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(connection.fill().await, "after {read} bytes");
        read = connection.buffered().len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_end() {
    let setting = setting(Options {
        timeouts: "header = \"2s\"\nkeepalive = \"2s\"\nbody_read = \"2s\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    *setting.next.lock() = Answer::raw(vec![Step::Hang]);
    // Its sending half is closed: before, within and after a request.
    let bad = request(&gateway.key, &chat("bad"));
    for bytes in [&b""[..], b"POST / HTTP", &bad[..bad.len() - 5], &bad[..]] {
        let mut stream = TcpStream::connect(gateway.ports.http).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(read.is_ok(), "after {} bytes", bytes.len());
    }
    // Idle ones, with and without a request behind them.
    let idle = Connection::open(gateway.ports.http).await;
    let mut used = Connection::open(gateway.ports.http).await;
    used.send(&request(&gateway.key, &chat("good"))).await;
    assert_eq!(used.reply().await.status, 200);
    let begun = Instant::now();
    for mut connection in [idle, used] {
        assert!(connection.rest().await.is_empty());
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    until("nobody is left", PATIENCE, || async {
        (gateway.metric("tollgate_connections").await <= 1.0).then_some(())
    })
    .await;
    gateway.idle().await;
}
