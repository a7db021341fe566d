//! Sums of the ledger's rows by hour and by day, in the tree of the rows: `h` hour ‖ name → sums, `d` day ‖ name → sums,
//! `r` → [`Rolled`], `p` → up to when rows were removed, `f` → [`Refilled`]. What names and sums are made of is the ledger's business.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rolled {
    /// Its block.
    pub block: u64,
    /// Rows of that block which are in the sums.
    pub rows: u32,
}

/// [`Rolled`] on disk. The third number had a use in plans only; it is 0.
type RolledForm = (u64, u32, i64);

/// What a store that was filled again has, and what it has not. Times in microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refilled {
    /// When it was.
    pub at: i64,
    /// Single rows that began before may be missing which the store had before it broke; 0: none is.
    pub rows_since: i64,
    /// How many are missing, as far as is known: told by sums of whole hours, and of journals beyond the sums by the rows which stand
    /// behind a damage.
    pub rows_missing: u64,
    /// Sums of what began before may be missing; 0: none is.
    pub sums_since: i64,
}

const ROLLED: &[u8] = b"r";
const REMOVED: &[u8] = b"p";
const REFILLED: &[u8] = b"f";

fn encode_rolled(rolled: &Rolled) -> Result<Vec<u8>, StoreError> {
    let form: RolledForm = (rolled.block, rolled.rows, 0);
    codec::encode(&form)
}

/// One sum: its period, its name and its bytes.
pub type Sum = (Period, Vec<u8>, Vec<u8>);

impl Rows {
    /// How far rows are in the sums; `None`: sums were not begun.
    pub fn rolled(&self) -> Result<Option<Rolled>, StoreError> {
        let Some(bytes) = self.tree.get()?.get(ROLLED)? else {
            return Ok(None);
        };
        let (block, rows, _): RolledForm = codec::decode(&bytes)?;
        Ok(Some(Rolled { block, rows }))
    }

    /// Begins the sums: from here on rows are added to them. `removed_before` as [`Rows::removed_before`].
    pub fn begin_sums(
        &self,
        rolled: &Rolled,
        removed_before: i64,
        refilled: Option<&Refilled>,
    ) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        if let Some(refilled) = refilled {
            batch.insert(REFILLED, codec::encode(refilled)?);
        }
        if removed_before > 0 {
            batch.insert(REMOVED, codec::encode(&removed_before.max(self.removed_before()?))?);
        }
        batch.insert(ROLLED, encode_rolled(rolled)?);
        self.tree.get()?.apply_batch(batch)?;
        Ok(())
    }

    /// Whether, and how well, this store was filled again in the place of one that broke.
    pub fn refilled(&self) -> Result<Option<Refilled>, StoreError> {
        match self.tree.get()?.get(REFILLED)? {
            Some(bytes) => codec::decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Says anew what this store has not, of one that was filled again.
    pub fn set_refilled(&self, refilled: &Refilled) -> Result<(), StoreError> {
        self.tree.get()?.insert(REFILLED, codec::encode(refilled)?)?;
        Ok(())
    }

    /// One sum.
    pub fn sum(&self, period: Period, name: &[u8]) -> Result<Option<impl AsRef<[u8]> + use<>>, StoreError> {
        Ok(self.tree.get()?.get(period.key(name))?)
    }

    /// Writes sums in the place of those there are, and how far rows are in them, as one. `None`: they are not begun yet.
    pub fn apply_sums(&self, sums: &[Sum], rolled: Option<&Rolled>) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for (period, name, bytes) in sums {
            batch.insert(period.key(name), bytes.as_slice());
        }
        if let Some(rolled) = rolled {
            batch.insert(ROLLED, encode_rolled(rolled)?);
        }
        self.tree.get()?.apply_batch(batch)?;
        Ok(())
    }

    /// Sums from one period up to before another of the same kind, in order of time.
    pub fn sums(&self, from: Period, until: Period) -> impl Iterator<Item = Result<Sum, StoreError>> + use<> {
        self.range(from.start().to_vec()..until.start().to_vec())
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
        match self.tree.get()?.get(REMOVED)? {
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
        self.tree.get()?.apply_batch(batch)?;
        Ok(())
    }
}
