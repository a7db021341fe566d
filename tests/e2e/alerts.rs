//! A webhook receiver sees one message when something goes wrong, one when it is right again, signed; and one that fails is
//! tried again, so often and no more.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::client;
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, configuration, rules_for};
use crate::support::keyed::{Answers, Call};
use crate::support::provider::{Answer, Provider, Received};
use crate::support::until;

const SECRET: &str = "canary-webhook-5f7913-6c4e8a0d2b5f";
const PATH: &str = "/hook/canary-path-77aa31";
/// Until something is told: looks, holds, deliveries of a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// One webhook, told at once; the receiver is reached by address.
fn alerts(
    receiver: &Provider,
    more: &str,
) -> impl Fn(&std::path::Path, &crate::support::gateway::Ports, &Options) + use<> {
    let port = receiver.address.port();
    let more = more.to_owned();
    move |path, ports, options| {
        let conf = configuration(ports, options).replace(
            "[admin]\n",
            &format!("[admin]\nallow_private = [\"127.0.0.0/8\"]\nallow_ports = [{port}]\n"),
        );
        let alerts = format!(
            "[alerts]\nfor = \"0s\"\nclear_after = \"1s\"\nerror_rate = \"50%\"\nerror_rate_window = \"10s\"\n\
             error_rate_requests = 5\n{more}\n\
             [[alerts.webhook]]\nname = \"ops\"\nkind = \"generic\"\nurl = \"env:OPS_URL\"\nsecret = \"env:OPS_SECRET\"\n\
             [[alerts.webhook]]\nname = \"unset\"\nkind = \"slack\"\nurl = \"env:OPS_UNSET\"\n"
        );
        fs::write(path, conf + &alerts).unwrap();
    }
}

async fn start(receiver: &Provider, provider: &Provider, ledger: &'static str, more: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    for name in ["conf", "rules"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    let mut rules = rules_for(provider.address);
    rules.push(("15.toml", "[[price]]\nname = \"*\"\ninput = 1\noutput = 2\n".to_owned()));
    for (name, text) in &rules {
        fs::write(folder.path().join("rules").join(name), text).unwrap();
    }
    let options = Options {
        ledger,
        environment: vec![
            ("OPS_URL", format!("http://{}{PATH}", receiver.address)),
            ("OPS_SECRET", SECRET.into()),
        ],
        ..Options::default()
    };
    Gateway::start_in(folder, options, alerts(receiver, more)).await
}

/// What came, after its signature was verified as a receiver does it.
fn verified(request: &Received) -> Value {
    assert_eq!((&*request.method, &*request.target), ("POST", PATH));
    let timestamp = request.header("x-tollgate-timestamp").expect("a timestamp");
    let age = jiff::Timestamp::now().as_second() - timestamp.parse::<i64>().unwrap();
    assert!((-5..300).contains(&age), "sent {age} s ago");
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(timestamp.as_bytes());
    mac.update(b".");
    mac.update(&request.body);
    let signature = request.header("x-tollgate-signature").expect("a signature");
    let digits = signature.strip_prefix("v1=").expect("its version");
    let bytes: Vec<u8> = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
        .collect();
    mac.verify_slice(&bytes).expect("the signature is good");
    serde_json::from_slice(&request.body).unwrap()
}

/// (event, condition, subject) of all that came.
fn told(receiver: &Provider) -> Vec<(String, String, String)> {
    let all = receiver.received();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of = |body: Value| (text(&body["event"]), text(&body["condition"]), text(&body["subject"]));
    all.iter().map(|request| of(verified(request))).collect()
}

/// How often a condition was told so.
fn count(receiver: &Provider, event: &str, condition: &str) -> usize {
    let all = told(receiver);
    all.iter().filter(|(e, c, _)| e == event && c == condition).count()
}

async fn comes(receiver: &Provider, event: &str, condition: &str) {
    until(&format!("{condition} is {event}"), PATIENCE, || async {
        (count(receiver, event, condition) > 0).then_some(())
    })
    .await;
}

async fn status(gateway: &Gateway, key: &str) -> u16 {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = Dialect::Chat.body("x", false);
    client::send(gateway.ports.http, "POST", "/v1/chat/completions", &headers, &body)
        .await
        .status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_condition_is_told_once_and_so_is_its_end() {
    let answers = Answers::record().await;
    let fails = Arc::new(AtomicUsize::new(200));
    let script = fails.clone();
    let provider = Provider::start(move |request| match script.load(Ordering::Relaxed) {
        200 => answers.to(&Call::of(request)),
        status => Answer::json(
            status as u16,
            json!({"error": {"message": "no", "type": "x"}}).to_string(),
        ),
    })
    .await;
    let receiver = Provider::start(|_| Answer::json(200, "{}")).await;
    let gateway = start(&receiver, &provider, "", "").await;
    let (code, out, err) = gateway.cli(&["check"]).await;
    assert_eq!(code, 0, "{out}{err}");
    assert!(
        out.contains("note: webhook unset is inactive: the environment variable OPS_UNSET is not set"),
        "{out}"
    );

    // Rules with a mistake, then without.
    let broken = gateway.path("rules/90.toml");
    fs::write(&broken, "[[route]]\nmodle = \"x\"\n").unwrap();
    comes(&receiver, "raised", "reload_failed").await;
    fs::remove_file(&broken).unwrap();
    comes(&receiver, "recovered", "reload_failed").await;

    // A budget: 80 % of ten requests, then all of them; and more of it.
    let budget = |requests: u64| json!({ "policy": { "budgets": [{ "window": "total", "requests": requests }] }, "name": "<!channel>" });
    let made = gateway.admin("POST", "/api/v1/keys", Some(budget(10))).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = made.json()["key"].as_str().unwrap().to_owned();
    for _ in 0..8 {
        assert_eq!(status(&gateway, &key).await, 200);
    }
    comes(&receiver, "raised", "budget").await;
    for _ in 0..2 {
        assert_eq!(status(&gateway, &key).await, 200);
    }
    until("the whole budget is told", PATIENCE, || async {
        (count(&receiver, "raised", "budget") == 2).then_some(())
    })
    .await;
    let id = key.split('-').nth(2).unwrap();
    let raised = gateway
        .admin("PATCH", &format!("/api/v1/keys/{id}"), Some(budget(1000)))
        .await;
    assert_eq!(raised.status, 200, "{}", raised.text());
    comes(&receiver, "recovered", "budget").await;

    // A provider that fails, and then does not.
    fails.store(500, Ordering::Relaxed);
    for _ in 0..12 {
        let status = status(&gateway, &gateway.key).await;
        assert!(status >= 500, "{status}");
    }
    comes(&receiver, "raised", "error_rate").await;
    let view = gateway.admin("GET", "/api/v1/alerts", None).await.json();
    let active = view["active"].as_array().unwrap();
    assert!(
        active
            .iter()
            .any(|one| one["condition"] == "error_rate" && one["severity"] == "critical"),
        "{view}"
    );
    assert_eq!(
        gateway.metric("tollgate_alerts_active{condition=\"error_rate\"}").await,
        1.0
    );
    fails.store(200, Ordering::Relaxed);
    comes(&receiver, "recovered", "error_rate").await;

    // A credential that is refused, and then is not. It is the provider's only one.
    fails.store(401, Ordering::Relaxed);
    let asked = Instant::now();
    until("the credential is dead", PATIENCE, || async {
        status(&gateway, &gateway.key).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        (count(&receiver, "raised", "credential_dead") > 0).then_some(())
    })
    .await;
    println!("told {:?} after the first refusal", asked.elapsed());
    comes(&receiver, "raised", "provider_down").await;
    fails.store(200, Ordering::Relaxed);
    let verified = gateway.admin("POST", "/api/v1/credentials/p/main/enable", None).await;
    assert_eq!(verified.status, 200, "{}", verified.text());
    comes(&receiver, "recovered", "credential_dead").await;
    comes(&receiver, "recovered", "provider_down").await;

    let all = told(&receiver);
    for condition in ["reload_failed", "credential_dead", "provider_down"] {
        let of = |event: &str| all.iter().filter(|(e, c, _)| e == event && c == condition).count();
        assert_eq!((of("raised"), of("recovered")), (1, 1), "{condition}: {all:#?}");
    }
    assert_eq!(count(&receiver, "raised", "budget"), 2);
    assert_eq!(count(&receiver, "recovered", "budget"), 1);
    // 401 that nobody could answer is an error too: its time may have come again.
    assert!((1..=2).contains(&count(&receiver, "raised", "error_rate")), "{all:#?}");

    let (code, out, err) = gateway.cli(&["alerts", "test", "ops"]).await;
    assert_eq!((code, &*out), (0, "ops: delivered\n"), "{err}");
    assert_eq!(verified_last(&receiver)["event"], "test");
    let (code, out, _) = gateway.cli(&["alerts", "test"]).await;
    assert_eq!(code, 2, "the other is inactive: {out}");
    let audit = fs::read_to_string(gateway.path("data/audit.jsonl")).unwrap();
    assert!(audit.contains("/api/v1/alerts/test"), "it is recorded");
    let sent = gateway
        .metric("tollgate_alerts_total{condition=\"reload_failed\",result=\"sent\"}")
        .await;
    assert_eq!(sent, 2.0);
    let seen = [gateway.log(), audit, view.to_string(), gateway.metrics().await].concat();
    assert!(!seen.contains("canary"), "neither URL nor secret is told");
}

fn verified_last(receiver: &Provider) -> Value {
    verified(&receiver.last())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_told_and_a_repaired_one_is_not() {
    let answers = Answers::record().await;
    let provider = Provider::start(move |request| answers.to(&Call::of(request))).await;
    let receiver = Provider::start(|_| Answer::json(200, "{}")).await;
    let mut gateway = start(&receiver, &provider, "", "").await;
    for _ in 0..40 {
        assert_eq!(status(&gateway, &gateway.key).await, 200);
    }
    gateway.settled_rows(40).await;
    assert_eq!(gateway.stop().await, 0, "{}", gateway.log());
    let segments = fs::read_dir(gateway.path("data/journal")).unwrap();
    let segments = segments.map(|entry| entry.unwrap().path());
    let segment = segments
        .filter(|path| path.extension().is_some_and(|extension| extension == "tgj"))
        .min()
        .expect("a journal");
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2;
    bytes[middle..middle + 100].fill(0xEE);
    fs::write(&segment, bytes).unwrap();
    gateway.restart().await;
    let (code, out, _) = gateway.cli(&["ledger", "verify"]).await;
    assert_eq!(code, 2, "it is found: {out}");
    // That the books do not add up is told besides.
    let damaged = async || {
        until("the damage is told", PATIENCE, || async {
            let bodies = receiver.received();
            bodies.iter().map(verified).find(|body| body["subject"] == "damaged")
        })
        .await
    };
    let body = damaged().await;
    assert_eq!(
        (&body["condition"], &body["severity"]),
        (&json!("ledger"), &json!("critical"))
    );
    assert!(body["help"].as_str().unwrap().contains("tollgate ledger repair"));

    // After a restart it is told once more; after the repair it is not.
    assert_eq!(gateway.stop().await, 0);
    let all = told(&receiver);
    assert_eq!(
        all.iter().filter(|(_, _, subject)| subject == "damaged").count(),
        1,
        "{all:#?}"
    );
    receiver.forget();
    gateway.restart().await;
    damaged().await;
    assert_eq!(gateway.stop().await, 0);
    let (code, out, err) = gateway.cli(&["ledger", "repair"]).await;
    assert_eq!(code, 0, "{out}{err}");
    receiver.forget();
    gateway.restart().await;
    let test = gateway
        .admin("POST", "/api/v1/alerts/test", Some(json!({ "webhook": "ops" })))
        .await;
    assert_eq!(test.json()["results"][0]["delivered"], true, "{}", test.text());
    let broken = gateway.path("rules/90.toml");
    fs::write(&broken, "[[").unwrap();
    comes(&receiver, "raised", "reload_failed").await;
    assert_eq!(count(&receiver, "raised", "ledger"), 0, "{:#?}", told(&receiver));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_fails_or_hangs_is_tried_again_and_a_sign_of_life_is_sent() {
    let provider = Provider::start(|_| Answer::json(200, "{}")).await;
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let receiver = Provider::start(move |_| match counted.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::json(500, "{}"),
        1 => Answer::json(200, "{}").after(Duration::from_secs(60)),
        _ => Answer::json(200, "{}"),
    })
    .await;
    let gateway = start(&receiver, &provider, "", "heartbeat = \"1h\"").await;
    let delivered = until("the sign of life is taken at last", PATIENCE, || async {
        let view = gateway.admin("GET", "/api/v1/alerts", None).await.json();
        let ops = view["webhooks"]
            .as_array()
            .unwrap()
            .iter()
            .find(|one| one["name"] == "ops")
            .cloned();
        ops.unwrap()["deliveries"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(delivered["event"], "heartbeat", "{delivered}");
    assert_eq!(delivered["failure"], Value::Null, "{delivered}");
    assert_eq!(
        (&delivered["tries"], calls.load(Ordering::Relaxed)),
        (&json!(3), 3),
        "{delivered}"
    );
    let ids: Vec<Value> = receiver
        .received()
        .iter()
        .map(|request| verified(request)["id"].clone())
        .collect();
    assert!(
        ids.windows(2).all(|two| two[0] == two[1]),
        "each try is the same message: {ids:?}"
    );
    assert!(gateway.log().contains("tried again") && !gateway.log().contains("canary"));
}
