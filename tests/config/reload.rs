//! Hot reload: all or nothing, the last good rules stay, whatever way a file is changed.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tollgate::clock::{Clock, UnixMicros};
use tollgate::rules::{Live, compile};

use super::{Folder, PROVIDER};

/// A file whose only provider has this name.
fn named(name: &str) -> String {
    PROVIDER.replace("provider.a", &format!("provider.{name}"))
}

fn live(folder: &Path) -> Arc<Live> {
    let clock = Clock::manual(UnixMicros(1_000_000));
    let (rules, _) = compile(folder, &clock).unwrap();
    Live::new(folder.to_owned(), rules, clock)
}

fn has(live: &Live, name: &str) -> bool {
    live.load().provider(name).is_some()
}

/// Waits for what the watcher does on its own thread. The bound is only for a test that fails.
#[track_caller]
fn wait(what: &str, mut met: impl FnMut() -> bool) {
    let since = Instant::now();
    while !met() {
        assert!(since.elapsed() < Duration::from_secs(30), "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn metric(name: &str, label: Option<&str>) -> f64 {
    let families = prometheus::gather();
    let family = families.iter().find(|f| f.name() == name).unwrap();
    let metrics = family.get_metric();
    let metric = metrics
        .iter()
        .find(|m| label.is_none_or(|label| m.get_label().iter().any(|l| l.value() == label)))
        .unwrap();
    metric.get_counter().get_value() + metric.get_gauge().get_value()
}

#[test]
fn a_mistake_leaves_the_last_good_rules_in_force() {
    let folder = Folder::with(&[("a.toml", &named("a"))]);
    let live = live(folder.path());
    assert!(live.status().ok && live.status().problems.is_empty());

    folder.write("a.toml", named("b"));
    folder.write("b.toml", "[provider.c]\n");
    let failed = metric("tollgate_rules_reloads_total", Some("failed"));
    let problems = live.reload().unwrap_err();
    assert!(has(&live, "a") && !has(&live, "b"), "all or nothing");
    assert!(!live.status().ok);
    assert_eq!(live.status().problems, problems);
    assert!(metric("tollgate_rules_reloads_total", Some("failed")) > failed);

    folder.write("b.toml", named("c"));
    live.reload().unwrap();
    assert!(!has(&live, "a") && has(&live, "b") && has(&live, "c"));
    assert!(live.status().ok);
    assert!(metric("tollgate_rules_reloads_total", Some("ok")) >= 1.0);
    assert!(metric("tollgate_rules_loaded_timestamp_seconds", None) >= 1.0);

    live.reload().expect("what did not change reloads too");
}

#[test]
fn a_pinned_snapshot_outlives_a_reload() {
    let folder = Folder::with(&[("a.toml", &named("a"))]);
    let live = live(folder.path());
    let pinned = live.load();
    folder.write("a.toml", named("b"));
    live.reload().unwrap();
    assert!(pinned.provider("a").is_some() && has(&live, "b"));
}

#[test]
fn hooks_see_new_rules_before_requests_do() {
    let folder = Folder::with(&[("a.toml", &named("a"))]);
    let live = live(folder.path());
    let calls = Arc::new(AtomicUsize::new(0));
    let (seen, of) = (calls.clone(), Arc::downgrade(&live));
    live.on_change(Box::new(move |rules| {
        assert!(rules.provider("b").is_some());
        assert!(!has(&of.upgrade().unwrap(), "b"));
        seen.fetch_add(1, Ordering::SeqCst);
    }));
    folder.write("a.toml", "not toml");
    live.reload().unwrap_err();
    assert_eq!(calls.load(Ordering::SeqCst), 0, "no new rules, no call");
    folder.write("a.toml", named("b"));
    live.reload().unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

#[test]
fn the_watcher_sees_every_way_of_changing_a_file() {
    let folder = Folder::with(&[("a.toml", &named("a"))]);
    let live = live(folder.path());
    // What changes before the watcher stands is seen too.
    folder.write("a.toml", named("before"));
    let watch = live.watch().unwrap();
    wait("a change before", || has(&live, "before"));

    folder.write("a.toml", named("written"));
    wait("written in place", || has(&live, "written"));

    let new = folder.write("a.toml.new", named("renamed"));
    std::fs::rename(new, folder.path().join("a.toml")).unwrap();
    wait("replaced by a rename", || has(&live, "renamed"));

    // vim: the old file is moved away, the new one written under its name.
    std::fs::rename(folder.path().join("a.toml"), folder.path().join("a.toml~")).unwrap();
    folder.write("a.toml", named("moved"));
    wait("moved away and written", || has(&live, "moved"));

    folder.write("b.toml", named("added"));
    wait("a file added", || has(&live, "added"));

    std::fs::remove_file(folder.path().join("b.toml")).unwrap();
    wait("a file removed", || !has(&live, "added"));

    folder.write("a.toml", "[provider.x]\n");
    wait("a mistake", || !live.status().ok);
    assert!(has(&live, "moved"), "the last good rules stay");

    folder.write("a.toml", named("mended"));
    wait("the mistake mended", || live.status().ok && has(&live, "mended"));
    drop(watch);
}

#[test]
fn the_watcher_follows_a_folder_that_goes_and_comes_back() {
    let outer = Folder::new();
    let folder = outer.path().join("rules");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("a.toml"), named("a")).unwrap();
    let live = live(&folder);
    let _watch = live.watch().unwrap();

    // As deployments do: a new folder takes the old one's place.
    let new = outer.path().join("new");
    std::fs::create_dir(&new).unwrap();
    std::fs::write(new.join("a.toml"), named("b")).unwrap();
    std::fs::rename(&folder, outer.path().join("old")).unwrap();
    wait("the folder gone", || !live.status().ok);
    assert!(has(&live, "a"), "the last good rules stay");
    std::fs::rename(&new, &folder).unwrap();
    wait("the folder back", || live.status().ok && has(&live, "b"));

    // The new folder is watched as the old one was.
    std::fs::write(folder.join("a.toml"), named("c")).unwrap();
    wait("a change in the new folder", || has(&live, "c"));
}

#[test]
fn a_dropped_watch_watches_no_more() {
    let folder = Folder::with(&[("a.toml", &named("a"))]);
    let live = live(folder.path());
    drop(live.watch().unwrap());
    folder.write("a.toml", named("b"));
    assert_eq!(Arc::strong_count(&live), 1, "its thread is gone");
    assert!(!has(&live, "b"));
}

#[test]
fn the_watcher_survives_a_hook_that_panics() {
    let folder = Folder::with(&[("a.toml", &named("a"))]);
    let live = live(folder.path());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    live.on_change(Box::new(move |_| {
        assert!(
            counted.fetch_add(1, Ordering::SeqCst) > 0,
            "the first call panics, as this test wants"
        );
    }));
    let _watch = live.watch().unwrap();
    folder.write("a.toml", named("b"));
    wait("the hook called", || calls.load(Ordering::SeqCst) == 1);
    folder.write("a.toml", named("c"));
    wait("the next change", || has(&live, "c"));
}
