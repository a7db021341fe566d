//! How a secret is stored: one version byte, then postcard. The times stand open beside what is sealed, and are part of the
//! place it opens at, as its name is: none of them can be changed, and no record put in place of another.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::clock::UnixMicros;
use crate::keys::seal::{KeyMark, OpenError, Sealed, Sealer, place};

/// The version written today.
const VERSION: u8 = 1;
/// The only field of a secret that is sealed so far.
const FIELD: &[u8] = b"value";

/// A secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) created_at: UnixMicros,
    pub(super) changed_at: UnixMicros,
    sealed: Sealed,
}

impl Record {
    /// Seals.
    pub(super) fn seal(
        sealer: &Sealer,
        name: &str,
        (created_at, changed_at): (UnixMicros, UnixMicros),
        secret: &[u8],
    ) -> Result<Self, getrandom::Error> {
        let sealed = sealer.seal(&belongs(name, created_at, changed_at), secret)?;
        Ok(Record {
            created_at,
            changed_at,
            sealed,
        })
    }

    /// Opens.
    pub(super) fn open(&self, sealer: &Sealer, name: &str) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        sealer.open(&belongs(name, self.created_at, self.changed_at), &self.sealed)
    }

    /// The master key it is sealed under.
    pub(super) fn mark(&self) -> KeyMark {
        self.sealed.mark
    }

    pub(super) fn write(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_extend(self, vec![VERSION])
    }

    /// `None`: it is no record, or one of a later version.
    pub(super) fn read(value: &[u8]) -> Option<Self> {
        match value.split_first()? {
            (&VERSION, form) => postcard::from_bytes(form).ok(),
            _ => None,
        }
    }
}

fn belongs(name: &str, created_at: UnixMicros, changed_at: UnixMicros) -> Vec<u8> {
    let (created, changed) = (created_at.0.to_le_bytes(), changed_at.0.to_le_bytes());
    place(&[
        b"tollgate secret",
        name.as_bytes(),
        FIELD,
        &[VERSION],
        &created,
        &changed,
    ])
}
