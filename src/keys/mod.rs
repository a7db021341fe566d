//! Client keys: the keys we issue. Only a keyed hash of a secret is stored (HARDENING S3).

pub mod client_key;
pub mod master;
pub mod ring;

use std::sync::Arc;

pub use client_key::{ClientKey, KeyText};
pub use master::MasterKey;
pub use ring::Ring;

use crate::clock::Clock;
use crate::ids::KeyId;
use crate::store::Store;

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
    /// The store failed.
    #[error(transparent)]
    Store(#[from] crate::store::StoreError),
}

/// The keys in the store, and the ring from which requests are authenticated. A change is in the ring, on every thread,
/// before the call returns.
pub struct Keys {
    store: Arc<Store>,
    ring: Arc<Ring>,
    clock: Clock,
}

/// What a new key is given.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
}

impl Keys {
    /// Loads every key into a fresh ring.
    pub fn load(_store: Arc<Store>, _master: &MasterKey, _clock: Clock) -> Result<Self, KeysError> {
        unreachable!("skeleton")
    }

    /// What authenticates requests.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// Makes a key. The text is shown once and never stored.
    pub fn create(&self, _new: NewKey) -> Result<(Arc<ClientKey>, KeyText), KeysError> {
        let _ = (&self.store, &self.clock);
        unreachable!("skeleton")
    }

    /// Every key, oldest first, the revoked ones too.
    pub fn list(&self) -> Vec<Arc<ClientKey>> {
        unreachable!("skeleton")
    }

    /// Revokes a key: refused from now on. Revoking twice is no error.
    pub fn revoke(&self, _id: &KeyId) -> Result<Arc<ClientKey>, KeysError> {
        unreachable!("skeleton")
    }
}
