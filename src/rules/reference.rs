//! `"env:NAME"`, `"file:PATH"` and `"store:NAME"`: secrets by reference. A secret itself never stands in a rules file.

use std::path::Path;

use zeroize::Zeroizing;

use crate::config::reference::{is_key, is_variable};
use crate::config::source::read_bounded;
use crate::config::value::Value;
use crate::config::{Secret, is_secret_name};

use super::environment::Environment;

/// Largest file a secret is read from.
const MAX_FILE: u64 = 16 << 10;

/// What the secret is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    /// A provider's key.
    Key,
    /// A proxy's password.
    Password,
}

impl Thing {
    fn name(self) -> &'static str {
        match self {
            Thing::Key => "key",
            Thing::Password => "password",
        }
    }

    /// What to do with one.
    pub(super) fn help(self) -> String {
        let name = self.name();
        format!(
            "put the {name} into an environment variable and write \"env:NAME\", or into a file of its own and write \
             \"file:PATH\", or into the gateway (`tollgate secrets set NAME`) and write \"store:NAME\""
        )
    }

    /// A key travels in a header of its own, a password within one: visible ASCII. A password may have spaces.
    fn sendable(self, text: String, named: &str) -> Result<Secret, String> {
        self.fit(Secret::new(text), named)
    }

    fn fit(self, secret: Secret, named: &str) -> Result<Secret, String> {
        let fit = |b: u8| b.is_ascii_graphic() || (b == b' ' && self == Thing::Password);
        match secret.expose().bytes().all(fit) {
            true => Ok(secret),
            false => Err(format!(
                "{named} holds more than a {}: there are characters in it which no header can carry",
                self.name()
            )),
        }
    }
}

/// The secret, or why it can't be had now. `None`: the reference is wrong, and reported. `value` must be one that is not
/// shown.
pub(super) fn read(value: &Value<'_>, thing: Thing, environment: &dyn Environment) -> Option<Result<Secret, String>> {
    let name = thing.name();
    let found = match value.string()?.split_once(':') {
        Some(("env", variable)) if is_variable(variable) && !is_key(variable) => environment
            .get(variable)
            .and_then(|text| thing.sendable(text, &format!("the environment variable {variable}"))),
        Some(("env", _)) => {
            value.problem(format!(
                "after env: stands the name of an environment variable (letters, digits and _), not the {name} itself"
            ));
            return None;
        }
        Some(("file", path)) if !path.is_empty() && !path.contains('\0') => file(Path::new(path), thing),
        Some(("file", _)) => {
            value.problem(format!(
                "after file: stands the path of a file which holds the {name} and nothing else"
            ));
            return None;
        }
        Some(("store", stored)) if is_secret_name(stored) => environment
            .stored(stored)
            .and_then(|secret| thing.fit(secret, &format!("the secret {stored} of the store"))),
        Some(("store", _)) => {
            value.problem(format!(
                "after store: stands the name of a secret which the gateway keeps (a-z, 0-9, -, _ and ., beginning with a \
                 letter or a digit), not the {name} itself"
            ));
            return None;
        }
        _ => {
            value.problem(format!(
                "a {name} must not stand in this file (if this is one, replace it now): {}.",
                thing.help()
            ));
            return None;
        }
    };
    Some(found)
}

/// The name of the secret in the store, if that is where it comes from.
pub(super) fn stored_name<'a>(value: &Value<'a>) -> Option<&'a str> {
    value.text()?.strip_prefix("store:").filter(|name| is_secret_name(name))
}

fn file(path: &Path, thing: Thing) -> Result<Secret, String> {
    let named = format!("the file {}", path.display());
    let bytes = read_bounded(path, MAX_FILE).map_err(|why| format!("{named} can't be read: {why}"))?;
    let bytes = Zeroizing::new(bytes);
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("{named} is not UTF-8"))?;
    match text.trim() {
        "" => Err(format!("{named} is empty")),
        text => thing.sendable(text.to_owned(), &named),
    }
}
