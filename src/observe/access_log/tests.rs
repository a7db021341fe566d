use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc;

use super::*;
use crate::config::AccessLog as To;

fn line(request_id: &str) -> Line<'_> {
    Line {
        time: "2026-01-31T23:59:59.123456Z",
        request_id,
        client: Some(std::net::IpAddr::from([192, 0, 2, 1])),
        key: "AbCdEfGhIjKl",
        group: "",
        method: "POST",
        path: "/v1/chat/completions",
        http: "1.1",
        dialect: "",
        operation: "chat",
        model: "m\"\n\u{1b}",
        provider: "p",
        credential: "main",
        upstream_model: "m",
        status: 200,
        attempts: 1,
        stream: true,
        ended: "complete",
        error: "",
        input_tokens: Some(9),
        output_tokens: None,
        cost_usd: None,
        charge_usd: None,
        estimated: false,
        loss: "",
        request_bytes: 1,
        response_bytes: 2,
        first_byte_us: None,
        total_us: 3,
        overhead_us: 4,
    }
}

fn start(to: &To) -> io::Result<AccessLog> {
    let logs = crate::config::Logs {
        access: to.clone(),
        ..Default::default()
    };
    AccessLog::start(&logs, Clock::system())
}

fn ids(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| {
            let value: serde_json::Value = serde_json::from_str(line).expect("each line is JSON");
            value["request_id"].as_str().expect("an id").to_owned()
        })
        .collect()
}

#[test]
fn lines_arrive_in_a_file_made_with_its_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("logs/deep/access.jsonl");
    let log = start(&To::File(path.clone())).expect("it starts");
    log.write(&line("one"));
    log.write(&line("two"));
    log.flush();
    assert_eq!(ids(&path), ["one", "two"]);
    let mode = std::fs::metadata(&path).expect("the file").permissions().mode() & 0o777;
    assert_eq!(mode & !0o640, 0, "others can't read the log: {mode:o}");

    let text = std::fs::read_to_string(&path).expect("the file");
    assert!(
        !text.contains("output_tokens"),
        "what is unknown is absent, not zero: {text}"
    );
    assert!(
        !text.trim().replace('\n', "").contains(char::is_control),
        "control characters: {text:?}"
    );
}

#[test]
fn a_second_start_appends() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.jsonl");
    for id in ["one", "two"] {
        let log = start(&To::File(path.clone())).expect("it starts");
        log.write(&line(id));
        log.flush();
    }
    assert_eq!(ids(&path), ["one", "two"]);
}

#[test]
fn a_file_moved_away_is_opened_again_and_no_line_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, moved) = (folder.path().join("access.jsonl"), folder.path().join("access.jsonl.1"));
    let log = start(&To::File(path.clone())).expect("it starts");
    log.write(&line("0"));
    log.flush();
    std::fs::rename(&path, &moved).expect("moved");

    let mut written = vec!["0".to_owned()];
    let until = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        assert!(Instant::now() < until, "the log was never opened again");
        let id = written.len().to_string();
        log.write(&line(&id));
        written.push(id);
        log.flush();
        std::thread::sleep(Duration::from_millis(5));
    }
    log.write(&line("last"));
    written.push("last".to_owned());
    log.flush();
    let mut found = ids(&moved);
    found.extend(ids(&path));
    assert_eq!(
        found, written,
        "old file and new file together hold every line once, in order"
    );
    assert!(ids(&path).contains(&"last".to_owned()), "new lines are in the new file");
}

/// Takes nothing until told so.
struct Stuck(mpsc::Receiver<()>);

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Once the other end is dropped it lets everything through.
        let _ = self.0.recv();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_stuck_disk_never_holds_up_a_request_and_what_is_dropped_is_counted() {
    let (unstick, stuck) = mpsc::channel();
    let log = AccessLog::start_writer(Sink::Other(Box::new(Stuck(stuck)))).expect("it starts");
    let mut one = Vec::new();
    line("x").write(&mut one);
    let size = one.len();
    // The two buffers, the writer's and the waiting one, hold this many lines; the rest can only be dropped. The test
    // ends only if `write` returns although the writer is stuck.
    let total = (2 * MAX_WAITING) / size + 1000;
    for _ in 0..total {
        log.write(&line("x"));
    }
    let held = (2 * MAX_WAITING) / size;
    assert!(
        log.dropped() >= (total - held) as u64,
        "dropped {} of {total}, room for {held}",
        log.dropped()
    );
    assert!(
        dropped_total().expect("registered").get() >= log.dropped(),
        "the metric counts them too"
    );
    drop(unstick);
    log.flush();
    let dropped = log.dropped();
    log.write(&line("x"));
    log.flush();
    assert_eq!(log.dropped(), dropped, "it works again");
}

/// Takes some bytes, then is full for one write.
struct Full {
    room: usize,
    failed: bool,
    taken: Arc<Mutex<Vec<u8>>>,
}

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.room == 0 && !self.failed {
            self.failed = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = if self.failed {
            bytes.len()
        } else {
            bytes.len().min(self.room)
        };
        self.room = self.room.saturating_sub(taken);
        self.taken.lock().extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_line_torn_by_a_full_disk_does_not_spoil_the_next() {
    let taken = Arc::new(Mutex::new(Vec::new()));
    let sink = Full {
        room: 100,
        failed: false,
        taken: Arc::clone(&taken),
    };
    let log = AccessLog::start_writer(Sink::Other(Box::new(sink))).expect("it starts");
    log.write(&line("torn"));
    log.flush();
    assert_eq!(log.dropped(), 1, "the torn line counts as dropped");
    log.write(&line("whole"));
    log.flush();
    let text = String::from_utf8(taken.lock().clone()).expect("UTF-8");
    let last = text.lines().last().expect("a line");
    let value: serde_json::Value = serde_json::from_str(last).expect("the line after the torn one is whole");
    assert_eq!(value["request_id"], "whole");
}

#[test]
fn a_line_beyond_the_limit_is_dropped_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.jsonl");
    let log = start(&To::File(path.clone())).expect("it starts");
    let long = "x".repeat(MAX_LINE);
    log.write(&Line {
        model: &long,
        ..line("long")
    });
    log.write(&line("short"));
    log.flush();
    assert_eq!(ids(&path), ["short"]);
    assert_eq!(log.dropped(), 1);
}

#[test]
fn the_last_lines_are_written_when_the_log_is_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.jsonl");
    let log = start(&To::File(path.clone())).expect("it starts");
    let second = log.clone();
    log.write(&line("one"));
    drop(log);
    second.write(&line("two"));
    drop(second);
    let until = Instant::now() + Duration::from_secs(20);
    while ids(&path).len() < 2 {
        assert!(Instant::now() < until, "the last lines were never written");
        std::thread::yield_now();
    }
    assert_eq!(ids(&path), ["one", "two"]);
}

#[test]
fn off_is_off() {
    let log = start(&To::Off).expect("it starts");
    log.write(&line("one"));
    log.flush();
    assert_eq!(log.dropped(), 0);
}

/// A log with a clock turned by hand: one of two processes, perhaps, on the same file.
fn started(path: &Path, clock: &Clock, rotation: crate::config::Rotation) -> AccessLog {
    let logs = crate::config::Logs {
        access: To::File(path.into()),
        rotation,
        ..Default::default()
    };
    AccessLog::start(&logs, clock.clone()).expect("it starts")
}

/// The files of the log that were put away, the oldest first.
fn put_away(path: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(path.parent().expect("a folder")).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").path());
    let mut names: Vec<_> = names.filter(|name| name != path).collect();
    names.sort();
    names
}

/// Never compressed, and with room enough.
fn plain(max_file: u64) -> crate::config::Rotation {
    crate::config::Rotation {
        max_file,
        min_free: 0,
        gzip: false,
        ..Default::default()
    }
}

#[test]
fn at_midnight_the_file_is_put_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let until = Instant::now() + Duration::from_secs(60);
    let wait_for = |count, log: &AccessLog| {
        while put_away(&path).len() < count {
            assert!(Instant::now() < until, "it was never put away");
            std::thread::sleep(Duration::from_millis(20));
            log.flush();
        }
    };
    // The lines' own time is 2026-01-31T23:59:59.
    let clock = Clock::manual(UnixMicros(1_769_903_999_000_000));
    let log = started(&path, &clock, plain(1 << 30));
    log.write(&line("before"));
    log.flush();
    assert_eq!(put_away(&path).len(), 0);
    clock.set(UnixMicros(1_769_904_000_000_000));
    wait_for(1, &log);
    log.write(&line("after"));
    log.flush();
    assert_eq!(ids(&path), ["after"]);
    let old = folder.path().join("access.log.20260201T000000.000000Z");
    assert_eq!(ids(&old), ["before"]);
    drop(log);
    // Who starts later finds by the first line that its day is over.
    clock.set(UnixMicros(1_769_904_000_000_000 + 3 * 86_400_000_000));
    let log = started(&path, &clock, plain(1 << 30));
    wait_for(2, &log);
    assert_eq!(ids(&put_away(&path)[1]), ["after"]);
    // And after two weeks the first is gone.
    clock.set(UnixMicros(1_769_904_000_000_000 + 14 * 86_400_000_000));
    drop(log);
    let log = started(&path, &clock, plain(1 << 30));
    while old.exists() {
        assert!(Instant::now() < until, "it was never removed");
        std::thread::sleep(Duration::from_millis(20));
        log.flush();
    }
    assert_eq!(put_away(&path).len(), 1);
}

#[test]
fn two_processes_lose_and_tear_no_line_while_files_are_put_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let clock = Clock::system();
    const FULL: u64 = 64 * 1024;
    // Full after some hundred lines: each second one of the two puts it away.
    let logs = [(); 2].map(|()| started(&path, &clock, plain(FULL)));
    let until = Instant::now() + Duration::from_secs(5);
    let writers = logs.each_ref().map(|log| {
        let log = log.clone();
        std::thread::spawn(move || {
            let mut count = 0;
            while Instant::now() < until {
                log.write(&line(&count.to_string()));
                count += 1;
                if count % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            count
        })
    });
    let written = writers.map(|writer| writer.join().expect("it wrote"));
    for log in &logs {
        log.flush();
        assert_eq!(log.dropped(), 0);
    }
    // `ids` reads each line as JSON: none is torn. While it reads, the file may be put away once more.
    let (old, mut found) = loop {
        let old = put_away(&path);
        let found: Vec<String> = old.iter().chain([&path]).flat_map(|name| ids(name)).collect();
        if put_away(&path) == old {
            break (old, found);
        }
    };
    assert!(old.len() > 1, "it was put away: {old:?}");
    for name in &old {
        let length = std::fs::metadata(name).expect("it is there").len();
        assert!(
            length >= FULL,
            "put away once, when it was full: {name:?} has {length} bytes"
        );
    }
    let mut expected: Vec<String> = written
        .iter()
        .flat_map(|count| (0..*count).map(|number: u32| number.to_string()))
        .collect();
    found.sort();
    expected.sort();
    assert!(found == expected, "{} lines of {}", found.len(), expected.len());
}

#[test]
fn where_there_is_no_room_lines_are_dropped_and_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("access.log");
    let no_room = crate::config::Rotation {
        min_free: u64::MAX,
        ..plain(1 << 30)
    };
    let log = started(&path, &Clock::system(), no_room);
    let until = Instant::now() + Duration::from_secs(60);
    while log.dropped() == 0 {
        assert!(Instant::now() < until, "nothing was dropped");
        log.write(&line("x"));
        log.flush();
        std::thread::sleep(Duration::from_millis(20));
    }
    let length = std::fs::metadata(&path).expect("the file").len();
    log.write(&line("y"));
    log.flush();
    assert_eq!(std::fs::metadata(&path).expect("the file").len(), length);
}
