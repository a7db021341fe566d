//! Reads `[[model]]` and `[[price]]`: one line a model, or a few that are alike.

use std::collections::HashMap;

use crate::config::fields::{Fields, no_such};
use crate::config::value::Value;

use super::names;
use super::table::Line;

/// Most entries of one kind. The tables that exist have some thousands.
pub(super) const MAX_LINES: usize = 20_000;

/// What a line says beside its names.
pub(super) trait Row: Sized {
    /// `[[SECTION]]`.
    const SECTION: &'static str;

    /// Reads the other fields. `None`: something is wrong, and reported.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;
}

/// The lines of all files so far.
pub(super) struct Lines<R> {
    pub(super) lines: Vec<Line<R>>,
    /// Where each name was first taken, by provider and name.
    taken: HashMap<(String, String), String>,
}

impl<R: Row> Default for Lines<R> {
    fn default() -> Self {
        Lines {
            lines: Vec::new(),
            taken: HashMap::new(),
        }
    }
}

impl<R: Row> Lines<R> {
    /// Reads those of one file. `providers`: the names of all there are.
    pub(super) fn read(&mut self, root: &mut Fields<'_>, providers: &[String]) {
        let Some(value) = root.get(R::SECTION) else { return };
        let entries = value.list().unwrap_or_default();
        if self.lines.len() + entries.len() > MAX_LINES {
            value.problem(format!("there may be {MAX_LINES} at most, over all files"));
            return;
        }
        for value in entries {
            if let Some(fields) = value.table() {
                self.line(fields, providers);
            }
        }
    }

    fn line(&mut self, mut fields: Fields<'_>, providers: &[String]) {
        let found = fields
            .need("name", "name = \"MODEL\"; globs as \"abc-*\" and lists are allowed")
            .map(|value| names::models(&value));
        if let Some((first, _)) = found.iter().flatten().next() {
            fields.call(format!("{} \"{first}\": ", R::SECTION));
        }
        let provider = fields.get("provider").and_then(|value| {
            let name = value.string()?;
            if !providers.iter().any(|known| known == name) {
                value.warn(format!(
                    "{} The entry is never used.",
                    no_such("provider", name, providers.iter().map(String::as_str))
                ));
            }
            Some(name)
        });
        let row = R::read(&mut fields);
        fields.finish();
        let (Some(found), Some(value)) = (found, row) else {
            return;
        };
        let names = found
            .into_iter()
            .filter(|(name, value)| self.claim(provider, name, value));
        let names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
        self.lines.push(Line {
            provider: provider.map(Into::into),
            names,
            value,
        });
    }

    /// False: an earlier line has the same name.
    fn claim(&mut self, provider: Option<&str>, name: &str, value: &Value<'_>) -> bool {
        let key = (provider.unwrap_or_default().to_owned(), name.to_owned());
        if let Some(earlier) = self.taken.get(&key) {
            value.warn(format!(
                "it is never used: the entry at {earlier} comes first and has the same name"
            ));
            return false;
        }
        let (file, line) = value.place();
        self.taken.insert(key, format!("{}:{line}", file.display()));
        true
    }
}
