//! The ids of things, as types of their own so that none is taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// One upstream attempt: the id of its row in the ledger. Time-ordered (UUIDv7, RFC 9562), always ours,
/// never taken from a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub uuid::Uuid);

impl AttemptId {
    /// A fresh id.
    pub fn new() -> Self {
        AttemptId(uuid::Uuid::now_v7())
    }
}

impl Default for AttemptId {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One client request: what `x-request-id` says. Taken over from the client if it matches
/// `^[A-Za-z0-9._-]{1,64}$`, else a UUIDv7 of ours.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RequestId(pub Arc<str>);

impl RequestId {
    /// Longest id taken over from a client, in bytes.
    pub const MAX_LEN: usize = 64;

    /// The client's id if it is well-formed, else a fresh one.
    pub fn from_client(sent: Option<&[u8]>) -> Self {
        let well_formed = |id: &&[u8]| {
            !id.is_empty()
                && id.len() <= Self::MAX_LEN
                && id
                    .iter()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        };
        match sent.filter(well_formed).and_then(|id| std::str::from_utf8(id).ok()) {
            Some(id) => RequestId(id.into()),
            None => {
                let mut buffer = uuid::Uuid::encode_buffer();
                RequestId((&*uuid::Uuid::now_v7().hyphenated().encode_lower(&mut buffer)).into())
            }
        }
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A client key's public part: the twelve characters between `sk-tg-` and the secret.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(pub Arc<str>);

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
