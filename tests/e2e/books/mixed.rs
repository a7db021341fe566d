//! A mixed hour in small: every dialect, streams, conversions, clients that leave, providers that fail, failover, keys in groups.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tollgate::ledger::Ended;
use tollgate::sandbox::{self, Served};

use super::*;
use crate::support::dialect::ALL;
use crate::support::gateway::Options;
use crate::support::{HEAVY, Random, until};

const CLIENTS: u64 = 12;
/// Clients, and long streams at once, while the binary is replaced: with time taken 300 requests a second, about.
fn while_replaced() -> (u64, u64) {
    if is_long() { (40, 100) } else { (CLIENTS, 20) }
}

/// Names, and the dialects they speak: what is asked in another is converted.
const PROVIDERS: [(&str, &[&str]); 5] = [
    ("whole", &["openai_chat", "openai_responses", "anthropic", "gemini"]),
    ("chat", &["openai_chat"]),
    ("answers", &["openai_responses"]),
    ("claude", &["anthropic"]),
    ("gem", &["gemini"]),
];

/// Answers that come to their end.
const GOOD: [&str; 5] = [
    "dear,prompt=70,cached=20,tokens=5",
    "cheap,prompt=11,tokens=9,reasoning=4",
    "dear,prompt=333,tokens=3,chunk=2",
    "cheap,prompt=1001,cached=1000,tokens=41,pace=1ms",
    "cheap,tokens=1",
];
/// For upgrades: as long as [`streams_last`].
fn long_stream() -> String {
    format!(
        "cheap,prompt=50,tokens={},first=100ms,pace=40ms",
        streams_last().as_millis() / 40
    )
}

/// How long a stream lasts which an upgrade must not break.
fn streams_last() -> Duration {
    Duration::from_secs(if is_long() { 30 } else { 6 })
}

/// Long enough to leave: a second and a half.
const SLOW: &str = "dear,prompt=50,tokens=280,first=100ms,pace=5ms";
/// Where they go wrong: before the answer, …
const BAD: [&str; 6] = [
    "dear,status=429",
    "dear,status=500",
    "dear,tokens=20,fault=error:0",
    "dear,fault=reset",
    "dear,fault=garbage",
    "dear,tokens=20,prompt=30,fault=cut:0",
];
/// … and within it.
const BROKEN: [&str; 3] = [
    "dear,tokens=20,prompt=30,fault=cut:6",
    "cheap,tokens=20,prompt=30,fault=stop:6",
    "dear,tokens=20,prompt=30,fault=error:6",
];

/// The models clients may ask for, by what becomes of them.
#[derive(Default)]
struct Models {
    rules: String,
    good: Vec<String>,
    slow: Vec<String>,
    long: Vec<String>,
    faulty: Vec<String>,
    failing_over: Vec<String>,
}

fn target(provider: usize, model: &str) -> String {
    format!(
        "{{ provider = \"{}\", model = \"{model}\" }}",
        PROVIDERS[provider % 5].0
    )
}

impl Models {
    fn route(&mut self, name: &str, target: &str, fallback: &[String]) -> String {
        let fallback = match fallback {
            [] => String::new(),
            some => format!("fallback = [{}]\nattempts = 3\n", some.join(", ")),
        };
        self.rules += &format!(
            "[[route]]\nname = \"{name}\"\nmodel = \"{name}\"\naffinity = \"off\"\ntargets = [{target}]\n{fallback}"
        );
        name.to_owned()
    }

    fn new() -> Self {
        let mut models = Models::default();
        for at in 0..PROVIDERS.len() {
            for (number, script) in GOOD.iter().enumerate() {
                let name = models.route(&format!("good-{at}-{number}"), &target(at, script), &[]);
                models.good.push(name);
            }
            let name = models.route(&format!("slow-{at}"), &target(at, SLOW), &[]);
            models.slow.push(name);
            let name = models.route(&format!("long-{at}"), &target(at, &long_stream()), &[]);
            models.long.push(name);
            for (number, script) in BAD.iter().chain(&BROKEN).enumerate() {
                let name = models.route(&format!("faulty-{at}-{number}"), &target(at, script), &[]);
                models.faulty.push(name);
            }
            for (number, script) in BAD.iter().enumerate() {
                let good = target(at + number + 1, GOOD[number % 4]);
                let name = models.route(
                    &format!("two-{at}-{number}"),
                    &target(at, script),
                    std::slice::from_ref(&good),
                );
                models.failing_over.push(name);
                let also_bad = target(at + number + 2, BAD[(number + 1) % 6]);
                let name = models.route(&format!("three-{at}-{number}"), &target(at, script), &[also_bad, good]);
                models.failing_over.push(name);
            }
        }
        models
    }
}

/// How long it goes: ten minutes, or as `TOLLGATE_MIXED_SECONDS` says.
fn seconds() -> u64 {
    let said = std::env::var("TOLLGATE_MIXED_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok());
    said.unwrap_or(if is_long() { 600 } else { 20 })
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    /// Of those which stayed: the status, if the answer came to its end.
    stayed: HashMap<String, Option<u16>>,
    left: HashSet<String>,
}

async fn client(
    number: u64,
    gateway: Arc<Gateway>,
    keys: Arc<Vec<Key>>,
    models: Arc<Models>,
    seen: Arc<Mutex<Seen>>,
    end: Instant,
) {
    // Every second client keeps its connection.
    let mut kept = None;
    let mut random = Random(0xB00C + number * 0x9E37_79B9 + u64::from(std::process::id()));
    for request in 0.. {
        if Instant::now() >= end {
            return;
        }
        let id = format!("c{number}-{request}");
        let dialect = ALL[random.below(4) as usize];
        let stream = random.below(3) > 0;
        let dice = random.below(100);
        let of = match dice {
            0..5 => &models.slow,
            5..10 => &models.faulty,
            10..18 => &models.failing_over,
            _ => &models.good,
        };
        let leave = (dice < 5).then(|| Duration::from_millis(random.below(if stream { 900 } else { 90 })));
        let call = Call {
            key: &keys[random.below(keys.len() as u64) as usize].text,
            id: &id,
            dialect,
            model: &of[random.below(of.len() as u64) as usize],
            stream,
            leave,
        };
        if number.is_multiple_of(2) {
            kept = None;
        }
        let reply = ask_over(&mut kept, gateway.ports.http, &call).await;
        if let Some(reply) = &reply {
            assert!(
                reply.status == 200 || dice < 18,
                "{id} {dialect:?} {}: {} {}",
                call.model,
                reply.status,
                reply.text()
            );
        }
        assert!(
            reply.is_some() || dice < 18,
            "{id} {dialect:?} {}: no whole answer",
            call.model
        );
        if dice < 18 {
            // Behind an answer that broke within its stream the connection may be closed, which its header could not say.
            kept = None;
        }
        if leave.is_some() {
            seen.lock().left.insert(id);
        } else {
            seen.lock().stayed.insert(id, reply.map(|reply| reply.status));
        }
        tokio::time::sleep(Duration::from_millis(random.below(if is_long() { 160 } else { 60 }))).await;
    }
}

/// One long stream after the other, each of which must come to its end.
async fn streams(
    number: u64,
    gateway: Arc<Gateway>,
    keys: Arc<Vec<Key>>,
    models: Arc<Models>,
    seen: Arc<Mutex<Seen>>,
    end: Instant,
) {
    for request in 0.. {
        if Instant::now() >= end {
            return;
        }
        let id = format!("s{number}-{request}");
        let call = Call {
            key: &keys[number as usize % keys.len()].text,
            id: &id,
            dialect: ALL[number as usize % 4],
            model: &models.long[number as usize / 4 % models.long.len()],
            stream: true,
            leave: None,
        };
        let reply = ask(gateway.ports.http, &call).await;
        let reply = reply.unwrap_or_else(|| panic!("{id} {:?} {}: the stream broke", call.dialect, call.model));
        assert_eq!(reply.status, 200, "{id}: {}", reply.text());
        seen.lock().stayed.insert(id, Some(reply.status));
    }
}

/// A row and what its provider says.
fn compare(row: &Row, served: &Served, left: bool) {
    let told = served.usage.unwrap_or_default();
    let usage = row.closing.usage.unwrap_or_default();
    let same =
        (usage.input_total(), usage.cache_read, usage.output_total()) == (told.input, told.cached, told.output_total());
    let what = || format!("{served:?} and {row:?}");
    // Its client may leave before the provider has read what it asked.
    let read = !served.model.is_empty();
    assert!(!read || *row.opening.upstream_model == *served.model, "{}", what());
    if row.ended == Ended::ClientGone {
        assert!(left, "it did not leave: {}", what());
        // Whatever the provider had sent by then: nothing is in the book as told that was not told.
        assert!(row.closing.estimated || same, "{}", what());
        return;
    }
    match (served.ended, served.refused) {
        (sandbox::Ended::Completed, false) => {
            assert_eq!(row.ended, Ended::Complete, "{}", what());
            assert!(
                row.closing.usage.is_some() && same && !row.closing.estimated,
                "{}",
                what()
            );
        }
        (sandbox::Ended::Completed, true) => {
            assert!(matches!(row.ended, Ended::UpstreamError), "{}", what());
            assert_eq!((row.closing.usage, row.closing.charge.0), (None, 0), "{}", what());
        }
        (sandbox::Ended::Faulted, _) => {
            let broke = matches!(row.ended, Ended::UpstreamBroke | Ended::UpstreamFailed);
            assert!(broke, "{}", what());
        }
        (sandbox::Ended::Aborted, _) => {
            // The gateway had all of it, and did not wait for the provider to close.
            let whole = row.ended == Ended::Complete && same && !row.closing.estimated;
            assert!(whole || row.ended == Ended::UpstreamBroke, "{}", what());
        }
    }
}

/// It was sent on a connection which was closed without a word, and then sent again.
fn is_dead(row: &Row) -> bool {
    let closing = &row.closing;
    closing.error.as_deref() == Some("dead_connection") && closing.usage.is_none() && closing.charge.0 == 0
}

/// Each row's cost and charge follow from its tokens and the rules.
fn priced(row: &Row, keys: &[Key]) {
    let key = keys.iter().find(|key| key.id == *row.opening.key.0).unwrap();
    let closing = &row.closing;
    let due = cost(row);
    if closing.usage.is_none() {
        assert_eq!(closing.charge.0, 0, "{row:?}");
        return;
    }
    assert_eq!(closing.cost.map(|cost| cost.0), Some(due), "{row:?}");
    // Of an answer that broke off before anything of it went out, the client pays nothing.
    let lost = matches!(row.ended, Ended::UpstreamBroke | Ended::UpstreamFailed) && closing.charge.0 == 0;
    assert!(
        lost || closing.charge.0 == key.charge(due),
        "{row:?}: {due} by {}",
        key.markup
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mixed_hour_in_small() {
    mixed(Duration::from_secs(seconds()), 0).await;
}

/// Nobody notices: not one request fails that would not have failed anyway, not one stream breaks, and each attempt has its row.
/// `TOLLGATE_LONG=1`: ten upgrades, streams of 30 s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_with_the_binary_replaced_again_and_again() {
    let upgrades = if is_long() { 10 } else { 3 };
    mixed(Duration::from_secs(if is_long() { 60 } else { 15 }), upgrades).await;
}

async fn mixed(time: Duration, upgrades: u32) {
    let _heavy = HEAVY.lock().await;
    let models = Models::new();
    let mut providers = Vec::new();
    let mut rules = PRICES.to_owned();
    for (name, dialects) in PROVIDERS {
        let provider = Provider::start(name).await;
        rules += &provider.rules(dialects);
        providers.push(provider);
    }
    rules += &models.rules;
    let mut gateway = Gateway::start(Options {
        rules: vec![("10.toml", rules)],
        limits: "requests_per_address = 100000",
        ..Options::default()
    })
    .await;
    let groups = [("team-a", dollars("5000")), ("team-b", Limits::default())];
    let mut two_budgets = dollars("3000");
    two_budgets.budgets.push(Budget {
        window: Window::Day,
        requests: Some(10_000_000),
        tokens: Some(50_000_000_000),
        money: None,
    });
    let wanted = vec![
        (Some("team-a"), 1_000_000, dollars("1000")),
        (Some("team-a"), 1_500_000, two_budgets),
        (Some("team-b"), 333_333, dollars("1000")),
        (None, 2_000_000, Limits::default()),
    ];
    let keys = make_keys(&mut gateway, &groups, wanted).await;

    let (gateway, keys, models) = (Arc::new(gateway), Arc::new(keys), Arc::new(models));
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let end = Instant::now() + time;
    let mut clients = JoinSet::new();
    let (callers, long_streams) = if upgrades == 0 { (CLIENTS, 0) } else { while_replaced() };
    for number in 0..callers {
        clients.spawn(client(
            number,
            gateway.clone(),
            keys.clone(),
            models.clone(),
            seen.clone(),
            end,
        ));
    }
    for number in 0..long_streams {
        clients.spawn(streams(
            number,
            gateway.clone(),
            keys.clone(),
            models.clone(),
            seen.clone(),
            end,
        ));
    }
    for upgrade in 0..upgrades {
        tokio::time::sleep(time / (upgrades + 1)).await;
        let steps = gateway.upgrade().await;
        println!(
            "upgrade {upgrade}: {}",
            steps.iter().find(|step| step["step"] == "serving").unwrap()
        );
    }
    clients.join_all().await;
    gateway.alone(Duration::from_secs(60)).await;
    gateway.idle().await;
    let mut gateway = Arc::into_inner(gateway).unwrap();
    let verdict = verify(&gateway, "after the hour").await;
    let shown = balances(&gateway, &keys).await;
    let report = gateway.admin("GET", "/api/v1/usage/report?by=key", None).await.json();
    assert_eq!(gateway.stop().await, 0, "{}", gateway.log());
    let (rows, sums_by_key) = at_rest(&gateway);
    let seen = Arc::into_inner(seen).unwrap().into_inner();

    // Each attempt of each provider is there once, and says what the provider says.
    let mut book: HashMap<(String, String), Vec<&Row>> = HashMap::new();
    for row in &rows {
        book.entry((row.opening.provider.to_string(), row.opening.request.0.to_string()))
            .or_default()
            .push(row);
    }
    let ids: BTreeSet<_> = rows.iter().map(|row| row.opening.id.to_string()).collect();
    assert_eq!(ids.len(), rows.len(), "none twice");
    let (mut compared, mut dead) = (0, 0);
    for provider in &providers {
        // It may notice a moment later that somebody left.
        let counts = until("nothing is open at the provider", Duration::from_secs(20), || async {
            Some(provider.sandboxed.sandbox.counts()).filter(|counts| counts.open.is_empty())
        })
        .await;
        let served = provider.sandboxed.sandbox.served();
        assert_eq!(served.len() as u64, counts.total.received, "all of it is remembered");
        let mut calls: HashMap<&str, Vec<&Served>> = HashMap::new();
        for one in &served {
            calls.entry(one.id.as_deref().unwrap()).or_default().push(one);
        }
        let mut tokens: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
        for (id, mut calls) in calls {
            let mut rows = book
                .remove(&(provider.name.to_owned(), id.to_owned()))
                .unwrap_or_default();
            calls.sort_by_key(|call| call.number);
            rows.sort_by_key(|row| row.opening.attempt);
            // A reused connection may have been closed before the provider saw the request, or after: nobody can tell.
            while rows.len() > calls.len() {
                let Some(at) = rows.iter().position(|row| is_dead(row)) else {
                    break;
                };
                rows.remove(at);
                dead += 1;
            }
            assert_eq!(
                rows.len(),
                calls.len(),
                "{id} at {}: {calls:?}, {rows:?}",
                provider.name
            );
            for (row, call) in rows.iter().zip(calls) {
                compare(row, call, seen.left.contains(id));
                compared += 1;
                // What is not in the provider's tally, or not in the book, is of clients who left.
                let usage = row.closing.usage.unwrap_or_default();
                let sum = tokens.entry(&*call.model).or_default();
                match (call.ended, row.ended) {
                    (sandbox::Ended::Completed, Ended::ClientGone) => {
                        let told = call.usage.unwrap_or_default();
                        *sum = (sum.0 + told.input, sum.1 + told.output_total());
                    }
                    (sandbox::Ended::Completed, _) => {
                        *sum = (sum.0 + usage.input_total(), sum.1 + usage.output_total())
                    }
                    _ => {}
                }
            }
        }
        for (model, tally) in &counts.models {
            let sum = tokens.get(model.as_str()).copied().unwrap_or_default();
            assert_eq!(sum, (tally.tokens_in, tally.tokens_out), "{}: {model}", provider.name);
        }
    }
    for ((provider, id), rows) in &book {
        let never = |row: &&Row| {
            let left = seen.left.contains(id) && (row.closing.usage.is_none() || row.closing.estimated);
            row.closing.status.is_none() && (left || is_dead(row))
        };
        assert!(rows.iter().all(never), "{id} never reached {provider}: {rows:?}");
    }
    // Each client's answer is in it. (An answer may end well for HTTP and with an error in its last event.)
    let answers: HashSet<&str> = rows
        .iter()
        .filter(|row| row.closing.status == Some(200))
        .map(|row| &*row.opening.request.0)
        .collect();
    for (id, status) in &seen.stayed {
        assert!(
            *status != Some(200) || answers.contains(id.as_str()),
            "{id} was answered"
        );
    }

    // Money.
    rows.iter().for_each(|row| priced(row, &keys));
    let sums = sums(&rows, &keys);
    assert_eq!(sums, shown, "rows and balances");
    for key in keys.iter() {
        let of = |lines: &serde_json::Value| {
            let mut lines = lines["lines"].as_array().unwrap().iter();
            lines
                .find(|line| line["group"]["key"] == key.id.as_str())
                .cloned()
                .unwrap()
        };
        let (line, sum) = (
            of(&report),
            sums_by_key.iter().find(|line| line.group == [key.id.clone()]).unwrap(),
        );
        assert_eq!(sum.charge, sums[&format!("key:{}", key.id)], "the report's charge");
        let own: Vec<&Row> = rows.iter().filter(|row| *row.opening.key.0 == key.id).collect();
        let output: u64 = own
            .iter()
            .filter_map(|row| row.closing.usage)
            .map(|usage| usage.output_total())
            .sum();
        assert_eq!(
            (line["attempts"].as_u64(), line["usage"]["output_total"].as_u64()),
            (Some(own.len() as u64), Some(output))
        );
        // Where the admin API tells money.
        if let Some(charge) = line
            .get("charge")
            .or(line.get("charge_usd"))
            .and_then(|charge| charge.as_str())
        {
            assert_eq!(charge.parse(), Ok(sum.charge), "{line}");
        }
    }
    let count = |what: &dyn Fn(&Row) -> bool| rows.iter().filter(|row| what(row)).count();
    println!(
        "{time:?}: {} requests ({} left), {} rows, {compared} compared with their providers, {} never got there ({dead} on dead connections), {} complete, {} estimated, \
         {} client_gone, {} upstream_error, {} broke or failed, {} converted; charged {}; verify: {verdict}",
        seen.stayed.len() + seen.left.len(),
        seen.left.len(),
        rows.len(),
        rows.len() - compared,
        count(&|row| row.ended == Ended::Complete),
        count(&|row| row.closing.estimated),
        count(&|row| row.ended == Ended::ClientGone),
        count(&|row| row.ended == Ended::UpstreamError),
        count(&|row| matches!(row.ended, Ended::UpstreamBroke | Ended::UpstreamFailed)),
        count(&|row| row.opening.client_dialect != row.opening.provider_dialect),
        rows.iter().map(|row| row.closing.charge.0).sum::<u64>() as f64 / 1e9,
    );
}
