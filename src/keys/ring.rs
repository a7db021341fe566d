//! The ring: every key by its keyed hash, in an immutable snapshot.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hmac::{Hmac, KeyInit, Mac as _};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::client_key::{is_well_formed, looks_like_ours};
use super::{Grant, KeyError};
use crate::clock::{Clock, UnixMicros};

/// Length of a text which may be an imported key, in bytes.
pub const IMPORTED_LEN: std::ops::RangeInclusive<usize> = 8..=256;

/// Stands before the hash of an imported key in what is hashed, so that none of our own texts can give the same.
const IMPORTED: &[u8] = b"imported sha256:";

/// HMAC-SHA256 of a key's text: what is stored of its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// One secret in the ring.
#[derive(Clone)]
pub(super) struct Slot {
    pub(super) grant: Arc<Grant>,
    /// It was replaced by a newer one and is good until then.
    pub(super) until: Option<UnixMicros>,
}

/// In how many parts the ring lies. What one change costs is a copy of their addresses and of one part: of a million keys some
/// thousand slots.
const SHARDS: usize = 1024;

type Shard = HashMap<KeyMac, Slot, BuildHasherDefault<MacHasher>>;

/// Every secret of every key. Copies share the parts which are the same in both.
#[derive(Clone)]
pub(super) struct Snapshot {
    /// By the MAC's last bytes: the first are its hash within the part.
    shards: Box<[Arc<Shard>]>,
    /// There are imported keys: what has not our form is looked up.
    pub(super) imported: bool,
}

impl Default for Snapshot {
    fn default() -> Self {
        let empty = Arc::default();
        Snapshot {
            shards: vec![empty; SHARDS].into(),
            imported: false,
        }
    }
}

impl KeyMac {
    fn shard(&self) -> usize {
        let [.., high, low] = self.0;
        usize::from(u16::from_be_bytes([high, low])) % SHARDS
    }
}

impl Snapshot {
    fn get(&self, mac: &KeyMac) -> Option<&Slot> {
        self.shards[mac.shard()].get(mac)
    }

    pub(super) fn put(&mut self, mac: KeyMac, slot: Slot) {
        Arc::make_mut(&mut self.shards[mac.shard()]).insert(mac, slot);
    }

    pub(super) fn forget(&mut self, mac: &KeyMac) {
        Arc::make_mut(&mut self.shards[mac.shard()]).remove(mac);
    }
}

/// Authenticates requests; shared by all threads, never locked.
pub struct Ring {
    /// The state of HMAC after its key: cloned per request, so that the key is not hashed each time.
    keyed: Hmac<Sha256>,
    keys: ArcSwap<Snapshot>,
    clock: Clock,
}

impl Ring {
    pub(super) fn new(pepper: &[u8; 32], clock: Clock) -> Self {
        Ring {
            keyed: keyed(pepper),
            keys: ArcSwap::default(),
            clock,
        }
    }

    /// The keyed hash of a key's text.
    pub(super) fn mac(&self, text: &[u8]) -> KeyMac {
        KeyMac(self.keyed.clone().chain_update(text).finalize().into_bytes().into())
    }

    /// The keyed hash of an imported key, whose text we never saw.
    pub(super) fn mac_imported(&self, sha256: &[u8; 32]) -> KeyMac {
        let hash = self.keyed.clone().chain_update(IMPORTED).chain_update(sha256);
        KeyMac(hash.finalize().into_bytes().into())
    }

    /// Puts a changed copy in the place of all keys: one swap, however much is changed. Changes are made one at a time, by
    /// [`super::Keys`]. Only the parts that change are copied.
    pub(super) fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let mut keys = Snapshot::clone(&self.keys.load());
        change(&mut keys);
        self.keys.store(Arc::new(keys));
    }

    /// Is there such a secret?
    pub(super) fn holds(&self, mac: &KeyMac) -> Option<Arc<Grant>> {
        self.keys.load().get(mac).map(|slot| slot.grant.clone())
    }

    /// Whose key this is. Looks up by the full 32-byte HMAC-SHA256; about a microsecond. What has not the form of our keys
    /// is looked up only if keys were imported, and only if it may be one.
    pub fn authenticate(&self, presented: &[u8]) -> Result<Arc<Grant>, KeyError> {
        let keys = self.keys.load();
        let well_formed = is_well_formed(presented);
        let mut found = None;
        if well_formed {
            found = keys.get(&self.mac(presented));
        }
        if found.is_none() && keys.imported && may_be_imported(presented) {
            found = keys.get(&self.mac_imported(&Sha256::digest(presented).into()));
        }
        match found {
            None if well_formed || (keys.imported && !looks_like_ours(presented)) => Err(KeyError::Unknown),
            None => Err(KeyError::Malformed),
            Some(slot) if slot.grant.key.revoked_at.is_some() => Err(KeyError::Revoked),
            Some(slot) if slot.until.is_some_and(|until| until <= self.clock.now()) => Err(KeyError::Replaced),
            Some(slot) => Ok(slot.grant.clone()),
        }
    }
}

/// Visible ASCII, not too short and not too long: nothing else is hashed.
fn may_be_imported(presented: &[u8]) -> bool {
    IMPORTED_LEN.contains(&presented.len()) && presented.iter().all(u8::is_ascii_graphic)
}
