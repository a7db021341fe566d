//! The embedded store. The only room that knows sled.
//!
//! sled is an index here, never the truth: its `flush` is no fsync, and a power cut may lose what it had or leave it
//! unable to open. Rows can be taken in again from the journals; the few facts that nothing else could bring back
//! (client keys, groups, admin tokens, sealed secrets, the master key's check value) are kept beside it in an append-only file of their own
//! ([`facts`]). So a store which does not open is moved aside and a fresh one is filled.
//!
//! ```text
//! <folder>/lock               held (flock) while a process has the store
//! <folder>/facts.tgj          the facts, synced record by record
//! <folder>/sled/              the index
//! <folder>/sled.broken-<id>/  indexes which did not open; the newest few
//! <folder>/condemned          the index panicked while in use: it is moved aside at the next start
//! ```

pub mod codec;
pub mod facts;
mod facts_log;
pub mod frames;
pub mod rows;
pub mod sums;

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use facts::{Facts, Room};
use facts_log::{FactsLog, Held};
use rows::Rows;

/// How often sled writes what it buffers, in milliseconds.
const FLUSH_EVERY_MS: u64 = 500;
/// How often, and after how long a wait, sled's lock is tried again: it gives it back some 20 to 70 ms after its last handle is
/// gone (PINGORA.md, "sled").
const HELD_TRIES: u32 = 20;
const HELD_WAIT: std::time::Duration = std::time::Duration::from_millis(25);
/// Indexes moved aside which are kept for people to look at; older ones are removed.
const BROKEN_KEPT: usize = 2;

/// The open store.
pub struct Store {
    folder: PathBuf,
    index: Index,
    keys: Facts,
    groups: Facts,
    tokens: Facts,
    meta: Facts,
    secrets: Facts,
    log: Arc<Mutex<FactsLog>>,
    moved_aside: Option<PathBuf>,
    /// Declared last: the lock is released after sled's handles are gone.
    _lock: File,
}

struct Index {
    db: sled::Db,
    keys: sled::Tree,
    groups: sled::Tree,
    tokens: sled::Tree,
    meta: sled::Tree,
    secrets: sled::Tree,
    rows: Rows,
}

/// Why the store failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// sled says no, or a file beside it.
    #[error("the store: {0}")]
    Failed(String),
    /// Another process holds it.
    #[error("the store is held by another process; stop it first")]
    Held,
}

impl From<sled::Error> for StoreError {
    fn from(e: sled::Error) -> Self {
        StoreError::Failed(e.to_string())
    }
}

impl StoreError {
    fn io(file: &Path, e: &std::io::Error) -> Self {
        StoreError::Failed(format!("{}: {e}", file.display()))
    }
}

impl Store {
    /// Opens or creates the store in `folder`; `cache` in bytes. An index which can't be opened is moved aside and an
    /// empty one made: [`Store::moved_aside`] says so, and the ledger fills it from the journals.
    pub fn open(folder: &Path, cache: u64) -> Result<Self, StoreError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|e| StoreError::io(folder, &e))?;
        let lock = lock(folder)?;
        let path = folder.join("sled");
        let condemned = folder.join("condemned");
        let mut moved_aside = None;
        if condemned.exists() {
            moved_aside = Some(move_aside(folder, &path, "it panicked while in use")?);
            fs::remove_file(&condemned).map_err(|e| StoreError::io(&condemned, &e))?;
        }
        let index = match Index::open(&path, cache) {
            Ok(index) => index,
            Err(Unopened::Refused(error)) => return Err(error),
            Err(Unopened::Broken(why)) => {
                moved_aside = Some(move_aside(folder, &path, &why)?);
                match Index::open(&path, cache) {
                    Ok(index) => index,
                    Err(Unopened::Refused(error)) => return Err(error),
                    Err(Unopened::Broken(why)) => return Err(StoreError::Failed(why)),
                }
            }
        };
        Store::with(folder, index, moved_aside, lock)
    }

    fn with(
        folder: &Path,
        (index, held): (Index, Vec<Held>),
        moved_aside: Option<PathBuf>,
        lock: File,
    ) -> Result<Self, StoreError> {
        let log = FactsLog::open(&folder.join("facts.tgj"), &index.facts(), &held)?;
        Ok(Store {
            folder: folder.to_owned(),
            keys: Facts::new(Room::Keys, index.keys.clone(), log.clone()),
            groups: Facts::new(Room::Groups, index.groups.clone(), log.clone()),
            tokens: Facts::new(Room::Tokens, index.tokens.clone(), log.clone()),
            meta: Facts::new(Room::Meta, index.meta.clone(), log.clone()),
            secrets: Facts::new(Room::Secrets, index.secrets.clone(), log.clone()),
            log,
            index,
            moved_aside,
            _lock: lock,
        })
    }

    /// Opens the store to look at it: one that does not open is an error, and stays where it is. No gateway may be using it.
    pub fn look(folder: &Path) -> Result<Self, StoreError> {
        /// Bytes of cache: it is read once from end to end.
        const CACHE: u64 = 16 << 20;
        let path = folder.join("sled");
        if !path.is_dir() {
            return Err(StoreError::Failed(format!("there is no store in {}", folder.display())));
        }
        let lock = lock(folder)?;
        let index = Index::open(&path, CACHE).map_err(|unopened| match unopened {
            Unopened::Refused(error) => error,
            Unopened::Broken(why) => StoreError::Failed(format!("{} is broken: {why}", path.display())),
        })?;
        Store::with(folder, index, None, lock)
    }

    /// The ledger's rows.
    pub fn rows(&self) -> &Rows {
        &self.index.rows
    }

    /// The client keys.
    pub fn keys(&self) -> &Facts {
        &self.keys
    }

    /// The groups of client keys.
    pub fn groups(&self) -> &Facts {
        &self.groups
    }

    /// The admin tokens.
    pub fn tokens(&self) -> &Facts {
        &self.tokens
    }

    /// Facts about this installation.
    pub fn meta(&self) -> &Facts {
        &self.meta
    }

    /// Secrets, sealed.
    pub fn secrets(&self) -> &Facts {
        &self.secrets
    }

    /// Writes the file of facts anew without what was superseded: older versions are gone from it. (sled reuses the pages of
    /// its older versions in its own time.) Blocking.
    pub fn drop_superseded_facts(&self) -> Result<(), StoreError> {
        self.log.lock().drop_superseded(&self.index.facts())
    }

    /// Where the index went that did not open at this start.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    /// Writes out what sled buffers. No fsync: survives the death of the process, not a power cut.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.index.db.flush()?;
        Ok(())
    }

    /// The index panicked: at the next start it is moved aside and filled anew.
    pub fn condemn(&self) {
        let marker = self.folder.join("condemned");
        if let Err(e) = File::create(&marker) {
            tracing::error!(error = %e, file = %marker.display(), "the store is broken and can't be marked so");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(e) = self.flush() {
            tracing::error!(error = %e, "the store could not be flushed when it was closed");
        }
    }
}

/// Why an index is not open.
enum Unopened {
    /// For a reason outside of it: held, no permission, no space. It may be good.
    Refused(StoreError),
    /// It is damaged.
    Broken(String),
}

impl Index {
    /// Where facts are, by room.
    fn facts(&self) -> [(Room, &sled::Tree); 5] {
        [
            (Room::Keys, &self.keys),
            (Room::Meta, &self.meta),
            (Room::Secrets, &self.secrets),
            (Room::Groups, &self.groups),
            (Room::Tokens, &self.tokens),
        ]
    }

    /// Opens it. Our own lock is held by now: who still has sled's is a process, or threads of sled's in this one, just going away.
    /// Also gives the facts it holds, which are read anyway.
    fn open(path: &Path, cache: u64) -> Result<(Self, Vec<Held>), Unopened> {
        for _ in 0..HELD_TRIES {
            match Self::open_once(path, cache) {
                Err(Unopened::Refused(StoreError::Held)) => std::thread::sleep(HELD_WAIT),
                opened => return opened,
            }
        }
        Self::open_once(path, cache)
    }

    fn open_once(path: &Path, cache: u64) -> Result<(Self, Vec<Held>), Unopened> {
        let opened = catch_unwind(AssertUnwindSafe(|| -> Result<_, sled::Error> {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(cache)
                .flush_every_ms(Some(FLUSH_EVERY_MS))
                .mode(sled::Mode::HighThroughput)
                .open()?;
            let index = Index {
                keys: db.open_tree("keys")?,
                groups: db.open_tree("groups")?,
                tokens: db.open_tree("tokens")?,
                meta: db.open_tree("meta")?,
                secrets: db.open_tree("secrets")?,
                rows: Rows::new(db.open_tree("ledger")?),
                db,
            };
            // Damage shows itself when pages are read: read what every start reads anyway.
            let held = index.facts().map(|(room, tree)| Held::of(room, tree));
            let held = held.into_iter().collect::<Result<Vec<_>, _>>()?;
            index.rows.probe()?;
            Ok((index, held))
        }));
        match opened {
            Ok(Ok(opened)) => Ok(opened),
            Ok(Err(e)) if is_held(&e) => Err(Unopened::Refused(StoreError::Held)),
            Ok(Err(e)) if is_damage(&e) => Err(Unopened::Broken(e.to_string())),
            Ok(Err(e)) => Err(Unopened::Refused(e.into())),
            Err(_) => Err(Unopened::Broken("it panicked when it was opened".into())),
        }
    }
}

fn is_held(e: &sled::Error) -> bool {
    // sled 0.34 wraps the failed lock in an error of kind Other with this text.
    matches!(e, sled::Error::Io(io) if io.to_string().contains("could not acquire lock"))
}

/// An error of the machine (no permission, no space, too many files) says nothing against the index itself.
fn is_damage(e: &sled::Error) -> bool {
    use std::io::ErrorKind;
    match e {
        sled::Error::Io(io) => matches!(
            io.kind(),
            ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other
        ),
        _ => true,
    }
}

fn lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| StoreError::io(&path, &e))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(StoreError::Held),
        Err(e) => Err(StoreError::io(&path, &e.into())),
    }
}

fn move_aside(folder: &Path, path: &Path, why: &str) -> Result<PathBuf, StoreError> {
    let to = folder.join(format!("sled.broken-{}", uuid::Uuid::now_v7().simple()));
    match fs::rename(path, &to) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(to),
        Err(e) => return Err(StoreError::io(path, &e)),
    }
    tracing::error!(
        why,
        moved_to = %to.display(),
        "the store could not be opened; it was moved aside and is being filled again from the journals"
    );
    let mut broken: Vec<PathBuf> = fs::read_dir(folder)
        .map_err(|e| StoreError::io(folder, &e))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with("sled.broken-"))
        })
        .collect();
    broken.sort(); // their names are time-ordered
    for old in broken.iter().rev().skip(BROKEN_KEPT) {
        if let Err(e) = fs::remove_dir_all(old) {
            tracing::warn!(error = %e, folder = %old.display(), "an old broken store could not be removed");
        }
    }
    Ok(to)
}

#[cfg(test)]
mod tests;
