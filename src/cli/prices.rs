//! `tollgate prices`: reads community tables of prices into `rules/prices.toml`.

pub(super) mod decimal;
mod fields;
mod known_as;
mod read;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::clock::Clock;
use crate::config;
use crate::egress::Machine;
use crate::rules::{self, Rules};

use self::read::{Found, Skip};
use self::written::{Parts, Prices, Said};
use super::Failure;

/// Largest table, in bytes. LiteLLM's has 2 MB, that of models.dev some more.
const MAX_TABLE: u64 = 64 << 20;
/// Largest file it is read into, in bytes.
const MAX_FILE: u64 = 16 << 20;
/// Most models added, and changed, that are told in text; most of a table's providers in an error.
const MAX_TOLD: usize = 40;

/// What models cost.
#[derive(clap::Subcommand, Debug)]
pub enum PricesCommand {
    /// Reads a table of prices into rules/prices.toml: LiteLLM's model_prices_and_context_window.json, the same as CSV, or
    /// models.dev's api.json.
    Import(Import),
}

/// Reads a table. Entries above the marking line in the file are yours and stay; they win. What was imported before is
/// replaced: with --provider only what is for those providers, else all of it.
#[derive(clap::Args, Debug)]
pub struct Import {
    /// The table. It is not fetched for you.
    pub file: PathBuf,
    /// Only this provider (once for each), as it is called in your rules; THEIRS=OURS where the table calls it otherwise.
    /// The prices of all others stay as they are. Without it: all providers in your rules, and what was imported before for
    /// models that the table lacks is removed.
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Vec<String>,
    /// The file they are written into; left out: prices.toml in the folder of rules.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Only models which routes send to, or which have an entry in [[model]].
    #[arg(long)]
    pub only_used: bool,
    /// Tells what would change, and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Prints JSON.
    #[arg(long)]
    pub json: bool,
}

impl PricesCommand {
    /// Runs the command.
    pub fn execute(self, conf: &Path) -> Result<(), Failure> {
        match self {
            PricesCommand::Import(import) => import.execute(conf),
        }
    }
}

/// What an import did.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Outcome {
    file: String,
    /// Whether the file was changed.
    written: bool,
    added: Vec<Change>,
    changed: Vec<Change>,
    removed: Vec<Change>,
    unchanged: usize,
    /// Entries of providers that were not asked for, left as they are.
    others: usize,
    /// Left as they are, since there is an entry of yours.
    kept: usize,
    skipped: Skipped,
}

/// How many models of the table were left out, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Skipped {
    other_providers: usize,
    no_text: usize,
    no_price: usize,
    not_used: usize,
    /// Names no rule can have, and prices none can say.
    unfit: usize,
}

/// What changed for a model: each field, as text.
#[derive(Debug, PartialEq, Serialize)]
struct Change {
    provider: String,
    model: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<BTreeMap<String, String>>,
}

impl Import {
    fn execute(self, conf: &Path) -> Result<(), Failure> {
        let (config, _) = config::load::read(conf);
        let rules = match rules::compile_with(&config.rules, &Clock::system(), &Machine) {
            Ok((rules, _)) => rules,
            Err(problems) => {
                let first = problems.into_iter().find(|problem| !problem.warning);
                let told = first.map(|problem| problem.to_string()).unwrap_or_default();
                return Err(Failure::Given(format!(
                    "the rules have problems (`tollgate check`):\n{told}"
                )));
            }
        };
        let out = self.out.clone().unwrap_or_else(|| config.rules.join("prices.toml"));
        let given = |path: &Path, error: String| Failure::Given(format!("{}: {error}", path.display()));
        let text = bounded(&self.file, MAX_TABLE).map_err(|error| given(&self.file, error.to_string()))?;
        let (format, found) = read::table(&text).map_err(|error| given(&self.file, error))?;
        let old = match bounded(&out, MAX_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            other => other.map_err(|error| given(&out, error.to_string()))?,
        };
        let parts = Parts::read(&old).map_err(|error| given(&out, error.to_string()))?;

        let mut outcome = Outcome::default();
        let names = self.names(&rules)?;
        let only = (!self.provider.is_empty()).then(|| names.meant());
        self.known(&found, &names)?;
        let prices = self.chosen(found, &names, &rules, &parts, &mut outcome)?;
        let day = jiff::Timestamp::from_microsecond(Clock::system().now().0).unwrap_or_default();
        let day = day.to_zoned(jiff::tz::TimeZone::UTC).date();
        let name = self
            .file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .replace(char::is_control, "?");
        let text = parts.with(
            &prices,
            &format!("{day}, from {name} ({}).", format.name()),
            only.as_ref(),
        );
        let new = Parts::read(&text).context("the new file would not be readable: this is a fault of ours")?;
        if new.imported.len() > rules::prices::MAX_ENTRIES {
            return Err(Failure::Given(format!(
                "there would be prices of {} models, and rules take {} at most: choose some with --provider or --only-used",
                new.imported.len(),
                rules::prices::MAX_ENTRIES
            )));
        }
        compare(&parts.imported, &new.imported, only.as_ref(), &mut outcome);
        outcome.file = out.display().to_string();
        let different = !(outcome.added.is_empty() && outcome.changed.is_empty() && outcome.removed.is_empty());
        if different && !self.dry_run {
            written::replace(&out, &text).with_context(|| format!("{} was not written", out.display()))?;
            outcome.written = true;
        }
        match self.json {
            true => super::print_json(&outcome),
            false => super::print(&outcome.text()),
        }
    }

    /// The prices to be written.
    fn chosen(
        &self,
        found: Vec<Found>,
        names: &Names,
        rules: &Rules,
        parts: &Parts,
        outcome: &mut Outcome,
    ) -> Result<Prices, Failure> {
        let mut prices = Prices::new();
        let mut progress = Progress::new(found.len());
        for found in found {
            progress.step();
            let Some(provider) = names.ours(&found.provider) else {
                outcome.skipped.other_providers += 1;
                continue;
            };
            let listed = match found.price {
                Ok(listed) => listed,
                Err(Skip::NoText) => {
                    outcome.skipped.no_text += 1;
                    continue;
                }
                Err(Skip::NoPrice) => {
                    outcome.skipped.no_price += 1;
                    continue;
                }
            };
            let key = (provider, found.model);
            if self.only_used && !rules.uses(&key.0, &key.1) {
                outcome.skipped.not_used += 1;
            } else if !rules::prices::is_sayable(&key.1, &listed) {
                outcome.skipped.unfit += 1;
            } else if parts.named.contains(&key) || parts.named.contains(&(String::new(), key.1.clone())) {
                outcome.kept += 1;
            } else {
                // A model stands twice where the table knows it with and without its provider's name: first without.
                prices.entry(key).or_insert(listed);
            }
        }
        progress.end();
        Ok(prices)
    }

    /// Refuses a provider that was asked for and that the table does not have: its prices would all be removed.
    fn known(&self, found: &[Found], names: &Names) -> Result<(), Failure> {
        if self.provider.is_empty() {
            return Ok(());
        }
        let theirs: BTreeSet<&str> = found.iter().map(|found| found.provider.as_str()).collect();
        let there: BTreeSet<String> = theirs.iter().filter_map(|theirs| names.ours(theirs)).collect();
        let Some(missing) = names.meant().into_iter().find(|ours| !there.contains(ours)) else {
            return Ok(());
        };
        Err(Failure::Given(format!(
            "--provider {missing}: {} has no models of it, and nothing was changed. Say THEIRS={missing} if the table calls it \
             otherwise; if it does not have it, take another table (models.dev's api.json has more providers). It has: {}",
            self.file.display(),
            super::first_of(theirs.iter().copied(), MAX_TOLD).replace(char::is_control, "?")
        )))
    }

    fn names(&self, rules: &Rules) -> Result<Names, Failure> {
        let mut names = Names {
            ours: BTreeSet::new(),
            said: BTreeMap::new(),
        };
        for said in &self.provider {
            let (theirs, ours) = said
                .split_once('=')
                .map_or((None, said.as_str()), |(a, b)| (Some(a), b));
            if rules.provider(ours).is_none() {
                return Err(Failure::Given(format!(
                    "--provider {said}: your rules have no provider {ours}"
                )));
            }
            match theirs {
                Some(theirs) => drop(names.said.insert(theirs.to_owned(), ours.to_owned())),
                None => drop(names.ours.insert(ours.to_owned())),
            }
        }
        if self.provider.is_empty() {
            names.ours = rules
                .providers
                .iter()
                .map(|provider| provider.name.to_string())
                .collect();
        }
        Ok(names)
    }
}

/// Which providers are meant.
struct Names {
    ours: BTreeSet<String>,
    /// Theirs, and ours.
    said: BTreeMap<String, String>,
}

impl Names {
    /// All of them, as they are called here.
    fn meant(&self) -> BTreeSet<String> {
        self.ours.iter().chain(self.said.values()).cloned().collect()
    }

    fn ours(&self, theirs: &str) -> Option<String> {
        if let Some(ours) = self.said.get(theirs) {
            return Some(ours.clone());
        }
        let known = known_as::ours(theirs);
        let ours = [Some(theirs), known]
            .into_iter()
            .flatten()
            .find(|name| self.ours.contains(*name));
        ours.map(str::to_owned)
    }
}

/// Reads a file of bounded size.
fn bounded(path: &Path, most: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?.take(most + 1).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(text)
}

/// `only`: whose entries were to be replaced; `None`: all.
fn compare(old: &Said, new: &Said, only: Option<&BTreeSet<String>>, outcome: &mut Outcome) {
    let change = |key: &(String, String), old: Option<&_>, new: Option<&_>| Change {
        provider: key.0.clone(),
        model: key.1.clone(),
        old: old.cloned(),
        new: new.cloned(),
    };
    for (key, fields) in new {
        match old.get(key) {
            None => outcome.added.push(change(key, None, Some(fields))),
            Some(_) if only.is_some_and(|only| !only.contains(&key.0)) => outcome.others += 1,
            Some(before) if before == fields => outcome.unchanged += 1,
            Some(before) => outcome.changed.push(change(key, Some(before), Some(fields))),
        }
    }
    let gone = old.iter().filter(|(key, _)| !new.contains_key(*key));
    outcome
        .removed
        .extend(gone.map(|(key, fields)| change(key, Some(fields), None)));
}

impl Change {
    /// `openai/gpt-5: input 1.25 -> 1, output 10 -> 8`.
    fn text(&self) -> String {
        let none = BTreeMap::new();
        let (old, new) = (self.old.as_ref().unwrap_or(&none), self.new.as_ref().unwrap_or(&none));
        let fields: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
        let one = |field: &String| match (old.get(field), new.get(field)) {
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(format!("{field} {old} -> {new}")),
            (None, Some(new)) if self.old.is_some() => Some(format!("{field} none -> {new}")),
            (Some(old), None) if self.new.is_some() => Some(format!("{field} {old} -> none")),
            (old, new) => old.or(new).map(|value| format!("{field} {value}")),
        };
        let fields: Vec<String> = fields.into_iter().filter_map(one).collect();
        format!("{}/{}: {}", self.provider, self.model, fields.join(", "))
    }
}

impl Outcome {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String can't fail.
        for (sign, changes) in [('+', &self.added), ('~', &self.changed), ('-', &self.removed)] {
            // What is gone is told in full: without a price a budget refuses.
            let most = if sign == '-' { changes.len() } else { MAX_TOLD };
            for change in changes.iter().take(most) {
                let _ = writeln!(text, "{sign} {}", change.text());
            }
            if changes.len() > most {
                let _ = writeln!(text, "{sign} and {} more (--json tells all)", changes.len() - most);
            }
        }
        let _ = writeln!(
            text,
            "{} added, {} changed, {} removed, {} as before, {} of your own kept.",
            self.added.len(),
            self.changed.len(),
            self.removed.len(),
            self.unchanged,
            self.kept
        );
        if self.others > 0 {
            let _ = writeln!(text, "{} of other providers stay as they are.", self.others);
        }
        let skipped = [
            (self.skipped.other_providers, "of other providers"),
            (self.skipped.no_text, "not for text"),
            (self.skipped.no_price, "without a price"),
            (self.skipped.not_used, "not used"),
            (self.skipped.unfit, "unfit for rules"),
        ];
        let skipped = skipped
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, why)| format!("{count} {why}"));
        let skipped: Vec<String> = skipped.collect();
        if !skipped.is_empty() {
            let _ = writeln!(text, "Left out: {}.", skipped.join(", "));
        }
        let _ = match self.written {
            true => writeln!(text, "Written to {}.", self.file),
            false => writeln!(text, "{} is as it was.", self.file),
        };
        text
    }
}

/// How far it is, if it takes more than a second and somebody watches.
struct Progress {
    begun: Instant,
    all: usize,
    done: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    const SHOW_AFTER: Duration = Duration::from_secs(1);

    fn new(all: usize) -> Self {
        Progress {
            begun: Instant::now(),
            all,
            done: 0,
            bar: None,
        }
    }

    fn step(&mut self) {
        self.done += 1;
        if !self.done.is_multiple_of(256) {
            return;
        }
        if self.bar.is_none() && self.begun.elapsed() > Self::SHOW_AFTER && io::stderr().is_terminal() {
            self.bar = Some(ProgressBar::new(u64::try_from(self.all).unwrap_or(u64::MAX)));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(self.done).unwrap_or(u64::MAX));
        }
    }

    fn end(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests;
