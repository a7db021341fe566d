//! `[[provider.NAME.credential]]`, and `[[credential]]` with `provider = "NAME"` in any file: keys, by reference. The key itself never stands in a rules file.

use std::sync::Arc;

use crate::config::fields::Fields;
use crate::config::value::Value;

use super::egress_file;
use super::environment::Environment;
use super::names::{self, Names};
use super::reference::{self, Thing};
use super::{Credential, CredentialLimits, Egress};

/// Largest weight.
pub(super) const MAX_WEIGHT: u64 = 1000;
/// Most credentials of one provider.
const MAX_CREDENTIALS: usize = 1000;

/// Largest limit: more is none at all.
const MAX_LIMIT: u64 = 1_000_000_000_000;
/// Most requests at once with one credential.
const MAX_CONCURRENT: u64 = 1_000_000;

/// All credentials of a provider: its own, then those which stand elsewhere.
pub(super) fn all(
    provider: &mut Fields<'_>,
    elsewhere: &[Value<'_>],
    environment: &dyn Environment,
) -> Vec<Arc<Credential>> {
    let value = provider.get("credential");
    let own = value.as_ref().and_then(Value::list).unwrap_or_default();
    if own.len() + elsewhere.len() > MAX_CREDENTIALS
        && let Some(place) = value.as_ref().or(elsewhere.first())
    {
        place.problem(format!("there may be {MAX_CREDENTIALS} at most of one provider"));
    }
    let mut names = Names::default();
    let own = own.iter().map(|value| (value, false));
    let entries = own.chain(elsewhere.iter().map(|value| (value, true)));
    entries
        .take(MAX_CREDENTIALS)
        .filter_map(|(value, elsewhere)| one(value.table()?, elsewhere, &mut names, environment))
        .map(Arc::new)
        .collect()
}

/// The `[[credential]]` of a file, with the provider each names. One that names none is reported.
pub(super) fn elsewhere<'a>(root: &mut Fields<'a>) -> Vec<(&'a str, Value<'a>)> {
    let all = root
        .get("credential")
        .and_then(|value| value.list())
        .unwrap_or_default();
    let named = |value: Value<'a>| {
        let provider = value.table()?.need("provider", "provider = \"NAME\"")?.string()?;
        Some((provider, value))
    };
    all.into_iter().filter_map(named).collect()
}

fn one(
    mut fields: Fields<'_>,
    elsewhere: bool,
    names: &mut Names,
    environment: &dyn Environment,
) -> Option<Credential> {
    if elsewhere {
        // Read before; asked for again, so that it is known.
        let _ = fields.get("provider");
    }
    let name = fields.need("name", "name = \"main\"").and_then(|value| {
        let name = names::check(&value)?;
        names.claim("credential", name, &value);
        Some(name)
    });
    let weight = fields.integer("weight", 0..=MAX_WEIGHT).unwrap_or(1);
    let key = fields.need("key", "key = \"env:NAME\" or key = \"file:PATH\"");
    let stored = key.as_ref().and_then(reference::stored_name).map(Arc::from);
    let key = key.and_then(|value| reference::read(&value.secret(), Thing::Key, environment));
    let tags = fields.get("tags").map(|value| names::tags(&value)).unwrap_or_default();
    let limits = limits(fields.table("limits"));
    let egress = egress_file::egress(&mut fields, environment);
    fields.finish();
    let (secret, egress, inactive) = match (key?, egress?) {
        (Ok(secret), Ok(egress)) => (Some(secret), egress, None),
        (Err(reason), egress) => (None, egress.unwrap_or_default(), Some(reason)),
        (_, Err(reason)) => (None, Egress::default(), Some(reason)),
    };
    Some(Credential {
        name: name?.into(),
        secret,
        stored,
        inactive,
        weight: u32::try_from(weight).unwrap_or(1),
        tags,
        limits,
        egress,
    })
}

fn limits(mut fields: Fields<'_>) -> CredentialLimits {
    let limits = CredentialLimits {
        requests_per_minute: fields.integer("requests_per_minute", 1..=MAX_LIMIT),
        tokens_per_minute: fields.integer("tokens_per_minute", 1..=MAX_LIMIT),
        concurrent: fields
            .integer("concurrent", 1..=MAX_CONCURRENT)
            .and_then(|n| u32::try_from(n).ok()),
    };
    fields.finish();
    limits
}
