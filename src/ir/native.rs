//! What only its own dialect understands, and what only its own provider does.

use serde_json::Value;

use super::{DialectId, LossReport};

/// Where a node stood, in the words of the dialect it was read from: `messages[3].content[0]`. Empty: the root.
pub type Path = Box<str>;

/// A field or a node which only its own dialect understands. Encoders put their own back where it stood, and report a
/// foreign one as dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Native {
    /// Whose.
    pub dialect: DialectId,
    /// Where it stood, its own name included: `messages[3].name`.
    pub at: Path,
    /// The field's name, or the node's type.
    pub key: Box<str>,
    /// What stood there.
    pub json: Value,
}

impl Native {
    /// A field of the node at `parent`.
    pub fn field(dialect: DialectId, parent: &str, key: &str, json: Value) -> Self {
        let at = if parent.is_empty() {
            key.into()
        } else {
            format!("{parent}.{key}").into()
        };
        Native {
            dialect,
            at,
            key: key.into(),
            json,
        }
    }

    /// What an encoder of `dialect` does with a node's natives: its own go through `put`, foreign ones are reported.
    pub fn settle<'n>(
        natives: impl IntoIterator<Item = &'n Native>,
        dialect: DialectId,
        loss: &mut LossReport,
        mut put: impl FnMut(&'n Native),
    ) {
        for native in natives {
            if native.dialect == dialect {
                put(native);
            } else {
                loss.dropped(native.at.to_string(), "the provider's dialect has no such field");
            }
        }
    }
}

/// A setting of a request, and the name of its field where it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Set<T> {
    /// What was said.
    pub value: T,
    /// The path of the field in its own dialect, for loss reports.
    pub at: &'static str,
}

impl<T> Set<T> {
    /// A setting read from the field at that path.
    pub fn new(value: T, at: &'static str) -> Self {
        Set { value, at }
    }
}

/// A provider-bound token, to be returned unchanged to the one who made it. Between [`Dialect`]s it travels sealed
/// (`translate::opaque`); encoders and decoders see only tokens of their own.
///
/// [`Dialect`]: crate::dialects::Dialect
#[derive(Clone, PartialEq, Eq)]
pub struct Opaque(pub Box<str>);

impl std::fmt::Debug for Opaque {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Opaque({} bytes)", self.0.len())
    }
}
