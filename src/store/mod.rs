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
mod slot;
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
use slot::Slot;

/// How often sled writes what it buffers, in milliseconds.
const FLUSH_EVERY_MS: u64 = 500;
/// How often, and after how long a wait, sled's lock is tried again: it gives it back some 20 to 70 ms after its last handle is
/// gone (PINGORA.md, "sled").
const HELD_TRIES: u32 = 60;
const HELD_WAIT: std::time::Duration = std::time::Duration::from_millis(25);
/// Indexes moved aside which are kept for people to look at; older ones are removed.
const BROKEN_KEPT: usize = 2;

/// The store: open, but for the time between [`Store::close`] and [`Store::reopen`].
pub struct Store {
    folder: PathBuf,
    cache: u64,
    keys: Facts,
    groups: Facts,
    tokens: Facts,
    meta: Facts,
    secrets: Facts,
    rows: Rows,
    log: Arc<Mutex<FactsLog>>,
    moved_aside: Option<PathBuf>,
    /// Declared last: the lock is released after sled's handles are gone.
    open: Mutex<Option<Open>>,
}

/// What only an open store has. The lock is declared last, as above.
struct Open {
    db: sled::Db,
    _lock: File,
}

struct Index {
    db: sled::Db,
    keys: sled::Tree,
    groups: sled::Tree,
    tokens: sled::Tree,
    meta: sled::Tree,
    secrets: sled::Tree,
    rows: sled::Tree,
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
    /// It was closed here, for the process that takes this one's place ([`Store::close`]).
    #[error(
        "the gateway is being upgraded, and its store is with the process that takes its place; try again in a second"
    )]
    HandedOver,
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
        Store::with(folder, cache, index, moved_aside, lock)
    }

    fn with(
        folder: &Path,
        cache: u64,
        (index, held): (Index, Vec<Held>),
        moved_aside: Option<PathBuf>,
        lock: File,
    ) -> Result<Self, StoreError> {
        let log = FactsLog::open(&facts_path(folder), &index.facts(), &held)?;
        let log = Arc::new(Mutex::new(log));
        let facts = |room, tree| Facts::new(room, Slot::new(tree), log.clone());
        Ok(Store {
            folder: folder.to_owned(),
            cache,
            keys: facts(Room::Keys, index.keys),
            groups: facts(Room::Groups, index.groups),
            tokens: facts(Room::Tokens, index.tokens),
            meta: facts(Room::Meta, index.meta),
            secrets: facts(Room::Secrets, index.secrets),
            rows: Rows::new(Slot::new(index.rows)),
            log,
            moved_aside,
            open: Mutex::new(Some(Open {
                db: index.db,
                _lock: lock,
            })),
        })
    }

    /// Gives the store away: writes out what sled buffers and lets go of every handle and the lock. Whatever is asked of it from then on is
    /// refused as [`StoreError::HandedOver`]; who still reads holds it until he is done. Nobody may be writing rows.
    pub fn close(&self) -> Result<(), StoreError> {
        let Some(open) = self.open.lock().take() else {
            return Ok(());
        };
        // First what writes facts: whoever is in the middle of it is waited for.
        let mut log = self.log.lock();
        log.close();
        for slot in self.slots() {
            slot.close();
        }
        drop(log);
        let flushed = open.db.flush();
        drop(open);
        flushed?;
        Ok(())
    }

    /// Takes it back, if the other process did not come to serve. Waits for it to let go, as [`Store::open`] does.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.open.lock();
        if open.is_some() {
            return Ok(());
        }
        let lock = lock(&self.folder)?;
        let (index, held) = match Index::open(&self.folder.join("sled"), self.cache) {
            Ok(opened) => opened,
            Err(Unopened::Refused(error)) => return Err(error),
            Err(Unopened::Broken(why)) => return Err(StoreError::Failed(why)),
        };
        let fresh = FactsLog::open(&facts_path(&self.folder), &index.facts(), &held)?;
        let mut log = self.log.lock();
        *log = fresh;
        let Index {
            db,
            keys,
            groups,
            tokens,
            meta,
            secrets,
            rows,
        } = index;
        let trees = [keys, groups, tokens, meta, secrets, rows];
        for (slot, tree) in self.slots().into_iter().zip(trees) {
            slot.fill(tree);
        }
        *open = Some(Open { db, _lock: lock });
        Ok(())
    }

    fn slots(&self) -> [&Slot; 6] {
        [
            &self.keys.tree,
            &self.groups.tree,
            &self.tokens.tree,
            &self.meta.tree,
            &self.secrets.tree,
            &self.rows.tree,
        ]
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
        Store::with(folder, CACHE, index, None, lock)
    }

    /// The ledger's rows.
    pub fn rows(&self) -> &Rows {
        &self.rows
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
        let mut log = self.log.lock();
        let rooms = [&self.keys, &self.meta, &self.secrets, &self.groups, &self.tokens];
        let trees = rooms.map(|facts| facts.tree.get().map(|tree| (facts.room, tree)));
        let trees = trees.into_iter().collect::<Result<Vec<_>, _>>()?;
        let trees: Vec<_> = trees.iter().map(|(room, tree)| (*room, tree)).collect();
        log.drop_superseded(&trees)
    }

    /// Where the index went that did not open at this start.
    pub fn moved_aside(&self) -> Option<&Path> {
        self.moved_aside.as_deref()
    }

    /// Writes out what sled buffers. No fsync: survives the death of the process, not a power cut.
    pub fn flush(&self) -> Result<(), StoreError> {
        let db = self.open.lock().as_ref().map(|open| open.db.clone());
        db.ok_or(StoreError::HandedOver)?.flush()?;
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
        if let Err(e) = self.flush()
            && !matches!(e, StoreError::HandedOver)
        {
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
                rows: db.open_tree("ledger")?,
                db,
            };
            // Damage shows itself when pages are read: read what every start reads anyway.
            let held = index.facts().map(|(room, tree)| Held::of(room, tree));
            let held = held.into_iter().collect::<Result<Vec<_>, _>>()?;
            rows::probe(&index.rows)?;
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

fn facts_path(folder: &Path) -> PathBuf {
    folder.join("facts.tgj")
}

/// Takes our own lock. Another process may be just going away, or just giving the store away.
fn lock(folder: &Path) -> Result<File, StoreError> {
    for _ in 0..HELD_TRIES {
        match lock_once(folder) {
            Err(StoreError::Held) => std::thread::sleep(HELD_WAIT),
            locked => return locked,
        }
    }
    lock_once(folder)
}

fn lock_once(folder: &Path) -> Result<File, StoreError> {
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
