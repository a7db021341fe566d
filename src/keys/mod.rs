//! Client keys: the keys we issue, or took over by their hash; their groups; and the tokens of the admin API. Only a keyed hash of
//! a secret is stored (HARDENING S3).

mod changes;
pub mod client_key;
mod compiled;
pub mod envelope;
mod fit;
pub mod grant;
mod groups;
mod listing;
pub mod master;
pub mod policy;
pub mod ring;
pub mod seal;
mod stored;
pub mod tokens;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use subtle::ConstantTimeEq;

pub use changes::{Imported, NewImport, NewKey};
pub use client_key::{ClientKey, KeyText};
pub use compiled::Allowed;
pub use fit::{LIST_MAX, NAME_MAX, TAG_MAX, TAGS_MAX};
pub use grant::{Denied, Grant};
pub use groups::{GroupRecord, NewGroup};
pub use listing::{KeyRecord, KeyState, Page, SecretInfo, Wanted};
pub use master::MasterKey;
pub use policy::{Group, Policy};
pub use ring::Ring;
pub use tokens::{AdminToken, Role, Tokens};

use crate::clock::{Clock, UnixMicros};
use crate::ids::{GroupId, KeyId};
use crate::limits::{AccountId, Accounts, Chain};
use crate::store::{Store, StoreError};
use compiled::{Compiled, ModelLists};
use ring::{Slot, Snapshot};
use stored::KeySecret;

/// Most secrets of a key at once: the newest, and those which rotation lets live on for a while.
pub const SECRETS_MAX: usize = 4;
/// Most keys.
pub const KEYS_MAX: usize = 1_000_000;
/// Most groups.
pub const GROUPS_MAX: usize = 10_000;
/// Most keys imported by one call.
pub const IMPORT_MAX: usize = 500;
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
    /// It was rotated, and the time in which the old secret was good as well is over.
    #[error("the key was replaced by a newer one")]
    Replaced,
}

/// Why a key or a group can't be created, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// There is no key of that id.
    #[error("there is no key {0}")]
    NoSuchKey(KeyId),
    /// There is no group of that name.
    #[error("there is no group {0}")]
    NoSuchGroup(GroupId),
    /// The name of a new group is taken.
    #[error("there is a group {0} already; a deleted group keeps its name, its rows in the ledger bear it")]
    GroupExists(GroupId),
    /// The group was deleted.
    #[error("the group {0} was deleted")]
    GroupDeleted(GroupId),
    /// The key was revoked: it gets no new secret.
    #[error("the key {0} was revoked")]
    IsRevoked(KeyId),
    /// It was changed since the caller looked: its version is another.
    #[error("it was changed meanwhile: its version is {0}; look at it again")]
    Changed(u64),
    /// It has as many secrets as it may have.
    #[error(
        "the key has {SECRETS_MAX} secrets that are still good; wait until one has ended, or rotate with no overlap"
    )]
    ManySecrets,
    /// There are as many as there may be.
    #[error("there are {1} {0} already: no more are taken")]
    Full(&'static str, usize),
    /// Something given can't be taken.
    #[error("{field} {why}")]
    Unfit {
        /// The field: `name`, `policy.models` ...
        field: &'static str,
        /// What is wrong with it.
        why: Cow<'static, str>,
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
    /// All there is; locked for the whole of a change, so that store and ring never differ about the order of two. No
    /// request looks here.
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    keys: BTreeMap<KeyId, Stored>,
    /// The keys in the order in which they were made.
    order: BTreeSet<(UnixMicros, KeyId)>,
    groups: BTreeMap<GroupId, KnownGroup>,
    lists: ModelLists,
}

/// What is known of a key.
#[derive(Clone)]
struct Stored {
    /// Newest first, never empty.
    secrets: Vec<KeySecret>,
    /// How often it was written: changes of two people at once are noticed by it.
    revision: u64,
    grant: Arc<Grant>,
}

/// What is known of a group.
#[derive(Clone)]
struct KnownGroup {
    group: Arc<Group>,
    revision: u64,
    compiled: Arc<Compiled>,
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
        let unreadable = |what: &str, id: &[u8]| {
            StoreError::Failed(format!("the {what} {} is unreadable", String::from_utf8_lossy(id)))
        };
        let mut known = Known::default();
        for (id, value) in store.groups().all()? {
            let (group, revision) = stored::read_group(&value).ok_or_else(|| unreadable("group", &id))?;
            known.set_group(&accounts, Arc::new(group), revision);
        }
        let ring = Arc::new(Ring::new(&pepper, clock.clone()));
        let all = store.keys().all()?;
        let mut loaded = Vec::with_capacity(all.len());
        for (id, value) in all {
            let (key, secrets, revision) = stored::read(&value).ok_or_else(|| unreadable("key", &id))?;
            let grant = known.grant(&accounts, Arc::new(key), None);
            loaded.push(Stored {
                secrets,
                revision,
                grant,
            });
        }
        ring.change(|ring| loaded.iter().for_each(|stored| stored.put_into(ring)));
        for stored in loaded {
            known.insert(stored);
        }
        Ok(Keys {
            store,
            ring,
            accounts,
            clock,
            known: Mutex::new(known),
        })
    }

    /// What authenticates requests.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }
}

impl Stored {
    fn key(&self) -> &Arc<ClientKey> {
        &self.grant.key
    }

    /// All its secrets, as they stand now.
    fn put_into(&self, ring: &mut Snapshot) {
        for secret in &self.secrets {
            ring.imported |= secret.imported;
            let slot = Slot {
                grant: self.grant.clone(),
                until: secret.until,
            };
            ring.put(secret.mac, slot);
        }
    }
}

impl Known {
    fn insert(&mut self, stored: Stored) {
        let key = stored.key();
        self.order.insert((key.created_at, key.id.clone()));
        self.keys.insert(key.id.clone(), stored);
    }

    fn set_group(&mut self, accounts: &Accounts, group: Arc<Group>, revision: u64) {
        let account = accounts.get(&AccountId::Group(group.id.clone()));
        account.set_limits(group.policy.limits.clone());
        let compiled = Arc::new(Compiled::new(&group.policy, &mut self.lists));
        let known = KnownGroup {
            group: group.clone(),
            revision,
            compiled,
        };
        self.groups.insert(group.id.clone(), known);
    }

    /// What a key may do. `before`: its last grant; what was compiled for it serves again if the key's policy is the same.
    fn grant(&mut self, accounts: &Accounts, key: Arc<ClientKey>, before: Option<&Grant>) -> Arc<Grant> {
        let group = key.group.as_ref().and_then(|id| self.groups.get(id)).cloned();
        let own = match before {
            Some(before) if before.key.policy == key.policy => before.own.clone(),
            _ => Arc::new(Compiled::new(&key.policy, &mut self.lists)),
        };
        let account = accounts.get(&AccountId::Key(key.id.clone()));
        if before.is_none_or(|before| before.key.policy.limits != key.policy.limits) {
            account.set_limits(key.policy.limits.clone());
        }
        let shared = group
            .as_ref()
            .map(|known| accounts.get(&AccountId::Group(known.group.id.clone())));
        Arc::new(Grant {
            key,
            chain: Chain::new(account, shared),
            own,
            shared: group.as_ref().map(|known| known.compiled.clone()),
            group: group.map(|known| known.group),
        })
    }
}

/// Are two secrets equal? In time that depends on their lengths only; empty is never equal (HARDENING S4).
pub fn ct_eq(a: &[u8], b: &[u8]) -> bool {
    !a.is_empty() && bool::from(a.ct_eq(b))
}

#[cfg(test)]
mod tests;
