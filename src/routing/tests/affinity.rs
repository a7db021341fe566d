//! What names a conversation, where it is remembered, and that it stays.

use std::time::Duration;

use http::HeaderName;

use super::*;
use crate::dialects::Outline;
use crate::routing::affinity::{Affinities, Kept, Scope, Session, Sticky, named};
use crate::upstream::Failure;

const SESSION: Session = Session { id: 7, named: true };

fn sticky(provider: &str) -> Sticky {
    Sticky {
        provider: provider.into(),
        credential: Some("c0".into()),
        model: None,
    }
}

#[test]
fn a_header_wins_over_the_cache_key_and_ours_over_the_clients() {
    let mut headers = HeaderMap::new();
    headers.insert("session-id", " one ".parse().unwrap());
    headers.insert("x-mine", "two".parse().unwrap());
    let outline = Outline {
        cache_key: Some("three".into()),
        ..Outline::default()
    };
    let mine = [HeaderName::from_static("x-mine")];
    let id = |dialect: &[&str], configured: &[HeaderName], headers: &HeaderMap, outline: &Outline, key: &str| {
        let session = named(dialect, configured, headers, outline, key)?;
        assert!(session.named);
        Some(session.id)
    };
    let none = HeaderMap::new();
    let by_mine = id(&["session-id"], &mine, &headers, &outline, "k");
    let by_dialect = id(&["other", "session-id"], &[], &headers, &outline, "k");
    let by_body = id(&["session-id"], &mine, &none, &outline, "k");
    assert!(by_mine.is_some() && by_dialect.is_some() && by_body.is_some());
    assert!(by_mine != by_dialect && by_dialect != by_body);
    assert_ne!(
        id(&["session-id"], &[], &headers, &outline, "other"),
        by_dialect,
        "each key has its own"
    );
    assert_eq!(id(&[], &[], &none, &Outline::default(), "k"), None);
    let mut odd = HeaderMap::new();
    odd.insert("session-id", "  ".parse().unwrap());
    assert_eq!(
        id(&["session-id"], &[], &odd, &Outline::default(), "k"),
        None,
        "empty is no name"
    );
    odd.insert("session-id", "x".repeat(513).parse().unwrap());
    assert_eq!(
        id(&["session-id"], &[], &odd, &Outline::default(), "k"),
        None,
        "nor is a novel"
    );
}

#[test]
fn a_place_is_remembered_and_forgotten() {
    let table = Affinities::new(1000, Duration::from_secs(60));
    let (now, scope) = (Instant::now(), Scope(1 << 40));
    let after = |seconds| now + Duration::from_secs(seconds);
    assert_eq!(table.get(scope, now), None);
    assert_eq!(table.keep(scope, sticky("a"), now), Kept::Fresh);
    assert_eq!(table.get(scope, after(59)), Some(sticky("a")));
    assert_eq!(table.keep(scope, sticky("a"), after(59)), Kept::Stayed);
    assert_eq!(
        table.get(scope, after(118)),
        Some(sticky("a")),
        "each success begins it anew"
    );
    assert_eq!(table.keep(scope, sticky("b"), after(118)), Kept::Moved);
    assert_eq!(table.get(scope, after(118)), Some(sticky("b")));
    assert_eq!(table.get(scope, after(178)), None);
    assert_eq!(table.keep(scope, sticky("b"), after(178)), Kept::Fresh);
}

#[test]
fn the_table_is_bounded_and_keeps_what_is_in_use() {
    let table = Affinities::new(1600, Duration::from_secs(3600));
    let now = Instant::now();
    let scope = |n: u64| Scope(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    table.keep(scope(0), sticky("a"), now);
    for n in 1..20_000 {
        table.keep(scope(n), sticky("b"), now);
        assert_eq!(table.get(scope(0), now), Some(sticky("a")), "after {n}");
        assert!(table.len() <= 1600, "{}", table.len());
    }
    assert_eq!(table.get(scope(1), now), None);
    assert!(table.get(scope(19_999), now).is_some());
    assert!(table.len() >= 700);
}

fn three() -> Fleet {
    Rig::of("a b c")
        .route("r", &["m"], "a b c", |rig, route| route.fallback = rig.targets("a:f"))
        .fleet()
}

#[test]
fn a_conversation_stays_where_it_was() {
    let fleet = three();
    let now = Instant::now();
    for _ in 0..10 {
        let mut plan = plan(&fleet, "m").unwrap();
        plan.stick(Some(&sticky("b")));
        let choice = plan.next(now).unwrap();
        assert_eq!(name(&choice), "b/c0");
        assert_eq!(plan.remembered(choice.index, &choice.hold), Some(sticky("b")));
    }
    assert_eq!(
        name(&plan(&fleet, "m").unwrap().next(now).unwrap()),
        "a/c0",
        "others keep their turns"
    );
}

#[test]
fn it_moves_when_that_fails_and_a_fallback_is_no_home() {
    let fleet = three();
    let now = Instant::now();
    let mut plan = plan(&fleet, "m").unwrap();
    plan.stick(Some(&sticky("b")));
    let mut places = Vec::new();
    for _ in 0..4 {
        let choice = plan.next(now).unwrap();
        places.push((name(&choice), plan.remembered(choice.index, &choice.hold).is_some()));
        plan.failed(choice.index, Failure::RateLimited);
    }
    let told: Vec<(&str, bool)> = places.iter().map(|(name, home)| (name.as_str(), *home)).collect();
    assert_eq!(told, [("b/c0", true), ("a/c0", true), ("c/c0", true), ("a/c0", false)]);
}

#[test]
fn a_place_that_is_gone_is_no_place() {
    let fleet = three();
    let now = Instant::now();
    let other_model = Sticky {
        model: Some("f".into()),
        ..sticky("a")
    };
    let mut first = Vec::new();
    for place in [sticky("z"), other_model] {
        let mut plan = plan(&fleet, "m").unwrap();
        plan.stick(Some(&place));
        first.push(name(&plan.next(now).unwrap()));
    }
    assert_eq!(
        first,
        ["a/c0", "b/c0"],
        "by turns; the fallback's model is not looked for"
    );
}

#[test]
fn the_route_says_whether_it_is_wanted() {
    let scope = |affinity, named, targets| {
        let fleet = Rig::new([provider("a", 1), provider("b", 1), provider("two", 2), open("o")])
            .route("r", &["m"], targets, |_, route| route.affinity = affinity)
            .fleet();
        plan(&fleet, "m").unwrap().scope(Some(Session { id: 1, named }))
    };
    assert!(scope(Affinity::Auto, false, "a b").is_some());
    assert!(scope(Affinity::Session, true, "a b").is_some());
    assert!(scope(Affinity::Session, false, "a b").is_none());
    assert!(scope(Affinity::Off, true, "a b").is_none());
    assert!(
        scope(Affinity::Auto, true, "two").is_some(),
        "two credentials are a choice"
    );
    assert!(scope(Affinity::Auto, true, "a").is_none(), "nothing to choose");
    assert!(scope(Affinity::Auto, true, "o").is_none());
    let fleet = Rig::of("a b")
        .route("r", &["m"], "a b", |_, _| {})
        .route("s", &["n"], "a b", |_, _| {})
        .fleet();
    assert_ne!(
        plan(&fleet, "m").unwrap().scope(Some(SESSION)),
        plan(&fleet, "n").unwrap().scope(Some(SESSION)),
        "each route for itself"
    );
    assert_eq!(plan(&fleet, "m").unwrap().scope(None), None);
}
