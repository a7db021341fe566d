//! What the system knows: CPU time and memory of process trees, and what machine this is.

use std::collections::HashMap;
use std::fs;

use anyhow::Context;

/// Ticks per second of the times in `/proc/PID/stat` (USER_HZ; 100 on every Linux that Rust runs on).
const USER_HZ: f64 = 100.0;

/// A process and all below it.
fn tree(root: u32) -> anyhow::Result<Vec<u32>> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process may end while we look.
        let Ok(fields) = stat(pid) else { continue };
        if let Some(parent) = fields.get(1).and_then(|field| field.parse().ok()) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut all = vec![root];
    let mut at = 0;
    while at < all.len() {
        all.extend(children.remove(&all[at]).unwrap_or_default());
        at += 1;
    }
    Ok(all)
}

/// The fields of `/proc/PID/stat` after the name: state, parent, ...
fn stat(pid: u32) -> anyhow::Result<Vec<String>> {
    let line = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = line.rsplit_once(')').context("no name in stat")?.1;
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// CPU seconds of a process, all its threads, and the processes below it: user and system, also of children that ended.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let mut ticks = 0.0;
    for pid in tree(pid)? {
        let fields = stat(pid)?;
        // utime, stime, cutime, cstime: fields 14 to 17 of proc(5), counted from 1 with two before the parenthesis.
        for field in fields.iter().skip(11).take(4) {
            ticks += field.parse::<f64>()?;
        }
    }
    Ok(ticks / USER_HZ)
}

/// Resident memory of a process and those below it, in bytes.
pub fn resident(pid: u32) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for pid in tree(pid)? {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .context("no VmRSS")?;
        bytes += line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024;
    }
    Ok(bytes)
}

/// One line each: what the results depend on.
pub fn description() -> Vec<String> {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .unwrap_or("unknown");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, |cores| cores.get());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    vec![
        format!("CPU: {} x {}", cores, cpu.trim_start_matches([' ', '\t', ':'])),
        format!("Kernel: {}", kernel.trim()),
        format!("Compiler: {}", version("rustc", "--version")),
        format!("Load of the machine before: {}", load.join(" ")),
    ]
}

/// The first line which a program prints about itself, on either output.
pub fn version(program: &str, argument: &str) -> String {
    let output = std::process::Command::new(program).arg(argument).output();
    let Ok(output) = output else {
        return format!("{program} is not installed");
    };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
