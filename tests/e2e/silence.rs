//! Silence: what a client hears while its provider says nothing, and how long anybody waits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, provider_rules};
use crate::support::h2;
use crate::support::provider::{Answer, Provider, Step};

/// What keeps a client of this dialect patient; `None`: nothing does.
fn ping(dialect: Dialect) -> Option<&'static str> {
    match dialect {
        Dialect::Messages => Some("event: ping\n"),
        Dialect::Chat | Dialect::Responses => Some(":"),
        Dialect::Gemini => None,
    }
}

fn pings(dialect: Dialect, text: &str) -> usize {
    ping(dialect).map_or(0, |ping| {
        text.lines().filter(|line| line.starts_with(ping.trim_end())).count()
    })
}

async fn setting(timeouts: &'static str) -> (Gateway, Provider, Provider, Arc<Mutex<Answer>>) {
    let next = Arc::new(Mutex::new(Answer::json(200, "{}")));
    let script = next.clone();
    let first = Provider::start(move |_| script.lock().clone()).await;
    let second = Provider::start(|request| {
        let dialect = ALL
            .into_iter()
            .find(|dialect| request.target.starts_with(dialect.path("x", false).split("x:").next().unwrap()))
            .unwrap();
        let text = match dialect {
            Dialect::Messages => "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"x\",\"content\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"SECOND\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
            _ => "data: {\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"x\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"SECOND\"},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n",
        };
        Answer::events([text])
    })
    .await;
    let off = "cooldown = \"off\"";
    let rules = vec![
        ("10.toml", provider_rules("first", first.address, off)),
        ("11.toml", provider_rules("second", second.address, off)),
        (
            "20.toml",
            "[[route]]\nname = \"alone\"\nmodel = \"alone\"\ntargets = [{ provider = \"first\" }]\n\
             [[route]]\nname = \"two\"\nmodel = \"two\"\ntargets = [{ provider = \"first\" }]\nfallback = [{ provider = \"second\" }]\n"
                .into(),
        ),
    ];
    let gateway = Gateway::start(Options {
        rules,
        timeouts,
        limits: "requests_per_address = 100000\nmin_pace = \"100B\"",
        ..Options::default()
    })
    .await;
    (gateway, first, second, next)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_is_kept_alive_between_its_frames() {
    let (gateway, _first, _second, next) = setting("ping = \"200ms\"\nping_before = \"off\"\nidle = \"10s\"").await;
    for dialect in ALL {
        let whole = record(dialect, "sandbox/chat,tokens=12", true).await;
        // Silence at a border, and within a frame.
        let text = String::from_utf8(whole.to_vec()).unwrap();
        let front = &text[..text.len() * 2 / 3];
        let border = front
            .rfind("\n\n")
            .map(|at| at + 2)
            .or(front.rfind("\r\n\r\n").map(|at| at + 4))
            .unwrap();
        for at in [border, border + 9] {
            *next.lock() = Answer::chunked(
                "text/event-stream",
                vec![
                    Step::Send(whole.slice(..at)),
                    Step::Wait(Duration::from_millis(700)),
                    Step::Send(whole.slice(at..)),
                ],
            );
            let reply = gateway
                .post(&dialect.path("alone", true), &dialect.body("alone", true))
                .await;
            let count = pings(dialect, &reply.text()).saturating_sub(pings(dialect, &text));
            match ping(dialect) {
                Some(_) => assert!((1..=4).contains(&count), "{dialect:?}: {count} pings: {}", reply.text()),
                None => assert_eq!(reply.body, whole, "{dialect:?}: it has none"),
            }
            // Without them it is what the provider said, so that none stands within a frame.
            let said: String = without_pings(dialect, &reply.text());
            assert_eq!(said, without_pings(dialect, &text), "{dialect:?}, silence at {at}");
        }
    }
}

fn without_pings(dialect: Dialect, text: &str) -> String {
    let frames = text.split_inclusive("\n\n");
    frames
        .filter(|frame| ping(dialect).is_none_or(|ping| !frame.starts_with(ping)))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_before_the_answer_still_allows_another_candidate() {
    let (gateway, _first, second, next) =
        setting("ping = \"200ms\"\nping_before = \"200ms\"\nfirst_byte = \"900ms\"\nidle = \"5s\"").await;
    for dialect in [Dialect::Chat, Dialect::Messages] {
        *next.lock() = Answer::raw(vec![Step::Hang]);
        let reply = gateway
            .post(&dialect.path("two", true), &dialect.body("two", true))
            .await;
        assert_eq!(reply.status, 200, "{dialect:?}: {}", reply.text());
        assert_eq!(reply.header("content-type"), Some("text/event-stream"), "{dialect:?}");
        assert!(pings(dialect, &reply.text()) >= 1, "{dialect:?}: {}", reply.text());
        assert!(
            reply.text().contains("SECOND") && reply.text().contains(dialect.last_word()) && reply.complete,
            "{dialect:?}: {}",
            reply.text()
        );
    }
    assert_eq!(second.count(), 2);
    // Who asks for no stream hears nothing, and gets a proper status.
    *next.lock() = Answer::json(500, "{\"error\":{\"message\":\"late\"}}").after(Duration::from_millis(600));
    let reply = gateway
        .post("/v1/chat/completions", &Dialect::Chat.body("alone", false))
        .await;
    assert_eq!(reply.status, 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_ping_a_failure_is_told_as_an_event() {
    let (gateway, _first, _second, next) =
        setting("ping = \"200ms\"\nping_before = \"200ms\"\nfirst_byte = \"900ms\"\nidle = \"5s\"").await;
    for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages] {
        for (what, answer) in [
            ("it hangs", Answer::raw(vec![Step::Hang])),
            (
                "an error answer",
                Answer::json(500, "{\"error\":{\"message\":\"late\",\"type\":\"x\"}}")
                    .after(Duration::from_millis(500)),
            ),
            (
                "an empty error answer",
                Answer::json(503, "").after(Duration::from_millis(500)),
            ),
            (
                "it closes",
                Answer::raw(vec![Step::Wait(Duration::from_millis(500)), Step::Cut]),
            ),
            (
                "no stream",
                Answer::whole(200, "application/json", "{\"id\":\"1\"}").after(Duration::from_millis(500)),
            ),
        ] {
            *next.lock() = answer;
            let reply = gateway
                .post(&dialect.path("alone", true), &dialect.body("alone", true))
                .await;
            assert_eq!(reply.status, 200, "{what}, {dialect:?}: {}", reply.text());
            assert!(
                pings(dialect, &reply.text()) >= 1,
                "{what}, {dialect:?}: {}",
                reply.text()
            );
            assert!(reply.text().contains("data:"), "{what}, {dialect:?}: {}", reply.text());
            dialect.check_broken_stream(what, &reply);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_beginning_without_content_is_held_back_for_a_while_only() {
    let (gateway, _first, second, next) =
        setting("commit = \"300ms\"\nidle = \"5s\"\nping = \"off\"\nping_before = \"off\"").await;
    let whole = record(Dialect::Messages, "sandbox/chat,tokens=5", true).await;
    let start = String::from_utf8_lossy(&whole).find("\n\n").unwrap() + 2;
    let error =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"late\"}}\n\n";
    let dialect = Dialect::Messages;
    for (between, told) in [("", false), ("event: ping\ndata: {\"type\": \"ping\"}\n\n", true)] {
        let mut steps = vec![Step::Send(whole.slice(..start)), Step::Wait(Duration::from_millis(600))];
        if told {
            steps.extend([Step::Send(Bytes::from(between)), Step::Wait(Duration::from_millis(100))]);
        }
        steps.push(Step::Send(Bytes::from(error)));
        *next.lock() = Answer::chunked("text/event-stream", steps);
        let reply = gateway
            .post(&dialect.path("two", true), &dialect.body("two", true))
            .await;
        assert_eq!(
            (reply.text().contains("late"), reply.text().contains("SECOND")),
            (told, !told),
            "any event lets it go once the time is over; an error that comes instead does not: {}",
            reply.text()
        );
    }
    assert_eq!(second.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pings_come_whole_to_a_client_with_hardly_any_room() {
    let (gateway, _first, _second, next) = setting("ping = \"150ms\"\nping_before = \"off\"\nidle = \"10s\"").await;
    for dialect in [Dialect::Chat, Dialect::Messages] {
        let whole = record(dialect, "sandbox/chat,tokens=12", true).await;
        let text = String::from_utf8(whole.to_vec()).unwrap();
        let border = text[..text.len() / 2].rfind("\n\n").unwrap() + 2;
        let mut steps = vec![
            Step::Send(whole.slice(..border)),
            Step::Wait(Duration::from_millis(400)),
        ];
        // The provider goes on while a ping waits for room.
        for frame in text[border..].split_inclusive("\n\n") {
            steps.push(Step::Send(Bytes::from(frame.to_owned())));
            steps.push(Step::Wait(Duration::from_millis(40)));
        }
        *next.lock() = Answer::chunked("text/event-stream", steps);
        let wire = tokio::net::TcpStream::connect(gateway.ports.h2c).await.unwrap();
        let mut connection = h2::Connection::with_window(wire, border as u32 + 3).await;
        let bearer = gateway.bearer();
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let answer = connection
            .begin(
                &dialect.path("alone", true),
                &headers,
                dialect.body("alone", true),
                true,
            )
            .await;
        tokio::time::sleep(Duration::from_millis(900)).await;
        let reply = h2::collect(answer).await;
        let said = without_pings(dialect, &reply.text());
        assert_eq!(said, without_pings(dialect, &text), "{dialect:?}: {}", reply.text());
        assert!(
            pings(dialect, &reply.text()) > pings(dialect, &text),
            "{dialect:?}: it was pinged"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drips_is_left_for_another_while_there_is_one() {
    let (gateway, _first, second, next) =
        setting("commit = \"1m\"\nidle = \"5s\"\nping = \"off\"\nping_before = \"off\"").await;
    let drip = |count: usize| {
        let mut steps = Vec::new();
        for _ in 0..count {
            steps.push(Step::Send(Bytes::from(": x\n\n")));
            steps.push(Step::Wait(Duration::from_millis(500)));
        }
        steps
    };
    *next.lock() = Answer::chunked("text/event-stream", drip(60));
    let dialect = Dialect::Chat;
    let reply = gateway
        .post(&dialect.path("two", true), &dialect.body("two", true))
        .await;
    assert!(reply.text().contains("SECOND"), "{}", reply.text());
    assert_eq!(second.count(), 1);
    let rows = gateway.settled_rows(2).await;
    assert_eq!(rows[0]["error"], "upstream_too_slow", "{}", rows[0]);
    // Alone, it is waited for.
    let whole = record(dialect, "sandbox/chat,tokens=5", true).await;
    let mut steps = drip(26);
    steps.push(Step::Send(whole));
    *next.lock() = Answer::chunked("text/event-stream", steps);
    let reply = gateway
        .post(&dialect.path("alone", true), &dialect.body("alone", true))
        .await;
    assert!(reply.text().contains(dialect.last_word()), "{}", reply.text());
}
