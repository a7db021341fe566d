//! Abuse of HTTP/2, by frames written by hand. Whatever is sent: the others are served, memory is bounded, and no provider
//! hears of a request that is not sound.

use std::time::{Duration, Instant};

use crate::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, block, frame,
};
use crate::support::client::PATIENCE;
use crate::support::gateway::Options;
use crate::support::provider::{Answer, Step};
use crate::support::{HEAVY, h2, until};
use crate::{CHAT, EVENT, Setting, chat, setting};

/// The fields of a good chat request.
fn fields<'a>(bearer: &'a str, length: &'a str) -> Vec<(&'static str, &'a str)> {
    vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "h"),
        (":path", CHAT),
        ("authorization", bearer),
        ("content-type", "application/json"),
        ("content-length", length),
    ]
}

/// The gateway serves another client, and memory did not grow much.
async fn still_serves(what: &str, setting: &Setting, before: u64) {
    let gateway = &setting.gateway;
    let begun = Instant::now();
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut connection = h2::Connection::open(gateway.ports.h2c).await;
    let reply = connection.post(CHAT, &headers, chat("good")).await;
    assert_eq!(reply.status, 200, "{what}: {}", reply.text());
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{what}: {:?}",
        begun.elapsed()
    );
    let now = gateway.resident();
    assert!(now < before + (64 << 20), "{what}: memory grew from {before} to {now}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_are_not_sound_reach_no_provider() {
    let setting = setting(Options {
        timeouts: "body_read = \"1s\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let bearer = gateway.bearer();
    let body = chat("bad");
    let length = body.len().to_string();
    let sound = fields(&bearer, &length);
    let without = |name: &str| -> Vec<(&str, &str)> { sound.iter().copied().filter(|field| field.0 != name).collect() };
    let with = |field: (&'static str, &'static str)| [sound.clone(), vec![field]].concat();
    let first = |field: (&'static str, &'static str)| [vec![field], sound.clone()].concat();
    let swapped = |name: &str, value: &'static str| -> Vec<(&str, &str)> {
        let swap = |field: &(&'static str, &str)| if field.0 == name { value } else { "" };
        sound
            .iter()
            .map(|field| {
                if field.0 == name {
                    (field.0, swap(field))
                } else {
                    *field
                }
            })
            .collect()
    };
    let cases: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("a name in capitals", with(("X-Upper", "1"))),
        ("a pseudo-header behind others", with((":path", "/other"))),
        ("an unknown pseudo-header", first((":other", "1"))),
        ("a pseudo-header of answers", first((":status", "200"))),
        ("two paths", first((":path", "/other"))),
        ("two methods", first((":method", "GET"))),
        ("Transfer-Encoding", with(("transfer-encoding", "chunked"))),
        ("Connection", with(("connection", "close"))),
        ("Keep-Alive", with(("keep-alive", "1"))),
        ("Proxy-Connection", with(("proxy-connection", "close"))),
        ("Upgrade", with(("upgrade", "websocket"))),
        ("a TE that is not trailers", with(("te", "gzip"))),
        ("no method", without(":method")),
        ("no path", without(":path")),
        ("no scheme", without(":scheme")),
        ("no authority", without(":authority")),
        ("an empty path", swapped(":path", "")),
        ("a path without a slash", swapped(":path", "v1/chat/completions")),
        (
            "an address for a path",
            swapped(":path", "http://other/v1/chat/completions"),
        ),
        (
            "a path with a line end",
            swapped(":path", "/v1/chat/completions HTTP/1.1\r\nx: y"),
        ),
        ("a path with a space", swapped(":path", "/v1/chat/completions x")),
        ("a Host that differs", with(("host", "other"))),
        ("a line end in a value", with(("x", "a\r\nb: c"))),
        ("a NUL in a value", with(("x", "a\0b"))),
        ("a name with a colon", with(("x:y", "1"))),
        ("a name with a space", with(("x y", "1"))),
        ("an empty name", with(("", "1"))),
        ("two lengths", with(("content-length", "1"))),
        ("a length too small", swapped("content-length", "5")),
        ("a length too large", swapped("content-length", "500000")),
        ("a length with a plus", swapped("content-length", "+5")),
        ("CONNECT", swapped(":method", "CONNECT")),
        ("an unknown method", swapped(":method", "BREW")),
    ];
    for (what, fields) in cases {
        let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
        frames.send(&frame(HEADERS, END_HEADERS, 1, &block(&fields))).await;
        frames.send(&frame(DATA, END_STREAM, 1, &body)).await;
        let end = frames.end_of(1).await;
        assert_ne!(frames.status(1), Some(200), "{what}: {:?}", frames.came);
        assert!(
            end.is_some() || frames.closed,
            "{what}: the stream or the connection ends: {:?}",
            frames.came
        );
        assert_eq!(setting.bad.count(), 0, "{what}: no provider hears of it");
    }
    // What is sound is served: the probes fail for the right reason.
    let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
    frames.send(&frame(HEADERS, END_HEADERS, 1, &block(&sound))).await;
    frames.send(&frame(DATA, END_STREAM, 1, &body)).await;
    frames.end_of(1).await;
    assert_eq!(frames.status(1), Some(200), "{:?}", frames.came);
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_break_the_rules_end_the_connection() {
    let setting = setting(Options::default()).await;
    let gateway = &setting.gateway;
    let bearer = gateway.bearer();
    let body = chat("good");
    let length = body.len().to_string();
    let head = block(&fields(&bearer, &length));
    let request = [frame(HEADERS, END_HEADERS, 1, &head), frame(DATA, END_STREAM, 1, &body)].concat();
    let before = gateway.resident();
    // Behind a request that is answered, so that the stream is closed.
    let after: Vec<(&str, Vec<u8>)> = vec![
        ("DATA on a closed stream", frame(DATA, END_STREAM, 1, b"more")),
        (
            "HEADERS on a closed stream",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &head),
        ),
        ("DATA on an idle stream", frame(DATA, END_STREAM, 7, b"x")),
        (
            "a stream of the server",
            frame(HEADERS, END_HEADERS | END_STREAM, 2, &head),
        ),
        ("stream 0", frame(HEADERS, END_HEADERS | END_STREAM, 0, &head)),
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        (
            "a window that overflows",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffffu32.to_be_bytes()),
        ),
        ("a window update of nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        ("a window update that is cut", frame(WINDOW_UPDATE, 0, 0, &[0; 3])),
        ("a ping that is cut", frame(PING, 0, 0, b"1234")),
        ("a ping on a stream", frame(PING, 0, 1, b"12345678")),
        ("settings on a stream", frame(SETTINGS, 0, 1, &[])),
        ("settings that are cut", frame(SETTINGS, 0, 0, &[0, 1, 0])),
        (
            "an acknowledgement with settings",
            frame(SETTINGS, ACK, 0, &[0, 4, 0, 0, 0, 1]),
        ),
        (
            "a window too large",
            frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("a frame size too small", frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1])),
        ("a frame that is too large", frame(DATA, 0, 3, &vec![0; 20_000])),
        ("a CONTINUATION of nothing", frame(CONTINUATION, END_HEADERS, 3, &head)),
        (
            "another frame within a header",
            [frame(HEADERS, END_STREAM, 3, &head), frame(PING, 0, 0, b"12345678")].concat(),
        ),
        ("a push", frame(5, END_HEADERS, 1, &[0, 0, 0, 2])),
        ("a reset of an idle stream", frame(RST_STREAM, 0, 9, &[0; 4])),
        (
            "HPACK: an index that is not there",
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0xff, 0xff, 0x03]),
        ),
        (
            "HPACK: a number without end",
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0xff; 200]),
        ),
        (
            "HPACK: a table too large",
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x3f, 0xff, 0xff, 0xff, 0x7f]),
        ),
        (
            "HPACK: a string beyond the block",
            frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0, 0x20, b'x']),
        ),
        ("padding larger than the frame", frame(DATA, 0x8, 3, &[200, 1])),
    ];
    for (what, bytes) in after {
        setting.good.forget();
        let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
        frames.send(&request).await;
        frames.end_of(1).await;
        assert_eq!(frames.status(1), Some(200), "{what}");
        frames.send(&bytes).await;
        let wrong = frames
            .until(PATIENCE, |frame| {
                matches!(frame.kind, GOAWAY) && frame.payload[4..8] != [0; 4] || frame.kind == RST_STREAM
            })
            .await;
        assert!(wrong.is_some() || frames.closed, "{what}: {:?}", frames.came);
        assert_eq!(setting.good.count(), 1, "{what}: nothing more is asked");
    }
    still_serves("after all of them", &setting, before).await;
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_are_bounded() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options {
        limits: "requests_per_address = 1000000",
        ..Options::default()
    })
    .await;
    *setting.next.lock() = Answer::raw(vec![Step::Hang]);
    let gateway = &setting.gateway;
    gateway.post(CHAT, &chat("good")).await;
    let before = gateway.resident();
    let bearer = gateway.bearer();
    let body = chat("bad");
    let length = body.len().to_string();
    let head = block(&fields(&bearer, &length));

    // Rapid reset (CVE-2023-44487): requests that are taken back at once.
    let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
    let mut sent = 0;
    for at in 0..20_000u32 {
        let stream = at * 2 + 1;
        let bytes = [
            frame(HEADERS, END_HEADERS, stream, &head),
            frame(DATA, END_STREAM, stream, &body),
            frame(RST_STREAM, 0, stream, &8u32.to_be_bytes()),
        ]
        .concat();
        if !frames.send(&bytes).await {
            break;
        }
        sent += 1;
    }
    let asked = setting.bad.count();
    assert!(asked <= sent, "{asked} of {sent}");
    assert!(
        frames.closes().await || asked < sent / 2,
        "the connection ends, or most of them reach nobody: {asked} of {sent}"
    );
    still_serves("rapid reset", &setting, before).await;
    drop(frames);
    until("they are all over", PATIENCE, || async {
        (gateway.metric("tollgate_requests_in_flight").await == 0.0).then_some(())
    })
    .await;

    // Small headers without end (CVE-2024-27316).
    let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
    frames.send(&frame(HEADERS, END_STREAM, 1, &head)).await;
    let more = block(&[("x-more", "0123456789")]);
    let mut sent = 0;
    while sent < 200_000 && frames.send(&frame(CONTINUATION, 0, 1, &more)).await {
        sent += 1;
    }
    assert!(sent < 200_000, "a header without end is ended");
    assert!(frames.closes().await);
    still_serves("CONTINUATION", &setting, before).await;

    // Empty ones.
    let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
    frames.send(&frame(HEADERS, END_STREAM, 1, &head)).await;
    let empty = frame(CONTINUATION, 0, 1, b"").repeat(100);
    let mut sent = 0;
    while sent < 20_000 && frames.send(&empty).await {
        sent += 1;
    }
    assert!(sent < 20_000, "empty ones too");
    still_serves("empty CONTINUATION", &setting, before).await;

    // A header that becomes large only when it is unpacked (an HPACK bomb).
    let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
    let mut bomb = vec![0x40];
    bomb.push(1);
    bomb.push(b'x');
    crate::frames::integer(&mut bomb, 4000);
    bomb.extend(vec![b'y'; 4000]);
    bomb.extend(vec![0xbe; 12_000]);
    frames.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb)).await;
    frames.end_of(1).await;
    assert_ne!(frames.status(1), Some(200));
    still_serves("an HPACK bomb", &setting, before).await;

    // Pings and settings whose answers nobody reads.
    for (what, bytes) in [
        ("pings", frame(PING, 0, 0, b"12345678")),
        ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("priorities", frame(2, 0, 1, &[0, 0, 0, 3, 16])),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &1u32.to_be_bytes())),
    ] {
        let mut frames = Frames::open(gateway.ports.h2c, &[]).await;
        let many = bytes.repeat(1000);
        let begun = Instant::now();
        let mut rounds = 0;
        while rounds < 1000 && begun.elapsed() < Duration::from_secs(10) && frames.send(&many).await {
            rounds += 1;
        }
        still_serves(what, &setting, before).await;
    }
    setting.bad.forget();
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_without_a_window_is_left() {
    let setting = setting(Options {
        timeouts: "write_stall = \"1s\"",
        ..Options::default()
    })
    .await;
    let gateway = &setting.gateway;
    let bearer = gateway.bearer();
    let big = format!("{}{}", " ".repeat(200_000), crate::ANSWER);
    *setting.next.lock() = Answer::json(200, big);
    let body = chat("bad");
    let length = body.len().to_string();
    let head = block(&fields(&bearer, &length));
    // SETTINGS_INITIAL_WINDOW_SIZE = 0: it never takes a byte.
    let mut frames = Frames::open(gateway.ports.h2c, &[(4, 0)]).await;
    for stream in [1, 3, 5] {
        frames.send(&frame(HEADERS, END_HEADERS, stream, &head)).await;
        frames.send(&frame(DATA, END_STREAM, stream, &body)).await;
    }
    let reset = frames.until(PATIENCE, |frame| frame.kind == RST_STREAM).await;
    assert!(reset.is_some() || frames.closed, "{:?}", frames.came);
    gateway.idle().await;
    let rows = gateway.settled_rows(3).await;
    assert_eq!(rows.len(), 3);
    // Answers of our own, to nobody in particular.
    let mut frames = Frames::open(gateway.ports.h2c, &[(4, 0)]).await;
    for stream in [1, 3, 5] {
        let fields = [
            (":method", "GET"),
            (":scheme", "http"),
            (":authority", "h"),
            (":path", "/healthz"),
        ];
        frames
            .send(&frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(&fields)))
            .await;
    }
    frames.until(PATIENCE, |frame| frame.kind == HEADERS).await;
    gateway.idle().await;
    // The same for streams of events.
    *setting.next.lock() = Answer::chunked("text/event-stream", vec![Step::Flood(EVENT.into(), 1_000_000)]);
    let body = b"{\"model\":\"bad\",\"stream\":true,\"messages\":[]}".to_vec();
    let length = body.len().to_string();
    let head = block(&fields(&bearer, &length));
    let mut frames = Frames::open(gateway.ports.h2c, &[(4, 100)]).await;
    frames.send(&frame(HEADERS, END_HEADERS, 1, &head)).await;
    frames.send(&frame(DATA, END_STREAM, 1, &body)).await;
    let reset = frames.until(PATIENCE, |frame| frame.kind == RST_STREAM).await;
    assert!(reset.is_some() || frames.closed, "{:?}", frames.came);
    gateway.idle().await;
    assert_eq!(gateway.settled_rows(4).await.len(), 4, "each is settled");
}
