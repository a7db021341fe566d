//! A client key: what is stored of it, and the text a client holds.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::config::Secret;
use crate::ids::KeyId;

/// What is known of a key. Never its secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ClientKey {
    /// Its public part.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// The last four characters, so that people can tell keys apart.
    pub last4: String,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When it was revoked; `None`: it is good.
    pub revoked_at: Option<UnixMicros>,
}

/// The text of a key, shown once: `sk-tg-<12 public>-<32 secret>`, base62; the last four characters of the secret are a
/// checksum of all before.
#[derive(Clone, Debug)]
pub struct KeyText(pub Secret);
