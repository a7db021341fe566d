//! `[[provider.NAME.credential]]`: keys, by reference. The key itself never stands in a rules file.

use std::path::Path;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::Secret;
use crate::config::fields::Fields;
use crate::config::source::read_bounded;
use crate::config::value::{Value, looks_secret};

use super::Credential;
use super::environment::{Environment, is_name};
use super::names::{self, Names};

/// Largest file a key is read from.
const MAX_KEY_FILE: u64 = 16 << 10;
/// Largest weight.
pub(super) const MAX_WEIGHT: u64 = 1000;
/// Most credentials of one provider.
const MAX_CREDENTIALS: usize = 1000;

const LATER: &[(&str, &str)] = &[("limits", "limits of a credential")];

const HELP: &str = "put the key into an environment variable and write \"env:NAME\", or into a file of its own and \
                    write \"file:PATH\"";

/// All credentials of a provider.
pub(super) fn all(provider: &mut Fields<'_>, environment: &dyn Environment) -> Vec<Arc<Credential>> {
    let Some(value) = provider.get("credential") else {
        return Vec::new();
    };
    let entries = value.list().unwrap_or_default();
    if entries.len() > MAX_CREDENTIALS {
        value.problem(format!("there may be {MAX_CREDENTIALS} at most"));
    }
    let mut names = Names::default();
    let entries = entries.into_iter().take(MAX_CREDENTIALS);
    entries
        .filter_map(|value| one(value.table()?, &mut names, environment))
        .map(Arc::new)
        .collect()
}

fn one(mut fields: Fields<'_>, names: &mut Names, environment: &dyn Environment) -> Option<Credential> {
    let name = fields.need("name", "name = \"main\"").and_then(|value| {
        let name = names::check(&value)?;
        names.claim("credential", name, &value);
        Some(name)
    });
    let weight = fields.integer("weight", 0..=MAX_WEIGHT).unwrap_or(1);
    let key = fields
        .need("key", "key = \"env:NAME\" or key = \"file:PATH\"")
        .and_then(|value| key(&value.secret(), environment));
    fields.later(LATER).finish();
    let (secret, inactive) = match key? {
        Ok(secret) => (Some(secret), None),
        Err(reason) => (None, Some(reason)),
    };
    Some(Credential {
        name: name?.into(),
        secret,
        inactive,
        weight: u32::try_from(weight).unwrap_or(1),
    })
}

/// The key, or why it can't be had now. `None`: the reference is wrong, and reported.
fn key(value: &Value<'_>, environment: &dyn Environment) -> Option<Result<Secret, String>> {
    let found = match value.string()?.split_once(':') {
        Some(("env", name)) if is_name(name) && !is_key(name) => environment
            .get(name)
            .and_then(|text| sendable(text, &format!("the environment variable {name}"))),
        Some(("env", _)) => {
            value.problem(
                "after env: stands the name of an environment variable (letters, digits and _), not the key itself",
            );
            return None;
        }
        Some(("file", path)) if !path.is_empty() && !path.contains('\0') => file(Path::new(path)),
        Some(("file", _)) => {
            value.problem("after file: stands the path of a file which holds the key and nothing else");
            return None;
        }
        Some(("store", _)) => {
            value.problem(format!(
                "this version does not have it yet: keys kept in the store. Until then, {HELP}."
            ));
            return None;
        }
        _ => {
            value.problem(format!(
                "a key must not stand in this file (if this is one, replace it now): {HELP}."
            ));
            return None;
        }
    };
    Some(found)
}

/// A key put where its variable's name belongs. The name is told in logs, so that this must be noticed.
fn is_key(name: &str) -> bool {
    looks_secret(name) && name.contains(|c: char| c.is_ascii_lowercase())
}

fn file(path: &Path) -> Result<Secret, String> {
    let named = format!("the file {}", path.display());
    let bytes = read_bounded(path, MAX_KEY_FILE).map_err(|why| format!("{named} can't be read: {why}"))?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{named} is not UTF-8"))?;
    match text.trim() {
        "" => Err(format!("{named} is empty")),
        text => sendable(text.to_owned(), &named),
    }
}

/// A key travels in a header: visible ASCII.
fn sendable(text: String, named: &str) -> Result<Secret, String> {
    let secret = Secret::new(text);
    match secret.expose().bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(secret),
        false => Err(format!(
            "{named} holds more than a key: there are characters in it which no header can carry"
        )),
    }
}
