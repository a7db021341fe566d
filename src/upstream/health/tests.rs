//! Checks against providers on the loopback: dead keys, spent quotas, dead ports, certificates.

mod keys;
mod proxied;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pingora::upstreams::peer::HttpPeer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

use super::*;
use crate::clock::UnixMicros;
use crate::egress::Names;
use crate::rules::{self, Health, Provider, Rules};
use crate::upstream::{Failure, endpoint};

const NOW: UnixMicros = UnixMicros(1_769_860_800_000_000);
const LIST: &str = r#"{"object":"list","data":[]}"#;

/// A provider that answers each request with what the script makes of its first line and headers (lower case) and body.
struct Loopback {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    /// Most requests at once.
    most: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Loopback {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Script = fn(&str) -> (u16, String);

impl Loopback {
    async fn start(script: Script, tls: Option<TlsAcceptor>, slow: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (log, peak) = (asked.clone(), most.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, now, peak, tls) = (log.clone(), now.clone(), peak.clone(), tls.clone());
                tokio::spawn(async move {
                    peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    tokio::time::sleep(slow).await;
                    match tls {
                        None => serve(stream, script, &log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, script, &log).await;
                            }
                        }
                    }
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Loopback {
            address,
            asked,
            most,
            task,
        }
    }

    async fn plain(script: Script) -> Self {
        Self::start(script, None, Duration::ZERO).await
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().clone()
    }
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, script: Script, log: &Mutex<Vec<String>>) {
    let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let Ok(read @ 1..) = stream.read(&mut buffer).await else {
            return;
        };
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() >= length.map_or(0, |length| length.trim().parse().unwrap()) {
            break;
        }
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    log.lock().push(request.clone());
    let (status, body) = script(&request);
    let length = body.len();
    let body = if request.starts_with("head ") {
        String::new()
    } else {
        body
    };
    let answer =
        format!("HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// Good keys, dead ones, spent ones; the words say the key back, as providers do.
fn by_key(request: &str) -> (u16, String) {
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("authorization: bearer "));
    let error = |code: &str, message: &str| format!(r#"{{"error":{{"code":"{code}","message":"{message}"}}}}"#);
    match key {
        Some(key) if key.contains("good") => (200, LIST.to_owned()),
        Some(key) if key.contains("spent") => (429, error("insufficient_quota", "You exceeded your current quota")),
        Some(key) if key.contains("busy") => (429, error("rate_limit_exceeded", "slow down")),
        Some(key) if key.contains("scoped") => (403, error("", "Missing scopes: api.model.read")),
        Some(key) if key.contains("broken") => (500, error("", "sorry")),
        Some(key) => (
            401,
            error("invalid_api_key", &format!("Incorrect API key provided: {key}")),
        ),
        None => (401, error("", "no key")),
    }
}

struct House {
    folder: tempfile::TempDir,
    fleet: Arc<LiveFleet>,
    checks: Checks,
}

fn compile(folder: &std::path::Path, toml: &str, change: impl Fn(&mut Provider)) -> Arc<Rules> {
    std::fs::write(folder.join("10.toml"), toml).unwrap();
    let environment: HashMap<&str, &str> = ["good", "spent", "busy", "scoped", "broken", "dead", "other"]
        .map(|word| {
            (
                word,
                Box::leak(format!("sk-canary-{word}-77aa").into_boxed_str()) as &str,
            )
        })
        .into();
    let (mut rules, _) = rules::compile_with(folder, &Clock::manual(NOW), &environment).unwrap();
    rules.by_name.clear();
    for provider in &mut rules.providers {
        change(Arc::get_mut(provider).unwrap());
    }
    rules.by_name = rules
        .providers
        .iter()
        .map(|one| (one.name.clone(), one.clone()))
        .collect();
    Arc::new(rules)
}

fn settings(parallel: usize) -> HealthSettings {
    HealthSettings {
        parallel,
        ..HealthSettings::default()
    }
}

impl House {
    fn new(toml: &str, dial: Box<dyn Dial>, change: impl Fn(&mut Provider)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fleet = Arc::new(LiveFleet::new(compile(folder.path(), toml, change)));
        let checks = Checks::new(fleet.clone(), dial, Clock::manual(NOW), &settings(8));
        House { folder, fleet, checks }
    }

    fn plain(toml: &str) -> Self {
        Self::new(toml, Box::new(direct()), |_| {})
    }

    /// Checks all places now.
    async fn places(&self) {
        let fleet = self.fleet.load();
        for pool in fleet.pools() {
            for wanted in self.checks.0.targets(pool, Instant::now()) {
                if matches!(wanted.target.what, What::Place(_)) {
                    self.checks.0.check(&wanted.target).await;
                }
            }
        }
    }
}

fn provider(name: &str, dialects: &str, credentials: &[&str]) -> String {
    let mut toml = format!("[provider.{name}]\ndialects = {{ {dialects} }}\n");
    if credentials.is_empty() {
        toml.push_str("auth = \"none\"\n");
    }
    for credential in credentials {
        toml.push_str(&format!(
            "[[provider.{name}.credential]]\nname = \"{credential}\"\nkey = \"env:{credential}\"\n"
        ));
    }
    toml
}

fn metrics() -> String {
    crate::observe::metrics::page().unwrap()
}

#[tokio::test]
async fn each_key_is_found_to_be_what_it_is_and_none_is_told() {
    let loopback = Loopback::plain(by_key).await;
    let dialects = format!("openai_chat = \"http://{}/v1\"", loopback.address);
    let all = ["good", "dead", "spent", "busy", "scoped", "broken"];
    let house = House::plain(&provider("keys", &dialects, &all));
    assert!(
        house.checks.of_credential("keys", "good").is_none(),
        "nothing is known before"
    );
    for (credential, found, status, good) in [
        ("good", Finding::Ok, 200, Some(true)),
        ("dead", Finding::Failed(Failure::Unauthorised), 401, Some(false)),
        ("spent", Finding::Failed(Failure::QuotaSpent), 429, Some(false)),
        ("busy", Finding::Failed(Failure::RateLimited), 429, None),
        ("scoped", Finding::Unproven, 403, None),
        ("broken", Finding::Failed(Failure::Server), 500, None),
    ] {
        let result = house.checks.verify("keys", credential).await.unwrap();
        assert_eq!(
            (result.finding, result.status),
            (found, Some(status)),
            "{credential}: {}",
            result.words
        );
        assert_eq!(result.finding.credential_is_good(), good, "{credential}");
        assert_eq!(
            result.outcome().inconclusive,
            good.is_none(),
            "only our fault bars a key"
        );
        assert!(!format!("{result:?}").contains("canary"), "{result:?}");
        let kept = house.checks.of_credential("keys", credential).unwrap();
        assert_eq!((kept.finding, kept.at), (found, NOW));
        let line = format!("tollgate_health_up{{credential=\"{credential}\",provider=\"keys\"}} ");
        let page = metrics();
        let told = page.lines().find_map(|told| told.strip_prefix(&line));
        assert_eq!(told, good.map(|good| if good { "1" } else { "0" }), "{credential}");
        assert!(!page.contains("canary"));
    }
    let result = house.checks.verify("keys", "dead").await.unwrap();
    assert_eq!(result.words, "Incorrect API key provided: ***");
    assert!(metrics().contains("tollgate_health_check_total{provider=\"keys\",result=\"unauthorised\"} 2"));
    let asked = loopback.asked();
    assert!(asked[0].starts_with("get /v1/models http/1.1\r\n"), "{}", asked[0]);
    let bare = asked
        .iter()
        .filter(|request| !request.contains("authorization:"))
        .count();
    assert_eq!(bare, 1, "whether anybody may read the list is asked once");

    assert_eq!(
        house.checks.verify("keys", "no").await.unwrap_err(),
        VerifyError::NoSuchCredential
    );
    assert_eq!(
        house.checks.verify("no", "good").await.unwrap_err(),
        VerifyError::NoSuchCredential
    );
}

#[tokio::test]
async fn a_list_that_anybody_may_read_or_nobody_proves_nothing() {
    let public = Loopback::plain(|_| (200, LIST.to_owned())).await;
    let page = Loopback::plain(|_| (200, "<html>hello</html>".to_owned())).await;
    let none = Loopback::plain(|_| (404, String::new())).await;
    let inside = Loopback::plain(|_| {
        (
            200,
            r#"{"error":{"type":"authentication_error","message":"no"}}"#.into(),
        )
    })
    .await;
    let mut toml = String::new();
    for (name, loopback) in [
        ("public", &public),
        ("page", &page),
        ("none", &none),
        ("inside", &inside),
    ] {
        toml += &provider(
            name,
            &format!("openai_chat = \"http://{}/v1\"", loopback.address),
            &["good"],
        );
    }
    // The second dialect's list settles what the first one's could not.
    let good = Loopback::plain(by_key).await;
    let two = format!(
        "anthropic = \"http://{}\", openai_chat = \"http://{}/v1\"",
        none.address, good.address
    );
    toml += &provider("two", &two, &["good"]);
    let house = House::plain(&toml);
    for (name, found) in [
        ("public", Finding::Unproven),
        ("page", Finding::Unproven),
        ("none", Finding::Unproven),
        ("inside", Finding::Failed(Failure::Unauthorised)),
        ("two", Finding::Ok),
    ] {
        let result = house.checks.verify(name, "good").await.unwrap();
        assert_eq!(result.finding, found, "{name}: {}", result.words);
    }
    let version = "anthropic-version: ";
    assert!(
        none.asked().iter().any(|request| request.contains(version)),
        "as the dialect's own clients ask"
    );
}

#[tokio::test]
async fn a_path_or_a_model_of_the_rules_is_asked_instead() {
    let loopback = Loopback::plain(by_key).await;
    let dialects = format!("openai_chat = \"http://{}/v1\"", loopback.address);
    let toml = provider("path", &dialects, &["good"]) + &provider("model", &dialects, &["good", "dead"]);
    let house = House::new(&toml, Box::new(direct()), |provider| match &*provider.name {
        "path" => provider.health.path = Some("key".into()),
        _ => provider.health.model = Some("small-1".into()),
    });
    assert_eq!(house.checks.verify("path", "good").await.unwrap().finding, Finding::Ok);
    assert!(loopback.asked()[0].starts_with("get /v1/key http/1.1\r\n"));
    let before = loopback.asked().len();
    assert_eq!(house.checks.verify("model", "good").await.unwrap().finding, Finding::Ok);
    let asked = &loopback.asked()[before..];
    assert_eq!(asked.len(), 1, "a model is not asked without a key");
    assert!(
        asked[0].starts_with("post /v1/chat/completions http/1.1\r\n"),
        "{}",
        asked[0]
    );
    let body: serde_json::Value = serde_json::from_str(asked[0].split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!((&body["model"], body["stream"].as_bool()), (&"small-1".into(), None));
    let dead = house.checks.verify("model", "dead").await.unwrap();
    assert_eq!(dead.finding, Finding::Failed(Failure::Unauthorised));
}

#[tokio::test]
async fn a_provider_of_http2_is_asked_over_http2() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let models = async |request: axum::extract::Request| {
        assert_eq!(request.version(), http::Version::HTTP_2);
        let key = request
            .headers()
            .get("authorization")
            .map(|key| key.to_str().unwrap().to_owned());
        match key.is_some_and(|key| key.contains("good")) {
            true => (axum::http::StatusCode::OK, LIST),
            false => (axum::http::StatusCode::UNAUTHORIZED, "{}"),
        }
    };
    let router = axum::Router::new().route("/v1/models", axum::routing::get(models).post(models));
    let server = tokio::spawn(async move { axum::serve(listener, router).await });
    let toml = provider(
        "h2",
        &format!("openai_chat = \"http://{address}/v1\""),
        &["good", "dead"],
    );
    let house = House::plain(&toml.replacen('\n', "\nhttp = \"2\"\n", 1));
    let good = house.checks.verify("h2", "good").await.unwrap();
    assert_eq!(good.finding, Finding::Ok, "{}", good.words);
    let dead = house.checks.verify("h2", "dead").await.unwrap();
    assert_eq!(dead.finding, Finding::Failed(Failure::Unauthorised), "{}", dead.words);
    house.places().await;
    assert_eq!(house.checks.of_places("h2")[0].addresses[0].1.finding, Finding::Ok);
    server.abort();
}

#[tokio::test]
async fn a_dead_port_is_found_and_is_no_fault_of_the_key() {
    let dead = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let alive = Loopback::plain(by_key).await;
    let toml = provider("gone", &format!("openai_chat = \"http://{dead}/v1\""), &["good"])
        + &provider("open", &format!("openai_chat = \"http://{}/v1\"", alive.address), &[])
        + &provider("lost", "openai_chat = \"http://no-such-name.invalid/v1\"", &["good"]);
    let house = House::plain(&toml);
    house.places().await;
    let [gone] = &house.checks.of_places("gone")[..] else {
        panic!("one place")
    };
    assert_eq!((&*gone.place, gone.resolves), (&*format!("http://{dead}"), true));
    let (address, result) = &gone.addresses[0];
    assert_eq!((*address, result.finding), (dead, Finding::Failed(Failure::Connect)));
    assert!(result.words.contains("no connection"), "{}", result.words);
    let [open] = &house.checks.of_places("open")[..] else {
        panic!("one place")
    };
    assert_eq!(open.addresses[0].1.finding, Finding::Ok, "an error is an answer too");
    assert!(
        alive.asked().iter().all(|request| request.starts_with("head /v1 ")),
        "by address only"
    );
    let [lost] = &house.checks.of_places("lost")[..] else {
        panic!("one place")
    };
    assert!(!lost.resolves && lost.addresses.is_empty());
    let page = metrics();
    for line in [
        format!("tollgate_peer_up{{address=\"{dead}\",provider=\"gone\"}} 0"),
        format!("tollgate_peer_up{{address=\"{}\",provider=\"open\"}} 1", alive.address),
        "tollgate_dns_up{host=\"http://no-such-name.invalid\",provider=\"lost\"} 0".to_owned(),
    ] {
        assert!(page.lines().any(|told| told == line), "{line} in {page}");
    }
    let key = house.checks.verify("gone", "good").await.unwrap();
    assert_eq!(key.finding.credential_is_good(), None);
    assert_eq!(key.finding, Finding::Failed(Failure::Connect));

    // What is gone from the rules is forgotten.
    house.checks.0.list(&house.fleet.load(), Instant::now());
    house.fleet.replace(compile(
        house.folder.path(),
        &provider("lost", "openai_chat = \"http://no-such-name.invalid/v1\"", &["good"]),
        |_| {},
    ));
    house.checks.0.list(&house.fleet.load(), Instant::now());
    assert!(house.checks.of_places("gone").is_empty() && house.checks.of_credential("gone", "good").is_none());
    assert!(!metrics().contains("provider=\"gone\"} 0"));
}

fn direct() -> ByRules {
    ByRules {
        names: Arc::new(Names::new(HashMap::new(), Duration::from_secs(2))),
        timeout: HealthSettings::default().timeout,
    }
}

/// Trusts anybody, and says when a certificate expires.
struct Trusting(UnixMicros);

#[async_trait]
impl Dial for Trusting {
    async fn addresses(&self, endpoint: &Endpoint) -> Found {
        direct().addresses(endpoint).await
    }

    async fn address(&self, endpoint: &Endpoint, with: Option<&Credential>) -> Option<endpoint::Dial> {
        direct().address(endpoint, with).await
    }

    fn peer(&self, pool: &Pool, endpoint: &Endpoint, dial: endpoint::Dial, with: Option<&Credential>) -> HttpPeer {
        let mut peer = direct().peer(pool, endpoint, dial, with);
        peer.options.verify_cert = false;
        peer
    }

    async fn certificate_expiry(&self, _: &Pool, _: &Endpoint, _: endpoint::Dial) -> Option<UnixMicros> {
        Some(self.0)
    }
}

#[tokio::test]
async fn certificates_are_looked_at_ahead_of_time() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let crypto = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(crypto)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let loopback = Loopback::start(by_key, Some(TlsAcceptor::from(Arc::new(config))), Duration::ZERO).await;
    let base = format!("openai_chat = \"https://localhost:{}/v1\"", loopback.address.port());
    let toml =
        provider("tls", &base, &["good"]).replacen('\n', &format!("\nconnect_to = [\"{}\"]\n", loopback.address), 1);

    let soon = UnixMicros(NOW.0 + 3 * 24 * 3600 * 1_000_000);
    let house = House::new(&toml, Box::new(Trusting(soon)), |_| {});
    house.places().await;
    let [place] = &house.checks.of_places("tls")[..] else {
        panic!("one place")
    };
    assert_eq!(place.addresses[0].1.finding, Finding::Ok, "{place:?}");
    assert_eq!(place.certificate_expires, Some(soon));
    let host = &place.place;
    let line = format!(
        "tollgate_certificate_expiry_seconds{{host=\"{host}\",provider=\"tls\"}} {}",
        soon.seconds()
    );
    assert!(metrics().lines().any(|told| told == line), "{line}");
    assert_eq!(house.checks.verify("tls", "good").await.unwrap().finding, Finding::Ok);

    let strict = House::plain(&toml);
    strict.places().await;
    let [place] = &strict.checks.of_places("tls")[..] else {
        panic!("one place")
    };
    let result = &place.addresses[0].1;
    assert_eq!(
        result.finding,
        Finding::Failed(Failure::Tls),
        "nobody vouches for it: {}",
        result.words
    );
}

#[tokio::test]
async fn checks_asked_for_at_once_keep_the_bound_and_share_one_of_the_same() {
    let loopback = Loopback::start(by_key, None, Duration::from_millis(30)).await;
    let names = ["good", "spent", "busy", "scoped", "broken", "dead", "other"];
    let toml = provider(
        "many",
        &format!("openai_chat = \"http://{}/v1\"", loopback.address),
        &names,
    );
    let mut house = House::plain(&toml);
    house.checks = Checks::new(
        house.fleet.clone(),
        Box::new(direct()),
        Clock::manual(NOW),
        &settings(2),
    );
    let mut asked = JoinSet::new();
    for name in names.iter().chain(&["spent", "spent", "spent"]) {
        let (checks, name) = (house.checks.clone(), *name);
        asked.spawn(async move { checks.verify("many", name).await.unwrap() });
    }
    assert_eq!(asked.join_all().await.len(), names.len() + 3);
    assert!(loopback.most.load(Ordering::SeqCst) <= 2, "the bound holds");
    let spent = loopback
        .asked()
        .iter()
        .filter(|request| request.contains("-spent-"))
        .count();
    assert!(spent < 4, "who waits for a check of the same takes its result: {spent}");
}

#[tokio::test]
async fn the_service_checks_by_itself_follows_reloads_and_stops() {
    let loopback = Loopback::plain(by_key).await;
    let dialects = format!("openai_chat = \"http://{}/v1\"", loopback.address);
    let often = |provider: &mut Provider| provider.health.every = Some(Duration::from_millis(100));
    let toml = provider("one", &dialects, &["good"]);
    let house = House::new(&toml, Box::new(direct()), often);
    let (stop, stopped) = watch::channel(false);
    let service = house.checks.clone();
    let service = tokio::spawn(async move { service.start(stopped).await });
    let known = async |provider: &str, credential: &str| {
        let found = async {
            while house.checks.of_credential(provider, credential).is_none()
                || house.checks.of_places(provider).is_empty()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), found)
            .await
            .expect("it is checked");
    };
    known("one", "good").await;
    let toml = toml + &provider("two", &dialects, &["dead"]) + &provider("off", &dialects, &["good"]);
    house
        .fleet
        .replace(compile(house.folder.path(), &toml, |provider| match &*provider.name {
            "off" => {
                provider.health = Health {
                    every: None,
                    ..Health::default()
                }
            }
            _ => often(provider),
        }));
    known("two", "dead").await;
    assert!(house.checks.of_credential("off", "good").is_none() && house.checks.of_places("off").is_empty());
    stop.send_replace(true);
    tokio::time::timeout(Duration::from_secs(20), service)
        .await
        .expect("it stops")
        .unwrap();
}
