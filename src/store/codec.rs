//! How small values are written: one version byte, then postcard.

use serde::{Deserialize, Serialize};

use super::StoreError;

/// The version all values are written with today.
const VERSION: u8 = 1;

/// A value as bytes.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(value, vec![VERSION]).map_err(|e| StoreError::Failed(format!("a value can't be encoded: {e}")))
}

/// A value from bytes; unknown versions and leftovers are errors.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok(_) => Err(StoreError::Failed("a value is longer than it should be".into())),
            Err(e) => Err(StoreError::Failed(format!("a value can't be decoded: {e}"))),
        },
        Some((version, _)) => Err(StoreError::Failed(format!(
            "a value has version {version}, this program knows {VERSION}: was it written by a newer one?"
        ))),
        None => Err(StoreError::Failed("a value is empty".into())),
    }
}
