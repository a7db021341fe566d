//! The ids of things, as types of their own so that none is taken for another.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::random;

/// A UUIDv7: milliseconds, then 74 random bits.
fn fresh() -> uuid::Uuid {
    let millis = u64::try_from(Clock::system().now().0 / 1000).unwrap_or_default();
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&random::number().to_ne_bytes());
    bytes[8..].copy_from_slice(&random::number().to_ne_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(millis, &bytes).into_uuid()
}

/// One upstream attempt: the id of its row in the ledger. Time-ordered (UUIDv7, RFC 9562), always ours,
/// never taken from a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub uuid::Uuid);

impl AttemptId {
    /// A fresh id.
    pub fn new() -> Self {
        AttemptId(fresh())
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
                RequestId((&*fresh().hyphenated().encode_lower(&mut buffer)).into())
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

/// A group of client keys (a team): a name of letters, digits, `.`, `_` and `-`, 1 to 64 of them, given by who made it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub Arc<str>);

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_ids_are_version_7_and_do_not_repeat() {
        let threads: Vec<_> = (0..4)
            .map(|_| std::thread::spawn(|| (0..20_000).map(|_| fresh()).collect::<Vec<_>>()))
            .collect();
        let ids: Vec<uuid::Uuid> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        assert!(ids.iter().all(|id| id.get_version_num() == 7), "RFC 9562, 5.7");
        let distinct: std::collections::HashSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }

    #[test]
    fn only_a_well_formed_id_is_taken_over() {
        assert_eq!(&*RequestId::from_client(Some(b"a.B_9-")).0, "a.B_9-");
        for odd in [&b""[..], b"a b", b"a\n", &[b'x'; 65], b"\xff"] {
            assert_eq!(RequestId::from_client(Some(odd)).0.len(), 36, "{odd:?} is replaced");
        }
    }
}
