//! Names that users give, and that none is given twice.

use std::collections::HashMap;
use std::path::PathBuf;

use crate::config::value::Value;

/// Longest name of a provider or credential.
const MAX_NAME: usize = 64;
/// Longest name of a route, which may be a phrase.
const MAX_PHRASE: usize = 128;

/// Whether a provider or credential may be called so: it stands in headers, metrics and `provider/model`.
pub(super) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// What names may be.
pub(super) const RULE: &str = "a name has 1 to 64 of the characters a-z, 0-9, - and _";

/// A name, checked.
pub(super) fn check<'a>(value: &Value<'a>) -> Option<&'a str> {
    let name = value.string()?;
    if is_name(name) {
        return Some(name);
    }
    value.problem(RULE);
    None
}

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
