//! What a key or a group may be given.

use std::borrow::Cow;

use super::compiled::{Compiled, ModelLists, glob};
use super::{KeysError, NewKey, Policy};
use crate::limits::{BadLimits, Limits};

/// Longest name or owner of a key, in characters.
pub const NAME_MAX: usize = 100;
/// Most tags of a key.
pub const TAGS_MAX: usize = 16;
/// Longest tag, in characters.
pub const TAG_MAX: usize = 64;
/// Most models, routes, providers or networks of a policy.
pub const LIST_MAX: usize = 64;
/// Longest model name or glob, in bytes, as in rules.
const MODEL_MAX: usize = 256;
/// Longest name of a route, in bytes, as in rules.
const ROUTE_MAX: usize = 128;
/// Longest name of a provider or a group.
const WORD_MAX: usize = 64;
/// Longest description of a group, in characters.
const DESCRIPTION_MAX: usize = 500;
fn unfit(field: &'static str, why: impl Into<Cow<'static, str>>) -> KeysError {
    KeysError::Unfit { field, why: why.into() }
}

/// The fields of a key.
pub(super) fn check_key(key: &NewKey) -> Result<(), KeysError> {
    check_name("name", &key.name)?;
    if let Some(owner) = &key.owner {
        check_name("owner", owner)?;
    }
    check_tags(&key.tags)?;
    check_policy(&key.policy)
}

/// A name for people.
pub(super) fn check_name(field: &'static str, text: &str) -> Result<(), KeysError> {
    if text.trim().is_empty() {
        Err(unfit(field, "is empty"))
    } else if text.chars().count() > NAME_MAX {
        Err(unfit(field, "is longer than 100 characters"))
    } else if text.chars().any(char::is_control) {
        Err(unfit(field, "has control characters"))
    } else {
        Ok(())
    }
}

/// The name of a group.
pub(super) fn check_group_name(name: &str) -> Result<(), KeysError> {
    let good = (1..=WORD_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        // These are no names in a path.
        && !matches!(name, "." | "..");
    match good {
        true => Ok(()),
        false => Err(unfit(
            "id",
            "must have 1 to 64 of the characters A-Z, a-z, 0-9, `.`, `_` and `-`",
        )),
    }
}

/// The description of a group.
pub(super) fn check_description(text: &str) -> Result<(), KeysError> {
    if text.chars().count() > DESCRIPTION_MAX {
        Err(unfit("description", "is longer than 500 characters"))
    } else if text.chars().any(char::is_control) {
        Err(unfit("description", "has control characters"))
    } else {
        Ok(())
    }
}

fn check_tags(tags: &[String]) -> Result<(), KeysError> {
    let why = if tags.len() > TAGS_MAX {
        "are more than 16"
    } else if tags.iter().any(|tag| tag.trim().is_empty()) {
        "have an empty one"
    } else if tags.iter().any(|tag| tag.chars().count() > TAG_MAX) {
        "have one of more than 64 characters"
    } else if tags.iter().flat_map(|tag| tag.chars()).any(char::is_control) {
        "have control characters"
    } else if has_twice(tags) {
        "have one twice"
    } else {
        return Ok(());
    };
    Err(unfit("tags", why))
}

/// What a key or a group may do. Names of routes and providers which are not there are taken: rules come and go.
pub(super) fn check_policy(policy: &Policy) -> Result<(), KeysError> {
    let Policy {
        disabled: _,
        models,
        routes,
        providers,
        networks,
        limits,
        markup: _,
    } = policy;
    check_list(
        "policy.models",
        models,
        "has one that is no model name or glob of 1 to 256 bytes",
        |model| (1..=MODEL_MAX).contains(&model.len()) && !model.contains(char::is_control),
    )?;
    for model in models {
        if let Err(error) = glob(model) {
            return Err(unfit(
                "policy.models",
                format!("has one that is no glob: {}", error.kind()),
            ));
        }
    }
    let why = "has one that is no route name: 1 to 128 bytes, without white space around it";
    check_list("policy.routes", routes, why, |route| {
        (1..=ROUTE_MAX).contains(&route.len()) && route.trim() == route && !route.contains(char::is_control)
    })?;
    let why = "has one that is no provider name: 1 to 64 of the characters a-z, 0-9, `-` and `_`";
    check_list("policy.providers", providers, why, |name| {
        (1..=WORD_MAX).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
    })?;
    if networks.len() > LIST_MAX {
        return Err(unfit("policy.networks", "has more than 64"));
    }
    if has_twice(networks) {
        return Err(unfit("policy.networks", "has one twice"));
    }
    // Globs may be too large together.
    if Compiled::new(policy, &mut ModelLists::default()).is_broken() {
        return Err(unfit("policy.models", "can't be compiled: it is too large"));
    }
    check_limits(limits)
}

fn check_list(
    field: &'static str,
    list: &[String],
    why: &'static str,
    good: impl Fn(&str) -> bool,
) -> Result<(), KeysError> {
    if list.len() > LIST_MAX {
        Err(unfit(field, "has more than 64"))
    } else if !list.iter().all(|name| good(name)) {
        Err(unfit(field, why))
    } else if has_twice(list) {
        Err(unfit(field, "has one twice"))
    } else {
        Ok(())
    }
}

fn has_twice<T: PartialEq>(list: &[T]) -> bool {
    list.iter().enumerate().any(|(at, item)| list[..at].contains(item))
}

fn check_limits(limits: &Limits) -> Result<(), KeysError> {
    limits.check().map_err(|bad| {
        let field = match &bad {
            BadLimits::UnknownTimeZone { .. } => "policy.time_zone",
            BadLimits::Twice(_) | BadLimits::Empty(_) => "policy.budgets",
            BadLimits::TooMuch { field, .. } => match *field {
                "requests_per_minute" => "policy.requests_per_minute",
                "tokens_per_minute" => "policy.tokens_per_minute",
                "concurrent" => "policy.concurrent",
                _ => "policy.budgets",
            },
        };
        unfit(field, format!("can't be set: {bad}"))
    })
}
