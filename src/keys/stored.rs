//! How a key is stored: one version byte, then JSON, so that fields can be added (older versions: postcard). Older versions are
//! read for ever; the newest is written.

use serde::{Deserialize, Serialize};

use super::{ClientKey, KeyId, Policy};
use crate::clock::UnixMicros;

/// The version written today: JSON.
const VERSION: u8 = 3;
/// A key with tags.
const WITH_TAGS: u8 = 2;
/// The version before: a key without tags.
const WITHOUT_TAGS: u8 = 1;

#[derive(Serialize, Deserialize)]
struct Form {
    key: ClientKey,
    mac: [u8; 32],
}

/// The form of version 2: its fields stand in this order.
#[derive(Deserialize)]
struct FormWithTags {
    id: KeyId,
    name: String,
    owner: Option<String>,
    last4: String,
    created_at: UnixMicros,
    revoked_at: Option<UnixMicros>,
    tags: Vec<String>,
    mac: [u8; 32],
}

/// The form of version 1, likewise.
#[derive(Deserialize)]
struct FormWithoutTags {
    id: KeyId,
    name: String,
    owner: Option<String>,
    last4: String,
    created_at: UnixMicros,
    revoked_at: Option<UnixMicros>,
    mac: [u8; 32],
}

/// A key and the hash of its secret, as bytes.
pub(super) fn write(key: &ClientKey, mac: [u8; 32]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = vec![VERSION];
    serde_json::to_writer(&mut bytes, &Form { key: key.clone(), mac })?;
    Ok(bytes)
}

/// What [`write()`] wrote, or a version before it; `None`: it is neither.
pub(super) fn read(value: &[u8]) -> Option<(ClientKey, [u8; 32])> {
    match value.split_first()? {
        (&VERSION, form) => {
            let Form { key, mac } = serde_json::from_slice(form).ok()?;
            Some((key, mac))
        }
        (&WITH_TAGS, form) => Some(postcard::from_bytes::<FormWithTags>(form).ok()?.today()),
        (&WITHOUT_TAGS, form) => {
            let form: FormWithoutTags = postcard::from_bytes(form).ok()?;
            let form = FormWithTags {
                id: form.id,
                name: form.name,
                owner: form.owner,
                last4: form.last4,
                created_at: form.created_at,
                revoked_at: form.revoked_at,
                tags: Vec::new(),
                mac: form.mac,
            };
            Some(form.today())
        }
        _ => None,
    }
}

impl FormWithTags {
    fn today(self) -> (ClientKey, [u8; 32]) {
        let key = ClientKey {
            id: self.id,
            name: self.name,
            owner: self.owner,
            last4: self.last4,
            created_at: self.created_at,
            revoked_at: self.revoked_at,
            tags: self.tags,
            group: None,
            expires_at: None,
            policy: Policy::default(),
        };
        (key, self.mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of version 1, as a gateway before tags wrote it.
    const FROZEN: &str = "010c4162436445664768496a4b6c0b6275696c6420726f626f7401067465616d2061047778797a80c0c9c4baeba4060180\
                          c4f8a3bbeba406000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn frozen() -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&FROZEN[at..at + 2], 16).expect("hexadecimal");
        (0..FROZEN.len()).step_by(2).map(digit).collect()
    }

    #[test]
    fn a_record_from_before_tags_is_read_and_written_anew() {
        let (key, mac) = read(&frozen()).expect("it is read");
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
        assert_eq!((&key, mac), (&expected, std::array::from_fn(|at| at as u8)));
        let again = write(&key, mac).expect("it is written");
        assert_eq!(again[0], VERSION);
        assert_eq!(read(&again), Some((key, mac)));
    }

    #[test]
    fn tags_are_kept_and_what_is_cut_or_unknown_is_not_read() {
        let (mut key, mac) = read(&frozen()).expect("it is read");
        key.tags = vec!["team:search".into(), "critical".into()];
        let written = write(&key, mac).expect("it is written");
        assert_eq!(read(&written), Some((key, mac)));
        for cut in 0..written.len() {
            assert_eq!(read(&written[..cut]), None, "cut at {cut}");
        }
        let mut newer = written;
        newer[0] = VERSION + 1;
        assert_eq!(read(&newer), None, "a version of tomorrow");
    }
}
