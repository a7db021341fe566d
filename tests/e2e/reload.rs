//! Rules change while the gateway runs: all or nothing, and it says what became of it.

use std::fs;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, rules_for};
use crate::support::provider::{Answer, Provider};
use crate::support::until;

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
    let reply = gateway.admin("POST", "/api/v1/reload", None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());

    fs::remove_file(gateway.path("rules/40.toml")).unwrap();
    until("a removed file's route is gone", Duration::from_secs(2), || async {
        (status(&gateway, "four").await == 404).then_some(())
    })
    .await;
}
