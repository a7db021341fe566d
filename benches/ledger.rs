//! What metering costs: the request's thread (open and close an attempt, authenticate a key), and the writer's, syncer's and ingest's
//! threads under load.
//!
//! `cargo bench --bench ledger` (`-- load` for the load part only; its files go to `$BENCH_DIR`, else `/tmp`); the load part prints CPU per attempt and thread, from `/proc/self/task/*/schedstat`.

#![allow(missing_docs, reason = "criterion's macros make items without docs")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group};
use tollgate::clock::{Clock, UnixMicros};
use tollgate::config::Durability;
use tollgate::ids::{AttemptId, GroupId, KeyId, RequestId};
use tollgate::ir::{FinishKind, Usage};
use tollgate::keys::{Keys, MasterKey};
use tollgate::ledger::{Closing, Ended, Filter, GroupBy, Ledger, Opening};
use tollgate::limits::{AccountId, Accounts, Budget, Chain, Estimate, Limits, Window};
use tollgate::money::NanoUsd;
use tollgate::store::Store;

const CACHE: u64 = 64 << 20;

fn settings(durability: Durability) -> tollgate::config::Ledger {
    tollgate::config::Ledger {
        durability,
        queue: 8192,
        segment: 64 << 20,
        sync_every: Duration::from_millis(20),
        min_free: 0,
        ballast: 0,
        ..tollgate::config::Ledger::default()
    }
}

/// Shared texts, as the gateway has them: cloned per attempt, not made.
struct Names {
    key: KeyId,
    texts: [Arc<str>; 8],
}

impl Names {
    fn new() -> Self {
        let texts = [
            "main-route",
            "provider-one",
            "team-credential",
            "chat",
            "some_dialect",
            "some_dialect",
            "large-model-2025-09-29",
            "large-model-2025-09-29",
        ];
        Names {
            key: KeyId("0123456789ab".into()),
            texts: texts.map(Into::into),
        }
    }

    fn opening(&self, id: AttemptId, request: &RequestId) -> Opening {
        let [
            route,
            provider,
            credential,
            operation,
            client_dialect,
            provider_dialect,
            model,
            upstream_model,
        ] = self.texts.clone();
        Opening {
            id,
            request: request.clone(),
            attempt: 1,
            at: UnixMicros(1_760_000_000_000_000),
            key: self.key.clone(),
            route,
            provider,
            credential,
            operation,
            client_dialect,
            provider_dialect,
            model,
            upstream_model,
            stream: true,
            group: "".into(),
            reserved: NanoUsd::ZERO,
            prompt_tokens: 0,
            prompt_cost: None,
            prompt_charge: NanoUsd::ZERO,
        }
    }
}

fn closing() -> Closing {
    Closing {
        status: Some(200),
        usage: Some(Usage {
            input: 1234,
            output: 567,
            ..Usage::default()
        }),
        finish: Some(FinishKind::Stop),
        response_id: Some("answer_0123456789abcdefghijklmn".into()),
        request_bytes: 1024,
        response_bytes: 5000,
        first_byte_us: Some(200_000),
        first_token_us: Some(210_000),
        total_us: 900_000,
        ..Closing::default()
    }
}

fn attempt(ledger: &Ledger, names: &Names, request: &RequestId) {
    let mut entry = ledger.open(names.opening(AttemptId::new(), request));
    entry.closing = closing();
    entry.close(Ended::Complete);
}

fn callers(c: &mut Criterion) {
    let data = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Store::open(&data.path().join("store"), CACHE).expect("a store"));
    let master = MasterKey::load(&data.path().join("key"), true).expect("a key");
    let keys = Keys::load(store.clone(), &master, Arc::default(), Clock::system()).expect("keys");
    let (_, text) = keys
        .create(tollgate::keys::NewKey {
            name: "bench".into(),
            ..Default::default()
        })
        .expect("a key");
    let ring = keys.ring().clone();
    c.bench_function("authenticate", |b| {
        b.iter(|| black_box(ring.authenticate(black_box(text.0.expose().as_bytes()))).is_ok());
    });
    let names = Names::new();
    let request = RequestId::from_client(None);
    c.bench_function("make an opening and a closing (not the ledger's cost)", |b| {
        b.iter(|| black_box((names.opening(AttemptId::new(), &request), closing())));
    });
    let ledger = Ledger::start(
        &data.path().join("journal"),
        &settings(Durability::Process),
        store,
        Arc::default(),
        Clock::system(),
    )
    .expect("a ledger");
    c.bench_function("the same, opened and closed in the ledger", |b| {
        b.iter(|| attempt(&ledger, &names, &request));
    });
    ledger.shut_down();
}

/// CPU nanoseconds of each of our threads, by name.
fn cpu() -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").expect("linux").flatten() {
        let is_caller = task.file_name().to_string_lossy() == std::process::id().to_string();
        let name = match is_caller {
            true => "caller".into(),
            false => std::fs::read_to_string(task.path().join("comm")).unwrap_or_default(),
        };
        let stat = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let ns: u64 = stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        *all.entry(name.trim().to_owned()).or_default() += ns;
    }
    all
}

/// CPU of the request's thread, which a busy machine does not blur as it does the times above.
fn caller_cpu() {
    const ATTEMPTS: u64 = 500_000;
    let data = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Store::open(&data.path().join("store"), CACHE).expect("a store"));
    let settings = settings(Durability::Process);
    let ledger = Ledger::start(
        &data.path().join("journal"),
        &settings,
        store,
        Arc::default(),
        Clock::system(),
    )
    .expect("a ledger");
    let names = Names::new();
    let request = RequestId::from_client(None);
    let measure = |run: &dyn Fn()| {
        let before = cpu()["caller"];
        for _ in 0..ATTEMPTS {
            run();
        }
        (cpu()["caller"] - before) / ATTEMPTS
    };
    let making = measure(&|| drop(black_box((names.opening(AttemptId::new(), &request), closing()))));
    let all = measure(&|| attempt(&ledger, &names, &request));
    println!(
        "caller: {} ns of CPU to open and close an attempt",
        all.saturating_sub(making)
    );
    ledger.shut_down();
}

/// CPU of the request's thread for all the books: it enters its key's and its group's account, reserves, opens, closes and settles.
fn books_cpu() {
    const REQUESTS: u64 = 500_000;
    let data = tempfile::tempdir().expect("a folder");
    let store = Arc::new(Store::open(&data.path().join("store"), CACHE).expect("a store"));
    let accounts = Arc::new(Accounts::new());
    let settings = settings(Durability::Process);
    let folder = data.path().join("journal");
    let ledger = Ledger::start(&folder, &settings, store, accounts.clone(), Clock::system()).expect("a ledger");
    let names = Names::new();
    let request = RequestId::from_client(None);
    let budgets = Window::ALL.map(|window| Budget {
        window,
        requests: Some(u64::MAX),
        tokens: Some(u64::MAX),
        money: Some(NanoUsd::MAX),
    });
    let limits = Limits {
        requests_per_minute: Some(u64::MAX),
        tokens_per_minute: Some(u64::MAX),
        concurrent: Some(1000),
        budgets: budgets.to_vec(),
        time_zone: Some("Asia/Shanghai".into()),
    };
    let account = |id| {
        let account = accounts.get(&id);
        account.set_limits(limits.clone());
        account
    };
    let key = account(AccountId::Key(names.key.clone()));
    let chain = Chain::new(key, Some(account(AccountId::Group(GroupId("team".into())))));
    let estimate = Estimate {
        tokens: 2000,
        most_tokens: 5000,
        money: NanoUsd(1_000_000),
    };
    let clock = Clock::system();
    let run = || {
        let (at, now) = (clock.now(), Instant::now());
        let admission = chain.enter(at, now).expect("room");
        let reservation = admission.reserve(estimate, true, at, now).expect("room");
        let mut opening = names.opening(AttemptId::new(), &request);
        opening.at = at;
        opening.group = names.texts[0].clone();
        let mut entry = ledger.open_reserved(opening, reservation);
        entry.closing = closing();
        entry.close(Ended::Complete);
    };
    let before = cpu();
    (0..REQUESTS).for_each(|_| run());
    ledger.status();
    let after = cpu();
    print!("the books of a request, CPU ns:");
    for (name, ns) in &after {
        let spent = (ns - before.get(name).copied().unwrap_or(0)) / REQUESTS;
        if spent > 0 {
            print!(" {name} {spent}");
        }
    }
    println!();
    ledger.shut_down();
}

/// How long a start takes with a million rows in the journals: as a kill leaves it (a checkpoint a few seconds old), and without one.
fn starts() {
    const ROWS: u64 = 1_000_000;
    let data = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| "/tmp".into())).expect("a folder");
    let folder = data.path().join("journal");
    let start = || {
        let store = Arc::new(Store::open(&data.path().join("store"), CACHE).expect("a store"));
        let begun = Instant::now();
        let settings = settings(Durability::Process);
        let ledger = Ledger::start(&folder, &settings, store, Arc::default(), Clock::system()).expect("a ledger");
        (begun.elapsed(), ledger)
    };
    let (_, ledger) = start();
    let names = Names::new();
    let request = RequestId::from_client(None);
    (0..ROWS).for_each(|_| attempt(&ledger, &names, &request));
    ledger.shut_down();
    drop(ledger);
    let (time, ledger) = start();
    println!("start with {ROWS} rows in the journals and a checkpoint: {time:?}");
    let begun = Instant::now();
    let verdict = ledger.verify().expect("a verdict");
    println!("  verify: {:?}, ok {}", begun.elapsed(), verdict.ok);
    drop(ledger);
    for name in ["books.tgb", "books.tgb.before"] {
        std::fs::remove_file(folder.join(name)).expect("removed");
    }
    let (time, ledger) = start();
    println!("  without a checkpoint: {time:?}");
    drop(ledger);
}

/// A steady rate, as a busy gateway has it, then the queries.
fn load(durability: Durability, per_second: u64, seconds: u64) {
    let data = tempfile::tempdir_in(std::env::var("BENCH_DIR").unwrap_or_else(|_| "/tmp".into())).expect("a folder");
    let store = Arc::new(Store::open(&data.path().join("store"), CACHE).expect("a store"));
    let ledger = Ledger::start(
        &data.path().join("journal"),
        &settings(durability),
        store,
        Arc::default(),
        Clock::system(),
    )
    .expect("a ledger");
    let names = Names::new();
    let request = RequestId::from_client(None);
    let before = cpu();
    let start = Instant::now();
    let mut done = 0;
    while start.elapsed() < Duration::from_secs(seconds) {
        let due = start.elapsed().as_nanos() as u64 * per_second / 1_000_000_000;
        while done < due {
            attempt(&ledger, &names, &request);
            done += 1;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    let rows = ledger.status().rows;
    let after = cpu();
    assert_eq!(rows, done, "every attempt is a row");
    print!("{durability:?}, {per_second}/s, {done} attempts; CPU ns per attempt:");
    let mut sum = 0;
    for (name, ns) in &after {
        let spent = (ns - before.get(name).copied().unwrap_or(0)) / done;
        if spent > 0 {
            print!(" {name} {spent}");
            sum += if name == "caller" { 0 } else { spent };
        }
    }
    println!("; all but the caller: {sum}");
    let start = Instant::now();
    let lines = ledger
        .report(&Filter::default(), &[GroupBy::Key, GroupBy::Model])
        .expect("a report");
    assert_eq!(lines[0].attempts, done);
    println!("  report: {} ns per row", start.elapsed().as_nanos() as u64 / done);
    ledger.shut_down();
    let start = Instant::now();
    drop(ledger);
    std::fs::remove_dir_all(data.path().join("store")).expect("removed");
    let store = Arc::new(Store::open(&data.path().join("store"), CACHE).expect("a store"));
    let ledger = Ledger::start(
        &data.path().join("journal"),
        &settings(durability),
        store,
        Arc::default(),
        Clock::system(),
    )
    .expect("a ledger");
    assert_eq!(ledger.status().rows, done);
    println!(
        "  store filled again from the journal: {} rows/s",
        done * 1000 / start.elapsed().as_millis().max(1) as u64
    );
}

criterion_group!(benches, callers);

fn main() {
    benches();
    caller_cpu();
    books_cpu();
    starts();
    for per_second in [1_000, 10_000, 30_000, 100_000] {
        load(Durability::Process, per_second, 5);
    }
    load(Durability::Power, 10_000, 5);
}
