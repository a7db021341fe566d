//! Sealing: XChaCha20-Poly1305 under a key derived from a master key, with a random nonce for each record.
//!
//! XChaCha's nonce of 192 bits may be drawn at random for any number of records (draft-irtf-cfrg-xchacha-03, section 2.1).
//! What is sealed says which key opens it, so that two keys can be in use while the one replaces the other.

use std::fmt;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::MasterKey;

/// Which master key: eight bytes derived from it, which say nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyMark(pub [u8; 8]);

impl KeyMark {
    /// The mark of a master key.
    pub fn of(master: &MasterKey) -> Self {
        let derived = master.derive("key-id/v1");
        let mut mark = [0; 8];
        mark.copy_from_slice(&derived[..8]);
        KeyMark(mark)
    }
}

/// Hexadecimal, for logs and messages.
impl fmt::Display for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Something sealed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The master key whose derived key opens it.
    pub mark: KeyMark,
    nonce: [u8; 24],
    /// With its tag of 16 bytes.
    text: Vec<u8>,
}

/// Why something was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It is sealed under another master key.
    #[error("it is sealed under the master key {0}, which is not the one at hand")]
    OtherKey(KeyMark),
    /// The key is the right one, and the record is not as it was sealed, or not for this place.
    #[error("it was changed since it was sealed, or belongs elsewhere")]
    Changed,
}

/// Seals and opens for one purpose, under one master key.
pub struct Sealer {
    mark: KeyMark,
    key: Zeroizing<[u8; 32]>,
}

impl Sealer {
    /// For this purpose: the key is HKDF-SHA256(master, purpose).
    pub fn new(master: &MasterKey, purpose: &str) -> Self {
        Sealer {
            mark: KeyMark::of(master),
            key: master.derive(purpose),
        }
    }

    /// The master key it belongs to.
    pub fn mark(&self) -> KeyMark {
        self.mark
    }

    /// Seals. `place`: what the record is and where it belongs; it opens there only.
    pub fn seal(&self, place: &[u8], secret: &[u8]) -> Result<Sealed, getrandom::Error> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce)?;
        let payload = Payload {
            msg: secret,
            aad: place,
        };
        let text = self.cipher().encrypt(&XNonce::from(nonce), payload);
        Ok(Sealed {
            mark: self.mark,
            nonce,
            // It refuses only what is longer than 256 GiB.
            text: text.map_err(|_| getrandom::Error::UNEXPECTED)?,
        })
    }

    /// Opens what was sealed for this place.
    pub fn open(&self, place: &[u8], sealed: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        if sealed.mark != self.mark {
            return Err(OpenError::OtherKey(sealed.mark));
        }
        let payload = Payload {
            msg: &sealed.text,
            aad: place,
        };
        let opened = self.cipher().decrypt(&XNonce::from(sealed.nonce), payload);
        opened.map(Zeroizing::new).map_err(|_| OpenError::Changed)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }
}

/// What a record is and where it belongs, as bytes: no two lists of parts give the same.
pub fn place(parts: &[&[u8]]) -> Vec<u8> {
    let mut place = Vec::new();
    for part in parts {
        place.extend_from_slice(&(part.len() as u64).to_le_bytes());
        place.extend_from_slice(part);
    }
    place
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sealer(byte: u8) -> Sealer {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, [byte; 32]).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        Sealer::new(&MasterKey::load(&file, false).unwrap(), "test/v1")
    }

    #[test]
    fn a_record_written_once_is_opened_for_ever() {
        // XChaCha20-Poly1305 of draft-irtf-cfrg-xchacha-03, appendix A.3.1: the cipher is the one we say it is.
        let hex = |text: &str| -> Vec<u8> {
            let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(digit).collect()
        };
        let sealer = Sealer {
            mark: KeyMark([0; 8]),
            key: Zeroizing::new(std::array::from_fn(|at| 0x80 + at as u8)),
        };
        let sealed = Sealed {
            mark: KeyMark([0; 8]),
            nonce: std::array::from_fn(|at| 0x40 + at as u8),
            text: hex(
                "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6\
                 708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637\
                 da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
            ),
        };
        let opened = sealer.open(&hex("50515253c0c1c2c3c4c5c6c7"), &sealed).unwrap();
        assert!(opened.starts_with(b"Ladies and Gentlemen of the class of '99"));
    }

    proptest! {
        #[test]
        fn what_is_sealed_is_opened_with_the_key_at_its_place_only(
            secret in proptest::collection::vec(any::<u8>(), 0..200),
            at in proptest::collection::vec(any::<u8>(), 0..40),
            elsewhere in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let (one, two) = (sealer(1), sealer(2));
            let sealed = one.seal(&at, &secret).unwrap();
            let opened = one.open(&at, &sealed).unwrap();
            prop_assert_eq!(opened.as_slice(), secret.as_slice());
            prop_assert_eq!(two.open(&at, &sealed).err(), Some(OpenError::OtherKey(one.mark())));
            if at != elsewhere {
                prop_assert_eq!(one.open(&elsewhere, &sealed).err(), Some(OpenError::Changed));
            }
            // Its mark forged, the other key still does not open it.
            let forged = Sealed { mark: two.mark(), ..sealed.clone() };
            prop_assert_eq!(two.open(&at, &forged).err(), Some(OpenError::Changed));
            prop_assert_ne!(one.seal(&at, &secret).unwrap(), sealed, "each time another nonce");
        }

        #[test]
        fn no_flipped_bit_passes(secret in proptest::collection::vec(any::<u8>(), 0..40), bit in any::<u32>()) {
            let one = sealer(1);
            let mut sealed = one.seal(b"here", &secret).unwrap();
            let bit = bit as usize % ((24 + sealed.text.len()) * 8);
            match bit / 8 {
                byte @ 0..24 => sealed.nonce[byte] ^= 1 << (bit % 8),
                byte => sealed.text[byte - 24] ^= 1 << (bit % 8),
            }
            prop_assert_eq!(one.open(b"here", &sealed).err(), Some(OpenError::Changed));
        }

        #[test]
        fn no_two_places_are_the_same(a in proptest::collection::vec(".{0,4}", 0..4), b in proptest::collection::vec(".{0,4}", 0..4)) {
            let bytes = |parts: &[String]| place(&parts.iter().map(String::as_bytes).collect::<Vec<_>>());
            prop_assert_eq!(a == b, bytes(&a) == bytes(&b));
        }
    }
}
