//! `tollgate usage`: what was used, through the admin API of the running gateway.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{HumanBytes, ProgressBar};

use super::Failure;
use super::client::{Client, Reach};
use super::table::{Table, grouped};
use crate::admin::usage::{Report, Sums};

/// Sums and rows.
#[derive(clap::Subcommand, Debug)]
pub enum Usage {
    /// Sums of attempts and tokens.
    Report {
        /// What they are grouped by, comma-separated, in this order.
        #[arg(long, value_delimiter = ',', default_value = "key,model", value_name = "LIST")]
        by: Vec<Group>,
        /// Which rows.
        #[command(flatten)]
        which: Which,
        /// Prints JSON, for programs.
        #[arg(long)]
        json: bool,
        /// How to reach the admin API.
        #[command(flatten)]
        reach: Reach,
    },
    /// All rows, one upstream attempt a line.
    Export {
        /// How they are written.
        #[arg(long, value_enum, default_value_t = Format::Jsonl)]
        format: Format,
        /// The file; without it standard output. It is there only when it is complete.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Which rows.
        #[command(flatten)]
        which: Which,
        /// JSON lines: the same as `--format jsonl`.
        #[arg(long, conflicts_with = "format")]
        json: bool,
        /// How to reach the admin API.
        #[command(flatten)]
        reach: Reach,
    },
}

/// What sums are grouped by.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Client key.
    Key,
    /// Model the client asked for.
    Model,
    /// Provider.
    Provider,
    /// Provider's credential.
    Credential,
    /// Day, UTC.
    Day,
}

impl Group {
    const fn as_str(self) -> &'static str {
        match self {
            Group::Key => "key",
            Group::Model => "model",
            Group::Provider => "provider",
            Group::Credential => "credential",
            Group::Day => "day",
        }
    }
}

/// How rows are written.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON, one object a line.
    Jsonl,
    /// CSV with a header.
    Csv,
}

/// Which rows: every condition that is given must hold.
#[derive(clap::Args, Debug, Default)]
pub struct Which {
    /// Began at or after: RFC 3339, a day (2026-01-31, UTC), or so long ago (24h, 7d).
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Began before; written as --from.
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Client key id.
    #[arg(long, value_name = "ID")]
    pub key: Option<String>,
    /// Model the client asked for.
    #[arg(long)]
    pub model: Option<String>,
    /// Provider.
    #[arg(long)]
    pub provider: Option<String>,
    /// Provider's credential.
    #[arg(long)]
    pub credential: Option<String>,
}

impl Which {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let conditions = [
            ("from", &self.from),
            ("until", &self.until),
            ("key", &self.key),
            ("model", &self.model),
            ("provider", &self.provider),
            ("credential", &self.credential),
        ];
        conditions
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.as_deref()?)))
            .collect()
    }
}

impl Usage {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Usage::Report { by, which, json, reach } => {
                let by = by.into_iter().map(Group::as_str).collect::<Vec<_>>().join(",");
                let mut query = which.query();
                query.push(("by", &by));
                let report: Report = Client::new(conf, &reach)?.get("/api/v1/usage/report", &query)?;
                if json {
                    super::print_json(&report)
                } else {
                    super::print(&table(&report))
                }
            }
            Usage::Export {
                format,
                out,
                which,
                json: _,
                reach,
            } => {
                let mut query = which.query();
                query.push(("format", if format == Format::Csv { "csv" } else { "jsonl" }));
                let rows = Client::new(conf, &reach)?.stream("/api/v1/usage/export", &query)?;
                match out {
                    Some(file) => export_to_file(rows, &file),
                    None => export_to_stdout(rows),
                }
            }
        }
    }
}

fn table(report: &Report) -> String {
    let mut table = Table::new();
    for word in &report.by {
        table = table.text(word.to_uppercase());
    }
    for title in [
        "ATTEMPTS",
        "COMPLETE",
        "NO USAGE",
        "INPUT",
        "CACHE READ",
        "CACHE WRITE",
        "OUTPUT",
        "REASONING",
        "ALL INPUT",
        "ALL OUTPUT",
    ] {
        table = table.number(title);
    }
    let numbers = |sums: &Sums| {
        let usage = &sums.usage;
        [
            sums.attempts,
            sums.complete,
            sums.without_usage,
            usage.input,
            usage.cache_read,
            usage.cache_write_5m + usage.cache_write_1h,
            usage.output,
            usage.reasoning,
            usage.input_total,
            usage.output_total,
        ]
        .map(grouped)
    };
    for sums in report.lines.iter().filter(|_| !report.by.is_empty()) {
        let group = report
            .by
            .iter()
            .map(|word| sums.group.get(word).cloned().unwrap_or_default());
        table.row(group.chain(numbers(sums)));
    }
    if !report.by.is_empty() {
        table.rule();
    }
    let total = report
        .by
        .iter()
        .enumerate()
        .map(|(at, _)| if at == 0 { "total".to_owned() } else { String::new() });
    table.row(total.chain(numbers(&report.total)));
    table.render()
}

/// Writes beside the file, then puts it in its place: a file that is there is complete.
fn export_to_file(rows: impl Read, file: &Path) -> Result<(), Failure> {
    let name = file
        .file_name()
        .ok_or_else(|| Failure::Given(format!("--out {}: not a file's name", file.display())))?;
    let mut part_name = name.to_owned();
    part_name.push(".part");
    let part = file.with_file_name(part_name);
    let made = File::create(&part).map_err(|error| Failure::Given(format!("--out {}: {error}", part.display())))?;
    let mut to = BufWriter::new(made);
    let outcome = copy(rows, &mut to)
        .and_then(|lines| {
            to.flush()?;
            to.get_ref().sync_all()?;
            std::fs::rename(&part, file)?;
            Ok(lines)
        })
        .with_context(|| format!("the export is not complete; {} was not written", file.display()));
    match outcome {
        Ok(lines) => {
            eprintln!("{} lines in {}", grouped(lines), file.display());
            Ok(())
        }
        Err(error) => {
            // The part is of no use to anybody; that it could not be removed either is not the news.
            let _ = std::fs::remove_file(&part);
            Err(error.into())
        }
    }
}

fn export_to_stdout(rows: impl Read) -> Result<(), Failure> {
    let mut to = io::stdout().lock();
    match copy(rows, &mut to).and_then(|_| to.flush()) {
        // Whoever read it has enough: `tollgate usage export | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other.context("the export is not complete")?),
    }
}

/// Copies and counts lines; tells how far it is if it takes more than a second and somebody watches.
fn copy(mut from: impl Read, to: &mut impl Write) -> io::Result<u64> {
    const SHOW_AFTER: Duration = Duration::from_secs(1);
    let begun = Instant::now();
    let watched = io::stderr().is_terminal();
    let mut progress: Option<ProgressBar> = None;
    let mut buffer = vec![0; 64 * 1024];
    let (mut lines, mut bytes) = (0, 0);
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            // Not to be taken for a broken pipe on our own output.
            Err(error) => return Err(io::Error::other(error)),
        };
        to.write_all(&buffer[..read])?;
        lines += memchr::memchr_iter(b'\n', &buffer[..read]).count() as u64;
        bytes += read as u64;
        if watched && progress.is_none() && begun.elapsed() > SHOW_AFTER {
            progress = Some(ProgressBar::new_spinner());
        }
        if let Some(progress) = &progress {
            progress.set_message(format!("{} lines, {}", grouped(lines), HumanBytes(bytes)));
            progress.tick();
        }
    }
    if let Some(progress) = progress {
        progress.finish_and_clear();
    }
    Ok(lines)
}
