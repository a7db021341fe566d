//! Facts which nothing could bring back: client keys, groups, admin tokens, sealed secrets, the master key's check value. Few and
//! small.
//!
//! Each change is appended to `facts.tgj` and synced before it counts; sled holds the same as an index. At every opening
//! the two are joined: of each fact the newest version wins, wherever it stood, and is put where it was missing. So neither a
//! broken index nor a damaged file loses a fact which the other one has.

use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::facts_log::FactsLog;
use super::slot::Slot;
use super::{StoreError, codec};

/// Whose facts. The numbers stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) enum Room {
    Keys,
    Meta,
    Secrets,
    Groups,
    Tokens,
}

/// The value of a fact that was taken away. Nothing else has an empty one: values have a version byte.
const GONE: &[u8] = &[];

/// One version of one fact: a record of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fact<'a> {
    pub(super) version: u64,
    pub(super) room: Room,
    #[serde(borrow, with = "octets")]
    pub(super) key: &'a [u8],
    #[serde(borrow, with = "octets")]
    pub(super) value: &'a [u8],
}

/// What sled holds of a fact.
#[derive(Serialize, Deserialize)]
pub(super) struct Indexed<'a> {
    pub(super) version: u64,
    #[serde(borrow, with = "octets")]
    pub(super) value: &'a [u8],
}

/// Bytes in one piece: postcard writes them as it does a `Vec<u8>`, which serde would take byte by byte. (A hundred thousand keys
/// are read at a start.)
mod octets {
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

/// A fact's key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// The facts of one room.
pub struct Facts {
    pub(super) room: Room,
    pub(super) tree: Slot,
    log: Arc<Mutex<FactsLog>>,
}

impl Facts {
    pub(super) fn new(room: Room, tree: Slot, log: Arc<Mutex<FactsLog>>) -> Self {
        Facts { room, tree, log }
    }

    /// One fact.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.tree.get()?.get(key)? {
            Some(bytes) => match codec::decode::<Indexed<'_>>(&bytes)?.value {
                GONE => Ok(None),
                value => Ok(Some(value.to_vec())),
            },
            None => Ok(None),
        }
    }

    /// Sets a fact; on disk when this returns. Blocking: an fsync. If it fails, nothing has changed.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.put_all(&[(key, value)])
    }

    /// Sets several facts with one write and one fsync. If it fails nothing has changed; only a crash while it is written may
    /// leave the first of them.
    pub fn put_all(&self, all: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let mut log = self.log.lock();
        let tree = self.tree.get()?;
        let mut version = log.version();
        let fact = |&(key, value)| {
            version += 1;
            let key = str::as_bytes(key);
            Fact {
                version,
                room: self.room,
                key,
                value,
            }
        };
        let facts: Vec<Fact<'_>> = all.iter().map(fact).collect();
        log.append(&facts)?;
        for fact in &facts {
            // The fact is on disk: a failing index must not make it undone; the next opening puts it there.
            if let Err(e) = index(&tree, fact) {
                tracing::error!(error = %e, "a change is on disk and not in the store's index; the next start mends it");
            }
        }
        Ok(())
    }

    /// Takes a fact away: what is left of it is that it is gone. On disk when this returns. Blocking: an fsync.
    pub fn remove(&self, key: &str) -> Result<(), StoreError> {
        self.put(key, GONE)
    }

    /// Every fact's key and value, in the order of keys.
    pub fn all(&self) -> Result<Vec<KeyValue>, StoreError> {
        let mut all = Vec::new();
        for entry in &self.tree.get()? {
            let (key, bytes) = entry?;
            match codec::decode::<Indexed<'_>>(&bytes)?.value {
                GONE => {}
                value => all.push((key.to_vec(), value.to_vec())),
            }
        }
        Ok(all)
    }
}

pub(super) fn index(tree: &sled::Tree, fact: &Fact<'_>) -> Result<(), StoreError> {
    let Fact {
        version, key, value, ..
    } = *fact;
    tree.insert(key, codec::encode(&Indexed { version, value })?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_they_always_were() {
        /// The form of the first programs.
        #[derive(Serialize)]
        struct First {
            version: u64,
            room: Room,
            key: Vec<u8>,
            value: Vec<u8>,
        }
        let long = vec![0xA5; 300];
        for (key, value) in [(&b"key"[..], &b""[..]), (b"", b"value"), (b"long", &long)] {
            let (version, room) = (700, Room::Groups);
            let fact = Fact {
                version,
                room,
                key,
                value,
            };
            let first = First {
                version,
                room,
                key: key.to_vec(),
                value: value.to_vec(),
            };
            let bytes = codec::encode(&fact).unwrap();
            assert_eq!(bytes, codec::encode(&first).unwrap());
            assert_eq!(codec::decode::<Fact<'_>>(&bytes).unwrap(), fact);
        }
    }
}
