//! Store, keys and ledger together, as `app.rs` joins them: what a restart, a broken store and a lost index leave.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tollgate::clock::{Clock, UnixMicros};
use tollgate::config::{self, Durability};
use tollgate::ids::{AttemptId, KeyId, RequestId};
use tollgate::keys::{KeyError, Keys, MasterKey, NewKey};
use tollgate::ledger::{Ended, Filter, GroupBy, Ledger, Opening};
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
    Opening {
        id: AttemptId::new(),
        request: RequestId(format!("r{n}").into()),
        attempt: 1,
        at: UnixMicros(1_760_000_000_000_000 + n),
        key: key.clone(),
        route: "".into(),
        provider: "p".into(),
        credential: "c".into(),
        operation: "chat".into(),
        client_dialect: "d".into(),
        provider_dialect: "d".into(),
        model: "m".into(),
        upstream_model: "m".into(),
        stream: false,
        group: "".into(),
        reserved: NanoUsd::ZERO,
        prompt_tokens: 0,
        prompt_cost: None,
        prompt_charge: NanoUsd::ZERO,
    }
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
