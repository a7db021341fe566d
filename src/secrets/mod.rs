//! Secrets entered through the API (keys of providers, passwords of proxies), by name, sealed at rest (HARDENING S2).
//!
//! Each is a fact of the store: XChaCha20-Poly1305 under HKDF-SHA256(master key, "provider-key/v1"), bound to its name and
//! times. In memory they are open, as [`Secret`]s, since requests need them; nothing here ever prints one. To change the master
//! key, start with both: what the one before sealed is opened with it and sealed anew bit by bit ([`Vault::reseal`]), whatever
//! interrupts it.
//!
//! Not here: which rule uses a secret (`rules/`), who may change one (`admin/`).

mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use hmac::{Hmac, Mac};
use parking_lot::{Mutex, MutexGuard};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::clock::{Clock, UnixMicros};
use crate::config::{SECRET_NAME_RULE, Secret, is_secret_name};
use crate::keys::seal::{KeyMark, OpenError, Sealer};
use crate::keys::{KeysError, MasterKey, envelope, ring};
use crate::store::{Store, StoreError};
use record::Record;

/// Most secrets.
pub const MAX_SECRETS: usize = 10_000;
/// Longest secret, in bytes: as long as a file that holds one may be.
pub const MAX_SECRET: usize = 16 << 10;
/// What of a master key seals secrets.
const PURPOSE: &str = "provider-key/v1";
/// Names told where many are at fault.
const MAX_TOLD: usize = 5;

/// Why a secret can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// Not a name, or not a secret.
    #[error("the secret's {field} {why}")]
    Unfit {
        /// `name` or `secret`.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are [`MAX_SECRETS`].
    #[error("there are {MAX_SECRETS} secrets, and there may be no more")]
    TooMany,
    /// Sealed under a master key that is not at hand.
    #[error(
        "{count} secrets ({names}) are sealed under the master key {mark}, which is not the one in use: a change of the master \
         key was not carried through. Set master_key_previous to the file of the one before until the log says that all are \
         sealed anew"
    )]
    OtherKey {
        /// How many.
        count: usize,
        /// Some of them.
        names: String,
        /// Whose they are.
        mark: KeyMark,
    },
    /// The system gave no randomness.
    #[error("the system's randomness: {0}")]
    Random(getrandom::Error),
    /// The envelope.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What is told of a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its name.
    pub name: Arc<str>,
    /// When it was first entered.
    pub created_at: UnixMicros,
    /// When it was last entered.
    pub changed_at: UnixMicros,
    /// Four characters of a keyed hash, by which people see whether two are the same; `None`: it can't be opened.
    pub fingerprint: Option<String>,
}

/// The secrets. A change is on disk before the call returns; who uses a secret is told by whoever changes it.
pub struct Vault {
    store: Arc<Store>,
    sealer: Sealer,
    previous: Option<Sealer>,
    fingerprints: Hmac<Sha256>,
    clock: Clock,
    /// Locked for the whole of a change, so that store and memory never differ about the order of two.
    held: Mutex<BTreeMap<Arc<str>, Held>>,
    /// Locked by who changes secrets together with the rules that use them; before `held`.
    turn: Mutex<()>,
}

/// A secret in memory.
struct Held {
    /// `None`: it was changed in the store since it was sealed, and can't be opened.
    secret: Option<Secret>,
    created_at: UnixMicros,
    changed_at: UnixMicros,
    mark: KeyMark,
}

impl Vault {
    /// Opens every secret. `previous`: the master key before this one, while it is being replaced. A secret that was changed in
    /// the store is left out with an error in the log, so that one broken record stops nothing else. Blocking.
    pub fn load(
        store: Arc<Store>,
        master: &MasterKey,
        previous: Option<&MasterKey>,
        clock: Clock,
    ) -> Result<Self, VaultError> {
        let pepper = envelope::pepper(&store, master)?;
        let mut vault = Vault {
            sealer: Sealer::new(master, PURPOSE),
            previous: previous.map(|master| Sealer::new(master, PURPOSE)),
            fingerprints: fingerprints(&pepper),
            clock,
            held: Mutex::default(),
            turn: Mutex::default(),
            store,
        };
        let mut held = BTreeMap::new();
        let mut foreign: Vec<(String, KeyMark)> = Vec::new();
        for (name, value) in vault.store.secrets().all()? {
            let name = String::from_utf8(name).map_err(|_| StoreError::Failed("a secret's name is no text".into()))?;
            let record = Record::read(&value)
                .ok_or_else(|| StoreError::Failed(format!("the secret {name} is of a version not known here")))?;
            let secret = match vault.open(&record, &name) {
                Ok(secret) => Some(secret),
                Err(OpenError::OtherKey(mark)) => {
                    foreign.push((name, mark));
                    continue;
                }
                Err(OpenError::Changed) => {
                    tracing::error!(
                        name,
                        "a secret in the store was changed and can't be opened; enter it again"
                    );
                    None
                }
            };
            let one = Held {
                secret,
                created_at: record.created_at,
                changed_at: record.changed_at,
                mark: record.mark(),
            };
            held.insert(name.into(), one);
        }
        if let Some((_, mark)) = foreign.first() {
            let names: Vec<&str> = foreign.iter().map(|(name, _)| name.as_str()).take(MAX_TOLD).collect();
            let more = if foreign.len() > MAX_TOLD { ", ..." } else { "" };
            return Err(VaultError::OtherKey {
                count: foreign.len(),
                names: names.join(", ") + more,
                mark: *mark,
            });
        }
        vault.held = Mutex::new(held);
        Ok(vault)
    }

    /// A turn to change secrets together with the rules that use them: one at a time. Given back when dropped.
    pub fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// The secret of that name. `None`: there is none, or it can't be opened.
    pub fn get(&self, name: &str) -> Option<Secret> {
        self.held.lock().get(name)?.secret.clone()
    }

    /// Whether there is one of that name, also one that can't be opened.
    pub fn has(&self, name: &str) -> bool {
        self.held.lock().contains_key(name)
    }

    /// Every secret, to be hidden wherever it might show.
    pub fn secrets(&self) -> Vec<Secret> {
        self.held.lock().values().filter_map(|one| one.secret.clone()).collect()
    }

    /// What may be told of them, by name.
    pub fn list(&self) -> Vec<Known> {
        self.held
            .lock()
            .iter()
            .map(|(name, one)| self.known(name, one))
            .collect()
    }

    /// Enters a secret, or another in its place: the bool says that there was none. Blocking: on disk when it returns.
    pub fn set(&self, name: &str, secret: Secret) -> Result<(Known, bool), VaultError> {
        if !is_secret_name(name) {
            return Err(VaultError::Unfit {
                field: "name",
                why: SECRET_NAME_RULE,
            });
        }
        check(&secret)?;
        let mut held = self.held.lock();
        let before = held.get(name);
        if before.is_none() && held.len() >= MAX_SECRETS {
            return Err(VaultError::TooMany);
        }
        let changed_at = self.clock.now();
        let one = Held {
            created_at: before.map_or(changed_at, |before| before.created_at),
            changed_at,
            mark: self.sealer.mark(),
            secret: Some(secret),
        };
        self.put(name, &one)?;
        let known = self.known(&Arc::from(name), &one);
        let fresh = held.insert(known.name.clone(), one).is_none();
        Ok((known, fresh))
    }

    /// Takes a secret away; `false`: there was none. What was written of it, sealed, goes with later writes. Blocking.
    pub fn delete(&self, name: &str) -> Result<bool, VaultError> {
        let mut held = self.held.lock();
        if !held.contains_key(name) {
            return Ok(false);
        }
        self.store.secrets().remove(name)?;
        held.remove(name);
        Ok(true)
    }

    /// How many are sealed under the master key before.
    pub fn behind(&self) -> usize {
        self.held.lock().values().filter(|one| self.is_behind(one)).count()
    }

    /// Seals at most `most` of those anew, under the master key in use; gives how many are left. When none is, what the other
    /// key opens is gone from the file of facts. Between two there is room for other changes. Blocking.
    pub fn reseal(&self, most: usize) -> Result<usize, VaultError> {
        let names: Vec<Arc<str>> = {
            let held = self.held.lock();
            let behind = held.iter().filter(|(_, one)| self.is_behind(one));
            behind.map(|(name, _)| name.clone()).take(most).collect()
        };
        for name in names {
            let mut held = self.held.lock();
            // Meanwhile it may have been entered anew, or taken away.
            let Some(one) = held.get_mut(&name).filter(|one| self.is_behind(one)) else {
                continue;
            };
            self.put(&name, one)?;
            one.mark = self.sealer.mark();
        }
        let left = self.behind();
        if left == 0 {
            self.store.drop_superseded_facts()?;
        }
        Ok(left)
    }

    /// What can't be opened has nothing that could be sealed anew.
    fn is_behind(&self, one: &Held) -> bool {
        one.mark != self.sealer.mark() && one.secret.is_some()
    }

    fn open(&self, record: &Record, name: &str) -> Result<Secret, OpenError> {
        let opened = match (record.open(&self.sealer, name), &self.previous) {
            (Err(OpenError::OtherKey(_)), Some(previous)) => record.open(previous, name)?,
            (opened, _) => opened?,
        };
        // Copied once, and both wiped.
        let text = std::str::from_utf8(&opened).map_err(|_| OpenError::Changed)?;
        Ok(Secret::new(text))
    }

    fn put(&self, name: &str, one: &Held) -> Result<(), VaultError> {
        let Some(secret) = &one.secret else {
            return Ok(());
        };
        let times = (one.created_at, one.changed_at);
        let record = Record::seal(&self.sealer, name, times, secret.expose().as_bytes()).map_err(VaultError::Random)?;
        let value = record
            .write()
            .map_err(|error| StoreError::Failed(format!("a secret can't be encoded: {error}")))?;
        Ok(self.store.secrets().put(name, &value)?)
    }

    fn known(&self, name: &Arc<str>, one: &Held) -> Known {
        Known {
            name: name.clone(),
            created_at: one.created_at,
            changed_at: one.changed_at,
            fingerprint: one.secret.as_ref().map(|secret| self.fingerprint(secret)),
        }
    }

    /// 20 bits of HMAC-SHA256 in the alphabet of RFC 4648's base 32: enough to see that two differ, too little to try guesses
    /// on, and no use without the key.
    fn fingerprint(&self, secret: &Secret) -> String {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let mac = self
            .fingerprints
            .clone()
            .chain_update(secret.expose())
            .finalize()
            .into_bytes();
        let digit = |byte: &u8| char::from(DIGITS[usize::from(byte & 31)]);
        mac.iter().take(4).map(digit).collect()
    }
}

/// A key of its own for fingerprints, from what outlives the master key.
fn fingerprints(pepper: &[u8; 32]) -> Hmac<Sha256> {
    let mut key = Zeroizing::new([0; 32]);
    let derived = ring::keyed(pepper).chain_update(b"secret fingerprint/v1").finalize();
    key.copy_from_slice(&derived.into_bytes());
    ring::keyed(&key)
}

/// It must fit into a header: visible ASCII, spaces within (a proxy's password may have them).
fn check(secret: &Secret) -> Result<(), VaultError> {
    let text = secret.expose();
    let why = if text.is_empty() {
        "is empty"
    } else if text.len() > MAX_SECRET {
        "is longer than 16 KiB"
    } else if text.trim().len() != text.len() {
        "has white space around it"
    } else if !text.bytes().all(|b| b.is_ascii_graphic() || b == b' ') {
        "has characters which no header can carry"
    } else {
        return Ok(());
    };
    Err(VaultError::Unfit { field: "secret", why })
}
