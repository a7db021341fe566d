//! Blocks of rows: how many rows become one value of the store, and how it is read.
//!
//! ```text
//! block  version 1 ‖ bytes before compression u32 ‖ zstd( length u32 ‖ payload, and so on )
//! ```
//! Rows of one block are much alike: compressed they take a fifth of the space, and sled's cost goes by the byte.

use crate::clock::UnixMicros;
use crate::store::StoreError;
use crate::store::rows::{Block, BlockKey, Span};

/// Most rows of a block. sled keeps up to 16 values in a page and writes pages above 128 KiB as files of their own:
/// a block of this many rows takes about 6 KiB.
pub(super) const BLOCK_ROWS: u32 = 128;
/// Most bytes of a block before compression; reached only by rows with very long texts.
const BLOCK_BYTES: usize = 256 << 10;
const VERSION: u8 = 1;
const HEAD_LEN: usize = 5;
/// zstd's fastest regular level.
const LEVEL: i32 = 1;

/// The block that rows are added to.
pub(super) struct Tail {
    key: BlockKey,
    span: Span,
    raw: Vec<u8>,
    /// Has rows which are not in the store.
    dirty: bool,
    /// Latest beginning of any row so far: the next block's key is not below it.
    max_at: i64,
}

impl Tail {
    /// Goes on after the store's last block.
    pub(super) fn after(last: Option<(BlockKey, Span)>) -> Self {
        let (last, span) = last.unwrap_or((BlockKey::default(), EMPTY));
        Tail {
            key: last,
            span: EMPTY,
            raw: Vec::new(),
            dirty: false,
            max_at: span.max_at.max(i64::try_from(last.0).unwrap_or(i64::MAX)),
        }
    }

    /// Adds a row.
    pub(super) fn push(&mut self, payload: &[u8], at: UnixMicros) {
        if self.span.rows == 0 {
            let time = self.max_at.max(at.0);
            self.key = BlockKey(u64::try_from(time).unwrap_or(0).max(self.key.0.saturating_add(1)));
        }
        self.raw.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        self.raw.extend_from_slice(payload);
        self.span.rows += 1;
        self.span.min_at = self.span.min_at.min(at.0);
        self.span.max_at = self.span.max_at.max(at.0);
        self.max_at = self.max_at.max(at.0);
        self.dirty = true;
    }

    pub(super) fn is_full(&self) -> bool {
        self.span.rows >= BLOCK_ROWS || self.raw.len() >= BLOCK_BYTES
    }

    /// The block as it is now, if it has rows which are not in the store.
    pub(super) fn block(&self, compressor: &mut Compressor) -> Result<Option<Block>, StoreError> {
        if !self.dirty {
            return Ok(None);
        }
        Ok(Some(Block {
            key: self.key,
            span: self.span,
            bytes: compressor.block(&self.raw)?,
        }))
    }

    /// What it holds is in the store; more may be added.
    pub(super) fn saved(&mut self) {
        self.dirty = false;
    }

    /// Begins the next block.
    pub(super) fn begin_next(&mut self) {
        self.span = EMPTY;
        self.raw.clear();
        self.dirty = false;
    }
}

const EMPTY: Span = Span {
    rows: 0,
    min_at: i64::MAX,
    max_at: i64::MIN,
};

/// Compresses blocks; keeps its working memory.
pub(super) struct Compressor(zstd::bulk::Compressor<'static>);

impl Compressor {
    pub(super) fn new() -> Result<Self, StoreError> {
        zstd::bulk::Compressor::new(LEVEL).map(Compressor).map_err(failed)
    }

    fn block(&mut self, raw: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::with_capacity(HEAD_LEN + raw.len() / 4);
        bytes.push(VERSION);
        bytes.extend_from_slice(&(raw.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.0.compress(raw).map_err(failed)?);
        Ok(bytes)
    }
}

fn failed(e: std::io::Error) -> StoreError {
    StoreError::Failed(format!("a block of rows: {e}"))
}

/// Reads blocks; keeps its working memory.
pub(super) struct BlockReader {
    zstd: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
}

impl BlockReader {
    pub(super) fn new() -> Result<Self, StoreError> {
        Ok(BlockReader {
            zstd: zstd::bulk::Decompressor::new().map_err(failed)?,
            raw: Vec::new(),
        })
    }

    /// The rows' payloads, in order.
    pub(super) fn read(&mut self, block: &[u8]) -> Result<Payloads<'_>, StoreError> {
        let (head, compressed) = block
            .split_first_chunk::<HEAD_LEN>()
            .ok_or_else(|| StoreError::Failed("a block of rows is cut".into()))?;
        let [version, length @ ..] = *head;
        if version != VERSION {
            return Err(StoreError::Failed(format!(
                "a block of rows has version {version}, this program knows {VERSION}"
            )));
        }
        let length = u32::from_le_bytes(length) as usize;
        // The last row may reach beyond BLOCK_BYTES, by one record at most.
        if length > BLOCK_BYTES + crate::store::frames::MAX_PAYLOAD + 4 {
            return Err(StoreError::Failed("a block of rows has an impossible length".into()));
        }
        self.raw.clear();
        self.raw.reserve(length);
        self.zstd
            .decompress_to_buffer(compressed, &mut self.raw)
            .map_err(failed)?;
        if self.raw.len() != length {
            return Err(StoreError::Failed("a block of rows has not its length".into()));
        }
        Ok(Payloads(&self.raw))
    }
}

/// The payloads of a block.
pub(super) struct Payloads<'a>(&'a [u8]);

impl<'a> Iterator for Payloads<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk::<4>()?;
        let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.0 = rest;
        Some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_grows_and_reads_back_in_order() {
        let mut compressor = Compressor::new().unwrap();
        let mut reader = BlockReader::new().unwrap();
        let mut tail = Tail::after(Some((
            BlockKey(1000),
            Span {
                rows: 1,
                min_at: 1,
                max_at: 1000,
            },
        )));
        assert!(tail.block(&mut compressor).unwrap().is_none(), "nothing to save");
        tail.push(b"one", UnixMicros(900));
        let first = tail.block(&mut compressor).unwrap().unwrap();
        assert_eq!(first.key, BlockKey(1001), "keys only rise, whatever the clock did");
        tail.saved();
        tail.push(b"two", UnixMicros(5000));
        let grown = tail.block(&mut compressor).unwrap().unwrap();
        assert_eq!(grown.key, first.key);
        let rows: Vec<_> = reader.read(&grown.bytes).unwrap().collect();
        assert_eq!(rows, [b"one", b"two"]);
        assert_eq!((grown.span.min_at, grown.span.max_at), (900, 5000));
        tail.begin_next();
        tail.push(b"three", UnixMicros(10));
        let next = tail.block(&mut compressor).unwrap().unwrap();
        assert_eq!(
            next.key,
            BlockKey(5000),
            "no row of an earlier block began after a block's key"
        );
    }

    #[test]
    fn a_damaged_block_is_an_error_and_no_panic() {
        let mut reader = BlockReader::new().unwrap();
        for bad in [
            &b""[..],
            &[1, 2],
            &[9, 0, 0, 0, 0],
            &[1, 255, 255, 255, 255, 0],
            &[1, 4, 0, 0, 0, 7],
        ] {
            assert!(reader.read(bad).is_err());
        }
    }
}
