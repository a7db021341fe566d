//! Groups of keys: making, changing, deleting. A change holds for all keys of the group at once.

use std::sync::Arc;

use super::fit::{check_description, check_group_name, check_policy};
use super::stored;
use super::{GROUPS_MAX, Group, Keys, KeysError, KnownGroup, Policy, Stored};
use crate::ids::GroupId;
use crate::limits::{Account, AccountId};
use crate::store::StoreError;

/// What a group is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewGroup {
    /// What it is for, for people; may be empty.
    pub description: String,
    /// What its keys may do together.
    pub policy: Policy,
}

/// A group, and what is known of it.
#[derive(Clone)]
pub struct GroupRecord {
    /// The group.
    pub group: Arc<Group>,
    /// How often it was written.
    pub revision: u64,
    /// Its account.
    pub account: Arc<Account>,
}

impl Keys {
    /// Makes a group. Its name is taken for good.
    pub fn create_group(&self, id: &str, new: NewGroup) -> Result<GroupRecord, KeysError> {
        check_group_name(id)?;
        check_description(&new.description)?;
        check_policy(&new.policy)?;
        let id = GroupId(id.into());
        let known = self.known.lock();
        if known.groups.contains_key(&id) {
            return Err(KeysError::GroupExists(id));
        }
        if known.groups.len() >= GROUPS_MAX {
            return Err(KeysError::Full("groups", GROUPS_MAX));
        }
        let group = Group {
            id,
            description: new.description,
            created_at: self.clock.now(),
            deleted_at: None,
            policy: new.policy,
        };
        self.set_group(known, group, 1)
    }

    /// Changes a group. `version`: only if it is still this one.
    pub fn update_group(
        &self,
        id: &GroupId,
        version: Option<u64>,
        change: impl FnOnce(&mut NewGroup),
    ) -> Result<GroupRecord, KeysError> {
        let known = self.known.lock();
        let before = known.groups.get(id).cloned();
        let before = before.ok_or_else(|| KeysError::NoSuchGroup(id.clone()))?;
        if before.group.deleted_at.is_some() {
            return Err(KeysError::GroupDeleted(id.clone()));
        }
        if version.is_some_and(|version| version != before.revision) {
            return Err(KeysError::Changed(before.revision));
        }
        let group = Group::clone(&before.group);
        let mut fields = NewGroup {
            description: group.description.clone(),
            policy: group.policy.clone(),
        };
        let unchanged = fields.clone();
        change(&mut fields);
        if fields == unchanged {
            return Ok(self.group_record(&before));
        }
        check_description(&fields.description)?;
        check_policy(&fields.policy)?;
        let group = Group {
            description: fields.description,
            policy: fields.policy,
            ..group
        };
        self.set_group(known, group, before.revision + 1)
    }

    /// Deletes a group: its keys are refused from now on, until each is put into another group or into none. Deleting twice is
    /// no error.
    pub fn delete_group(&self, id: &GroupId) -> Result<GroupRecord, KeysError> {
        let known = self.known.lock();
        let before = known.groups.get(id).cloned();
        let before = before.ok_or_else(|| KeysError::NoSuchGroup(id.clone()))?;
        if before.group.deleted_at.is_some() {
            return Ok(self.group_record(&before));
        }
        let group = Group {
            deleted_at: Some(self.clock.now()),
            ..Group::clone(&before.group)
        };
        self.set_group(known, group, before.revision + 1)
    }

    /// One group, also a deleted one.
    pub fn group(&self, id: &GroupId) -> Option<GroupRecord> {
        let known = self.known.lock();
        known.groups.get(id).map(|known| self.group_record(known))
    }

    /// Groups in the order of their names, the deleted ones too: at most `limit` behind `after`, and whether there are more.
    pub fn groups(&self, after: Option<&GroupId>, limit: usize) -> (Vec<GroupRecord>, bool) {
        use std::ops::Bound;
        let known = self.known.lock();
        let from = after.map_or(Bound::Unbounded, |id| Bound::Excluded(id.clone()));
        let mut found = known.groups.range((from, Bound::Unbounded));
        let page = found
            .by_ref()
            .take(limit)
            .map(|(_, known)| self.group_record(known))
            .collect();
        (page, found.next().is_some())
    }

    /// On disk, into the account, and into the grants of all its keys, with one swap of the ring.
    fn set_group(
        &self,
        mut known: parking_lot::MutexGuard<'_, super::Known>,
        group: Group,
        revision: u64,
    ) -> Result<GroupRecord, KeysError> {
        let value = stored::write_group(&group, revision)
            .map_err(|e| StoreError::Failed(format!("a group can't be encoded: {e}")))?;
        self.store.groups().put(&group.id.0, &value)?;
        let known = &mut *known;
        let id = group.id.clone();
        known.set_group(&self.accounts, Arc::new(group), revision);
        let members: Vec<Stored> = known
            .keys
            .values()
            .filter(|stored| stored.key().group.as_ref() == Some(&id))
            .cloned()
            .collect();
        let changed: Vec<Stored> = members
            .into_iter()
            .map(|stored| Stored {
                grant: known.grant(&self.accounts, stored.key().clone(), Some(&stored.grant)),
                ..stored
            })
            .collect();
        if !changed.is_empty() {
            self.ring
                .change(|ring| changed.iter().for_each(|stored| stored.put_into(ring)));
        }
        for stored in changed {
            known.keys.insert(stored.key().id.clone(), stored);
        }
        match known.groups.get(&id) {
            Some(known) => Ok(self.group_record(known)),
            None => Err(KeysError::NoSuchGroup(id)),
        }
    }

    fn group_record(&self, known: &KnownGroup) -> GroupRecord {
        GroupRecord {
            group: known.group.clone(),
            revision: known.revision,
            account: self.accounts.get(&AccountId::Group(known.group.id.clone())),
        }
    }
}
