//! Every good record of a journal file, also those behind a damaged place: the salt in each checksum makes a false one as good as
//! impossible ([`crate::store::frames`]), and each row stands for itself.

use std::fs::File;
use std::path::Path;

use crate::store::frames::{FRAME_LEN, HEADER_LEN, MAX_PAYLOAD, Next, Salt};

use super::LedgerError;
use super::form::{self, Head, Kind};
use super::reader::read_at;
use super::segment::{Segment, io_error};

/// Bytes read at once; several of the longest records.
const CHUNK: usize = 1 << 20;
/// Bytes in which any record ends that begins in them.
const AHEAD: usize = FRAME_LEN + MAX_PAYLOAD;

/// Most bytes in which a good record is looked for behind a bad place: twice the longest segment that can be set. A longer tail is
/// taken for damage, which is told.
const BEHIND_MOST: u64 = 8 << 30;

/// What is in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Its salt; `None`: its header is damaged.
    pub(super) salt: Option<Salt>,
    /// It is shorter than a header, or has zeroes only: nothing was written to it.
    pub(super) is_stub: bool,
    /// Good records.
    pub(super) records: u64,
    /// Bytes which are part of none.
    pub(super) bad_bytes: u64,
    /// Where the good records from its beginning on end.
    pub(super) good_to: u64,
    /// There are good records behind bad bytes: this is no torn end.
    pub(super) good_behind_bad: bool,
    /// Its header is good, and of a form this program does not know.
    pub(super) is_newer: bool,
    /// Good records which this program can't read: a newer one wrote them.
    pub(super) unknown: u64,
}

impl Found {
    /// Does a reader stop here, or leave good records out? `is_last`: it is its journal's last file, which may have a torn end.
    pub(super) fn is_damaged(&self, is_last: bool) -> bool {
        match is_last {
            true => self.good_behind_bad || (self.salt.is_none() && !self.is_stub),
            false => self.bad_bytes > 0 || self.salt.is_none(),
        }
    }
}

/// Has the file nothing but zeroes, as a power cut may leave one whose length reached the disk before its bytes?
pub(super) fn is_blank(file: &File, path: &Path) -> Result<bool, LedgerError> {
    let mut chunk = Vec::new();
    let mut offset = 0;
    loop {
        chunk.clear();
        read_at(file, &mut chunk, offset, CHUNK).map_err(io_error(path))?;
        if chunk.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if chunk.len() < CHUNK {
            return Ok(true);
        }
        offset += chunk.len() as u64;
    }
}

/// A file's salt; `None`: its header is damaged.
pub(super) fn salt(segment: &Segment) -> Result<Option<Salt>, LedgerError> {
    let mut header = Vec::new();
    let file = File::open(&segment.path).map_err(io_error(&segment.path))?;
    read_at(&file, &mut header, 0, HEADER_LEN).map_err(io_error(&segment.path))?;
    Ok(Salt::from_header(&header).ok())
}

/// Reads a file; `spare`: the salt of its journal's other files, should its own header be damaged.
pub(super) fn scan(
    segment: &Segment,
    spare: Option<Salt>,
    mut each: impl FnMut(&[u8], Head) -> Result<(), LedgerError>,
) -> Result<Found, LedgerError> {
    let path = &segment.path;
    let file = File::open(path).map_err(io_error(path))?;
    let mut chunk = Vec::new();
    read_at(&file, &mut chunk, 0, HEADER_LEN).map_err(io_error(path))?;
    let mut found = Found {
        salt: Salt::from_header(&chunk).ok(),
        is_stub: chunk.len() < HEADER_LEN,
        is_newer: Salt::is_of_other_format(&chunk),
        ..Found::default()
    };
    if found.salt.is_none() {
        found.is_stub |= is_blank(&file, path)?;
        found.bad_bytes = chunk.len() as u64;
    }
    let Some(salt) = found.salt.or(spare) else {
        found.bad_bytes = found.bad_bytes.max(segment.bytes);
        return Ok(found);
    };
    found.good_to = HEADER_LEN as u64;
    walk(&file, path, salt, HEADER_LEN as u64, u64::MAX, |piece| {
        let Piece::Record { payload, end } = piece else {
            found.bad_bytes += 1;
            return Ok(true);
        };
        found.good_behind_bad |= found.bad_bytes > 0;
        if found.bad_bytes == 0 {
            found.good_to = end;
        }
        match form::head(payload) {
            Some(head) if head.kind == Kind::Opened || form::read_closed(payload).is_some() => {
                found.records += 1;
                each(payload, head)?;
            }
            _ => found.unknown += 1,
        }
        Ok(true)
    })?;
    Ok(found)
}

/// What stands at a place of a file.
enum Piece<'a> {
    /// A good record, and where it ends.
    Record { payload: &'a [u8], end: u64 },
    /// A byte which is part of none.
    Bad,
}

/// Gives what stands from `offset` on, to the file's end or to `most`; `each` says whether to go on. True: `most` was reached.
fn walk(
    file: &File,
    path: &Path,
    salt: Salt,
    mut offset: u64,
    most: u64,
    mut each: impl FnMut(Piece<'_>) -> Result<bool, LedgerError>,
) -> Result<bool, LedgerError> {
    let mut chunk = Vec::new();
    while offset < most {
        chunk.clear();
        read_at(file, &mut chunk, offset, CHUNK + AHEAD).map_err(io_error(path))?;
        if chunk.is_empty() {
            return Ok(false);
        }
        let mut at = 0;
        while at < chunk.len() && at < CHUNK {
            let piece = match salt.next(chunk.get(at..).unwrap_or_default()) {
                Next::Record(payload) => {
                    at += FRAME_LEN + payload.len();
                    let end = offset + at as u64;
                    Piece::Record { payload, end }
                }
                Next::Cut | Next::Bad(_) => {
                    at += 1;
                    Piece::Bad
                }
            };
            if !each(piece)? {
                return Ok(false);
            }
        }
        offset += at as u64;
    }
    Ok(true)
}

/// Stands a good record anywhere behind a bad place at `from`? One of a kind this program does not know counts too. False where the
/// header is damaged: without its salt no record is known.
pub(super) fn is_good_behind(segment: &Segment, from: u64) -> Result<bool, LedgerError> {
    let mut found = false;
    walk_behind(segment, from, |_| {
        found = true;
        false
    })?;
    Ok(found)
}

/// Gives every row behind a bad place at `from`.
pub(super) fn rows_behind(segment: &Segment, from: u64, mut each: impl FnMut(Head)) -> Result<(), LedgerError> {
    walk_behind(segment, from, |payload| {
        if let Some(head) = payload.and_then(form::head)
            && head.kind == Kind::Closed
        {
            each(head);
        }
        true
    })
}

/// `each` gets every good record from `from` on, says whether to go on, and gets `None` where [`BEHIND_MOST`] is reached.
fn walk_behind(segment: &Segment, from: u64, mut each: impl FnMut(Option<&[u8]>) -> bool) -> Result<(), LedgerError> {
    let path = &segment.path;
    let Some(salt) = salt(segment)? else {
        return Ok(());
    };
    let file = File::open(path).map_err(io_error(path))?;
    let from = from.max(HEADER_LEN as u64);
    let goes_on = walk(&file, path, salt, from, from.saturating_add(BEHIND_MOST), |piece| {
        Ok(match piece {
            Piece::Record { payload, .. } => each(Some(payload)),
            Piece::Bad => true,
        })
    })?;
    if goes_on {
        each(None);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::samples;
    use crate::ledger::segment::State;

    #[test]
    fn good_records_are_found_around_every_damage() {
        const N: u64 = 12_000;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let salt = Salt::new(9);
        let mut good = salt.header().to_vec();
        let mut ends = vec![good.len()];
        for n in 0..N {
            let row = samples::row(n);
            salt.append(&mut good, |out| {
                form::write_closed(&row.opening, &row.closing, row.ended, out)
            })
            .unwrap();
            ends.push(good.len());
        }
        assert!(good.len() > CHUNK, "more than one chunk");
        let scan = |bytes: &[u8], spare| {
            fs::write(&path, bytes).unwrap();
            let segment = Segment {
                path: path.clone(),
                state: State::Done,
                bytes: bytes.len() as u64,
            };
            let mut ids = Vec::new();
            let found = scan(&segment, spare, |_, head| {
                ids.push(head.id);
                Ok(())
            })
            .unwrap();
            assert_eq!(found.records, ids.len() as u64);
            found
        };
        let whole = scan(&good, None);
        assert_eq!((whole.records, whole.bad_bytes, whole.is_damaged(false)), (N, 0, false));
        for n in [0, 1, N as usize / 2, N as usize - 1] {
            let mut bad = good.clone();
            bad[ends[n] + 9] ^= 4;
            let found = scan(&bad, None);
            assert_eq!(found.records, N - 1, "row {n}");
            assert_eq!(found.bad_bytes, (ends[n + 1] - ends[n]) as u64);
            assert_eq!(
                found.is_damaged(true),
                n + 1 < N as usize,
                "the last record may be torn"
            );
            assert!(found.is_damaged(false));
        }
        let mut bad = good.clone();
        bad[3] ^= 1;
        assert_eq!(scan(&bad, None).records, 0);
        assert!(scan(&bad, None).is_damaged(true));
        assert_eq!(scan(&bad, Some(salt)).records, N, "with the salt of another file");
        let stub = scan(&good[..10], None);
        assert!(!stub.is_damaged(true) && stub.is_damaged(false));
        // Something was put in between.
        let mut bad = good[..ends[100]].to_vec();
        bad.extend_from_slice(&[0xAB; 1000]);
        bad.extend_from_slice(&good[ends[100]..]);
        assert_eq!((scan(&bad, None).records, scan(&bad, None).bad_bytes), (N, 1000));
    }
}
