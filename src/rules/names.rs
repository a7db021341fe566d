//! Names that users give, and that none is given twice.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::name::MAX_NAME;
pub(super) use crate::config::name::{RULE, check, is_name};
use crate::config::value::Value;

use super::patterns::{MAX_PATTERN, glob};

/// Longest name of a route, which may be a phrase.
const MAX_PHRASE: usize = 128;

/// A route's name, which may be a phrase.
pub(super) fn check_phrase<'a>(value: &Value<'a>) -> Option<&'a str> {
    let name = value.string()?;
    let good = (1..=MAX_PHRASE).contains(&name.len()) && name.trim() == name && !name.contains(char::is_control);
    if good {
        return Some(name);
    }
    value.problem(format!(
        "a route's name has 1 to {MAX_PHRASE} bytes, without white space around it"
    ));
    None
}

/// Most model names or globs in one list.
const MAX_MODELS: usize = 1000;
/// Longest name of a model at a provider, in bytes.
const MAX_MODEL: usize = 256;
/// Most tags in one list.
const MAX_TAGS: usize = 32;

/// Model names and globs: one, or a list. Those which are none are reported and left out.
pub(super) fn models<'a>(value: &Value<'a>) -> Vec<(&'a str, Value<'a>)> {
    let all = value.one_or_list();
    if all.is_empty() || all.len() > MAX_MODELS {
        value.problem(format!("it takes 1 to {MAX_MODELS} model names or globs"));
    }
    let all = all.into_iter().take(MAX_MODELS);
    all.filter_map(|value| Some((pattern(&value)?, value))).collect()
}

fn pattern<'a>(value: &Value<'a>) -> Option<&'a str> {
    let pattern = value.string()?;
    if pattern.is_empty() || pattern.len() > MAX_PATTERN || pattern.contains(char::is_control) {
        value.problem(format!(
            "a model name or glob has 1 to {MAX_PATTERN} bytes, none of them a control character"
        ));
    } else if let Err(error) = glob(pattern) {
        value.problem(format!(
            "this is not a glob: {}. A \\ before a character takes it as it is.",
            error.kind()
        ));
    } else {
        return Some(pattern);
    }
    None
}

/// A model's name, as clients or providers say it.
pub(super) fn model<'a>(value: &Value<'a>) -> Option<&'a str> {
    let model = value.string()?;
    if (1..=MAX_MODEL).contains(&model.len()) && !model.contains(char::is_control) {
        return Some(model);
    }
    value.problem(format!(
        "a model's name has 1 to {MAX_MODEL} bytes, none of them a control character"
    ));
    None
}

/// Tags: one, or a list.
pub(super) fn tags(value: &Value<'_>) -> Vec<Arc<str>> {
    let all = value.one_or_list();
    if all.is_empty() || all.len() > MAX_TAGS {
        value.problem(format!("it takes 1 to {MAX_TAGS} tags"));
    }
    let tag = |value: Value<'_>| {
        let tag = value.string()?;
        if (1..=MAX_NAME).contains(&tag.len()) && !tag.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Some(Arc::from(tag));
        }
        value.problem(format!("a tag is one word of 1 to {MAX_NAME} bytes"));
        None
    };
    all.into_iter().take(MAX_TAGS).filter_map(tag).collect()
}

/// Names given so far, and where.
#[derive(Default)]
pub(super) struct Names(HashMap<String, (PathBuf, usize)>);

impl Names {
    /// Takes a name; a problem if it was taken. True: it is new.
    pub(super) fn claim(&mut self, thing: &str, name: &str, value: &Value<'_>) -> bool {
        if let Some((file, line)) = self.0.get(name) {
            value.problem(format!(
                "there is another {thing} of this name at {}:{line}. Rename or remove one of them.",
                file.display()
            ));
            return false;
        }
        self.0.insert(name.to_owned(), value.place());
        true
    }
}
