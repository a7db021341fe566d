//! `tollgate alerts`: what stands, and whether webhooks can be reached.

use std::path::Path;

use anyhow::anyhow;

use super::Failure;
use super::client::Client;
use super::keys::{How, to_the_second};
use super::table::Table;
use crate::admin::alerts::{AlertsView, TestDone, TestWanted};

/// What is wrong with the gateway, and who is told.
#[derive(clap::Subcommand, Debug)]
pub enum Alerts {
    /// Lists the conditions that stand, and the webhooks.
    List {
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
    /// Sends a test message to a webhook, or to all of them. Exit code 2: one did not take it.
    Test {
        /// The webhook's name in [alerts] of the configuration; without it: all.
        name: Option<String>,
        /// How to ask, how to print.
        #[command(flatten)]
        how: How,
    },
}

impl Alerts {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            Alerts::List { how } => {
                let view: AlertsView = Client::new(conf, &how.reach)?.get("/api/v1/alerts", &[])?;
                match how.json {
                    true => super::print_json(&view),
                    false => super::print(&told(&view)),
                }
            }
            Alerts::Test { name, how } => test(conf, name, &how),
        }
    }
}

fn test(conf: &Path, webhook: Option<String>, how: &How) -> Result<(), Failure> {
    let client = Client::new(conf, &how.reach)?;
    let done: TestDone = client.post("/api/v1/alerts/test", Some(&TestWanted { webhook }))?;
    if how.json {
        super::print_json(&done)?;
    } else if done.results.is_empty() {
        super::print("there is no webhook in [alerts] of the configuration\n")?;
    } else {
        let mut text = String::new();
        for one in &done.results {
            let came = match &one.failure {
                None => "delivered",
                Some(failure) => failure,
            };
            text.push_str(&format!("{}: {came}\n", one.webhook));
        }
        super::print(&text)?;
    }
    match done.results.iter().filter(|one| !one.delivered).count() {
        0 => Ok(()),
        n => Err(anyhow!("{n} of {} webhooks did not take it", done.results.len()).into()),
    }
}

fn told(view: &AlertsView) -> String {
    let mut text = String::new();
    if view.active.is_empty() {
        text.push_str("nothing is wrong\n");
    } else {
        let mut table = Table::new()
            .text("CONDITION")
            .text("SEVERITY")
            .text("SINCE")
            .text("WHAT");
        for one in &view.active {
            table.row([&*one.condition, &*one.severity, to_the_second(&one.since), &*one.what]);
        }
        text.push_str(&table.render());
    }
    if view.beyond > 0 {
        text.push_str(&format!("and {} more\n", view.beyond));
    }
    if view.webhooks.is_empty() {
        return text;
    }
    let mut table = Table::new()
        .text("WEBHOOK")
        .text("KIND")
        .text("STATE")
        .text("LAST MESSAGE");
    for one in &view.webhooks {
        let state = match &one.inactive {
            Some(why) => format!("inactive: {why}"),
            None => "active".to_owned(),
        };
        let last = match one.deliveries.first() {
            None => "none".to_owned(),
            Some(last) => {
                let came = last.failure.as_deref().unwrap_or("delivered");
                format!("{} {}: {came}", to_the_second(&last.at), last.event)
            }
        };
        table.row([&*one.name, &*one.kind, &*state, &*last]);
    }
    text.push('\n');
    text.push_str(&table.render());
    text
}
