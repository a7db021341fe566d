//! Reads `[[model]]` and `[[price]]`: one line a model, or a few that are alike.

use std::collections::HashMap;

use crate::config::fields::{Fields, no_such};
use crate::config::value::Value;

use super::names;
use super::table::Line;

/// Most entries of one kind. The tables that exist have some thousands.
pub(super) const MAX_LINES: usize = 20_000;

/// Most lines of one name that stand beside each other.
const MAX_BESIDE: usize = 100;

/// What a line says beside its names.
pub(super) trait Row: Sized {
    /// `[[SECTION]]`.
    const SECTION: &'static str;

    /// Reads the other fields. `None`: something is wrong, and reported.
    fn read(fields: &mut Fields<'_>) -> Option<Self>;

    /// Whether a line has a use beside an earlier one of the same name.
    fn beside(&self, _earlier: &Self) -> Beside {
        Beside::Never
    }
}

/// What a line is worth where another has the same name.
pub(super) enum Beside {
    /// It is never used.
    Never,
    /// It is used, but.
    Warned(&'static str),
    /// It is used.
    Fine,
}

/// The lines of all files so far.
pub(super) struct Lines<R> {
    pub(super) lines: Vec<Line<R>>,
    /// Where each name was taken, by provider and name: the place, and the line's number.
    taken: HashMap<(String, String), Vec<(String, usize)>>,
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
            .filter(|(name, at)| self.claim(provider, name, at, &value));
        let names: Vec<String> = names.map(|(name, _)| name.to_owned()).collect();
        self.lines.push(Line {
            provider: provider.map(Into::into),
            names,
            value,
        });
    }

    /// False: it is of no use there, since an earlier line has the same name.
    fn claim(&mut self, provider: Option<&str>, name: &str, at: &Value<'_>, row: &R) -> bool {
        let key = (provider.unwrap_or_default().to_owned(), name.to_owned());
        let earlier = self.taken.entry(key).or_default();
        let never = |place: &str| {
            at.warn(format!(
                "it is never used: the entry at {place} comes first and has the same name"
            ));
        };
        if let [.., (place, _)] = &earlier[..]
            && earlier.len() == MAX_BESIDE
        {
            at.problem(format!(
                "there may be {MAX_BESIDE} entries of one name at most; the last is at {place}"
            ));
            return false;
        }
        for (place, number) in &*earlier {
            // Of this very line, where a list has a name twice.
            let Some(line) = self.lines.get(*number) else {
                never(place);
                return false;
            };
            match row.beside(&line.value) {
                Beside::Never => {
                    never(place);
                    return false;
                }
                Beside::Warned(why) => at.warn(format!("the entry at {place} has the same name: {why}")),
                Beside::Fine => {}
            }
        }
        let (file, line) = at.place();
        earlier.push((format!("{}:{line}", file.display()), self.lines.len()));
        true
    }
}
