//! A process killed at any moment, and a disk that fills up: nothing acknowledged is lost, nothing is there twice, and the books
//! add up. The process is this test itself, started again as a child ([`child`]).

mod ledger_rows;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tollgate::clock::Clock;
use tollgate::config::{self, Durability};
use tollgate::ids::{GroupId, KeyId};
use tollgate::ir::Usage;
use tollgate::ledger::{Closing, Ended, Filter, Ledger, LedgerError, Opening};
use tollgate::limits::{AccountId, Accounts, Chain, Estimate};
use tollgate::money::NanoUsd;
use tollgate::store::{Store, StoreError};

/// Where a child finds its folder.
const CHILD: &str = "TOLLGATE_TEST_CHILD";
const THREADS: u64 = 6;
/// Keys, each of one of two groups.
const KEYS: u64 = 4;
/// How long sled may hold its lock after its process is gone, and a child may take to begin.
const PATIENCE: Duration = Duration::from_secs(60);

fn settings(min_free: u64) -> config::Ledger {
    config::Ledger {
        durability: Durability::Process,
        segment: 1 << 20,
        min_free,
        ballast: 0,
        ..config::Ledger::default()
    }
}

fn open(data: &Path, accounts: Arc<Accounts>, min_free: u64) -> Ledger {
    let end = Instant::now() + PATIENCE;
    let store = loop {
        match Store::open(&data.join("store"), 16 << 20) {
            Err(StoreError::Held) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
            opened => break Arc::new(opened.unwrap()),
        }
    };
    Ledger::start(
        &data.join("journal"),
        &settings(min_free),
        store,
        accounts,
        Clock::system(),
    )
    .unwrap()
}

fn opening(n: u64) -> Opening {
    let price = NanoUsd(1000 + n % 7);
    let key = KeyId(format!("key{}", n % KEYS).into());
    Opening {
        route: "route".into(),
        group: format!("group{}", n % KEYS % 2).into(),
        reserved: NanoUsd(5000),
        prompt_tokens: 10,
        prompt_cost: Some(price),
        prompt_charge: price,
        ..ledger_rows::opening(&key, n.cast_signed(), Clock::system().now())
    }
}

/// Not a test by itself: what the others start and kill. Opens and closes attempts as a gateway does, and writes down what was
/// acknowledged, each line with one `write(2)`: `o` once an opening is written, `c` once it was closed.
#[test]
fn child() {
    let Some(data) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return;
    };
    let min_free = std::env::var("TOLLGATE_TEST_MIN_FREE").map_or(0, |n| n.parse().unwrap());
    let accounts = Arc::new(Accounts::new());
    let ledger = open(&data, accounts.clone(), min_free);
    let numbers = AtomicU64::new(0);
    fs::write(data.join("ready"), b"").unwrap();
    std::thread::scope(|scope| {
        // One that is never under way itself, so that it is there to be refused.
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            loop {
                if matches!(runtime.block_on(ledger.admit()), Err(LedgerError::DiskFull)) {
                    let _ = fs::write(data.with_extension("refused"), b"");
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        for thread in 0..THREADS {
            let (ledger, accounts, numbers, data) = (&ledger, &accounts, &numbers, &data);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_time()
                    .build()
                    .unwrap();
                // The acknowledgements stand beside the folder: they have room when it has none.
                let path = data.with_extension(format!("acks{thread}"));
                let mut acks = File::options().append(true).create(true).open(path).unwrap();
                loop {
                    if runtime.block_on(ledger.admit()).is_err() {
                        std::thread::sleep(Duration::from_millis(5));
                        continue;
                    }
                    let opening = opening(numbers.fetch_add(1, Ordering::Relaxed));
                    let id = opening.id;
                    let key = accounts.get(&AccountId::Key(opening.key.clone()));
                    let group = accounts.get(&AccountId::Group(GroupId(opening.group.clone())));
                    let admission = Chain::new(key, Some(group)).enter(opening.at, Instant::now()).unwrap();
                    let estimate = Estimate {
                        tokens: 20,
                        most_tokens: 100,
                        money: NanoUsd(5000),
                    };
                    let reservation = admission.reserve(estimate, true, opening.at, Instant::now()).unwrap();
                    let mut entry = ledger.open_reserved(opening, reservation);
                    runtime.block_on(entry.written());
                    acks.write_all(format!("o {id}\n").as_bytes()).unwrap();
                    entry.closing = Closing {
                        status: Some(200),
                        usage: Some(Usage {
                            input: 12,
                            output: 30,
                            ..Usage::default()
                        }),
                        cost: Some(NanoUsd(3000)),
                        charge: NanoUsd(3000),
                        ..Closing::default()
                    };
                    entry.close(Ended::Complete);
                    acks.write_all(format!("c {id}\n").as_bytes()).unwrap();
                }
            });
        }
    });
}

/// A child at work; killed when dropped.
struct Work(Child);

impl Work {
    fn start(data: &Path, min_free: u64) -> Self {
        let ready = data.join("ready");
        let _ = fs::remove_file(&ready);
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture", "--test-threads=1"])
            .env(CHILD, data)
            .env("TOLLGATE_TEST_MIN_FREE", min_free.to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let work = Work(child);
        let end = Instant::now() + PATIENCE;
        while !ready.exists() {
            assert!(Instant::now() < end, "the child did not start");
            std::thread::sleep(Duration::from_millis(1));
        }
        work
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.0.kill(); // SIGKILL
        let _ = self.0.wait();
    }
}

/// What was acknowledged: by thread, in order; true: closed.
fn acknowledged(data: &Path) -> Vec<Vec<(String, bool)>> {
    (0..THREADS)
        .map(|thread| {
            let text = fs::read_to_string(data.with_extension(format!("acks{thread}"))).unwrap_or_default();
            let mut order: Vec<(String, bool)> = Vec::new();
            // A kill may cut the last line, where it crosses a page.
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            for line in whole.lines() {
                match line.split_once(' ') {
                    Some(("o", id)) => order.push((id.to_owned(), false)),
                    Some(("c", id)) => {
                        let last = order.last_mut().unwrap();
                        assert_eq!(last.0, id);
                        last.1 = true;
                    }
                    _ => {}
                }
            }
            order
        })
        .collect()
}

fn rows(ledger: &Ledger) -> HashMap<String, Ended> {
    let mut rows = HashMap::new();
    let mut after = None;
    loop {
        let page = ledger.rows(&Filter::default(), after, 10_000).unwrap();
        for row in page.rows {
            let twice = rows.insert(row.opening.id.to_string(), row.ended);
            assert_eq!(twice, None, "a row twice");
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return rows,
        }
    }
}

/// Opens what a killed child left, and checks all of it; how many rows, and how many interrupted.
fn check(data: &Path, round: u32, lives: &mut BTreeMap<u64, u64>) -> (usize, usize) {
    let begun = Instant::now();
    let accounts = Arc::new(Accounts::new());
    let ledger = open(data, accounts, 0);
    let started = begun.elapsed();
    let rows = rows(&ledger);
    for (thread, order) in acknowledged(data).into_iter().enumerate() {
        let checked = lives.entry(thread as u64).or_default();
        let new = order.get(*checked as usize..).unwrap_or_default();
        *checked = order.len() as u64;
        for (at, (id, closed)) in new.iter().enumerate() {
            let Some(ended) = rows.get(id) else {
                panic!("round {round}: {id} was acknowledged and is lost");
            };
            // The next opening was written behind it, so only the last closing can be lost.
            let may_be_lost = !closed || at + 1 == new.len();
            assert!(
                *ended == Ended::Complete || may_be_lost,
                "round {round}: {id} was closed, and the row says {ended:?}"
            );
        }
    }
    let verdict = ledger.verify().unwrap();
    assert_eq!(verdict.differences, Vec::<String>::new(), "round {round}");
    assert!(verdict.ok && verdict.quiet && verdict.open == 0);
    let interrupted = rows.values().filter(|ended| **ended == Ended::Interrupted).count();
    println!(
        "round {round}: {} rows, {interrupted} interrupted, started in {started:?}",
        rows.len()
    );
    ledger.shut_down();
    (rows.len(), interrupted)
}

#[test]
fn killed_at_random_moments_nothing_is_lost_and_the_books_add_up() {
    let rounds = if std::env::var_os("TOLLGATE_LONG").is_some() {
        50
    } else {
        5
    };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    let mut lives = BTreeMap::new();
    let mut last = (0, 0);
    for round in 0..rounds {
        let work = Work::start(&data, 0);
        // Any moment: of no use to repeat, so it is told with a failure.
        let millis = u64::from(std::process::id()).wrapping_mul(2_654_435_761 + u64::from(round)) % 400;
        std::thread::sleep(Duration::from_millis(millis));
        drop(work);
        let now = check(&data, round, &mut lives);
        assert!(now.0 >= last.0 && now.1 >= last.1, "rows only grow in number");
        assert!(
            now.1 - last.1 <= THREADS as usize,
            "each thread has one attempt open at most"
        );
        last = now;
    }
    assert!(last.0 > 0);
}

#[test]
fn a_disk_that_fills_up_refuses_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk");
    fs::create_dir(&disk).unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "none"])
        .arg(&disk)
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !mounted {
        eprintln!("SKIPPED: a small file system can't be mounted here (it needs root)");
        return;
    }
    /// Unmounts, also when the test fails.
    struct Mounted(PathBuf);
    impl Drop for Mounted {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        }
    }
    let _mounted = Mounted(disk.clone());
    let data = disk.join("data");
    fs::create_dir(&data).unwrap();
    // Acknowledgements go to the real disk.
    for thread in 0..THREADS {
        let real = folder.path().join(format!("acks{thread}"));
        File::create(&real).unwrap();
        std::os::unix::fs::symlink(&real, data.with_extension(format!("acks{thread}"))).unwrap();
    }
    std::os::unix::fs::symlink(folder.path().join("refused-now"), data.with_extension("refused")).unwrap();
    let refused_now = folder.path().join("refused-now");
    let mut work = Work::start(&data, 2 << 20);
    let end = Instant::now() + PATIENCE;
    // All the room is taken by somebody else.
    std::thread::sleep(Duration::from_millis(200));
    let hog = disk.join("hog");
    let mut file = File::create(&hog).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    while !refused_now.exists() {
        assert!(Instant::now() < end, "nothing was refused");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(
        work.0.try_wait().unwrap().is_none(),
        "a full disk does not end the process"
    );
    drop(file);
    fs::remove_file(&hog).unwrap();
    // It goes on by itself.
    let count = || acknowledged(&data).iter().map(Vec::len).sum::<usize>();
    let before = count();
    while count() <= before + THREADS as usize {
        assert!(Instant::now() < end, "it did not recover");
        assert!(work.0.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(work);
    check(&data, 0, &mut BTreeMap::new());
}
