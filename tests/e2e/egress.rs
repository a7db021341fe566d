//! How providers are reached: through proxies, with certificates of one's own, from a local address, at pinned addresses, over
//! HTTP/2; and what becomes of a request when one of these fails.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tollgate::rules::egress::ProxyKind;

use crate::pki::{Authority, Signed};
use crate::proxy::{Does, PASSWORD, Proxy};
use crate::support::client::{self, Connection, Reply};
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options};
use crate::support::keyed::{Answers, Call, Keys};
use crate::support::provider::{Answer, Provider, Step};
use crate::support::tls_front::TlsFront;
use crate::support::{HEAVY, until};

const KINDS: [(ProxyKind, &str); 2] = [(ProxyKind::Connect, "http"), (ProxyKind::Socks5, "socks5")];

/// A provider which does well.
async fn good() -> Provider {
    let answers = Answers::record().await;
    Provider::start(move |request| answers.to(&Call::of(request))).await
}

async fn gateway(rules: String) -> Gateway {
    Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        timeouts: "connect = \"500ms\"\nconnect_total = \"1s\"",
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await
}

/// A route by the name of its provider, with `good` behind it.
fn route(name: &str, fallback: Option<&str>) -> String {
    let fallback = fallback.map_or_else(String::new, |name| {
        format!("fallback = [{{ provider = \"{name}\" }}]\n")
    });
    format!(
        "[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\naffinity = \"off\"\ntargets = [{{ provider = \"{name}\" }}]\n{fallback}"
    )
}

async fn ask(gateway: &Gateway, dialect: Dialect, model: &str, stream: bool) -> Reply {
    gateway
        .post(&dialect.path(model, stream), &dialect.body(model, stream))
        .await
}

/// Nothing that can be read here shows it.
async fn shows_nowhere(gateway: &Gateway, secrets: &[String]) {
    let mut all = vec![("log", gateway.log()), ("metrics", gateway.metrics().await)];
    for path in [
        "/api/v1/status",
        "/api/v1/providers",
        "/api/v1/credentials",
        "/api/v1/routes",
        "/api/v1/usage/rows",
    ] {
        let reply = gateway.admin("GET", path, None).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        all.push((path, reply.text()));
    }
    let (_, out, err) = gateway.cli(&["check"]).await;
    all.push(("check", out + &err));
    for (place, text) in all {
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{place} shows a secret: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxies_of_both_kinds_with_and_without_a_login() {
    let (provider, keys) = (good().await, Keys::new());
    let password = keys.file("password", PASSWORD);
    let mut rules = String::new();
    let mut proxies = Vec::new();
    for (kind, scheme) in KINDS {
        for login in [false, true] {
            let does = if login { Does::WorkFor("someone") } else { Does::Work };
            let proxy = Proxy::start(kind, provider.address, does).await;
            let name = format!("{scheme}{}", if login { "-login" } else { "" });
            let rule = match login {
                true => format!(
                    "proxy = {{ url = \"{scheme}://{}\", user = \"someone\", password = \"file:{}\" }}",
                    proxy.address,
                    password.display()
                ),
                false => format!("proxy = \"{scheme}://{}\"", proxy.address),
            };
            // Nobody but the proxy knows this name.
            let base = "http://api.example.invalid";
            rules += &keys.provider_at(&name, base, &rule, &[("a", "")]);
            rules += &route(&name, None);
            proxies.push((name, proxy, rule));
        }
    }
    // Each credential by its own way: `a` directly, the others through a proxy each.
    let own: Vec<(String, String)> = proxies
        .iter()
        .map(|(name, _, rule)| (name.clone(), rule.clone()))
        .collect();
    let mut credentials = vec![("direct", "")];
    credentials.extend(own.iter().map(|(name, rule)| (name.as_str(), rule.as_str())));
    rules += &keys.provider("each", provider.address, "", &credentials);
    rules += &route("each", None);
    let gateway = gateway(rules).await;
    for (name, proxy, _) in &proxies {
        for dialect in ALL {
            for stream in [false, true] {
                let reply = ask(&gateway, dialect, name, stream).await;
                assert_eq!(
                    (reply.status, reply.complete, reply.header("x-tollgate-attempts")),
                    (200, true, Some("1")),
                    "{name}, {dialect:?}: {}",
                    reply.text()
                );
            }
        }
        let asked = proxy.asked();
        assert!(!asked.is_empty(), "{name}");
        assert!(
            asked.iter().all(|target| target == "api.example.invalid:80"),
            "{name}: {asked:?}"
        );
    }
    let before: Vec<usize> = proxies.iter().map(|(_, proxy, _)| proxy.asked().len()).collect();
    provider.forget();
    for _ in 0..2 * credentials.len() {
        let reply = ask(&gateway, Dialect::Chat, "each", false).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    for ((name, proxy, _), before) in proxies.iter().zip(before) {
        // One connection for its two requests, if it was back in the pool in time.
        let asked = proxy.asked().split_off(before);
        assert!(
            (1..=2).contains(&asked.len()) && asked.iter().all(|to| *to == provider.address.to_string()),
            "{name}: {asked:?}"
        );
        let with = provider
            .received()
            .iter()
            .filter(|request| crate::support::keyed::key_of(request) == *name)
            .count();
        assert_eq!(with, 2, "{name}: the credential went its own way");
    }
    let login = STANDARD.encode(format!("someone:{PASSWORD}"));
    shows_nowhere(&gateway, &[PASSWORD.to_owned(), login]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_is_followed_by_the_next_target() {
    let (provider, keys) = (good().await, Keys::new());
    let password = keys.file("password", PASSWORD);
    let mut rules = keys.provider("good", provider.address, "", &[("a", "")]);
    let mut kept = Vec::new();
    let mut names = Vec::new();
    let mut add = |name: &str, url: String, login: bool| {
        let rule = match login {
            true => format!(
                "proxy = {{ url = \"{url}\", user = \"nobody\", password = \"file:{}\" }}",
                password.display()
            ),
            false => format!("proxy = \"{url}\""),
        };
        let base = "http://api.example.invalid";
        rules += &keys.provider_at(name, base, &format!("cooldown = \"off\"\n{rule}"), &[("a", "")]);
        rules += &route(name, Some("good"));
        names.push(name.to_owned());
    };
    for (kind, scheme) in KINDS {
        let refused: &[u8] = match kind {
            ProxyKind::Connect => b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n",
            ProxyKind::Socks5 => b"\x05\xff",
        };
        for (what, does, login) in [
            ("refused", Does::Say(refused), false),
            ("wrong-login", Does::WorkFor("someone"), true),
            ("no-login", Does::WorkFor("someone"), false),
            ("silent", Does::Silence, false),
        ] {
            let proxy = Proxy::start(kind, provider.address, does).await;
            add(
                &format!("{scheme}-{what}"),
                format!("{scheme}://{}", proxy.address),
                login,
            );
            kept.push(proxy);
        }
        add(&format!("{scheme}-closed"), format!("{scheme}://127.0.0.1:9"), false);
    }
    let gateway = gateway(rules).await;
    for name in &names {
        for stream in [false, true] {
            let reply = ask(&gateway, Dialect::Messages, name, stream).await;
            assert_eq!(
                (
                    reply.status,
                    reply.header("x-tollgate-provider"),
                    reply.header("x-tollgate-attempts")
                ),
                (200, Some("good"), Some("2")),
                "{name}: {}",
                reply.text()
            );
        }
    }
    let rows = gateway.settled_rows(names.len() * 4).await;
    assert_eq!(rows.len(), names.len() * 4);
    for row in rows.iter().filter(|row| row["provider"] != "good") {
        let error = row["error"].as_str().unwrap();
        assert!(
            ["upstream_connect_failed", "upstream_connect_timeout"].contains(&error),
            "{row}"
        );
        assert_eq!(row["maybe_billed"], false, "nothing was sent: {row}");
    }
    let login = STANDARD.encode(format!("nobody:{PASSWORD}"));
    shows_nowhere(&gateway, &[PASSWORD.to_owned(), login]).await;
}

/// Files of a client's certificate.
fn identity(keys: &Keys, name: &str, signed: &Signed) -> String {
    let cert = keys.file(&format!("{name}.pem"), &signed.cert_pem);
    let key = keys.file(&format!("{name}.key"), &signed.key_pem);
    format!("cert = \"{}\", key = \"{}\"", cert.display(), key.display())
}

fn ca(file: &Path) -> String {
    format!("ca = \"{}\"", file.display())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_of_ones_own_and_what_follows_wrong_ones() {
    let (provider, keys) = (good().await, Keys::new());
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.sign("localhost", 1);
    let (own, theirs) = (
        keys.file("ca.pem", authority.pem()),
        keys.file("other.pem", other.pem()),
    );
    let (own, theirs) = (ca(&own), ca(&theirs));
    let (known, stranger) = (authority.sign("client", 2), other.sign("client", 3));
    let plain = TlsFront::start(&server, None, provider.address).await;
    let mutual = TlsFront::start(&server, Some(&authority), provider.address).await;
    let misnamed = TlsFront::start(&authority.sign("elsewhere.example", 4), None, provider.address).await;
    let known = format!("{own}, {}", identity(&keys, "known", &known));
    let stranger = format!("{own}, {}", identity(&keys, "stranger", &stranger));
    let mut rules = keys.provider("good", provider.address, "", &[("a", "")]);
    // (name, who answers, tls, HTTP versions, whether it works)
    let cases = [
        ("own-ca", &plain, &own, "both", true),
        ("own-ca-h1", &plain, &own, "1.1", true),
        ("mutual", &mutual, &known, "both", true),
        ("mutual-h1", &mutual, &known, "1.1", true),
        ("needless", &plain, &known, "both", true),
        ("wrong-ca", &plain, &theirs, "both", false),
        ("wrong-ca-h1", &plain, &theirs, "1.1", false),
        ("misnamed", &misnamed, &own, "both", false),
        ("without", &mutual, &own, "1.1", false),
        ("stranger", &mutual, &stranger, "1.1", false),
    ];
    for (name, front, tls, http, _) in &cases {
        let lines = format!(
            "cooldown = \"off\"\nhttp = \"{http}\"\ntls = {{ {tls} }}\nconnect_to = [\"{}\"]",
            front.address
        );
        let base = format!("https://localhost:{}", front.address.port());
        rules += &keys.provider_at(name, &base, &lines, &[("a", "")]);
        rules += &route(name, Some("good"));
    }
    // The system's authorities do not know ours.
    let base = format!("https://localhost:{}", plain.address.port());
    rules += &keys.provider_at("system", &base, "cooldown = \"off\"", &[("a", "")]);
    rules += &route("system", Some("good"));
    let gateway = gateway(rules).await;
    let names = cases.iter().map(|(name, .., works)| (*name, *works));
    for (name, works) in names.chain([("system", false)]) {
        let taken = (plain.taken().len(), mutual.taken().len());
        for (dialect, stream) in [(Dialect::Chat, false), (Dialect::Messages, true)] {
            let reply = ask(&gateway, dialect, name, stream).await;
            let expected = if works { (name, "1") } else { ("good", "2") };
            assert_eq!(
                (reply.status, reply.complete),
                (200, true),
                "{name}, {dialect:?}: {}",
                reply.text()
            );
            assert_eq!(
                (
                    reply.header("x-tollgate-provider").unwrap(),
                    reply.header("x-tollgate-attempts").unwrap()
                ),
                expected,
                "{name}, {dialect:?}"
            );
        }
        let front = if name.starts_with("mutual") { &mutual } else { &plain };
        if works {
            let connections = front.taken();
            let before = if name.starts_with("mutual") { taken.1 } else { taken.0 };
            let made = connections.len() - before;
            assert!((1..=2).contains(&made), "{name}: {made} connections for two requests");
            let last = connections.last().unwrap();
            assert_eq!(last.h2, !name.ends_with("-h1"), "{name}: HTTP/2 where it may be");
            assert_eq!(
                last.known,
                name.starts_with("mutual"),
                "{name}: shown where it is asked for"
            );
        }
    }
    let rows = gateway.settled_rows(cases.len() * 2).await;
    let failed: Vec<&Value> = rows.iter().filter(|row| row["ended"] != "complete").collect();
    assert_eq!(failed.len(), 12);
    for row in failed {
        let provider = row["provider"].as_str().unwrap();
        let error = row["error"].as_str().unwrap();
        // In TLS 1.3 a server refuses a client after the client thinks that all is well (RFC 8446, 4.4.2.4).
        let late = ["without", "stranger"].contains(&provider) && error == "upstream_broke";
        assert!(error == "upstream_tls_failed" || late, "{row}");
    }
    shows_nowhere(&gateway, &["PRIVATE KEY".to_owned()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_come_from_the_local_address_that_is_said() {
    let (provider, keys) = (good().await, Keys::new());
    let authority = Authority::new();
    let front = TlsFront::start(&authority.sign("localhost", 1), None, provider.address).await;
    let own = keys.file("ca.pem", authority.pem());
    let base = format!("https://localhost:{}", front.address.port());
    let lines = format!(
        "bind = \"127.0.0.7\"\ntls = {{ {} }}\nconnect_to = [\"{}\"]",
        ca(&own),
        front.address
    );
    let rules = keys.provider_at("p", &base, &lines, &[("a", ""), ("b", "bind = \"127.0.0.8\"")])
        + &route("p", None)
        + &keys.provider("foreign", provider.address, "bind = \"192.0.2.1\"", &[("a", "")])
        + &route("foreign", Some("p"));
    let gateway = gateway(rules).await;
    for _ in 0..4 {
        let reply = ask(&gateway, Dialect::Chat, "p", false).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
    let mut from: Vec<String> = front.taken().iter().map(|taken| taken.from.ip().to_string()).collect();
    from.sort();
    assert_eq!(
        from,
        ["127.0.0.7", "127.0.0.8"],
        "each from its own, and connections are not mixed"
    );
    let reply = ask(&gateway, Dialect::Chat, "foreign", false).await;
    assert_eq!(
        (reply.status, reply.header("x-tollgate-provider")),
        (200, Some("p")),
        "an address that is not ours: the next target"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_address_of_several_costs_nobody_a_request() {
    let (one, two, keys) = (good().await, good().await, Keys::new());
    let dead: SocketAddr = crate::support::gateway::free_port();
    let lines = format!("connect_to = [\"{}\", \"{dead}\", \"{}\"]", one.address, two.address);
    let rules = keys.provider_at("p", "http://api.example.invalid", &lines, &[("a", "")]) + &route("p", None);
    let gateway = gateway(rules).await;
    let began = Instant::now();
    for n in 0..60 {
        let reply = ask(&gateway, ALL[n % 4], "p", n % 8 < 4).await;
        assert_eq!((reply.status, reply.complete), (200, true), "{n}: {}", reply.text());
    }
    let took = began.elapsed();
    let rows = gateway.settled_rows(61).await;
    let failed: Vec<&Value> = rows.iter().filter(|row| row["ended"] != "complete").collect();
    // It cools for a second, then for two, four ...: after the first failure it is left alone.
    let most = 1 + (took.as_secs_f64() + 1.0).log2() as usize;
    assert!(
        (1..=most).contains(&failed.len()),
        "{} failures in {took:?}",
        failed.len()
    );
    assert!(failed.iter().all(|row| row["error"] == "upstream_connect_failed"));
    assert!(one.count() > 0 && two.count() > 0, "both of the others are used");
    let peers = gateway.admin("GET", "/api/v1/providers", None).await.text();
    assert!(peers.contains(&dead.to_string()), "the admin API shows it: {peers}");

    // Many at once, when it is about to be tried again.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    let gateway = Arc::new(gateway);
    let clients = (0..64).map(|n| {
        let gateway = gateway.clone();
        tokio::spawn(async move { ask(&gateway, ALL[n % 4], "p", false).await.status })
    });
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.await.unwrap(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streams_share_few_connections() {
    let keys = Keys::new();
    let answers = Answers::record().await;
    let provider =
        Provider::start(move |request| answers.to(&Call::of(request)).after(Duration::from_millis(800))).await;
    let authority = Authority::new();
    let front = TlsFront::start(&authority.sign("localhost", 1), None, provider.address).await;
    let own = keys.file("ca.pem", authority.pem());
    let tls = format!("tls = {{ {} }}\nconnect_to = [\"{}\"]", ca(&own), front.address);
    let base = format!("https://localhost:{}", front.address.port());
    let rules = keys.provider("plain", provider.address, "http = \"2\"", &[("a", "")])
        + &route("plain", None)
        + &keys.provider_at("tls", &base, &tls, &[("a", "")])
        + &route("tls", None);
    let gateway = Arc::new(gateway(rules).await);
    for model in ["plain", "tls"] {
        let reply = ask(&gateway, Dialect::Chat, model, true).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        let before = provider.connections();
        let clients = (0..100).map(|n| {
            let gateway = gateway.clone();
            tokio::spawn(async move { ask(&gateway, ALL[n % 4], model, true).await })
        });
        for client in clients.collect::<Vec<_>>() {
            let reply = client.await.unwrap();
            assert_eq!((reply.status, reply.complete), (200, true), "{model}: {}", reply.text());
        }
        assert!(
            // Requests that come while one is being made, or is being looked at, make their own.
            provider.connections() <= before + 20,
            "{model}: {} connections",
            provider.connections()
        );
    }
    assert!(provider.received().iter().all(|request| request.version == "HTTP/2"));
}

/// A listener that takes no more connections: what connects from now on waits for ever.
struct Hole {
    address: SocketAddr,
    _listener: tokio::net::TcpListener,
    _queue: Vec<TcpStream>,
}

impl Hole {
    async fn dig() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut queue = Vec::new();
        loop {
            let connect = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(address));
            match connect.await {
                Ok(stream) => queue.push(stream.unwrap()),
                Err(_) => break,
            }
            assert!(queue.len() < 100, "the queue has no end");
        }
        Hole {
            address,
            _listener: listener,
            _queue: queue,
        }
    }
}

/// Requests to a good provider, 16 at a time; their times, sorted.
async fn times(gateway: &Arc<Gateway>, count: usize) -> Vec<Duration> {
    let turn = Arc::new(AtomicUsize::new(0));
    let clients = (0..16).map(|_| {
        let (gateway, turn) = (gateway.clone(), turn.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            while turn.fetch_add(1, Ordering::Relaxed) < count {
                let began = Instant::now();
                let reply = ask(&gateway, Dialect::Chat, "good", false).await;
                times.push(began.elapsed());
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
            times
        })
    });
    let mut times = Vec::new();
    for client in clients.collect::<Vec<_>>() {
        times.extend(client.await.unwrap());
    }
    times.sort();
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_costs_other_requests_nothing() {
    let _heavy = HEAVY.lock().await;
    const HANGING: usize = 100;
    let (provider, keys, hole) = (good().await, Keys::new(), Hole::dig().await);
    let silent = Provider::start(|_| Answer::raw(vec![Step::Hang])).await;
    let rules = keys.provider("good", provider.address, "", &[("a", "")])
        + &route("good", None)
        + &keys.provider("hole", hole.address, "", &[("a", "")])
        + &route("hole", None)
        + &keys.provider("silent", silent.address, "", &[("a", "")])
        + &route("silent", None);
    let gateway = Arc::new(
        Gateway::start(Options {
            rules: vec![("10.toml", rules)],
            timeouts: "connect = \"60s\"\nconnect_total = \"60s\"",
            limits: "requests_per_address = 100000",
            ..Options::default()
        })
        .await,
    );
    times(&gateway, 100).await;
    let before = times(&gateway, 400).await;
    let mut hanging = Vec::new();
    for n in 0..2 * HANGING {
        let model = if n % 2 == 0 { "hole" } else { "silent" };
        let body = Dialect::Chat.body(model, n % 4 < 2);
        let (bearer, length) = (gateway.bearer(), body.len().to_string());
        let headers = [("authorization", bearer.as_str()), ("content-length", length.as_str())];
        let mut connection = Connection::open(gateway.ports.http).await;
        connection
            .send(&client::head("POST", "/v1/chat/completions", &headers))
            .await;
        connection.send(&body).await;
        hanging.push(connection);
    }
    until("all of them hang", Duration::from_secs(30), || async {
        let waiting = gateway.metric("tollgate_requests_in_flight").await as usize;
        (waiting == 2 * HANGING && silent.count() == HANGING).then_some(())
    })
    .await;
    let with = times(&gateway, 400).await;
    assert_eq!((before.len(), with.len()), (400, 400));
    let told = |times: &[Duration]| {
        format!(
            "p50 {:?}, p99 {:?}",
            times[times.len() / 2],
            times[times.len() * 99 / 100]
        )
    };
    eprintln!(
        "without: {}; with {} hanging: {}",
        told(&before),
        2 * HANGING,
        told(&with)
    );
    let waiting = gateway.metric("tollgate_requests_in_flight").await as usize;
    assert!(waiting >= 2 * HANGING, "they hang still: {waiting}");
    // Clients that leave while a connection is being made are noticed when that ends: nothing to wait for here.
    drop(hanging);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_that_cannot_be_used_are_refused_with_the_rules() {
    let (provider, keys) = (good().await, Keys::new());
    let rules = keys.provider("good", provider.address, "", &[("a", "")]) + &route("good", None);
    let mut gateway = gateway(rules).await;
    let (one, other) = (Authority::new().sign("client", 1), Authority::new().sign("client", 2));
    let broken = keys.file(
        "broken.pem",
        "-----BEGIN CERTIFICATE-----\nbm8gY2VydGlmaWNhdGU=\n-----END CERTIFICATE-----\n",
    );
    let cert = keys.file("one.pem", &one.cert_pem);
    let foreign = keys.file("other.key", &other.key_pem);
    let own = keys.file("one.key", &one.key_pem);
    let pair = |key: &Path| format!("cert = \"{}\", key = \"{}\"", cert.display(), key.display());
    for (what, tls) in [
        ("an unreadable certificate", ca(&broken)),
        ("a foreign key", pair(&foreign)),
    ] {
        let lines = format!("tls = {{ {tls} }}");
        let text = keys.provider_at("tls", "https://localhost:1", &lines, &[("a", "")]);
        std::fs::write(gateway.path("rules/30.toml"), text).unwrap();
        let told = until("it is told", Duration::from_secs(5), || async {
            let reload = gateway.status().await["rules"]["last_reload"].clone();
            (reload["ok"] == false).then_some(reload)
        })
        .await;
        assert!(
            told.to_string().contains("30.toml") && told.to_string().contains("certificate"),
            "{what}: {told}"
        );
        assert_eq!(
            ask(&gateway, Dialect::Chat, "good", false).await.status,
            200,
            "{what}: the rest stays"
        );
        let (code, out, err) = gateway.cli(&["check"]).await;
        let said = out + &err;
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains("30.toml") && said.contains("tls"), "{what}: {said}");
        assert!(!said.contains("PRIVATE KEY") && !told.to_string().contains("PRIVATE KEY"));
        std::fs::remove_file(gateway.path("rules/30.toml")).unwrap();
        until("as before", Duration::from_secs(5), || async {
            (gateway.status().await["rules"]["last_reload"]["ok"] == true).then_some(())
        })
        .await;
    }
    // A gateway does not start with it.
    let lines = format!("tls = {{ {} }}", ca(&broken));
    let text = keys.provider_at("tls", "https://localhost:1", &lines, &[("a", "")]);
    std::fs::write(gateway.path("rules/30.toml"), text).unwrap();
    assert_eq!(gateway.stop().await, 0);
    let (code, out, err) = gateway.cli(&["run"]).await;
    assert_ne!(code, 0);
    assert!((out.clone() + &err).contains("30.toml"), "{out}{err}");
    // What belongs together is taken.
    let lines = format!("tls = {{ {} }}", pair(&own));
    let text = keys.provider_at("tls", "https://localhost:1", &lines, &[("a", "")]);
    std::fs::write(gateway.path("rules/30.toml"), text).unwrap();
    gateway.restart().await;
    assert_eq!(ask(&gateway, Dialect::Chat, "good", false).await.status, 200);
}
