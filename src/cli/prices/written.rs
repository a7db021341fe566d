//! `rules/prices.toml`: what people wrote above the line, what was imported below it. An import of some providers leaves the
//! entries of all others as they stand, letter by letter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::money::{Class, Listed, NanoUsd, Rates, Tier};

/// How the line begins below which the import replaces everything.
const MARK: &str = "# ==== Imported by `tollgate prices import`";
/// The line.
const LINE: &str =
    "# ==== Imported by `tollgate prices import`: it replaces what stands below. Your own entries go above. ====";
/// Longest line of names, in characters.
const WIDTH: usize = 110;
/// Most names in one entry (`rules` takes 1000).
const MAX_NAMES: usize = 500;

/// Prices by provider and model.
pub(super) type Prices = BTreeMap<(String, String), Listed>;
/// What an entry says, by provider and model: each field by its path, as text.
pub(super) type Said = BTreeMap<(String, String), BTreeMap<String, String>>;

/// The file, taken apart.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parts {
    /// What people wrote, as it stands.
    pub own: String,
    /// The names it has entries for; the provider is empty where an entry is for all.
    pub named: BTreeSet<(String, String)>,
    /// What was imported before.
    pub imported: Said,
    /// The same, entry by entry.
    entries: Vec<Entry>,
    /// The comments between the line and the first entry: what they are from.
    sources: Vec<String>,
}

/// An entry below the line.
#[derive(Debug, PartialEq)]
struct Entry {
    /// Empty: it is for all.
    provider: String,
    /// As it stands, from its `[[price]]` up to the next.
    text: String,
}

impl Parts {
    /// Takes the file's text apart. An error says what of it can't be read.
    pub(super) fn read(text: &str) -> Result<Self, toml::de::Error> {
        let line = text
            .find(MARK)
            .filter(|at| *at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n'));
        let (own, imported) = text.split_at(line.unwrap_or(text.len()));
        let (head, entries) = taken_apart(imported);
        let comment = |line: &str| Some(line.strip_prefix('#')?.trim().to_owned());
        Ok(Parts {
            own: own.to_owned(),
            named: said(own)?.into_keys().collect(),
            imported: said(imported)?,
            entries: entries.into_iter().map(Entry::read).collect::<Result<_, _>>()?,
            sources: head.lines().skip(1).filter_map(comment).collect(),
        })
    }

    /// The file with these prices below the line. `source`: what they are from, a line. `only`: the providers whose imported
    /// entries they replace; `None`: of all.
    pub(super) fn with(&self, prices: &Prices, source: &str, only: Option<&BTreeSet<String>>) -> String {
        let mut text = self.own.trim_end().to_owned();
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        text.push_str(LINE);
        for line in self.sources(source, only) {
            text.push_str("\n# ");
            text.push_str(&line);
        }
        text.push('\n');
        let stays = |entry: &&Entry| only.is_some_and(|only| !only.contains(&entry.provider));
        let mut all: Vec<(&str, String)> = self
            .entries
            .iter()
            .filter(stays)
            .map(|entry| (entry.provider.as_str(), entry.text.clone()))
            .collect();
        all.extend(entries(prices));
        // Of one provider they stay in their order.
        all.sort_by_key(|(provider, _)| *provider);
        for (_, entry) in all {
            text.push('\n');
            text.push_str(entry.trim_end());
            text.push('\n');
        }
        text
    }

    /// The lines that tell what the entries are from: one for an import of all, and one for each provider imported by itself since.
    fn sources(&self, source: &str, only: Option<&BTreeSet<String>>) -> Vec<String> {
        let Some(only) = only else {
            return vec![source.to_owned()];
        };
        let told_anew = |line: &str| {
            line.split_once(": ")
                .is_some_and(|(provider, _)| only.contains(provider))
        };
        let stay = self.sources.iter().filter(|line| !told_anew(line)).cloned();
        stay.chain(only.iter().map(|provider| format!("{provider}: {source}")))
            .collect()
    }
}

impl Entry {
    fn read(text: &str) -> Result<Self, toml::de::Error> {
        let provider = said(text)?.into_keys().next().map(|(provider, _)| provider);
        Ok(Entry {
            provider: provider.unwrap_or_default(),
            text: text.to_owned(),
        })
    }
}

/// What stands before the first entry, and the entries. One begins at its line `[[price]]`.
fn taken_apart(imported: &str) -> (&str, Vec<&str>) {
    let mut begins = Vec::new();
    let mut at = 0;
    for line in imported.split_inclusive('\n') {
        if line.trim_start().starts_with("[[price]]") {
            begins.push(at);
        }
        at += line.len();
    }
    let head = &imported[..begins.first().copied().unwrap_or(imported.len())];
    let ends = begins.iter().copied().skip(1).chain([imported.len()]);
    let entries = begins.iter().zip(ends).map(|(from, to)| &imported[*from..to]);
    (head, entries.collect())
}

/// What the entries of a text say.
pub(super) fn said(text: &str) -> Result<Said, toml::de::Error> {
    let table: toml::Table = text.parse()?;
    let mut said = Said::new();
    for entry in table.get("price").and_then(toml::Value::as_array).into_iter().flatten() {
        let Some(entry) = entry.as_table() else { continue };
        let provider = entry.get("provider").and_then(toml::Value::as_str).unwrap_or_default();
        let names = match entry.get("name") {
            Some(toml::Value::Array(names)) => names.iter().filter_map(toml::Value::as_str).collect(),
            Some(toml::Value::String(name)) => vec![name.as_str()],
            _ => Vec::new(),
        };
        let mut fields = BTreeMap::new();
        for (field, value) in entry
            .iter()
            .filter(|(field, _)| !matches!(field.as_str(), "name" | "provider"))
        {
            flatten(field.clone(), value, &mut fields);
        }
        for name in names {
            said.entry((provider.to_owned(), name.to_owned()))
                .or_insert_with(|| fields.clone());
        }
    }
    Ok(said)
}

fn flatten(path: String, value: &toml::Value, fields: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                flatten(format!("{path}.{name}"), value, fields);
            }
        }
        toml::Value::Array(list) => {
            for (place, value) in list.iter().enumerate() {
                flatten(format!("{path}[{place}]"), value, fields);
            }
        }
        value => drop(fields.insert(path, value.to_string())),
    }
}

/// The entries with their providers, those of one price together.
fn entries(prices: &Prices) -> Vec<(&str, String)> {
    let mut groups: Vec<(&str, Vec<&str>, String)> = Vec::new();
    // Where the last group of a price is, by provider and text.
    let mut places: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for ((provider, model), listed) in prices {
        let lines = price(listed);
        let place = places.get(&(provider.as_str(), lines.clone())).copied();
        match place
            .and_then(|place| groups.get_mut(place))
            .filter(|(_, names, _)| names.len() < MAX_NAMES)
        {
            Some((_, names, _)) => names.push(model),
            None => {
                places.insert((provider, lines.clone()), groups.len());
                groups.push((provider, vec![model], lines));
            }
        }
    }
    let entry = |(provider, models, lines): (_, Vec<&str>, String)| {
        let mut text = String::from("[[price]]\nname = ");
        names(&models, &mut text);
        text.push_str("\nprovider = ");
        text.push_str(&quoted(provider));
        text.push('\n');
        text.push_str(&lines);
        (provider, text)
    };
    groups.into_iter().map(entry).collect()
}

/// A name, or a list of them, in lines of some length.
fn names(models: &[&str], text: &mut String) {
    if let [model] = models {
        return text.push_str(&quoted(model));
    }
    let all: Vec<String> = models.iter().map(|model| quoted(model)).collect();
    let line = all.join(", ");
    if line.len() <= WIDTH {
        text.push_str(&format!("[{line}]"));
        return;
    }
    text.push('[');
    let mut width = WIDTH;
    for name in all {
        if width + name.len() + 2 > WIDTH {
            text.push_str("\n  ");
            width = 2;
        } else {
            text.push(' ');
        }
        width += name.len() + 2;
        text.push_str(&name);
        text.push(',');
    }
    text.push_str("\n]");
}

/// A text in quotes; JSON's escapes are TOML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The fields of a price, a line each.
fn price(listed: &Listed) -> String {
    let mut text = String::new();
    // Writing to a String can't fail.
    for (field, rate) in rates(&listed.rates) {
        let _ = writeln!(text, "{field} = {rate}");
    }
    for (field, price) in [
        ("input_image", listed.input_image),
        ("output_image", listed.output_image),
        ("request", listed.request),
    ] {
        if let Some(price) = price {
            let _ = writeln!(text, "{field} = {}", NanoUsd(price));
        }
    }
    if !listed.tiers.is_empty() {
        let _ = writeln!(text, "tiers = {}", tiers(&listed.tiers));
    }
    for service in &listed.services {
        let mut fields = inline(&service.rates);
        if !service.tiers.is_empty() {
            fields.push(format!("tiers = {}", tiers(&service.tiers)));
        }
        let _ = writeln!(text, "services.{} = {{ {} }}", service.word, fields.join(", "));
    }
    text
}

fn rates(rates: &Rates) -> impl Iterator<Item = (&'static str, NanoUsd)> {
    let all = Class::ALL.into_iter();
    all.filter_map(|class| Some((class.field(), NanoUsd(rates.get(class)?))))
}

fn inline(all: &Rates) -> Vec<String> {
    rates(all).map(|(field, rate)| format!("{field} = {rate}")).collect()
}

fn tiers(tiers: &[Tier]) -> String {
    let one = |tier: &Tier| format!("{{ above = {}, {} }}", tier.above, inline(&tier.rates).join(", "));
    format!("[{}]", tiers.iter().map(one).collect::<Vec<_>>().join(", "))
}

/// Writes beside the file, then puts it in its place: there is always a whole one. Its permissions stay.
pub(super) fn replace(path: &Path, text: &str) -> io::Result<()> {
    // Not `.toml`: the gateway, which watches the folder, must not read it.
    let fresh = path.with_extension("toml.new");
    let written = (|| {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if let Ok(old) = fs::metadata(path) {
            fs::set_permissions(&fresh, old.permissions())?;
        }
        fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    })();
    if written.is_err() {
        // It is of no use to anybody; that it could not be removed either is not the news.
        let _ = fs::remove_file(&fresh);
    }
    written
}

#[cfg(test)]
mod tests;
