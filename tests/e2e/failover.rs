//! Failover: whatever happens to an attempt before its answer went out, the client gets the next candidate's answer and
//! nothing of the failed one; after the first byte of an answer there is no other attempt; each attempt has its row.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::support::client::Reply;
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, provider_rules};
use crate::support::provider::{Answer, Provider, Step};

struct Setting {
    gateway: Gateway,
    bad: Provider,
    good: Provider,
    next: Arc<Mutex<Answer>>,
}

/// `bad` is asked first and answers what `next` says; then `good`, which answers as the sandbox would. `closed` is a port
/// nobody listens on. Cooldown is off: each request finds the world as the one before.
async fn setting(http: &str, route: &str) -> Setting {
    let next = Arc::new(Mutex::new(Answer::json(200, "{}")));
    let script = next.clone();
    let bad = Provider::start(move |_| script.lock().clone()).await;
    let mut answers = Vec::new();
    for dialect in ALL {
        for stream in [false, true] {
            answers.push((dialect, stream, record(dialect, "sandbox/chat,tokens=5", stream).await));
        }
    }
    let good = Provider::start(move |request| {
        let dialect = *ALL
            .iter()
            .find(|dialect| {
                request
                    .target
                    .starts_with(dialect.path("x", false).split("x:").next().unwrap())
            })
            .unwrap_or(&Dialect::Chat);
        let body = String::from_utf8_lossy(&request.body);
        let stream = request.target.contains("streamGenerate") || body.replace(' ', "").contains("\"stream\":true");
        let (.., answer) = answers
            .iter()
            .find(|(known, streams, _)| (*known, *streams) == (dialect, stream))
            .unwrap();
        match stream {
            true => Answer::events([answer.clone()]),
            false => Answer::json(200, answer.clone()),
        }
    })
    .await;
    let off = format!("cooldown = \"off\"\nhttp = \"{http}\"");
    let rules = vec![
        ("10.toml", provider_rules("bad", bad.address, &off)),
        ("11.toml", provider_rules("good", good.address, &off)),
        (
            "12.toml",
            provider_rules("closed", "127.0.0.1:9".parse().unwrap(), &off),
        ),
        (
            "20.toml",
            format!(
                "[[route]]\nname = \"x\"\nmodel = \"x\"\ntargets = [{{ provider = \"bad\" }}]\nfallback = [{{ provider = \"good\" }}]\n{route}\n\
                 [[route]]\nname = \"closed\"\nmodel = \"closed\"\ntargets = [{{ provider = \"closed\" }}]\nfallback = [{{ provider = \"good\", model = \"x\" }}]\n"
            ),
        ),
    ];
    let gateway = Gateway::start(Options {
        rules,
        timeouts: "first_byte = \"300ms\"\nfirst_byte_whole = \"300ms\"\nidle = \"600ms\"\nping = \"off\"\nping_before = \"off\"",
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    Setting {
        gateway,
        bad,
        good,
        next,
    }
}

fn check_good(what: &str, dialect: Dialect, stream: bool, reply: &Reply, attempts: &str) {
    assert_eq!(
        reply.status,
        200,
        "{what}, {dialect:?}, stream {stream}: {}",
        reply.text()
    );
    assert!(reply.complete, "{what}, {dialect:?}, stream {stream}");
    assert_eq!(reply.header("x-tollgate-provider"), Some("good"), "{what}, {dialect:?}");
    assert_eq!(
        reply.header("x-tollgate-attempts"),
        Some(attempts),
        "{what}, {dialect:?}"
    );
    if stream {
        assert!(
            reply.text().contains(dialect.last_word()),
            "{what}, {dialect:?}: {}",
            reply.text()
        );
    }
    assert!(
        !reply.text().contains("BAD"),
        "{what}, {dialect:?}: nothing of the failed one"
    );
}

/// What the first provider does, what its row says, and whether it may have cost money.
fn failures(dialect: Dialect, stream: bool) -> Vec<(&'static str, Answer, &'static str, &'static str, bool)> {
    let error = |status: u16| Answer::json(status, "{\"error\":{\"message\":\"BAD\",\"type\":\"x\"}}");
    let first_event = match dialect {
        Dialect::Messages => {
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"BAD\"}}\n\n"
        }
        Dialect::Responses => {
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"BAD\",\"param\":null,\"sequence_number\":0}\n\n"
        }
        _ => {
            "data: {\"error\":{\"code\":503,\"message\":\"BAD\",\"status\":\"UNAVAILABLE\",\"type\":\"server_error\"}}\n\n"
        }
    };
    let mut all = vec![
        ("429", error(429).header("retry-after", "9"), "upstream_error", "status_429", false),
        ("500", error(500), "upstream_error", "status_500", false),
        ("502, HTML", Answer::whole(502, "text/html", "<html>BAD</html>"), "upstream_error", "status_502", false),
        ("503, empty", Answer::whole(503, "text/plain", ""), "upstream_error", "status_503", false),
        ("529", error(529), "upstream_error", "status_529", false),
        ("401", error(401), "upstream_error", "status_401", false),
        ("402", error(402), "upstream_error", "status_402", false),
        ("403", error(403), "upstream_error", "status_403", false),
        (
            "404 of the model",
            Answer::json(404, "{\"error\":{\"message\":\"BAD\",\"type\":\"not_found_error\",\"code\":\"model_not_found\",\"status\":\"NOT_FOUND\"}}"),
            "upstream_error",
            "status_404",
            false,
        ),
        (
            "500 in pieces",
            Answer::raw(vec![
                Step::Send("HTTP/1.1 500 No\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n8\r\n{\"error\"\r\n".into()),
                Step::Wait(Duration::from_millis(50)),
                Step::Send("7\r\n:\"BAD\"}\r\n0\r\n\r\n".into()),
            ]),
            "upstream_error",
            "status_500",
            false,
        ),
        ("reset", Answer::raw(vec![Step::Reset]), "upstream_failed", "upstream_broke", true),
        (
            "cut within the header",
            Answer::raw(vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-".into()), Step::Cut]),
            "upstream_failed",
            "upstream_broke",
            true,
        ),
        ("hang", Answer::raw(vec![Step::Hang]), "timed_out", "upstream_first_byte_timeout", true),
    ];
    if stream {
        all.push((
            "an error as first event",
            Answer::events([first_event]),
            "upstream_broke",
            if dialect == Dialect::Responses {
                "server_error"
            } else {
                "overloaded"
            },
            true,
        ));
        all.push((
            "a comment, then silence",
            Answer::chunked("text/event-stream", vec![Step::Send(": hello\n\n".into()), Step::Hang]),
            "timed_out",
            "upstream_idle_timeout",
            true,
        ));
        all.push((
            "an empty stream",
            Answer::raw(vec![Step::Send(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
                    .into(),
            )]),
            "upstream_broke",
            "upstream_broke",
            true,
        ));
        all.push((
            "a stream that ends with its header",
            Answer::whole(200, "text/event-stream", ""),
            "upstream_broke",
            "upstream_broke",
            true,
        ));
    } else {
        all.push((
            "half an answer",
            Answer::raw(vec![
                Step::Send(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"BAD\":".into(),
                ),
                Step::Cut,
            ]),
            "upstream_broke",
            "upstream_broke",
            true,
        ));
        all.push((
            "half an answer, well framed",
            Answer::json(200, "{\"BAD\":"),
            "upstream_broke",
            "upstream_broke",
            true,
        ));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_failure_before_the_first_byte_is_followed_by_the_next_candidate() {
    let Setting {
        gateway,
        bad,
        good,
        next,
    } = setting("1.1", "").await;
    let mut expected = Vec::new();
    for dialect in ALL {
        for stream in [false, true] {
            for (what, answer, ended, error, billed) in failures(dialect, stream) {
                *next.lock() = answer;
                let reply = gateway
                    .post(&dialect.path("x", stream), &dialect.body("x", stream))
                    .await;
                check_good(what, dialect, stream, &reply, "2");
                let id = reply.header("x-request-id").unwrap().to_owned();
                expected.push((id, what, ended, error, billed));
            }
            let reply = gateway
                .post(&dialect.path("closed", stream), &dialect.body("closed", stream))
                .await;
            check_good("nobody listens", dialect, stream, &reply, "2");
            let id = reply.header("x-request-id").unwrap().to_owned();
            expected.push((
                id,
                "nobody listens",
                "upstream_failed",
                "upstream_connect_failed",
                false,
            ));
        }
    }
    let rows = gateway.settled_rows(2 * expected.len()).await;
    assert_eq!(rows.len(), 2 * expected.len(), "one row for each attempt");
    assert_eq!(good.count(), expected.len());
    assert_eq!(bad.count() + 8, expected.len());
    for (id, what, ended, error, billed) in expected {
        // Rows are in the order of their ends.
        let mut its: Vec<_> = rows.iter().filter(|row| row["request"] == id.as_str()).collect();
        its.sort_by_key(|row| row["attempt"].as_u64());
        let [first, second] = its[..] else {
            panic!("{what}: {} rows", its.len());
        };
        assert_eq!(
            (&first["attempt"], &second["attempt"]),
            (&1.into(), &2.into()),
            "{what}"
        );
        assert_eq!(
            (first["ended"].as_str(), first["error"].as_str()),
            (Some(ended), Some(error)),
            "{what}: {first}"
        );
        assert_eq!(first["maybe_billed"], billed, "{what}: {first}");
        assert_eq!(
            (second["ended"].as_str(), &second["maybe_billed"]),
            (Some("complete"), &false.into()),
            "{what}: {second}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_the_same_over_http2() {
    let Setting {
        gateway,
        bad: _b,
        good: _g,
        next,
        ..
    } = setting("2", "").await;
    for dialect in ALL {
        for stream in [false, true] {
            for status in [429u16, 500, 503] {
                for body in ["{\"error\":{\"message\":\"BAD\"}}", ""] {
                    *next.lock() = Answer::json(status, body);
                    let reply = gateway
                        .post(&dialect.path("x", stream), &dialect.body("x", stream))
                        .await;
                    check_good(&format!("{status} {body:?}"), dialect, stream, &reply, "2");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_the_requests_own_fault_is_not_repeated() {
    let Setting {
        gateway,
        bad,
        good,
        next,
        ..
    } = setting("1.1", "").await;
    for dialect in ALL {
        for (status, body) in [
            (
                400,
                "{\"error\":{\"message\":\"no such field\",\"type\":\"invalid_request_error\"}}",
            ),
            (413, "{\"error\":{\"message\":\"too large\"}}"),
            (422, "{\"detail\":\"wrong\"}"),
        ] {
            *next.lock() = Answer::json(status, body);
            let reply = gateway.post(&dialect.path("x", true), &dialect.body("x", true)).await;
            assert_eq!(
                (reply.status, reply.text().as_str()),
                (status, body),
                "{dialect:?}: as it came"
            );
            assert_eq!(reply.header("x-tollgate-attempts"), Some("1"), "{dialect:?}");
        }
    }
    assert_eq!((bad.count(), good.count()), (12, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_first_byte_there_is_no_other_attempt() {
    let Setting {
        gateway,
        bad: _bad,
        good,
        next,
    } = setting("1.1", "").await;
    for dialect in ALL {
        let whole = record(dialect, "sandbox/chat,tokens=30", true).await;
        let half = whole.slice(..whole.len() * 2 / 3);
        *next.lock() = Answer::chunked(
            "text/event-stream",
            vec![Step::Send(half), Step::Wait(Duration::from_millis(100)), Step::Cut],
        );
        let reply = gateway.post(&dialect.path("x", true), &dialect.body("x", true)).await;
        assert_eq!(reply.status, 200, "{dialect:?}");
        assert_eq!(reply.header("x-tollgate-provider"), Some("bad"), "{dialect:?}");
        dialect.check_broken_stream("cut after content", &reply);
    }
    assert_eq!(good.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_nothing_can_follow_the_client_gets_the_last_error_as_it_came() {
    let Setting {
        gateway,
        bad: _bad,
        good,
        next,
    } = setting("1.1", "attempts = 1").await;
    for dialect in ALL {
        for (status, body) in [
            (500u16, "{\"error\":{\"message\":\"é\",\"type\":\"theirs\"}}"),
            (503, ""),
            (529, "busy"),
        ] {
            *next.lock() = Answer::json(status, body).header("retry-after", "3");
            let reply = gateway.post(&dialect.path("x", true), &dialect.body("x", true)).await;
            assert_eq!(
                (reply.status, reply.text().as_str(), reply.header("retry-after")),
                (status, body, Some("3")),
                "{dialect:?}"
            );
        }
    }
    assert_eq!(good.count(), 0, "one attempt is all the route allows");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_waits_for_content_but_not_for_ever() {
    let Setting {
        gateway,
        bad: _bad,
        good: _good,
        next,
    } = setting("1.1", "").await;
    // A role is no content: an error after it still fails over.
    *next.lock() = Answer::events([
        "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"BAD\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n",
        "data: {\"error\":{\"message\":\"BAD\",\"type\":\"server_error\"}}\n\n",
    ]);
    let dialect = Dialect::Chat;
    let reply = gateway.post(&dialect.path("x", true), &dialect.body("x", true)).await;
    check_good("a role, then an error", dialect, true, &reply, "2");
    let events = String::from_utf8(record(Dialect::Messages, "sandbox/chat,tokens=5", true).await.to_vec()).unwrap();
    let start = events.find("\n\n").unwrap() + 2;
    *next.lock() = Answer::events([
        Bytes::from(events[..start].to_owned()),
        Bytes::from(
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"BAD\"}}\n\n",
        ),
    ]);
    let dialect = Dialect::Messages;
    let reply = gateway.post(&dialect.path("x", true), &dialect.body("x", true)).await;
    check_good("a start, then an error", dialect, true, &reply, "2");
}
