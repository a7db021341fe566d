//! `[[provider.NAME.credential]]`: keys, by reference. The key itself never stands in a rules file.

use std::sync::Arc;

use crate::config::fields::Fields;

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
        .and_then(|value| reference::read(&value.secret(), Thing::Key, environment));
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
