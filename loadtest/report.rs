//! The section written into RESULTS.md.

use std::fmt::Write;
use std::path::Path;

use anyhow::Context;

/// The peer to which the others are compared.
const FLOOR: &str = "bare_pingora";

/// One round of requests.
pub struct Requests {
    /// Who.
    pub peer: &'static str,
    /// Which round.
    pub round: usize,
    /// Answers of status 200.
    pub requests: u64,
    /// Everything else.
    pub errors: u64,
    /// The first of them.
    pub first_error: Option<String>,
    /// Answers per second.
    pub rps: f64,
    /// CPU of the peer per answer, in microseconds.
    pub cpu_micros: f64,
    /// Latency, in microseconds.
    pub p50: u64,
    /// Latency, in microseconds.
    pub p99: u64,
    /// Latency, in microseconds.
    pub p999: u64,
}

impl Requests {
    /// For the eye, while it runs.
    pub fn line(&self) -> String {
        let error = self
            .first_error
            .as_deref()
            .map_or(String::new(), |error| format!(" ({error})"));
        format!(
            "{:13} {:8.0} requests/s  {:6.1} us CPU  p50 {} us  p99 {} us  {} errors{error}",
            self.peer, self.rps, self.cpu_micros, self.p50, self.p99, self.errors
        )
    }
}

/// One round of streams.
pub struct Sse {
    /// Who.
    pub peer: &'static str,
    /// Which round.
    pub round: usize,
    /// Events seen per second.
    pub events_per_second: f64,
    /// Streams which failed.
    pub errors: u64,
    /// CPU of the peer per event, in microseconds: milliseconds per 1,000 events.
    pub cpu_micros: f64,
}

impl Sse {
    /// For the eye, while it runs.
    pub fn line(&self) -> String {
        format!(
            "{:13} {:8.0} events/s  {:6.2} us CPU an event  {} errors",
            self.peer, self.events_per_second, self.cpu_micros, self.errors
        )
    }
}

/// Memory with many streams open.
pub struct Memory {
    /// Who.
    pub peer: &'static str,
    /// How many streams.
    pub streams: usize,
    /// Streams which failed.
    pub errors: u64,
    /// Resident bytes without them.
    pub before: u64,
    /// Resident bytes with them.
    pub after: u64,
}

impl Memory {
    /// KiB per stream.
    pub fn per_stream(&self) -> f64 {
        self.after.saturating_sub(self.before) as f64 / 1024.0 / self.streams.max(1) as f64
    }

    /// For the eye, while it runs.
    pub fn line(&self) -> String {
        format!(
            "{:13} {:6.1} KiB a stream, {} errors",
            self.peer,
            self.per_stream(),
            self.errors
        )
    }
}

/// Everything measured in one run.
pub struct Report {
    conditions: Vec<String>,
    /// Peers which could not be measured, and why.
    left_out: Vec<String>,
    /// All rounds of requests.
    pub requests: Vec<Requests>,
    /// All rounds of streams.
    pub sse: Vec<Sse>,
    /// Memory of each peer.
    pub memory: Vec<Memory>,
}

const TITLE: &str = "# Results of the load test\n\nWhat is measured, and how to repeat it: README.md. Newest first.\n";

impl Report {
    /// An empty report; the lines say under which conditions it came about.
    pub fn new(conditions: Vec<String>) -> Report {
        Report {
            conditions,
            left_out: Vec::new(),
            requests: Vec::new(),
            sse: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// Notes that a peer could not be measured, once for each reason.
    pub fn leave_out(&mut self, peer: &str, error: &anyhow::Error) {
        let line = format!("{peer}: {error:#}");
        if !self.left_out.contains(&line) {
            eprintln!("left out: {line}");
            self.left_out.push(line);
        }
    }

    /// Puts the section at the top of the file.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        let old = std::fs::read_to_string(file).unwrap_or_default();
        let old = old.strip_prefix(TITLE).unwrap_or(&old);
        let new = format!("{TITLE}\n{}{old}", self.markdown());
        std::fs::write(file, new).with_context(|| format!("can't write {}", file.display()))
    }

    /// The section.
    pub fn markdown(&self) -> String {
        let mut out = format!("## {}\n\n", jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z"));
        for line in &self.conditions {
            let _ = writeln!(out, "- {line}");
        }
        for line in &self.left_out {
            let _ = writeln!(out, "- Left out: {line}");
        }
        self.requests_table(&mut out);
        self.sse_table(&mut out);
        self.memory_table(&mut out);
        self.raw_tables(&mut out);
        out.push('\n');
        out
    }

    fn requests_table(&self, out: &mut String) {
        if self.requests.is_empty() {
            return;
        }
        out.push_str("\n### Requests\n\nMedians over the rounds. `x floor`: median of the ratios to bare Pingora in the same round.\n\n");
        out.push_str("| peer | requests/s | CPU us/request | x floor | p50 us | p99 us | p99.9 us | errors |\n");
        out.push_str("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        for peer in names(self.requests.iter().map(|row| row.peer)) {
            let rows: Vec<&Requests> = self.requests.iter().filter(|row| row.peer == peer).collect();
            let of = |value: fn(&Requests) -> f64| median(rows.iter().map(|row| value(row)).collect());
            let ratios = rows.iter().filter_map(|row| {
                let floor = self.requests.iter().find(|f| f.peer == FLOOR && f.round == row.round)?;
                Some(row.cpu_micros / floor.cpu_micros)
            });
            let _ = writeln!(
                out,
                "| {peer} | {:.0} | {:.1} | {} | {:.0} | {:.0} | {:.0} | {} |",
                of(|row| row.rps),
                of(|row| row.cpu_micros),
                ratio(ratios.collect()),
                of(|row| row.p50 as f64),
                of(|row| row.p99 as f64),
                of(|row| row.p999 as f64),
                rows.iter().map(|row| row.errors).sum::<u64>(),
            );
        }
    }

    fn sse_table(&self, out: &mut String) {
        if self.sse.is_empty() {
            return;
        }
        out.push_str("\n### Streams\n\nCPU microseconds per event are milliseconds per 1,000 events.\n\n");
        out.push_str("| peer | events/s | CPU us/event | x floor | errors |\n| --- | ---: | ---: | ---: | ---: |\n");
        for peer in names(self.sse.iter().map(|row| row.peer)) {
            let rows: Vec<&Sse> = self.sse.iter().filter(|row| row.peer == peer).collect();
            let of = |value: fn(&Sse) -> f64| median(rows.iter().map(|row| value(row)).collect());
            let ratios = rows.iter().filter_map(|row| {
                let floor = self.sse.iter().find(|f| f.peer == FLOOR && f.round == row.round)?;
                Some(row.cpu_micros / floor.cpu_micros)
            });
            let _ = writeln!(
                out,
                "| {peer} | {:.0} | {:.2} | {} | {} |",
                of(|row| row.events_per_second),
                of(|row| row.cpu_micros),
                ratio(ratios.collect()),
                rows.iter().map(|row| row.errors).sum::<u64>(),
            );
        }
    }

    fn memory_table(&self, out: &mut String) {
        if self.memory.is_empty() {
            return;
        }
        out.push_str("\n### Memory\n\nResident memory of a fresh process, before and with the streams open.\n\n");
        out.push_str("| peer | streams | before MiB | with MiB | KiB/stream | errors |\n");
        out.push_str("| --- | ---: | ---: | ---: | ---: | ---: |\n");
        for row in &self.memory {
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            let (before, after) = (mib(row.before), mib(row.after));
            let (per_stream, errors) = (row.per_stream(), row.errors);
            let _ = writeln!(
                out,
                "| {} | {} | {before:.1} | {after:.1} | {per_stream:.1} | {errors} |",
                row.peer, row.streams
            );
        }
    }

    fn raw_tables(&self, out: &mut String) {
        out.push_str("\n<details><summary>All rounds</summary>\n\n");
        out.push_str("| round | peer | answers | requests/s | CPU us/request | p50 us | p99 us | errors |\n");
        out.push_str("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |\n");
        for row in &self.requests {
            let (round, peer) = (row.round, row.peer);
            let (p50, p99, errors) = (row.p50, row.p99, row.errors);
            let _ = writeln!(
                out,
                "| {round} | {peer} | {} | {:.0} | {:.1} | {p50} | {p99} | {errors} |",
                row.requests, row.rps, row.cpu_micros
            );
        }
        out.push_str("\n| round | peer | events/s | CPU us/event | errors |\n| ---: | --- | ---: | ---: | ---: |\n");
        for row in &self.sse {
            let (round, peer, errors) = (row.round, row.peer, row.errors);
            let _ = writeln!(
                out,
                "| {round} | {peer} | {:.0} | {:.2} | {errors} |",
                row.events_per_second, row.cpu_micros
            );
        }
        out.push_str("\n</details>\n");
    }
}

/// The peers in the order in which they first appear.
fn names<'a>(rows: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names = Vec::new();
    for name in rows {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

fn ratio(values: Vec<f64>) -> String {
    if values.is_empty() {
        "-".to_owned()
    } else {
        format!("{:.2}", median(values))
    }
}
