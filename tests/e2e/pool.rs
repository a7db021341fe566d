//! A pool in trouble, under load: nobody who asks notices.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::support::client::Connection;
use crate::support::dialect::{ALL, Dialect, record};
use crate::support::gateway::{Gateway, Options, PROVIDER_KEY, provider_rules};
use crate::support::provider::{Answer, Provider, Received, Step};
use crate::support::{HEAVY, noise};

/// Requests of the large test; with `TOLLGATE_LONG` set, 10,000.
fn requests() -> usize {
    if std::env::var_os("TOLLGATE_LONG").is_some() {
        10_000
    } else {
        1_500
    }
}

/// What a good provider says, by dialect and whether it streams.
type Answers = Arc<HashMap<(&'static str, bool), Bytes>>;

async fn answers() -> Answers {
    let mut all = HashMap::new();
    for dialect in ALL {
        for stream in [false, true] {
            let answer = record(dialect, "sandbox/chat,tokens=5", stream).await;
            all.insert((named(dialect), stream), answer);
        }
    }
    Arc::new(all)
}

fn named(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Chat => "chat",
        Dialect::Responses => "responses",
        Dialect::Messages => "messages",
        Dialect::Gemini => "gemini",
    }
}

fn good(answers: &Answers, request: &Received) -> Answer {
    let (dialect, stream) = asked(request);
    let answer = answers[&(named(dialect), stream)].clone();
    match stream {
        true => Answer::events([answer]),
        false => Answer::json(200, answer),
    }
}

fn asked(request: &Received) -> (Dialect, bool) {
    let dialect = ALL
        .into_iter()
        .find(|dialect| {
            request
                .target
                .starts_with(dialect.path("x", false).split("x:").next().unwrap())
        })
        .unwrap();
    let head = &request.body[..request.body.len().min(200)];
    let stream = request.target.contains("streamGenerate")
        || String::from_utf8_lossy(head).contains("\"stream\":true")
        || String::from_utf8_lossy(head).contains("\"stream\" : true");
    (dialect, stream)
}

/// A request with a prompt of about this size. The model comes first, so that what streams is told early.
fn body(dialect: Dialect, stream: bool, size: usize, seed: u64) -> Vec<u8> {
    let text = String::from_utf8(noise(size, seed)).unwrap();
    let streams = if stream { "\"stream\":true," } else { "" };
    match dialect {
        Dialect::Chat => {
            format!("{{\"model\":\"x\",{streams}\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}")
        }
        Dialect::Responses => format!("{{\"model\":\"x\",{streams}\"input\":\"{text}\"}}"),
        Dialect::Messages => format!(
            "{{\"model\":\"x\",{streams}\"max_tokens\":9,\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}"
        ),
        Dialect::Gemini => format!("{{\"contents\":[{{\"role\":\"user\",\"parts\":[{{\"text\":\"{text}\"}}]}}]}}"),
    }
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_healthy_provider_of_five_is_enough() {
    let _heavy = HEAVY.lock().await;
    let answers = answers().await;
    let limited =
        Provider::start(|_| Answer::json(429, "{\"error\":{\"message\":\"slow down\"}}").header("retry-after", "1"))
            .await;
    let resetting = Provider::start(|_| Answer::raw(vec![Step::Reset])).await;
    let hanging = Provider::start(|_| Answer::raw(vec![Step::Hang])).await;
    let erring = Provider::start(|request| match asked(request) {
        (Dialect::Messages, true) => Answer::events([
            "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
        ]),
        (Dialect::Responses, true) => Answer::events([
            "event: error\ndata: {\"type\":\"error\",\"code\":\"server_error\",\"message\":\"busy\",\"param\":null,\"sequence_number\":0}\n\n",
        ]),
        (_, true) => Answer::events([
            "data: {\"error\":{\"code\":503,\"message\":\"busy\",\"status\":\"UNAVAILABLE\",\"type\":\"server_error\"}}\n\n",
        ]),
        (_, false) => Answer::json(500, "{\"error\":{\"message\":\"busy\"}}"),
    })
    .await;
    let known = answers.clone();
    let healthy = Provider::start(move |request| good(&known, request)).await;
    let mut rules = String::new();
    let mut targets = Vec::new();
    for (name, provider) in [
        ("limited", &limited),
        ("resetting", &resetting),
        ("hanging", &hanging),
        ("erring", &erring),
        ("healthy", &healthy),
    ] {
        rules += &provider_rules(name, provider.address, "");
        targets.push(format!("{{ provider = \"{name}\" }}"));
    }
    rules += &format!(
        "[[route]]\nname = \"all\"\nmodel = \"*\"\nattempts = 5\naffinity = \"off\"\ntargets = [{}]\n",
        targets.join(", ")
    );
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        timeouts: "first_byte = \"400ms\"\nfirst_byte_whole = \"400ms\"",
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    let count = requests();
    let (turn, worst) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..16).map(|client| {
        let (turn, worst, answers) = (turn.clone(), worst.clone(), answers.clone());
        let (address, bearer) = (gateway.ports.http, gateway.bearer());
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            loop {
                let n = turn.fetch_add(1, Ordering::Relaxed);
                if n >= count {
                    return;
                }
                let (dialect, stream) = (ALL[n % 4], n / 4 % 2 == 0);
                let size = if n % 50 == 7 { 1 << 20 } else { 1 << 10 };
                let body = body(dialect, stream, size, n as u64 + 1);
                let head = format!(
                    "POST {} HTTP/1.1\r\nhost: x\r\nauthorization: {bearer}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
                    dialect.path("x", stream),
                    body.len()
                );
                let began = Instant::now();
                connection.send(head.as_bytes()).await;
                connection.send(&body).await;
                let reply = connection.reply().await;
                worst.fetch_max(began.elapsed().as_millis() as usize, Ordering::Relaxed);
                assert_eq!(
                    (reply.status, reply.complete),
                    (200, true),
                    "request {n} of client {client}, {dialect:?}, {size} bytes, stream {stream}: {}",
                    reply.text()
                );
                let expected = &answers[&(named(dialect), stream)];
                if dialect != Dialect::Chat || !stream {
                    assert_eq!(reply.body, *expected, "request {n}: the healthy one's bytes");
                }
                if reply.closes() {
                    connection = Connection::open(address).await;
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let rows = gateway.settled_rows(count).await;
    let complete = rows.iter().filter(|row| row["ended"] == "complete").count();
    assert_eq!(complete, count, "each request has one attempt that succeeded");
    let called = limited.count() + resetting.count() + hanging.count() + erring.count() + healthy.count();
    assert_eq!(rows.len(), called, "each call of a provider has its row");
    let failed = rows.len() - count;
    assert!(failed > 0);
    assert!(
        failed < count / 2,
        "cooldown keeps requests away from those which fail: {failed} failed attempts for {count} requests"
    );
    eprintln!(
        "{count} requests, {failed} failed attempts (limited {}, resetting {}, hanging {}, erring {}), slowest {} ms",
        limited.count(),
        resetting.count(),
        hanging.count(),
        erring.count(),
        worst.load(Ordering::Relaxed)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_credential_that_fails_is_out_at_once_and_comes_back_by_itself() {
    let _heavy = HEAVY.lock().await;
    let answers = answers().await;
    let broken = Arc::new(AtomicBool::new(false));
    let calls: Arc<[AtomicUsize; 3]> = Arc::default();
    let (is_broken, counted, known) = (broken.clone(), calls.clone(), answers.clone());
    let provider = Provider::start(move |request| {
        let key = request.header("authorization").unwrap_or_default().to_owned();
        let which = ["KEY-A", "KEY-B", "KEY-C"]
            .iter()
            .position(|name| key.contains(name))
            .unwrap();
        counted[which].fetch_add(1, Ordering::Relaxed);
        if which == 1 && is_broken.load(Ordering::Relaxed) {
            return Answer::json(500, "{\"error\":{\"message\":\"broken\"}}");
        }
        good(&known, request)
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut rules = format!(
        "[provider.p]\ndialects = {{ openai_chat = \"http://{}/v1\" }}\nhealth = \"off\"\n",
        provider.address
    );
    for (name, weight) in [("a", 1), ("b", 2), ("c", 1)] {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("KEY-{}-{PROVIDER_KEY}", name.to_uppercase())).unwrap();
        rules += &format!(
            "[[provider.p.credential]]\nname = \"{name}\"\nkey = \"file:{}\"\nweight = {weight}\n",
            file.display()
        );
    }
    rules += "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{ provider = \"p\" }]\n";
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    let body = body(Dialect::Chat, false, 100, 3);
    let ask = |count: usize| {
        let (gateway, body) = (&gateway, &body);
        async move {
            for _ in 0..count {
                let reply = gateway.post("/v1/chat/completions", body).await;
                assert_eq!(reply.status, 200, "{}", reply.text());
            }
        }
    };
    let take = || calls.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
    ask(200).await;
    assert_eq!(take(), [50, 100, 50], "exactly by weight");

    broken.store(true, Ordering::Relaxed);
    ask(200).await;
    let [a, b, c] = take();
    assert!(b < 20, "out after a few failures, then only probed: {b}");
    assert!(
        a.abs_diff(c) <= 2 && a + c == 200,
        "its share goes to the others, evenly: {a}, {c}"
    );

    broken.store(false, Ordering::Relaxed);
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        ask(8).await;
        let [_, b, _] = take();
        if b >= 4 {
            break;
        }
        assert!(Instant::now() < end, "it does not come back");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ask(100).await;
    let [a, b, c] = take();
    assert!((49..=51).contains(&b), "its share is its own again: {a}, {b}, {c}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_pooled_connection_does_not_take_the_only_place_of_a_credential() {
    let known = answers().await;
    let count = Arc::new(AtomicUsize::new(0));
    let counted = count.clone();
    let provider = Provider::start(move |request| {
        // The second request finds its connection closed, whichever it is.
        if counted.fetch_add(1, Ordering::Relaxed) == 1 {
            return Answer::raw(vec![Step::Cut]);
        }
        good(&known, request)
    })
    .await;
    let rules = format!(
        "{}limits = {{ concurrent = 1 }}\n[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{{ provider = \"p\" }}]\n",
        provider_rules("p", provider.address, "")
    );
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        ..Options::default()
    })
    .await;
    let body = body(Dialect::Chat, false, 10, 1);
    for n in 0..3 {
        let reply = gateway.post("/v1/chat/completions", &body).await;
        assert_eq!(reply.status, 200, "request {n}: {}", reply.text());
        // Then its connection is in the pool.
        gateway.idle().await;
    }
    assert_eq!(count.load(Ordering::Relaxed), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_path_of_a_provider_refuses_says_nothing_of_the_credential() {
    let known = answers().await;
    let provider = Provider::start(move |request| match request.target.contains("organization") {
        true => Answer::json(401, "{\"error\":{\"message\":\"missing scope\"}}"),
        false => good(&known, request),
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let mut rules = format!(
        "[provider.p]\ndialects = {{ openai_chat = \"http://{}/v1\" }}\nhealth = \"off\"\n",
        provider.address
    );
    for name in ["a", "b"] {
        let file = folder.path().join(name);
        std::fs::write(&file, format!("KEY-{name}-{PROVIDER_KEY}")).unwrap();
        rules += &format!(
            "[[provider.p.credential]]\nname = \"{name}\"\nkey = \"file:{}\"\n",
            file.display()
        );
    }
    rules += "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{ provider = \"p\" }]\n";
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        ..Options::default()
    })
    .await;
    for _ in 0..6 {
        let reply = gateway.post("/p/p/v1/organization/users", b"{}").await;
        assert_eq!(reply.status, 401, "as it came: {}", reply.text());
    }
    let reply = gateway
        .post("/v1/chat/completions", &body(Dialect::Chat, false, 10, 1))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_credential_is_never_the_clients_fault() {
    // The next candidate can't carry the request, so that nothing follows after all.
    let refusing = Provider::start(|_| {
        Answer::json(
            401,
            "{\"error\":{\"message\":\"bad key\",\"code\":\"invalid_api_key\"}}",
        )
    })
    .await;
    let address = refusing.address;
    let other = format!(
        "[provider.q]\ndialects = {{ anthropic = \"http://{address}\" }}\nhealth = \"off\"\n[[provider.q.credential]]\nname = \"main\"\nkey = \"env:E2E_PROVIDER_KEY\"\n"
    );
    let rules = format!(
        "{}{other}[[route]]\nname = \"all\"\nmodel = \"*\"\non_loss = \"reject\"\ntargets = [{{ provider = \"p\" }}]\nfallback = [{{ provider = \"q\" }}]\n",
        provider_rules("p", address, "")
    );
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        ..Options::default()
    })
    .await;
    let body = "{\"model\":\"x\",\"seed\":7,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    let reply = gateway.post("/v1/chat/completions", body.as_bytes()).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert_eq!(reply.json()["error"]["code"], "upstream_credentials_exhausted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_are_for_conversations() {
    let provider = Provider::start(|_| Answer::json(200, "{\"input_tokens\":3}")).await;
    let rules = format!(
        "{}[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{{ provider = \"p\" }}]\nset = {{ temperature = 0.5 }}\ndefault = {{ max_output_tokens = 100 }}\n",
        provider_rules("p", provider.address, "")
    );
    let gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        ..Options::default()
    })
    .await;
    let body = "{\"model\":\"x\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}";
    gateway.post("/v1/messages/count_tokens", body.as_bytes()).await;
    assert_eq!(provider.last().body, body.as_bytes(), "a count has no such fields");
    gateway.post("/v1/messages", body.as_bytes()).await;
    let sent = String::from_utf8(provider.last().body).unwrap();
    assert!(
        sent.contains("\"temperature\":0.5") && sent.contains("\"max_tokens\":100"),
        "{sent}"
    );
}
