//! Facts which nothing could bring back: client keys, groups, admin tokens, the master key's check value. Few and small.
//!
//! Each change is appended to `facts.tgj` and synced before it counts; sled holds the same as an index. At every opening
//! the two are joined: of each fact the newest version wins, wherever it stood, and is put where it was missing. So neither a
//! broken index nor a damaged file loses a fact which the other one has.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::frames::{FRAME_LEN, HEADER_LEN, Next, Salt};
use super::{StoreError, codec};

/// Superseded records in the file above which it is written anew at the next start (together with: more than half).
const SUPERSEDED_KEPT: usize = 1000;

/// Whose facts. The numbers stand in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Room {
    Keys,
    Meta,
    Groups,
    Tokens,
}

/// One version of one fact: a record of the file.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Fact {
    version: u64,
    room: Room,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// What sled holds of a fact.
#[derive(Serialize, Deserialize)]
struct Indexed {
    version: u64,
    value: Vec<u8>,
}

/// A fact's key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// The facts of one room.
pub struct Facts {
    room: Room,
    tree: sled::Tree,
    log: Arc<Mutex<FactsLog>>,
}

impl Facts {
    pub(super) fn new(room: Room, tree: sled::Tree, log: Arc<Mutex<FactsLog>>) -> Self {
        Facts { room, tree, log }
    }

    /// One fact.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self.tree.get(key)? {
            Some(bytes) => Ok(Some(codec::decode::<Indexed>(&bytes)?.value)),
            None => Ok(None),
        }
    }

    /// Sets a fact; on disk when this returns. Blocking: an fsync. If it fails, nothing has changed.
    pub fn put(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.put_all(&[(key, value)])
    }

    /// Sets several facts with one write and one fsync. If it fails nothing has changed; only a crash while it is written may
    /// leave the first of them.
    pub fn put_all(&self, all: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let mut log = self.log.lock();
        let mut version = log.version;
        let fact = |&(key, value): &(&str, &[u8])| {
            version += 1;
            Fact {
                version,
                room: self.room,
                key: key.as_bytes().to_vec(),
                value: value.to_vec(),
            }
        };
        let facts: Vec<Fact> = all.iter().map(fact).collect();
        log.append(&facts)?;
        for fact in &facts {
            // The fact is on disk: a failing index must not make it undone; the next opening puts it there.
            if let Err(e) = index(&self.tree, fact) {
                tracing::error!(error = %e, "a change is on disk and not in the store's index; the next start mends it");
            }
        }
        Ok(())
    }

    /// Every fact's key and value, in the order of keys.
    pub fn all(&self) -> Result<Vec<KeyValue>, StoreError> {
        self.tree
            .iter()
            .map(|entry| {
                let (key, bytes) = entry?;
                Ok((key.to_vec(), codec::decode::<Indexed>(&bytes)?.value))
            })
            .collect()
    }
}

fn index(tree: &sled::Tree, fact: &Fact) -> Result<(), StoreError> {
    let bytes = codec::encode(&Indexed {
        version: fact.version,
        value: fact.value.clone(),
    })?;
    tree.insert(&fact.key, bytes)?;
    Ok(())
}

/// The file.
pub(super) struct FactsLog {
    path: PathBuf,
    file: File,
    salt: Salt,
    length: u64,
    version: u64,
    /// A failed write or sync was met: what the file holds is unknown, nothing more is appended (fsyncgate).
    failed: bool,
}

impl FactsLog {
    /// Opens the file, joins it with the trees, heals both.
    pub(super) fn open(path: &Path, trees: &[(Room, &sled::Tree)]) -> Result<Arc<Mutex<Self>>, StoreError> {
        let read = match fs::read(path) {
            Ok(bytes) => read(&bytes),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Read::default(),
            Err(e) => return Err(StoreError::io(path, &e)),
        };
        if let Some(why) = &read.damage {
            let copy = path.with_extension(format!("tgj.damaged-{}", uuid::Uuid::now_v7().simple()));
            fs::copy(path, &copy).map_err(|e| StoreError::io(&copy, &e))?;
            tracing::error!(
                why,
                kept = %copy.display(),
                "the file of client keys was damaged; it is mended from what could be read and from the store"
            );
        }
        let mut facts: BTreeMap<(Room, Vec<u8>), Fact> = BTreeMap::new();
        let mut join = |fact: Fact| {
            let newest = facts
                .entry((fact.room, fact.key.clone()))
                .or_insert_with(|| fact.clone());
            if newest.version < fact.version {
                *newest = fact;
            }
        };
        let records = read.facts.len();
        let mut in_file: BTreeMap<(Room, Vec<u8>), u64> = BTreeMap::new();
        for fact in read.facts {
            let newest = in_file.entry((fact.room, fact.key.clone())).or_default();
            *newest = fact.version.max(*newest);
            join(fact);
        }
        for &(room, tree) in trees {
            for entry in tree {
                let (key, bytes) = entry?;
                let Indexed { version, value } = codec::decode(&bytes)?;
                join(Fact {
                    version,
                    room,
                    key: key.to_vec(),
                    value,
                });
            }
        }
        for &(room, tree) in trees {
            for fact in facts.values().filter(|fact| fact.room == room) {
                let held = match tree.get(&fact.key)? {
                    Some(bytes) => codec::decode::<Indexed>(&bytes)?.version,
                    None => 0,
                };
                if held != fact.version {
                    index(tree, fact)?;
                }
            }
        }
        let missing = facts
            .iter()
            .any(|(name, fact)| in_file.get(name) != Some(&fact.version));
        let superseded = records.saturating_sub(facts.len());
        let rewrite =
            missing || read.salt.is_none() || read.damage.is_some() || superseded > SUPERSEDED_KEPT.max(facts.len());
        let version = facts.values().map(|fact| fact.version).max().unwrap_or(0);
        let log = match read.salt {
            Some(salt) if !rewrite => {
                let file = File::options()
                    .append(true)
                    .open(path)
                    .map_err(|e| StoreError::io(path, &e))?;
                let mut log = FactsLog {
                    path: path.to_owned(),
                    file,
                    salt,
                    length: read.good,
                    version,
                    failed: false,
                };
                log.cut_torn_end()?;
                log
            }
            _ => FactsLog::write_anew(path, facts.values(), version)?,
        };
        Ok(Arc::new(Mutex::new(log)))
    }

    /// Writes a fresh file beside the old one and puts it in its place.
    fn write_anew<'a>(path: &Path, facts: impl Iterator<Item = &'a Fact>, version: u64) -> Result<Self, StoreError> {
        let salt = Salt::new(random()?);
        let mut bytes = salt.header().to_vec();
        for fact in facts {
            encode(salt, fact, &mut bytes)?;
        }
        let fresh = path.with_extension("tgj.new");
        let write = || -> std::io::Result<File> {
            match fs::remove_file(&fresh) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            let mut file = File::options().append(true).create_new(true).mode(0o600).open(&fresh)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            if let Some(folder) = path.parent() {
                File::open(folder)?.sync_all()?;
            }
            Ok(file)
        };
        let file = write().map_err(|e| StoreError::io(path, &e))?;
        Ok(FactsLog {
            path: path.to_owned(),
            file,
            salt,
            length: bytes.len() as u64,
            version,
            failed: false,
        })
    }

    fn cut_torn_end(&mut self) -> Result<(), StoreError> {
        let cut = || -> std::io::Result<()> {
            if self.file.metadata()?.len() > self.length {
                self.file.set_len(self.length)?;
                self.file.sync_all()?;
            }
            Ok(())
        };
        cut().map_err(|e| StoreError::io(&self.path, &e))
    }

    fn append(&mut self, facts: &[Fact]) -> Result<(), StoreError> {
        if self.failed {
            return Err(StoreError::Failed(format!(
                "{}: writing failed before; restart to have it checked",
                self.path.display()
            )));
        }
        let mut bytes = Vec::new();
        for fact in facts {
            encode(self.salt, fact, &mut bytes)?;
        }
        if let Err(e) = self.file.write_all(&bytes).and_then(|()| self.file.sync_data()) {
            self.failed = true;
            // Best effort: what was refused should not come back at the next start.
            if let Err(e) = self.file.set_len(self.length) {
                tracing::error!(error = %e, file = %self.path.display(), "a refused change could not be cut off");
            }
            return Err(StoreError::io(&self.path, &e));
        }
        self.length += bytes.len() as u64;
        self.version = facts.last().map_or(self.version, |fact| fact.version);
        Ok(())
    }
}

fn encode(salt: Salt, fact: &Fact, out: &mut Vec<u8>) -> Result<(), StoreError> {
    let value = codec::encode(fact)?;
    let fits = salt.append(out, |out| {
        out.extend_from_slice(&value);
        Ok::<_, StoreError>(())
    })?;
    if fits {
        Ok(())
    } else {
        Err(StoreError::Failed("a fact is too long".into()))
    }
}

fn random() -> Result<u64, StoreError> {
    getrandom::u64().map_err(|e| StoreError::Failed(format!("the system's randomness: {e}")))
}

/// What could be read of a file.
#[derive(Default)]
struct Read {
    salt: Option<Salt>,
    facts: Vec<Fact>,
    /// Where the last good record ends.
    good: u64,
    /// Something other than a torn end is wrong.
    damage: Option<String>,
}

/// Reads all records, those after a damaged place too: the salt in every checksum makes a false one as good as
/// impossible, and each fact stands for itself.
fn read(bytes: &[u8]) -> Read {
    let mut read = Read::default();
    if bytes.is_empty() {
        return read;
    }
    let salt = match Salt::from_header(bytes) {
        Ok(salt) => salt,
        Err(why) => {
            read.damage = Some(why);
            return read;
        }
    };
    read.salt = Some(salt);
    let mut at = HEADER_LEN;
    let mut bad = None;
    while at < bytes.len() {
        match salt.next(&bytes[at..]) {
            Next::Record(payload) => {
                at += FRAME_LEN + payload.len();
                match codec::decode(payload) {
                    Ok(fact) => read.facts.push(fact),
                    Err(e) => read.damage = Some(e.to_string()),
                }
                if let Some((from, why)) = bad.take() {
                    read.damage = Some(format!("at byte {from}: {why}"));
                }
                read.good = at as u64;
            }
            Next::Cut => {
                bad.get_or_insert((at, "a record is cut"));
                at += 1;
            }
            Next::Bad(why) => {
                bad.get_or_insert((at, why));
                at += 1;
            }
        }
    }
    read.good = read.good.max(HEADER_LEN as u64);
    read
}
