//! Keys from making to revoking, and over restarts.

use std::fs;
use std::time::Duration;

use super::*;
use crate::clock::UnixMicros;
use crate::limits::{Budget, Window};
use crate::money::NanoUsd;

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

const HOUR: i64 = 3_600_000_000;

fn presented(text: &KeyText) -> &[u8] {
    text.0.expose().as_bytes()
}

/// Keys, and the clock they go by, which stands at 5.
fn with_clock(house: &House) -> (Keys, Clock) {
    let clock = Clock::manual(UnixMicros(5));
    let store = Arc::new(Store::open(&house.folder.path().join("store"), CACHE).unwrap());
    let master = MasterKey::load(&house.folder.path().join("master.key"), true).unwrap();
    (
        Keys::load(store, &master, Arc::default(), clock.clone()).unwrap(),
        clock,
    )
}

#[test]
fn a_group_governs_its_keys_at_once_and_over_restarts() {
    let house = House::new();
    let keys = house.open();
    let refused = keys.create(NewKey {
        group: Some(GroupId("team".into())),
        ..named("lost")
    });
    assert!(matches!(refused, Err(KeysError::Unfit { field: "group", .. })));
    keys.create_group("team", NewGroup::default()).unwrap();
    let member = NewKey {
        group: Some(GroupId("team".into())),
        ..named("member")
    };
    let (_, text) = keys.create(member).unwrap();
    let (_, other) = keys.create(named("other")).unwrap();
    let grant = |keys: &Keys, text| keys.ring().authenticate(presented(text)).unwrap();
    let now = UnixMicros(5);
    assert!(grant(&keys, &text).may_ask("large") && grant(&keys, &text).check(None, now).is_ok());
    assert!(grant(&keys, &text).chain.group().is_some() && grant(&keys, &other).chain.group().is_none());

    let team = GroupId("team".into());
    let changed = keys.update_group(&team, Some(1), |group| {
        group.policy.models = vec!["small*".into()];
        group.policy.limits.concurrent = Some(3);
    });
    assert_eq!(changed.unwrap().revision, 2);
    assert!(matches!(
        keys.update_group(&team, Some(1), |_| {}),
        Err(KeysError::Changed(2))
    ));
    assert!(!grant(&keys, &text).may_ask("large") && grant(&keys, &text).may_ask("small-1"));
    assert!(grant(&keys, &other).may_ask("large"));
    let limits = grant(&keys, &text).chain.group().unwrap().limits();
    assert_eq!(limits.concurrent, Some(3), "its account has the new limits");

    drop(keys);
    let keys = house.open();
    assert!(!grant(&keys, &text).may_ask("large"), "after a restart too");
    keys.update_group(&team, None, |group| group.policy.disabled = true)
        .unwrap();
    assert_eq!(grant(&keys, &text).check(None, now), Err(Denied::GroupDisabled));
    keys.delete_group(&team).unwrap();
    keys.delete_group(&team).unwrap();
    assert_eq!(grant(&keys, &text).check(None, now), Err(Denied::GroupDeleted));
    assert!(grant(&keys, &other).check(None, now).is_ok());
    assert!(matches!(
        keys.create_group("team", NewGroup::default()),
        Err(KeysError::GroupExists(_))
    ));
    assert!(matches!(
        keys.update_group(&team, None, |_| {}),
        Err(KeysError::GroupDeleted(_))
    ));
    let id = grant(&keys, &text).key.id.clone();
    keys.update(&id, None, |key| key.group = None).unwrap();
    assert!(
        grant(&keys, &text).check(None, now).is_ok(),
        "it left the deleted group"
    );
}

#[test]
fn a_change_of_a_key_holds_at_once_and_is_guarded_by_its_version() {
    let house = House::new();
    let keys = house.open();
    let (key, text) = keys.create(named("first")).unwrap();
    let changed = keys
        .update(&key.id, Some(1), |key| {
            key.policy.disabled = true;
            key.policy.limits.concurrent = Some(0);
            key.tags = vec!["a".into()];
        })
        .unwrap();
    assert_eq!(changed.revision, 2);
    let grant = keys.ring().authenticate(presented(&text)).unwrap();
    assert_eq!(grant.check(None, UnixMicros(5)), Err(Denied::Disabled));
    assert_eq!(grant.chain.key().limits().concurrent, Some(0));
    assert!(matches!(
        keys.update(&key.id, Some(1), |_| {}),
        Err(KeysError::Changed(2))
    ));
    let same = keys.update(&key.id, Some(2), |_| {}).unwrap();
    assert_eq!(same.revision, 2, "what changes nothing is not written");
    let unfit = keys.update(&key.id, None, |key| key.policy.models = vec!["[".into()]);
    assert!(matches!(
        unfit,
        Err(KeysError::Unfit {
            field: "policy.models",
            ..
        })
    ));
    assert_eq!(keys.record(&key.id).unwrap().revision, 2);
}

#[test]
fn a_rotated_key_has_two_secrets_until_the_overlap_ends() {
    let house = House::new();
    let (keys, clock) = with_clock(&house);
    let (key, first) = keys.create(named("first")).unwrap();
    let (record, second) = keys.rotate(&key.id, Duration::from_secs(3600)).unwrap();
    assert_eq!((record.secrets.len(), &record.key.last4), (2, &second.last4()));
    assert_eq!(second.id(), key.id, "the public part stays");
    for text in [&first, &second] {
        assert_eq!(who(keys.ring(), presented(text)).unwrap().id, key.id);
    }
    clock.set(UnixMicros(5 + HOUR));
    assert_eq!(who(keys.ring(), presented(&first)), Err(KeyError::Replaced));
    assert!(who(keys.ring(), presented(&second)).is_ok());
    let (record, third) = keys.rotate(&key.id, Duration::ZERO).unwrap();
    assert_eq!(record.secrets.len(), 2, "what had ended is forgotten");
    assert_eq!(who(keys.ring(), presented(&first)), Err(KeyError::Unknown));
    assert_eq!(who(keys.ring(), presented(&second)), Err(KeyError::Replaced));
    assert!(who(keys.ring(), presented(&third)).is_ok());
    for _ in 0..3 {
        keys.rotate(&key.id, Duration::from_secs(60)).unwrap();
    }
    let most = keys.rotate(&key.id, Duration::from_secs(60));
    assert!(matches!(most, Err(KeysError::ManySecrets)));
    keys.revoke(&key.id).unwrap();
    assert_eq!(
        who(keys.ring(), presented(&third)),
        Err(KeyError::Revoked),
        "all of them at once"
    );
    assert!(matches!(
        keys.rotate(&key.id, Duration::ZERO),
        Err(KeysError::IsRevoked(_))
    ));
    drop(keys);
    let (keys, _) = with_clock(&house);
    assert_eq!(who(keys.ring(), presented(&third)), Err(KeyError::Revoked));
}

#[test]
fn an_imported_key_is_known_by_the_hash_of_its_text() {
    use sha2::Digest;
    let house = House::new();
    let keys = house.open();
    let theirs = "sk-proj-canary_0123456789";
    assert_eq!(who(keys.ring(), theirs.as_bytes()), Err(KeyError::Malformed));
    let import = |text: &str| NewImport {
        sha256: sha2::Sha256::digest(text).into(),
        hint: "sk-p\u{2026}89".into(),
        key: named("taken over"),
    };
    let ours = KeyText::generate().unwrap();
    let all = vec![import(theirs), import(theirs), import(ours.0.expose())];
    let done = keys.import(all).unwrap();
    assert_eq!((done.made.len(), done.known.len()), (2, 1));
    assert_eq!(done.known[0], done.made[0].key.id);
    assert_eq!(done.made[0].secrets[0].hint, "sk-p\u{2026}89");
    let id = done.made[0].key.id.clone();
    assert_eq!(who(keys.ring(), theirs.as_bytes()).unwrap().id, id);
    assert!(
        who(keys.ring(), presented(&ours)).is_ok(),
        "a key of another gateway of this kind"
    );
    for (text, refused) in [
        ("sk-proj-canary_012345678", KeyError::Unknown),
        ("sk-tg-nonsense", KeyError::Malformed),
        ("", KeyError::Unknown),
    ] {
        assert_eq!(who(keys.ring(), text.as_bytes()), Err(refused), "{text}");
    }
    assert_eq!(who(keys.ring(), &[b'x'; 100_000]), Err(KeyError::Unknown));
    let (_, renewed) = keys.rotate(&id, Duration::ZERO).unwrap();
    assert_eq!(who(keys.ring(), theirs.as_bytes()), Err(KeyError::Replaced));
    drop(keys);
    let keys = house.open();
    assert_eq!(who(keys.ring(), presented(&renewed)).unwrap().id, id);
    assert_eq!(who(keys.ring(), theirs.as_bytes()), Err(KeyError::Replaced));
    let again = keys.import(vec![import(theirs)]).unwrap();
    assert_eq!(
        (again.made.len(), again.known),
        (0, vec![id]),
        "what is known stays as it is"
    );
    let mut unfit = vec![import("first of two"), import("second of two")];
    unfit[1].key.name.clear();
    assert!(keys.import(unfit).is_err());
    assert_eq!(who(keys.ring(), b"firstoftwo"), Err(KeyError::Unknown), "all or none");
    assert_eq!(keys.list().len(), 2);
}

#[test]
fn pages_hold_every_key_once_in_the_order_of_their_making() {
    let house = House::new();
    let (keys, clock) = with_clock(&house);
    for at in 0..25 {
        clock.set(UnixMicros(5 + at / 3));
        let owner = (at % 2 == 0).then(|| "even".to_owned());
        keys.create(NewKey {
            owner,
            ..named(&format!("key {at}"))
        })
        .unwrap();
    }
    let read = |wanted: &Wanted, limit| {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let page = keys.page(wanted, after.as_ref(), limit);
            assert!(page.keys.len() == limit || page.next.is_none());
            names.extend(page.keys.iter().map(|record| record.key.id.clone()));
            after = page.next;
            if after.is_none() {
                return names;
            }
        }
    };
    let all: Vec<KeyId> = keys.list().iter().map(|key| key.id.clone()).collect();
    for limit in [1, 4, 5, 25, 100] {
        assert_eq!(read(&Wanted::default(), limit), all, "{limit}");
    }
    let even = Wanted {
        owner: Some("even".into()),
        ..Wanted::default()
    };
    assert_eq!(read(&even, 4).len(), 13);
    keys.revoke(&all[0]).unwrap();
    for (state, count) in [(KeyState::Active, 24), (KeyState::Revoked, 1), (KeyState::Expired, 0)] {
        let wanted = Wanted {
            state: Some(state),
            ..Wanted::default()
        };
        assert_eq!(read(&wanted, 7).len(), count, "{state:?}");
    }
}

#[test]
fn policies_are_checked() {
    let house = House::new();
    let keys = house.open();
    let many = |count: usize| (0..count).map(|at| format!("n{at}")).collect::<Vec<_>>();
    type Change = Box<dyn Fn(&mut Policy)>;
    let cases: Vec<(&str, Change)> = vec![
        ("policy.models", Box::new(move |p| p.models = many(65))),
        ("policy.models", Box::new(|p| p.models = vec!["a".into(), "a".into()])),
        ("policy.models", Box::new(|p| p.models = vec![String::new()])),
        ("policy.models", Box::new(|p| p.models = vec!["x".repeat(257)])),
        ("policy.models", Box::new(|p| p.models = vec!["{a".into()])),
        ("policy.routes", Box::new(|p| p.routes = vec![" a".into()])),
        ("policy.providers", Box::new(|p| p.providers = vec!["Upper".into()])),
        (
            "policy.budgets",
            Box::new(|p| p.limits.budgets = vec![budget(Window::Day), budget(Window::Day)]),
        ),
        (
            "policy.budgets",
            Box::new(|p| {
                p.limits.budgets = vec![Budget {
                    requests: None,
                    ..budget(Window::Day)
                }];
            }),
        ),
        (
            "policy.time_zone",
            Box::new(|p| p.limits.time_zone = Some("Middle/Earth".into())),
        ),
        (
            "policy.tokens_per_minute",
            Box::new(|p| p.limits.tokens_per_minute = Some(1 << 53)),
        ),
        (
            "policy.requests_per_minute",
            Box::new(|p| p.limits.requests_per_minute = Some(1_000_000_001)),
        ),
        ("policy.concurrent", Box::new(|p| p.limits.concurrent = Some(1_000_001))),
        (
            "policy.budgets",
            Box::new(|p| {
                p.limits.budgets = vec![Budget {
                    money: Some(NanoUsd::MAX),
                    ..budget(Window::Total)
                }];
            }),
        ),
    ];
    for (field, change) in cases {
        let mut key = named("policy");
        change(&mut key.policy);
        match keys.create(key) {
            Err(KeysError::Unfit { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{field}: {other:?}"),
        }
    }
    let mut key = named("policy");
    key.policy.models = vec!["gpt-*".into(), "vendor/model".into()];
    key.policy.routes = vec!["a route with a name".into()];
    key.policy.limits.time_zone = Some("Asia/Shanghai".into());
    key.policy.limits.budgets = vec![budget(Window::Day), budget(Window::Total)];
    keys.create(key).unwrap();
}

fn budget(window: Window) -> Budget {
    Budget {
        window,
        requests: Some(0),
        tokens: None,
        money: None,
    }
}

/// Told, not asserted: times are the machine's.
#[test]
#[ignore = "a measurement: cargo test --lib -- --ignored --nocapture a_change_among_many_keys"]
fn a_change_among_many_keys() {
    use std::time::Instant;
    let house = House::new();
    let keys = house.open();
    keys.create_group("all", NewGroup::default()).unwrap();
    let began = Instant::now();
    for batch in 0..200 {
        let import = |at: u32| {
            let mut sha256 = [0; 32];
            sha256[..4].copy_from_slice(&(batch * 500 + at).to_le_bytes());
            let mut key = named("many");
            key.group = Some(GroupId("all".into()));
            key.policy.models = vec!["gpt-*".into(), format!("model-{}", at % 10)];
            key.policy.limits.time_zone = Some("Europe/Berlin".into());
            key.policy.limits.budgets = vec![Budget {
                money: Some(NanoUsd(1)),
                ..budget(Window::Month)
            }];
            NewImport {
                sha256,
                hint: "x".into(),
                key,
            }
        };
        keys.import((0..500).map(import).collect()).unwrap();
    }
    println!("importing 100,000 keys: {:?}", began.elapsed());
    let (key, _) = keys.create(named("one")).unwrap();
    let began = Instant::now();
    keys.ring().change(|_| {});
    println!("a copy of the ring: {:?}", began.elapsed());
    let began = Instant::now();
    keys.update(&key.id, None, |key| key.policy.disabled = true).unwrap();
    println!("a change of one key (with its fsync): {:?}", began.elapsed());
    let stored = keys.known.lock().keys[&key.id].clone();
    let began = Instant::now();
    keys.ring().change(|ring| stored.put_into(ring));
    println!("of that, the ring: {:?}", began.elapsed());
    let began = Instant::now();
    let all = GroupId("all".into());
    keys.update_group(&all, None, |group| group.policy.disabled = true)
        .unwrap();
    println!("a change of the group of 100,000: {:?}", began.elapsed());
    drop(keys);
    let began = Instant::now();
    let store = Arc::new(Store::open(&house.folder.path().join("store"), CACHE).unwrap());
    println!("opening the store: {:?}", began.elapsed());
    let master = MasterKey::load(&house.folder.path().join("master.key"), false).unwrap();
    let began = Instant::now();
    let keys = Keys::load(store, &master, Arc::default(), Clock::manual(UnixMicros(5))).unwrap();
    println!("loading the keys: {:?}", began.elapsed());
    drop(keys);
}
