//! The book adds up: every attempt is in it once, also when the process dies under load.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tollgate::sandbox::{self, Sandbox};

use crate::support::client::{self, Connection};
use crate::support::dialect::{ALL, Dialect};
use crate::support::gateway::{Gateway, Options, provider_rules, rules_for};
use crate::support::{HEAVY, Random};

const MODELS: [&str; 5] = [
    "x,tokens=3",
    "x,tokens=30,pace=2ms",
    "x,tokens=8,first=20ms",
    "x,status=429",
    "x,tokens=20,fault=stop:3",
];

async fn sandboxed(ledger: &'static str) -> (Gateway, Arc<Sandbox>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sandbox = Sandbox::new(true);
    tokio::spawn(sandbox::serve(
        listener,
        sandbox.clone(),
        std::future::pending(),
        std::future::pending(),
    ));
    // The only credential there is would be left alone after ten 429 in a row, and what we answer ourselves has no row.
    let mut rules = rules_for(address);
    rules[0].1 = provider_rules("p", address, "cooldown = \"off\"");
    let gateway = Gateway::start(Options {
        rules,
        limits: "requests_per_address = 100000",
        ledger,
        ..Options::default()
    })
    .await;
    (gateway, sandbox)
}

/// One request; true: its answer came to the end.
async fn ask(
    http: std::net::SocketAddr,
    bearer: &str,
    id: &str,
    dialect: Dialect,
    model: &str,
    stream: bool,
) -> Option<u16> {
    let mut connection = Connection::try_open(http).await.ok()?;
    let body = dialect.body(model, stream);
    let length = body.len().to_string();
    let headers = [
        ("authorization", bearer),
        ("content-type", "application/json"),
        ("x-request-id", id),
        ("content-length", &length),
    ];
    connection
        .send(&[client::head("POST", &dialect.path(model, stream), &headers), body].concat())
        .await;
    let reply = connection.try_reply(false).await?;
    reply.complete.then_some(reply.status)
}

fn by_request(rows: &[Value]) -> HashMap<&str, Vec<&Value>> {
    let mut found: HashMap<&str, Vec<&Value>> = HashMap::new();
    for row in rows {
        found.entry(row["request"].as_str().unwrap()).or_default().push(row);
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_ends_when_its_row_is_in_the_journal() {
    for ledger in ["durability = \"process\"", "durability = \"power\""] {
        every_answer_has_its_row(ledger).await;
    }
}

async fn every_answer_has_its_row(ledger: &'static str) {
    let (gateway, _sandbox) = sandboxed(ledger).await;
    let journal = gateway.path("data/journal");
    let mut clients = JoinSet::new();
    for client in 0..8usize {
        let (bearer, http, journal) = (gateway.bearer(), gateway.ports.http, journal.clone());
        clients.spawn(async move {
            for number in 0..40 {
                let id = format!("p{client}-{number}-end");
                let at = client + number;
                let answered = ask(http, &bearer, &id, ALL[at % 4], MODELS[at % 5], at % 3 != 0).await;
                if answered.is_some() {
                    assert_eq!(records_of(&journal, &id), 2, "{id} has an opening and a row");
                }
            }
        });
    }
    clients.join_all().await;
}

/// How often a request is named in the journal's files.
fn records_of(journal: &std::path::Path, id: &str) -> usize {
    let files = std::fs::read_dir(journal).unwrap().map(|file| file.unwrap().path());
    files
        .filter(|file| file.to_string_lossy().contains(".tgj"))
        .map(|file| memchr::memmem::find_iter(&std::fs::read(file).unwrap(), id).count())
        .sum()
}

const CLIENTS: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_answered_is_in_the_book_once_even_after_a_kill() {
    let _heavy = HEAVY.lock().await;
    let (mut gateway, sandbox) = sandboxed("").await;
    let answered = Arc::new(Mutex::new(Vec::new()));
    let mut random = Random(0x5eed ^ u64::from(std::process::id()));
    let mut interrupted = 0;
    let mut missing = Vec::new();
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            let (answered, stop, bearer, http) = (answered.clone(), stop.clone(), gateway.bearer(), gateway.ports.http);
            clients.spawn(async move {
                for number in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let id = format!("r{round}-c{client}-{number}");
                    let at = client + number;
                    if let Some(status) = ask(http, &bearer, &id, ALL[at % 4], MODELS[at % 5], at % 3 != 0).await {
                        answered.lock().push((id, status));
                    }
                }
            });
        }
        tokio::time::sleep(Duration::from_millis(600 + random.below(900))).await;
        gateway.kill();
        stop.store(true, Ordering::Relaxed);
        clients.join_all().await;
        gateway.restart().await;

        let answered = answered.lock().clone();
        let rows = gateway.settled_rows(answered.len()).await;
        let book = by_request(&rows);
        for (id, status) in &answered {
            let rows = book.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
            assert_eq!(
                rows.len(),
                1,
                "{id} was answered ({status}) and is in the book once: {rows:?}"
            );
        }
        for (id, rows) in &book {
            assert_eq!(rows.len(), 1, "{id} is in the book once: {rows:?}");
        }
        let ids = |request: &sandbox::Received| {
            request
                .headers
                .iter()
                .find(|(name, _)| name == "x-request-id")
                .map(|(_, id)| id.clone())
        };
        let lost: Vec<String> = sandbox
            .last()
            .iter()
            .filter_map(ids)
            .filter(|id| !book.contains_key(id.as_str()))
            .collect();
        missing.extend(lost);
        let now: usize = rows.iter().filter(|row| row["ended"] == "interrupted").count();
        println!(
            "round {round}: {} calls of the provider, {} rows",
            sandbox.counts().total.received,
            rows.len()
        );
        println!(
            "round {round}: {} answered, {} rows, {now} interrupted",
            answered.len(),
            rows.len()
        );
        assert!(now > interrupted, "what was in flight is there, marked");
        interrupted = now;
        let unlucky = answered
            .iter()
            .filter(|(id, _)| book[id.as_str()][0]["ended"] == "interrupted")
            .count();
        assert_eq!(unlucky, 0, "what was answered has its end in the book");
    }
    assert!(
        missing.is_empty(),
        "every call that reached the provider, and may cost money, is in the book; not these: {missing:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_book_equals_the_providers_own_counts() {
    let (mut gateway, sandbox) = sandboxed("").await;
    let mut clients = JoinSet::new();
    for client in 0..8usize {
        let (bearer, http) = (gateway.bearer(), gateway.ports.http);
        clients.spawn(async move {
            for number in 0..40 {
                let at = client * 3 + number;
                let model = [
                    "x,tokens=3,prompt=70,cached=20",
                    "x,tokens=9,prompt=10,reasoning=4",
                    "x,status=500",
                ][at % 3];
                assert!(
                    ask(
                        http,
                        &bearer,
                        &format!("{client}-{number}"),
                        ALL[at % 4],
                        model,
                        at % 5 < 3
                    )
                    .await
                    .is_some()
                );
            }
        });
    }
    clients.join_all().await;
    let check = |rows: &[Value], when: &str| {
        let counts = sandbox.counts();
        assert_eq!((rows.len() as u64, counts.total.received), (320, 320), "{when}");
        for (model, tally) in &counts.models {
            let of: Vec<&Value> = rows.iter().filter(|row| row["upstream_model"] == *model).collect();
            let sum = |field: &str| of.iter().filter_map(|row| row["usage"][field].as_u64()).sum::<u64>();
            let complete = of.iter().filter(|row| row["ended"] == "complete").count() as u64;
            assert_eq!(of.len() as u64, tally.received, "{when}: {model}: attempts");
            assert_eq!(complete, tally.completed - tally.refused, "{when}: {model}: complete");
            assert_eq!(sum("input_total"), tally.tokens_in, "{when}: {model}: input tokens");
            assert_eq!(sum("output_total"), tally.tokens_out, "{when}: {model}: output tokens");
        }
    };
    check(&gateway.settled_rows(320).await, "while it runs");
    let report = gateway.admin("GET", "/api/v1/usage/report?by=model", None).await.json();
    assert_eq!(report["total"]["attempts"], 320, "{report}");
    assert_eq!(
        report["total"]["usage"]["input_total"],
        sandbox.counts().total.tokens_in,
        "{report}"
    );
    assert_eq!(gateway.stop().await, 0);
    gateway.restart().await;
    check(&gateway.settled_rows(320).await, "after a restart");
    let (code, out, err) = gateway.cli(&["usage", "report", "--json"]).await;
    assert_eq!(code, 0, "{err}");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["total"]["attempts"], 320, "{report}");
}
