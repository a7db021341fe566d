//! Short names that users give: of providers, credentials, webhooks.

use super::value::Value;

/// Longest of them, in bytes.
pub(crate) const MAX_NAME: usize = 64;

/// What they may be.
pub(crate) const RULE: &str = "a name has 1 to 64 of the characters a-z, 0-9, - and _";

/// Whether something may be called so: names stand in headers, metrics and `provider/model`.
pub(crate) fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// A name, checked.
pub(crate) fn check<'a>(value: &Value<'a>) -> Option<&'a str> {
    let name = value.string()?;
    if is_name(name) {
        return Some(name);
    }
    value.problem(RULE);
    None
}
