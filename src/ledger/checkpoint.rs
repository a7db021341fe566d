//! The books on disk: balances, and up to where in each journal they go. A start reads the newest file and only the journals behind
//! it.
//!
//! ```text
//! books.tgb   "TGBOOKS1" ‖ crc32c of what follows u32 ‖ length of the body u64 ‖ body (postcard of Checkpoint)
//! ```
//! Numbers little-endian. There are two of them ([`super::pair`]). The journals hold the truth: without any such file all of them are
//! read.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::ids::AttemptId;
use crate::limits::{AccountId, Balance};

use super::LedgerError;
use super::pair::{Pair, Unusable, check_magic};
use super::segment::{Boot, Position};

/// First bytes of a file; the last of them is the version of the form.
const MAGIC: &[u8; 8] = b"TGBOOKS1";
/// Bytes before the body.
const HEAD_LEN: usize = 20;

/// Balances, and what is in them. The order of fields is the form on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// When it was written.
    pub(super) at: UnixMicros,
    pub(super) accounts: Vec<(AccountId, Balance)>,
    pub(super) marks: Vec<Mark>,
}

/// How much of a journal is in the balances.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) boot: Boot,
    /// All that stands before.
    pub(super) segment: u32,
    pub(super) offset: u64,
    /// All there will ever be, with what was left open.
    pub(super) finished: bool,
    /// The attempts which were open there: id, segment and offset of the opening.
    pub(super) open: Vec<(AttemptId, u32, u64)>,
}

impl Mark {
    /// The first segment that is still needed to go on from here.
    pub(super) fn first_needed(&self) -> u32 {
        if self.finished {
            return u32::MAX;
        }
        self.open
            .iter()
            .map(|(_, segment, _)| *segment)
            .fold(self.segment, u32::min)
    }

    pub(super) fn position(&self) -> Position {
        Position {
            segment: self.segment,
            offset: self.offset,
        }
    }
}

/// The files of one journal folder.
pub(super) struct Files(Pair);

impl Files {
    pub(super) fn new(folder: &Path) -> Self {
        Files(Pair::new(folder, "books.tgb"))
    }

    /// The newest file.
    pub(super) fn newest(&self) -> PathBuf {
        self.0.newest()
    }

    /// The newest undamaged checkpoint; `None`: there is none.
    pub(super) fn load(&mut self) -> Result<Option<Checkpoint>, LedgerError> {
        self.0.load(
            read,
            [
                "the balances on disk are damaged; the ones before and the journals behind them are used",
                "and so are these; all journals are read",
            ],
        )
    }

    /// Do both files say that the balances have all of a journal?
    pub(super) fn both_have_all_of(&self, boot: &str) -> bool {
        [self.0.newest(), self.0.before()].iter().all(|file| {
            let marks = read(file).ok().flatten().map(|checkpoint| checkpoint.marks);
            marks.is_some_and(|marks| marks.iter().any(|mark| mark.boot == boot && mark.finished))
        })
    }

    /// Writes a new one; the last one becomes the one before.
    pub(super) fn write(&mut self, checkpoint: &Checkpoint) -> Result<(), LedgerError> {
        self.0.write(|file| {
            let bytes = encode(checkpoint).map_err(std::io::Error::other)?;
            file.write_all(&bytes)
        })
    }
}

fn encode(checkpoint: &Checkpoint) -> postcard::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(checkpoint, vec![0; HEAD_LEN])?;
    let length = (bytes.len() - HEAD_LEN) as u64;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[12..HEAD_LEN].copy_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c(&bytes[12..]);
    bytes[8..12].copy_from_slice(&sum.to_le_bytes());
    Ok(bytes)
}

/// `Ok(None)`: there is no such file.
fn read(file: &Path) -> Result<Option<Checkpoint>, Unusable> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    decode(&bytes).map(Some)
}

fn decode(bytes: &[u8]) -> Result<Checkpoint, Unusable> {
    let damaged = |why: &str| Unusable::Damaged(why.to_owned());
    if let Some(magic) = bytes.first_chunk() {
        check_magic(magic, MAGIC)?;
    }
    let Some((head, body)) = bytes.split_first_chunk::<HEAD_LEN>() else {
        return Err(damaged("its head is cut"));
    };
    if head[8..12] != crc32c::crc32c(&bytes[12..]).to_le_bytes() {
        return Err(damaged("its checksum is wrong"));
    }
    if head[12..] != (body.len() as u64).to_le_bytes() {
        return Err(damaged("its length is wrong"));
    }
    match postcard::take_from_bytes(body) {
        Ok((checkpoint, [])) => Ok(checkpoint),
        Ok(_) => Err(damaged("it is longer than it should be")),
        Err(e) => Err(damaged(&e.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::KeyId;
    use crate::limits::Spent;
    use crate::money::NanoUsd;

    fn sample(n: u64) -> Checkpoint {
        let mut balance = Balance::default();
        balance.0[3].spent = Spent {
            requests: n,
            tokens: 1000,
            charge: NanoUsd(5),
        };
        balance.0[0].from = UnixMicros(7);
        Checkpoint {
            at: UnixMicros(1_760_000_000_000_000),
            accounts: vec![(AccountId::Key(KeyId("k".into())), balance)],
            marks: vec![Mark {
                boot: "b".repeat(32),
                segment: 3,
                offset: 77,
                finished: false,
                open: vec![(AttemptId(uuid::Uuid::from_u128(1)), 2, 20)],
            }],
        }
    }

    #[test]
    fn the_form_on_disk_is_frozen() {
        let bytes = encode(&sample(9)).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            include_str!("frozen_books.hex").trim(),
            "balances on disk would be read wrongly: give the new form a new number in MAGIC"
        );
        assert_eq!(decode(&bytes), Ok(sample(9)));
    }

    #[test]
    fn no_flipped_bit_and_no_cut_passes() {
        let bytes = encode(&sample(9)).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(decode(&flipped).is_err(), "bit {at}");
        }
        for cut in 0..bytes.len() {
            assert!(
                matches!(decode(&bytes[..cut]), Err(Unusable::Damaged(_))),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn what_a_newer_program_wrote_is_not_taken_for_damage() {
        let mut bytes = encode(&sample(9)).unwrap();
        bytes[7] = b'2';
        for length in [8, bytes.len()] {
            assert!(matches!(decode(&bytes[..length]), Err(Unusable::Unread(_))));
        }
        bytes[7] = b'0';
        assert!(matches!(decode(&bytes), Err(Unusable::Damaged(_))));
    }

    #[test]
    fn the_one_before_is_used_when_the_newest_is_damaged_and_is_not_lost_by_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::new(folder.path());
        assert_eq!(files.load().unwrap(), None);
        for n in 1..=3 {
            files.write(&sample(n)).unwrap();
            assert_eq!(Files::new(folder.path()).load().unwrap(), Some(sample(n)));
        }
        fs::write(folder.path().join("books.tgb"), b"torn").unwrap();
        let mut files = Files::new(folder.path());
        assert_eq!(files.load().unwrap(), Some(sample(2)), "the one before");
        files.write(&sample(4)).unwrap();
        assert_eq!(files.load().unwrap(), Some(sample(4)));
        fs::remove_file(folder.path().join("books.tgb")).unwrap();
        assert_eq!(
            files.load().unwrap(),
            Some(sample(2)),
            "what was damaged did not take its place"
        );
    }

    #[test]
    fn what_is_needed_begins_with_the_oldest_open_attempt() {
        let mut mark = sample(1).marks.remove(0);
        assert_eq!(mark.first_needed(), 2);
        mark.open.clear();
        assert_eq!(mark.first_needed(), 3);
        mark.finished = true;
        assert_eq!(mark.first_needed(), u32::MAX);
    }
}
