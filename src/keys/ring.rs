//! The ring: every key by its keyed hash, in an immutable snapshot.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::client_key::is_well_formed;
use super::{Grant, KeyError};

/// HMAC-SHA256 of a key's text: what is stored of its secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyMac(pub(super) [u8; 32]);

impl Hash for KeyMac {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        state.write_u64(u64::from_le_bytes(first));
    }
}

/// A MAC is uniform already: its first eight bytes are its hash. Who does not know the pepper can't choose them.
#[derive(Default)]
pub(super) struct MacHasher(u64);

impl Hasher for MacHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// HMAC-SHA256 under a derived key. RFC 2104 2: a key shorter than a block is filled up with zeroes.
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..32].copy_from_slice(key);
    Hmac::new((&*block).into())
}

pub(super) type Snapshot = HashMap<KeyMac, Arc<Grant>, BuildHasherDefault<MacHasher>>;

/// Authenticates requests; shared by all threads, never locked.
pub struct Ring {
    /// The state of HMAC after its key: cloned per request, so that the key is not hashed each time.
    keyed: Hmac<Sha256>,
    keys: ArcSwap<Snapshot>,
}

impl Ring {
    pub(super) fn new(pepper: &[u8; 32], keys: Snapshot) -> Self {
        Ring {
            keyed: keyed(pepper),
            keys: ArcSwap::from_pointee(keys),
        }
    }

    /// The keyed hash of a key's text.
    pub(super) fn mac(&self, text: &[u8]) -> KeyMac {
        KeyMac(self.keyed.clone().chain_update(text).finalize().into_bytes().into())
    }

    /// Puts a key in, or its newer version in its place. Changes are made one at a time, by [`super::Keys`].
    pub(super) fn put(&self, mac: KeyMac, grant: Arc<Grant>) {
        let mut keys = Snapshot::clone(&self.keys.load());
        keys.insert(mac, grant);
        self.keys.store(Arc::new(keys));
    }

    /// Whose key this is. Looks up by the full 32-byte HMAC-SHA256; about a microsecond.
    pub fn authenticate(&self, presented: &[u8]) -> Result<Arc<Grant>, KeyError> {
        if !is_well_formed(presented) {
            return Err(KeyError::Malformed);
        }
        match self.keys.load().get(&self.mac(presented)) {
            None => Err(KeyError::Unknown),
            Some(grant) if grant.key.revoked_at.is_some() => Err(KeyError::Revoked),
            Some(grant) => Ok(grant.clone()),
        }
    }
}
