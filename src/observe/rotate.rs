//! Files of a log that were put away: their names, how long they are kept, and how much room they may take. What does not bear
//! a name of ours is never touched.
//!
//! `access.log` becomes `access.log.20260131T235959.123456Z`, by the time at which it was put away (UTC): names sort by it. Later
//! it becomes `....gz`.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::{FlockOperation, flock, statvfs};

use crate::clock::UnixMicros;
use crate::config::Rotation;

use super::rfc3339;

/// How old a file is before it is compressed: whoever still has it open (a process that is being replaced) notices within a
/// second that it was put away.
const SETTLED: Duration = Duration::from_secs(300);

/// Pieces in which files are compressed, in bytes.
const PIECE: usize = 64 * 1024;

/// Length of the time in a name: `20260131T235959.123456Z`.
const TIME_LEN: usize = 23;

/// Longest line whose time is looked for, in bytes: it stands first.
const HEAD: u64 = 64;

/// A file that was put away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Old {
    /// When it was.
    pub(super) at: UnixMicros,
    pub(super) path: PathBuf,
    pub(super) gzip: bool,
    /// In bytes.
    pub(super) length: u64,
}

/// What was removed, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    /// Files that were old enough.
    pub(super) old: usize,
    /// Younger ones, for want of room.
    pub(super) early: usize,
}

/// The log's path and what is done with its files.
#[derive(Clone, Debug)]
pub(super) struct Files {
    path: PathBuf,
    rotation: Rotation,
}

impl Files {
    pub(super) fn new(path: &Path, rotation: Rotation) -> Self {
        Files {
            path: path.to_owned(),
            rotation,
        }
    }

    /// Whether a file that begins at `began` and is so long is to be put away.
    pub(super) fn is_due(&self, began: UnixMicros, length: u64, now: UnixMicros) -> bool {
        if length == 0 {
            return false;
        }
        let period = |at: UnixMicros| {
            let every = self.rotation.every?;
            let every = i64::try_from(every.as_micros()).ok().filter(|every| *every > 0)?;
            Some(at.0.div_euclid(every))
        };
        // A clock that was set back puts nothing away.
        length >= self.rotation.max_file || period(now) > period(began)
    }

    /// A name nobody has, for a file that is put away now.
    pub(super) fn name(&self, now: UnixMicros) -> PathBuf {
        let mut at = now;
        loop {
            let name = with_suffix(&self.path, &compact(at));
            if !name.exists() && !with_suffix(&name, "gz").exists() {
                return name;
            }
            at.0 += 1;
        }
    }

    /// Whether the log is a plain file. What else has its name (`/dev/null`, a pipe, a link to elsewhere) is only written to.
    pub(super) fn are_ours(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_file())
    }

    /// When the log's first line was written: as it says itself, else when the file was last changed; `None`: it is empty, or that
    /// can't be told.
    pub(super) fn began(&self) -> Option<UnixMicros> {
        match self.are_ours() {
            true => self.first_line().unwrap_or_default(),
            false => None,
        }
    }

    fn first_line(&self) -> io::Result<Option<UnixMicros>> {
        let file = File::open(&self.path)?;
        let metadata = file.metadata()?;
        if metadata.len() == 0 {
            return Ok(None);
        }
        let mut head = Vec::new();
        file.take(HEAD).read_to_end(&mut head)?;
        let told = std::str::from_utf8(&head).ok().and_then(|head| {
            let time = head.strip_prefix("{\"time\":\"")?.split('"').next()?;
            Some(UnixMicros(time.parse::<jiff::Timestamp>().ok()?.as_microsecond()))
        });
        Ok(Some(match told {
            Some(told) => told,
            None => changed(&metadata)?,
        }))
    }

    /// The files that were put away, the oldest first.
    pub(super) fn old(&self) -> io::Result<Vec<Old>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            let Some((at, kind)) = entry.file_name().to_str().and_then(|name| self.parse(name)) else {
                continue;
            };
            let Ok(metadata) = entry.metadata() else { continue };
            if kind == Kind::Unfinished || !metadata.is_file() {
                continue;
            }
            found.push(Old {
                at,
                path: entry.path(),
                gzip: kind == Kind::Gzip,
                length: metadata.len(),
            });
        }
        found.sort_by(|a, b| (a.at, &a.path).cmp(&(b.at, &b.path)));
        Ok(found)
    }

    /// Removes what is old enough; then, the oldest first, as much as has to go so that there is room.
    pub(super) fn tidy(&self, now: UnixMicros) -> io::Result<Removed> {
        self.tidy_by(now, &|| self.free())
    }

    fn tidy_by(&self, now: UnixMicros, free: &dyn Fn() -> io::Result<u64>) -> io::Result<Removed> {
        let mut removed = Removed::default();
        let old = self.old()?;
        let current = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        let mut total = old.iter().map(|one| one.length).sum::<u64>().saturating_add(current);
        for one in old {
            let age = Duration::from_micros(u64::try_from(now.0.saturating_sub(one.at.0)).unwrap_or(0));
            let is_old = self.rotation.keep.is_some_and(|keep| age >= keep);
            if !is_old && total <= self.rotation.max_total && free()? >= self.rotation.min_free {
                // What comes is younger, and there is room.
                break;
            }
            match fs::remove_file(&one.path) {
                // Another process was faster.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            total = total.saturating_sub(one.length);
            match is_old {
                true => removed.old += 1,
                false => removed.early += 1,
            }
        }
        Ok(removed)
    }

    /// Whether there is less room on the disk than is to stay free.
    pub(super) fn is_starved(&self) -> bool {
        // Where it can't be told it is not held against anybody.
        self.rotation.min_free > 0 && self.free().is_ok_and(|free| free < self.rotation.min_free)
    }

    fn free(&self) -> io::Result<u64> {
        let disk = statvfs(self.folder())?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn folder(&self) -> &Path {
        match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }

    /// Compresses the files that are not yet and have settled, one after the other; gives how many. Ends early when told to.
    pub(super) fn compress(&self, now: UnixMicros, stop: &AtomicBool) -> io::Result<usize> {
        self.drop_unfinished()?;
        let mut done = 0;
        for one in self.old()?.into_iter().filter(|one| !one.gzip) {
            let settled = |at: UnixMicros| now.0.saturating_sub(at.0) >= SETTLED.as_micros() as i64;
            if !settled(one.at) || !settled(changed(&fs::metadata(&one.path)?)?) || self.is_starved() {
                continue;
            }
            if compress(&one.path, stop)? {
                done += 1;
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(done)
    }

    /// Removes what a process that died left half compressed, if the whole file is gone. (If it is there, it is done anew.)
    fn drop_unfinished(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.folder())? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some((at, Kind::Unfinished)) = name.to_str().and_then(|name| self.parse(name))
                && !with_suffix(&self.path, &compact(at)).exists()
            {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(())
    }

    /// What a name of ours says; `None`: it is not of ours.
    fn parse(&self, name: &str) -> Option<(UnixMicros, Kind)> {
        let own = self.path.file_name()?.to_str()?;
        let rest = name.strip_prefix(own)?.strip_prefix('.')?;
        let (time, suffix) = rest.split_at_checked(TIME_LEN)?;
        let kind = match suffix {
            "" => Kind::Plain,
            ".gz" => Kind::Gzip,
            ".gz.tmp" => Kind::Unfinished,
            _ => return None,
        };
        let part = |range: std::ops::Range<usize>| {
            time.get(range)
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
        };
        let (year, month, day) = (part(0..4)?, part(4..6)?, part(6..8)?);
        let (hour, minute, second) = (part(9..11)?, part(11..13)?, part(13..15)?);
        let text = format!("{year}-{month}-{day}T{hour}:{minute}:{second}.{}Z", part(16..22)?);
        let at = UnixMicros(text.parse::<jiff::Timestamp>().ok()?.as_microsecond());
        // The same name again: there is no other way to write it.
        (compact(at) == time).then_some((at, kind))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Unfinished,
}

/// `20260131T235959.123456Z`.
fn compact(at: UnixMicros) -> String {
    rfc3339(at).replace(['-', ':'], "")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(suffix);
    name.into()
}

fn changed(metadata: &fs::Metadata) -> io::Result<UnixMicros> {
    let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
    Ok(UnixMicros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

/// Compresses a file, and removes it when that is whole and on the disk. `false`: another process is at it, somebody still
/// writes into it, or it was told to stop.
fn compress(path: &Path, stop: &AtomicBool) -> io::Result<bool> {
    let file = File::open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(false),
        locked => locked?,
    }
    let unfinished = with_suffix(path, "gz.tmp");
    let done = write_compressed(&file, &unfinished, stop).and_then(|whole| {
        if whole {
            fs::rename(&unfinished, with_suffix(path, "gz"))?;
            fs::remove_file(path)?;
        }
        Ok(whole)
    });
    if !matches!(done, Ok(true)) {
        let _ = fs::remove_file(&unfinished);
    }
    done
}

/// `false`: somebody still writes into it, or it was told to stop.
fn write_compressed(mut from: &File, to: &Path, stop: &AtomicBool) -> io::Result<bool> {
    let before = from.metadata()?;
    let to = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o640)
        .open(to)?;
    let mut to = GzEncoder::new(to, Compression::default());
    let mut piece = vec![0; PIECE];
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match from.read(&mut piece)? {
            0 => break,
            read => to.write_all(&piece[..read])?,
        }
    }
    to.finish()?.sync_all()?;
    let after = from.metadata()?;
    Ok((before.len(), changed(&before)?) == (after.len(), changed(&after)?))
}

#[cfg(test)]
mod tests;
