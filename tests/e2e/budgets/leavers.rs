//! Clients that go away while their answer is under way: the provider is cut off, or its answer read on for the exact usage. One row each, and
//! the key is charged what the row says.

use std::time::Duration;

use bytes::Bytes;
use tollgate::money::NanoUsd;

use super::*;
use crate::support::dialect::ALL;
use crate::support::{h2, until};

/// Models `drain*` are read on for long, `brief*` for a moment, all others not at all.
const ROUTES: &str = "[[route]]\nname = \"drain\"\nmodel = \"drain*\"\ntargets = [{ provider = \"p\" }]\non_abort = { drain = \"1m\" }\n\
                      [[route]]\nname = \"brief\"\nmodel = \"brief*\"\ntargets = [{ provider = \"p\" }]\non_abort = { drain = \"300ms\" }\n";

/// A client which leaves.
#[derive(Clone, Copy, Debug)]
struct Leaver<'a> {
    dialect: Dialect,
    stream: bool,
    http2: bool,
    key: &'a str,
    model: &'a str,
}

impl<'a> Leaver<'a> {
    /// Of a stream over HTTP/1.1.
    fn of_a_stream(dialect: Dialect, key: &'a str, model: &'a str) -> Self {
        Leaver {
            dialect,
            stream: true,
            http2: false,
            key,
            model,
        }
    }

    /// … once its answer comes after so long, if it comes whole.
    fn after(self, wait: &str) -> String {
        match self.stream {
            true => self.model.to_owned(),
            false => format!("{},first={wait}", self.model),
        }
    }

    /// Asks a provider that was asked nothing before, and leaves within the answer, which comes after so long if it comes whole. The
    /// model asked for, once the gateway is done with it.
    async fn leave_alone(self, wait: &str, gateway: &Gateway, provider: &Provider) -> String {
        let model = self.after(wait);
        provider.sandbox.reset();
        let leaver = Leaver { model: &model, ..self };
        leaver.leave(gateway, provider, false).await;
        gateway.idle().await;
        model
    }

    /// Asks, and leaves: within the answer, or where `early` or the answer comes whole, once the provider has the request.
    async fn leave(self, gateway: &Gateway, provider: &Provider, early: bool) {
        let received = || {
            let models = provider.sandbox.counts().models;
            models.get(self.model).map_or(0, |counts| counts.received)
        };
        let before = received();
        let waits = early || !self.stream;
        let reached = || async {
            until("the provider is asked", Duration::from_secs(20), || async {
                (received() > before).then_some(())
            })
            .await;
        };
        if self.http2 {
            let path = self.dialect.path(self.model, self.stream);
            let body = self.dialect.body(self.model, self.stream);
            let (name, value) = self.dialect.key_header(self.key);
            let connection = h2::Connection::open(gateway.ports.h2c).await;
            let request = http::Request::post(format!("http://gateway.test{path}"))
                .header(name, value)
                .header("content-type", "application/json")
                .body(http_body_util::Full::new(Bytes::from(body)))
                .unwrap();
            let mut sender = connection.sender.clone();
            let mut answer = Box::pin(sender.send_request(request));
            if waits {
                tokio::select! {
                    _ = &mut answer => panic!("nothing is answered yet"),
                    () = reached() => {}
                }
            } else {
                // Its header: the body is never read.
                answer.await.unwrap();
            }
            return;
        }
        let mut connection = begin(gateway, self.key, self.dialect, self.model, self.stream).await;
        if waits {
            reached().await;
        } else {
            connection.started(500).await;
        }
    }
}

/// Fails unless the line is of a client that left, and the charge is that of its tokens. The charge.
fn check(line: &Value, estimated: bool, what: &str) -> NanoUsd {
    assert_eq!(line["ended"], "client_gone", "{what}: {line}");
    assert_eq!(
        line["estimated"].as_bool().unwrap_or(false),
        estimated,
        "{what}: {line}"
    );
    let tokens = |name: &str| line[name].as_u64().unwrap();
    let charge: NanoUsd = line["charge_usd"].as_str().unwrap().parse().unwrap();
    assert_eq!(
        charge.0,
        tokens("input_tokens") * 1000 + tokens("output_tokens") * 2000,
        "{what}: {line}"
    );
    charge
}

fn leavers<'a>(key: &'a str, model: &'a str) -> impl Iterator<Item = Leaver<'a>> {
    ALL.into_iter().flat_map(move |dialect| {
        [(true, false), (true, true), (false, false), (false, true)].map(|(stream, http2)| Leaver {
            dialect,
            stream,
            http2,
            key,
            model,
        })
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_read_on_is_charged_to_the_token() {
    let (gateway, provider, keys) = setting(ROUTES, "", &[dollars("1")]).await;
    let model = "drain-priced,tokens=60,pace=10ms,prompt=1000";
    let (mut sum, mut count) = (NanoUsd::ZERO, 0);
    for leaver in leavers(&keys[0], model) {
        let what = format!("{leaver:?}");
        let model = leaver.leave_alone("1s", &gateway, &provider).await;
        count += 1;
        // (Checks of its health are none of the model.)
        let counts = provider.sandbox.counts().models[&model];
        assert_eq!(
            (counts.received, counts.completed, counts.aborted),
            (1, 1, 0),
            "{what}: the provider came to its end"
        );
        let all = lines(&gateway, count).await;
        assert_eq!(all.len(), count, "one line each");
        sum += check(&all[count - 1], false, &what);
        let told = |name: &str| all[count - 1][name].as_u64().unwrap();
        assert_eq!(
            (told("input_tokens"), told("output_tokens")),
            (counts.tokens_in, counts.tokens_out),
            "{what}"
        );
        assert_eq!(spent(&gateway, &keys[0]).await, (sum, NanoUsd::ZERO), "{what}");
    }
    let rows = gateway.settled_rows(count).await;
    assert_eq!(rows.len(), count, "one row each");
    assert!(rows.iter().all(|row| row["ended"] == "client_gone"), "{rows:?}");
    let exact = gateway.metric("tollgate_drained_total{result=\"exact\"}").await;
    assert_eq!(exact as usize, count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_off_is_charged_by_an_estimate() {
    let (gateway, provider, keys) = setting(ROUTES, "", &[dollars("1")]).await;
    let (mut sum, mut count) = (NanoUsd::ZERO, 0);
    for model in ["priced,tokens=3000,pace=10ms", "brief-priced,tokens=3000,pace=10ms"] {
        for leaver in leavers(&keys[0], model) {
            let what = format!("{leaver:?}");
            let model = leaver.leave_alone("30s", &gateway, &provider).await;
            count += 1;
            let all = lines(&gateway, count).await;
            until(&format!("{what} aborts"), Duration::from_secs(20), || async {
                (provider.sandbox.counts().models[&model].aborted == 1).then_some(())
            })
            .await;
            sum += check(&all[count - 1], true, &what);
            assert_eq!(spent(&gateway, &keys[0]).await, (sum, NanoUsd::ZERO), "{what}");
        }
    }
    let cut = gateway.metric("tollgate_drained_total{result=\"cut\"}").await;
    assert_eq!(cut as usize, count / 2, "whose time was over");
    let estimated = "tollgate_estimated_attempts_total{ended=\"client_gone\"}";
    assert_eq!(gateway.metric(estimated).await as usize, count);
    assert_eq!(gateway.settled_rows(count).await.len(), count);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaving_before_the_first_byte_is_the_same() {
    let (gateway, provider, keys) = setting(ROUTES, "", &[dollars("1")]).await;
    for (count, (model, estimated)) in [
        ("drain-priced,first=500ms,tokens=5", false),
        ("brief-priced,fault=hang", true),
        ("priced,first=20s", true),
    ]
    .into_iter()
    .enumerate()
    {
        let leaver = Leaver::of_a_stream(Dialect::Chat, &keys[0], model);
        leaver.leave(&gateway, &provider, true).await;
        gateway.idle().await;
        let all = lines(&gateway, count + 1).await;
        check(&all[count], estimated, model);
        assert_eq!(spent(&gateway, &keys[0]).await.1, NanoUsd::ZERO);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_are_read_on_at_once() {
    let (gateway, provider, keys) = setting(ROUTES, "drains = 1", &[dollars("1")]).await;
    let leaver = Leaver::of_a_stream(Dialect::Chat, &keys[0], "drain-priced,tokens=150,pace=20ms");
    leaver.leave(&gateway, &provider, false).await;
    leaver.leave(&gateway, &provider, false).await;
    gateway.idle().await;
    let counts = provider.sandbox.counts().models[leaver.model];
    assert_eq!((counts.completed, counts.aborted), (1, 1));
    for (result, want) in [("exact", 1.0), ("full", 1.0), ("cut", 0.0)] {
        let series = format!("tollgate_drained_total{{result=\"{result}\"}}");
        assert_eq!(gateway.metric(&series).await, want, "{result}");
    }
    assert_eq!(spent(&gateway, &keys[0]).await.1, NanoUsd::ZERO);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_again_for_a_client_that_left() {
    let (gateway, provider, keys) = setting(ROUTES, "", &[dollars("1")]).await;
    let leaver = Leaver::of_a_stream(Dialect::Messages, &keys[0], "drain-priced,first=500ms,status=500");
    leaver.leave(&gateway, &provider, true).await;
    gateway.idle().await;
    let counts = provider.sandbox.counts().models[leaver.model];
    assert_eq!(counts.received, 1, "its failure is not followed");
    let line = lines(&gateway, 1).await.remove(0);
    assert_eq!(
        (line["ended"].as_str(), line["charge_usd"].as_str()),
        (Some("client_gone"), Some("0"))
    );
    assert_eq!(spent(&gateway, &keys[0]).await, (NanoUsd::ZERO, NanoUsd::ZERO));
}

/// A gateway whose own times are these, before a sandbox.
async fn timed(timeouts: &'static str) -> (Gateway, Provider) {
    let provider = Provider::start().await;
    let mut rules = rules_for(provider.address);
    rules.insert(1, ("15.toml", format!("{ROUTES}{PRICES}")));
    let gateway = Gateway::start(Options {
        rules,
        timeouts,
        ..Options::default()
    })
    .await;
    (gateway, provider)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attempt_begins_for_a_client_that_left_in_between() {
    let (gateway, provider) = timed("on_abort = { drain = \"5s\" }\n[retries]\nwait = \"3s\"\nmax_wait = \"3s\"").await;
    let key = gateway.key.clone();
    let model = "priced,status=503";
    let failed = |count| {
        let provider = &provider;
        until("an attempt failed", Duration::from_secs(20), move || async move {
            let counts = provider.sandbox.counts().models;
            let counts = counts.get(model).copied().unwrap_or_default();
            (counts.completed >= count).then_some(())
        })
    };
    let connection = begin(&gateway, &key, Dialect::Chat, model, true).await;
    // The third attempt waits for more than a second.
    failed(2).await;
    gateway.settled_rows(2).await;
    drop(connection);
    gateway.idle().await;
    // (Checks of its health are none of the model.)
    assert_eq!(provider.sandbox.counts().models[model].received, 2);
    let rows = gateway.settled_rows(3).await;
    assert_eq!(rows[2]["ended"], "client_gone", "it was found before anything was sent");
    // Who stays sees more of them.
    let _stays = begin(&gateway, &key, Dialect::Chat, model, true).await;
    failed(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_nothing_counts_as_gone() {
    let (gateway, provider) = timed("write_stall = \"300ms\"").await;
    let key = gateway.key.clone();
    let leaver = Leaver::of_a_stream(Dialect::Chat, &key, "drain-priced,tokens=400,pad=100000");
    let mut connection = begin(&gateway, leaver.key, leaver.dialect, leaver.model, true).await;
    let line = lines(&gateway, 1).await.remove(0);
    check(&line, false, "stalled");
    assert_eq!(provider.sandbox.counts().models[leaver.model].completed, 1);
    let rest = connection.rest().await;
    assert!(
        !String::from_utf8_lossy(&rest).contains("[DONE]"),
        "what it missed is not made up for"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_with_a_tokenizer_are_counted_by_it() {
    let (gateway, provider, keys) = setting(ROUTES, "", &[dollars("1")]).await;
    let leaver = Leaver::of_a_stream(Dialect::Chat, &keys[0], "gpt-4o-priced,tokens=3000,pace=5ms");
    leaver.leave(&gateway, &provider, false).await;
    gateway.idle().await;
    let line = lines(&gateway, 1).await.remove(0);
    check(&line, true, "gpt");
    let tokenizer = tollgate::dialects::tokenizer("gpt-4o").unwrap();
    // Around the message, and before the answer: 4 and 3.
    assert_eq!(
        line["input_tokens"].as_u64(),
        Some(tokenizer.count("Hi \u{e9} \u{1f600}") + 7)
    );
    assert!(line["output_tokens"].as_u64() > Some(0), "{line}");
}
