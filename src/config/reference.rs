//! `"env:NAME"` and `"file:PATH"` in `conf/tollgate.toml`: secrets by reference, read at start. A secret itself never stands
//! in the file.

use std::path::PathBuf;

use zeroize::Zeroizing;

use super::Secret;
use super::source::read_bounded;
use super::value::{Value, looks_secret};

/// Largest file or variable a secret is read from, in bytes.
const MAX_BYTES: usize = 16 << 10;

/// Longest name of a variable, in bytes.
const MAX_VARIABLE: usize = 128;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// In a variable of the process's environment.
    Env(String),
    /// In a file which holds nothing else.
    File(PathBuf),
}

impl Reference {
    /// The reference which stands in this field; what is none is reported, without being shown.
    pub(super) fn of(value: Value<'_>, thing: &str) -> Option<Self> {
        let value = value.secret();
        let (kind, rest) = value.string()?.split_once(':').unwrap_or_default();
        match kind {
            "env" if is_variable(rest) && !is_key(rest) => return Some(Reference::Env(rest.to_owned())),
            "env" => value.problem(format!(
                "after env: stands the name of an environment variable (letters, digits and _), not the {thing} itself"
            )),
            "file" if !rest.is_empty() && !rest.contains('\0') => return Some(Reference::File(rest.into())),
            "file" => value.problem(format!(
                "after file: stands the path of a file which holds the {thing} and nothing else"
            )),
            _ => value.problem(format!(
                "a {thing} must not stand in this file (if this is one, replace it now): put it into an environment variable and \
                 write \"env:NAME\", or into a file of its own and write \"file:PATH\"."
            )),
        }
        None
    }

    /// The secret, as it is now: one word of visible ASCII. An error says why there is none, and nothing of what is there.
    pub fn read(&self) -> Result<Secret, String> {
        let (named, text) = match self {
            Reference::Env(name) => {
                let named = format!("the environment variable {name}");
                let Some(value) = std::env::var_os(name) else {
                    return Err(format!("{named} is not set"));
                };
                (named, Zeroizing::new(value.into_encoded_bytes()))
            }
            Reference::File(path) => {
                let named = format!("the file {}", path.display());
                let bytes =
                    read_bounded(path, MAX_BYTES as u64).map_err(|why| format!("{named} can't be read: {why}"))?;
                (named, Zeroizing::new(bytes))
            }
        };
        let text = std::str::from_utf8(&text).map(str::trim).unwrap_or("\0");
        if text.is_empty() {
            return Err(format!("{named} is empty"));
        }
        if text.len() > MAX_BYTES || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("{named} does not hold one word of visible ASCII"));
        }
        Ok(Secret::new(text))
    }
}

/// Whether it can be a variable's name.
pub(crate) fn is_variable(name: &str) -> bool {
    name.len() <= MAX_VARIABLE
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && !name.bytes().next().is_none_or(|b| b.is_ascii_digit())
}

/// A secret put where its variable's name belongs: names are told in logs, so that this must be noticed.
pub(crate) fn is_key(name: &str) -> bool {
    looks_secret(name) && name.contains(|c: char| c.is_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_holds_is_taken_without_the_white_space_around_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |text: &[u8]| {
            let path = folder.path().join("secret");
            std::fs::write(&path, text).expect("written");
            Reference::File(path).read()
        };
        assert_eq!(file(b" canary-1\n").expect("a secret").expose(), "canary-1");
        for (text, told) in [
            (&b""[..], "is empty"),
            (b" \n", "is empty"),
            (b"canary two", "one word"),
            (b"canary\xff", "one word"),
            ("canary\u{e9}".as_bytes(), "one word"),
        ] {
            let why = file(text).expect_err("no secret");
            assert!(why.contains(told) && !why.contains("canary"), "{why}");
        }
        let gone = Reference::File(folder.path().join("none")).read();
        assert!(gone.expect_err("no file").contains("can't be read"));
        let unset = Reference::Env("TOLLGATE_TEST_NEVER_SET".to_owned()).read();
        assert_eq!(
            unset.expect_err("not set"),
            "the environment variable TOLLGATE_TEST_NEVER_SET is not set"
        );
    }
}
