//! Making, changing, rotating, importing and revoking keys. All of it is on disk, and in the ring, when a call returns; nothing has
//! changed when it fails.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::KeyText;
use super::client_key::fresh_id;
use super::fit::{check_key, check_name};
use super::listing::KeyRecord;
use super::ring::KeyMac;
use super::stored::{self, KeySecret};
use super::{ClientKey, IMPORT_MAX, KEYS_MAX, Keys, KeysError, Known, Policy, SECRETS_MAX, Stored};
use crate::clock::UnixMicros;
use crate::ids::{GroupId, KeyId};
use crate::store::StoreError;

/// What a key is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKey {
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// Words by which routes tell keys apart: at most [`super::TAGS_MAX`], each of 1 to [`super::TAG_MAX`] characters, none
    /// twice.
    pub tags: Vec<String>,
    /// The group it belongs to; it must be there.
    pub group: Option<GroupId>,
    /// When it ends by itself.
    pub expires_at: Option<UnixMicros>,
    /// What it may do.
    pub policy: Policy,
}

/// A key of another system, to be taken over. Its text stays unknown to us.
#[derive(Clone, Debug)]
pub struct NewImport {
    /// SHA-256 of its text.
    pub sha256: [u8; 32],
    /// What people may recognise it by.
    pub hint: String,
    /// What it is given.
    pub key: NewKey,
}

/// What became of an import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The keys that were made, in the order given.
    pub made: Vec<KeyRecord>,
    /// Those which were there already, and stay as they are.
    pub known: Vec<KeyId>,
}

impl Keys {
    /// Makes a key. The text is shown once and never stored. Blocking: on disk when it returns.
    pub fn create(&self, new: NewKey) -> Result<(Arc<ClientKey>, KeyText), KeysError> {
        check_key(&new)?;
        let mut known = self.known.lock();
        known.check_group(new.group.as_ref())?;
        known.check_room(1)?;
        let mut text = KeyText::generate().map_err(KeysError::Random)?;
        while known.keys.contains_key(&text.id()) {
            text = KeyText::generate().map_err(KeysError::Random)?;
        }
        let now = self.clock.now();
        let key = Arc::new(new.made(text.id(), text.last4(), now));
        let stored = Stored {
            secrets: vec![self.secret(&text, now)],
            revision: 1,
            grant: known.grant(&self.accounts, key.clone(), None),
        };
        self.store_all(&mut known, vec![stored], &[])?;
        Ok((key, text))
    }

    /// Changes what a key was given. `version`: only if it is still this one.
    pub fn update(
        &self,
        id: &KeyId,
        version: Option<u64>,
        change: impl FnOnce(&mut NewKey),
    ) -> Result<KeyRecord, KeysError> {
        let mut known = self.known.lock();
        let stored = known.get(id, version)?;
        let before = NewKey::of(stored.key());
        let mut fields = before.clone();
        change(&mut fields);
        if fields == before {
            return Ok(stored.record());
        }
        check_key(&fields)?;
        if fields.group != before.group {
            known.check_group(fields.group.as_ref())?;
        }
        let old = stored.key();
        let key = ClientKey {
            revoked_at: old.revoked_at,
            ..fields.made(old.id.clone(), old.last4.clone(), old.created_at)
        };
        self.replace(&mut known, &stored, key, stored.secrets.clone(), &[])
    }

    /// Revokes a key: refused from now on. Revoking twice is no error. Blocking: on disk when it returns.
    pub fn revoke(&self, id: &KeyId) -> Result<Arc<ClientKey>, KeysError> {
        let mut known = self.known.lock();
        let stored = known.get(id, None)?;
        if stored.key().revoked_at.is_some() {
            return Ok(stored.key().clone());
        }
        let key = ClientKey {
            revoked_at: Some(self.clock.now()),
            ..ClientKey::clone(stored.key())
        };
        let record = self.replace(&mut known, &stored, key, stored.secrets.clone(), &[])?;
        Ok(record.key)
    }

    /// Gives a key a new secret: the same id, the same row in the books. Those it has stay good for `overlap`. A key that was
    /// imported gets one of our form.
    pub fn rotate(&self, id: &KeyId, overlap: Duration) -> Result<(KeyRecord, KeyText), KeysError> {
        let mut known = self.known.lock();
        let stored = known.get(id, None)?;
        if stored.key().revoked_at.is_some() {
            return Err(KeysError::IsRevoked(id.clone()));
        }
        let now = self.clock.now();
        let overlap = i64::try_from(overlap.as_micros()).unwrap_or(i64::MAX);
        let end = UnixMicros(now.0.saturating_add(overlap));
        let text = KeyText::renew(id).map_err(KeysError::Random)?;
        let mut secrets = vec![self.secret(&text, now)];
        let mut gone = Vec::new();
        for old in &stored.secrets {
            match old.until {
                Some(until) if until <= now => gone.push(old.mac),
                until => secrets.push(KeySecret {
                    until: Some(until.map_or(end, |until| until.min(end))),
                    ..old.clone()
                }),
            }
        }
        if overlap == 0 {
            // They end now: one of them is kept, so that who still has it is told why it is refused.
            gone.extend(secrets.drain(secrets.len().min(2)..).map(|secret| secret.mac));
        }
        if secrets.len() > SECRETS_MAX {
            return Err(KeysError::ManySecrets);
        }
        let key = ClientKey {
            last4: text.last4(),
            ..ClientKey::clone(stored.key())
        };
        let record = self.replace(&mut known, &stored, key, secrets, &gone)?;
        Ok((record, text))
    }

    /// Takes over keys by the hash of their text: all of them or, where one can't be taken, none. At most [`IMPORT_MAX`].
    pub fn import(&self, all: Vec<NewImport>) -> Result<Imported, KeysError> {
        if all.len() > IMPORT_MAX {
            return Err(KeysError::Full("keys in one import", IMPORT_MAX));
        }
        for import in &all {
            check_name("hint", &import.hint)?;
            check_key(&import.key)?;
        }
        let mut known = self.known.lock();
        known.check_room(all.len())?;
        let now = self.clock.now();
        let mut stored: Vec<Stored> = Vec::with_capacity(all.len());
        let mut there = Vec::new();
        let mut taken: HashMap<KeyMac, KeyId> = HashMap::with_capacity(all.len());
        let mut ids = HashSet::with_capacity(all.len());
        for import in all {
            known.check_group(import.key.group.as_ref())?;
            let mac = self.ring.mac_imported(&import.sha256);
            if let Some(grant) = self.ring.holds(&mac) {
                there.push(grant.key.id.clone());
                continue;
            }
            if let Some(twice) = taken.get(&mac) {
                there.push(twice.clone());
                continue;
            }
            let mut id = fresh_id().map_err(KeysError::Random)?;
            while known.keys.contains_key(&id) || !ids.insert(id.clone()) {
                id = fresh_id().map_err(KeysError::Random)?;
            }
            taken.insert(mac, id.clone());
            let key = Arc::new(import.key.made(id, String::new(), now));
            let secret = KeySecret {
                mac,
                hint: import.hint,
                made_at: now,
                until: None,
                imported: true,
            };
            stored.push(Stored {
                secrets: vec![secret],
                revision: 1,
                grant: known.grant(&self.accounts, key, None),
            });
        }
        let made = stored.iter().map(Stored::record).collect();
        self.store_all(&mut known, stored, &[])?;
        Ok(Imported { made, known: there })
    }

    fn secret(&self, text: &KeyText, now: UnixMicros) -> KeySecret {
        KeySecret {
            mac: self.ring.mac(text.0.expose().as_bytes()),
            hint: text.last4(),
            made_at: now,
            until: None,
            imported: false,
        }
    }

    /// Puts a newer version in the place of a key.
    fn replace(
        &self,
        known: &mut Known,
        before: &Stored,
        key: ClientKey,
        secrets: Vec<KeySecret>,
        gone: &[KeyMac],
    ) -> Result<KeyRecord, KeysError> {
        let revision = before.revision + 1;
        self.write(&[(&key, &secrets, revision)])?;
        // The account's new limits hold only now that the change is on disk.
        let grant = known.grant(&self.accounts, Arc::new(key), Some(&before.grant));
        let stored = Stored {
            secrets,
            revision,
            grant,
        };
        let record = stored.record();
        self.publish(known, vec![stored], gone);
        Ok(record)
    }

    /// Stores keys that are new.
    fn store_all(&self, known: &mut Known, all: Vec<Stored>, gone: &[KeyMac]) -> Result<(), KeysError> {
        let records: Vec<_> = all
            .iter()
            .map(|stored| (&**stored.key(), stored.secrets.as_slice(), stored.revision))
            .collect();
        self.write(&records)?;
        self.publish(known, all, gone);
        Ok(())
    }

    fn write(&self, all: &[(&ClientKey, &[KeySecret], u64)]) -> Result<(), KeysError> {
        let encode = |&(key, secrets, revision): &(&ClientKey, &[KeySecret], u64)| {
            stored::write(key, secrets, revision)
                .map_err(|e| StoreError::Failed(format!("a key can't be encoded: {e}")))
        };
        let values = all.iter().map(encode).collect::<Result<Vec<_>, _>>()?;
        let facts: Vec<(&str, &[u8])> = all
            .iter()
            .zip(&values)
            .map(|((key, ..), value)| (&*key.id.0, value.as_slice()))
            .collect();
        Ok(self.store.keys().put_all(&facts)?)
    }

    /// Into the ring what is on disk, never before: nothing is granted which a crash would undo.
    fn publish(&self, known: &mut Known, all: Vec<Stored>, gone: &[KeyMac]) {
        self.ring.change(|ring| {
            gone.iter().for_each(|mac| ring.forget(mac));
            all.iter().for_each(|stored| stored.put_into(ring));
        });
        for stored in all {
            known.insert(stored);
        }
    }
}

impl NewKey {
    /// What a key was given.
    fn of(key: &ClientKey) -> Self {
        NewKey {
            name: key.name.clone(),
            owner: key.owner.clone(),
            tags: key.tags.clone(),
            group: key.group.clone(),
            expires_at: key.expires_at,
            policy: key.policy.clone(),
        }
    }

    fn made(self, id: KeyId, last4: String, at: UnixMicros) -> ClientKey {
        ClientKey {
            id,
            name: self.name,
            owner: self.owner,
            last4,
            created_at: at,
            revoked_at: None,
            tags: self.tags,
            group: self.group,
            expires_at: self.expires_at,
            policy: self.policy,
        }
    }
}

impl Known {
    fn get(&self, id: &KeyId, version: Option<u64>) -> Result<Stored, KeysError> {
        let stored = self.keys.get(id).ok_or_else(|| KeysError::NoSuchKey(id.clone()))?;
        match version {
            Some(version) if version != stored.revision => Err(KeysError::Changed(stored.revision)),
            _ => Ok(stored.clone()),
        }
    }

    /// A key may be put into this group.
    fn check_group(&self, group: Option<&GroupId>) -> Result<(), KeysError> {
        let Some(id) = group else { return Ok(()) };
        match self.groups.get(id) {
            Some(known) if known.group.deleted_at.is_none() => Ok(()),
            Some(_) | None => Err(KeysError::Unfit {
                field: "group",
                why: "names a group that is not there".into(),
            }),
        }
    }

    fn check_room(&self, more: usize) -> Result<(), KeysError> {
        match self.keys.len() + more > KEYS_MAX {
            true => Err(KeysError::Full("keys", KEYS_MAX)),
            false => Ok(()),
        }
    }
}
