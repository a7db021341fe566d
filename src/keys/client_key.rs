//! A client key: what is stored of it, and the text a client holds.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::config::Secret;
use crate::ids::{GroupId, KeyId};

use super::Policy;

/// What every key begins with.
const PREFIX: &[u8] = b"sk-tg-";
/// Characters of the public part: 71 bits.
pub const PUBLIC_LEN: usize = 12;
/// Characters of the secret, its checksum included; the other 28 are 166 random bits.
const SECRET_LEN: usize = 32;
/// Characters of the checksum.
const CHECKSUM_LEN: usize = 4;
/// Characters of a key.
pub const KEY_LEN: usize = PREFIX.len() + PUBLIC_LEN + 1 + SECRET_LEN;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What is known of a key. Never its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientKey {
    /// Its public part.
    pub id: KeyId,
    /// A name for people.
    pub name: String,
    /// Whom it belongs to.
    pub owner: Option<String>,
    /// The last four characters of its newest secret, so that people can tell keys apart; empty: it was imported, see
    /// [`super::SecretInfo`].
    pub last4: String,
    /// When it was made.
    pub created_at: UnixMicros,
    /// When it was revoked; `None`: it is good.
    pub revoked_at: Option<UnixMicros>,
    /// Words by which routes tell keys apart, as they were given.
    pub tags: Vec<String>,
    /// The group it belongs to.
    #[serde(default)]
    pub group: Option<GroupId>,
    /// When it ends by itself; `None`: never.
    #[serde(default)]
    pub expires_at: Option<UnixMicros>,
    /// What it may do.
    #[serde(default)]
    pub policy: Policy,
}

/// The text of a key, shown once: `sk-tg-<12 public>-<32 secret>`, base62; the last four characters of the secret are a
/// checksum of all before.
#[derive(Clone, Debug)]
pub struct KeyText(pub Secret);

impl KeyText {
    /// A fresh key, from the system's randomness.
    pub(super) fn generate() -> Result<Self, getrandom::Error> {
        Self::fresh(PREFIX, None)
    }

    /// A fresh secret for a key that has its public part.
    pub(super) fn renew(id: &KeyId) -> Result<Self, getrandom::Error> {
        Self::fresh(PREFIX, Some(id))
    }

    /// A text of the same form with another beginning.
    pub(super) fn fresh(prefix: &[u8], id: Option<&KeyId>) -> Result<Self, getrandom::Error> {
        // Full size from the start: a buffer that grew would leave copies of the secret behind.
        let mut text = String::with_capacity(prefix.len() + PUBLIC_LEN + 1 + SECRET_LEN);
        text.extend(prefix.iter().map(|&b| char::from(b)));
        let mut random = RandomBase62::default();
        match id {
            Some(id) => text.push_str(&id.0),
            None => {
                for _ in 0..PUBLIC_LEN {
                    text.push(random.next()?);
                }
            }
        }
        text.push('-');
        for _ in 0..SECRET_LEN - CHECKSUM_LEN {
            text.push(random.next()?);
        }
        text.extend(checksum(text.as_bytes()).map(char::from));
        Ok(KeyText(Secret::new(text)))
    }

    /// Its public part.
    pub(super) fn id(&self) -> KeyId {
        KeyId(public_part(self.0.expose()).unwrap_or_default().into())
    }

    /// Its last four characters.
    pub(super) fn last4(&self) -> String {
        let text = self.0.expose();
        text[text.len() - CHECKSUM_LEN..].into()
    }
}

/// The public part of a text of this form, whatever it begins with: the twelve characters before the last dash.
pub(super) fn public_part(text: &str) -> Option<&str> {
    let (before, _secret) = text.rsplit_once('-')?;
    let (_prefix, id) = before.rsplit_once('-')?;
    (id.len() == PUBLIC_LEN).then_some(id)
}

/// Twelve random characters: the id of a key whose text we did not make.
pub(super) fn fresh_id() -> Result<KeyId, getrandom::Error> {
    let mut random = RandomBase62::default();
    let mut id = String::with_capacity(PUBLIC_LEN);
    for _ in 0..PUBLIC_LEN {
        id.push(random.next()?);
    }
    Ok(KeyId(id.into()))
}

/// Is it of the form of a key, with the right checksum? Small and about constant time; says nothing about whether the key exists.
pub fn is_well_formed(text: &[u8]) -> bool {
    has_form(text, PREFIX)
}

/// The same for texts that begin with `prefix`.
pub(super) fn has_form(text: &[u8], prefix: &[u8]) -> bool {
    let dash = prefix.len() + PUBLIC_LEN;
    let length = dash + 1 + SECRET_LEN;
    text.len() == length
        && text.starts_with(prefix)
        && text[dash] == b'-'
        && text[prefix.len()..dash]
            .iter()
            .chain(&text[dash + 1..])
            .fold(true, |good, b| good & b.is_ascii_alphanumeric())
        && text[length - CHECKSUM_LEN..] == checksum(&text[..length - CHECKSUM_LEN])
}

/// Does it begin as our keys do?
pub(super) fn looks_like_ours(text: &[u8]) -> bool {
    text.starts_with(PREFIX)
}

/// CRC-32C of `text`, as the last four base62 digits: against slips of the keyboard, not against people.
fn checksum(text: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut sum = crc32c::crc32c(text);
    std::array::from_fn(|_| {
        let digit = BASE62[(sum % 62) as usize];
        sum /= 62;
        digit
    })
}

/// Random base62 characters without bias: bytes from 248 = 4 * 62 on are thrown away.
struct RandomBase62 {
    bytes: zeroize::Zeroizing<[u8; 64]>,
    at: usize,
}

impl Default for RandomBase62 {
    fn default() -> Self {
        RandomBase62 {
            bytes: zeroize::Zeroizing::new([0; 64]),
            at: 64,
        }
    }
}

impl RandomBase62 {
    fn next(&mut self) -> Result<char, getrandom::Error> {
        loop {
            if self.at == self.bytes.len() {
                getrandom::fill(self.bytes.as_mut_slice())?;
                self.at = 0;
            }
            let byte = self.bytes[self.at];
            self.at += 1;
            if byte < 248 {
                return Ok(char::from(BASE62[usize::from(byte % 62)]));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fresh_keys_are_well_formed_and_different() {
        let mut seen = HashSet::new();
        let mut digits = HashSet::new();
        for _ in 0..1000 {
            let key = KeyText::generate().unwrap();
            let text = key.0.expose();
            assert_eq!(text.len(), 51);
            assert!(is_well_formed(text.as_bytes()), "{text}");
            assert!(text.ends_with(&key.last4()) && text[6..].starts_with(&*key.id().0));
            assert_eq!(format!("{key:?}"), "KeyText(***)", "a key's text is never printed");
            digits.extend(text[6..].bytes());
            assert!(seen.insert(text.to_owned()));
        }
        assert_eq!(digits.len(), 63, "all 62 digits and the dash turn up");
    }

    proptest! {
        #[test]
        fn no_single_slip_passes(at in 0usize..KEY_LEN, to in any::<u8>()) {
            let key = KeyText::generate().unwrap();
            let mut text = key.0.expose().as_bytes().to_vec();
            prop_assume!(text[at] != to);
            text[at] = to;
            // CRC-32C finds every changed byte; its remainder of 62^4 hides one in fifteen million.
            prop_assert!(!is_well_formed(&text));
        }

        #[test]
        fn anything_else_is_refused_without_panic(text in proptest::collection::vec(any::<u8>(), 0..120)) {
            prop_assert!(!is_well_formed(&text));
        }

        #[test]
        fn a_cut_or_a_longer_key_is_refused(cut in 0usize..KEY_LEN) {
            let key = KeyText::generate().unwrap();
            prop_assert!(!is_well_formed(&key.0.expose().as_bytes()[..cut]));
            let longer = format!("{}x", key.0.expose());
            prop_assert!(!is_well_formed(longer.as_bytes()));
        }
    }
}
