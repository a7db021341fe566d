//! `tollgate audit`: who changed what, and whether the file that says so is whole.

use std::path::Path;

use super::Failure;
use super::client::Client;
use super::keys::{How, to_the_second};
use super::table::Table;
use crate::admin::audit_log::{AuditCheck, AuditLine, AuditPage};

/// The audit log, for owners.
#[derive(clap::Subcommand, Debug)]
pub enum Audit {
    /// Lists what was changed, newest first.
    List {
        /// How many lines.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Checks that no line was changed or taken out, and that what the file continues (audit.jsonl.1 ...) is there. Exit code 1 if
    /// not.
    Verify {
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
}

impl Audit {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Audit::List { limit, how } => {
                let limit = limit.to_string();
                let page: AuditPage = Client::new(conf, &how.reach)?.get("/api/v1/audit", &[("limit", &limit)])?;
                match how.json {
                    true => super::print_json(&page),
                    false => super::print(&table(&page.lines)),
                }
            }
            Audit::Verify { how } => {
                let check: AuditCheck = Client::new(conf, &how.reach)?.get("/api/v1/audit/verify", &[])?;
                if how.json {
                    super::print_json(&check)?;
                }
                if check.whole {
                    return match how.json {
                        true => Ok(()),
                        false => super::print(&whole(&check)),
                    };
                }
                let told = broken(&check);
                Err(Failure::Given(if how.json { String::new() } else { told }))
            }
        }
    }
}

fn whole(check: &AuditCheck) -> String {
    let continues = check.continued.as_ref();
    let continues = continues.map(|file| format!(" They continue {file}, which was not checked."));
    format!(
        "The audit log is whole: {} lines.{}\n",
        check.lines,
        continues.unwrap_or_default()
    )
}

fn broken(check: &AuditCheck) -> String {
    if let Some(line) = check.broken_at {
        return format!("the audit log was changed at or before line {line}");
    }
    if let (true, Some(hash)) = (check.start_is_missing(), &check.continues) {
        return format!(
            "the audit log ({} lines) continues lines that are not there: audit.jsonl was deleted, emptied or moved away. If it was \
             moved, put it beside as audit.jsonl.1, not compressed; its last line has the SHA-256 {hash}",
            check.lines
        );
    }
    "the end of the audit log was cut off or changed".to_owned()
}

fn table(lines: &[AuditLine]) -> String {
    let mut table = Table::new()
        .text("TIME")
        .text("WHO")
        .text("ROLE")
        .text("FROM")
        .text("CALL")
        .number("STATUS")
        .text("TARGET");
    for line in lines {
        let target = line.change.as_ref().and_then(|change| change.get("target"));
        let target = target.and_then(|target| target.as_str());
        table.row([
            to_the_second(&line.time),
            &line.who,
            line.role.as_deref().unwrap_or("-"),
            line.from.as_deref().unwrap_or("-"),
            &format!("{} {}", line.method, line.path),
            &match line.interrupted {
                true => "interrupted".to_owned(),
                false => line.status.to_string(),
            },
            target.or(line.refused.as_deref()).unwrap_or("-"),
        ]);
    }
    table.render()
}
