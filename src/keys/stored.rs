//! How keys and groups are stored: one version byte, then JSON, so that fields can be added (the oldest versions of keys: postcard).
//! Older versions are read for ever; the newest is written.

use serde::{Deserialize, Serialize};

use super::ring::KeyMac;
use super::{ClientKey, Group, KeyId, Policy};
use crate::clock::UnixMicros;

/// The version of keys written today: JSON, several secrets.
const VERSION: u8 = 4;
/// JSON, one secret.
const ONE_SECRET: u8 = 3;
/// A key with tags.
const WITH_TAGS: u8 = 2;
/// A key without tags.
const WITHOUT_TAGS: u8 = 1;
/// The version of groups.
const GROUP_VERSION: u8 = 1;

/// One secret of a key: only its keyed hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeySecret {
    pub(super) mac: KeyMac,
    /// What people may recognise it by: its last four characters, or what the importer gave.
    pub(super) hint: String,
    pub(super) made_at: UnixMicros,
    /// When it ends, if it was replaced by a newer one.
    pub(super) until: Option<UnixMicros>,
    pub(super) imported: bool,
}

#[derive(Serialize, Deserialize)]
struct Form {
    key: ClientKey,
    secrets: Vec<SecretForm>,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
struct SecretForm {
    mac: [u8; 32],
    hint: String,
    made_at: UnixMicros,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UnixMicros>,
    #[serde(default)]
    imported: bool,
}

/// The form of version 3.
#[derive(Deserialize)]
struct FormOfOneSecret {
    key: ClientKey,
    mac: [u8; 32],
}

/// How a group is stored.
#[derive(Serialize, Deserialize)]
struct GroupForm {
    group: Group,
    revision: u64,
}

/// A group and how often it was changed, as bytes.
pub(super) fn write_group(group: &Group, revision: u64) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![GROUP_VERSION];
    let group = group.clone();
    serde_json::to_writer(&mut bytes, &GroupForm { group, revision })?;
    Ok(bytes)
}

/// What [`write_group`] wrote.
pub(super) fn read_group(value: &[u8]) -> Option<(Group, u64)> {
    match value.split_first()? {
        (&GROUP_VERSION, form) => {
            let GroupForm { group, revision } = serde_json::from_slice(form).ok()?;
            Some((group, revision))
        }
        _ => None,
    }
}

/// What versions 1 and 2 begin with. Their fields stand in this order: postcard writes them one behind the other, those of a struct
/// within a struct too.
#[derive(Deserialize)]
struct OldKey {
    id: KeyId,
    name: String,
    owner: Option<String>,
    last4: String,
    created_at: UnixMicros,
    revoked_at: Option<UnixMicros>,
}

/// The form of version 2.
#[derive(Deserialize)]
struct FormWithTags {
    key: OldKey,
    tags: Vec<String>,
    mac: [u8; 32],
}

/// The form of version 1.
#[derive(Deserialize)]
struct FormWithoutTags {
    key: OldKey,
    mac: [u8; 32],
}

/// A key, its secrets (newest first) and how often it was changed, as bytes.
pub(super) fn write(key: &ClientKey, secrets: &[KeySecret], revision: u64) -> Result<Vec<u8>, serde_json::Error> {
    let secret = |secret: &KeySecret| SecretForm {
        mac: secret.mac.0,
        hint: secret.hint.clone(),
        made_at: secret.made_at,
        until: secret.until,
        imported: secret.imported,
    };
    let form = Form {
        key: key.clone(),
        secrets: secrets.iter().map(secret).collect(),
        revision,
    };
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &form)?;
    Ok(bytes)
}

/// What [`write()`] wrote, or a version before it; `None`: it is neither.
pub(super) fn read(value: &[u8]) -> Option<(ClientKey, Vec<KeySecret>, u64)> {
    let (key, mac) = match value.split_first()? {
        (&VERSION, form) => {
            let form: Form = serde_json::from_slice(form).ok()?;
            let secret = |form: SecretForm| KeySecret {
                mac: KeyMac(form.mac),
                hint: form.hint,
                made_at: form.made_at,
                until: form.until,
                imported: form.imported,
            };
            return Some((form.key, form.secrets.into_iter().map(secret).collect(), form.revision));
        }
        (&ONE_SECRET, form) => {
            let FormOfOneSecret { key, mac } = serde_json::from_slice(form).ok()?;
            (key, mac)
        }
        (&WITH_TAGS, form) => {
            let FormWithTags { key, tags, mac } = postcard::from_bytes(form).ok()?;
            (key.today(tags), mac)
        }
        (&WITHOUT_TAGS, form) => {
            let FormWithoutTags { key, mac } = postcard::from_bytes(form).ok()?;
            (key.today(Vec::new()), mac)
        }
        _ => return None,
    };
    let secret = KeySecret {
        mac: KeyMac(mac),
        hint: key.last4.clone(),
        made_at: key.created_at,
        until: None,
        imported: false,
    };
    Some((key, vec![secret], 1))
}

impl OldKey {
    fn today(self, tags: Vec<String>) -> ClientKey {
        ClientKey {
            id: self.id,
            name: self.name,
            owner: self.owner,
            last4: self.last4,
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            tags,
            group: None,
            expires_at: None,
            policy: Policy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of version 1, as a gateway before tags wrote it.
    const FROZEN: &str = "010c4162436445664768496a4b6c0b6275696c6420726f626f7401067465616d2061047778797a80c0c9c4baeba4060180\
                          c4f8a3bbeba406000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    /// A record of version 3, likewise.
    const FROZEN_3: &str = r#"{"key":{"id":"AbCdEfGhIjKl","name":"build robot","owner":"team a","last4":"wxyz","created_at":1769860800000000,"revoked_at":1769860900000000,"tags":[],"group":null,"expires_at":null,"policy":{"disabled":false,"models":[],"routes":[],"providers":[],"networks":[],"limits":{},"markup":null}},"mac":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31]}"#;

    fn frozen() -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&FROZEN[at..at + 2], 16).expect("hexadecimal");
        (0..FROZEN.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn records_of_older_versions_are_read_and_written_anew() {
        let expected = ClientKey {
            id: KeyId("AbCdEfGhIjKl".into()),
            name: "build robot".into(),
            owner: Some("team a".into()),
            last4: "wxyz".into(),
            created_at: UnixMicros(1_769_860_800_000_000),
            revoked_at: Some(UnixMicros(1_769_860_900_000_000)),
            tags: Vec::new(),
            group: None,
            expires_at: None,
            policy: Policy::default(),
        };
        let secret = KeySecret {
            mac: KeyMac(std::array::from_fn(|at| at as u8)),
            hint: "wxyz".into(),
            made_at: expected.created_at,
            until: None,
            imported: false,
        };
        let third = [&[ONE_SECRET], FROZEN_3.as_bytes()].concat();
        for record in [frozen(), third] {
            let (key, secrets, revision) = read(&record).expect("it is read");
            assert_eq!((&key, &secrets[..], revision), (&expected, &[secret.clone()][..], 1));
            let again = write(&key, &secrets, 1).expect("it is written");
            assert_eq!(again[0], VERSION);
            assert_eq!(read(&again), Some((key, secrets, 1)));
        }
    }

    #[test]
    fn version_2_has_tags_before_its_hash() {
        let first = frozen();
        let (fields, mac) = first[1..].split_at(first.len() - 33);
        let second = [&[WITH_TAGS], fields, b"\x02\x01a\x02bc", mac].concat();
        let (key, secrets, _) = read(&second).expect("it is read");
        let (older, same, _) = read(&first).expect("it is read");
        let tags = vec!["a".to_owned(), "bc".to_owned()];
        assert_eq!((key, secrets), (ClientKey { tags, ..older }, same));
    }

    #[test]
    fn all_is_kept_and_what_is_cut_or_unknown_is_not_read() {
        let (mut key, mut secrets, _) = read(&frozen()).expect("it is read");
        key.tags = vec!["team:search".into(), "critical".into()];
        key.policy.networks = vec!["10.0.0.0/8".parse().expect("a network")];
        key.policy.markup = Some("1.25".parse().expect("a factor"));
        secrets.push(KeySecret {
            mac: KeyMac([7; 32]),
            hint: "sk-old\u{2026}".into(),
            made_at: UnixMicros(1),
            until: Some(UnixMicros(2)),
            imported: true,
        });
        let written = write(&key, &secrets, 9).expect("it is written");
        assert_eq!(read(&written), Some((key, secrets, 9)));
        for cut in 0..written.len() {
            assert_eq!(read(&written[..cut]), None, "cut at {cut}");
        }
        let mut newer = written;
        newer[0] = VERSION + 1;
        assert_eq!(read(&newer), None, "a version of tomorrow");
    }
}
