//! Looking at keys: one, all, page by page.

use std::ops::Bound;
use std::str::FromStr;
use std::sync::Arc;

use super::{ClientKey, Grant, Keys, Stored};
use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};

/// A key, and what is known of it.
#[derive(Clone, Debug)]
pub struct KeyRecord {
    /// The key.
    pub key: Arc<ClientKey>,
    /// What it may do, with its group and its accounts.
    pub grant: Arc<Grant>,
    /// Its secrets, newest first; never the secrets themselves.
    pub secrets: Vec<SecretInfo>,
    /// How often it was written.
    pub revision: u64,
}

/// One secret of a key, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretInfo {
    /// What to recognise it by.
    pub hint: String,
    /// When it was made.
    pub made_at: UnixMicros,
    /// When it ends, if it was replaced by a newer one.
    pub until: Option<UnixMicros>,
}

/// Whether a key is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It is.
    Active,
    /// Disabled for now.
    Disabled,
    /// Its time is over.
    Expired,
    /// Revoked for good.
    Revoked,
    /// Its group is disabled.
    GroupDisabled,
    /// Its group was deleted.
    GroupDeleted,
}

impl KeyState {
    /// All.
    pub const ALL: [KeyState; 6] = [
        KeyState::Active,
        KeyState::Disabled,
        KeyState::Expired,
        KeyState::Revoked,
        KeyState::GroupDisabled,
        KeyState::GroupDeleted,
    ];

    /// Its name in the admin API.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeyState::Active => "active",
            KeyState::Disabled => "disabled",
            KeyState::Expired => "expired",
            KeyState::Revoked => "revoked",
            KeyState::GroupDisabled => "group_disabled",
            KeyState::GroupDeleted => "group_deleted",
        }
    }
}

impl FromStr for KeyState {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        KeyState::ALL.into_iter().find(|state| state.as_str() == word).ok_or(())
    }
}

impl KeyRecord {
    /// Whether it is good at this time.
    pub fn state(&self, at: UnixMicros) -> KeyState {
        use super::Denied;
        if self.key.revoked_at.is_some() {
            return KeyState::Revoked;
        }
        // Only from where it is used is not known here, and stands last in the check.
        match self.grant.check(None, at) {
            Ok(()) | Err(Denied::Network) => KeyState::Active,
            Err(Denied::Disabled) => KeyState::Disabled,
            Err(Denied::Expired) => KeyState::Expired,
            Err(Denied::GroupDisabled) => KeyState::GroupDisabled,
            Err(Denied::GroupDeleted) => KeyState::GroupDeleted,
        }
    }
}

/// Which keys. Every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Of this group.
    pub group: Option<GroupId>,
    /// Of this owner.
    pub owner: Option<String>,
    /// With this tag.
    pub tag: Option<String>,
    /// In this state.
    pub state: Option<KeyState>,
}

impl Wanted {
    fn fits(&self, record: &KeyRecord, at: UnixMicros) -> bool {
        let key = &record.key;
        self.group
            .as_ref()
            .is_none_or(|group| key.group.as_ref() == Some(group))
            && self
                .owner
                .as_ref()
                .is_none_or(|owner| key.owner.as_ref() == Some(owner))
            && self.tag.as_ref().is_none_or(|tag| key.tags.contains(tag))
            && self.state.is_none_or(|state| record.state(at) == state)
    }
}

/// Keys in the order in which they were made.
#[derive(Clone, Debug)]
pub struct Page {
    /// The keys.
    pub keys: Vec<KeyRecord>,
    /// Where to go on; `None`: these were the last.
    pub next: Option<(UnixMicros, KeyId)>,
}

impl Keys {
    /// Every key, oldest first, the revoked ones too.
    pub fn list(&self) -> Vec<Arc<ClientKey>> {
        let known = self.known.lock();
        let of = |(_, id): &(UnixMicros, KeyId)| known.keys.get(id).map(|stored| stored.key().clone());
        known.order.iter().filter_map(of).collect()
    }

    /// At most `limit` keys, oldest first, the revoked ones too, behind `after`.
    pub fn page(&self, wanted: &Wanted, after: Option<&(UnixMicros, KeyId)>, limit: usize) -> Page {
        let now = self.clock.now();
        let known = self.known.lock();
        let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(after.clone()));
        let mut keys = Vec::new();
        let mut next = None;
        for (_, id) in known.order.range((from, Bound::Unbounded)) {
            let Some(record) = known.keys.get(id).map(Stored::record) else {
                continue;
            };
            if !wanted.fits(&record, now) {
                continue;
            }
            if keys.len() == limit {
                // There is one more; the page ends with the last that was taken.
                next = keys
                    .last()
                    .map(|last: &KeyRecord| (last.key.created_at, last.key.id.clone()));
                break;
            }
            keys.push(record);
        }
        Page { keys, next }
    }

    /// One key, also a revoked one.
    pub fn get(&self, id: &KeyId) -> Option<Arc<ClientKey>> {
        self.known.lock().keys.get(id).map(|stored| stored.key().clone())
    }

    /// One key with all that is known of it.
    pub fn record(&self, id: &KeyId) -> Option<KeyRecord> {
        self.known.lock().keys.get(id).map(Stored::record)
    }
}

impl Stored {
    pub(super) fn record(&self) -> KeyRecord {
        let key = self.key();
        let info = |secret: &super::stored::KeySecret| SecretInfo {
            hint: match secret.imported {
                true => secret.hint.clone(),
                false => format!("sk-tg-{}-\u{2026}{}", key.id, secret.hint),
            },
            made_at: secret.made_at,
            until: secret.until,
        };
        KeyRecord {
            key: key.clone(),
            grant: self.grant.clone(),
            secrets: self.secrets.iter().map(info).collect(),
            revision: self.revision,
        }
    }
}
