//! Sums of the ledger's rows by hour and by day, in the tree of the rows: `h` hour ‖ name → sums, `d` day ‖ name → sums,
//! `r` → [`Rolled`], `p` → up to when rows were removed. What names and sums are made of is the ledger's business.
//!
//! Sums and the place up to which rows are in them are written as one: no row is ever in them twice, or not at all.

use serde::{Deserialize, Serialize};

use super::rows::{BlockKey, Rows, block_key};
use super::{StoreError, codec};

/// What a sum is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// Hours since 1970, UTC.
    Hour(u32),
    /// Days since 1970, UTC.
    Day(u32),
}

impl Period {
    fn start(self) -> [u8; 5] {
        let (kind, number) = match self {
            Period::Hour(number) => (b'h', number),
            Period::Day(number) => (b'd', number),
        };
        let mut bytes = [kind; 5];
        bytes[1..].copy_from_slice(&number.to_be_bytes());
        bytes
    }

    fn key(self, name: &[u8]) -> Vec<u8> {
        [&self.start()[..], name].concat()
    }
}

/// The last row that is in the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rolled {
    /// Its block.
    pub block: u64,
    /// Rows of that block which are in the sums.
    pub rows: u32,
    /// Rows which began before are in sums taken over from another store, and not added again. Microseconds since 1970.
    pub since: i64,
}

const ROLLED: &[u8] = b"r";
const REMOVED: &[u8] = b"p";

/// One sum: its period, its name and its bytes.
pub type Sum = (Period, Vec<u8>, Vec<u8>);

impl Rows {
    /// How far rows are in the sums.
    pub fn rolled(&self) -> Result<Rolled, StoreError> {
        match self.tree.get(ROLLED)? {
            Some(bytes) => codec::decode(&bytes),
            None => Ok(Rolled::default()),
        }
    }

    /// One sum.
    pub fn sum(&self, period: Period, name: &[u8]) -> Result<Option<impl AsRef<[u8]> + use<>>, StoreError> {
        Ok(self.tree.get(period.key(name))?)
    }

    /// Writes sums in the place of those there are, and how far rows are in them, as one.
    pub fn apply_sums(&self, sums: &[Sum], rolled: &Rolled) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (period, name, bytes) in sums {
            batch.insert(period.key(name), bytes.as_slice());
        }
        batch.insert(ROLLED, codec::encode(rolled)?);
        self.tree.apply_batch(batch)?;
        Ok(())
    }

    /// Sums from one period up to before another of the same kind, in order of time.
    pub fn sums(&self, from: Period, until: Period) -> impl Iterator<Item = Result<Sum, StoreError>> + use<> {
        self.tree
            .range(from.start().to_vec()..until.start().to_vec())
            .map(move |entry| {
                let (key, bytes) = entry?;
                let (number, name) = key
                    .get(1..)
                    .and_then(|rest| rest.split_first_chunk::<4>())
                    .ok_or_else(|| StoreError::Failed("a sum's key is malformed".into()))?;
                let number = u32::from_be_bytes(*number);
                let period = match from {
                    Period::Hour(_) => Period::Hour(number),
                    Period::Day(_) => Period::Day(number),
                };
                Ok((period, name.to_vec(), bytes.to_vec()))
            })
    }

    /// Rows that began before this may have been removed; 0: none was. Microseconds since 1970.
    pub fn removed_before(&self) -> Result<i64, StoreError> {
        match self.tree.get(REMOVED)? {
            Some(bytes) => codec::decode(&bytes),
            None => Ok(0),
        }
    }

    /// Removes blocks; `before`: no row in them began at or after it; `total`: the rows that are left.
    pub fn remove(&self, blocks: &[BlockKey], before: i64, total: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for key in blocks {
            batch.remove(&block_key(b'b', *key));
            batch.remove(&block_key(b's', *key));
        }
        batch.insert(REMOVED, codec::encode(&before.max(self.removed_before()?))?);
        batch.insert(b"t", codec::encode(&total)?);
        self.tree.apply_batch(batch)?;
        Ok(())
    }
}
