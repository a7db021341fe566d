//! Active checks: what is wrong with keys, addresses and certificates is found while nobody asks, told everywhere, and forgotten
//! when it is well again. The least time between checks is five seconds: these tests wait for two or three of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;

use crate::pki::Authority;
use crate::support::dialect::Dialect;
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, free_port};
use crate::support::keyed::{Answers, Call, Keys, credential, key_of, stands};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::tls_front::TlsFront;
use crate::support::until;

/// Checks come so often at most.
const EVERY: &str = "health = { every = \"5s\" }";

/// Two checks, and what a busy machine needs.
const SOON: Duration = Duration::from_secs(20);

async fn gateway(rules: String) -> Gateway {
    Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        ..Options::default()
    })
    .await
}

fn route(provider: &str) -> String {
    format!(
        "[[route]]\nname = \"{provider}\"\nmodel = \"{provider}\"\naffinity = \"off\"\ntargets = [{{ provider = \"{provider}\" }}]\n"
    )
}

/// A list of models for who has a key that is not among these, and good answers.
fn lists(
    answers: Answers,
    dead: Arc<Mutex<Vec<&'static str>>>,
) -> impl Fn(&crate::support::provider::Received) -> Answer {
    move |request| {
        let key = key_of(request);
        if key.is_empty() || dead.lock().contains(&key.as_str()) {
            let text = format!(
                "{{\"error\":{{\"message\":\"Incorrect API key provided: {key}-of-{PROVIDER_KEY}\",\"type\":\"invalid_request_error\",\"code\":\"invalid_api_key\"}}}}"
            );
            return Answer::json(401, text);
        }
        match request.method.as_str() {
            "GET" => Answer::json(200, "{\"object\":\"list\",\"data\":[{\"id\":\"m\"}]}"),
            "HEAD" => Answer::whole(404, "text/plain", ""),
            _ => answers.to(&Call::of(request)),
        }
    }
}

async fn value(gateway: &Gateway, series: &str) -> Option<f64> {
    let page = gateway.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_key_is_found_without_traffic_and_returns_by_itself() {
    let dead: Arc<Mutex<Vec<&'static str>>> = Arc::new(Mutex::new(vec!["a"]));
    let provider = Provider::start(lists(Answers::record().await, dead.clone())).await;
    let keys = Keys::new();
    let rules = keys.provider("p", provider.address, EVERY, &[("a", ""), ("b", "")]) + &route("p");
    let gateway = gateway(rules).await;
    // Two refusals in a row: it might have been a hiccup.
    stands(&gateway, "p", "a", "quarantined", SOON).await;
    let told = credential(&gateway, "p", "a").await;
    assert_eq!(told["state"]["reason"], "unauthorised", "{told}");
    assert_eq!(told["last_check"]["result"], "unauthorised", "{told}");
    assert_eq!(told["last_check"]["status"], 401, "{told}");
    let words = told["last_check"]["words"].as_str().unwrap();
    assert!(words.contains("Incorrect API key"), "the provider's words: {words}");
    let up = |name: &str| format!("tollgate_health_up{{credential=\"{name}\",provider=\"p\"}}");
    assert_eq!(value(&gateway, &up("a")).await, Some(0.0));
    until("the other one was checked too", SOON, || async {
        (value(&gateway, &up("b")).await == Some(1.0)).then_some(())
    })
    .await;
    let quarantined = "tollgate_credential_state{credential=\"a\",provider=\"p\",state=\"quarantined\"}";
    assert_eq!(value(&gateway, quarantined).await, Some(1.0));
    let log = gateway.log();
    assert!(log.contains("a check finds the credential at fault"), "{log}");
    assert_eq!(credential(&gateway, "p", "b").await["state"]["standing"], "ready");

    // No client ever meets it.
    let asked = |key: &str| {
        let received = provider.received();
        received
            .iter()
            .filter(|request| request.method == "POST" && key_of(request) == key)
            .count()
    };
    for _ in 0..6 {
        let reply = gateway
            .post("/v1/chat/completions", &Dialect::Chat.body("p", false))
            .await;
        assert_eq!(
            (reply.status, reply.header("x-tollgate-attempts")),
            (200, Some("1")),
            "{}",
            reply.text()
        );
    }
    assert_eq!((asked("a"), asked("b")), (0, 6));

    // By hand: the command tells which, and says so with its exit code.
    let (code, out, err) = gateway.cli(&["credentials", "verify"]).await;
    assert_eq!(code, 1, "{out}{err}");
    assert!(out.contains("unauthorised") && out.contains("ok"), "{out}{err}");
    let (code, listed, err) = gateway.cli(&["credentials", "list"]).await;
    assert_eq!(code, 0, "{err}");
    assert!(
        listed.contains("quarantined") && listed.contains("unauthorised"),
        "{listed}"
    );
    let (code, verified, _) = gateway.cli(&["credentials", "verify", "p/b"]).await;
    assert_eq!(code, 0, "{verified}");
    for text in [out, listed, gateway.log(), gateway.metrics().await] {
        assert!(!text.contains(PROVIDER_KEY), "a key is shown: {text}");
    }

    dead.lock().clear();
    stands(&gateway, "p", "a", "ready", SOON).await;
    assert_eq!(value(&gateway, &up("a")).await, Some(1.0));
    assert!(
        gateway.log().contains("a check finds the credential good again"),
        "{}",
        gateway.log()
    );
    for _ in 0..20 {
        gateway
            .post("/v1/chat/completions", &Dialect::Chat.body("p", false))
            .await;
    }
    assert!((9..=11).contains(&asked("a")), "it has its share again: {}", asked("a"));
    let (code, out, err) = gateway.cli(&["credentials", "verify", "--json"]).await;
    assert_eq!(code, 0, "{out}{err}");
    let verified: Value = serde_json::from_str(&out).unwrap();
    let all = verified["verified"].as_array().unwrap();
    assert!(
        all.len() == 2 && all.iter().all(|one| one["good"] == true),
        "{verified}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_address_is_found_before_a_client_meets_it() {
    let dead: Arc<Mutex<Vec<&'static str>>> = Arc::default();
    let provider = Provider::start(lists(Answers::record().await, dead)).await;
    let (keys, gone) = (Keys::new(), free_port());
    let lines = format!("{EVERY}\nconnect_to = [\"{gone}\", \"{}\"]", provider.address);
    let rules = keys.provider_at("p", "http://api.example.invalid", &lines, &[("a", "")]) + &route("p");
    let gateway = gateway(rules).await;
    let up = |address: &str| format!("tollgate_peer_up{{address=\"{address}\",provider=\"p\"}}");
    until("both were checked", SOON, || async {
        let (one, other) = (
            value(&gateway, &up(&gone.to_string())).await,
            value(&gateway, &up(&provider.address.to_string())).await,
        );
        (one == Some(0.0) && other == Some(1.0)).then_some(())
    })
    .await;
    assert!(
        gateway.log().contains("a check does not reach the address"),
        "{}",
        gateway.log()
    );
    let shown = gateway.admin("GET", "/api/v1/providers", None).await.text();
    assert!(shown.contains(&gone.to_string()), "{shown}");

    // It comes to life.
    let listener = tokio::net::TcpListener::bind(gone).await.unwrap();
    let behind = provider.address;
    let alive = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut behind = tokio::net::TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut behind).await;
            });
        }
    });
    until("it is found alive", SOON, || async {
        (value(&gateway, &up(&gone.to_string())).await == Some(1.0)).then_some(())
    })
    .await;
    assert!(
        gateway.log().contains("a check reaches the address again"),
        "{}",
        gateway.log()
    );
    alive.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_ends_soon_is_warned_of() {
    let provider = Provider::start(lists(Answers::record().await, Arc::default())).await;
    let (keys, authority) = (Keys::new(), Authority::new());
    let own = keys.file("ca.pem", authority.pem());
    let day = |days: i64| {
        let at = Timestamp::now() + SignedDuration::from_hours(24 * days);
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        (i32::from(date.year()), date.month() as u8, date.day() as u8)
    };
    let mut rules = String::new();
    let mut fronts = Vec::new();
    // With 30 days to be warned before the end (the default would be 14).
    for (name, days) in [("soon", 5), ("later", 20), ("fine", 100), ("over", -1)] {
        let front = TlsFront::start(&authority.sign_until("localhost", 1, day(days)), None, provider.address).await;
        let lines = format!(
            "{EVERY}\ntls = {{ ca = \"{}\" }}\nconnect_to = [\"{}\"]",
            own.display(),
            front.address
        );
        let base = format!("https://localhost:{}", front.address.port());
        rules += &keys.provider_at(name, &base, &lines, &[("a", "")]);
        fronts.push((name, days, front));
    }
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules + &route("fine"))],
        timeouts: "[health]\ncertificate_warning = \"30d\"",
        ..Options::default()
    })
    .await;
    let warned = |log: &str, name: &str| {
        log.lines()
            .any(|line| line.contains("the certificate of a provider expires soon") && line.contains(name))
    };
    for (name, days, front) in &fronts {
        if *days < 0 {
            let down = format!("tollgate_peer_up{{address=\"{}\",provider=\"{name}\"}}", front.address);
            until("it can't be used", SOON, || async {
                (value(&gateway, &down).await == Some(0.0)).then_some(())
            })
            .await;
            let log = gateway.log();
            assert!(log.contains("expired"), "the log says why: {log}");
            let checked = credential(&gateway, name, "a").await;
            assert!(
                checked["last_check"].is_null() || checked["last_check"]["result"] == "tls",
                "{checked}"
            );
            continue;
        }
        let series = format!(
            "tollgate_certificate_expiry_seconds{{host=\"https://localhost:{}\",provider=\"{name}\"}}",
            front.address.port()
        );
        let end = until("its end is known", SOON, || async { value(&gateway, &series).await }).await;
        let left = end - Timestamp::now().as_second() as f64;
        let expected = 86400.0 * *days as f64;
        assert!((expected - left).abs() < 86400.0 * 1.1, "{name}: {left} s left");
        until("the log says what there is to say", Duration::from_secs(2), || async {
            (warned(&gateway.log(), name) == (*days < 30)).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_never_answers_delays_no_others_check() {
    let silent = Provider::start(|_| Answer::raw(vec![Step::Hang])).await;
    let provider = Provider::start(lists(Answers::record().await, Arc::default())).await;
    let keys = Keys::new();
    let many: Vec<String> = (0..12).map(|n| format!("k{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "")).collect();
    let rules = keys.provider("silent", silent.address, EVERY, &many)
        + &keys.provider("p", provider.address, EVERY, &[("a", ""), ("b", "")])
        + &route("p");
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        timeouts: "[health]\nparallel = 4",
        ..Options::default()
    })
    .await;
    let began = Instant::now();
    let checks = || async {
        let ok = value(&gateway, "tollgate_health_check_total{provider=\"p\",result=\"ok\"}").await;
        ok.unwrap_or(0.0)
    };
    // Two credentials and one place, every five seconds or so.
    until("checks go on beside it", Duration::from_secs(30), || async {
        (checks().await >= 9.0).then_some(())
    })
    .await;
    assert!(
        silent.count() > 0,
        "{:?}: it hangs on the other one meanwhile",
        began.elapsed()
    );
    assert_eq!(credential(&gateway, "p", "a").await["last_check"]["result"], "ok");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_takes_no_longer_than_it_may() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let slow = Arc::new(AtomicBool::new(true));
    let is_slow = slow.clone();
    let provider = Provider::start(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        match (is_slow.load(Ordering::Relaxed), key_of(request).is_empty()) {
            (true, _) => Answer::raw(vec![Step::Hang]),
            (_, true) => Answer::json(401, "{}"),
            _ => Answer::json(200, "{\"data\":[]}"),
        }
    })
    .await;
    let keys = Keys::new();
    let rules = keys.provider("p", provider.address, "", &[("a", "")]) + &route("p");
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        timeouts: "[health]\ntimeout = \"300ms\"",
        ..Options::default()
    })
    .await;
    let reply = gateway.admin("POST", "/api/v1/credentials/p/a/verify", None).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let told = reply.json();
    assert_eq!(told["check"]["result"], "first_byte_timeout", "{told}");
    let took = told["check"]["took_ms"].as_u64().unwrap();
    assert!((300..5000).contains(&took), "{told}");
    assert!(told["good"].is_null(), "silence says nothing of a key: {told}");
    slow.store(false, Ordering::Relaxed);
    let told = gateway
        .admin("POST", "/api/v1/credentials/p/a/verify", None)
        .await
        .json();
    assert_eq!(told["good"], true, "{told}");
}
