//! Client keys: the keys we issue. Only a keyed hash of a secret is stored (HARDENING S3).

pub mod client_key;
pub mod envelope;
pub mod grant;
pub mod master;
pub mod policy;
pub mod ring;
pub mod seal;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

pub use client_key::{ClientKey, KeyText};
pub use grant::{Denied, Grant};
pub use master::MasterKey;
pub use policy::{Group, Policy};
pub use ring::Ring;

use crate::clock::Clock;
use crate::ids::KeyId;
use crate::limits::{AccountId, Accounts, Chain};
use crate::store::{Store, StoreError};
use ring::{KeyMac, Snapshot};

/// Longest name or owner of a key, in characters.
pub const NAME_MAX: usize = 100;
/// Most tags of a key.
pub const TAGS_MAX: usize = 16;
/// Longest tag, in characters.
pub const TAG_MAX: usize = 64;
/// The fact by which a master key is recognised.
const CHECK: &str = "master-key-check";

/// Why a key was refused. All are 401.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `sk-tg-<12>-<32>`, or its checksum is wrong: a typing mistake, refused without a look-up.
    #[error("the key is malformed: it should look like sk-tg-<12 characters>-<32 characters>")]
    Malformed,
    /// No such key.
    #[error("the key is unknown")]
    Unknown,
    /// It was revoked.
    #[error("the key was revoked")]
    Revoked,
}

/// Why a key can't be created, listed or revoked.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There is no key of that id.
    #[error("there is no key {0}")]
    NoSuchKey(KeyId),
    /// A name, an owner or a tag can't be taken.
    #[error("the key's {field} {why}")]
    Unfit {
        /// `name`, `owner` or `tags`.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The data folder belongs to another master key.
    #[error(
        "this is not the master key the data folder was made with; put that one back (every client key depends on it). If it is \
         to be replaced: master_key names the new one, master_key_previous the one before"
    )]
    WrongMasterKey,
    /// What is sealed under the master key is not as it was.
    #[error(
        "the master key is the right one, but what is sealed under it in the data folder was changed; put a copy of the data \
         folder's store back"
    )]
    DamagedEnvelope,
    /// The system gave no randomness.
    #[error("the system's randomness: {0}")]
    Random(getrandom::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The keys in the store, and the ring from which requests are authenticated. A change is in the ring, on every thread,
/// before the call returns.
pub struct Keys {
    store: Arc<Store>,
    ring: Arc<Ring>,
    accounts: Arc<Accounts>,
    clock: Clock,
    /// Every key; locked for the whole of a change, so that store and ring never differ about the order of two.
    known: Mutex<BTreeMap<KeyId, Stored>>,
}

/// What is stored of a key.
#[derive(Clone)]
struct Stored {
    key: Arc<ClientKey>,
    mac: KeyMac,
}

/// What a new key is given.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// Words by which routes tell keys apart: at most [`TAGS_MAX`], each of 1 to [`TAG_MAX`] characters, none twice.
    pub tags: Vec<String>,
}

impl Keys {
    /// Has this store been used with a master key? Then a missing one must not be made anew.
    pub fn sealed(store: &Store) -> Result<bool, KeysError> {
        envelope::is_there(store)
    }

    /// Loads every key into a fresh ring. The first master key a store meets is the only one it will take from then on, until
    /// [`envelope::rotate`].
    /// `accounts` gets one for each key and group, with its limits.
    pub fn load(
        store: Arc<Store>,
        master: &MasterKey,
        accounts: Arc<Accounts>,
        clock: Clock,
    ) -> Result<Self, KeysError> {
        let pepper = envelope::pepper(&store, master)?;
        let mut known = BTreeMap::new();
        let mut snapshot = Snapshot::default();
        for (id, value) in store.keys().all()? {
            let (key, mac) = stored::read(&value)
                .ok_or_else(|| StoreError::Failed(format!("the key {} is unreadable", String::from_utf8_lossy(&id))))?;
            let stored = Stored {
                key: Arc::new(key),
                mac: KeyMac(mac),
            };
            snapshot.insert(stored.mac, grant(&accounts, &stored.key));
            known.insert(stored.key.id.clone(), stored);
        }
        Ok(Keys {
            store,
            ring: Arc::new(Ring::new(&pepper, snapshot)),
            accounts,
            clock,
            known: Mutex::new(known),
        })
    }

    /// What authenticates requests.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Makes a key. The text is shown once and never stored. Blocking: on disk when it returns.
    pub fn create(&self, new: NewKey) -> Result<(Arc<ClientKey>, KeyText), KeysError> {
        check_text("name", &new.name)?;
        if let Some(owner) = &new.owner {
            check_text("owner", owner)?;
        }
        check_tags(&new.tags)?;
        let mut known = self.known.lock();
        let mut text = KeyText::generate().map_err(KeysError::Random)?;
        while known.contains_key(&text.id()) {
            text = KeyText::generate().map_err(KeysError::Random)?;
        }
        let key = Arc::new(ClientKey {
            id: text.id(),
            name: new.name,
            owner: new.owner,
            last4: text.last4(),
            created_at: self.clock.now(),
            revoked_at: None,
            tags: new.tags,
            group: None,
            expires_at: None,
            policy: Policy::default(),
        });
        let mac = self.ring.mac(text.0.expose().as_bytes());
        self.change(&mut known, Stored { key: key.clone(), mac })?;
        Ok((key, text))
    }

    /// Every key, oldest first, the revoked ones too.
    pub fn list(&self) -> Vec<Arc<ClientKey>> {
        let mut keys: Vec<_> = self.known.lock().values().map(|stored| stored.key.clone()).collect();
        keys.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        keys
    }

    /// One key, also a revoked one.
    pub fn get(&self, id: &KeyId) -> Option<Arc<ClientKey>> {
        self.known.lock().get(id).map(|stored| stored.key.clone())
    }

    /// Revokes a key: refused from now on. Revoking twice is no error. Blocking: on disk when it returns.
    pub fn revoke(&self, id: &KeyId) -> Result<Arc<ClientKey>, KeysError> {
        let mut known = self.known.lock();
        let Some(stored) = known.get(id).cloned() else {
            return Err(KeysError::NoSuchKey(id.clone()));
        };
        if stored.key.revoked_at.is_some() {
            return Ok(stored.key);
        }
        let key = Arc::new(ClientKey {
            revoked_at: Some(self.clock.now()),
            ..ClientKey::clone(&stored.key)
        });
        self.change(
            &mut known,
            Stored {
                key: key.clone(),
                mac: stored.mac,
            },
        )?;
        Ok(key)
    }

    /// First on disk, then in the ring, so that nothing is granted which a crash would undo.
    fn change(&self, known: &mut BTreeMap<KeyId, Stored>, stored: Stored) -> Result<(), KeysError> {
        let value = stored::write(&stored.key, stored.mac.0)
            .map_err(|e| StoreError::Failed(format!("a key can't be encoded: {e}")))?;
        self.store.keys().put(&stored.key.id.0, &value)?;
        self.ring.put(stored.mac, grant(&self.accounts, &stored.key));
        known.insert(stored.key.id.clone(), stored);
        Ok(())
    }
}

fn grant(accounts: &Accounts, key: &Arc<ClientKey>) -> Arc<Grant> {
    let account = accounts.get(&AccountId::Key(key.id.clone()));
    account.set_limits(key.policy.limits.clone());
    Arc::new(Grant {
        key: key.clone(),
        group: None,
        chain: Chain::new(account, None),
    })
}

fn check_text(field: &'static str, text: &str) -> Result<(), KeysError> {
    let why = if text.trim().is_empty() {
        "is empty"
    } else if text.chars().count() > NAME_MAX {
        "is longer than 100 characters"
    } else if text.chars().any(char::is_control) {
        "has control characters"
    } else {
        return Ok(());
    };
    Err(KeysError::Unfit { field, why })
}

fn check_tags(tags: &[String]) -> Result<(), KeysError> {
    let why = if tags.len() > TAGS_MAX {
        "are more than 16"
    } else if tags.iter().any(|tag| tag.trim().is_empty()) {
        "have an empty one"
    } else if tags.iter().any(|tag| tag.chars().count() > TAG_MAX) {
        "have one of more than 64 characters"
    } else if tags.iter().flat_map(|tag| tag.chars()).any(char::is_control) {
        "have control characters"
    } else if tags.iter().enumerate().any(|(at, tag)| tags[..at].contains(tag)) {
        "have one twice"
    } else {
        return Ok(());
    };
    Err(KeysError::Unfit { field: "tags", why })
}

/// Are two secrets equal? In time that depends on their lengths only; empty is never equal (HARDENING S4).
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    !a.is_empty() && bool::from(a.ct_eq(b))
}

#[cfg(test)]
mod tests;
