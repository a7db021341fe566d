//! `[alias]`: other names for models.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::fields::{Fields, no_such};
use crate::config::value::Value;

use super::names::{self, Names};
use super::patterns::{self, MAX_PATTERN, Patterns};

/// Most aliases.
const MAX_ALIASES: usize = 20_000;
/// Longest chain of aliases.
const MAX_CHAIN: usize = 8;

/// The aliases of all files so far.
#[derive(Default)]
pub(super) struct Aliases<'a> {
    names: Names,
    /// Name, what it stands for, where.
    all: Vec<(&'a str, &'a str, Value<'a>)>,
}

impl<'a> Aliases<'a> {
    /// Reads those of one file.
    pub(super) fn read(&mut self, root: &mut Fields<'a>) {
        let Some(value) = root.get("alias") else { return };
        let entries = value.table().map(Fields::entries).unwrap_or_default();
        if self.all.len() + entries.len() > MAX_ALIASES {
            value.problem(format!("there may be {MAX_ALIASES} aliases at most, over all files"));
            return;
        }
        for (name, value) in entries {
            if name.is_empty() || name.len() > MAX_PATTERN || name.contains(char::is_control) {
                value.problem(format!(
                    "an alias has 1 to {MAX_PATTERN} bytes, none of them a control character"
                ));
            } else if !patterns::is_name(name) {
                value.problem("an alias is one name and no glob. A route takes globs, and its target names the model.");
            } else if self.names.claim("alias", name, &value)
                && let Some(model) = names::model(&value)
            {
                self.all.push((name, model, value));
            }
        }
    }

    /// Where the alias of this name stands.
    pub(super) fn place(&self, name: &str) -> Option<String> {
        let (.., value) = self.all.iter().find(|(alias, ..)| *alias == name)?;
        let (file, line) = value.place();
        Some(format!("{}:{line}", file.display()))
    }

    /// Follows each to its end. `whole`: every file could be read, so that a name which nothing takes is a mistake.
    pub(super) fn flatten(
        &self,
        routes: &Patterns,
        names: &[&str],
        providers: &[String],
        whole: bool,
    ) -> HashMap<Arc<str>, Arc<str>> {
        let by_name: HashMap<&str, &str> = self.all.iter().map(|(name, model, _)| (*name, *model)).collect();
        let mut flat = HashMap::new();
        for (name, model, value) in &self.all {
            let Some(end) = follow(name, model, &by_name, value) else {
                continue;
            };
            let direct = end
                .split_once('/')
                .is_some_and(|(provider, rest)| !rest.is_empty() && providers.iter().any(|p| p == provider));
            if whole && !direct && routes.first(end).is_none() {
                let told = no_such("route, alias or provider/model", end, names.iter().copied());
                value.problem(told.replacen("has this name", &format!("takes the name \"{end}\""), 1));
                continue;
            }
            flat.insert(Arc::from(*name), Arc::from(end));
        }
        flat
    }
}

/// What the alias stands for in the end. `None`: it has none, and that is reported.
fn follow<'a>(name: &str, model: &'a str, all: &HashMap<&str, &'a str>, value: &Value<'_>) -> Option<&'a str> {
    let mut chain = vec![name];
    let mut end = model;
    loop {
        let circle = chain.contains(&end);
        chain.push(end);
        if circle {
            value.problem(format!("the aliases go in a circle: {}", chain.join(" -> ")));
            return None;
        }
        if chain.len() > MAX_CHAIN + 1 {
            value.problem(format!(
                "the chain of aliases is longer than {MAX_CHAIN}; name the model at its end"
            ));
            return None;
        }
        match all.get(end) {
            Some(next) => end = next,
            None => return Some(end),
        }
    }
}
