use flate2::read::GzDecoder;

use super::*;

const DAY: i64 = 86_400_000_000;
/// 2026-01-31T12:00:00Z.
const NOON: UnixMicros = UnixMicros(1_769_860_800_000_000);

fn after(days: i64) -> UnixMicros {
    UnixMicros(NOON.0 + days * DAY)
}

fn rotation() -> Rotation {
    Rotation {
        min_free: 0,
        ..Rotation::default()
    }
}

/// A log in a folder of its own.
fn files(rotation: Rotation) -> (tempfile::TempDir, Files) {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::new(&folder.path().join("access.log"), rotation);
    (folder, files)
}

fn names(folder: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(folder.path()).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_file_is_put_away_when_its_day_is_over_or_when_it_is_large() {
    let (_folder, files) = files(Rotation {
        max_file: 1000,
        ..rotation()
    });
    let (evening, midnight) = (UnixMicros(NOON.0 + DAY / 2 - 1), UnixMicros(NOON.0 + DAY / 2));
    assert!(!files.is_due(NOON, 10, evening));
    assert!(files.is_due(NOON, 10, midnight), "midnight of UTC");
    assert!(!files.is_due(midnight, 10, midnight));
    assert!(!files.is_due(NOON, 0, after(3)), "an empty file is of no use");
    assert!(files.is_due(NOON, 1000, NOON));
    assert!(!files.is_due(midnight, 10, NOON), "a clock set back");
    let never = Files::new(
        Path::new("access.log"),
        Rotation {
            every: None,
            ..rotation()
        },
    );
    assert!(!never.is_due(NOON, 10, after(1000)));
}

#[test]
fn names_sort_by_time_and_only_ours_are_known() {
    let (folder, files) = files(rotation());
    let name = files.name(NOON);
    assert_eq!(name.file_name().unwrap(), "access.log.20260131T120000.000000Z");
    fs::write(&name, "x").unwrap();
    let next = files.name(NOON);
    assert_eq!(
        next.file_name().unwrap(),
        "access.log.20260131T120000.000001Z",
        "none is written over"
    );
    fs::write(&next, "xy").unwrap();
    fs::write(files.name(after(-2)), "xyz").unwrap();
    for other in [
        "access.log",
        "access.log.1",
        "access.log.gz",
        "access.log-20260131",
        "access.log.20260131",
        "access.log.20260131T120000.000000Z.bak",
        "access.log.20260131T120000.000000Z.gz.tmp",
        "access.log.20261331T120000.000000Z",
        "access.log.2026+131T120000.000000Z",
        "access.log.20260131 120000.000000Z",
        "xaccess.log.20260131T120000.000000Z",
        "audit.jsonl.20260131T120000.000000Z",
    ] {
        fs::write(folder.path().join(other), "x").unwrap();
    }
    let old = files.old().unwrap();
    assert_eq!(
        old.iter().map(|one| (one.at, one.length, one.gzip)).collect::<Vec<_>>(),
        [
            (after(-2), 3, false),
            (NOON, 1, false),
            (UnixMicros(NOON.0 + 1), 2, false)
        ]
    );
}

#[test]
fn what_is_old_is_removed_and_nothing_else() {
    let (folder, files) = files(rotation());
    for days in 0..20 {
        fs::write(files.name(after(days)), "x").unwrap();
    }
    fs::write(folder.path().join("access.log"), "now").unwrap();
    fs::write(folder.path().join("access.log.1"), "somebody else's").unwrap();
    let removed = files.tidy(after(20)).unwrap();
    assert_eq!(removed, Removed { old: 7, early: 0 }, "14 days are kept");
    assert_eq!(files.old().unwrap()[0].at, after(7));
    assert_eq!(names(&folder).len(), 13 + 2);
    assert_eq!(files.tidy(after(20)).unwrap(), Removed::default());
    let forever = Files::new(
        &folder.path().join("access.log"),
        Rotation {
            keep: None,
            ..rotation()
        },
    );
    assert_eq!(forever.tidy(after(10_000)).unwrap(), Removed::default());
}

#[test]
fn for_want_of_room_the_oldest_go_first() {
    let (folder, files) = files(Rotation {
        max_total: 1000,
        ..rotation()
    });
    for days in 0..10 {
        fs::write(files.name(after(days)), vec![b'x'; 200]).unwrap();
    }
    fs::write(folder.path().join("access.log"), vec![b'x'; 150]).unwrap();
    assert_eq!(files.tidy(after(10)).unwrap(), Removed { old: 0, early: 6 });
    assert_eq!(
        files.old().unwrap()[0].at,
        after(6),
        "4 of 200 bytes and the log itself"
    );

    let floor = Files::new(
        &folder.path().join("access.log"),
        Rotation {
            min_free: 100,
            ..rotation()
        },
    );
    let room = std::cell::Cell::new(40);
    let free = || {
        room.set(room.get() + 20);
        Ok(room.get())
    };
    // 60 and 80 are too little, 100 is enough.
    assert_eq!(floor.tidy_by(after(10), &free).unwrap(), Removed { old: 0, early: 2 });
    assert_eq!(files.old().unwrap().len(), 2);
    let none = || Ok(0);
    assert_eq!(floor.tidy_by(after(10), &none).unwrap(), Removed { old: 0, early: 2 });
    assert!(folder.path().join("access.log").exists(), "never the log itself");
}

#[test]
fn a_log_says_itself_when_it_began() {
    let (folder, files) = files(rotation());
    let log = folder.path().join("access.log");
    assert_eq!(files.began(), None, "there is none");
    fs::write(&log, "").unwrap();
    assert_eq!(files.began(), None);
    fs::write(
        &log,
        "{\"time\":\"2026-01-31T12:00:00.000000Z\",\"request_id\":\"1\"}\n{}\n",
    )
    .unwrap();
    assert_eq!(files.began(), Some(NOON));
    fs::write(&log, "another log\n").unwrap();
    assert_eq!(files.began(), Some(changed(&fs::metadata(&log).unwrap()).unwrap()));
}

#[test]
fn what_is_no_plain_file_is_left_alone() {
    let (folder, files) = files(rotation());
    let log = folder.path().join("access.log");
    fs::write(folder.path().join("elsewhere"), "line\n").unwrap();
    std::os::unix::fs::symlink(folder.path().join("elsewhere"), &log).unwrap();
    assert!(!files.are_ours());
    assert_eq!(files.began(), None);
    let null = Files::new(Path::new("/dev/null"), rotation());
    assert!(!null.are_ours() && null.began().is_none());
    fs::remove_file(&log).unwrap();
    fs::write(&log, "").unwrap();
    assert!(files.are_ours());
}

#[test]
fn what_has_settled_is_compressed_whole() {
    let (folder, files) = files(rotation());
    let text: String = (0..50_000).map(|n| format!("{{\"line\":{n}}}\n")).collect();
    let path = files.name(NOON);
    fs::write(&path, &text).unwrap();
    let go = AtomicBool::new(false);
    // Just put away, by its name; then just written to, by the file.
    assert_eq!(files.compress(UnixMicros(NOON.0 + 1), &go).unwrap(), 0);
    let late = UnixMicros(changed(&fs::metadata(&path).unwrap()).unwrap().0 + 400_000_000);
    assert_eq!(files.compress(UnixMicros(late.0 - 399_000_000), &go).unwrap(), 0);
    fs::write(folder.path().join("access.log.20260130T120000.000000Z.gz.tmp"), "half").unwrap();
    assert_eq!(files.compress(late, &go).unwrap(), 1);
    assert_eq!(names(&folder), ["access.log.20260131T120000.000000Z.gz"]);
    let old = files.old().unwrap();
    assert!(old[0].gzip && old[0].at == NOON && old[0].length < text.len() as u64 / 4);
    let mut back = String::new();
    GzDecoder::new(File::open(&old[0].path).unwrap())
        .read_to_string(&mut back)
        .unwrap();
    assert_eq!(back, text);
    assert_eq!(files.compress(late, &go).unwrap(), 0, "once");
    assert_ne!(files.name(NOON), path, "its name stays taken");
}

#[test]
fn two_processes_do_not_compress_one_file_and_a_stop_leaves_it_as_it_was() {
    let (folder, files) = files(rotation());
    let path = files.name(NOON);
    fs::write(&path, "x\n").unwrap();
    let other = File::open(&path).unwrap();
    flock(&other, FlockOperation::NonBlockingLockExclusive).unwrap();
    assert!(!compress(&path, &AtomicBool::new(false)).unwrap());
    drop(other);
    assert!(!compress(&path, &AtomicBool::new(true)).unwrap());
    assert_eq!(names(&folder), ["access.log.20260131T120000.000000Z"]);
    // Nor does a failure leave anything behind.
    let taken = with_suffix(&path, "gz");
    fs::create_dir(&taken).unwrap();
    assert!(compress(&path, &AtomicBool::new(false)).is_err());
    fs::remove_dir(&taken).unwrap();
    assert_eq!(names(&folder), ["access.log.20260131T120000.000000Z"]);
    assert!(compress(&path, &AtomicBool::new(false)).unwrap());
}
