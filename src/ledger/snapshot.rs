//! The sums on disk, beside the store: what a store that broke is given again. Rows come back from the journals that are kept; sums
//! reach further back than those, and nothing else holds them.
//!
//! ```text
//! sums.tgs   "TGSUMS_1" ‖ crc32c of body and length u32 ‖ length of the body u64 ‖ body
//! body       zstd( items ), an item being its length u32 ‖ postcard: first one Head, then (hour, name, sums) in order, then an
//!            empty one
//! ```
//! Numbers little-endian; names and sums as the store has them ([`super::rollup`]). Sums by day are not there: those by hour come to
//! them. There are two such files ([`super::pair`]). A file is written and read piece by piece: memory does not grow with it.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::clock::UnixMicros;
use crate::store::Store;
use crate::store::rows::Applied;
use crate::store::sums::Period;

use super::LedgerError;
use super::pair::{Pair, Unusable, check_magic};
use super::segment::Boot;

/// First bytes of a file; the last of them is the version of the form.
const MAGIC: &[u8; 8] = b"TGSUMS_1";
/// Bytes before the body.
const HEAD_LEN: usize = 20;
/// zstd's fastest regular level: names repeat from hour to hour.
const LEVEL: i32 = 1;
/// Bytes read at once.
const CHUNK: usize = 256 << 10;
/// Longest item; a longer length is damage. The marks of the journals that are kept are far below.
const ITEM_MAX: u32 = 16 << 20;

/// What the sums of a file are of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// When it was written.
    pub(super) at: UnixMicros,
    /// As [`crate::store::rows::Rows::removed_before`].
    pub(super) removed_before: i64,
    /// As [`crate::store::sums::Refilled::sums_since`].
    pub(super) sums_since: i64,
    /// How much of each journal is in the sums. Journals which are not named are in them whole, or not at all if they are newer.
    pub(super) marks: Vec<(Boot, Applied)>,
}

/// One sum: the hour since 1970, its name and its bytes.
pub(super) type Item = (u32, Vec<u8>, Vec<u8>);

/// An open file: its checksum was good.
pub(super) struct Snapshot {
    pub(super) head: Head,
    items: Items,
}

type Items = zstd::stream::read::Decoder<'static, BufReader<io::Take<File>>>;

impl Snapshot {
    /// The next sum, in order of hours; `None`: that was all.
    pub(super) fn next(&mut self) -> io::Result<Option<Item>> {
        let item = read_item(&mut self.items)?;
        if item.is_empty() {
            return Ok(None);
        }
        decode(&item).map(Some)
    }
}

/// The files of one journal folder.
pub(super) fn pair(folder: &Path) -> Pair {
    Pair::new(folder, "sums.tgs")
}

/// The newest undamaged file; `None`: there is none.
pub(super) fn load(pair: &mut Pair) -> Result<Option<Snapshot>, LedgerError> {
    pair.load(
        read,
        [
            "the sums on disk are damaged; the ones before are used",
            "and so are these; sums reach only as far back as the journals that are kept",
        ],
    )
}

/// Writes the sums of the store, in which all rows must be; the bytes of the file.
pub(super) fn write(pair: &mut Pair, store: &Store, head: &Head) -> Result<u64, LedgerError> {
    let mut failed = None;
    let mut bytes = 0;
    let written = pair.write(|file| {
        file.write_all(&[0; HEAD_LEN])?;
        let out = Summed {
            to: io::BufWriter::with_capacity(CHUNK, &mut *file),
            sum: 0,
            length: 0,
        };
        let mut body = zstd::stream::write::Encoder::new(out, LEVEL)?;
        write_item(&mut body, head)?;
        for sum in store.rows().sums(Period::Hour(0), Period::Hour(u32::MAX)) {
            match sum {
                Ok((Period::Hour(hour), name, sums)) => write_item(&mut body, &(hour, name, sums))?,
                Ok(_) => {}
                Err(e) => {
                    failed = Some(e);
                    return Err(io::Error::other("the store could not be read"));
                }
            }
        }
        body.write_all(&[0; 4])?;
        let Summed { to, sum, length } = body.finish()?;
        to.into_inner().map_err(io::IntoInnerError::into_error)?;
        bytes = length + HEAD_LEN as u64;
        let length = length.to_le_bytes();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(MAGIC)?;
        file.write_all(&crc32c::crc32c_append(sum, &length).to_le_bytes())?;
        file.write_all(&length)
    });
    match failed {
        Some(e) => Err(e.into()),
        None => written.map(|()| bytes),
    }
}

/// What passes through, summed up.
struct Summed<W> {
    to: W,
    sum: u32,
    length: u64,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.sum = crc32c::crc32c_append(self.sum, bytes.get(..written).unwrap_or_default());
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn write_item(out: &mut impl Write, item: &impl Serialize) -> io::Result<()> {
    let mut bytes = postcard::to_extend(item, vec![0; 4]).map_err(io::Error::other)?;
    let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
    if length > ITEM_MAX {
        // It could not be read again.
        return Err(io::Error::other("an item is too long"));
    }
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    out.write_all(&bytes)
}

fn read_item(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > ITEM_MAX {
        return Err(io::Error::other("an item is too long"));
    }
    let mut item = vec![0; length as usize];
    from.read_exact(&mut item)?;
    Ok(item)
}

fn decode<T: serde::de::DeserializeOwned>(item: &[u8]) -> io::Result<T> {
    match postcard::take_from_bytes(item) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err(io::Error::other("an item is longer than it should be")),
        Err(e) => Err(io::Error::other(e)),
    }
}

/// `Ok(None)`: there is no such file.
pub(super) fn read(path: &Path) -> Result<Option<Snapshot>, Unusable> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.into()),
    };
    let length = check(&mut file)?;
    file.seek(SeekFrom::Start(HEAD_LEN as u64))?;
    let mut items = Items::with_buffer(BufReader::with_capacity(CHUNK, file.take(length)))?;
    let head = decode(&read_item(&mut items)?)?;
    Ok(Some(Snapshot { head, items }))
}

/// Reads all of a file and checks it; the length of its body.
fn check(file: &mut File) -> Result<u64, Unusable> {
    let mut head = [0; HEAD_LEN];
    file.read_exact(&mut head)?;
    let [magic @ .., _, _, _, _, _, _, _, _, _, _, _, _] = head;
    check_magic(&magic, MAGIC)?;
    let mut chunk = vec![0; CHUNK];
    let (mut sum, mut length) = (0, 0);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                sum = crc32c::crc32c_append(sum, chunk.get(..n).unwrap_or_default());
                length += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e.into()),
        }
    }
    if head[12..] != length.to_le_bytes() {
        return Err(Unusable::Damaged("its length is wrong".into()));
    }
    if head[8..12] != crc32c::crc32c_append(sum, &head[12..]).to_le_bytes() {
        return Err(Unusable::Damaged("its checksum is wrong".into()));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::rollup::Sums;
    use crate::store::codec;
    use crate::store::sums::Rolled;

    fn sums(n: u64) -> Vec<u8> {
        let sums = Sums {
            attempts: n,
            ..Sums::default()
        };
        codec::encode(&sums).unwrap()
    }

    fn head() -> Head {
        Head {
            at: UnixMicros(7),
            removed_before: 5,
            sums_since: 0,
            marks: vec![("b".repeat(32), Applied::default())],
        }
    }

    fn items(mut snapshot: Snapshot) -> Vec<Item> {
        std::iter::from_fn(|| snapshot.next().unwrap()).collect()
    }

    #[test]
    fn what_was_written_reads_back_and_nothing_damaged_does() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), 16 << 20).unwrap();
        let all: Vec<Item> = (0..500u32)
            .map(|n| (n / 7, format!("name{n:03}").into_bytes(), sums(n.into())))
            .collect();
        let as_sums: Vec<_> = all
            .iter()
            .map(|(hour, name, sums)| (Period::Hour(*hour), name.clone(), sums.clone()))
            .collect();
        store.rows().apply_sums(&as_sums, Some(&Rolled::default())).unwrap();
        let mut pair = pair(folder.path());
        assert!(load(&mut pair).unwrap().is_none());
        let bytes = write(&mut pair, &store, &head()).unwrap();
        let path = pair.newest();
        assert_eq!(fs::metadata(&path).unwrap().len(), bytes);
        let snapshot = load(&mut pair).unwrap().unwrap();
        assert_eq!(snapshot.head, head());
        assert_eq!(items(snapshot), all);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, bad).unwrap();
            assert!(read(&path).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(read(&path).is_err(), "cut at {at}");
        }
        assert!(load(&mut pair).unwrap().is_none(), "and there is none before");
        write(&mut pair, &store, &head()).unwrap();
        assert!(!pair.before().exists(), "what is damaged is not kept as the one before");
        assert!(folder.path().join("damaged/sums.tgs").exists(), "but it is kept");
        write(&mut pair, &store, &Head::default()).unwrap();
        fs::write(&path, b"torn").unwrap();
        assert_eq!(load(&mut pair).unwrap().unwrap().head, head());
    }

    #[test]
    fn the_form_on_disk_is_frozen() {
        let mut bytes = Vec::new();
        write_item(&mut bytes, &head()).unwrap();
        write_item(&mut bytes, &(3u32, b"n".to_vec(), sums(300))).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            "2a0000000e0a000120".to_owned()
                + &"62".repeat(32)
                + "0000000000"
                + "1900000003016e150100ac02"
                + &"00".repeat(17),
            "sums on disk would be read wrongly: give the new form a new number in MAGIC"
        );
    }
}
