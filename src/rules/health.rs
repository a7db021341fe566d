//! `health` of a provider: its active checks.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use crate::config::value::Value;

use super::names;

/// Bounds of the time between two checks: more often would cost the provider's limits, more seldom proves nothing.
const EVERY: RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(24 * 3600);
/// Longest path that is asked, in bytes.
const MAX_PATH: usize = 256;

/// Active checks of a provider: `health = { every = "5m" }`, or `health = "off"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How often its credentials and addresses are checked; `None`: never.
    pub every: Option<Duration>,
    /// The path asked with GET, below the base URL; `None`: the list of models, as the dialect has it.
    pub path: Option<Arc<str>>,
    /// A model to be asked for one token instead, where the list of models proves nothing; `None`: ask the path.
    pub model: Option<Arc<str>>,
}

impl Health {
    /// How often providers with credentials are checked, unless they say otherwise.
    pub const EVERY: Duration = Duration::from_secs(300);
}

impl Default for Health {
    fn default() -> Self {
        Health {
            every: Some(Self::EVERY),
            path: None,
            model: None,
        }
    }
}

/// `{ every, path, model }` or `"off"`. `None`: something is wrong, and reported.
pub(super) fn read(value: &Value<'_>) -> Option<Health> {
    if value.is_string() {
        if value.string()? == "off" {
            return Some(Health {
                every: None,
                ..Health::default()
            });
        }
        value.problem("it must be \"off\", or as in { every = \"5m\" }");
        return None;
    }
    let mut fields = value.table()?;
    let every = fields.get("every").map(|value| value.duration(EVERY));
    let path = fields.get("path");
    let model = fields.get("model");
    if let (Some(_), Some(model)) = (&path, &model) {
        model.problem("one of path and model is asked, not both. Remove one of them.");
    }
    fields.finish();
    let path = path.map(|value| asked(&value));
    let model = model.map(|value| names::model(&value).map(Arc::from));
    Some(Health {
        every: match every {
            None => Some(Health::EVERY),
            Some(every) => Some(every?),
        },
        path: match path {
            None => None,
            Some(path) => Some(path?),
        },
        model: match model {
            None => None,
            Some(model) => Some(model?),
        },
    })
}

fn asked(value: &Value<'_>) -> Option<Arc<str>> {
    let path = value.string()?;
    let fit = |b: u8| b.is_ascii_graphic() && b != b'#';
    if path.starts_with('/') && path.len() <= MAX_PATH && path.bytes().all(fit) {
        return Some(path.into());
    }
    value.problem(format!(
        "it is a path below the base URL, as in \"/models\": it begins with a slash and has {MAX_PATH} visible \
         characters at most"
    ));
    None
}
