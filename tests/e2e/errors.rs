//! What goes wrong at the provider is told honestly, in the client's dialect, and never looks like an answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, provider_rules, rules_for};
use crate::support::h2;
use crate::support::provider::{Answer, Provider, Step};

/// A gateway with timeouts, its provider, and what that answers next. Models: `known*`; `keyless`, whose provider has no
/// credential; `closed`, where nobody listens.
pub async fn setting(timeouts: &'static str) -> (Gateway, Provider, Arc<Mutex<Answer>>) {
    setting_over("1.1", timeouts).await
}

/// … with a provider that is spoken to in this version of HTTP.
async fn setting_over(http: &str, timeouts: &'static str) -> (Gateway, Provider, Arc<Mutex<Answer>>) {
    let next = Arc::new(Mutex::new(Answer::json(200, "{}")));
    let script = next.clone();
    let provider = Provider::start(move |_| script.lock().clone()).await;
    let mut rules = rules_for(provider.address);
    rules[0].1 = provider_rules("p", provider.address, &format!("http = \"{http}\""));
    rules[1].1 = "[[route]]\nname = \"known\"\nmodel = \"known*\"\ntargets = [{ provider = \"p\" }]\n\
                  [[route]]\nname = \"no credential\"\nmodel = \"keyless\"\ntargets = [{ provider = \"q\" }]\n\
                  [[route]]\nname = \"nobody there\"\nmodel = \"closed\"\ntargets = [{ provider = \"closed\" }]\n"
        .into();
    rules.push((
        "11.toml",
        provider_rules("q", provider.address, "").replace("E2E_PROVIDER_KEY", "E2E_NOT_SET"),
    ));
    rules.push(("12.toml", provider_rules("closed", "127.0.0.1:9".parse().unwrap(), "")));
    let gateway = Gateway::start(Options {
        rules,
        timeouts,
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    (gateway, provider, next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_the_provider_pass_with_retry_after_and_without_our_key() {
    let (gateway, _provider, next) = setting("").await;
    for dialect in ALL {
        let (path, body) = (dialect.path("known", true), dialect.body("known", true));
        for status in [400u16, 429, 500, 503, 529] {
            let said = format!("{{\"error\":{{\"message\":\"é {status}\",\"type\":\"theirs\"}}}}");
            *next.lock() = Answer::json(status, said.clone()).header("retry-after", "7");
            let reply = gateway.post(&path, &body).await;
            assert_eq!(
                (reply.status, reply.text(), reply.header("retry-after")),
                (status, said, Some("7")),
                "{dialect:?}: as the provider said it"
            );
        }
        let echo = format!("{{\"error\":{{\"message\":\"Incorrect API key provided: {PROVIDER_KEY}.\"}}}}");
        *next.lock() = Answer::json(401, echo.clone());
        let reply = gateway.post(&path, &body).await;
        dialect.check_refusal("our key is wrong, not the client's", 502, &reply);
        assert!(
            reply.text().contains("credential") && !reply.text().contains("CANARY"),
            "{dialect:?}: {}",
            reply.text()
        );
        *next.lock() = Answer::json(400, echo);
        let reply = gateway.post(&path, &body).await;
        assert!(
            !reply.text().contains(PROVIDER_KEY),
            "{dialect:?}: our key is masked: {}",
            reply.text()
        );
        assert!(
            reply.text().contains("Incorrect API key"),
            "{dialect:?}: the rest is not: {}",
            reply.text()
        );
        assert_eq!(
            reply.header("content-length"),
            Some(reply.body.len().to_string().as_str()),
            "{dialect:?}"
        );
    }
    // Cut so that the key is in two pieces.
    let body = format!("{{\"error\":{{\"message\":\"key {PROVIDER_KEY}\"}}}}");
    let middle = body.find("CANARY").unwrap();
    let (front, back) = body.split_at(middle);
    let steps = vec![
        Step::Send(Bytes::from(front.to_owned())),
        Step::Wait(Duration::from_millis(100)),
        Step::Send(Bytes::from(back.to_owned())),
    ];
    *next.lock() = Answer::raw(
        [
            vec![Step::Send(
                "HTTP/1.1 400 No\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n".into(),
            )],
            steps,
        ]
        .concat(),
    );
    let reply = gateway
        .post("/v1/chat/completions", &Dialect::Chat.body("known", false))
        .await;
    assert!(
        reply.status == 400 && !reply.text().contains("CANARY"),
        "in pieces: {}",
        reply.text()
    );
    let rows = gateway.settled_rows(29).await;
    assert!(rows.iter().all(|row| row["ended"] == "upstream_error"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_before_it_answers_is_told_in_the_clients_dialect() {
    let (gateway, provider, next) = setting("first_byte = \"300ms\"\nfirst_byte_whole = \"400ms\"").await;
    for dialect in ALL {
        for stream in [true, false] {
            let (path, body) = (dialect.path("known", stream), dialect.body("known", stream));
            *next.lock() = Answer::raw(vec![Step::Hang]);
            dialect.check_refusal("it hangs", 504, &gateway.post(&path, &body).await);
            *next.lock() = Answer::raw(vec![Step::Reset]);
            dialect.check_refusal("it resets", 502, &gateway.post(&path, &body).await);
            *next.lock() = Answer::raw(vec![Step::Cut]);
            dialect.check_refusal("it closes", 502, &gateway.post(&path, &body).await);
            *next.lock() = Answer::raw(vec![Step::Send("HTTP/1.1 200 OK\r\ncontent-".into()), Step::Cut]);
            dialect.check_refusal("it closes within its header", 502, &gateway.post(&path, &body).await);
            *next.lock() = Answer::raw(vec![Step::Send("garbage garbage\r\n\r\n".into())]);
            dialect.check_refusal("it speaks no HTTP", 502, &gateway.post(&path, &body).await);
            dialect.check_refusal(
                "nobody listens",
                502,
                &gateway
                    .post(&dialect.path("closed", stream), &dialect.body("closed", stream))
                    .await,
            );
        }
    }
    let rows = gateway.settled_rows(48).await;
    let of = |ended: &str| rows.iter().filter(|row| row["ended"] == ended).count();
    assert_eq!(of("timed_out"), 8, "the hangs");
    assert_eq!(of("complete"), 0);
    // A fresh connection that broke may have been billed: not tried again. Where nobody listens it may.
    assert_eq!(
        rows.iter().filter(|row| row["provider"] == "p").count(),
        provider.count()
    );
    assert_eq!(
        rows.iter().filter(|row| row["provider"] == "closed").count(),
        8 * 3,
        "{:?}",
        rows.last()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_or_just_stops_never_looks_complete() {
    broken_streams("1.1").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_of_an_http2_provider_that_breaks_never_looks_complete() {
    broken_streams("2").await;
}

async fn broken_streams(http: &str) {
    let (gateway, _provider, next) = setting_over(http, "idle = \"400ms\"").await;
    let mut multiplexed = h2::Connection::open(gateway.ports.h2c).await;
    let bearer = gateway.bearer();
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut count = 0;
    for dialect in ALL {
        let whole = record(dialect, "sandbox/x,tokens=12", true).await;
        let text = String::from_utf8(whole.to_vec()).unwrap();
        let last = text.find(dialect.last_word()).unwrap();
        let border = |before: &str| {
            before
                .rfind("\n\n")
                .map(|at| at + 2)
                .max(before.rfind("\r\n\r\n").map(|at| at + 4))
                .unwrap()
        };
        let last_frame = border(&text[..last]);
        let early = border(&text[..last_frame * 2 / 3]);
        for (what, at) in [
            ("early", early),
            ("before its last event", last_frame),
            ("within a frame", early + 9),
        ] {
            let begun = whole.slice(..at);
            for (how, step) in [
                ("stops cleanly", None),
                ("is cut", Some(Step::Cut)),
                ("is reset", Some(Step::Reset)),
                ("falls silent", Some(Step::Hang)),
            ] {
                let mut answer = Answer::events([begun.clone()]);
                if let Some(step) = step {
                    answer = answer.then(Step::Wait(Duration::from_millis(50))).then(step);
                }
                *next.lock() = answer;
                let (path, body) = (dialect.path("known", true), dialect.body("known", true));
                let one = gateway.post(&path, &body).await;
                let two = multiplexed.post(&path, &headers, body).await;
                for (version, reply) in [("1.1", one), ("2", two)] {
                    count += 1;
                    let what = format!("HTTP/{http} to HTTP/{version}, {what} it {how}");
                    assert_eq!(reply.status, 200, "{dialect:?}, {what}");
                    let sent = &text.as_bytes()[..early.min(at)];
                    assert!(
                        reply.body.starts_with(sent),
                        "{dialect:?}, {what}: what came before is there: {}",
                        reply.text()
                    );
                    dialect.check_broken_stream(&what, &reply);
                }
            }
        }
    }
    let rows = gateway.settled_rows(count).await;
    for row in &rows {
        assert!(row["ended"] == "upstream_broke" || row["ended"] == "timed_out", "{row}");
    }
    assert_eq!(rows.iter().filter(|row| row["ended"] == "timed_out").count(), count / 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_answer_that_breaks_is_an_error_not_half_an_answer() {
    let (gateway, _provider, next) = setting("idle = \"400ms\"").await;
    for dialect in ALL {
        let whole = record(dialect, "sandbox/x", false).await;
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            whole.len()
        );
        let half = [head.into_bytes(), whole[..whole.len() / 2].to_vec()].concat();
        for step in [Step::Cut, Step::Reset] {
            *next.lock() = Answer::raw(vec![
                Step::Send(half.clone().into()),
                Step::Wait(Duration::from_millis(50)),
                step,
            ]);
            dialect.check_refusal(
                "Content-Length promised more",
                502,
                &gateway
                    .post(&dialect.path("known", false), &dialect.body("known", false))
                    .await,
            );
        }
        for (what, status, answer) in [
            (
                "half of it, well framed",
                502,
                Answer::json(200, whole[..whole.len() / 2].to_vec()),
            ),
            ("nothing of it, well framed", 502, Answer::json(200, "")),
            (
                "it falls silent",
                504,
                Answer::raw(vec![Step::Send(half.clone().into()), Step::Hang]),
            ),
        ] {
            *next.lock() = answer;
            let (path, body) = (dialect.path("known", false), dialect.body("known", false));
            dialect.check_refusal(what, status, &gateway.post(&path, &body).await);
        }
    }
    gateway.idle().await;
}
