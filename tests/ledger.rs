//! Store, keys and ledger together, as `app.rs` joins them: what a restart, a broken store and a lost index leave.

mod ledger_rows;

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tollgate::clock::{Clock, UnixMicros};
use tollgate::config::{self, Durability};
use tollgate::ids::{GroupId, KeyId};
use tollgate::keys::{KeyError, Keys, MasterKey, NewKey};
use tollgate::ledger::{Ended, Entry, Filter, GroupBy, Ledger, Opening};
use tollgate::limits::{AccountId, Accounts, Admission, Chain, Estimate};
use tollgate::money::NanoUsd;
use tollgate::store::Store;

struct Books {
    keys: Keys,
    ledger: Ledger,
    store: Arc<Store>,
}

fn open(data: &Path) -> Books {
    let store = Arc::new(Store::open(&data.join("store"), 16 << 20).unwrap());
    let may_create = !Keys::sealed(&store).unwrap();
    let master = MasterKey::load(&data.join("master.key"), may_create).unwrap();
    let keys = Keys::load(store.clone(), &master, Arc::default(), Clock::system()).unwrap();
    let settings = config::Ledger {
        durability: Durability::Process,
        queue: 8192,
        segment: 64 << 10,
        sync_every: Duration::from_millis(20),
        min_free: 0,
        ballast: 0,
        ..config::Ledger::default()
    };
    let ledger = Ledger::start(
        &data.join("journal"),
        &settings,
        store.clone(),
        Arc::default(),
        Clock::system(),
    )
    .unwrap();
    Books { keys, ledger, store }
}

fn opening(key: &KeyId, n: i64) -> Opening {
    ledger_rows::opening(key, n, UnixMicros(1_760_000_000_000_000 + n))
}

#[test]
fn a_broken_store_comes_back_with_its_rows_and_keys() {
    let data = tempfile::tempdir().unwrap();
    let books = open(data.path());
    let (good, good_text) = books
        .keys
        .create(NewKey {
            name: "good".into(),
            owner: Some("somebody".into()),
            ..NewKey::default()
        })
        .unwrap();
    let (bad, bad_text) = books
        .keys
        .create(NewKey {
            name: "bad".into(),
            ..NewKey::default()
        })
        .unwrap();
    books.keys.revoke(&bad.id).unwrap();
    let mut ids = HashSet::new();
    for n in 0..1000 {
        let entry = books.ledger.open(opening(&good.id, n));
        ids.insert(entry.id());
        entry.close(Ended::Complete);
    }
    assert_eq!(books.ledger.status().rows, 1000);
    drop(books);

    // The index is nonsense from end to end.
    let sled = data.path().join("store/sled");
    for entry in fs::read_dir(&sled).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let length = fs::metadata(&path).unwrap().len() as usize;
            fs::write(&path, vec![0xC3; length.max(1 << 20)]).unwrap();
        }
    }
    for start in 0..2 {
        let books = open(data.path());
        assert_eq!(
            books.store.moved_aside().is_some(),
            start == 0,
            "start {start}: what is broken is moved aside once"
        );
        let page = books.ledger.rows(&Filter::default(), None, 5000).unwrap();
        let found: HashSet<_> = page.rows.iter().map(|row| row.opening.id).collect();
        assert_eq!(page.rows.len(), 1000, "start {start}: no row lost, none twice");
        assert_eq!(found, ids);
        let report = books.ledger.report(&Filter::default(), &[GroupBy::Key]).unwrap();
        assert_eq!(report[0].group, [good.id.to_string()]);
        let ring = books.keys.ring();
        assert_eq!(ring.authenticate(good_text.0.expose().as_bytes()).unwrap().key, good);
        assert_eq!(
            ring.authenticate(bad_text.0.expose().as_bytes()).err(),
            Some(KeyError::Revoked),
            "a revoked key must not come back"
        );
    }
}

/// The command's exit code and what it says.
fn tollgate(arguments: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args(arguments)
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(told).unwrap())
}

#[test]
fn a_damaged_journal_is_told_of_and_repaired_from_the_command_line() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().to_str().unwrap();
    let books = open(data.path());
    let key = KeyId("k".into());
    for n in 0..1000 {
        books.ledger.open(opening(&key, n)).close(Ended::Complete);
        if n % 100 == 0 {
            books.ledger.status(); // written by now: there are several files
        }
    }
    let (code, told) = tollgate(&["ledger", "repair", "--data", folder]);
    assert_eq!(code, 1, "{told}");
    assert!(told.contains("the gateway is running"), "{told}");
    drop(books);
    let (code, told) = tollgate(&["ledger", "repair", "--data", folder]);
    assert_eq!((code, told.as_str()), (0, "no journal file is damaged\n"));
    let mut files: Vec<_> = fs::read_dir(data.path().join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().contains(".tgj"))
        .collect();
    files.sort();
    let mut bytes = fs::read(&files[1]).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 100].fill(0xEE);
    fs::write(&files[1], bytes).unwrap();
    drop(open(data.path())); // its last file is taken in
    let verify = ["ledger", "verify", "--data", folder];
    let (code, told) = tollgate(&verify);
    assert_eq!(code, 2, "{told}");
    assert!(told.contains("tollgate ledger repair"), "{told}");
    let (code, told) = tollgate(&["ledger", "repair", "--data", folder, "--dry-run"]);
    assert_eq!(code, 0, "{told}");
    assert!(told.ends_with("nothing was changed\n"), "{told}");
    let (code, told) = tollgate(&["ledger", "repair", "--data", folder, "--json"]);
    assert_eq!(code, 0, "{told}");
    let did: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(
        (&did["files"].as_array().unwrap().len(), &did["taken_over"]),
        (&1, &0.into())
    );
    let (code, told) = tollgate(&verify);
    assert_eq!(code, 0, "{told}");
    assert!(
        told.contains("note: damaged journal files that were repaired: 1;"),
        "{told}"
    );
    let books = open(data.path());
    assert_eq!(books.ledger.status().rows, 1000);
    let reach = books.ledger.reach().unwrap();
    assert_eq!((reach.damaged, reach.set_aside, reach.refilled), (0, 1, None));
}

/// What a request holds: dropped together, whatever ends it.
struct Held {
    _entry: Entry,
    _admission: Admission,
}

/// A request that is admitted, has reserved and has its attempt open.
fn hold(ledger: &Ledger, chain: &Chain, n: i64) -> Held {
    let at = Clock::system().now();
    let admission = chain.enter(at, Instant::now()).unwrap();
    let estimate = Estimate {
        tokens: 20,
        most_tokens: 100,
        money: NanoUsd(5_000),
    };
    let reservation = admission.reserve(estimate, true, at, Instant::now()).unwrap();
    let opening = Opening {
        at,
        group: "team".into(),
        reserved: NanoUsd(5_000),
        prompt_tokens: 10,
        prompt_cost: Some(NanoUsd(700)),
        prompt_charge: NanoUsd(900),
        ..opening(&KeyId("panicking".into()), n)
    };
    Held {
        _entry: ledger.open_reserved(opening, reservation),
        _admission: admission,
    }
}

#[test]
fn tasks_that_panic_or_are_cancelled_leave_their_rows_and_no_reservation() {
    const EACH: i64 = 50;
    let data = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(&data.path().join("store"), 16 << 20).unwrap());
    let accounts = Arc::new(Accounts::new());
    let settings = config::Ledger {
        min_free: 0,
        ballast: 0,
        ..config::Ledger::default()
    };
    let journal = data.path().join("journal");
    let ledger = Ledger::start(&journal, &settings, store, accounts.clone(), Clock::system()).unwrap();
    let of_key = accounts.get(&AccountId::Key(KeyId("panicking".into())));
    let of_group = accounts.get(&AccountId::Group(GroupId("team".into())));
    let chain = Chain::new(of_key.clone(), Some(of_group.clone()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for n in 0..EACH {
            let held = hold(&ledger, &chain, 2 * n);
            tasks.push(tokio::spawn(async move {
                let _held = held;
                tokio::task::yield_now().await;
                // As a panic, without the message of each.
                std::panic::resume_unwind(Box::new("on purpose"));
            }));
            let held = hold(&ledger, &chain, 2 * n + 1);
            let cancelled = tokio::spawn(async move {
                let _held = held;
                std::future::pending::<()>().await;
            });
            tokio::task::yield_now().await;
            cancelled.abort();
            tasks.push(cancelled);
        }
        for task in tasks {
            assert!(task.await.is_err());
        }
    });
    let rows = ledger.rows(&Filter::default(), None, 1000).unwrap().rows;
    let count = |ended| rows.iter().filter(|row| row.ended == ended).count() as i64;
    assert_eq!((count(Ended::Panicked), count(Ended::Interrupted)), (EACH, EACH));
    for row in &rows {
        let closing = &row.closing;
        assert_eq!(
            (closing.estimated, closing.charge, closing.cost),
            (true, NanoUsd(900), Some(NanoUsd(700)))
        );
    }
    for account in [of_key, of_group] {
        let view = account.view(Clock::system().now(), Instant::now());
        assert_eq!(view.in_flight, 0, "nobody is under way any more");
        for window in view.windows {
            let spent = window.spent;
            assert_eq!(
                (spent.requests, spent.tokens, spent.charge),
                (2 * EACH as u64, 2 * EACH as u64 * 10, NanoUsd(2 * EACH as u64 * 900))
            );
            assert_eq!(window.reserved, Default::default(), "no reservation sticks");
        }
    }
    let verdict = ledger.verify().unwrap();
    assert!(verdict.ok && verdict.open == 0, "{verdict:?}");
}
