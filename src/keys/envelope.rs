//! The envelope: the pepper of client keys, sealed under the master key. The pepper is drawn once and stays for good, so
//! that another master key voids no client key; to change the master key is to seal the pepper anew.

use hmac::Mac;
use zeroize::Zeroizing;

use super::seal::{OpenError, Sealed, Sealer, place};
use super::{CHECK, KeysError, MasterKey, ct_eq, ring};
use crate::store::{Store, StoreError};

/// The fact which holds it.
const FACT: &str = "envelope";
/// Its form: one version byte, then postcard.
const VERSION: u8 = 1;

/// Of this the pepper was derived before there were envelopes.
const PEPPER_BEFORE: &str = "client-key/v1";

/// The pepper, sealed under this master key if there was none: a fresh one, or in a store from before envelopes the one that
/// was derived. Blocking.
pub fn pepper(store: &Store, master: &MasterKey) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    if let Some(envelope) = store.meta().get(FACT)? {
        let pepper = open(&envelope, master)?;
        // Where a crash came between the two facts.
        mark(store, master)?;
        return Ok(pepper);
    }
    let pepper = match store.meta().get(CHECK)? {
        Some(stored) if ct_eq(&stored, &check(master)) => master.derive(PEPPER_BEFORE),
        Some(_) => return Err(KeysError::WrongMasterKey),
        None => {
            let mut fresh = Zeroizing::new([0; 32]);
            getrandom::fill(fresh.as_mut_slice()).map_err(KeysError::Random)?;
            fresh
        }
    };
    put(store, master, &pepper)?;
    Ok(pepper)
}

/// Seals the pepper under another master key; `false`: it is already. A store that was never used stays as it is.
/// Blocking: on disk when this returns.
pub fn rotate(store: &Store, from: &MasterKey, to: &MasterKey) -> Result<bool, KeysError> {
    let pepper = match store.meta().get(FACT)? {
        Some(envelope) => match open(&envelope, to) {
            Ok(_) => return Ok(false),
            Err(KeysError::WrongMasterKey) => open(&envelope, from)?,
            Err(error) => return Err(error),
        },
        None if store.meta().get(CHECK)?.is_none() => return Ok(false),
        None => match pepper(store, from) {
            // It was made with the new one, before there were envelopes.
            Err(KeysError::WrongMasterKey) => pepper(store, to)?,
            other => other?,
        },
    };
    put(store, to, &pepper)?;
    Ok(true)
}

/// Whether the store was ever used with a master key.
pub fn is_there(store: &Store) -> Result<bool, KeysError> {
    Ok(store.meta().get(FACT)?.is_some() || store.meta().get(CHECK)?.is_some())
}

fn sealer(master: &MasterKey) -> Sealer {
    Sealer::new(master, "envelope/v1")
}

fn where_it_belongs() -> Vec<u8> {
    place(&[b"tollgate envelope", b"pepper", &[VERSION]])
}

fn open(envelope: &[u8], master: &MasterKey) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let sealed: Sealed = match envelope.split_first() {
        Some((&VERSION, form)) => postcard::from_bytes(form).map_err(|_| KeysError::DamagedEnvelope)?,
        _ => return Err(KeysError::DamagedEnvelope),
    };
    let opened = sealer(master)
        .open(&where_it_belongs(), &sealed)
        .map_err(|error| match error {
            OpenError::OtherKey(_) => KeysError::WrongMasterKey,
            OpenError::Changed => KeysError::DamagedEnvelope,
        })?;
    let mut pepper = Zeroizing::new([0; 32]);
    if opened.len() != pepper.len() {
        return Err(KeysError::DamagedEnvelope);
    }
    pepper.copy_from_slice(&opened);
    Ok(pepper)
}

fn put(store: &Store, master: &MasterKey, pepper: &[u8; 32]) -> Result<(), KeysError> {
    let sealed = sealer(master)
        .seal(&where_it_belongs(), pepper)
        .map_err(KeysError::Random)?;
    let envelope = postcard::to_extend(&sealed, vec![VERSION])
        .map_err(|error| StoreError::Failed(format!("the envelope can't be encoded: {error}")))?;
    store.meta().put(FACT, &envelope)?;
    mark(store, master)
}

/// Puts the value by which older versions recognise their master key.
fn mark(store: &Store, master: &MasterKey) -> Result<(), KeysError> {
    let check = check(master);
    match store.meta().get(CHECK)? {
        Some(stored) if ct_eq(&stored, &check) => Ok(()),
        _ => Ok(store.meta().put(CHECK, &check)?),
    }
}

fn check(master: &MasterKey) -> [u8; 32] {
    ring::keyed(&master.derive("master-key-check/v1"))
        .chain_update(b"tollgate")
        .finalize()
        .into_bytes()
        .into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::keys::{Keys, NewKey};

    fn store(folder: &tempfile::TempDir) -> Arc<Store> {
        Arc::new(Store::open(folder.path(), 16 << 20).unwrap())
    }

    fn load(store: &Arc<Store>, master: &MasterKey) -> Result<Keys, KeysError> {
        Keys::load(store.clone(), master, Arc::default(), Clock::system())
    }

    #[test]
    fn client_keys_outlive_their_master_key() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two, three) = (MasterKey::of_byte(1), MasterKey::of_byte(2), MasterKey::of_byte(3));
        let store = store(&folder);
        assert!(
            !rotate(&store, &one, &two).unwrap(),
            "a fresh store has nothing to seal"
        );
        let new = NewKey {
            name: "kept".into(),
            ..NewKey::default()
        };
        let (key, text) = load(&store, &one).unwrap().create(new).unwrap();
        assert!(matches!(load(&store, &two), Err(KeysError::WrongMasterKey)));
        assert!(matches!(rotate(&store, &two, &three), Err(KeysError::WrongMasterKey)));
        assert!(rotate(&store, &one, &two).unwrap());
        assert!(!rotate(&store, &one, &two).unwrap(), "twice is no error");
        assert!(matches!(load(&store, &one), Err(KeysError::WrongMasterKey)));
        let keys = load(&store, &two).unwrap();
        let known = keys.ring().authenticate(text.0.expose().as_bytes()).unwrap();
        assert_eq!(known.key.id, key.id);
    }

    #[test]
    fn a_store_from_before_envelopes_keeps_its_pepper() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (MasterKey::of_byte(1), MasterKey::of_byte(2));
        let store = store(&folder);
        store.meta().put(CHECK, &check(&one)).unwrap();
        assert!(is_there(&store).unwrap());
        assert!(matches!(pepper(&store, &two), Err(KeysError::WrongMasterKey)));
        assert!(
            rotate(&store, &one, &two).unwrap(),
            "also where the rotation comes first"
        );
        assert_eq!(*pepper(&store, &two).unwrap(), *one.derive(PEPPER_BEFORE));
    }

    #[test]
    fn a_changed_envelope_is_told_from_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let one = MasterKey::of_byte(1);
        let store = store(&folder);
        pepper(&store, &one).unwrap();
        let good = store.meta().get(FACT).unwrap().unwrap();
        for byte in 0..good.len() {
            let mut bad = good.clone();
            bad[byte] ^= 1;
            store.meta().put(FACT, &bad).unwrap();
            // The bytes of the mark are those of another key then.
            let error = pepper(&store, &one).err().unwrap();
            let other = (1..9).contains(&byte);
            assert_eq!(
                matches!(error, KeysError::WrongMasterKey),
                other,
                "byte {byte}: {error}"
            );
        }
    }
}
