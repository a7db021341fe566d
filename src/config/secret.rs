//! Secrets: values that can't be printed.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

/// Longest name of a secret which the gateway keeps, in bytes: a provider's and a credential's name and a dot fit.
pub const MAX_SECRET_NAME: usize = 129;

/// What such names may be, for people.
pub const SECRET_NAME_RULE: &str = "has 1 to 129 of the characters a-z, 0-9, -, _ and ., begins with a letter or a digit, and is not the secret itself";

/// Whether a secret may be called so. Names are shown: what looks like a key (`sk-`, a long run of letters and digits) is none.
pub fn is_secret_name(name: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
    let key = |run: &str| run.len() >= 28 && run.bytes().any(|b| b.is_ascii_digit());
    name.len() <= MAX_SECRET_NAME
        && name.bytes().all(fits)
        && name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric())
        && !name.starts_with("sk-")
        && !name.split(['-', '_', '.']).any(key)
}

/// A secret value. `Debug` and `Display` print `***`; no `PartialEq`, no `Serialize`.
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// Wraps a value.
    pub fn new(value: impl Into<String>) -> Self {
        Secret(Arc::new(Zeroizing::new(value.into())))
    }

    /// The value, to be written into an upstream header and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
