//! A fresh checkout: nothing to configure, one command, one line to try it; and a clean way to stop.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::client::{self, Connection};
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, Ports};
use crate::support::until;

/// The shipped `conf/` and `rules/`, with other ports.
async fn checkout() -> Gateway {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    for name in ["conf", "rules"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    for entry in fs::read_dir(root.join("rules")).unwrap().flatten() {
        fs::copy(entry.path(), folder.path().join("rules").join(entry.file_name())).unwrap();
    }
    let shipped = fs::read_to_string(root.join("conf/tollgate.toml")).unwrap();
    let configure = move |path: &Path, ports: &Ports, _: &Options| {
        let text = shipped
            .replace("127.0.0.1:8080", &ports.http.to_string())
            .replace("127.0.0.1:8081", &ports.admin.to_string())
            .replace("127.0.0.1:9090", &ports.metrics.to_string());
        fs::write(path, text).unwrap();
    };
    Gateway::start_in(folder, Options::default(), configure).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_checkout_serves_and_the_printed_line_works() {
    let mut gateway = checkout().await;
    let out = until("a line to try it", Duration::from_secs(10), || async {
        Some(gateway.out()).filter(|out| out.contains("curl "))
    })
    .await;
    let line = out.lines().find_map(|line| line.find("curl ").map(|at| &line[at..]));
    let line = line.unwrap_or_default();
    assert!(
        !out.contains(&gateway.key) && !gateway.log().contains(&gateway.key),
        "the key itself is not printed"
    );
    assert!(out.contains("first-run.toml"), "it says where the key is: {out}");
    if Command::new("curl").arg("--version").output().is_ok() {
        let run = Command::new("sh")
            .arg("-c")
            .arg(line)
            .current_dir(gateway.path(""))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&run.stdout);
        assert!(
            run.status.success(),
            "{line}: {text} {}",
            String::from_utf8_lossy(&run.stderr)
        );
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        assert!(
            answer["choices"][0]["message"]["content"]
                .as_str()
                .unwrap()
                .contains("Hello, Tollgate"),
            "{answer}"
        );
    } else {
        eprintln!("SKIPPED: there is no curl here");
    }
    for dialect in [Dialect::Chat, Dialect::Responses, Dialect::Messages, Dialect::Gemini] {
        for stream in [false, true] {
            let reply = gateway
                .post(&dialect.path("sandbox/x", stream), &dialect.body("sandbox/x", stream))
                .await;
            assert!(reply.status == 200 && reply.complete, "{dialect:?}: {}", reply.text());
        }
    }
    let (code, out, err) = gateway.cli(&["check"]).await;
    assert_eq!(code, 0, "the shipped files are sound: {out}{err}");
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/health", 200), ("/", 200)] {
        let reply = client::get(gateway.ports.http, path).await;
        assert_eq!(reply.status, status, "{path}");
        reply.json();
    }
    let key = gateway.key.clone();
    assert_eq!(gateway.stop().await, 0, "a graceful stop is no failure");
    let before = gateway.out().len();
    gateway.restart().await;
    assert_eq!(gateway.first_run("key"), key, "a second start makes no new key");
    assert!(
        !gateway.out()[before..].contains("first start"),
        "and does not speak of one: {}",
        gateway.out()
    );
    assert_eq!(
        gateway
            .post("/v1/chat/completions", &Dialect::Chat.body("sandbox/x", false))
            .await
            .status,
        200,
        "the key is good still"
    );
    let rows = gateway.settled_rows(9).await;
    assert!(rows.len() >= 9, "the book of the first run is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_waits_for_answers_that_have_begun() {
    let mut gateway = checkout().await;
    let model = "sandbox/x,tokens=40,pace=50ms";
    let body = Dialect::Chat.body(model, true);
    let (bearer, length) = (gateway.bearer(), body.len().to_string());
    let mut stream = Connection::open(gateway.ports.http).await;
    let headers = [
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
        ("content-length", &length),
    ];
    stream
        .send(&[client::head("POST", "/v1/chat/completions", &headers), body].concat())
        .await;
    while stream.buffered().len() < 500 {
        assert!(stream.fill().await);
    }
    gateway.signal(Signal::TERM);
    until("readiness is off while it drains", Duration::from_secs(2), || async {
        let reply = client::try_get(gateway.ports.http, "/readyz").await?;
        (reply.status == 503).then_some(())
    })
    .await;
    let reply = stream.reply().await;
    assert!(
        reply.complete && reply.text().contains("[DONE]"),
        "what had begun comes to its end: {}",
        reply.text()
    );
    assert_eq!(
        gateway.wait().await,
        0,
        "a graceful stop is no failure: {}",
        gateway.log()
    );
    gateway.restart().await;
    let rows = gateway.settled_rows(1).await;
    assert_eq!(rows[0]["ended"], "complete", "and is in the book as such");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_in_the_files_is_told_before_anything_starts() {
    let mut gateway = checkout().await;
    assert_eq!(gateway.stop().await, 0);
    let conf = fs::read_to_string(gateway.path("conf/tollgate.toml")).unwrap();
    fs::write(
        gateway.path("conf/tollgate.toml"),
        conf.replace("[timeouts]", "[timeouts]\nfirst_bite = \"1s\""),
    )
    .unwrap();
    fs::write(
        gateway.path("rules/90.toml"),
        "[[route]]\nname = \"x\"\nmodel = \"x\"\ntargets = [{ provider = \"sandbx\" }]\n",
    )
    .unwrap();
    let (code, out, err) = gateway.cli(&["check"]).await;
    let told = format!("{out}{err}");
    assert_eq!(code, 1, "{told}");
    for part in ["tollgate.toml", "first_byte", "90.toml", "sandbox"] {
        assert!(
            told.contains(part),
            "all problems at once, with what was meant: `{part}` in {told}"
        );
    }
    let (code, _, err) = gateway.cli(&["run"]).await;
    assert_eq!(code, 1, "and it does not start: {err}");
}
