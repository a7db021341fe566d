//! Providers that break the rules of HTTP, drip, or send without end: their client gets a proper error in its dialect, nobody
//! else notices, each row is settled, nothing leaks. (What breaks off, hangs or stops is in e2e's `errors.rs`.)

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::frames::{self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, SETTINGS, frame};
use crate::support::client::{Connection, PATIENCE, Reply};
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, provider_rules};
use crate::support::provider::{Answer, Step};
use crate::support::{HEAVY, noise, until};
use crate::{ANSWER, CHAT, EVENT, Setting, chat, request, setting};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n";

/// A raw answer, after which the provider keeps its connection open.
fn raw(bytes: impl Into<Bytes>) -> Answer {
    Answer::raw(vec![Step::Send(bytes.into()), Step::Hang])
}

/// A raw answer, after which the provider closes.
fn raw_and_close(bytes: impl Into<Bytes>) -> Answer {
    Answer::raw(vec![Step::Send(bytes.into())])
}

pub async fn ask(gateway: &Gateway, dialect: Dialect, model: &str, stream: bool) -> Reply {
    gateway
        .post(&dialect.path(model, stream), &dialect.body(model, stream))
        .await
}

/// An error before the answer began, or a stream that ended with an error event.
pub fn check_failed(what: &str, dialect: Dialect, reply: &Reply) {
    if reply.status == 200 {
        assert!(reply.complete, "{what}, {dialect:?}: it comes to an end");
        dialect.check_broken_stream(what, reply);
    } else {
        assert!(
            (500..=504).contains(&reply.status),
            "{what}, {dialect:?}: {}",
            reply.status
        );
        dialect.check_refusal(what, reply.status, reply);
    }
}

pub async fn healthy(what: &str, setting: &Setting) {
    let reply = setting.gateway.post(CHAT, &chat("good")).await;
    assert_eq!(
        (reply.status, reply.text()),
        (200, ANSWER.to_owned()),
        "{what}: others are served"
    );
}

/// No request, no row, no descriptor is left over.
async fn nothing_leaks(setting: &Setting, descriptors: i64) {
    let gateway = &setting.gateway;
    gateway.idle().await;
    until("descriptors are given back", PATIENCE, || async {
        // A few connections to good providers are kept, and those of this test.
        (gateway.descriptors().await <= descriptors + 12).then_some(())
    })
    .await;
    let rows = gateway.rows().await;
    assert!(rows.iter().all(|row| row["ended"].is_string()), "every row is settled");
}

fn quick() -> Options {
    Options {
        timeouts: "first_byte = \"1s\"\nfirst_byte_whole = \"1s\"\nidle = \"1s\"\ntotal = \"4s\"\ntotal_whole = \"4s\"",
        ..Options::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_break_the_rules_become_errors() {
    let setting = setting(quick()).await;
    let gateway = &setting.gateway;
    healthy("at first", &setting).await;
    let descriptors = gateway.descriptors().await;
    let length = ANSWER.len();
    let big = "x".repeat(1 << 20);
    let many: String = (0..10_000).map(|at| format!("x-{at}: y\r\n")).collect();
    let cases: Vec<(&str, Answer)> = vec![
        (
            "a length too large",
            raw_and_close(format!("{OK}content-length: {}\r\n\r\n{ANSWER}", length + 100)),
        ),
        (
            "a length too small",
            raw(format!("{OK}content-length: {}\r\n\r\n{ANSWER}", length - 20)),
        ),
        (
            "two lengths",
            raw(format!(
                "{OK}content-length: {length}\r\ncontent-length: 5\r\n\r\n{ANSWER}"
            )),
        ),
        (
            "a length that is no number",
            raw(format!("{OK}content-length: abc\r\n\r\n{ANSWER}")),
        ),
        (
            "a negative length",
            raw(format!("{OK}content-length: -5\r\n\r\n{ANSWER}")),
        ),
        (
            "a chunk size that is none",
            raw(format!(
                "{OK}transfer-encoding: chunked\r\n\r\nxyz\r\n{ANSWER}\r\n0\r\n\r\n"
            )),
        ),
        (
            "a chunk size that overflows",
            raw(format!(
                "{OK}transfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n{ANSWER}\r\n0\r\n\r\n"
            )),
        ),
        (
            "chunks without an end",
            raw_and_close(format!(
                "{OK}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{ANSWER}\r\n"
            )),
        ),
        (
            "chunks cut within",
            raw_and_close(format!(
                "{OK}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{}",
                &ANSWER[..50]
            )),
        ),
        ("no JSON", Answer::json(200, "<html>Welcome</html>")),
        (
            "bytes that are not UTF-8",
            Answer::json(
                200,
                [&ANSWER.as_bytes()[..100], b"\xff\xfe", &ANSWER.as_bytes()[100..]].concat(),
            ),
        ),
        (
            "a header of a megabyte",
            raw(format!("{OK}x-big: {big}\r\ncontent-length: {length}\r\n\r\n{ANSWER}")),
        ),
        (
            "ten thousand headers",
            raw(format!("{OK}{many}content-length: {length}\r\n\r\n{ANSWER}")),
        ),
        (
            "a header without end",
            Answer::raw(vec![
                Step::Send(OK.into()),
                Step::Flood("x-more: y\r\n".repeat(1000).into(), 10_000),
            ]),
        ),
        ("no HTTP", raw("SSH-2.0-OpenSSH_9.6\r\n")),
        ("no status", raw("HTTP/1.1 \r\n\r\n")),
        (
            "a status of four digits",
            raw(format!("HTTP/1.1 2000 OK\r\ncontent-length: {length}\r\n\r\n{ANSWER}")),
        ),
        (
            "a status of 0",
            raw(format!("HTTP/1.1 000 OK\r\ncontent-length: {length}\r\n\r\n{ANSWER}")),
        ),
        (
            "1xx for ever",
            Answer::raw(vec![Step::Flood(
                "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n".repeat(100).into(),
                100_000,
            )]),
        ),
        (
            "an upgrade nobody asked for",
            raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        ),
        ("a body that drips", Answer::chunked("application/json", drip(100, 200))),
        ("204", raw("HTTP/1.1 204 No Content\r\n\r\n")),
        (
            "a redirect",
            Answer::json(302, "").header("location", "http://127.0.0.1:9/"),
        ),
    ];
    let mut count = 0;
    for (what, answer) in cases {
        for dialect in [Dialect::Chat, Dialect::Messages, Dialect::Gemini, Dialect::Responses] {
            *setting.next.lock() = answer.clone();
            let begun = Instant::now();
            let reply = ask(gateway, dialect, "bad", false).await;
            count += 1;
            // Where both speak the same, what is framed well passes as it came.
            let passes = match what {
                "a redirect" => reply.status == 302,
                "no JSON" | "bytes that are not UTF-8" => reply.status == 200 && reply.complete,
                _ => false,
            };
            if !passes {
                assert_ne!(reply.status, 200, "{what}, {dialect:?}: {}", reply.text());
                check_failed(what, dialect, &reply);
            }
            assert!(reply.header("location").is_none(), "{what}");
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "{what}: {:?}",
                begun.elapsed()
            );
        }
        // Where they don't, it must be read.
        for dialect in [Dialect::Messages, Dialect::Gemini, Dialect::Responses] {
            *setting.next.lock() = answer.clone();
            let reply = ask(gateway, dialect, "converted", false).await;
            count += 1;
            if what != "a redirect" && what != "bytes that are not UTF-8" {
                check_failed(what, dialect, &reply);
            }
        }
        healthy(what, &setting).await;
    }
    assert!(gateway.settled_rows(count).await.len() >= count);
    nothing_leaks(&setting, descriptors).await;
}

fn drip(every: u64, times: usize) -> Vec<Step> {
    let one = [
        Step::Send(Bytes::from_static(b" ")),
        Step::Wait(Duration::from_millis(every)),
    ];
    one.into_iter().cycle().take(2 * times).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_break_the_rules_end_with_an_error_event() {
    let setting = setting(quick()).await;
    let gateway = &setting.gateway;
    healthy("at first", &setting).await;
    let descriptors = gateway.descriptors().await;
    for dialect in ALL {
        let whole = record(dialect, "sandbox/x,tokens=12", true).await;
        let text = String::from_utf8(whole.to_vec()).unwrap();
        let middle = text[..text.len() / 2].rfind("\n\n").map_or(text.len() / 2, |at| at + 2);
        let begun = whole.slice(..middle);
        let chunked = |rest: &[u8]| {
            let start = format!("{EVENTS}transfer-encoding: chunked\r\n\r\n{:x}\r\n", begun.len());
            [start.as_bytes(), &begun, b"\r\n", rest].concat()
        };
        let sends = |step: Step| Answer::chunked("text/event-stream", vec![Step::Send(begun.clone()), step]);
        let cases: Vec<(&str, Answer)> = vec![
            ("chunks that are garbage", raw(chunked(b"zzz\r\ndata: x\r\n"))),
            ("a chunk without its end", raw(chunked(b"5\r\nabcdefgh\r\n0\r\n\r\n"))),
            (
                "a length too large",
                raw_and_close([format!("{EVENTS}content-length: 1000000\r\n\r\n").as_bytes(), &begun].concat()),
            ),
            (
                "it drips",
                Answer::chunked(
                    "text/event-stream",
                    [vec![Step::Send(begun.clone())], drip(100, 100)].concat(),
                ),
            ),
            (
                "comments for ever",
                sends(Step::Flood(": x\n\n".repeat(10).into(), 100_000_000)),
            ),
            ("lines without end", sends(Step::Flood(noise(1000, 3).into(), 100_000))),
        ];
        for (what, answer) in cases {
            *setting.next.lock() = answer;
            let reply = ask(gateway, dialect, "bad", true).await;
            assert!(reply.body.len() < 200 << 20, "{what}");
            check_failed(what, dialect, &reply);
            healthy(what, &setting).await;
        }
        // Bytes that are not UTF-8 within an event: what comes before and after them is untouched.
        let mut odd = whole.to_vec();
        let at = text.find("data:").unwrap();
        odd.splice(at..at, b": \xff\xfe\n\n".iter().copied());
        *setting.next.lock() = Answer::events([odd.clone()]);
        let reply = ask(gateway, dialect, "bad", true).await;
        assert_eq!((reply.status, reply.complete), (200, true));
        assert!(
            reply.body == odd || reply.text().contains("error"),
            "{dialect:?}: {}",
            reply.text()
        );
    }
    nothing_leaks(&setting, descriptors).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_odd_but_sound_is_served() {
    let setting = setting(quick()).await;
    let gateway = &setting.gateway;
    let length = ANSWER.len();
    for (what, answer) in [
        (
            "100 before",
            raw(format!(
                "HTTP/1.1 100 Continue\r\n\r\n{OK}content-length: {length}\r\n\r\n{ANSWER}"
            )),
        ),
        (
            "103 before, twice",
            raw(format!(
                "{0}{0}{OK}content-length: {length}\r\n\r\n{ANSWER}",
                "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
            )),
        ),
        (
            "trailers",
            raw(format!(
                "{OK}transfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n{length:x}\r\n{ANSWER}\r\n0\r\nx-t: 1\r\n\r\n"
            )),
        ),
        (
            "chunk extensions",
            raw(format!(
                "{OK}transfer-encoding: chunked\r\n\r\n{length:x};a=b\r\n{ANSWER}\r\n0\r\n\r\n"
            )),
        ),
        (
            "until it closes",
            raw_and_close(format!("{OK}connection: close\r\n\r\n{ANSWER}")),
        ),
        (
            "HTTP/1.0",
            raw_and_close(format!(
                "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{ANSWER}"
            )),
        ),
        (
            "a header of 20 KiB",
            raw(format!(
                "{OK}x-big: {}\r\ncontent-length: {length}\r\n\r\n{ANSWER}",
                "x".repeat(20_000)
            )),
        ),
        (
            "headers of its own",
            raw(format!(
                "{OK}set-cookie: a=b\r\nconnection: x-hop\r\nx-hop: 1\r\ncontent-length: {length}\r\n\r\n{ANSWER}"
            )),
        ),
    ] {
        *setting.next.lock() = answer;
        let reply = ask(gateway, Dialect::Chat, "bad", false).await;
        assert_eq!((reply.status, reply.text()), (200, ANSWER.to_owned()), "{what}");
        for name in ["set-cookie", "x-hop", "x-t", "link", "x-big"] {
            assert_eq!(reply.header(name), None, "{what}: {name}");
        }
    }
    gateway.idle().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_behind_an_answer_are_nobodys_answer() {
    let setting = setting(quick()).await;
    let gateway = &setting.gateway;
    let length = ANSWER.len();
    let evil = ANSWER.replace("GOOD", "EVIL");
    let extra = format!("{OK}content-length: {length}\r\n\r\n{evil}");
    for (what, first) in [
        (
            "another answer behind it",
            format!("{OK}content-length: {length}\r\n\r\n{ANSWER}{extra}"),
        ),
        (
            "another answer behind chunks",
            format!("{OK}transfer-encoding: chunked\r\n\r\n{length:x}\r\n{ANSWER}\r\n0\r\n\r\n{extra}"),
        ),
        (
            "another answer behind 204",
            format!("HTTP/1.1 204 No Content\r\n\r\n{extra}"),
        ),
        (
            "another answer behind 304",
            format!("HTTP/1.1 304 Not Modified\r\n\r\n{extra}"),
        ),
        (
            "CL and TE",
            format!(
                "{OK}content-length: {}\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{ANSWER}\r\n0\r\n\r\n{extra}",
                length + 12
            ),
        ),
    ] {
        *setting.next.lock() = raw(first);
        ask(gateway, Dialect::Chat, "bad", false).await;
        *setting.next.lock() = Answer::json(200, ANSWER);
        for _ in 0..3 {
            let reply = ask(gateway, Dialect::Chat, "bad", false).await;
            assert_eq!((reply.status, reply.text()), (200, ANSWER.to_owned()), "{what}");
        }
    }
    gateway.idle().await;
}

/// A server that does with each connection what `play` says.
async fn server<F, P>(play: F) -> SocketAddr
where
    F: Fn(TcpStream) -> P + Send + Sync + 'static,
    P: Future<Output = std::io::Result<()>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let played = play(stream);
            tokio::spawn(async move {
                let _ = played.await;
            });
        }
    });
    address
}

/// A gateway before this server alone.
async fn before(address: SocketAddr, http: &str) -> Gateway {
    let rules = vec![
        (
            "10.toml",
            provider_rules("p", address, &format!("cooldown = \"off\"\nhttp = \"{http}\"")),
        ),
        (
            "20.toml",
            "[[route]]\nname = \"all\"\nmodel = \"*\"\nattempts = 1\ntargets = [{ provider = \"p\" }]\n".into(),
        ),
    ];
    Gateway::start(Options { rules, ..quick() }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_comes_before_the_body_was_sent_is_passed_on() {
    let text = "{\"error\":{\"message\":\"too much\",\"type\":\"x\"}}";
    for (status, close) in [(413, true), (400, true), (413, false), (400, false)] {
        let address = server(move |mut stream| async move {
            let mut read = [0; 1024];
            // The header's beginning is enough for it.
            let _ = stream.read(&mut read).await?;
            let answer = format!(
                "HTTP/1.1 {status} No\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{text}",
                text.len()
            );
            stream.write_all(answer.as_bytes()).await?;
            if close {
                // Half of it stays open, as a careful server does; unread bytes would reset the connection.
                stream.shutdown().await?;
            }
            tokio::time::sleep(Duration::from_secs(8)).await;
            Ok(())
        })
        .await;
        let gateway = before(address, "1.1").await;
        let mut body = chat("m");
        body.pop();
        body.extend(b",\"x\":\"");
        body.extend(noise(20 << 20, 1));
        body.extend(b"\"}");
        let reply = gateway.post(CHAT, &body).await;
        assert!(
            reply.status == status || (502..=504).contains(&reply.status),
            "{status}, closes: {close}: {} {}",
            reply.status,
            reply.text()
        );
        Dialect::Chat.check_error(
            reply.status,
            &serde_json::json!({"error": {
            "message": reply.json()["error"]["message"], "type": reply.json()["error"]["type"], "code": null}}),
        );
        gateway.idle().await;
        assert_eq!(gateway.settled_rows(1).await.len(), 1);
    }
}

/// What a bad HTTP/2 provider does when the request is there.
#[derive(Clone, Copy, Debug)]
enum H2 {
    ResetAtOnce,
    ResetWithin,
    RefusedStream,
    GoAwayAtOnce,
    GoAwayWithin,
    CloseWithin,
    Silent,
    SilentWithin,
    NoSettings,
    NoWindow,
    BadHeader,
    BadFrame,
    TooMuchData,
    WrongLength,
    PingFlood,
}

impl H2 {
    const ALL: [H2; 15] = [
        H2::ResetAtOnce,
        H2::ResetWithin,
        H2::RefusedStream,
        H2::GoAwayAtOnce,
        H2::GoAwayWithin,
        H2::CloseWithin,
        H2::Silent,
        H2::SilentWithin,
        H2::NoSettings,
        H2::NoWindow,
        H2::BadHeader,
        H2::BadFrame,
        H2::TooMuchData,
        H2::WrongLength,
        H2::PingFlood,
    ];
}

async fn play(mut stream: TcpStream, how: H2) -> std::io::Result<()> {
    let mut read = Vec::new();
    while read.len() < 24 {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    }
    read.drain(..24);
    let hang = Duration::from_secs(30);
    if matches!(how, H2::NoSettings) {
        tokio::time::sleep(hang).await;
        return Ok(());
    }
    // SETTINGS_INITIAL_WINDOW_SIZE: nothing may be sent.
    let settings: &[u8] = if matches!(how, H2::NoWindow) {
        &[0, 4, 0, 0, 0, 0]
    } else {
        &[]
    };
    stream.write_all(&frame(SETTINGS, 0, 0, settings)).await?;
    stream.write_all(&frame(SETTINGS, frames::ACK, 0, &[])).await?;
    let id = loop {
        if read.len() >= 9 {
            let length = u32::from_be_bytes([0, read[0], read[1], read[2]]) as usize;
            if read.len() >= 9 + length {
                let (kind, flags) = (read[3], read[4]);
                let id = u32::from_be_bytes([read[5], read[6], read[7], read[8]]);
                read.drain(..9 + length);
                if kind == HEADERS && matches!(how, H2::NoWindow)
                    || flags & END_STREAM != 0 && matches!(kind, DATA | HEADERS)
                {
                    break id;
                }
                continue;
            }
        }
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
    };
    let code = |code: u32| code.to_be_bytes();
    let head = frame(
        HEADERS,
        END_HEADERS,
        id,
        &[&[0x88][..], &frames::block(&[("content-type", "text/event-stream")])].concat(),
    );
    let event = EVENT.as_bytes();
    let begun = [head.clone(), frame(DATA, 0, id, event)].concat();
    let goaway = |last: u32| frame(GOAWAY, 0, 0, &[code(last), code(2)].concat());
    let bytes = match how {
        H2::ResetAtOnce => frame(RST_STREAM, 0, id, &code(2)),
        H2::RefusedStream => frame(RST_STREAM, 0, id, &code(7)),
        H2::ResetWithin => [begun, frame(RST_STREAM, 0, id, &code(2))].concat(),
        H2::GoAwayAtOnce => goaway(0),
        H2::GoAwayWithin => [begun, goaway(0)].concat(),
        H2::CloseWithin => begun,
        H2::Silent | H2::NoSettings | H2::NoWindow => Vec::new(),
        H2::SilentWithin => begun,
        H2::BadHeader => frame(HEADERS, END_HEADERS, id, &[0xff, 0xff, 0x03]),
        H2::BadFrame => [begun, frame(DATA, 0, id + 100, b"x")].concat(),
        H2::TooMuchData => [begun, frame(DATA, 0, id, &vec![b'x'; 16_384]).repeat(100)].concat(),
        H2::WrongLength => {
            let fields = frames::block(&[("content-type", "text/event-stream"), ("content-length", "5")]);
            [
                frame(HEADERS, END_HEADERS, id, &[&[0x88][..], &fields].concat()),
                frame(DATA, END_STREAM, id, event),
            ]
            .concat()
        }
        H2::PingFlood => [begun, frame(6, 0, 0, b"12345678").repeat(200_000)].concat(),
    };
    stream.write_all(&bytes).await?;
    if matches!(how, H2::CloseWithin | H2::GoAwayAtOnce | H2::GoAwayWithin) {
        stream.shutdown().await?;
        return Ok(());
    }
    // The window is given by nobody; what the gateway sends is read.
    let mut piece = vec![0; 16 * 1024];
    let _ = tokio::time::timeout(hang, async {
        while stream.read(&mut piece).await.is_ok_and(|read| read > 0) {}
    })
    .await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_http2_provider_that_breaks_the_rules_is_told_as_an_error() {
    for how in H2::ALL {
        let address = server(move |stream| play(stream, how)).await;
        let gateway = before(address, "2").await;
        let what = format!("{how:?}");
        let memory = gateway.resident();
        let mut count = 0;
        for dialect in [Dialect::Chat, Dialect::Messages] {
            let body = match dialect {
                // Another event than this dialect's is no answer; the conversion reads it.
                Dialect::Chat => {
                    b"{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}".to_vec()
                }
                _ => dialect.body("m", true),
            };
            let reply = gateway.post(&dialect.path("m", true), &body).await;
            count += 1;
            check_failed(&what, dialect, &reply);
        }
        gateway.idle().await;
        assert!(gateway.settled_rows(count).await.len() >= count, "{what}");
        assert!(gateway.resident() < memory + (64 << 20), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_provider_does_not_slow_the_others() {
    let _alone = HEAVY.lock().await;
    let setting = setting(Options {
        limits: "requests_per_address = 1000000",
        ..quick()
    })
    .await;
    let gateway = &setting.gateway;
    healthy("at first", &setting).await;
    let descriptors = gateway.descriptors().await;
    let count = 150;
    for (what, answer) in [
        ("it hangs", Answer::raw(vec![Step::Hang])),
        ("it drips", Answer::chunked("application/json", drip(50, 1000))),
        ("it resets", Answer::raw(vec![Step::Send(OK.into()), Step::Reset])),
    ] {
        *setting.next.lock() = answer;
        let mut open = Vec::new();
        for _ in 0..count {
            let mut connection = Connection::open(gateway.ports.http).await;
            connection.send(&request(&gateway.key, &chat("bad"))).await;
            open.push(connection);
        }
        for _ in 0..20 {
            let begun = Instant::now();
            healthy(what, &setting).await;
            assert!(
                begun.elapsed() < Duration::from_secs(3),
                "{what}: {:?}",
                begun.elapsed()
            );
        }
        for mut connection in open {
            let reply = connection.reply().await;
            check_failed(what, Dialect::Chat, &reply);
        }
    }
    nothing_leaks(&setting, descriptors).await;
}
