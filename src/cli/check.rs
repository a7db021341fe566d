//! `tollgate check`: loads configuration and rules and tells every problem.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::Path;

use serde_json::json;

use crate::alerts::Alerts;
use crate::clock::Clock;
use crate::config::problem::Problem;
use crate::config::{self, Problems};
use crate::egress::{Machine, Policy};
use crate::rules::{self, Route, Rules};

use super::Failure;

/// Most routes named in one note.
const MAX_TOLD: usize = 10;

/// Loads configuration and rules and prints every problem with file, line and help. Exits 1 if there is one.
#[derive(clap::Args, Debug, Default)]
pub struct Check {
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

impl Check {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        let found = Found::look(conf);
        let told = match self.json {
            true => format!("{:#}\n", found.json()),
            false => found.text(),
        };
        std::io::stdout().write_all(told.as_bytes())?;
        match found.problems.is_empty() {
            true => Ok(()),
            false => Err(Failure::Given(String::new())),
        }
    }
}

/// What there is to tell.
struct Found {
    problems: Problems,
    warnings: Problems,
    /// `None`: the rules have problems.
    rules: Option<Rules>,
    /// Webhooks that are inactive, and why.
    webhooks: Vec<(String, String)>,
}

impl Found {
    /// Both files and folder are looked at, whatever is wrong with the first.
    fn look(conf: &Path) -> Self {
        let (config, mut all) = config::load::read(conf);
        all.extend(crate::app::tls::check(&config, Clock::system().now()));
        let rules = match rules::compile_with(&config.rules, &Clock::system(), &Machine) {
            Ok((rules, warnings)) => {
                all.extend(warnings);
                Some(rules)
            }
            Err(problems) => {
                all.extend(problems);
                None
            }
        };
        let (problems, warnings) = all.into_iter().partition(|p: &Problem| !p.warning);
        let policy = Policy::new(config.admin.allow_private, config.admin.allow_ports);
        Found {
            webhooks: Alerts::new(&config.alerts, policy, Clock::system()).inactive(),
            problems,
            warnings,
            rules,
        }
    }

    /// What is inactive, and why: (`provider` or `provider/credential`, reason).
    fn notes(&self) -> Vec<(String, &str)> {
        let mut notes = Vec::new();
        for provider in self.rules.iter().flat_map(|rules| &rules.providers) {
            if let Some(reason) = &provider.inactive {
                notes.push((format!("provider {}", provider.name), reason.as_str()));
                continue;
            }
            for base in provider.bases.iter().filter(|base| base.url.is_none()) {
                let what = format!("provider {}, dialect {}", provider.name, base.dialect);
                notes.push((what, "an environment variable in its URL is not set, or unfit for one"));
            }
            for credential in &provider.credentials {
                if let Some(reason) = &credential.inactive {
                    let what = format!("credential {} of provider {}", credential.name, provider.name);
                    notes.push((what, reason.as_str()));
                }
            }
        }
        let webhooks = self.webhooks.iter();
        notes.extend(webhooks.map(|(name, reason)| (format!("webhook {name}"), reason.as_str())));
        notes
    }

    /// Secrets in the gateway's store, which only the running gateway opens: here they are taken to be set.
    fn stored(&self) -> Vec<&str> {
        let stored = self.rules.iter().flat_map(|rules| &rules.stored);
        stored.map(|name| &**name).collect()
    }

    /// Routes which send nowhere just now, since no provider of theirs is active. Not a problem each: without its key a
    /// whole preset is so.
    fn idle(&self) -> Vec<&str> {
        let idle = |route: &Route| {
            let on = route.fallback_on.iter().flat_map(|(_, targets)| targets);
            let all = route.targets.iter().chain(&route.fallback).chain(on);
            all.into_iter().all(|target| target.provider.inactive.is_some())
        };
        let routes = self.rules.iter().flat_map(|rules| &rules.routes);
        routes.filter(|route| idle(route)).map(|route| &*route.name).collect()
    }

    /// Models which routes send to, whose price nobody knows.
    fn unpriced(&self) -> BTreeSet<String> {
        let now = Clock::system().now();
        self.rules.as_ref().map(|rules| rules.unpriced(now)).unwrap_or_default()
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        for problem in &self.problems {
            let _ = writeln!(text, "{problem}");
        }
        for warning in &self.warnings {
            let _ = writeln!(text, "warning: {warning}");
        }
        for (what, reason) in self.notes() {
            let _ = writeln!(text, "note: {what} is inactive: {reason}");
        }
        let stored = self.stored();
        if !stored.is_empty() {
            let _ = writeln!(
                text,
                "note: taken to be in the gateway's store, which only the running gateway opens (`tollgate secrets list`): {}",
                some(stored.iter())
            );
        }
        let idle = self.idle();
        if !idle.is_empty() {
            let verb = if idle.len() == 1 { "has" } else { "have" };
            let told = some(idle.iter().map(|name| format!("\"{name}\"")));
            let routes = counted(idle.len(), "route");
            let _ = writeln!(text, "note: {routes} {verb} no active provider: {told}");
        }
        let unpriced = self.unpriced();
        if !unpriced.is_empty() {
            let _ = writeln!(
                text,
                "note: no price is known of {}: what that costs stands in no report, and keys with a budget of money may \
                 not use it",
                some(unpriced.iter())
            );
        }
        let warnings = match self.warnings.len() {
            0 => String::new(),
            n => format!(", {}", counted(n, "warning")),
        };
        let _ = match (&self.rules, self.problems.len()) {
            (Some(rules), 0) => writeln!(text, "No problems{warnings}. {}", summary(rules)),
            (_, n) => writeln!(text, "{}{warnings}.", counted(n, "problem")),
        };
        text
    }

    fn json(&self) -> serde_json::Value {
        let notes = self.notes();
        let notes: Vec<_> = notes
            .iter()
            .map(|(what, reason)| json!({ "what": what, "reason": reason }))
            .collect();
        let summary = self.rules.as_ref().map(|rules| {
            let (active, inactive) = providers(rules);
            json!({ "providers_active": active, "providers_inactive": inactive, "routes": rules.routes.len() })
        });
        json!({
            "ok": self.problems.is_empty(),
            "problems": listed(&self.problems),
            "warnings": listed(&self.warnings),
            "inactive": notes,
            "stored": self.stored(),
            "idle_routes": self.idle(),
            "unpriced": self.unpriced(),
            "summary": summary,
        })
    }
}

/// The first [`MAX_TOLD`] of some names, and how many more there are.
fn some(names: impl ExactSizeIterator<Item = impl Display>) -> String {
    let more = match names.len().saturating_sub(MAX_TOLD) {
        0 => String::new(),
        n => format!(" and {n} more"),
    };
    let told: Vec<String> = names.take(MAX_TOLD).map(|name| name.to_string()).collect();
    told.join(", ") + &more
}

fn listed(problems: &[Problem]) -> Vec<serde_json::Value> {
    let one =
        |p: &Problem| json!({ "file": p.file.display().to_string(), "line": p.line, "what": p.what, "help": p.help });
    problems.iter().map(one).collect()
}

fn summary(rules: &Rules) -> String {
    let (active, inactive) = providers(rules);
    let inactive = match inactive {
        0 => String::new(),
        n => format!(" ({n} inactive)"),
    };
    format!(
        "{} active{inactive}, {}.",
        counted(active, "provider"),
        counted(rules.routes.len(), "route")
    )
}

/// Active and inactive ones.
fn providers(rules: &Rules) -> (usize, usize) {
    let active = rules.providers.iter().filter(|p| p.inactive.is_none()).count();
    (active, rules.providers.len() - active)
}

fn counted(n: usize, thing: &str) -> String {
    match n {
        1 => format!("1 {thing}"),
        n => format!("{n} {thing}s"),
    }
}
