//! `tollgate ledger`: do the books add up? And what to do about a damaged journal.

use std::path::{Path, PathBuf};

use super::Failure;
use super::client::{Client, Reach};
use super::table::grouped;
use crate::clock::Clock;
use crate::ledger::{LedgerError, Repair, Verdict};
use crate::store::StoreError;

/// The books.
#[derive(clap::Subcommand, Debug)]
pub enum Ledger {
    /// Compares journals, rows, sums and balances. Exit code 2: they differ.
    Verify {
        /// A data folder of which no gateway is running. What is compared is not changed: no journal is taken in, no broken store
        /// is moved (but to open the store takes its lock, and finishes what a crash left half-written in its own files). Without
        /// it the running gateway is asked.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints JSON, for programs.
        #[arg(long)]
        json: bool,
        /// How to reach the admin API.
        #[command(flatten)]
        reach: Reach,
    },
    /// Reads damaged journal files of a gateway that is stopped, and takes over what is in no book. Exit code 2: something could not
    /// be repaired.
    ///
    /// The next start of the gateway books what was taken over. The files as they were found are kept in journal/damaged.
    Repair {
        /// The data folder. Without it the one which the configuration names.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Only says what it would do.
        #[arg(long)]
        dry_run: bool,
        /// Prints JSON, for programs.
        #[arg(long)]
        json: bool,
    },
}

impl Ledger {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Ledger::Verify { data, json, reach } => verify(conf, data, json, &reach),
            Ledger::Repair { data, dry_run, json } => repair(conf, data, dry_run, json),
        }
    }
}

fn verify(conf: &Path, data: Option<PathBuf>, json: bool, reach: &Reach) -> Result<(), Failure> {
    let verdict: Verdict = match data {
        Some(data) => crate::ledger::verify_folder(&data)?,
        None => Client::new(conf, reach)?.get("/api/v1/ledger/verify", &[])?,
    };
    if json {
        super::print_json(&verdict)?;
    } else {
        super::print(&told(&verdict))?;
    }
    if verdict.ok {
        return Ok(());
    }
    Err(anyhow::anyhow!("the books do not add up").into())
}

fn repair(conf: &Path, data: Option<PathBuf>, dry_run: bool, json: bool) -> Result<(), Failure> {
    let data = match data {
        Some(data) => data,
        None => super::configuration(conf)?.data,
    };
    let repair = match crate::ledger::repair_folder(&data, dry_run, &Clock::system()) {
        Err(LedgerError::Store(StoreError::Held)) => {
            return Err(Failure::Given("the gateway is running: stop it first".into()));
        }
        done => done?,
    };
    if json {
        super::print_json(&repair)?;
    } else {
        super::print(&told_of_repair(&repair))?;
    }
    match repair.not_done.len() {
        0 => Ok(()),
        files => Err(anyhow::anyhow!("{files} damaged files were not repaired").into()),
    }
}

fn told_of_repair(repair: &Repair) -> String {
    let mut text = String::new();
    for file in &repair.files {
        text.push_str(&format!(
            "{}: {} good records, {} bad bytes; {} {}\n",
            file.file,
            grouped(file.records),
            grouped(file.bad_bytes),
            if repair.dry_run { "would be kept as" } else { "kept as" },
            file.moved_to.display(),
        ));
    }
    for (count, what) in [
        (
            repair.taken_over,
            "rows taken over: the next start of the gateway books them",
        ),
        (
            repair.interrupted,
            "attempts whose end can't be read: interrupted at the next start",
        ),
        (repair.in_the_books, "rows were in the books already"),
        (
            repair.from_the_store,
            "rows whose record can't be read were written anew from the store",
        ),
        (
            repair.settled_otherwise,
            "rows came too late: their attempts were entered as interrupted, and stay so",
        ),
        (
            repair.too_old,
            "rows not taken over: they are from before single rows are kept, and may be in the books",
        ),
    ] {
        if count > 0 {
            text.push_str(&format!("{} {what}\n", grouped(count)));
        }
    }
    for problem in &repair.not_done {
        text.push_str(&format!("not repaired: {problem}\n"));
    }
    text.push_str(match (repair.files.is_empty(), repair.dry_run) {
        (true, _) if repair.not_done.is_empty() => "no journal file is damaged\n",
        (true, _) => "",
        (false, true) => "nothing was changed\n",
        (false, false) => "done\n",
    });
    text
}

fn told(verdict: &Verdict) -> String {
    let mut text = format!(
        "{} rows, {} sums by day, {} accounts; {} closed and {} open attempts in {} journal files\n",
        grouped(verdict.rows),
        grouped(verdict.sums),
        grouped(verdict.accounts),
        grouped(verdict.closed),
        grouped(verdict.open),
        grouped(verdict.files),
    );
    for difference in &verdict.differences {
        text.push_str(&format!("  {difference}\n"));
    }
    if verdict.more > 0 {
        text.push_str(&format!("  and {} more\n", grouped(verdict.more)));
    }
    for note in &verdict.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if verdict.ok {
        text.push_str("everything adds up\n");
    }
    text
}
