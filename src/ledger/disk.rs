//! When the disk is full (HARDENING L4): nothing is admitted below `min_free`; should a write fail all the same, what is open can
//! still be entered. A partial write is cut back, a file kept for this day (the ballast) is removed, and the writer tries again each
//! [`RETRY_EVERY`]; meanwhile records wait in memory, and nothing is admitted.
//!
//! Only a lack of room is waited out, and a lack of descriptors or memory where the next file is made. Any other failed write, and every
//! failed sync, ends the process ([`super::FatalHook`]).

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::journal::{Journal, Settings, WriteHook};
use super::segment;

/// How often what found no room is tried again.
pub(super) const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Most bytes of records that wait for room; beyond it the process stops, as at any other failed write. Nothing is admitted
/// meanwhile, so what can come is of requests already under way: of each the row of its attempt and perhaps the opening and the row
/// of a next one, which waits for its opening to be written before it calls a provider. Three records of 8 KiB at most (mostly 300
/// bytes): room for 10,000 requests at the very worst, for 300,000 as they are.
pub(super) const WAITING_MAX: usize = 256 << 20;
/// How long a stop waits for room.
pub(super) const STOP_WAIT: Duration = Duration::from_secs(5);

/// `write(2)`.
pub(super) fn plain_write() -> WriteHook {
    Arc::new(|mut file: &File, bytes: &[u8]| file.write(bytes))
}

/// Is there no room, on the disk or in our share of it?
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// Does it pass by itself? The process, or the system, has no descriptors or no memory left.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let passing = [Errno::MFILE, Errno::NFILE, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|error| passing.contains(&error))
}

/// Room that may be taken ahead for a segment: all of it, or nothing where the disk would be nearly full by it.
pub(super) fn room_ahead(folder: &Path, size: u64, min_free: u64) -> u64 {
    match free_space(folder) {
        Ok(free) if free >= min_free.saturating_add(size) => size,
        _ => 0,
    }
}

/// Appends to a file that ends at `end`. False: there is no room, and the file is as it was.
pub(super) fn append(write: &WriteHook, file: &File, bytes: &[u8], end: u64) -> io::Result<bool> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match write(file, rest) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) if is_full(&e) => {
                // Back to the last whole batch, so that a reader never finds half a record between others.
                if rest.len() < bytes.len() {
                    file.set_len(end)?;
                }
                return Ok(false);
            }
            Err(e) => return Err(e),
        }
    }
    Ok(true)
}

/// A file that only takes room.
pub(super) struct Ballast {
    folder: PathBuf,
    size: u64,
    /// It could not be made; told once.
    failing: bool,
}

impl Ballast {
    pub(super) fn new(settings: &Settings) -> Self {
        Ballast {
            folder: settings.folder.clone(),
            size: settings.ballast,
            failing: false,
        }
    }

    /// Makes it where it is missing and there is room for it beside what must be free.
    pub(super) fn tend(&mut self, journal: &Journal) {
        let path = ballast_path(&self.folder);
        let there = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        if there == self.size || journal.stuck.load(Ordering::Relaxed) {
            return;
        }
        if there > 0 {
            drop_ballast(&self.folder);
        }
        let needed = journal.settings.min_free.saturating_add(self.size);
        if self.size == 0 || free_space(&self.folder).unwrap_or(0) < needed {
            return;
        }
        match make(&path, self.size) {
            Ok(()) => self.failing = false,
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(%error, file = %path.display(), "the ballast could not be made; it is tried again");
                }
            }
        }
    }
}

fn ballast_path(folder: &Path) -> PathBuf {
    folder.join("ballast")
}

fn make(path: &Path, size: u64) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let file = segment::create_private(&fresh)?;
    let made = match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size) {
        Ok(()) => Ok(()),
        // Not every file system can.
        Err(rustix::io::Errno::OPNOTSUPP) => fill(&file, size),
        Err(e) => Err(e.into()),
    };
    made.and_then(|()| fs::rename(&fresh, path)).inspect_err(|_| {
        let _ = fs::remove_file(&fresh);
    })
}

fn fill(mut file: &File, size: u64) -> io::Result<()> {
    // Not zeroes: a file system that compresses would take no room for them.
    let piece: Vec<u8> = (0..1u32 << 18)
        .flat_map(|n| n.wrapping_mul(0x9E37_79B1).to_le_bytes())
        .collect();
    let mut left = size;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(piece.len());
        file.write_all(&piece[..now])?;
        left -= now as u64;
    }
    file.sync_all()
}

/// Gives its room to the journal. True: there was one.
pub(super) fn drop_ballast(folder: &Path) -> bool {
    fs::remove_file(ballast_path(folder)).is_ok()
}

/// Bytes which we may still write.
pub(super) fn free_space(folder: &Path) -> io::Result<u64> {
    let space = rustix::fs::statvfs(folder)?;
    Ok(space.f_bavail.saturating_mul(space.f_frsize))
}
