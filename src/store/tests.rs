//! The store as a whole: facts survive a lost index and a damaged file.

use std::fs;
use std::io::{Seek, SeekFrom, Write};

use super::rows::{Applied, Block, BlockKey, Span};
use super::*;

const CACHE: u64 = 16 << 20;

#[test]
fn a_second_opening_is_held() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    assert!(matches!(Store::open(folder.path(), CACHE), Err(StoreError::Held)));
    drop(store);
    Store::open(folder.path(), CACHE).unwrap();
}

#[test]
fn facts_survive_the_loss_of_the_index() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    store.keys().put("a", b"one").unwrap();
    store.keys().put("a", b"two").unwrap();
    store.meta().put("a", b"meta").unwrap();
    drop(store);
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    assert_eq!(
        store.keys().get("a").unwrap().unwrap(),
        b"two",
        "the newest version wins"
    );
    assert_eq!(store.meta().get("a").unwrap().unwrap(), b"meta", "rooms are apart");
    assert_eq!(store.keys().all().unwrap().len(), 1);
}

#[test]
fn facts_survive_the_loss_and_the_damage_of_their_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.tgj");
    let store = Store::open(folder.path(), CACHE).unwrap();
    for n in 0..20 {
        store.keys().put(&format!("key{n}"), b"good").unwrap();
    }
    store.keys().put("key7", b"revoked").unwrap();
    drop(store);
    let whole = fs::read(&file).unwrap();
    for at in (0..whole.len()).step_by(37) {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x40;
        fs::write(&file, &damaged).unwrap();
        let store = Store::open(folder.path(), CACHE).unwrap();
        assert_eq!(
            store.keys().all().unwrap().len(),
            20,
            "byte {at}: the index had what the file lost"
        );
        assert_eq!(
            store.keys().get("key7").unwrap().unwrap(),
            b"revoked",
            "byte {at}: an old version came back"
        );
    }
    fs::remove_file(&file).unwrap();
    drop(Store::open(folder.path(), CACHE).unwrap());
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    assert_eq!(
        store.keys().all().unwrap().len(),
        20,
        "the file was written anew from the index"
    );
}

#[test]
fn a_damaged_place_in_the_file_costs_only_that_record_when_the_index_is_lost_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.tgj");
    let store = Store::open(folder.path(), CACHE).unwrap();
    for n in 0..20 {
        store.keys().put(&format!("key{n}"), b"good").unwrap();
    }
    drop(store);
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, &bytes).unwrap();
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    assert_eq!(store.keys().all().unwrap().len(), 19);
}

#[test]
fn a_torn_end_of_the_facts_is_cut_and_appending_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("facts.tgj");
    let store = Store::open(folder.path(), CACHE).unwrap();
    store.keys().put("a", b"1").unwrap();
    drop(store);
    let mut tail = fs::File::options().append(true).open(&file).unwrap();
    tail.write_all(&[9, 0, 0, 0, 1, 2]).unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    store.keys().put("b", b"2").unwrap();
    drop(store);
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    assert_eq!(
        store.keys().all().unwrap().len(),
        2,
        "a record after a torn end must be readable"
    );
}

fn block(key: u64, rows: u32) -> Block {
    Block {
        key: BlockKey(key),
        span: Span {
            rows,
            min_at: 1,
            max_at: 2,
        },
        bytes: vec![7; 4000],
    }
}

#[test]
fn a_broken_index_is_moved_aside() {
    for damage in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), CACHE).unwrap();
        store.keys().put("a", b"1").unwrap();
        for n in 0..200 {
            store
                .rows()
                .apply(&[block(n, 1)], "boot", &Applied::default(), n)
                .unwrap();
        }
        drop(store);
        let sled = folder.path().join("sled");
        let db = sled.join("db");
        match damage {
            0 => fs::write(sled.join("conf"), b"segment_size: nonsense\nversion: 0.12").unwrap(),
            1 => {
                let mut file = fs::File::options().write(true).open(&db).unwrap();
                file.seek(SeekFrom::Start(0)).unwrap();
                file.write_all(&vec![0xA5; 400_000]).unwrap();
            }
            2 => {
                for entry in fs::read_dir(&sled).unwrap() {
                    let path = entry.unwrap().path();
                    if path.file_name().unwrap().to_string_lossy().starts_with("snap") {
                        fs::write(path, b"not a snapshot").unwrap();
                    }
                }
                fs::write(&db, vec![0x5A; 2_000_000]).unwrap();
            }
            _ => drop(fs::File::create(folder.path().join("condemned")).unwrap()),
        }
        let store = Store::open(folder.path(), CACHE).unwrap();
        assert_eq!(
            store.keys().get("a").unwrap().unwrap(),
            b"1",
            "damage {damage}: facts are kept"
        );
        if damage == 3 {
            assert!(
                store.moved_aside().is_some_and(Path::exists),
                "a condemned index is moved aside"
            );
            assert_eq!(store.rows().total().unwrap(), 0);
        }
        drop(store);
        let store = Store::open(folder.path(), CACHE).unwrap();
        assert!(
            store.moved_aside().is_none(),
            "damage {damage}: the second start finds a good index"
        );
    }
}

#[test]
fn blocks_are_found_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    let rows = store.rows();
    assert_eq!(rows.last().unwrap(), None);
    rows.apply(&[block(10, 1), block(300, 2)], "boot", &Applied::default(), 3)
        .unwrap();
    rows.apply(&[block(300, 5)], "boot", &Applied::default(), 6).unwrap();
    assert_eq!(rows.last().unwrap().map(|(key, _)| key), Some(BlockKey(300)));
    assert_eq!(rows.at_or_before(BlockKey(299)).unwrap(), Some(BlockKey(10)));
    assert_eq!(rows.at_or_before(BlockKey(9)).unwrap(), None);
    let spans: Vec<_> = rows.spans(BlockKey(11)).map(Result::unwrap).collect();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].1.rows, 5, "a grown block replaces its former self");
    assert_eq!(rows.total().unwrap(), 6);
    assert_eq!(rows.journals().unwrap(), ["boot"]);
}

#[test]
fn a_store_is_given_away_and_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), CACHE).unwrap();
    store.keys().put("a", b"1").unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert!(matches!(store.keys().put("a", b"2"), Err(StoreError::HandedOver)));
    assert!(matches!(store.keys().get("a"), Err(StoreError::HandedOver)));
    assert!(matches!(store.rows().total(), Err(StoreError::HandedOver)));
    assert_eq!(store.rows().spans(BlockKey(0)).filter(Result::is_err).count(), 1);
    assert!(matches!(store.drop_superseded_facts(), Err(StoreError::HandedOver)));
    let other = Store::open(folder.path(), CACHE).unwrap();
    assert_eq!(other.keys().get("a").unwrap().unwrap(), b"1");
    other.keys().put("b", b"of the other").unwrap();
    assert!(matches!(store.reopen(), Err(StoreError::Held)), "the other has it");
    drop(other);
    store.reopen().unwrap();
    store.reopen().unwrap();
    assert_eq!(store.keys().get("b").unwrap().unwrap(), b"of the other");
    store.keys().put("c", b"3").unwrap();
    drop(store);
    assert_eq!(
        Store::open(folder.path(), CACHE).unwrap().keys().all().unwrap().len(),
        3
    );
}
