//! The journal's folder: which files there are, whose they are, and who is alive.
//!
//! ```text
//! <boot-id>-NNNNN.tgj           a segment, from 00001; the boot id is a UUIDv7, so names are in order of time
//! <boot-id>-NNNNN.tgj.done      taken in; kept so that the store can be filled again
//! <boot-id>-NNNNN.tgj.damaged   damaged elsewhere than at its journal's torn end; at least the records before the damage were taken in
//! <boot-id>-NNNNN.tgj.repaired  what the books have of a damaged one ([`super::repair`])
//! damaged/                      damaged ones as they were found, after their repair
//! <boot-id>.lock                held (flock) while the process lives
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::store::frames::{HEADER_LEN, Salt};

use super::LedgerError;

/// One process's journal: 32 hexadecimal digits.
pub(super) type Boot = String;

/// A place in a journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Not known to be taken in.
    Fresh,
    Done,
    Damaged,
    /// Its good records which are in the books; others are missing.
    Repaired,
}

/// A segment's file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    pub(super) state: State,
    pub(super) bytes: u64,
}

pub(super) fn io_error(file: &Path) -> impl FnOnce(io::Error) -> LedgerError + '_ {
    move |source| LedgerError::Io {
        file: file.to_owned(),
        source,
    }
}

/// Where damaged segments are kept after their repair.
pub(super) fn set_aside_folder(folder: &Path) -> PathBuf {
    folder.join("damaged")
}

/// How many segments are there.
pub(super) fn set_aside(folder: &Path) -> Result<u64, LedgerError> {
    let path = set_aside_folder(folder);
    let files = match fs::read_dir(&path) {
        Ok(files) => files,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(e) => return Err(io_error(&path)(e)),
    };
    let mut count = 0;
    for file in files {
        let file = file.map_err(io_error(&path))?;
        let name = file.file_name();
        let name = name.to_str().unwrap_or_default();
        // Behind a name that was taken stands a number.
        let name = match name.rsplit_once('.') {
            Some((before, number)) if number.parse::<u32>().is_ok() => before,
            _ => name,
        };
        count += u64::from(parse_name(name).is_some());
    }
    Ok(count)
}

/// Most files of one name among the damaged ones.
const ASIDE_MOST: u32 = 1000;

/// Where a file gets among the damaged ones, where others may have its name.
pub(super) fn place_aside(folder: &Path, path: &Path) -> Result<PathBuf, LedgerError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = set_aside_folder(folder);
    let first = std::iter::once(aside.join(&*name));
    let places = first.chain((1..ASIDE_MOST).map(|number| aside.join(format!("{name}.{number}"))));
    for place in places {
        if !place.try_exists().map_err(io_error(&place))? {
            return Ok(place);
        }
    }
    Err(io_error(&aside)(io::Error::other(format!(
        "there are {ASIDE_MOST} files of the name {name}: move some away"
    ))))
}

/// Gives a file to the folder's owner: a repair that root says must not leave what the gateway can't read.
pub(super) fn give_to_owner(folder: &Path, path: &Path) -> Result<(), LedgerError> {
    let owner = fs::metadata(folder).map_err(io_error(folder))?;
    let its = fs::metadata(path).map_err(io_error(path))?;
    if (its.uid(), its.gid()) == (owner.uid(), owner.gid()) || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())).map_err(io_error(path))
}

/// Makes the folder of the damaged ones.
pub(super) fn make_aside_folder(folder: &Path) -> Result<PathBuf, LedgerError> {
    let aside = set_aside_folder(folder);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&aside)
        .map_err(io_error(&aside))?;
    give_to_owner(folder, &aside)?;
    Ok(aside)
}

/// Moves a file to the damaged ones; where it is then.
pub(super) fn move_aside(folder: &Path, path: &Path) -> Result<PathBuf, LedgerError> {
    let aside = make_aside_folder(folder)?;
    let to = place_aside(folder, path)?;
    fs::rename(path, &to).map_err(io_error(path))?;
    sync_folder(&aside)?;
    sync_folder(folder)?;
    Ok(to)
}

pub(super) fn segment_path(folder: &Path, boot: &str, number: u32) -> PathBuf {
    folder.join(format!("{boot}-{number:05}.tgj"))
}

fn lock_path(folder: &Path, boot: &str) -> PathBuf {
    folder.join(format!("{boot}.lock"))
}

/// How often a folder is listed again, in which files are renamed meanwhile.
const LISTED_MOST: u32 = 100;

/// Segments by boot and number.
pub(super) type Segments = BTreeMap<Boot, BTreeMap<u32, Segment>>;

/// Every segment of every boot. One that another thread renames meanwhile is never left out: whoever reads on would skip it. What a
/// folder says while a name in it changes may have neither the old nor the new one, so it is read until it says the same twice: first by
/// names alone, then with each file's length.
pub(super) fn list(folder: &Path) -> Result<Segments, LedgerError> {
    for _ in 0..LISTED_MOST {
        let before = names(folder)?;
        let Some(segments) = list_once(folder)? else {
            continue;
        };
        let listed = segments
            .iter()
            .flat_map(|(boot, segments)| segments.keys().map(move |number| (boot, number)));
        if listed.eq(before.iter().map(|(boot, number)| (boot, number))) {
            return Ok(segments);
        }
    }
    Err(io_error(folder)(io::Error::other("its files change while it is read")))
}

/// Which segments there are, by their names alone.
fn names(folder: &Path) -> Result<BTreeSet<(Boot, u32)>, LedgerError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let name = entry.map_err(io_error(folder))?.file_name();
        names.extend(
            name.to_str()
                .and_then(parse_name)
                .map(|(boot, number, _)| (boot, number)),
        );
    }
    Ok(names)
}

/// `None`: a file had another name, or was gone, when it was looked at.
fn list_once(folder: &Path) -> Result<Option<Segments>, LedgerError> {
    let mut boots = Segments::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder))? {
        let entry = entry.map_err(io_error(folder))?;
        let Some((boot, number, state)) = entry.file_name().to_str().and_then(parse_name) else {
            continue;
        };
        let bytes = match entry.metadata() {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(io_error(&entry.path())(e)),
        };
        let segment = Segment {
            path: entry.path(),
            state,
            bytes,
        };
        let segments = boots.entry(boot).or_default();
        // A repair that was interrupted may have left both.
        if segments.get(&number).is_none_or(|there| there.state != State::Repaired) {
            segments.insert(number, segment);
        }
    }
    Ok(Some(boots))
}

/// What a file's name says; `None`: it is no segment's.
pub(super) fn parse_name(name: &str) -> Option<(Boot, u32, State)> {
    let (stem, suffix) = name.split_once(".tgj")?;
    let state = match suffix {
        "" => State::Fresh,
        ".done" => State::Done,
        ".damaged" => State::Damaged,
        ".repaired" => State::Repaired,
        _ => return None,
    };
    let (boot, number) = stem.split_once('-')?;
    let is_boot = boot.len() == 32 && boot.bytes().all(|b| b.is_ascii_hexdigit());
    let number = number.parse().ok().filter(|&number| number > 0)?;
    is_boot.then(|| (boot.to_owned(), number, state))
}

/// Renames a segment to say what became of it: a fresh one, and one that went bad after it was taken in.
pub(super) fn mark(segment: &Segment, state: State) -> Result<(), LedgerError> {
    let suffix = match (segment.state, state) {
        (State::Fresh, State::Done) => "tgj.done",
        (State::Fresh, State::Damaged) => "tgj.damaged",
        (State::Done, State::Damaged) => "damaged",
        _ => return Ok(()),
    };
    // Room taken ahead of a segment's end is given back.
    if let Ok(file) = File::options().write(true).open(&segment.path) {
        let _ = file.metadata().and_then(|metadata| file.set_len(metadata.len()));
    }
    fs::rename(&segment.path, segment.path.with_extension(suffix)).map_err(io_error(&segment.path))
}

/// Refuses to go on in the middle of a journal of which files were repaired since: records stand at other places there.
pub(super) fn refuse_repaired(
    folder: &Path,
    from: &Path,
    what: &str,
    segments: &BTreeMap<u32, Segment>,
) -> Result<(), LedgerError> {
    let Some(repaired) = segments.values().find(|segment| segment.state == State::Repaired) else {
        return Ok(());
    };
    let why = format!(
        "these {what} are older than the repair of {}, and go to a place in its journal that is elsewhere now: put the newer {what} back, \
         or the journal's files as they were (in {})",
        repaired.path.display(),
        set_aside_folder(folder).display()
    );
    Err(io_error(from)(io::Error::other(why)))
}

/// A fresh boot: its id, and its lock, held until dropped.
pub(super) fn new_boot(folder: &Path) -> Result<(Boot, File), LedgerError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(io_error(folder))?;
    let boot = uuid::Uuid::now_v7().simple().to_string();
    let path = lock_path(folder, &boot);
    // Locked under another name first: who sees the lock sees it held.
    let fresh = path.with_extension("lock.new");
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&fresh)
        .map_err(io_error(&fresh))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)
        .map_err(|e| io_error(&fresh)(e.into()))?;
    fs::rename(&fresh, &path).map_err(io_error(&path))?;
    Ok((boot, file))
}

/// Whether a boot's process is gone. `Some`: it is, and this lock keeps others from taking it in at the same time.
pub(super) fn dead(folder: &Path, boot: &str) -> Result<Option<File>, LedgerError> {
    let path = lock_path(folder, boot);
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(io_error(&path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(io_error(&path)(e.into())),
    }
}

/// Does the process of this journal live? Nothing is made or taken.
pub(super) fn lives(folder: &Path, boot: &str) -> Result<bool, LedgerError> {
    let path = lock_path(folder, boot);
    match File::options().write(true).open(&path) {
        Ok(file) => Ok(rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(io_error(&path)(e)),
    }
}

/// Removes the lock file of a boot which is taken in whole; the caller holds it.
pub(super) fn remove_lock(folder: &Path, boot: &str) {
    let path = lock_path(folder, boot);
    if let Err(e) = fs::remove_file(&path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(error = %e, file = %path.display(), "a dead process's lock file could not be removed");
    }
}

/// Makes a file which nobody else may read, in the place of one that was left half written. Only writable.
pub(super) fn create_private(path: &Path) -> io::Result<File> {
    File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

/// The last of a journal's files that is longer than a header.
pub(super) fn last_written(segments: &BTreeMap<u32, Segment>) -> Option<u32> {
    let is_written = |(_, segment): &(&u32, &Segment)| segment.bytes > HEADER_LEN as u64;
    segments.iter().rev().find(is_written).map(|(&number, _)| number)
}

/// Makes a segment: header written, so many bytes of room taken ahead. The caller syncs file and folder.
pub(super) fn create(
    folder: &Path,
    boot: &str,
    number: u32,
    salt: Salt,
    size: u64,
) -> Result<(PathBuf, File), LedgerError> {
    let path = segment_path(folder, boot, number);
    let mut file = File::options()
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(io_error(&path))?;
    if size > 0 && rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, size).is_err() {
        // Not every file system can; then it is only slower. What it took before it failed is given back.
        let _ = file.set_len(0);
    }
    if let Err(e) = file.write_all(&salt.header()) {
        // So that it can be made again under this name; if not, the next try says so.
        let _ = fs::remove_file(&path);
        return Err(io_error(&path)(e));
    }
    Ok((path, file))
}

/// Syncs the folder, so that new names survive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), LedgerError> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_strictly() {
        let boot = "0192aaaaaaaa7000800000000000abcd";
        let parsed = |suffix: &str| parse_name(&format!("{boot}{suffix}")).map(|(_, number, state)| (number, state));
        assert_eq!(parsed("-00001.tgj"), Some((1, State::Fresh)));
        assert_eq!(parsed("-123456.tgj.done"), Some((123_456, State::Done)));
        assert_eq!(parsed("-00002.tgj.damaged"), Some((2, State::Damaged)));
        assert_eq!(parsed("-00002.tgj.repaired"), Some((2, State::Repaired)));
        for bad in [".lock", "-00000.tgj", "-x.tgj", "-00001.tgj.new", "00001.tgj"] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
        assert_eq!(parse_name("short-00001.tgj"), None);
    }

    #[test]
    fn a_segment_that_is_renamed_meanwhile_is_in_every_list() {
        const SEGMENTS: u32 = 200;
        // Beside others with long names: the system gives out a folder by 32 KiB, and within these nothing changes.
        const OTHERS: u32 = 400;
        let folder = tempfile::tempdir().unwrap();
        let boot = "b".repeat(32);
        for number in 1..=SEGMENTS {
            fs::write(segment_path(folder.path(), &boot, number), b"").unwrap();
        }
        for number in 1..=OTHERS {
            fs::write(folder.path().join(format!("{number:0>250}")), b"").unwrap();
        }
        let all = list(folder.path()).unwrap();
        std::thread::scope(|scope| {
            let renaming = scope.spawn(|| {
                for segment in all[&boot].values() {
                    mark(segment, State::Done).unwrap();
                    // Pauses, so that about one is renamed while the folder is listed: of more, one is seen to be gone.
                    names(folder.path()).unwrap();
                }
            });
            while !renaming.is_finished() {
                assert_eq!(list(folder.path()).unwrap()[&boot].len() as u32, SEGMENTS);
            }
        });
    }

    #[test]
    fn a_boot_is_alive_while_its_lock_is_held() {
        let folder = tempfile::tempdir().unwrap();
        let (boot, lock) = new_boot(folder.path()).unwrap();
        assert!(dead(folder.path(), &boot).unwrap().is_none());
        drop(lock);
        let held = dead(folder.path(), &boot).unwrap();
        assert!(held.is_some());
        assert!(
            dead(folder.path(), &boot).unwrap().is_none(),
            "only one takes a dead boot in"
        );
    }
}
