//! `tollgate ledger`: do the books add up?

use std::path::{Path, PathBuf};

use super::Failure;
use super::client::{Client, Reach};
use super::table::grouped;
use crate::ledger::Verdict;

/// The books.
#[derive(clap::Subcommand, Debug)]
pub enum Ledger {
    /// Compares journals, rows, sums and balances. Exit code 2: they differ.
    Verify {
        /// A data folder of which no gateway is running: it is only looked at. Without it the running gateway is asked.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Prints JSON, for programs.
        #[arg(long)]
        json: bool,
        /// How to reach the admin API.
        #[command(flatten)]
        reach: Reach,
    },
}

impl Ledger {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let Ledger::Verify { data, json, reach } = self;
        let verdict: Verdict = match data {
            Some(data) => crate::ledger::verify_folder(&data)?,
            None => Client::new(conf, &reach)?.get("/api/v1/ledger/verify", &[])?,
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
