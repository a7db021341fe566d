//! A million rows through the export: the memory of the gateway and of the command stays flat. Takes minutes in a debug build:
//! `cargo test --test admin -- --ignored --nocapture a_million_rows`.

use std::process::{Command, Stdio};

use crate::support::{Gateway, TOKEN};

const ROWS: usize = 1_000_000;
/// What memory may grow by while a million rows (some 600 MB of text) pass, in KiB.
const MAY_GROW: u64 = 64 * 1024;

/// A line of `/proc/<pid>/status`, in KiB.
fn status(pid: u32, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_million_rows_pass_in_constant_memory() {
    let gateway = Gateway::start().await;
    for row in 0..ROWS {
        gateway.enter(0, |_, _| {});
        if row % 1000 == 0 {
            tokio::task::yield_now().await;
        }
    }
    // The ledger has taken in all rows when a report counts them.
    let report = gateway.get("/api/v1/usage/report").await;
    assert_eq!(report["total"]["attempts"], ROWS);
    for format in ["csv", "jsonl"] {
        let file = gateway.folder.path().join(format);
        let before = status(std::process::id(), "VmRSS:").expect("a number");
        let begun = std::time::Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tollgate"))
            .args(["usage", "export", "--format", format, "--url", &gateway.url, "--out"])
            .arg(&file)
            .env("TOLLGATE_ADMIN_TOKEN", TOKEN)
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let (mut ours, mut first, mut theirs) = (before, None, 0);
        let done = loop {
            if let Some(done) = child.try_wait().expect("it can be asked") {
                break done;
            }
            ours = ours.max(status(std::process::id(), "VmRSS:").unwrap_or_default());
            theirs = status(child.id(), "VmHWM:").unwrap_or_default().max(theirs);
            if begun.elapsed().as_millis() > 500 {
                first.get_or_insert(theirs);
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert!(done.success());
        let size = std::fs::metadata(&file).expect("the file").len();
        let first = first.unwrap_or(theirs);
        eprintln!(
            "{format}: {ROWS} rows, {size} bytes in {:?}; gateway {before} KiB before, {ours} KiB at most; command {first} KiB \
             after half a second, {theirs} KiB at most",
            begun.elapsed()
        );
        assert!(ours < before + MAY_GROW, "the gateway grew");
        assert!(theirs < first + MAY_GROW, "the command grew");
    }
}
