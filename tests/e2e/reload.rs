//! Rules change while the gateway runs: all or nothing, and it says what became of it.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::client;
use crate::support::dialect::{Dialect, record};
use crate::support::gateway::{Gateway, Options, provider_rules, rules_for};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::{HEAVY, until};

async fn status(gateway: &Gateway, model: &str) -> u16 {
    gateway
        .post("/v1/chat/completions", &Dialect::Chat.body(model, false))
        .await
        .status
}

fn route(name: &str) -> String {
    format!("[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\ntargets = [{{ provider = \"p\" }}]\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_reload_all_or_nothing() {
    let provider = Provider::start(|_| Answer::json(200, "{}")).await;
    let mut rules = rules_for(provider.address);
    rules[1].1 = route("one");
    let gateway = Gateway::start(Options {
        rules,
        ..Options::default()
    })
    .await;
    assert_eq!(
        (status(&gateway, "one").await, status(&gateway, "two").await),
        (200, 404)
    );
    let digest = gateway.status().await["rules"]["digest"].clone();

    fs::write(gateway.path("rules/30.toml"), route("two")).unwrap();
    until("a new file's route works", Duration::from_secs(2), || async {
        (status(&gateway, "two").await == 200).then_some(())
    })
    .await;
    let now = gateway.status().await;
    assert_ne!(now["rules"]["digest"], digest);
    assert_eq!(now["rules"]["last_reload"]["ok"], true, "{now}");

    // As editors save: another file, renamed over it.
    fs::write(gateway.path("rules/.30.toml.tmp"), route("three")).unwrap();
    fs::rename(gateway.path("rules/.30.toml.tmp"), gateway.path("rules/30.toml")).unwrap();
    until("a replaced file's route works", Duration::from_secs(2), || async {
        (status(&gateway, "three").await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&gateway, "two").await, 404, "and what it replaced is gone");

    fs::write(
        gateway.path("rules/40.toml"),
        format!("{}modle = \"typo\"\n", route("four")),
    )
    .unwrap();
    let told = until("a broken file is told", Duration::from_secs(3), || async {
        let reload = gateway.status().await["rules"]["last_reload"].clone();
        (reload["ok"] == false).then_some(reload)
    })
    .await;
    assert!(
        told.to_string().contains("40.toml") && told.to_string().contains("model"),
        "it says where, and what was meant: {told}"
    );
    assert_eq!(
        (status(&gateway, "three").await, status(&gateway, "four").await),
        (200, 404),
        "the last good rules stay in force, all of them"
    );
    assert!(gateway.log().contains("40.toml"), "the log tells it: {}", gateway.log());
    assert!(
        gateway.metric("tollgate_rules_reloads_total{result=\"failed\"}").await >= 1.0,
        "a metric tells it"
    );
    assert_eq!(gateway.metric("tollgate_rules_refused").await, 1.0);
    let (code, out, err) = gateway.cli(&["check"]).await;
    assert_eq!(code, 1, "check finds it too: {out}{err}");
    assert!(format!("{out}{err}").contains("40.toml"), "{out}{err}");

    fs::write(gateway.path("rules/40.toml"), route("four")).unwrap();
    gateway.signal(Signal::HUP);
    until("mended, and SIGHUP", Duration::from_secs(2), || async {
        (status(&gateway, "four").await == 200).then_some(())
    })
    .await;
    assert_eq!(gateway.status().await["rules"]["last_reload"]["ok"], true);
    assert_eq!(gateway.metric("tollgate_rules_refused").await, 0.0);
    let reply = gateway.admin("POST", "/api/v1/reload", None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());

    fs::remove_file(gateway.path("rules/40.toml")).unwrap();
    until("a removed file's route is gone", Duration::from_secs(2), || async {
        (status(&gateway, "four").await == 404).then_some(())
    })
    .await;
}

/// Reloads of the test under load; with `TOLLGATE_LONG` set, 100 in a minute.
fn reloads() -> u32 {
    if std::env::var_os("TOLLGATE_LONG").is_some() {
        100
    } else {
        15
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reloads_under_load_fail_no_request_and_forget_nothing() {
    let _heavy = HEAVY.lock().await;
    let slow = record(Dialect::Chat, "sandbox/chat,tokens=20", true).await;
    let good = Provider::start(move |request| {
        let body = String::from_utf8_lossy(&request.body).replace(' ', "");
        if !body.contains("\"stream\":true") {
            return Answer::json(200, "{\"id\":\"1\"}");
        }
        let middle = slow.len() / 2;
        Answer::chunked(
            "text/event-stream",
            vec![
                Step::Send(slow.slice(..middle)),
                Step::Wait(Duration::from_millis(900)),
                Step::Send(slow.slice(middle..)),
            ],
        )
    })
    .await;
    let limited =
        Provider::start(|_| Answer::json(429, "{\"error\":{\"message\":\"wait\"}}").header("retry-after", "600")).await;
    let rules = |n: u32| {
        let weight = 1 + n % 3;
        format!(
            "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{{ provider = \"limited\", weight = 9 }}, {{ provider = \"good\", weight = {weight} }}]\n\
             [[route]]\nname = \"unused {n}\"\nmodel = \"unused\"\ntargets = [{{ provider = \"good\" }}]\nwhen = {{ tools = true }}\n"
        )
    };
    let gateway = Gateway::start(Options {
        rules: vec![
            ("10.toml", provider_rules("good", good.address, "")),
            ("11.toml", provider_rules("limited", limited.address, "")),
            ("20.toml", rules(0)),
        ],
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(AtomicUsize::new(0));
    let clients = (0..6).map(|client| {
        let (stop, asked) = (stop.clone(), asked.clone());
        let (address, bearer) = (gateway.ports.http, gateway.bearer());
        tokio::spawn(async move {
            let stream = client % 2 == 0;
            let body = Dialect::Chat.body("x", stream);
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            while !stop.load(Ordering::Relaxed) {
                let reply = client::send(address, "POST", "/v1/chat/completions", &headers, &body).await;
                assert_eq!((reply.status, reply.complete), (200, true), "{}", reply.text());
                assert!(!stream || reply.text().contains("[DONE]"), "{}", reply.text());
                asked.fetch_add(1, Ordering::Relaxed);
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    let before = gateway.metric("tollgate_rules_reloads_total{result=\"ok\"}").await;
    for n in 1..=reloads() {
        fs::write(gateway.path("rules/.20.toml.tmp"), rules(n)).unwrap();
        fs::rename(gateway.path("rules/.20.toml.tmp"), gateway.path("rules/20.toml")).unwrap();
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    let made = gateway.metric("tollgate_rules_reloads_total{result=\"ok\"}").await - before;
    assert!(made >= f64::from(reloads()) / 2.0, "only {made} reloads were taken");
    assert!(asked.load(Ordering::Relaxed) > 50);
    // The first requests found it limited, all at once perhaps; no reload forgot it.
    assert!(
        limited.count() <= 6,
        "the cooldown outlives a reload: {} calls",
        limited.count()
    );
}
