//! A disk that is full for a moment: nothing is answered that can't be recorded, no provider is called for it, and the gateway goes on by
//! itself when there is room again.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::*;
use crate::support::dialect::ALL;
use crate::support::gateway::{Options, configuration};
use crate::support::{HEAVY, Random};

const CLIENTS: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// A small file system; unmounted with it, also when the test fails.
struct Mounted(PathBuf);

impl Mounted {
    /// `None`: that needs root.
    fn at(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).unwrap();
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", "size=96m", "none"])
            .arg(&path)
            .stderr(Stdio::null());
        mount
            .status()
            .is_ok_and(|status| status.success())
            .then(|| Mounted(path))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Takes all the room there is; gives it back when dropped.
struct Hog(PathBuf);

impl Hog {
    fn eat(folder: &std::path::Path) -> Self {
        let path = folder.join("hog");
        let mut file = File::create(&path).unwrap();
        for piece in [1 << 20, 4096] {
            let piece = vec![1; piece];
            while file.write_all(&piece).is_ok() {}
        }
        Hog(path)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        fs::remove_file(&self.0).unwrap();
    }
}

/// What clients saw: request, when it was asked, when its answer was there, status (`None`: not a whole answer).
type Seen = Arc<Mutex<Vec<(String, Instant, Instant, Option<u16>)>>>;

async fn client(http: SocketAddr, key: String, number: u64, stop: Arc<AtomicBool>, seen: Seen) {
    let mut random = Random(number + 1);
    for request in 0.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let id = format!("c{number}-{request}");
        let call = Call {
            key: &key,
            id: &id,
            dialect: ALL[random.below(4) as usize],
            model: ["dear,tokens=3", "cheap,tokens=20,pace=2ms", "dear,status=500"][random.below(3) as usize],
            stream: random.below(2) == 0,
            leave: None,
        };
        let asked = Instant::now();
        let reply = ask(http, &call).await;
        if let Some(reply) = reply.as_ref().filter(|reply| reply.status == 503) {
            assert!(reply.header("retry-after").is_some(), "{id}: {:?}", reply.headers);
            assert!(reply.text().contains("can't record"), "{id}: {}", reply.text());
        }
        seen.lock()
            .push((id, asked, Instant::now(), reply.map(|reply| reply.status)));
        tokio::time::sleep(Duration::from_millis(5 + random.below(20))).await;
    }
}

/// Waits until somebody who asked after `since` was answered so.
async fn answered(seen: &Seen, since: Instant, status: u16, count: usize) {
    crate::support::until(&format!("{count} times status {status}"), PATIENCE, || async {
        let found = seen
            .lock()
            .iter()
            .filter(|one| one.1 > since && one.3 == Some(status))
            .count();
        (found >= count).then_some(())
    })
    .await;
}

/// Waits until so many troubles of the ledger stand as alerts.
async fn told(gateway: &Gateway, count: f64) {
    crate::support::until("the alert", PATIENCE, || async {
        let active = gateway.metric("tollgate_alerts_active{condition=\"ledger\"}").await;
        (active == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out() {
    let _heavy = HEAVY.lock().await;
    let folder = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::at(folder.path().join("data")) else {
        eprintln!("SKIPPED: a small file system can't be mounted here (it needs root)");
        return;
    };
    let provider = Provider::start("p").await;
    let dialects = ["openai_chat", "openai_responses", "anthropic", "gemini"];
    let route = "[[route]]\nname = \"all\"\nmodel = \"*\"\ntargets = [{ provider = \"p\" }]\n";
    let rules = format!("{PRICES}{}{route}", provider.rules(&dialects));
    for name in ["conf", "rules"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("rules/10.toml"), rules).unwrap();
    let options = Options {
        limits: "requests_per_address = 100000",
        ledger: "min_free = \"8MiB\"\nballast = \"4MiB\"\nsegment = \"1MiB\"\n[store]\ncache = \"4MiB\"\n\
                 [alerts]\nfor = \"0s\"\nclear_after = \"0s\"\n",
        ..Options::default()
    };
    let mut gateway = Gateway::start_in(folder, options, |path, ports, options| {
        fs::write(path, configuration(ports, options)).unwrap();
    })
    .await;
    let keys = make_keys(&mut gateway, &[], vec![(None, 1_000_000, dollars("1000"))]).await;
    let process = gateway.pid();

    let seen: Seen = Arc::default();
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(client(
            gateway.ports.http,
            keys[0].text.clone(),
            number,
            stop.clone(),
            seen.clone(),
        ));
    }
    let mut windows = Vec::new();
    for _ in 0..2 {
        answered(&seen, Instant::now(), 200, 20).await;
        let hog = Hog::eat(&mounted.0);
        let full = Instant::now();
        answered(&seen, full, 503, 10).await;
        assert_eq!(
            crate::support::client::get(gateway.ports.http, "/readyz").await.status,
            503
        );
        told(&gateway, 1.0).await;
        // Whoever asks from now on is refused, as long as it lasts.
        let refusing = Instant::now();
        tokio::time::sleep(Duration::from_secs(if is_long() { 60 } else { 3 })).await;
        let free = Instant::now();
        drop(hog);
        windows.push((refusing, free));
        answered(&seen, free, 200, 20).await;
        told(&gateway, 0.0).await;
        println!(
            "refused {:?} after it was full; served {:?} after there was room",
            refusing - full,
            free.elapsed()
        );
    }
    stop.store(true, Ordering::Relaxed);
    clients.join_all().await;
    assert_eq!(gateway.pid(), process, "it was not started again");
    gateway.idle().await;

    let shown = balances(&gateway, &keys).await;
    verify(&gateway, "after it was full").await;
    let served = provider.sandboxed.sandbox.served();
    let called: HashSet<&str> = served.iter().filter_map(|call| call.id.as_deref()).collect();
    assert_eq!(gateway.stop().await, 0, "{}", gateway.log());
    let (rows, _) = at_rest(&gateway);
    let mut book: HashMap<&str, usize> = HashMap::new();
    rows.iter()
        .for_each(|row| *book.entry(&row.opening.request.0).or_default() += 1);
    let seen = seen.lock();
    for (id, asked, done, status) in seen.iter() {
        let in_book = book.get(id.as_str()).copied().unwrap_or(0);
        if *status == Some(503) {
            assert_eq!(
                (in_book, called.contains(id.as_str())),
                (0, false),
                "{id}: refused before any provider is called"
            );
            continue;
        }
        assert!(status.is_some(), "{id} got no answer");
        assert_eq!(in_book, 1, "{id} was answered ({status:?})");
        let during = windows.iter().find(|(from, until)| asked > from && done < until);
        assert!(
            during.is_none(),
            "{id} was answered ({status:?}) while the disk was full"
        );
    }
    assert_eq!(rows.len(), book.len());
    assert!(
        called.iter().all(|id| book.contains_key(id)),
        "each call is in the book"
    );
    assert_eq!(sums(&rows, &keys), shown, "rows and balances");
    let refused = seen.iter().filter(|one| one.3 == Some(503)).count();
    println!("{} requests, {refused} refused, {} rows", seen.len(), rows.len());
}
