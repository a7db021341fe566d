//! Keys from making to revoking, and over restarts.

use std::fs;

use super::*;
use crate::clock::UnixMicros;

const CACHE: u64 = 16 << 20;

struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        House {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn open(&self) -> Keys {
        let store = Arc::new(Store::open(&self.folder.path().join("store"), CACHE).unwrap());
        let master = MasterKey::load(&self.folder.path().join("master.key"), !Keys::sealed(&store).unwrap()).unwrap();
        Keys::load(store, &master, Arc::default(), Clock::manual(UnixMicros(5))).unwrap()
    }
}

/// Whose key it is.
fn who(ring: &Ring, presented: &[u8]) -> Result<Arc<ClientKey>, KeyError> {
    ring.authenticate(presented).map(|grant| grant.key.clone())
}

fn named(name: &str) -> NewKey {
    NewKey {
        name: name.into(),
        ..NewKey::default()
    }
}

#[test]
fn a_key_lives_from_creation_to_revocation_over_restarts() {
    let house = House::new();
    let keys = house.open();
    let (key, text) = keys.create(named("first")).unwrap();
    let presented = text.0.expose().as_bytes();
    assert_eq!(who(keys.ring(), presented).unwrap(), key);
    let other = KeyText::generate().unwrap();
    assert_eq!(who(keys.ring(), other.0.expose().as_bytes()), Err(KeyError::Unknown));
    assert_eq!(who(keys.ring(), b"sk-tg-nonsense"), Err(KeyError::Malformed));
    drop(keys);
    let keys = house.open();
    assert_eq!(who(keys.ring(), presented).unwrap(), key, "a key survives a restart");
    let ring = keys.ring().clone();
    let revoked = keys.revoke(&key.id).unwrap();
    assert_eq!(
        who(&ring, presented),
        Err(KeyError::Revoked),
        "refused at once, everywhere"
    );
    assert_eq!(revoked.revoked_at, Some(UnixMicros(5)));
    assert_eq!(keys.revoke(&key.id).unwrap(), revoked, "twice is no error");
    assert!(matches!(
        keys.revoke(&KeyId("nobody".into())),
        Err(KeysError::NoSuchKey(_))
    ));
    drop(keys);
    let keys = house.open();
    assert_eq!(who(keys.ring(), presented), Err(KeyError::Revoked));
    assert_eq!(keys.list(), std::slice::from_ref(&revoked));
    assert_eq!(keys.get(&key.id), Some(revoked));
}

#[test]
fn keys_survive_a_lost_index() {
    let house = House::new();
    let keys = house.open();
    let (key, text) = keys.create(named("kept")).unwrap();
    let (gone, gone_text) = keys.create(named("gone")).unwrap();
    keys.revoke(&gone.id).unwrap();
    drop(keys);
    fs::remove_dir_all(house.folder.path().join("store/sled")).unwrap();
    let keys = house.open();
    assert_eq!(who(keys.ring(), text.0.expose().as_bytes()).unwrap(), key);
    assert_eq!(
        who(keys.ring(), gone_text.0.expose().as_bytes()),
        Err(KeyError::Revoked)
    );
}

#[test]
fn another_master_key_is_refused() {
    let house = House::new();
    drop(house.open());
    fs::remove_file(house.folder.path().join("master.key")).unwrap();
    let store = Arc::new(Store::open(&house.folder.path().join("store"), CACHE).unwrap());
    assert!(Keys::sealed(&store).unwrap());
    let master = MasterKey::load(&house.folder.path().join("other.key"), true).unwrap();
    assert!(matches!(
        Keys::load(store, &master, Arc::default(), Clock::system()),
        Err(KeysError::WrongMasterKey)
    ));
}

#[test]
fn no_file_holds_a_key() {
    let house = House::new();
    let keys = house.open();
    let (_, text) = keys.create(named("first")).unwrap();
    drop(keys);
    let secret = &text.0.expose().as_bytes()[19..];
    let mut folders = vec![house.folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let bytes = fs::read(&path).unwrap();
                assert!(
                    !bytes.windows(secret.len()).any(|window| window == secret),
                    "{} holds a secret",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn names_are_checked() {
    let house = House::new();
    let keys = house.open();
    for bad in ["", "  ", "a\nb", &"x".repeat(101)] {
        assert!(matches!(
            keys.create(named(bad)),
            Err(KeysError::Unfit { field: "name", .. })
        ));
        let new = NewKey {
            name: "good".into(),
            owner: Some(bad.into()),
            ..NewKey::default()
        };
        assert!(matches!(keys.create(new), Err(KeysError::Unfit { field: "owner", .. })));
    }
    assert!(keys.list().is_empty());
    keys.create(named(&"é".repeat(100))).unwrap();
}

#[test]
fn tags_are_checked_and_kept() {
    let house = House::new();
    let keys = house.open();
    let tagged = |tags: Vec<String>| NewKey {
        tags,
        ..named("tagged")
    };
    let many = |count: usize| (0..count).map(|at| format!("tag {at}")).collect::<Vec<_>>();
    for bad in [
        many(TAGS_MAX + 1),
        vec![String::new()],
        vec!["a".into(), " ".into()],
        vec!["x".repeat(TAG_MAX + 1)],
        vec!["a\nb".into()],
        vec!["twice".into(), "once".into(), "twice".into()],
    ] {
        let refused = keys.create(tagged(bad.clone()));
        assert!(
            matches!(refused, Err(KeysError::Unfit { field: "tags", .. })),
            "{bad:?}"
        );
    }
    let mut most = many(TAGS_MAX - 1);
    most.push("\u{e9}".repeat(TAG_MAX));
    let (key, text) = keys.create(tagged(most.clone())).unwrap();
    drop(keys);
    let keys = house.open();
    let known = who(keys.ring(), text.0.expose().as_bytes()).unwrap();
    assert_eq!(
        (&known, &known.tags),
        (&key, &most),
        "a request's key has its tags, after a restart too"
    );
    assert_eq!(keys.revoke(&key.id).unwrap().tags, most);
}

#[test]
fn equality_fails_closed_on_empty() {
    assert!(ct_eq(b"a", b"a"));
    assert!(!ct_eq(b"a", b"b") && !ct_eq(b"a", b"ab"));
    assert!(!ct_eq(b"", b"") && !ct_eq(b"", b"a"));
}
