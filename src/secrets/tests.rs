//! The vault over restarts, under other keys, with damaged records, and while the master key is replaced.

use std::collections::HashSet;

use super::*;
use crate::clock::Clock;

struct House {
    folder: tempfile::TempDir,
    clock: Clock,
}

impl House {
    fn new() -> Self {
        House {
            folder: tempfile::tempdir().unwrap(),
            clock: Clock::manual(UnixMicros(5)),
        }
    }

    fn store(&self) -> Arc<Store> {
        Arc::new(Store::open(&self.folder.path().join("store"), 16 << 20).unwrap())
    }

    fn open(&self, master: u8, previous: Option<u8>) -> Result<Vault, VaultError> {
        self.load(self.store(), master, previous)
    }

    /// As the gateway does.
    fn load(&self, store: Arc<Store>, to: u8, previous: Option<u8>) -> Result<Vault, VaultError> {
        let previous = previous.map(MasterKey::of_byte);
        if let Some(previous) = &previous {
            envelope::rotate(&store, previous, &MasterKey::of_byte(to))?;
        }
        Vault::load(store, &MasterKey::of_byte(to), previous.as_ref(), self.clock.clone())
    }
}

fn value(vault: &Vault, name: &str) -> Option<String> {
    vault.get(name).map(|secret| secret.expose().to_owned())
}

#[test]
fn a_secret_is_kept_changed_and_deleted_over_restarts() {
    let house = House::new();
    let vault = house.open(1, None).unwrap();
    let (known, fresh) = vault.set("p.main", Secret::new("sk-canary-1")).unwrap();
    assert!(fresh && known.created_at == UnixMicros(5));
    let other = vault.set("other", Secret::new("with a space")).unwrap().0;
    assert_ne!(known.fingerprint, other.fingerprint);
    assert_eq!(
        vault.set("third", Secret::new("sk-canary-1")).unwrap().0.fingerprint,
        known.fingerprint
    );
    assert!(vault.delete("third").unwrap() && !vault.delete("third").unwrap());
    drop(vault);
    let vault = house.open(1, None).unwrap();
    assert_eq!(vault.list(), [other, known.clone()], "by name, as they were");
    house.clock.set(UnixMicros(9));
    let (changed, fresh) = vault.set("p.main", Secret::new("sk-canary-2")).unwrap();
    assert!(!fresh);
    assert_eq!((changed.created_at, changed.changed_at), (UnixMicros(5), UnixMicros(9)));
    assert_ne!(changed.fingerprint, known.fingerprint);
    assert_eq!(value(&vault, "p.main").as_deref(), Some("sk-canary-2"));
    assert_eq!((value(&vault, "third"), vault.has("third")), (None, false));
    assert_eq!(vault.secrets().len(), 2);
    drop(vault);
    // The index is lost: the facts are not.
    std::fs::remove_dir_all(house.folder.path().join("store/sled")).unwrap();
    let vault = house.open(1, None).unwrap();
    assert_eq!(value(&vault, "p.main").as_deref(), Some("sk-canary-2"));
    assert!(!vault.has("third"), "what was deleted stays so");
}

#[test]
fn names_and_values_are_checked() {
    let house = House::new();
    let vault = house.open(1, None).unwrap();
    let long = "x".repeat(MAX_SECRET + 1);
    for (name, secret, field) in [
        ("", "good-secret", "name"),
        ("Upper", "good-secret", "name"),
        (".hidden", "good-secret", "name"),
        ("a/b", "good-secret", "name"),
        ("sk-live-canary", "good-secret", "name"),
        ("0123456789abcdef0123456789abcdef", "good-secret", "name"),
        ("good", "", "secret"),
        ("good", " around ", "secret"),
        ("good", "two\nlines", "secret"),
        ("good", "\u{e9}t\u{e9}", "secret"),
        ("good", &long, "secret"),
    ] {
        match vault.set(name, Secret::new(secret)) {
            Err(VaultError::Unfit { field: found, .. }) => assert_eq!(found, field, "{name:?} {secret:?}"),
            other => panic!("{name:?} {secret:?}: {other:?}"),
        }
    }
    assert!(vault.list().is_empty());
}

#[test]
fn records_open_at_their_own_name_and_times_only() {
    let house = House::new();
    let store = house.store();
    let vault = house.load(store.clone(), 1, None).unwrap();
    vault.set("one", Secret::new("the first secret")).unwrap();
    vault.set("two", Secret::new("the second secret")).unwrap();
    let of = |name: &str| store.secrets().get(name).unwrap().unwrap();
    let (one, two) = (of("one"), of("two"));
    store.secrets().put("one", &two).unwrap();
    store.secrets().put("two", &one).unwrap();
    let swapped = house.load(store.clone(), 1, None).unwrap();
    assert_eq!(
        (value(&swapped, "one"), value(&swapped, "two")),
        (None, None),
        "swapped records fail"
    );
    assert!(swapped.has("one") && swapped.list().iter().all(|known| known.fingerprint.is_none()));
    swapped.set("one", Secret::new("entered again")).unwrap();
    assert_eq!(value(&swapped, "one").as_deref(), Some("entered again"));
    // Every byte of a record counts: its times, its nonce, its text.
    let good = Record::read(&two).unwrap();
    let sealer = Sealer::new(&MasterKey::of_byte(1), PURPOSE);
    assert!(good.open(&sealer, "two").is_ok());
    for byte in 0..two.len() {
        for bit in 0..8 {
            let mut bad = two.clone();
            bad[byte] ^= 1 << bit;
            let opened = Record::read(&bad).is_some_and(|record| record.open(&sealer, "two").is_ok());
            assert!(!opened, "byte {byte}, bit {bit}");
        }
    }
}

#[test]
fn another_master_key_is_refused_and_says_so() {
    let house = House::new();
    drop(house.open(1, None).unwrap());
    let error = house.open(2, None).err().unwrap();
    assert!(matches!(error, VaultError::Keys(KeysError::WrongMasterKey)), "{error}");
    assert!(error.to_string().contains("master_key_previous"));
}

#[test]
fn a_rotation_survives_every_interruption_with_many_records() {
    const MANY: usize = 1500;
    let house = House::new();
    let store = house.store();
    let vault = house.load(store.clone(), 1, None).unwrap();
    for n in 0..MANY {
        vault
            .set(&format!("p.c{n}"), Secret::new(format!("sk-canary-{n}")))
            .unwrap();
    }
    let fingerprints: Vec<_> = vault.list();
    let all_there = |vault: &Vault| {
        for n in 0..MANY {
            assert_eq!(value(vault, &format!("p.c{n}")), Some(format!("sk-canary-{n}")));
        }
    };
    drop(vault);
    // Begun, and stopped half-way: a process that dies between two records.
    let vault = house.load(store.clone(), 2, Some(1)).unwrap();
    assert_eq!(vault.behind(), MANY);
    all_there(&vault);
    assert_eq!(vault.reseal(700).unwrap(), MANY - 700);
    drop(vault);
    let error = house.load(store.clone(), 2, None).err().unwrap();
    match &error {
        VaultError::OtherKey { count, .. } => assert_eq!(*count, MANY - 700),
        other => panic!("{other}"),
    }
    assert!(error.to_string().contains("master_key_previous"), "{error}");
    let error = house.load(store.clone(), 1, None).err().unwrap();
    assert!(
        matches!(error, VaultError::Keys(KeysError::WrongMasterKey)),
        "no way back: {error}"
    );
    // On it goes; meanwhile one is entered anew, one deleted, over a restart of the store too.
    drop(store);
    let store = house.store();
    let vault = house.load(store.clone(), 2, Some(1)).unwrap();
    assert_eq!(vault.behind(), MANY - 700);
    let behind: HashSet<Arc<str>> = {
        let held = vault.held.lock();
        held.iter()
            .filter(|(_, one)| vault.is_behind(one))
            .map(|(name, _)| name.clone())
            .collect()
    };
    let mut behind: Vec<_> = behind.into_iter().collect();
    behind.sort();
    let secret = vault.get(&behind[0]).unwrap();
    vault.set(&behind[0], secret).unwrap();
    assert_eq!(vault.behind(), MANY - 701);
    while vault.reseal(64).unwrap() > 0 {}
    all_there(&vault);
    drop((vault, store));
    let store = house.store();
    let vault = house.load(store.clone(), 2, None).unwrap();
    all_there(&vault);
    assert_eq!(vault.list(), fingerprints, "times and fingerprints are as they were");
    let text = std::fs::read(house.folder.path().join("store/facts.tgj")).unwrap();
    let old = KeyMark::of(&MasterKey::of_byte(1)).0;
    assert!(
        !text.windows(8).any(|window| window == old),
        "nothing which the old key opens is left among the facts"
    );
}

#[test]
fn no_file_holds_a_secret() {
    let house = House::new();
    let vault = house.open(1, None).unwrap();
    vault.set("one", Secret::new("sk-canary-in-no-file")).unwrap();
    drop(vault);
    let mut folders = vec![house.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = std::fs::read(&path).unwrap();
                assert!(
                    !bytes.windows(6).any(|window| window == b"canary"),
                    "{}",
                    path.display()
                );
            }
        }
    }
}
