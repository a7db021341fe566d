//! The ledger's rows in blocks: one value holds many rows, because a sled insert costs tens of microseconds.
//!
//! One tree, so that a batch over all of it is atomic: `b` block → rows, `s` block → [`Span`], `j` journal → [`Applied`],
//! `t` → number of rows; beside them what is in `sums.rs`. What a block's bytes mean is the ledger's business.

use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use super::slot::Slot;
use super::{StoreError, codec};

/// Which block; blocks are read in this order. Microseconds since 1970, made unique: no row that ended before was put
/// into a later block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey(pub u64);

/// What is in a block, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Rows.
    pub rows: u32,
    /// Earliest beginning of a row, in microseconds since 1970.
    pub min_at: i64,
    /// Latest beginning of a row.
    pub max_at: i64,
}

/// How much of a journal is in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The segment that is being taken in.
    pub segment: u32,
    /// Up to which byte of it.
    pub offset: u64,
    /// The segment of the oldest attempt that was still open then.
    pub open_segment: u32,
    /// Where in it.
    pub open_offset: u64,
    /// All of it, also what was left open: nothing more will come.
    pub finished: bool,
}

/// A block to be written, new or grown.
#[derive(Clone, Debug)]
pub struct Block {
    /// Its key.
    pub key: BlockKey,
    /// What is in it.
    pub span: Span,
    /// The rows.
    pub bytes: Vec<u8>,
}

/// The tree of rows.
pub struct Rows {
    pub(super) tree: Slot,
}

const BLOCK: u8 = b'b';
const JOURNAL: u8 = b'j';
const SPAN: u8 = b's';
const TOTAL: &[u8] = b"t";

pub(super) fn block_key(kind: u8, key: BlockKey) -> [u8; 9] {
    let mut bytes = [kind; 9];
    bytes[1..].copy_from_slice(&key.0.to_be_bytes());
    bytes
}

fn journal_key(journal: &str) -> Vec<u8> {
    [&[JOURNAL], journal.as_bytes()].concat()
}

fn parse_block_key(bytes: &[u8]) -> Result<BlockKey, StoreError> {
    match bytes {
        [_, key @ ..] => match key.try_into() {
            Ok(key) => Ok(BlockKey(u64::from_be_bytes(key))),
            Err(_) => Err(StoreError::Failed("a block's key is malformed".into())),
        },
        [] => Err(StoreError::Failed("a block's key is empty".into())),
    }
}

/// What sled did not notice itself.
fn damaged(what: &str) -> sled::Error {
    sled::Error::Io(std::io::Error::new(std::io::ErrorKind::InvalidData, what))
}

/// Looks for damage: is every block there, with as many rows as there should be? (After a power cut sled may have lost pages and not
/// know.) Blocks are not read as rows: a millisecond for each 100,000 of those.
pub(super) fn probe(tree: &sled::Tree) -> Result<(), sled::Error> {
    for entry in tree.scan_prefix([JOURNAL]) {
        entry?;
    }
    let mut rows = 0;
    let mut blocks = tree.scan_prefix([BLOCK]).keys();
    for entry in tree.scan_prefix([SPAN]) {
        let (key, span) = entry?;
        let block = blocks.next().transpose()?;
        if block.is_none_or(|block| block.get(1..) != key.get(1..)) {
            return Err(damaged("a block of rows is not there"));
        }
        let span: Span = codec::decode(&span).map_err(|e| damaged(&e.to_string()))?;
        rows += u64::from(span.rows);
    }
    let total = match tree.get(TOTAL)? {
        Some(bytes) => codec::decode(&bytes).map_err(|e| damaged(&e.to_string()))?,
        None => 0,
    };
    if rows != total {
        return Err(damaged("not all rows are there"));
    }
    Ok(())
}

impl Rows {
    pub(super) fn new(tree: Slot) -> Self {
        Rows { tree }
    }

    /// Writes blocks, how far `journal` is applied with them, and the number of all rows, as one.
    pub fn apply(&self, blocks: &[Block], journal: &str, applied: &Applied, total: u64) -> Result<(), StoreError> {
        let mut batch = sled::Batch::default();
        for block in blocks {
            batch.insert(&block_key(BLOCK, block.key), block.bytes.as_slice());
            batch.insert(&block_key(SPAN, block.key), codec::encode(&block.span)?);
        }
        batch.insert(journal_key(journal), codec::encode(applied)?);
        batch.insert(TOTAL, codec::encode(&total)?);
        self.tree.get()?.apply_batch(batch)?;
        Ok(())
    }

    /// How much of `journal` is in the store.
    pub fn applied(&self, journal: &str) -> Result<Option<Applied>, StoreError> {
        match self.tree.get()?.get(journal_key(journal))? {
            Some(bytes) => codec::decode(&bytes).map(Some),
            None => Ok(None),
        }
    }

    /// Every journal the store knows of.
    pub fn journals(&self) -> Result<Vec<String>, StoreError> {
        self.tree
            .get()?
            .scan_prefix([JOURNAL])
            .keys()
            .map(|key| Ok(String::from_utf8_lossy(key?.get(1..).unwrap_or_default()).into_owned()))
            .collect()
    }

    /// Forgets a journal whose files are gone. Its rows stay.
    pub fn forget(&self, journal: &str) -> Result<(), StoreError> {
        self.tree.get()?.remove(journal_key(journal))?;
        Ok(())
    }

    /// Rows in all blocks.
    pub fn total(&self) -> Result<u64, StoreError> {
        match self.tree.get()?.get(TOTAL)? {
            Some(bytes) => codec::decode(&bytes),
            None => Ok(0),
        }
    }

    /// The last block.
    pub fn last(&self) -> Result<Option<(BlockKey, Span)>, StoreError> {
        match self.tree.get()?.scan_prefix([SPAN]).next_back() {
            Some(entry) => {
                let (key, span) = entry?;
                Ok(Some((parse_block_key(&key)?, codec::decode(&span)?)))
            }
            None => Ok(None),
        }
    }

    /// The last block whose key is at most `key`, if any.
    pub fn at_or_before(&self, key: BlockKey) -> Result<Option<BlockKey>, StoreError> {
        let range = block_key(SPAN, BlockKey(0))..=block_key(SPAN, key);
        match self.tree.get()?.range(range).next_back() {
            Some(entry) => parse_block_key(&entry?.0).map(Some),
            None => Ok(None),
        }
    }

    /// What is in each block from `first` on, in order.
    pub fn spans(&self, first: BlockKey) -> impl Iterator<Item = Result<(BlockKey, Span), StoreError>> + use<> {
        let range = block_key(SPAN, first)..=block_key(SPAN, BlockKey(u64::MAX));
        self.range(range).map(|entry| {
            let (key, span) = entry?;
            Ok((parse_block_key(&key)?, codec::decode(&span)?))
        })
    }

    /// Entries in order; one error where the store is not here.
    pub(super) fn range<K: AsRef<[u8]>, R: RangeBounds<K>>(
        &self,
        range: R,
    ) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<K, R> {
        let (entries, none) = match self.tree.get() {
            Ok(tree) => (Some(tree.range(range)), None),
            Err(error) => (None, Some(Err(error))),
        };
        let entries = entries.into_iter().flatten();
        none.into_iter().chain(entries.map(|entry| Ok(entry?)))
    }

    /// A block's bytes.
    pub fn block(&self, key: BlockKey) -> Result<Option<impl AsRef<[u8]> + use<>>, StoreError> {
        Ok(self.tree.get()?.get(block_key(BLOCK, key))?)
    }
}
