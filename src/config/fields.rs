//! Takes fields out of a parsed file by name. What is missing, unknown or of the wrong kind goes to the report, so that
//! all problems are found at once. Conversions of single values are in `value.rs`.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeTable;

use super::problem::Problem;
use super::source::{Report, Source};
use super::value::Value;

/// Where values come from and problems go to.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The file.
    pub source: &'a Source,
    /// Where problems go.
    pub report: &'a Report,
}

impl Context<'_> {
    /// Adds a problem with what begins at byte `at`.
    pub fn add(&self, at: usize, what: String, help: String, warning: bool) {
        self.report.add(Problem {
            file: self.source.file.clone(),
            line: self.source.line(at),
            what,
            help,
            warning,
        });
    }
}

/// The fields of one table. Ask for each, then call [`Fields::finish`].
pub struct Fields<'a> {
    pub(super) context: Context<'a>,
    /// `None`: the table is not there, and so is none of its fields.
    table: Option<&'a DeTable<'a>>,
    /// What precedes a field's name in problems: `limits.`, `route "cheap": `.
    prefix: String,
    /// Where the table begins.
    at: usize,
    asked: Vec<&'static str>,
    later: &'static [(&'static str, &'static str)],
}

impl<'a> Fields<'a> {
    /// The fields of `table`; `prefix` ends with its separator.
    pub(super) fn new(context: Context<'a>, table: Option<&'a DeTable<'a>>, prefix: String, at: usize) -> Self {
        Fields {
            context,
            table,
            prefix,
            at,
            asked: Vec::new(),
            later: &[],
        }
    }

    /// Names fields that later versions have, and what they are for: an error that says so is kinder.
    pub fn later(mut self, later: &'static [(&'static str, &'static str)]) -> Self {
        self.later = later;
        self
    }

    /// Calls the table by another name in problems: `route "cheap": `.
    pub fn call(&mut self, prefix: String) {
        self.prefix = prefix;
    }

    /// Whether a field stands in the file; it is not asked for by that.
    pub fn has(&self, name: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(name))
    }

    /// How many fields stand in the file.
    pub fn count(&self) -> usize {
        self.table.map_or(0, |table| table.len())
    }

    /// Whether the table is there.
    pub fn present(&self) -> bool {
        self.table.is_some()
    }

    /// Where it is: file and line.
    pub fn place(&self) -> (PathBuf, usize) {
        (self.context.source.file.clone(), self.context.source.line(self.at))
    }

    /// A problem with the table as a whole.
    pub fn problem(&self, help: impl Into<String>) {
        self.context.add(self.at, self.title(), help.into(), false);
    }

    /// The table's own name.
    fn title(&self) -> String {
        match self.prefix.trim_end_matches(['.', ' ', ':']) {
            "" => "the file".to_owned(),
            name => name.to_owned(),
        }
    }

    /// A field, if it is there.
    pub fn get(&mut self, name: &'static str) -> Option<Value<'a>> {
        self.context.report.asked(format!("{}{name}", self.prefix));
        self.asked.push(name);
        let (key, value) = self.table?.get_key_value(name)?;
        let path = format!("{}{name}", self.prefix);
        Some(Value::new(self.context, value, key.span().start, path))
    }

    /// A field that must be there.
    pub fn need(&mut self, name: &'static str, example: &str) -> Option<Value<'a>> {
        let value = self.get(name);
        if value.is_none() {
            let help = format!("{name} is missing. Write {example}.");
            self.context.add(self.at, self.title(), help, false);
        }
        value
    }

    /// A table within, whether it is there or not.
    pub fn table(&mut self, name: &'static str) -> Fields<'a> {
        let prefix = format!("{}{name}.", self.prefix);
        self.get(name)
            .and_then(|value| value.table())
            .unwrap_or_else(|| Fields::new(self.context, None, prefix, self.at))
    }

    /// Every entry of a table whose names the user chooses, in the order of the file.
    pub fn entries(self) -> Vec<(&'a str, Value<'a>)> {
        let mut entries: Vec<_> = self.table.into_iter().flat_map(DeTable::iter).collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        let entries = entries.into_iter().map(|(key, value)| {
            let name: &str = key.get_ref();
            let path = format!("{}{}", self.prefix, super::value::key(name));
            (name, Value::new(self.context, value, key.span().start, path))
        });
        entries.collect()
    }

    /// Reports every field that was not asked for.
    pub fn finish(self) {
        let Some(table) = self.table else { return };
        let unknown = table.keys().filter(|key| !self.asked.contains(&&**key.get_ref()));
        for key in unknown {
            let name: &str = key.get_ref();
            // Never the value: a misspelt `key` may well have a secret behind it.
            let what = format!("{}{}", self.prefix, super::value::key(name));
            self.context.add(key.span().start, what, self.unknown(name), false);
        }
    }

    fn unknown(&self, name: &str) -> String {
        if let Some((_, what)) = self.later.iter().find(|(later, _)| *later == name) {
            return format!("this version does not have it yet: {what}. Remove it until then.");
        }
        unknown("field", name, &self.asked)
    }

    // The commonest kinds, in one word each.

    /// True or false.
    pub fn boolean(&mut self, name: &'static str) -> Option<bool> {
        self.get(name)?.boolean()
    }

    /// A whole number.
    pub fn integer(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(name)?.integer(range)
    }

    /// A number of bytes.
    pub fn size(&mut self, name: &'static str, range: RangeInclusive<u64>) -> Option<u64> {
        self.get(name)?.size(range)
    }

    /// A time.
    pub fn duration(&mut self, name: &'static str, range: RangeInclusive<Duration>) -> Option<Duration> {
        self.get(name)?.duration(range)
    }

    /// An address with a port.
    pub fn address(&mut self, name: &'static str) -> Option<SocketAddr> {
        self.get(name)?.address()
    }

    /// A path.
    pub fn path(&mut self, name: &'static str) -> Option<PathBuf> {
        self.get(name)?.path()
    }
}

/// `no provider has this name. Did you mean "x"?   (defined: x, y)`
pub fn no_such<'n>(thing: &str, name: &str, known: impl IntoIterator<Item = &'n str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    format!("no {thing} has this name.{}", suggestion(name, &known, "defined"))
}

/// `there is no field of this name. Did you mean "x"?   (known: x, y)`
pub fn unknown(thing: &str, name: &str, known: &[&str]) -> String {
    format!("there is no {thing} of this name.{}", suggestion(name, known, "known"))
}

/// Most names listed in a message.
const MAX_LISTED: usize = 24;

/// Whether `whole` begins with all of `part`, which is not too short to mean anything.
fn begins(whole: &str, part: &str) -> bool {
    part.len() >= 3 && whole.starts_with(part)
}

pub(super) fn suggestion(name: &str, known: &[&str], label: &str) -> String {
    // A third of the letters may be wrong; of a name with one or two, none.
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(name, k), k))
        .filter(|(distance, k)| *distance <= k.len().max(name.len()) / 3 || begins(name, k) || begins(k, name))
        .min();
    let mut text = match near {
        Some((_, near)) => format!(" Did you mean \"{near}\"?"),
        None => String::new(),
    };
    if known.is_empty() {
        text.push_str(&format!("   ({label}: none)"));
    } else {
        let listed = known[..known.len().min(MAX_LISTED)].join(", ");
        let more = known.len().saturating_sub(MAX_LISTED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        text.push_str(&format!("   ({label}: {listed}{more})"));
    }
    text
}
